#!/usr/bin/env bash
# From a fresh clone to a trained model: installs what is missing, builds, trains on two servers and two workers.
#
#   scripts/quickstart.sh
#
# Trains a classifier on Adult (examples/data/adult) on this machine; leaves build/adult.model and
# build/quickstart-report.json.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh

log=build/quickstart-build.log
mkdir -p build
begin=$SECONDS
echo "quickstart: building (the first time takes a few minutes; log: $log)"
programs=(sheaf sheaf-scheduler sheaf-server sheaf-worker)
if ! { cmake --preset release && cmake --build --preset release --target "${programs[@]}"; } >"$log" 2>&1; then
  tail -n 40 "$log" >&2
  echo "quickstart: the build failed; the whole log is $log" >&2
  exit 1
fi
echo "quickstart: built in $((SECONDS - begin)) s; training"

sheaf=build/release/bin/sheaf
"$sheaf" run examples/adult.job.textproto --servers 2 --workers 2 \
  --model build/adult.model --report build/quickstart-report.json

cat <<'NEXT'

The model is build/adult.model, the report build/quickstart-report.json. Next:
  build/release/bin/sheaf predict --model build/adult.model --data examples/data/adult/a9a.t.xz | head
  build/release/bin/sheaf run examples/adult.job.textproto --servers 3 --workers 4
  build/release/bin/sheaf help
NEXT
