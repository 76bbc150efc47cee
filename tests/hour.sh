#!/usr/bin/env bash
# Replay at full speed from a real Apache Kafka, with ten million accounts and as many devices, for an hour: what is resident stays
# below the limit that is configured (`[limits] memory`), does not creep upwards, and the ledger balances at the end.
#
#   tests/hour.sh [SECONDS]              3600 [default]
#
# Also in the environment: MANUMIT_HOUR_LIMIT_MIB (`[limits] memory`, 2048), MANUMIT_HOUR_KEYS (10000000), MANUMIT_HOUR_A_DAY (transactions
# a day of event time, 1000000), MANUMIT_HOUR_FOLDER (of archive and state; the temporary folder otherwise), TMPDIR (Kafka's data).
# Needs about 3 GB of disk.
set -euo pipefail
cd "$(dirname "$0")/.."

export MANUMIT_HOUR_SECONDS=${1:-3600}
cargo test --profile ci --workspace --test end_to_end --locked -q -- --ignored --nocapture hour::
