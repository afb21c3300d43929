#!/usr/bin/env bash
# Measures Sheaf beside its limits, in turns in one run: raw TCP, raw ZeroMQ and a bare table with the same bytes.
#
#   scripts/bench.sh kv                pushes and pulls against one server, against raw request and reply
#   scripts/bench.sh cores             what a request costs beside the wire, on one thread: without noise, without limit
#   scripts/bench.sh overload          a server's memory with a small budget while up to 80 clients push without a pause
#   scripts/bench.sh train             reading, and training through processes, against one process without a wire
#   scripts/bench.sh scale             two servers and two workers, against one of each
#   scripts/bench.sh failover          3 servers, 2 copies of each partition, under load: a primary is killed 30 times,
#                                      and stopped 10 times: seconds until pushes to all its partitions are taken again
#   scripts/bench.sh moves             a third server is added to 2 under load, then servers are drained and kept in
#                                      turn (--drains times): the longest push, p99 beside that of quiet times, memory
#   scripts/bench.sh durability        pushes with a log, with a synced one and with a second copy, beside those in
#                                      memory only and RocksDB's own log
#   scripts/bench.sh eviction          a table ten times as large as --memory_limit, keys by Zipf's law, against the
#                                      same all in memory, and beside RocksDB's own MultiGet
#   scripts/bench.sh growth            a scheduler among 1,000 servers and 10,000 workers (simulated): its processor
#                                      time, and how long a change takes to reach all; takes only --jobs
#   scripts/bench.sh checkpoint        what a checkpoint costs a shard of --rows (7,500,000 are 1 GiB): how long it
#                                      stands still, write speed beside the disk's, pushes meanwhile, incremental bytes
#   scripts/bench.sh checkpoints       the same of a cluster that trains, 2 servers with 1 GiB each: how long workers
#                                      stand still (p99 of --pauses), write speed beside the disk's, training with one
#                                      a minute (--rounds minutes) beside training without, incremental bytes
#   --json FILE                        write the rows as JSON too
#   --only TEXT                        only cases whose "NAME PARAMS" contains TEXT
#   --tcp                              kv: our client goes over TCP, as from another host, not over the unix socket that
#                                      processes of one host use (the limits are always over TCP)
#   --kills N, --stops N, --drains N   failover and moves: so many of each
#   --pauses N, --rounds N             checkpoints: so many of each
#   --rows N                           of the large tables (default 10,000,000, which takes 12 GiB of memory)
#   --jobs N                           compile N files at a time (default: the number of processors)
#
# Prints a line a case: our median of five samples with least and greatest, the limit's, the median of the rounds'
# ratios, and the bar that the ratio is held against. The exit status is 1 if one is under its bar. Close other
# programs: the ratios bear noise, the figures do not.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { echo "bench: $*" >&2; exit 2; }
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }

suites=() flags=() jobs=$(nproc)
while (($#)); do
  case $1 in
    kv | cores | overload | train | scale | failover | moves | durability | eviction | growth | checkpoint | \
      checkpoints)
      suites+=("$1")
      ;;
    --tcp) flags+=("$1") ;;
    --json | --only | --rows | --kills | --stops | --drains | --pauses | --rounds)
      (($# > 1)) || die "$1 needs a value"
      flags+=("$1=$2")
      shift
      ;;
    --jobs) (($# > 1)) || die "--jobs needs a number"; jobs=$2; shift ;;
    -h | --help) usage; exit 0 ;;
    *) die "unknown argument '$1'; see scripts/bench.sh --help" ;;
  esac
  shift
done
((${#suites[@]} == 1)) || { usage >&2; exit 2; }

scripts/setup.sh
mkdir -p build/release
log=build/release/bench-build.log
programs=(sheaf-bench sheaf sheaf-scheduler sheaf-server sheaf-worker)
[[ ${suites[0]} != growth ]] || programs=(sim_growth_test)
if ! { cmake --preset release &&
  cmake --build --preset release -j "$jobs" --target "${programs[@]}"; } >"$log" 2>&1; then
  tail -n 40 "$log"
  die "the build failed (whole log: $log)"
fi
[[ ${suites[0]} != growth ]] || SHEAF_GROWTH_JUDGE_CPU=1 exec build/release/tests/sim/sim_growth_test
exec build/release/bin/sheaf-bench "${suites[0]}" "${flags[@]}"
