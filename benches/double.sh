#!/usr/bin/env bash
# What the trafficking pack costs, and what twice as many typologies cost: the same pack again under other ids, with other thresholds, and with
# other windows as well.
#
#   MANUMIT_BENCH_CUSTOMERS=N    of the simulated bank [default: 5000, about a million transactions]
#   and those of benches/environment.sh
#
# Wall time and processor time of `manumit run` over JSON lines, all outputs written to files; the three take turns, medians are printed.
set -euo pipefail
cd "$(dirname "$0")/.."
source benches/environment.sh

manumit=$(program)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$manumit" simulate --folder "$work/bank" --customers "${MANUMIT_BENCH_CUSTOMERS:-5000}" >/dev/null
"$python" benches/growth/double.py . "$work/thresholds" thresholds >&2
"$python" benches/growth/double.py . "$work/windows" windows >&2
for _ in $(seq "$runs"); do
  for project in . "$work/thresholds" "$work/windows"; do
    rm -f "$work"/out.*
    /usr/bin/time -a -o "$work/times" -f "$(basename "$(realpath "$project")") %e %U %S %M" \
      "$manumit" run --project "$project" --config "$work/bank/manumit.toml" --feed demo --from "$work/bank/demo-bank.jsonl" --threads "$threads" \
      --alerts "$work/out.alerts" --dead-letters "$work/out.dead" --late "$work/out.late" >/dev/null 2>&1
  done
done
"$python" - "$work/times" "$(wc -l <"$work/bank/demo-bank.jsonl")" "$(basename "$PWD")" <<'PY'
import statistics, sys
times, records, pack = sys.argv[1], int(sys.argv[2]), sys.argv[3]
rows = [line.split() for line in open(times)]
names = {pack: "the pack", "thresholds": "twice, other thresholds", "windows": "twice, other thresholds and windows"}
print("| rules | seconds (least to most) | processor seconds | records/s | of the pack's processor time | of its time | peak memory, MiB |")
print("| --- | --- | --- | --- | --- | --- | --- |")
base = None
for name, words in names.items():
    wall = [float(r[1]) for r in rows if r[0] == name]
    cpu = statistics.median(float(r[2]) + float(r[3]) for r in rows if r[0] == name)
    memory = max(int(r[4]) for r in rows if r[0] == name) // 1024
    middle = statistics.median(wall)
    base = base or (middle, cpu)
    print(f"| {words} | {middle:.1f} ({min(wall):.1f}–{max(wall):.1f}) | {cpu:.1f} | {records / middle:,.0f} | {cpu / base[1]:.2f} | {middle / base[0]:.2f} | {memory:,} |")
PY
