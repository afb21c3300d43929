#!/usr/bin/env bash
# End-to-end wall time and test accuracy on IMDB: Sheaf (1 scheduler, 2 servers, 2 workers) against fastText, in turns.
#
#   bench/imdb_vs_fasttext.sh DATA [RUNS=5]
#
# DATA holds imdb/{train,test}/{neg,pos} (scripts/prepare_data.sh imdb). Sheaf reads the raw reviews, starts and ends
# its cluster, trains and evaluates within its time. fastText gets its input tokenized beforehand, which is not counted.
# Needs the Debian package fasttext. Prints both medians and their ratio.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?usage: bench/imdb_vs_fasttext.sh DATA [RUNS]} runs=${2:-5}
sheaf=build/release/bin/sheaf
[[ -x $sheaf ]] || { echo "no $sheaf: run scripts/quickstart.sh first" >&2; exit 1; }
command -v fasttext >/dev/null || { echo "no fasttext: scripts/setup.sh --with compare" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 - "$data" "$work" <<'PYTHON'
import pathlib, random, re, sys
data, work = map(pathlib.Path, sys.argv[1:])
for split in ("train", "test"):
    lines = []
    for label in ("neg", "pos"):
        for path in sorted((data / "imdb" / split / label).iterdir()):
            text = path.read_text(encoding="utf-8").lower().replace("<br />", " ")
            lines.append(f"__label__{label} " + " ".join(re.findall(r"""[a-z0-9']+|[!?.,;:()"-]""", text)))
    random.Random(1).shuffle(lines)
    (work / f"{split}.txt").write_text("\n".join(lines) + "\n")
PYTHON

now() { date +%s.%N; }
for ((run = 1; run <= runs; ++run)); do
  begin=$(now)
  fasttext supervised -input "$work/train.txt" -output "$work/model" -wordNgrams 2 -dim 10 -epoch 10 -lr 0.25 \
    -thread 2 \
    -verbose 0 >/dev/null
  accuracy=$(fasttext test "$work/model.bin" "$work/test.txt" | awk '/^P@1/ {print $2}')
  echo "fasttext $(awk "BEGIN {print $(now) - $begin}") $accuracy" | tee -a "$work/figures"
  begin=$(now)
  "$sheaf" run examples/imdb.job.textproto --data "$data" --servers 2 --workers 2 --report "$work/report.json" \
    >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
  seconds=$(awk "BEGIN {print $(now) - $begin}")
  accuracy=$(python3 -c "import json; print(round(json.load(open('$work/report.json'))['test']['accuracy'], 4))")
  echo "sheaf    $seconds $accuracy" | tee -a "$work/figures"
done
python3 - "$work/figures" <<'PYTHON'
import statistics, sys
rows = [line.split() for line in open(sys.argv[1])]
median = {who: statistics.median(float(r[1]) for r in rows if r[0] == who) for who in ("fasttext", "sheaf")}
print(f"medians: fastText {median['fasttext']:.2f} s, Sheaf {median['sheaf']:.2f} s, "
      f"ratio {median['sheaf'] / median['fasttext']:.2f}")
PYTHON
