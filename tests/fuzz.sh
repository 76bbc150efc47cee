#!/usr/bin/env bash
# Fuzzing guided by coverage: decoders of JSON, documents, CSV and Parquet, the readers of rules and feeds, and verify-alert.
#
#   tests/fuzz.sh [SECONDS [TARGET]]     seconds for each target [default: 30]; one target [default: all]
#
# Inputs that reach new code are kept in MANUMIT_FUZZ_CORPUS [default: tests/fuzz/corpus], one that crashes as crash-TARGET
# beside them. Without this script, in `cargo test`, the same targets run over the corpus and a fixed number of mutations.
set -euo pipefail
cd "$(dirname "$0")/.."
export RUSTC_WORKSPACE_WRAPPER=$PWD/tests/fuzz/rustc.sh
export MANUMIT_FUZZ_SECONDS=${1:-30} MANUMIT_FUZZ_CORPUS=${MANUMIT_FUZZ_CORPUS:-$PWD/tests/fuzz/corpus}
cargo test --profile ci --workspace --locked --test fuzz -- --nocapture --test-threads 1 "${2:-}"
