#!/usr/bin/env bash
# Instructions that the program takes for a row, stage by stage, held to those of benches/instructions.txt: a guard that no
# clock and no busy machine disturbs.
#
#   benches/instructions.sh            compare; ends with 1 where a stage differs by more than the tolerance
#   benches/instructions.sh --update   write down what is measured now
#
#   MANUMIT_BENCH_TOLERANCE=PERCENT    [default: 5]
#   MANUMIT=BINARY                     the program [default: built here]
#
# Each stage runs over the first 5,000 rows of its input and over all 25,000, with one thread, under valgrind's cachegrind; the
# difference of the two counts, divided by the rows between, is what a row costs: start-up and planning are in neither. A stage
# that became cheaper asks for --update too, so that the next fault is not hidden behind it.
#
#   map      JSON lines decoded and mapped by the feed t10-lines, and one rule that never holds
#   engine   the ten conditions of benches/t10 over a Parquet file, as a backtest
#   pack     the built-in rules over the simulated bank's JSON lines
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/python.sh

command -v valgrind >/dev/null || { echo "this needs valgrind: apt-get install valgrind" >&2; exit 1; }
few=5000 many=25000 tolerance=${MANUMIT_BENCH_TOLERANCE:-5}
kept=benches/instructions.txt
manumit=$(realpath "$(program)")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" benches/data/generate.py --rows $many --out "$work/raw.parquet" 2>/dev/null
"$python" benches/data/generate.py --rows $many --form canonical --out "$work/$many.parquet" 2>/dev/null
"$python" - "$work" $few $many <<'PYTHON'
import sys
import pyarrow.parquet as parquet
work, few, many = sys.argv[1], int(sys.argv[2]), sys.argv[3]
parquet.write_table(parquet.read_table(f"{work}/{many}.parquet").slice(0, few), f"{work}/{few}.parquet")
PYTHON
"$python" benches/data/lines.py --data "$work/raw.parquet" --out "$work/map-all.jsonl"
"$manumit" simulate --customers 1000 --days 10 --networks 1 --folder "$work/bank" >/dev/null
for rows in $few $many; do
  head -n $rows "$work/map-all.jsonl" > "$work/map-$rows.jsonl"
  head -n $rows "$work/bank/demo-bank.jsonl" > "$work/pack-$rows.jsonl"
done
# As rules only: the same conditions stand in sql/indicators once more.
mkdir "$work/t10"
cp -r benches/t10/rules "$work/t10/"

stage() { # name, rows: the command of a stage
  case $1 in
    map) set -- --project benches/nothing run --feed benches/t10/sql/feeds/t10-lines.sql --from "$work/map-$2.jsonl" ;;
    engine) set -- --project "$work/t10" backtest --data "$work/$2.parquet" --without-evidence --segment currency --out "$work/report" ;;
    pack) set -- --project . run --feed demo --from "$work/pack-$2.jsonl" ;;
  esac
  [ "$3" = backtest ] || set -- "$@" --alerts "$work/alerts.jsonl" --late "$work/late.jsonl" --dead-letters "$work/dead.jsonl"
  MANUMIT_REFERENCE_ACCOUNTS="$work/bank/accounts.csv" MANUMIT_REFERENCE_CUSTOMERS="$work/bank/customers.csv" \
    valgrind --tool=cachegrind --cache-sim=no --cachegrind-out-file=/dev/null --log-file="$work/counted" \
    "$manumit" "$@" --threads 1 > "$work/told" 2>&1 || { cat "$work/told" "$work/counted" >&2; exit 1; }
}

counted() { # name, rows: instructions of a whole run, which must have taken all rows
  stage "$1" "$2"
  grep -qE "^$2 evaluated, 0 late|; $2 transactions from" "$work/told" ||
    { echo "$1: not all of $2 rows were evaluated:" >&2; cat "$work/told" >&2; exit 1; }
  sed -n 's/.*I *refs: *//p' "$work/counted" | tr -d ,
}

for name in map engine pack; do
  less=$(counted $name $few)
  more=$(counted $name $many)
  echo "$name $(((more - less) / (many - few)))" >> "$work/found"
done

machine=$(uname -m)
if [ "${1:-}" = --update ]; then
  {
    echo "# Instructions a row, $machine, $(rustc --version | cut -d' ' -f1-2); written by benches/instructions.sh --update"
    cat "$work/found"
  } > "$kept"
  cat "$kept"
  exit
fi
if ! head -1 "$kept" | grep -q " $machine,"; then
  echo "$kept is not of a machine of this kind ($machine): nothing to compare with"
  cat "$work/found"
  exit
fi
echo "| stage | instructions a row | written down | differs by |"
echo "| --- | --- | --- | --- |"
awk -v tolerance="$tolerance" '
  FNR == NR { if ($1 !~ /^#/) kept[$1] = $2; next }
  {
    if (!($1 in kept)) { printf "| %s | %d | | not written down |\n", $1, $2; wrong = 1; next }
    by = 100 * ($2 - kept[$1]) / kept[$1]
    printf "| %s | %d | %d | %+.1f %% |\n", $1, $2, kept[$1], by
    if (by > tolerance || by < -tolerance) wrong = 1
  }
  END { exit wrong }' "$kept" "$work/found" || {
  echo "a stage differs by more than $tolerance %: mend it, or say why in the commit that writes it down anew (--update)" >&2
  exit 1
}
