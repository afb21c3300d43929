#!/usr/bin/env bash
# Builds Sheaf and runs its tests; this is what CI runs.
#
#   scripts/test.sh                release build with all tests, then the sanitizer builds with those that suit them
#   scripts/test.sh --quick        release build; unit, contract, simulation and lint tests only
#   scripts/test.sh --asan-only    only the build with AddressSanitizer and UndefinedBehaviorSanitizer, and its tests
#   scripts/test.sh --tsan-only    only the build with ThreadSanitizer, and its tests
#   scripts/test.sh --long         and what takes hours: all passes and kills of tests with real processes, all of
#                                  them with sanitizers, every fuzz target for 60 s (installs clang), 10,000 seeds of
#                                  the simulator, the bank of planted bugs
#   --jobs N                       compile and test N at a time (default: the number of processors)
#
# The last line is "N passed, N failed, N skipped", over all builds; the exit status is 0 if none failed. Logs lie in
# build/<preset>/test-logs/. A skipped test is named with its reason.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { echo "test: $*" >&2; exit 2; }
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }

suites="release asan tsan" quick=no long=no jobs=$(nproc) extras=""
while (($#)); do
  case $1 in
    --quick) quick=yes suites=release ;;
    --asan-only) suites=asan ;;
    --tsan-only) suites=tsan ;;
    --long) suites="release asan tsan fuzz simulate planted" extras=fuzz long=yes ;;
    --jobs) (($# > 1)) || die "--jobs needs a number"; jobs=$2; shift ;;
    --jobs=*) jobs=${1#--jobs=} ;;
    -h | --help) usage; exit 0 ;;
    *) die "unknown argument '$1'; see scripts/test.sh --help" ;;
  esac
  shift
done
[[ $jobs =~ ^[1-9][0-9]*$ ]] || die "--jobs $jobs: not a number above 0"

asan_options=detect_stack_use_after_return=1:strict_string_checks=1:check_initialization_order=1
export ASAN_OPTIONS=$asan_options${ASAN_OPTIONS:+:$ASAN_OPTIONS}
export UBSAN_OPTIONS=print_stacktrace=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}
export TSAN_OPTIONS=suppressions=$PWD/tests/tsan.supp:halt_on_error=1${TSAN_OPTIONS:+:$TSAN_OPTIONS}
export CTEST_OUTPUT_ON_FAILURE=1

passed=0 failed=0 skipped=0

# Reads ctest's JUnit file: prints what failed and what was skipped and why; the last line is "passed failed skipped".
summarise() {
  python3 - "$1" <<'PYTHON'
import sys
import xml.etree.ElementTree as tree

passed, failed, skipped = 0, 0, 0
for case in tree.parse(sys.argv[1]).getroot().iter("testcase"):
    status, name = case.get("status"), case.get("name")
    output = (case.findtext("system-out") or "").strip().splitlines()
    reason = case.find("skipped").get("message") if case.find("skipped") is not None else ""
    if status == "run":
        passed += 1
    elif status == "disabled" or (status == "notrun" and reason.startswith("SKIP_")):
        skipped += 1
        # GoogleTest: "FILE:LINE: Skipped", then the reason; others: a line of their own that says so.
        after = [output[i + 1] for i, line in enumerate(output[:-1]) if line.endswith(": Skipped")]
        words = after or [line for line in output if "skip" in line.lower()] or output[-1:] or ["no reason given"]
        print(f"  skipped {name}: {words[-1].strip().removeprefix('skipped: ')}")
    else:  # failed, timed out, or the program was not there
        failed += 1
        print(f"  FAILED {name} ({float(case.get('time') or 0):.1f} s)")
        if failed <= 10:
            print("\n".join("    | " + line for line in output[-60:]))
print(passed, failed, skipped)
PYTHON
}

# build PRESET [TARGET...]: configures and builds; on failure prints the end of the log.
build() {
  local preset=$1 logs=build/$1/test-logs
  shift
  mkdir -p "$logs"
  local begin=$SECONDS
  if ! { cmake --preset "$preset" &&
    cmake --build --preset "$preset" -j "$jobs" ${@:+--target "$@"}; } >"$logs/build.log" 2>&1; then
    grep -nE 'error|FAILED|warning:' "$logs/build.log" | head -n 20 || true
    tail -n 40 "$logs/build.log"
    echo "$preset: the build FAILED (whole log: $logs/build.log)"
    failed=$((failed + 1))
    return 1
  fi
  echo "$preset: built in $((SECONDS - begin)) s"
}

# check PRESET CTEST-ARGUMENT...: runs tests and adds up.
check() {
  local preset=$1 logs=build/$1/test-logs begin=$SECONDS counts
  shift
  rm -f "$logs/junit.xml"
  local status=0
  ctest --test-dir "build/$preset" -j "$jobs" --output-junit "$PWD/$logs/junit.xml" "$@" \
    >"$logs/ctest.log" 2>&1 || status=$?
  if [[ ! -s $logs/junit.xml ]]; then
    tail -n 20 "$logs/ctest.log"
    echo "$preset: ctest wrote no results (exit status $status)"
    failed=$((failed + 1))
    return
  fi
  counts=$(summarise "$logs/junit.xml")
  if [[ $counts == *$'\n'* ]]; then echo "${counts%$'\n'*}"; fi
  local p f s
  read -r p f s <<<"${counts##*$'\n'}"
  # How they failed (SEGFAULT, Timeout, Not Run), which the results file does not say.
  if ((f > 0)); then sed -n '/^The following tests FAILED/,/^Errors/{/^Errors/d;p}' "$logs/ctest.log"; fi
  # ctest can fail without a failed test: no test at all, or a results file cut short.
  if ((p + f + s == 0 || (status != 0 && f == 0))); then
    tail -n 20 "$logs/ctest.log"
    f=$((f + 1))
  fi
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
  echo "$preset: $p tests passed, $f failed, $s skipped in $((SECONDS - begin)) s"
}

# run_script NAME COMMAND...: a script of its own tests, which counts as one.
run_script() {
  local name=$1 begin=$SECONDS
  shift
  echo "$name:"
  if "$@"; then
    passed=$((passed + 1))
    echo "$name: passed in $((SECONDS - begin)) s"
  else
    failed=$((failed + 1))
    echo "$name: FAILED after $((SECONDS - begin)) s"
  fi
}

main() {
  scripts/setup.sh ${extras:+--with "$extras"}
  if [[ $long == yes ]]; then export SHEAF_E2E_LONG=1; fi

  for suite in $suites; do
    case $suite in
      release)
        if build release; then
          if [[ $quick == yes ]]; then check release -L '^(unit|contract|sim|lint)$'; else check release; fi
        fi
        ;;
      asan)
        # Containers hold release builds.
        if build asan; then
          if [[ $long == yes ]]; then check asan -LE '^(docker|lint)$'; fi
          if [[ $long == no ]]; then check asan -L '^(unit|contract|sim|fuzz|sanitized)$'; fi
        fi
        ;;
      tsan)
        # The cores under the simulator are single-threaded: a few seeds show that they stay so. What starts processes
        # of its own runs on ZeroMQ, which was not built with it and blinds it; tests/threads has all roles on
        # mailboxes.
        if build tsan sheaf_checks; then SHEAF_SIM_SEEDS=20 check tsan -L '^(unit|contract|sim)$'; fi
        ;;
      fuzz) run_script fuzz scripts/fuzz.sh --seconds 60 --jobs "$jobs" ;;
      simulate) run_script simulate scripts/simulate.sh --seeds 10000 --jobs "$jobs" ;;
      planted) run_script planted scripts/planted_bugs.sh --jobs "$jobs" ;;
    esac
  done

  echo "$passed passed, $failed failed, $skipped skipped"
  ((failed == 0))
}

main; exit
