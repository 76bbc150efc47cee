#!/usr/bin/env bash
# How speed and memory grow with conditions, keys, lengths of windows, history and threads: one table for each, everything else
# as it is.
#
#   MANUMIT_BENCH_ROWS=N      transactions [default: 2000000]; the longest history has four times as many
#   MANUMIT_BENCH_CHECK=no    do not ask DuckDB for the hits of every line, which takes most of the time
#   and those of benches/environment.sh
#
# The rules are those of benches/t10 and variants of them (benches/growth/growth.py), the rows those of benches/data/generate.py.
set -euo pipefail
cd "$(dirname "$0")/.."
source benches/environment.sh

check=--check
[ "${MANUMIT_BENCH_CHECK:-yes}" = yes ] || check=
manumit=$(program)
"$python" benches/growth/growth.py --manumit "$manumit" --folder "$data" --rows "${MANUMIT_BENCH_ROWS:-2000000}" --runs "$runs" \
  --threads "$threads" --command benches/growth.sh $check
