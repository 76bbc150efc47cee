#!/usr/bin/env python3
"""The table of benches/keys.sh."""
import argparse
import re
import subprocess
import sys
import tempfile

import duckdb

import measure
from measure import Wrong

CASES = {
    "uniform": "twenty payments a key",
    "hot": "one key has two thirds of the rows",
    "burst": "one key has a burst of equal times",
    "single": "every key has one row",
}
RULE = "payer"


def backtest(args, project, data, work, *more):
    return [
        args.manumit, "--project", project, "backtest", "--data", data, "--threads", args.threads,
        "--without-evidence", "--segment", "currency", "--out", f"{work}/report", *more,
    ]  # fmt: skip


def estimate(args, data):
    """MiB of state that `manumit explain` lets expect at the end of the file, and what it is worked out from."""
    told = measure.output(args.manumit, "--project", "benches/keys", "explain", RULE)
    found = re.search(r"about (\d+) bytes a row, kept for (\d+) days, and (\d+) bytes a key", told)
    if not found:
        raise Wrong(f"`manumit explain {RULE}` names no state: {told}")
    a_row, days, a_key = map(int, found.groups())
    query = f"SELECT count(*), count(DISTINCT debtor_account) FROM '{data}' WHERE event_time >= (SELECT max(event_time) FROM '{data}') - INTERVAL {days} DAY"
    rows, keys = duckdb.connect().execute(query).fetchone()
    return (rows * a_row + keys * a_key) / (1 << 20), rows, keys


def checked(args, data, work):
    """Holds the hits, with their values, to DuckDB's; says what it found, and raises Wrong where they differ."""
    measure.run(backtest(args, "benches/keys", data, work, "--hits", f"{work}/hits.jsonl"))
    hits = sum(1 for _ in open(f"{work}/hits.jsonl"))
    oracle = [sys.executable, "tests/duckdb_oracle.py", "--manumit", args.manumit, "--project", "benches/keys", "--data", data]
    try:
        done = subprocess.run(oracle + ["--hits", f"backtest={work}/hits.jsonl", RULE], capture_output=True, text=True, timeout=args.patience)
    except subprocess.TimeoutExpired:
        return f"{hits:,}, not compared: DuckDB took more than {args.patience} s"
    if done.returncode < 0 or "Out of Memory" in done.stderr:
        return f"{hits:,}, not compared: DuckDB had not memory enough"
    if done.returncode != 0:
        raise Wrong("hits are not DuckDB's: " + (done.stdout + done.stderr).strip().splitlines()[-1])
    return f"{hits:,}, equal"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("manumit", "command", "folder"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("rows", "runs", "threads", "patience"):
        parser.add_argument(f"--{name}", type=int, required=True)
    args = parser.parse_args()
    measure.heading("Hot and huge keys", args.manumit, args.command)
    print(f"{args.rows:,} transactions over 40 days, windows of 1 hour to 30 days, {args.threads} threads, medians of {args.runs}:\n")
    measure.header(
        "case", "transactions/s", "of uniform", "peak memory, MiB", "of it state", "explain expects", "rows kept", "keys kept", "hits"
    )  # fmt: skip
    uniform = None
    with tempfile.TemporaryDirectory() as work:
        for case, words in CASES.items():
            data = f"{args.folder}/keys-{case}-{args.rows}.parquet"
            try:
                hits = checked(args, data, work)
                expected, rows, keys = estimate(args, data)
                without = measure.run(backtest(args, "benches/nothing", data, work))
                ran = measure.run(backtest(args, "benches/keys", data, work), args.runs)
            except Wrong as fault:
                measure.row(words, *[""] * 7, str(fault))
                continue
            rate = args.rows / ran.median()
            uniform = uniform or rate
            measure.row(words, rate, f"{rate / uniform:.2f}", ran.peak(), ran.peak() - without.peak(), expected, rows, keys, hits)


main()
