#!/usr/bin/env python3
"""DuckDB's answer to the SQL of rules, compared with hits that Manumit wrote.

    duckdb_oracle.py --manumit BINARY --project FOLDER --data tx.parquet [--feed t10] \\
        --hits stream=stream.jsonl --hits backtest=backtest.jsonl [--twin=-sql] ID…

Of each indicator ID, `manumit explain ID --sql` gives the query that it means. DuckDB runs that query over the same
transactions, and its rows are compared with the hits of every file given, as sets, each with its values. Without IDs all
indicators found in the hits and in the project's rules/indicators are compared. `--twin SUFFIX` also compares the hits of
ID with those of ID + SUFFIX, the same condition written as SQL.

What is rewritten, because DuckDB says it otherwise (see `rewritten`): nothing but
  earliest_by(x, event_time, concat(feed, chr(31), tx_id)), latest_by(…)   arg_min_null(x, (event_time, feed, tx_id)), arg_max_null(…)
  event_time AT TIME ZONE 'Z'                       event times are UTC without zone here: timezone('Z', timezone('UTC', event_time))
  arrow_cast(x, 'Decimal128(p, s)') and the like    CAST(x AS DECIMAL(p, s)); of microseconds since 1970 make_timestamp(x)

How values are compared: whole numbers, texts and times as they are; decimals as decimals, exactly. Where DuckDB has no
exact decimal (it divides decimals, and takes averages of them, as binary floats) the two agree when they differ by less
than one in the last place that Manumit writes. Exit status 1 when anything differs.
"""
import argparse
import datetime
import decimal
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import duckdb

# Column of entries: where it comes from for an entry `out`, and for one `in`. Written down anew here, so that a fault in
# the project's own table would show.
SIDES = {
    "account": ("debtor_account", "creditor_account"),
    "customer": ("debtor_customer", "creditor_customer"),
    "counterparty": ("creditor_account", "debtor_account"),
    "counterparty_customer": ("creditor_customer", "debtor_customer"),
    "counterparty_name": ("creditor_name", "debtor_name"),
    "counterparty_alias": ("creditor_alias", "debtor_alias"),
    "counterparty_bank": ("creditor_bank", "debtor_bank"),
    "counterparty_country": ("creditor_country", "debtor_country"),
    "balance": ("debtor_balance", "creditor_balance"),
}
TYPES = {"Utf8": "VARCHAR", "Int64": "BIGINT", "Int32": "INTEGER", "Float64": "DOUBLE", "Boolean": "BOOLEAN", "Date32": "DATE"}


def manumit(args, *words):
    return subprocess.run([args.manumit, "--project", args.project, *words], check=True, capture_output=True, text=True).stdout


def rewritten(sql):
    """The same query in DuckDB's words."""

    def cast(match):
        value, kind = match.groups()
        number = re.fullmatch(r"Decimal128\((\d+), (\d+)\)", kind)
        if number:
            return f"CAST({value} AS DECIMAL({number[1]}, {number[2]}))"
        if kind.startswith("Timestamp(Microsecond"):
            return f"make_timestamp({value})"
        if kind not in TYPES:
            sys.exit(f"arrow_cast to {kind} is not known to this script: add it to TYPES")
        return f"CAST({value} AS {TYPES[kind]})"

    place = r"event_time, concat\(feed, chr\(31\), tx_id\)\)"
    row = "struct_pack(t := event_time, f := feed, i := tx_id))"
    sql = re.sub(r"earliest_by\((.+?), " + place, r"arg_min_null(\1, " + row, sql)
    sql = re.sub(r"latest_by\((.+?), " + place, r"arg_max_null(\1, " + row, sql)
    sql = re.sub(r"event_time AT TIME ZONE '([^']+)'", r"timezone('\1', timezone('UTC', event_time))", sql)
    return re.sub(r"arrow_cast\(([^()]+), '([^']+)'\)", cast, sql)


def feed_select(args):
    """The SELECT of the feed's file; without feed the data have canonical columns."""
    if not args.feed:
        return "SELECT * FROM raw"
    text = (Path(args.project) / "sql" / "feeds" / f"{args.feed}.sql").read_text()
    return text.split("---", 2)[2].strip().rstrip(";")


def tables(args, con):
    """`transactions` and `entries`: the feed's columns, those that are filled, and NULL for all others."""
    files = ", ".join(f"'{path}'" for path in args.data)
    con.execute(f"CREATE VIEW raw AS SELECT * FROM read_parquet([{files}])")
    con.execute(f"CREATE VIEW mapped AS {feed_select(args)}")
    given = {row[0]: row[1] for row in con.execute("DESCRIBE mapped").fetchall()}
    schema = json.loads(manumit(args, "schema", "transactions"))["properties"]
    columns = []
    for name, shape in schema.items():
        amount = "[0-9]{1,4})?$" in shape.get("pattern", "") or "{1,4}" in shape.get("pattern", "")
        kind = "DECIMAL(20, 4)" if amount else "VARCHAR"
        if name == "event_time":
            zone = "WITH TIME ZONE" in given[name]
            value = "timezone('UTC', event_time)" if zone else "event_time"
            columns.append(f"CAST({value} AS TIMESTAMP) AS event_time")
        elif name in given:
            columns.append(f"CAST({name} AS DECIMAL(20, 4)) AS {name}" if amount else name)
        elif name == "entry_type":
            columns.append("'booking' AS entry_type")
        elif name == "amount_base":
            columns.append("CASE WHEN currency = 'EUR' THEN CAST(amount AS DECIMAL(20, 4)) END AS amount_base")
        elif name.endswith("_external"):
            columns.append(f"false AS {name}")
        else:
            columns.append(f"CAST(NULL AS {kind}) AS {name}")
    con.execute(f"CREATE VIEW transactions AS SELECT {', '.join(columns)} FROM mapped")
    side = lambda at: ", ".join(f"{sides[at]} AS {name}" for name, sides in SIDES.items())
    entry = "SELECT '{word}' AS direction, {side}, * FROM transactions WHERE {account} IS NOT NULL AND NOT coalesce({external}, false)"
    out = entry.format(word="out", side=side(0), account="debtor_account", external="debtor_external")
    inward = entry.format(word="in", side=side(1), account="creditor_account", external="creditor_external")
    con.execute(f"CREATE VIEW entries AS {out} UNION ALL {inward}")


def instant(value):
    return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def key(hit):
    return (hit["event_time"], hit.get("tx_id") or "", hit.get("direction") or "", hit["subject"])


def read_hits(path, wanted):
    """Hits by indicator: a list of (key, values)."""
    hits = {id: [] for id in wanted}
    with open(path) as lines:
        for line in lines:
            hit = json.loads(line)
            if hit["indicator"] in hits:
                hits[hit["indicator"]].append((key(hit), hit["values"]))
    for found in hits.values():
        found.sort(key=lambda h: h[0])
    return hits


def duckdb_hits(con, query):
    answer = con.execute(rewritten(query))
    names = [column[0] for column in answer.description]
    rows = []
    while part := answer.fetchmany(100_000):
        for row in part:
            row = dict(zip(names, row))
            row["event_time"] = instant(row["event_time"])
            own = key(row)
            for name in ("event_time", "tx_id", "direction", "subject"):
                row.pop(name, None)
            rows.append((own, {name: value for name, value in row.items() if value is not None}))
    rows.sort(key=lambda h: h[0])
    return rows


def equal(ours, theirs):
    """One value of a hits file, and DuckDB's."""
    if isinstance(theirs, bool) or isinstance(ours, bool):
        return ours == theirs
    if isinstance(theirs, (int, decimal.Decimal)):
        return decimal.Decimal(str(ours)) == decimal.Decimal(theirs)
    if isinstance(theirs, float):
        ours = decimal.Decimal(str(ours))
        last = decimal.Decimal(1).scaleb(max(ours.as_tuple().exponent, -12)) if ours.as_tuple().exponent < 0 else decimal.Decimal("1e-9")
        return abs(ours - decimal.Decimal(theirs)) <= last + abs(ours) * decimal.Decimal("1e-12")
    if isinstance(theirs, datetime.datetime):
        return str(ours)[:26].rstrip("Z") == instant(theirs)[:26].rstrip("Z") or str(ours) == theirs.isoformat()
    return str(ours) == str(theirs)


def differences(ours, theirs, exact=False):
    """At most five of the differences between two sorted lists, and how many there are."""
    count, told, a, b = 0, [], 0, 0
    while a < len(ours) or b < len(theirs):
        if b >= len(theirs) or (a < len(ours) and ours[a][0] < theirs[b][0]):
            what = f"too much: {ours[a]}"
            a += 1
        elif a >= len(ours) or theirs[b][0] < ours[a][0]:
            what = f"missing: {theirs[b]}"
            b += 1
        else:
            mine, other = ours[a][1], theirs[b][1]
            same = mine == other if exact else mine.keys() == other.keys() and all(equal(mine[n], other[n]) for n in mine)
            what = None if same else f"differs: {ours[a]} and {theirs[b]}"
            a, b = a + 1, b + 1
        if what:
            count += 1
            told += [what] if len(told) < 5 else []
    return count, told


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manumit", required=True, help="the program")
    parser.add_argument("--project", required=True, help="folder with the rules")
    parser.add_argument("--data", nargs="+", required=True, help="Parquet files")
    parser.add_argument("--feed", help="feed of the project whose SELECT maps the data [default: canonical columns]")
    parser.add_argument("--hits", action="append", required=True, metavar="NAME=FILE")
    parser.add_argument("--twin", help="suffix of the ids of the same conditions written as SQL")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("ids", nargs="*")
    args = parser.parse_args()
    ids = args.ids or sorted(path.stem for path in (Path(args.project) / "rules" / "indicators").glob("*.toml"))
    if not ids:
        sys.exit(f"{args.project} has no rules/indicators/*.toml: name the indicators")
    files = dict(pair.split("=", 1) for pair in args.hits)
    wanted = ids + ([id + args.twin for id in ids] if args.twin else [])
    found = {name: read_hits(path, wanted) for name, path in files.items()}
    con = duckdb.connect()
    con.execute(f"SET threads = {args.threads}; SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
    tables(args, con)
    width = max(map(len, ids)) + 2
    head = "".join(f"{name:>12}" for name in files) + f"{'duckdb':>12}" + (f"{'as SQL':>12}" if args.twin else "") + "   equal"
    print(f"{'condition':<{width}}{head}")
    bad, total, began = [], 0, time.monotonic()
    for id in ids:
        query = manumit(args, "explain", id, "--sql").split("\n", 1)[1].strip().rstrip(";")
        theirs = duckdb_hits(con, query)
        total += len(theirs)
        row, same = "", True
        for name, hits in found.items():
            count, told = differences(hits[id], theirs)
            row += f"{len(hits[id]):>12}"
            if count:
                same = False
                bad.append(f"{id}: {name} and DuckDB differ {count} times:\n  " + "\n  ".join(told))
        row += f"{len(theirs):>12}"
        if args.twin:
            for name, hits in found.items():
                count, told = differences(hits[id + args.twin], hits[id], exact=True)
                if count:
                    same = False
                    bad.append(f"{id}: {name}, written as SQL, differs {count} times:\n  " + "\n  ".join(told))
            row += f"{len(next(iter(found.values()))[id + args.twin]):>12}"
        if not theirs:
            same = False
            bad.append(f"{id}: DuckDB finds nothing, so nothing was compared: choose another threshold")
        print(f"{id:<{width}}{row}   {'yes' if same else 'NO'}", flush=True)
    print(f"{total} hits of {len(ids)} conditions in DuckDB {duckdb.__version__}, {time.monotonic() - began:.1f} s")
    if bad:
        print("\n" + "\n".join(bad))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
