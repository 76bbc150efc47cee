#!/usr/bin/env python3
"""The tables of benches/growth.sh."""
import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import measure
from measure import Wrong

# Sixteen variants of the ten conditions: other filters, which share windows, and then other windows. The first is T10 itself.
FILTERS = [None, "mcc IN ('4829', '6051', '6011', '7995')", "amount >= 50", "country <> 'AE'"]
LENGTHS = [1, 0.5, 0.25, 0.75]
UNITS = {"minutes": 1, "hours": 60, "days": 1440}
CALL = re.compile(r'(?P<call>\w+\((?:[^()]*)\))(?: FILTER \(WHERE (?P<where>.*?)\))? OVER (?P<number>\d+) (?P<unit>\w+)"')


def varied(text, variant, where, minutes):
    """A rule of benches/t10 as another one: each window's filter narrowed, its length given by `minutes`."""

    def call(found):
        parts = [f"({found['where']})"] if found["where"] else []
        parts += [where] if where else []
        narrowed = f" FILTER (WHERE {' AND '.join(parts)})" if parts else ""
        return f'{found["call"]}{narrowed} OVER {minutes(int(found["number"]) * UNITS[found["unit"]])} minutes"'

    text, count = CALL.subn(call, text)
    if count == 0:
        raise Wrong("a rule of benches/t10 has no window: this script does not know its form")
    return re.sub(r'^id = "(.*)"', rf'id = "\1-v{variant:02}"', text, count=1, flags=re.M)


def project(folder, conditions, window=None):
    """A project with that many conditions; with `window`, in minutes, all windows are as long."""
    shutil.rmtree(folder, ignore_errors=True)
    rules = Path(folder) / "rules/indicators"
    rules.mkdir(parents=True)
    sources = sorted(Path("benches/t10/rules/indicators").glob("*.toml"))
    for number in range(conditions):
        variant, source = number // len(sources), sources[number % len(sources)]
        length = LENGTHS[variant // len(FILTERS)]
        minutes = (lambda _: window) if window else (lambda given: max(1, round(given * length)))
        text = varied(source.read_text(), variant, FILTERS[variant % len(FILTERS)], minutes)
        (rules / f"{source.stem}-v{variant:02}.toml").write_text(text)
    return folder


class Growth:
    """Measures one setting after the other."""

    def __init__(self, args, work):
        self.args, self.work, self.checks = args, work, {}

    def data(self, rows, accounts, days):
        return measure.generated(self.args.folder, rows, accounts, days)

    def checked(self, rules, data):
        """Whether DuckDB counts the same hits as the report that lies there."""
        if not self.args.check:
            return "not compared"
        command = [sys.executable, "benches/data/duckdb_bench.py", "--manumit", self.args.manumit, "--project", rules, "--data", data]
        command += ["--threads", self.args.threads, "--temporary", self.work, "--one-by-one", "--report", f"{self.work}/report/report.json"]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if done.returncode != 0:
            raise Wrong((done.stdout + done.stderr).strip().splitlines()[-1])
        return re.search(r"the same (\d+) hits", done.stdout)[1] + ", equal"

    def row(self, label, rules, data, rows, threads=None):
        """One line: median rate, and the same as time for a row and peak memory."""
        threads = threads or self.args.threads
        command = [self.args.manumit, "--project", rules, "backtest", "--data", data, "--threads", threads]
        command += ["--without-evidence", "--segment", "currency", "--out", f"{self.work}/report"]
        try:
            ran = measure.run(command, self.args.runs)
            hits = self.checked(rules, data)
        except Wrong as fault:
            measure.row(label, "", "", "", str(fault))
            return
        measure.row(label, rows / ran.median(), 1e9 * ran.median() / rows, ran.peak(), hits)


def head(words, what):
    print(f"\n{words}\n")
    measure.header(what, "transactions/s", "ns a row", "peak memory, MiB", "hits")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("manumit", "command", "folder"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("rows", "runs", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    measure.heading("Growth", args.manumit, args.command)
    rows = args.rows
    print(f"{rows:,} transactions, {rows // 10:,} accounts, 60 days, ten conditions, {args.threads} threads, unless the line says otherwise; medians of {args.runs}.")
    with tempfile.TemporaryDirectory() as work:
        growth = Growth(args, work)
        usual = growth.data(rows, rows // 10, 60)
        rules = f"{work}/rules"

        head("Conditions: T10 varied in filters (to 40) and in lengths of windows (to 160)", "conditions")
        for conditions in (1, 10, 40, 160):
            growth.row(conditions, project(rules, conditions), usual, rows)
        project(rules, 10)
        head("Keys: paying and paid accounts each; the fewer, the busier", "accounts")
        for accounts in sorted({max(10, rows // share) for share in (10_000, 1_000, 100, 10, 2)}):
            growth.row(accounts, rules, growth.data(rows, accounts, 60), rows)
        head("Windows: all of the same length", "window")
        for words, minutes in (("1 hour", 60), ("1 day", 1440), ("7 days", 10_080), ("30 days", 43_200)):
            growth.row(words, project(rules, 10, minutes), usual, rows)
        project(rules, 10)
        head("History: days of as many transactions each", "days")
        for days in (15, 30, 60, 120, 240):
            many = rows * days // 60
            growth.row(days, rules, growth.data(many, rows // 10, days), many)
        head("Threads", "threads")
        for threads in range(1, args.threads + 1):
            growth.row(threads, rules, usual, rows, threads)
    print()


main()
