#!/usr/bin/env bash
# What it costs when windows have less memory than their rows take: T10 with all rows in memory, then with a half, a quarter and an
# eighth of that, the rest on disk. Hits must be the same in each.
#
#   MANUMIT_BENCH_ROWS=N        transactions [default: 5000000]
#   MANUMIT_BENCH_ACCOUNTS="…"  accounts that they are spread over, a table for each [default: 50000 500000]
#   MANUMIT_BENCH_STATE=FOLDER  where rows go [default: a folder beside the data]
#   and those of benches/environment.sh
set -euo pipefail
cd "$(dirname "$0")/.."
source benches/environment.sh

manumit=$(program)
"$python" benches/growth/beyond.py --manumit "$manumit" --folder "$data" --rows "${MANUMIT_BENCH_ROWS:-5000000}" --runs "$runs" \
  --threads "$threads" --accounts ${MANUMIT_BENCH_ACCOUNTS:-50000 500000} --state "${MANUMIT_BENCH_STATE:-$data/state}"
