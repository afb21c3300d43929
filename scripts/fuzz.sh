#!/usr/bin/env bash
# Lets libFuzzer look for inputs that break a decoder or a core. Needs clang (scripts/setup.sh --with fuzz).
#
#   scripts/fuzz.sh                        every target of tests/fuzz for 60 seconds each
#   scripts/fuzz.sh --seconds 600 shard    one target, longer
#   --jobs N                               compile N at a time (default: the number of processors)
#
# A line per target: how many inputs were run, a second, and how much of the code they reach (libFuzzer's count of
# edges), at first from the seeds in tests/fuzz/corpus/TARGET and at the end. What a run finds beside failures is kept
# in build/fuzz/corpus and begun with the next time. An input that fails is named; to see it again:
# build/fuzz/tests/fuzz/TARGET_fuzz FILE. Mend it, and put the file, small and well named, in tests/fuzz/corpus/TARGET.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { echo "fuzz: $*" >&2; exit 2; }
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }

seconds=60 jobs=$(nproc) targets=()
while (($#)); do
  case $1 in
    --seconds) (($# > 1)) || die "--seconds needs a number"; seconds=$2; shift ;;
    --seconds=*) seconds=${1#--seconds=} ;;
    --jobs) (($# > 1)) || die "--jobs needs a number"; jobs=$2; shift ;;
    --jobs=*) jobs=${1#--jobs=} ;;
    -h | --help) usage; exit 0 ;;
    -*) die "unknown argument '$1'; see scripts/fuzz.sh --help" ;;
    *) [[ -d tests/fuzz/corpus/$1 ]] || die "no target '$1': see the folders of tests/fuzz/corpus"; targets+=("$1") ;;
  esac
  shift
done
[[ $seconds =~ ^[1-9][0-9]*$ ]] || die "--seconds $seconds: not a number above 0"
[[ $jobs =~ ^[1-9][0-9]*$ ]] || die "--jobs $jobs: not a number above 0"
if ((${#targets[@]} == 0)); then
  for corpus in tests/fuzz/corpus/*/; do targets+=("$(basename "$corpus")"); done
fi

mkdir -p build/fuzz/logs build/fuzz/failures
build() { cmake --preset fuzz && cmake --build --preset fuzz -j "$jobs" --target "${targets[@]/%/_fuzz}"; }
if ! build >build/fuzz/logs/build.log 2>&1; then
  tail -n 40 build/fuzz/logs/build.log
  die "the build failed (whole log: build/fuzz/logs/build.log)"
fi

# What protobuf and the standard library leave on purpose is no leak of ours to look for here: the asan suite does that.
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}
export UBSAN_OPTIONS=print_stacktrace=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}

failed=0
for target in "${targets[@]}"; do
  log=build/fuzz/logs/$target.log
  mkdir -p "build/fuzz/corpus/$target"
  status=0
  "build/fuzz/tests/fuzz/${target}_fuzz" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=16384 \
    -print_final_stats=1 -artifact_prefix="build/fuzz/failures/$target-" \
    "build/fuzz/corpus/$target" "tests/fuzz/corpus/$target" >"$log" 2>&1 || status=$?
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  speed=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")
  edges=$(grep -oE 'cov: [0-9]+' "$log" | grep -oE '[0-9]+' || true)
  echo "$target: ${runs:-0} inputs, ${speed:-0} a second," \
    "edges $(head -n 1 <<<"$edges") from the seeds, $(tail -n 1 <<<"$edges") at the end"
  if ((status != 0)); then
    failed=$((failed + 1))
    grep -E 'ERROR:|SUMMARY|check failed|Test unit written' "$log" | head -n 5 | sed 's/^/  /'
    echo "  $target FAILED (whole log: $log)"
  fi
done
echo "${#targets[@]} targets, $failed failed"
((failed == 0))
