#!/usr/bin/env bash
# Runs simulated clusters under many seeds: the test of every run (tests/sim/cluster_test.cc), for as long as one likes.
#
#   scripts/simulate.sh [--seeds N] [--first SEED] [--jobs J] [--build DIR]
#   --seeds N      how many (default 10,000)
#   --first SEED   the first of them (default 1)
#   --jobs J       processes at a time (default: the number of processors)
#   --build DIR    a build of sim_cluster_test that is there already (default: the release preset, built first)
#
# Shows how far it is and for how long, then how often each fault came over all seeds. The exit status is 1 if a checker
# found something (the seed is printed, and how to run it again) or if a fault of some kind came less than 100 times in
# 1,000 seeds or more. Logs lie in DIR/simulate/.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { echo "simulate: $*" >&2; exit 2; }
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }

seeds=10000 first=1 jobs=$(nproc) dir=
while (($#)); do
  case $1 in
    --seeds | --first | --jobs | --build)
      (($# > 1)) || die "$1 needs a value"
      case $1 in --seeds) seeds=$2 ;; --first) first=$2 ;; --jobs) jobs=$2 ;; --build) dir=$2 ;; esac
      shift
      ;;
    -h | --help) usage; exit 0 ;;
    *) die "unknown argument '$1'; see scripts/simulate.sh --help" ;;
  esac
  shift
done
for number in "$seeds" "$first" "$jobs"; do
  [[ $number =~ ^[1-9][0-9]{0,17}$ ]] || die "$number: not a number above 0"
done

if [[ -z $dir ]]; then
  dir=build/release
  mkdir -p "$dir/simulate"
  if ! { cmake --preset release && cmake --build --preset release -j "$jobs" --target sim_cluster_test; } \
    >"$dir/simulate/build.log" 2>&1; then
    tail -n 40 "$dir/simulate/build.log"
    die "the build failed (whole log: $dir/simulate/build.log)"
  fi
fi
program=$dir/tests/sim/sim_cluster_test logs=$dir/simulate
[[ -x $program ]] || die "there is no $program"
mkdir -p "$logs"
rm -f "$logs"/seeds-*.log

last=$((first + seeds - 1)) chunk=$((seeds / jobs / 4))
chunk=$((chunk > 100 ? 100 : chunk < 1 ? 1 : chunk))
next=$first finished=0 running=0 failed=no
declare -A ends  # of the running chunks, by process: the seeds and the log

start_chunk() {
  local to=$((next + chunk - 1))
  to=$((to > last ? last : to))
  SHEAF_SIM_SEEDS=$next-$to "$program" --gtest_filter='*KeepsItsWord*' >"$logs/seeds-$next-$to.log" 2>&1 &
  ends[$!]="$next $to"
  next=$((to + 1)) running=$((running + 1))
}

trap 'for pid in "${!ends[@]}"; do kill "$pid" 2>/dev/null || true; done' EXIT
begin=$(date +%s.%N)
while ((next <= last && running < jobs)); do start_chunk; done
while ((running > 0)); do
  status=0 pid=
  wait -n -p pid || status=$?
  read -r from to <<<"${ends[$pid]}"
  unset "ends[$pid]"
  running=$((running - 1)) finished=$((finished + to - from + 1))
  if ((status != 0)); then
    failed=yes next=$((last + 1))  # what runs comes to its end, nothing more begins
    echo
    log=$logs/seeds-$from-$to.log
    # The program overwrites its last line, "seed N", as it goes.
    seed=$(tr '\r' '\n' <"$log" | sed -n 's/^seed \([0-9]*\)$/\1/p' | tail -n 1)
    wrong=$(grep -o 'SHEAF_SIM_SEED=[0-9]*' "$log" | head -n 1) || true
    grep -A 12 "${wrong:-^[A-Z]*: }" "$log" | tr '\r' '\n' | head -n 13 || true
    echo "simulate: status $status; once more: ${wrong:-SHEAF_SIM_SEED=$seed} $program --gtest_filter='*KeepsItsWord*'"
  fi
  if ((next <= last)); then start_chunk; fi
  awk -v done="$finished" -v all="$seeds" -v begin="$begin" -v now="$(date +%s.%N)" 'BEGIN {
    rate = done / (now - begin)
    printf "\r%d of %d seeds, %.1f a second, %d s to go   ", done, all, rate, (all - done) / rate }'
done
echo

# Over all seeds: lines "  COUNT KIND".
sed -n 's/^  \([0-9][0-9]*\) \(.*\)$/\1 \2/p' "$logs"/seeds-*.log | awk -v enough="$((seeds >= 1000))" '
  { count = $1; sub(/^[0-9]+ /, ""); if (!($0 in sum)) order[++kinds] = $0; sum[$0] += count }
  END {
    for (i = 1; i <= kinds; ++i) {
      printf "  %12d %s\n", sum[order[i]], order[i]
      if (enough && sum[order[i]] < 100) { rare = 1; printf "simulate: too few: %s\n", order[i] }
    }
    exit rare
  }' || failed=yes
if [[ $failed == yes ]]; then
  echo "simulate: FAILED"
  exit 1
fi
seconds=$(awk -v begin="$begin" -v now="$(date +%s.%N)" 'BEGIN { printf "%.0f", now - begin }')
echo "simulate: $finished seeds clean in $seconds s"
