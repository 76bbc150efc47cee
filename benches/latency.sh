#!/usr/bin/env bash
# How long it takes from the append of a transaction to the append of its hit, and of its alert: p50, p99 and the most, at 10,
# 50 and 80 % of the highest rate, which is measured just before.
#
#   MANUMIT_BENCH_ROWS=N        transactions at most, and those of the highest rate [default: 3000000]
#   MANUMIT_BENCH_SECONDS=N     how long each load lasts, if there are rows enough [default: 30]
#   MANUMIT_BENCH_PATIENCE=SECONDS  after which a trial is given up [default: 300]
#   and those of benches/environment.sh
#
# A real Apache Kafka (tests/kafka/pom.xml), a sender, and `manumit run` as a service all share this machine, so the highest
# rate is that of all three together. The rows are those of benches/data/generate.py as JSON lines, in the order of time, sent
# over one partition whose feed has a lateness of zero. Both times are those at which the broker appended (LogAppendTime): no
# other clock takes part. A row waits for the next one of a later time, as only that says that its time is complete. Every
# trial begins with an empty state; its hits must be those of the same rows in a file.
set -euo pipefail
cd "$(dirname "$0")/.."
source benches/environment.sh

rows=${MANUMIT_BENCH_ROWS:-3000000}
lines=$data/lines-$rows.jsonl
if [ ! -s "$lines" ]; then
  "$python" benches/data/lines.py --data "$(generated "raw-$rows.parquet" --rows "$rows")" --out "$lines.part"
  mv "$lines.part" "$lines"
fi
kafka=$(environment kafka benches/latency/requirements.txt)
manumit=$(program)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/project"
cp -r benches/t10/rules "$work/project/"
cp -r benches/latency/rules/typologies "$work/project/rules/"
mkdir "$work/project/sql"
cp -r benches/t10/sql/feeds "$work/project/sql/"
"$kafka" benches/latency/latency.py --manumit "$manumit" --project "$work/project" --lines "$lines" --rows "$rows" --runs "$runs" \
  --seconds "${MANUMIT_BENCH_SECONDS:-30}" --threads "$threads" --patience "${MANUMIT_BENCH_PATIENCE:-300}" \
  --classpath "${MANUMIT_TOOLS_DIR:-$HOME/.cache/manumit/tools}/kafka.classpath" --command benches/latency.sh
