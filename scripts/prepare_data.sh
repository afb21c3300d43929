#!/usr/bin/env bash
# Lays out a public data set the way the example jobs name it.
#
#   scripts/prepare_data.sh NAME SOURCE TARGET
#
#   NAME          SOURCE (an archive, or the folder it lies in)          what comes to be below TARGET
#   imdb          aclImdb*.tar.{gz,xz}                                   imdb/{train,test}/{neg,pos}/*.txt
#   20newsgroups  20news-bydate*.tar.{gz,xz}                             20newsgroups/{train,test}/<group>/<message>
#   movielens     a folder with {train,valid,test}.tsv.xz (click log)    movielens/{train,valid,test}.tsv.xz
#
# Then: sheaf run examples/imdb.job.textproto --data TARGET
# The archives are yours to get, under their own terms; only Adult (examples/data/adult) comes with Sheaf.
# What is complete already is left alone; what was begun and cut off is begun again.
set -euo pipefail

die() { echo "prepare_data: $*" >&2; exit 1; }
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }

if [[ ${1:-} == -h || ${1:-} == --help ]]; then usage; exit 0; fi
(($# == 3)) || { usage >&2; exit 2; }
name=$1 source=$2 target=$3
[[ -e $source ]] || die "$source does not exist"
[[ -d $source || -f $source ]] || die "$source is neither a file nor a folder"
mkdir -p "$target"

# The one archive that SOURCE means; $1 is its name's pattern.
archive() {
  if [[ -f $source ]]; then echo "$source"; return; fi
  local candidates
  mapfile -t candidates < <(find "$source" -type f -name "$1" ! -name '*unsup*' | sort)
  ((${#candidates[@]} > 0)) || die "no $1 below $source"
  ((${#candidates[@]} == 1)) || die "more than one $1 below $source: name the file itself"
  echo "${candidates[0]}"
}

documents() { find "$1" -type f | wc -l; }

# Published counts: a data set that is not whole would give results that compare with nothing.
expect() {
  local have
  have=$(documents "$1")
  ((have == $2)) || die "$1 holds $have documents, the published set has $2: the archive is not the whole set"
}

# Unpacks into a folder beside the final one, so that a cut-off run never looks complete.
work=$target/.$name.partial
final=$target/$name
if [[ -d $final ]]; then
  echo "prepare_data: $final is there ($(documents "$final") files)"
  exit 0
fi
rm -rf "$work"
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/out"

case $name in
  imdb)
    file=$(archive 'aclImdb*.tar.*')
    echo "prepare_data: unpacking $file (50,000 small files)"
    tar -xf "$file" -C "$work" --no-same-owner --wildcards \
      '*/train/neg/*.txt' '*/train/pos/*.txt' '*/test/neg/*.txt' '*/test/pos/*.txt'
    for split in train test; do
      for label in neg pos; do
        found=$(find "$work" -type d -path "*/$split/$label" | head -n 1)
        [[ -n $found ]] || die "$file has no $split/$label"
        expect "$found" 12500
        mkdir -p "$work/out/$split"
        mv "$found" "$work/out/$split/$label"
      done
    done
    ;;
  20newsgroups)
    file=$(archive '20news-bydate*.tar.*')
    echo "prepare_data: unpacking $file (18,846 small files)"
    tar -xf "$file" -C "$work" --no-same-owner
    for split in train test; do
      found=$(find "$work" -type d -name "20news-bydate-$split" | head -n 1)
      [[ -n $found ]] || die "$file has no 20news-bydate-$split"
      mv "$found" "$work/out/$split"
    done
    expect "$work/out/train" 11314
    expect "$work/out/test" 7532
    ;;
  movielens)
    [[ -d $source ]] || die "movielens wants the folder of train.tsv.xz, valid.tsv.xz and test.tsv.xz"
    for split in train valid test; do
      found=$(find "$source" -type f -name "$split.tsv.xz" | head -n 1)
      [[ -n $found ]] || die "no $split.tsv.xz below $source"
      columns=$(xz -dc "$found" 2>/dev/null | head -n 1 || true)
      [[ $columns == label$'\t'* ]] ||
      die "$found does not begin with a line of column names, the first of them 'label'"
      cp "$found" "$work/out/"
    done
    ;;
  *) die "no data set '$name'; there is imdb, 20newsgroups and movielens" ;;
esac

chmod -R u+w "$work/out"
mv "$work/out" "$final"
echo "prepare_data: $final ($(documents "$final") files, $(du -sh "$final" | cut -f1))"
