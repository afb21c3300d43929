#!/usr/bin/env bash
# Breaks a cluster of real processes for a while, and checks that nothing was lost and nothing counted twice.
#
#   scripts/chaos.sh [--minutes M] [--seed S] [--settle SECONDS] [--servers N] [--workers N] [--clients N] [--epochs N]
#   --minutes M    how long it is broken (default 2)
#   --seed S       of what is done and what is pushed (default 1); when things happen depends on the machine, too
#   --settle S     seconds that it has to come to its end after the last fault (default 120); then it counts as hung
#   --epochs N     of each training job (default 20)
#   --folder DIR   stores and logs, kept (else temporary, and kept only if something was wrong)
#   --build DIR    programs that are there already (default: the release preset, built first)
#
# A scheduler, three servers with two copies of each partition and two workers train one job after the other, and three
# clients push integers to the job's table and read them back. Meanwhile: SIGKILL to any process, to all servers, or to
# one whose backups have heard nothing of it for a while; SIGSTOP for up to 5 s; connections that are slow, silent in
# one direction, reset or cut in mid-frame; wires cut by iptables in both directions or one; a disk that is full.
# Whatever ends is started again.
#
# At the end of each job every row is what was acknowledged, to the unit, and the job has counted each example once. At
# the end of all, servers are killed one after the other: what their backups have is bit for bit what they had.
# Prints a table of what was done and the verdict; the exit status is 0 if all holds. Kinds of faults that this machine
# cannot do (network namespaces need root) are named as skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { echo "chaos: $*" >&2; exit 2; }
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }

dir='' arguments=()
while (($#)); do
  case $1 in
    --minutes | --seed | --settle | --servers | --workers | --clients | --epochs | --folder | --build)
      (($# > 1)) || die "$1 needs a value"
      if [[ $1 == --build ]]; then dir=$2; else arguments+=("$1" "$2"); fi
      shift
      ;;
    -h | --help) usage; exit 0 ;;
    *) die "unknown argument '$1'; see scripts/chaos.sh --help" ;;
  esac
  shift
done

if [[ -z $dir ]]; then
  scripts/setup.sh
  dir=build/release/bin
  mkdir -p build/release
  log=build/release/chaos-build.log
  if ! { cmake --preset release && cmake --build --preset release -j "$(nproc)" --target \
    sheaf sheaf-scheduler sheaf-server sheaf-worker sheaf-chaos-client; } >"$log" 2>&1; then
    tail -n 40 "$log"
    die "the build failed (whole log: $log)"
  fi
fi
SHEAF_BIN=$dir exec python3 -B tests/chaos/chaos.py ${arguments[@]+"${arguments[@]}"}
