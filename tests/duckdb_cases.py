#!/usr/bin/env python3
"""DuckDB's answers to random cases of the standing oracle; `tests/nightly.sh` runs it.

    duckdb_cases.py --reference FOLDER

reads folders from standard input, a line each, and answers each with a line of JSON. A folder holds a case:
`transactions.parquet` (the rows that were on time) and `case.json`: of each indicator the queries that it means, as the
program prints them, and the hits of the stream, values as text. DuckDB runs the queries, and both sets of hits must be
equal, each with its values. An answer tells how much was compared, and what differs or was refused (`told`). Lists and
reference tables are Parquet files in the folder given.

`duckdb_oracle.rewritten` says what is written otherwise for DuckDB. Functions of the program that DuckDB lacks are told anew
here: `in_list` and `in_mcc_group` from the tables, `is_night`, `date_bin`, and `top_share` over the list of all rows of
a window.
"""
import argparse
import json
import re
import sys
from pathlib import Path

import duckdb

from duckdb_oracle import SIDES, equal, instant, key, rewritten

MACROS = """
CREATE OR REPLACE MACRO is_night(t) AS hour(t) >= 22 OR hour(t) < 6;
CREATE OR REPLACE MACRO date_bin(width, t) AS time_bucket(width, t, TIMESTAMP '1970-01-01');
CREATE OR REPLACE MACRO top_share_groups(rows) AS list_transform(
  list_distinct(list_transform(rows, lambda r: r.x)),
  lambda x: list_sum(list_transform(list_filter(rows, lambda r: r.x = x), lambda r: r.w)));
CREATE OR REPLACE MACRO top_share_of(groups) AS CASE WHEN list_sum(groups) > 0
  THEN CAST(list_max(groups) * 1000000 // list_sum(groups) AS DECIMAL(20, 0)) * 0.000001 END;
CREATE OR REPLACE MACRO top_share(rows) AS
  top_share_of(top_share_groups(list_filter(rows, lambda r: r.x IS NOT NULL AND r.w IS NOT NULL)));
"""


def balanced(sql, at):
    """The place behind the parenthesis that closes the one at `at`."""
    depth = 0
    while True:
        if sql[at] == "'":
            at = sql.index("'", at + 1)
        depth += {"(": 1, ")": -1}.get(sql[at], 0)
        at += 1
        if depth == 0:
            return at


def arguments(text):
    """Parts between commas that stand in no parentheses."""
    parts, depth, start, quoted = [], 0, 0, False
    for at, letter in enumerate(text):
        quoted ^= letter == "'"
        depth += 0 if quoted else {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0 and not quoted:
            parts.append(text[start:at].strip())
            start = at + 1
    return parts + [text[start:].strip()]


def shares_over_lists(sql):
    """`top_share(x, w) FILTER (…) OVER (…)` over the list of all its rows; weights as whole numbers."""
    while found := re.search(r"\btop_share\((?!list\()", sql):
        end = balanced(sql, found.end() - 1)
        x, *weight = arguments(sql[found.end() : end - 1])
        weight = f"CAST(CAST({weight[0]} AS DECIMAL(20, 4)) * 10000 AS HUGEINT)" if weight else "CAST(1 AS HUGEINT)"
        call = f"list(struct_pack(x := {x}, w := {weight}))"
        for clause in (r" FILTER \(", r" OVER \("):
            if more := re.compile(clause).match(sql, end):
                stop = balanced(sql, more.end() - 1)
                call, end = call + sql[end:stop], stop
        sql = sql[: found.start()] + f"top_share({call})" + sql[end:]
    return sql


def table(con, path):
    """A file as a table of its name; gives the columns."""
    described = con.execute(f"DESCRIBE SELECT * FROM read_parquet('{path}')").fetchall()
    # Instants are UTC without zone here.
    zoned = lambda name, kind: f"timezone('UTC', {name}) AS {name}" if "WITH TIME ZONE" in kind else name
    select = ", ".join(zoned(row[0], row[1]) for row in described)
    con.execute(f"CREATE OR REPLACE TABLE {path.stem} AS SELECT {select} FROM read_parquet('{path}')")
    return [row[0] for row in described]


def tables(con, folder):
    """`transactions`, and the two sides of each as `entries`."""
    con.execute("DROP VIEW IF EXISTS entries")
    given = table(con, folder / "transactions.parquet")
    sides = {name: pair for name, pair in SIDES.items() if pair[0] in given and pair[1] in given}
    side = lambda at: ", ".join(f"{pair[at]} AS {name}" for name, pair in sides.items())
    entry = "SELECT '{word}' AS direction, {side}, * FROM transactions WHERE {party}_account IS NOT NULL AND NOT coalesce({party}_external, false)"
    out, inward = entry.format(word="out", side=side(0), party="debtor"), entry.format(word="in", side=side(1), party="creditor")
    con.execute(f"CREATE VIEW entries AS {out} UNION ALL {inward}")


def look_ups(con):
    """`in_list` and `in_mcc_group`, spelled out: sub-queries may not stand in windows."""
    cases = ["false"]
    for name, value, begin, end in con.execute("SELECT list, value, valid_from, valid_to FROM lists").fetchall():
        valid = [f"t >= TIMESTAMP '{begin}'"] if begin else []
        valid += [f"t < TIMESTAMP '{end}'"] if end else []
        cases.append(" AND ".join([f"l = '{name}'", f"lower(trim(v)) = '{value}'", *valid]))
    con.execute(f"CREATE OR REPLACE MACRO in_list(v, l, t) AS CASE WHEN v IS NOT NULL THEN {' OR '.join(cases)} END")
    groups = ["false"] + [f"g = '{g}' AND m = '{m}'" for g, m in con.execute("SELECT mcc_group, mcc FROM mcc_groups").fetchall()]
    con.execute(f"CREATE OR REPLACE MACRO in_mcc_group(m, g) AS CASE WHEN m IS NOT NULL THEN {' OR '.join(groups)} END")


def answer(con, query):
    found = con.execute(shares_over_lists(rewritten(query)))
    names = [column[0] for column in found.description]
    hits = []
    for row in found.fetchall():
        row = dict(zip(names, row))
        row["event_time"] = instant(row["event_time"])
        own = key(row)
        hits.append((own, {name: row[name] for name in names if name not in ("event_time", "tx_id", "direction", "subject")}))
    return hits


def same(ours, theirs):
    """One value of the stream, which is text or a float, and DuckDB's."""
    if ours == "NULL" or theirs is None:
        return ours == "NULL" and theirs is None
    if isinstance(theirs, bool):
        return ours == str(theirs).lower()
    if hasattr(theirs, "isoformat"):
        seconds, _, part = ours.rstrip("Z").partition(".")
        return f"{seconds}.{part:0<6}Z" == instant(theirs)
    if isinstance(ours, float):
        return abs(ours - float(theirs)) <= 1e-9 * max(1.0, abs(ours))
    return equal(ours, theirs)


def differences(ours, theirs):
    """At most twelve of the differences between two sets of hits. A keyed query may give several hits that differ in their
    values only."""
    sets = {}
    for side, hits in enumerate((ours, theirs)):
        for own, values in hits:
            sets.setdefault(own, ([], []))[side].append(values)
    told = []
    for own, (mine, others) in sorted(sets.items()):
        others = list(others)
        for values in mine:
            found = next((o for o in others if o.keys() == values.keys() and all(same(values[n], o[n]) for n in o)), None)
            if found is None:
                told.append(f"too much: {own} {values}")
            else:
                others.remove(found)
        told += [f"missing:  {own} {values}" for values in others]
    return told[:12]


def compare(con, folder):
    """What was compared of a case, and what differs."""
    case = json.loads((folder / "case.json").read_text())
    tables(con, folder)
    done = {"indicators": 0, "hits": 0, "told": None}
    for indicator in case["indicators"]:
        ours = [(tuple(hit["key"]), hit["values"]) for hit in indicator["hits"]]
        try:
            theirs = [hit for query in indicator["queries"] for hit in answer(con, query)]
        except duckdb.Error as error:
            done["told"] = f"{indicator['id']}: DuckDB refuses: {error}\n" + "\n".join(indicator["queries"])
            break
        if told := differences(ours, theirs):
            done["told"] = f"{indicator['id']}: {len(ours)} hits against {len(theirs)}:\n  " + "\n  ".join(told)
            break
        done["indicators"] += 1
        done["hits"] += len(ours)
    return done


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", required=True, type=Path, metavar="FOLDER")
    args = parser.parse_args()
    con = duckdb.connect()
    con.execute("SET threads = 1; SET memory_limit = '3GB'; SET TimeZone = 'UTC'; SET default_null_order = 'nulls_last_on_asc_first_on_desc'")
    con.execute(MACROS)
    for path in args.reference.glob("*.parquet"):
        table(con, path)
    look_ups(con)
    for line in sys.stdin:
        print(json.dumps(compare(con, Path(line.strip()))), flush=True)


if __name__ == "__main__":
    main()
