#!/usr/bin/env bash
# Manumit beside DuckDB, Polars, ClickHouse (chdb), DataFusion's batch mode and Apache Flink on the ten conditions of
# benches/t10: transactions a second, peak memory, ratios, and whether the hits are the same.
#
#   MANUMIT_BENCH_ROWS=N           transactions [default: 1000000]
#   MANUMIT_BENCH_FLINK_ROWS=N     of the table with Flink, which takes a hundred times as long [default: 200000]
#   MANUMIT_BENCH_PATIENCE=SECONDS what a peer may take for one answer [default: 1800]
#   and those of benches/environment.sh
#
# All read the same Parquet file with as many threads (Flink: the same rows as CSV). In every round each system answers once;
# a figure is the median of the rounds. Of Manumit the whole process counts; of the others the time from the first statement
# to the answer, without the start of Python or Java. Peers are installed into environments of their own; one that cannot be
# installed, or whose hits are not DuckDB's, has no figure, and the table says why.
#
# Not here: dbsp (Feldera's engine) is a Rust crate that needs half an hour to build and has no rolling count of different
# values, least or greatest.
set -euo pipefail
cd "$(dirname "$0")/.."
source benches/environment.sh

rows=${MANUMIT_BENCH_ROWS:-1000000} flink_rows=${MANUMIT_BENCH_FLINK_ROWS:-200000}
peers=$(environment peers benches/peers/requirements.txt)
flink=$(environment flink benches/peers/flink-requirements.txt)
manumit=$(program)
"$python" benches/peers/compare.py --manumit "$manumit" --runs "$runs" --threads "$threads" --patience "${MANUMIT_BENCH_PATIENCE:-1800}" \
  --data "$(generated "history-$rows.parquet" --rows "$rows" --form canonical)" \
  --flink-data "$(generated "history-$flink_rows.parquet" --rows "$flink_rows" --form canonical)" \
  --python "$peers" --flink-python "$flink"
