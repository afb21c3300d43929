#!/usr/bin/env bash
# Shows that the simulator would find a bug: plants each of a bank of bugs (common/base/planted_bug.h) into the product
# and runs simulated clusters until a checker finds it, 2,000 seeds at most.
#
#   scripts/planted_bugs.sh             all bugs
#   scripts/planted_bugs.sh NAME ...    only these
#   --jobs N                            compile N files at a time (default: the number of processors)
#
# Prints for each bug the checker that found it, the seed and the time; the exit status is 1 if one was not found. Whole
# findings lie in build/planted/bugs/NAME.log. A seed again:
#   SHEAF_SIM_SEED=N build/planted/tests/sim/sim_cluster_test --gtest_filter='*PlantedBug*/NAME'
set -euo pipefail
cd "$(dirname "$0")/.."

die() { echo "planted_bugs: $*" >&2; exit 2; }
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }

names=() jobs=$(nproc)
while (($#)); do
  case $1 in
    --jobs) (($# > 1)) || die "--jobs needs a number"; jobs=$2; shift ;;
    -h | --help) usage; exit 0 ;;
    -*) die "unknown argument '$1'; see scripts/planted_bugs.sh --help" ;;
    *) names+=("$1") ;;
  esac
  shift
done

program=build/planted/tests/sim/sim_cluster_test logs=build/planted/bugs
mkdir -p "$logs"
build() { cmake --preset planted && cmake --build --preset planted -j "$jobs" --target sim_cluster_test; }
if ! build >"$logs/build.log" 2>&1; then
  tail -n 40 "$logs/build.log"
  die "the build failed (whole log: $logs/build.log)"
fi

known=$("$program" --gtest_list_tests --gtest_filter='*PlantedBug*' | sed -n 's|^ *IsFound/\([^ ]*\).*|\1|p')
if ((${#names[@]} == 0)); then mapfile -t names <<<"$known"; fi
for name in "${names[@]}"; do
  grep -qx -- "$name" <<<"$known" || die "no bug '$name'; there are: ${known//$'\n'/ }"
done

row='%-22s %-40s %6s %8s\n'
# shellcheck disable=SC2059  # the format is ours
printf "$row" bug 'found by' seed seconds
missed=0
for name in "${names[@]}"; do
  begin=$(date +%s.%N) status=0
  "$program" --gtest_filter="*PlantedBug*/$name" >"$logs/$name.log" 2>&1 || status=$?
  seconds=$(awk -v begin="$begin" -v end="$(date +%s.%N)" 'BEGIN { printf "%.1f", end - begin }')
  # The program overwrites its last line, "seed N", as it goes.
  seed=$(tr '\r' '\n' <"$logs/$name.log" | sed -n 's/^seed \([0-9]*\)$/\1/p' | tail -n 1)
  if ((status == 0)); then
    checker=$(sed -n 's/.*found [^ ]* at seed [0-9]* in [^ ]* s by \([^:]*\):.*/\1/p' "$logs/$name.log")
  elif ((status > 128)); then
    checker="the product itself (SHEAF_CHECK or a crash)"
  else
    checker="NOT FOUND" missed=$((missed + 1))
  fi
  # shellcheck disable=SC2059
  printf "$row" "$name" "${checker:0:40}" "$seed" "$seconds"
done
echo "${#names[@]} bugs, $missed not found"
((missed == 0))
