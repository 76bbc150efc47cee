#!/usr/bin/env bash
# The fault tests in their longer form: real processes, a real Apache Kafka, real signals. What each run publishes must equal that of an
# undisturbed one.
#
#   tests/faults.sh [KILLS [SEED …]]      100 kills at random moments, for each seed [default: 5]
#
# Also in the environment: MANUMIT_FAULT_TAKEOVERS (between machines, 30), MANUMIT_FAULT_STORMS (starts of all instances at once, 20),
# MANUMIT_FAULT_SECONDS (of each trouble, 20). How long it took from each kill to the next commit is printed. An hour of replay within
# its memory: tests/hour.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

kills=${1:-100}
shift || true
export MANUMIT_FAULT_KILLS=$kills MANUMIT_FAULT_TAKEOVERS=${MANUMIT_FAULT_TAKEOVERS:-30} \
  MANUMIT_FAULT_STORMS=${MANUMIT_FAULT_STORMS:-20} MANUMIT_FAULT_SECONDS=${MANUMIT_FAULT_SECONDS:-20}
cargo test --profile ci --workspace --test end_to_end --locked --no-run
for seed in "${@:-5}"; do
  echo "== $(date -u +%FT%TZ) seed $seed, $kills kills"
  for tests in exactly_once:: faults:: clock:: storms:: object_store::; do
    MANUMIT_FAULT_SEED=$seed cargo test --profile ci --workspace --test end_to_end --locked -q -- --nocapture "$tests"
  done
done
