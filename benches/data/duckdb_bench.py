#!/usr/bin/env python3
"""Runs the conditions of benches/t10 in DuckDB and counts the hits: the other side of benches/backtest50m.sh.

The queries are those of sql/indicators of the project. Those over the same rows and key are asked in one SELECT, each
distinct window once, as somebody would write it who wants DuckDB to be fast; `--one-by-one` runs what
`manumit explain ID --sql` prints, one query after another. With `--report` the counts are compared with those of a
backtest's report.json, whose indicators have the same ids without `-sql`.
"""
import argparse
import json
import re
import sys
import time
from pathlib import Path

import duckdb

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
import duckdb_oracle as oracle

FORM = re.compile(
    r"SELECT .*?\nFROM \(\n  SELECT \*,\n(?P<features>.*?)\n  FROM (?P<table>\w+)\n(?:  WHERE (?P<rows>[^\n]*)\n)?"
    r"  WINDOW (?P<windows>.*?)\n\)\nWHERE (?P<condition>.*)",
    re.S,
)


def combined(project, answer="count(*) FILTER (WHERE {0})".format):
    """By (table, rows, key): a query that counts the hits of all conditions over them, and their ids.

    `answer` says in SQL what is asked of the rows of a condition.
    """
    groups = {}
    for folder in sorted((project / "sql" / "indicators").iterdir()):
        query = (folder / "query.sql").read_text().strip()
        for name, value in re.findall(r"\[params\.(\w+)\]\nvalue = (\S+)", (folder / "indicator.toml").read_text()):
            query = query.replace(f"${name}", value)
        form = FORM.fullmatch(query)
        if not form:
            sys.exit(f"{folder}: query.sql is not written as the others are")
        windows = dict(re.findall(r"(w\d*) AS \((.*?)\)(?:,|$)", form["windows"].replace("\n", " ")))
        key = re.search(r"PARTITION BY (\w+)", form["windows"])[1]
        calls, known, conditions, frames = groups.setdefault((form["table"], form["rows"], key), ([], {}, [], {}))
        condition = form["condition"]
        for call, window, name in re.findall(r"(\S.*?) OVER (w\d*) AS (\w+)", form["features"]):
            frame = frames.setdefault(windows[window], f"w{len(frames)}")
            if (call, frame) not in known:
                known[call, frame] = f"a{len(known)}"
                calls.append(f"{call} OVER {frame} AS {known[call, frame]}")
            condition = re.sub(rf"\b{name}\b", known[call, frame], condition)
        conditions.append((folder.name.removesuffix("-sql"), condition))
    for (table, rows, key), (calls, _, conditions, frames) in groups.items():
        counts = ", ".join(answer(condition) for _, condition in conditions)
        where = f"{key} IS NOT NULL" + (f" AND {rows}" if rows else "")
        window = ", ".join(f"{name} AS ({frame})" for frame, name in frames.items())
        yield [id for id, _ in conditions], f"SELECT {counts} FROM (SELECT *, {', '.join(calls)} FROM {table} WHERE {where} WINDOW {window})"


def one_by_one(args):
    for path in sorted((Path(args.project) / "rules" / "indicators").glob("*.toml")):
        query = oracle.manumit(args, "explain", path.stem, "--sql").split("\n", 1)[1].strip().rstrip(";")
        # All values are worked out, as the backtest does, and only counted.
        yield [path.stem], f"SELECT count(*) FROM ({oracle.rewritten(query)}) WHERE hash(COLUMNS(*)) IS NOT NULL"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manumit", required=True)
    parser.add_argument("--project", required=True)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", default="8GB")
    parser.add_argument("--temporary", required=True)
    parser.add_argument("--one-by-one", action="store_true")
    parser.add_argument("--report")
    args = parser.parse_args()
    args.feed = None
    con = duckdb.connect()
    con.execute(
        f"SET threads = {args.threads}; SET memory_limit = '{args.memory}'; SET temp_directory = '{args.temporary}/duckdb';"
        "SET TimeZone = 'UTC'; SET preserve_insertion_order = false"
    )
    oracle.tables(args, con)
    counts = {}
    for ids, query in one_by_one(args) if args.one_by_one else combined(Path(args.project)):
        began = time.monotonic()
        found = con.execute(query).fetchone()
        counts.update(zip(ids, found))
        print(f"{time.monotonic() - began:8.1f} s  " + ", ".join(f"{id}: {count}" for id, count in zip(ids, found)), flush=True)
    if args.report:
        found = {i["id"]: i["hits"] for i in json.load(open(args.report))["indicators"]}
        wrong = {id: (found.get(id), count) for id, count in counts.items() if found.get(id) != count}
        if wrong:
            print(f"hits of the backtest and of DuckDB differ: {wrong}", file=sys.stderr)
            return 1
        print(f"the backtest counted the same {sum(counts.values())} hits")
    return 0


if __name__ == "__main__":
    sys.exit(main())
