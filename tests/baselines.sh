#!/usr/bin/env bash
# `manumit baselines` against DuckDB, asked in another way over the same archive: all values of both tables, of several days.
#
#   tests/baselines.sh [CUSTOMERS [SEED]]      of the simulated bank [default: 400, 5]
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/python.sh
manumit=$(realpath "$(program)") oracle=$PWD/tests/baselines_oracle.py
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$manumit" simulate --folder bank --customers "${1:-400}" --seed "${2:-5}" > simulate.log 2>&1 || { cat simulate.log >&2; exit 1; }
export MANUMIT_REFERENCE_ACCOUNTS=bank/accounts.csv MANUMIT_REFERENCE_CUSTOMERS=bank/customers.csv
"$manumit" run --feed demo --from bank/demo-bank.jsonl --archive archive --alerts alerts.jsonl > run.log 2>&1 || { cat run.log >&2; exit 1; }
"$manumit" baselines --archive archive --as-of 2026-02-01 --as-of 2026-03-01 --out tables
"$python" "$oracle" archive bank/customers.csv tables 2026-02-01 2026-03-01
