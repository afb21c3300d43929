#!/usr/bin/env bash
# How much of its time the faster of two workers has nothing to compute, under SSP(8), the other being slowed to half.
#
#   bench/idle_ssp.sh [RUNS=5]
#
# One scheduler, one server, two workers on Adult many times over (few features, so that the wire is not what they wait
# for). The thread that computes of one worker is granted 1 ms in each 1.4, which makes it about half as fast; what else
# that process does is not slowed, so two processors suffice. Idle is what the trace says of a worker from its first
# batch to its last, the ends of epochs included: no batch to compute for want of a lease, a pull's answer or a push's
# (reading the rows in the first epoch is not counted: it has nothing to do with the other worker). Needs root. Prints
# each run's shares and how much slower the second worker was; the exit status is 1 if the median of the faster one's
# idle share is over 2 %.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-5}
# shellcheck source=bench/slowed_cluster.sh
source bench/slowed_cluster.sh

xz -dc examples/data/adult/a9a.xz >"$work/once"
for ((copy = 0; copy < 160; ++copy)); do cat "$work/once"; done >"$work/rows"
cat >"$work/job.textproto" <<'JOB'
name: "idle"
data { format: LIBSVM train: "rows" }
model { kind: FACTORIZATION_MACHINE loss: LOGISTIC factors: 64 init_stddev: 0.05 }
optimizer { kind: ADAGRAD learning_rate: 0.1 }
train { workers: 2 epochs: 4 batch_size: 32768 range_batches: 2 }
consistency { mode: SSP staleness: 8 }
JOB

slower_by() {
  python3 - "$1" <<'PYTHON'
import json, statistics, sys
events = json.load(open(sys.argv[1]))["traceEvents"]
names = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
def batch(worker):
    return statistics.median(e["dur"] for e in events if e["name"] == "compute" and names[e["pid"]] == worker)
print(f"worker-1 took {batch('worker-1') / batch('worker-0'):.2f} times as long for a batch")
PYTHON
}

once() {
  local pids=() address=$work/address workers=0
  rm -f "$address" "$work/trace.json"
  $bin/sheaf-scheduler --port=0 --address_file="$address" 2>>"$work/log" &
  pids+=($!)
  while [[ ! -s $address ]]; do sleep 0.05; done
  $bin/sheaf-server --port=0 --scheduler="$(<"$address")" 2>>"$work/log" &
  pids+=($!)
  for _ in faster slower; do
    $bin/sheaf-worker --data="$work" --scheduler="$(<"$address")" 2>>"$work/log" &
    pids+=($!)
    workers=$((workers + 1))
    # One after the other, so that worker-0 is the faster one.
    until (($($bin/sheaf status --scheduler "$(<"$address")" | grep -c '^worker-.*alive') == workers)); do
      sleep 0.05
    done
  done
  make_group sheaf-bench-half 72
  slow_main_thread "${pids[-1]}" sheaf-bench-half
  $bin/sheaf run "$work/job.textproto" --scheduler "$(<"$address")" --quiet --trace "$work/trace.json" \
    >"$work/out" 2>"$work/shares" || { tail "$work/log" "$work/out" "$work/shares" >&2; exit 1; }
  cat "$work/shares" >&2
  slower_by "$work/trace.json" >&2
  awk '$1 == "worker-0" { print $7 + $11 + $13 }' "$work/shares"
  kill "${pids[@]}"
  wait "${pids[@]}" || true
}

for ((run = 0; run < runs; ++run)); do once >>"$work/shares_of_runs"; done
sort -n "$work/shares_of_runs" >"$work/idle"
idle=$(sed -n "$(((runs + 1) / 2))p" "$work/idle")
echo "idle share of the faster worker, median of $runs: $idle % (at most 2 %)"
awk "BEGIN { exit !($idle <= 2) }"
