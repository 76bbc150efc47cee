#!/usr/bin/env bash
# Ten window conditions over three keys, written as rules and as SQL (benches/t10): the hits of a stream, of a backtest and
# of DuckDB must be equal, as sets with their values.
#
#   MANUMIT_ORACLE_DATA=FOLDER   folder with Parquet files to use in place of generated ones: columns as the generator
#                                writes them, or those of `manumit schema transactions`
#   MANUMIT_ORACLE_ROWS=N        rows to generate [default: 1000000]
#   MANUMIT=BINARY               the program [default: built here]
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/python.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -n "${MANUMIT_ORACLE_DATA:-}" ]; then
  mapfile -t data < <(find "$MANUMIT_ORACLE_DATA" -maxdepth 1 -name '*.parquet' | sort)
  [ ${#data[@]} -gt 0 ] || { echo "MANUMIT_ORACLE_DATA=$MANUMIT_ORACLE_DATA: no *.parquet file there" >&2; exit 1; }
  echo "data: ${data[*]}"
else
  rows=${MANUMIT_ORACLE_ROWS:-1000000}
  echo "MANUMIT_ORACLE_DATA is not set: generating $rows transactions of our own"
  data=("$work/tx.parquet")
  "$python" benches/data/generate.py --rows "$rows" --out "${data[0]}"
fi

# Tables of the generator's form are mapped by the project's feed; canonical ones by a feed that maps nothing.
columns=$("$python" -c 'import sys, pyarrow.parquet as p; print(*p.read_schema(sys.argv[1]).names)' "${data[0]}")
project=$work/project
cp -r benches/t10 "$project"
case " $columns " in
  *" debtor_account "*)
    feed=canonical map=()
    # These are filled in by Manumit, and may not be mapped.
    given=$(tr ' ' '\n' <<< "$columns" | grep -vxE 'feed|source|source_partition|source_offset|amount_base' | paste -sd, -)
    printf -- '---\nformat = "parquet"\ntime_zone = "UTC"\nlateness = "1 hours"\n---\nSELECT %s\nFROM raw\n' "${given//,/, }" \
      > "$project/sql/feeds/canonical.sql"
    ;;
  *) feed=t10 map=(--feed t10) ;;
esac

manumit=$(program)
echo "== stream"
time "$manumit" --project "$project" run --feed "$feed" --from "${data[@]}" --hits "$work/stream.jsonl" \
  --alerts "$work/alerts.jsonl" --late "$work/late.jsonl" --dead-letters "$work/dead.jsonl"
for what in late dead; do
  if [ -s "$work/$what.jsonl" ]; then
    echo "$(wc -l < "$work/$what.jsonl") transactions are $what: the answers cannot be equal. The first:" >&2
    head -1 "$work/$what.jsonl" >&2
    exit 1
  fi
done
echo "== backtest"
time "$manumit" --project "$project" backtest "${map[@]}" --data "${data[@]}" --hits "$work/backtest.jsonl" --out "$work/report"
echo "== DuckDB"
"$python" tests/duckdb_oracle.py --manumit "$manumit" --project "$project" --data "${data[@]}" --feed "$feed" \
  --hits stream="$work/stream.jsonl" --hits backtest="$work/backtest.jsonl" --twin=-sql
