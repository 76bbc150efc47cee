#!/usr/bin/env bash
# The pack on a labelled set of other origin (AMLGentex): which patterns are found, at what load. See rules/INDEPENDENT.md.
#
#   MANUMIT_AMLGENTEX=FOLDER tests/independent.sh [PROJECT]
#
# FOLDER: transactions.parquet, accounts.parquet, tx_labels.parquet, alert_members.parquet; they are no part of the project.
# PROJECT: a project of your own, with other parameters [default: the built-in pack]. Also in the environment: MANUMIT, the program.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${MANUMIT_AMLGENTEX:-}" ]; then
  echo "SKIPPED: nothing was measured. MANUMIT_AMLGENTEX names no folder with the set; see rules/INDEPENDENT.md" >&2
  exit 77
fi
set=$(realpath "$MANUMIT_AMLGENTEX") here=$PWD
project=$(realpath "${1:-$here}")
if [ -z "${MANUMIT:-}" ]; then
  cargo build --profile ci --workspace --bin manumit --locked -q
  MANUMIT=${CARGO_TARGET_DIR:-target}/ci/manumit
fi
manumit=$(realpath "$MANUMIT")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

"$manumit" --project "$project" query --table accounts_of_set="$set/accounts.parquet" --format csv --out accounts.csv \
  "SELECT account_id AS account, account_id AS customer, city FROM accounts_of_set ORDER BY account_id"
"$manumit" --project "$project" query --table accounts_of_set="$set/accounts.parquet" --format csv --out customers.csv \
  "SELECT account_id AS customer, 'person' AS segment, city FROM accounts_of_set ORDER BY account_id"
for truth in amlgentex amlgentex-members; do
  "$manumit" --project "$project" query - --table members="$set/alert_members.parquet" --table labels="$set/tx_labels.parquet" \
    --table payments="$set/transactions.parquet" --format csv --out "$truth.csv" < "$here/sql/truth/$truth.sql"
done

export MANUMIT_REFERENCE_ACCOUNTS=$work/accounts.csv MANUMIT_REFERENCE_CUSTOMERS=$work/customers.csv
"$manumit" --project "$project" run --feed amlgentex --from "$set/transactions.parquet" --alerts alerts.jsonl 2> run.log ||
  { cat run.log >&2; exit 1; }
tail -n 4 run.log
for truth in amlgentex amlgentex-members; do
  echo
  echo "== $truth"
  "$manumit" --project "$project" evaluate --alerts alerts.jsonl --truth "$truth.csv" --customers 4000
done
