#!/usr/bin/env bash
# How fast a backtest is and how that grows with rules: transactions/s of ten, forty and 160 conditions on one and two threads,
# medians of five runs, with the hits of each, which must not depend on threads.
#
#   MANUMIT_BENCH_ROWS=N         transactions [default: 5000000]
#   MANUMIT_BENCH_FOLDER=FOLDER  where the data are kept from run to run [default: benches/.data]
#   MANUMIT_BENCH_RUNS=N         runs of each [default: 5]
#   MANUMIT_BENCH_SETS="t10 …"   rule sets [default: t10 t40f t40w t160], see benches/data/variants.py
#   MANUMIT_BENCH_CHECK=1        ask DuckDB for the hits of every condition as well (slow)
#   MANUMIT=BINARY               the program [default: built here]
#
# The time is that of the whole process: start, reading the Parquet file, rules, and the report.
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/python.sh

rows=${MANUMIT_BENCH_ROWS:-5000000} runs=${MANUMIT_BENCH_RUNS:-5}
folder=${MANUMIT_BENCH_FOLDER:-benches/.data}
mkdir -p "$folder"
data=$folder/history-$rows.parquet
if [ ! -s "$data" ]; then
  "$python" benches/data/generate.py --rows "$rows" --form canonical --out "$data.part"
  mv "$data.part" "$data"
fi
manumit=$(program)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "== $(date -u +%FT%TZ) $(nproc) cores, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(git rev-parse --short HEAD), load $(cut -d' ' -f1 /proc/loadavg)"
for set in ${MANUMIT_BENCH_SETS:-t10 t40f t40w t160}; do
  "$python" benches/data/variants.py "$set" --out "$work/$set"
  for threads in 1 2; do
    for run in $(seq "$runs"); do
      /usr/bin/time -o "$work/$set.$threads.$run" -f '%e %U %S %M' "$manumit" --project "$work/$set" backtest --data "$data" \
        --threads "$threads" --without-evidence --segment currency --out "$work/report.$set.$threads" > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
    done
  done
  if [ "${MANUMIT_BENCH_CHECK:-0}" != 0 ]; then
    "$python" benches/data/duckdb_bench.py --one-by-one --manumit "$manumit" --project "$work/$set" --data "$data" --memory 8GB \
      --temporary "$work" --report "$work/report.$set.2/report.json"
  fi
done
"$python" - "$rows" "$runs" "$work" <<'PYTHON'
import json, statistics, sys
from pathlib import Path
rows, runs, work = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
print("| rules | conditions | threads | seconds (least to most) | processor seconds | transactions/s | of T10's time | peak memory, MiB | hits |")
print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
first, wrong = {}, False
for folder in sorted((f for f in work.iterdir() if (f / "rules").is_dir()), key=lambda f: (f.name != "t10", f.name != "t40f", f.name != "t40w")):
    counted = []
    for threads in (1, 2):
        walls, processor, memory = [], [], []
        for run in range(1, runs + 1):
            wall, user, system, peak = map(float, (work / f"{folder.name}.{threads}.{run}").read_text().split()[-4:])
            walls.append(wall), processor.append(user + system), memory.append(peak)
        hits = {i["id"]: i["hits"] for i in json.loads((work / f"report.{folder.name}.{threads}" / "report.json").read_text())["indicators"]}
        counted.append(hits)
        wall = statistics.median(walls)
        share = wall / first.setdefault(threads, wall)
        print(f"| {folder.name} | {len(hits)} | {threads} | {wall:.1f} ({min(walls):.1f}–{max(walls):.1f}) | {statistics.median(processor):.1f} | "
              f"{rows / wall:,.0f} | {share:.2f} | {max(memory) / 1024:,.0f} | {sum(hits.values()):,} |")
    if counted[0] != counted[1]:
        wrong = True
        print(f"{folder.name}: hits differ between threads", file=sys.stderr)
sys.exit(wrong)
PYTHON
