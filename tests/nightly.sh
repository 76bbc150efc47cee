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
export MANUMIT_ORACLE_CASES=${1:-${MANUMIT_ORACLE_CASES:-500}} MANUMIT_ORACLE_SEED=${2:-${MANUMIT_ORACLE_SEED:-$(date +%s)}}
exec cargo test --profile ci --workspace --test it --locked -q -- --ignored --nocapture standing::nightly
