#!/usr/bin/env bash
# Hot and huge keys: rate and memory where one key has most of the rows, where one has a burst of equal times, and where every
# row has a key of its own, against keys with twenty rows each, and against what `manumit explain` lets expect.
#
#   MANUMIT_BENCH_ROWS=N           transactions of each case [default: 20000000]: ten million of the hot key within its window,
#                                  a burst of 100,000, twenty million keys; four files of half a GB
#   MANUMIT_BENCH_PATIENCE=SECONDS what DuckDB may take to check a case; after that its hits are not compared [default: 900]
#   and those of benches/environment.sh
#
# State is the peak of the run less that of a run over the same file whose only rule keeps nothing (benches/nothing).
set -euo pipefail
cd "$(dirname "$0")/.."
source benches/environment.sh

rows=${MANUMIT_BENCH_ROWS:-20000000}
for case in uniform hot burst single; do
  file=$data/keys-$case-$rows.parquet
  if [ ! -s "$file" ]; then
    "$python" benches/data/keys.py --case $case --rows "$rows" --out "$file.part"
    mv "$file.part" "$file"
  fi
done
manumit=$(program)
"$python" benches/keys/keys.py --manumit "$manumit" --folder "$data" --rows "$rows" --runs "$runs" --threads "$threads" \
  --patience "${MANUMIT_BENCH_PATIENCE:-900}" --command benches/keys.sh
