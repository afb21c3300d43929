#!/usr/bin/env bash
# Examples a second as workers are added, each with a share of a processor of its own, as if it were a machine of its
# own.
#
#   bench/workers_scale.sh DATA [PERCENT=20] [MOST=8] [RUNS=3]
#
# DATA holds ctr/ (sheaf datagen ctr; see examples/ctr-fm.job.textproto). One scheduler, two servers, 1, 2, 4 .. MOST
# workers; each worker may use PERCENT of one processor (a control group). On a host without free
# processors a single unlimited worker already fills them, which shows nothing. Needs root. Prints the median of RUNS
# runs.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?usage: bench/workers_scale.sh DATA [PERCENT] [MOST]} percent=${2:-20} most=${3:-8} runs=${4:-3}
# shellcheck source=bench/slowed_cluster.sh
source bench/slowed_cluster.sh

# once WORKERS: prints examples a second.
once() {
  local pids=() address=$work/address report=$work/report.json worker
  rm -f "$address" "$report"
  $bin/sheaf-scheduler --port=0 --min_servers=2 --address_file="$address" 2>>"$work/log" &
  pids+=($!)
  while [[ ! -s $address ]]; do sleep 0.05; done
  for _ in 1 2; do
    $bin/sheaf-server --port=0 --scheduler="$(<"$address")" 2>>"$work/log" &
    pids+=($!)
  done
  for ((worker = 0; worker < $1; ++worker)); do
    make_group "sheaf-bench-$worker" "$percent"
    (echo $BASHPID >"$groups/sheaf-bench-$worker/cgroup.procs" &&
      exec $bin/sheaf-worker --data="$data" --scheduler="$(<"$address")" 2>>"$work/log") &
    pids+=($!)
  done
  $bin/sheaf submit examples/ctr-fm.job.textproto --scheduler "$(<"$address")" --report "$report" \
    --set train.workers="$1" --set train.epochs=1 >"$work/out" 2>>"$work/log" ||
    { tail "$work/log" "$work/out" >&2; exit 1; }
  python3 -c 'import json, sys; print(round(json.load(open(sys.argv[1]))["examples_per_second"]))' "$report"
  kill "${pids[@]}"
  wait "${pids[@]}" || true
}

printf '%8s  %12s  %8s\n' workers examples/s times
first=
for ((n = 1; n <= most; n *= 2)); do
  rate=$(for ((run = 0; run < runs; ++run)); do once "$n"; done | sort -n | sed -n "$(((runs + 1) / 2))p")
  [[ -n $first ]] || first=$rate
  printf '%8d  %12d  %8s\n' "$n" "$rate" "$((rate / first)).$(printf %02d $((rate * 100 / first % 100)))"
done
