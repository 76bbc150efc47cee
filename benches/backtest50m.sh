#!/usr/bin/env bash
# A backtest of many transactions against DuckDB with the same SQL: seconds, peak memory, hits, and the ratio.
#
#   MANUMIT_BENCH_ROWS=N         transactions [default: 50000000]
#   MANUMIT_BENCH_FOLDER=FOLDER  where the data are kept from run to run [default: benches/.data]
#   MANUMIT_BENCH_THREADS=N      of both [default: 2]
#   MANUMIT=BINARY               the program [default: built here]
#
# The conditions are those of benches/t10, written as rules; DuckDB runs the same as SQL, all conditions over one key in one
# query, with 8 GB of memory. Both read the same Parquet file, and must count the same hits.
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/python.sh

rows=${MANUMIT_BENCH_ROWS:-50000000} threads=${MANUMIT_BENCH_THREADS:-2}
folder=${MANUMIT_BENCH_FOLDER:-benches/.data}
mkdir -p "$folder"
data=$folder/history-$rows.parquet
if [ ! -s "$data" ]; then
  # Ten payments an account: more transactions are a larger bank, as skewed as a small one.
  "$python" benches/data/generate.py --rows "$rows" --form canonical --out "$data.part"
  mv "$data.part" "$data"
fi
manumit=$(program)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
typologies=()
for rule in benches/t10/rules/indicators/*.toml; do typologies+=(--typology "$(basename "$rule" .toml)"); done

measured() { # name, command…: wall seconds and peak memory
  local name=$1
  shift
  /usr/bin/time -f '%e %M' -o "$work/$name.time" "$@"
}

echo "== $(date -u +%FT%TZ) $(nproc) cores, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(git rev-parse --short HEAD)"
echo "== backtest"
measured manumit "$manumit" --project benches/t10 backtest "${typologies[@]}" --data "$data" --threads "$threads" \
  --without-evidence --segment currency --out "$work/report"
echo "== DuckDB"
measured duckdb "$python" benches/data/duckdb_bench.py --manumit "$manumit" --project benches/t10 --data "$data" --threads "$threads" \
  --memory 8GB --temporary "$work" --report "$work/report/report.json"
"$python" - "$rows" "$work" <<'PYTHON'
import sys
rows, work = int(sys.argv[1]), sys.argv[2]
print("| system | seconds | transactions/s | peak memory, MiB |\n| --- | --- | --- | --- |")
seconds = {}
for name in ("manumit", "duckdb"):
    wall, memory = open(f"{work}/{name}.time").read().split()[-2:]
    seconds[name] = float(wall)
    print(f"| {name} | {float(wall):.1f} | {rows / float(wall):,.0f} | {int(memory) / 1024:,.0f} |")
print(f"backtest / DuckDB: {seconds['manumit'] / seconds['duckdb']:.2f}")
PYTHON
