#!/usr/bin/env bash
# Random cases of the standing oracle by night: the stream's hits against DuckDB and against two executors of Apache
# DataFusion Ballista, values included. Exit status 1 at the first case that differs, which is made smaller and printed.
#
#   tests/nightly.sh [CASES [SEED]]      cases to draw [default: MANUMIT_ORACLE_CASES, or 500]; seed of the first one
#                                        [default: MANUMIT_ORACLE_SEED, or the time, so that each night draws others]
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/python.sh
export MANUMIT_PYTHON=$python
cases=${1:-${MANUMIT_ORACLE_CASES:-500}} seed=${2:-${MANUMIT_ORACLE_SEED:-$(date +%s)}}
# A cluster for each hundred: its scheduler remembers what it was asked for an hour, and that takes memory.
while [ "$cases" -gt 0 ]; do
  part=$((cases < 100 ? cases : 100))
  MANUMIT_ORACLE_CASES=$part MANUMIT_ORACLE_SEED=$seed \
    cargo test --profile ci --workspace --test it --locked -q -- --ignored --nocapture standing::nightly
  cases=$((cases - part)) seed=$((seed + part))
done
