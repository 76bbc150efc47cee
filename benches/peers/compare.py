#!/usr/bin/env python3
"""The table of benches/peers.sh."""
import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as parquet

import measure
from measure import Wrong

PEERS = {"duckdb": "DuckDB", "polars": "Polars", "chdb": "chdb (ClickHouse)", "datafusion": "DataFusion, batch", "flink": "Flink SQL, stream"}


class System:
    """Something that answers: `once()` gives seconds, peak MiB and hits (of Manumit counts only)."""

    def __init__(self, name, once):
        self.name, self.once = name, once
        self.seconds, self.mib, self.fault = [], [], None

    def turn(self, truth):
        """One more run, unless it failed before."""
        if self.fault:
            return
        try:
            seconds, mib, wrong = self.once(truth)
            if wrong:
                raise Wrong(f"hits are not DuckDB's: {wrong}")
        except Wrong as fault:
            self.fault = str(fault)
            return
        self.seconds.append(seconds)
        self.mib.append(mib)


def differing(found, truth):
    """Conditions whose hits differ."""
    return ", ".join(f"{id} has {found.get(id)}, not {truth[id]}" for id in sorted(truth) if found.get(id) != truth[id])


def peer(args, name, data, systems):
    """A peer's script, run anew each time; its version goes into the name."""
    python = args.flink_python if name == "flink" else args.python

    def told():
        command = [python, f"benches/peers/with_{name}.py", "--data", data, "--threads", str(args.threads)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=args.patience)
        except subprocess.TimeoutExpired:
            raise Wrong(f"no answer within {args.patience} s") from None
        lines = done.stdout.strip().splitlines()
        if done.returncode != 0 or not lines:
            last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
            raise Wrong(f"not measured: {last}")
        return json.loads(lines[-1])

    def once(truth):
        answer = told()
        system.name = f"{PEERS[name]} {answer['version'].split(' ', 1)[1].split(' ')[0]}"
        return answer["seconds"], answer["peak_mib"], differing(answer["hits"], truth)

    system = System(PEERS[name], once)
    systems.append(system)
    return told


def manumit(args, project, data, work, systems):
    """Backtest and stream; the hits of both, written in full once, are held to the peers' before anything is timed."""
    base = [args.manumit, "--project", project]
    threads = ["--threads", args.threads]
    backtest = base + ["backtest", "--data", data, "--without-evidence", "--segment", "currency", "--out", f"{work}/report", *threads]
    sinks = [word for what in ("alerts", "late", "dead-letters") for word in (f"--{what}", f"{work}/{what}.jsonl")]
    stream = base + ["run", "--feed", "history", "--from", data, *sinks, *threads]

    def full(command):
        measure.run(command + ["--hits", f"{work}/hits.jsonl"])
        hits = {}
        with open(f"{work}/hits.jsonl") as lines:
            for line in lines:
                hit = json.loads(line)
                found = hits.setdefault(hit["indicator"], [0, 0])
                found[0] += 1
                found[1] += int(hit["tx_id"][1:])
        return hits

    checked = {}

    def once(name, command, counts):
        def of(truth):
            if name not in checked:
                hits = full(command)
                checked[name] = differing({id: hits.get(id, [0, 0]) for id in truth}, truth)
            if checked[name]:
                return 0, 0, checked[name]
            ran = measure.run(command)
            return ran.seconds[0], ran.mib[0], counts(ran.output, truth)

        return of

    def reported(_, truth):
        found = {i["id"]: [i["hits"], truth[i["id"]][1]] for i in json.load(open(f"{work}/report/report.json"))["indicators"]}
        return differing(found, truth)

    def summed(output, truth):
        found, wanted = re.search(r"^([0-9]+) hits", output, re.M), sum(count for count, _ in truth.values())
        return None if found and int(found[1]) == wanted else f"{found and found[1]} in all, not {wanted}"

    systems.append(System("Manumit backtest", once("backtest", backtest, reported)))
    systems.append(System("Manumit run (stream)", once("stream", stream, summed)))


def table(args, data, names, work):
    """Measures and prints one table."""
    rows = parquet.read_metadata(data).num_rows
    project = Path(work) / "t10"
    # Without sql/indicators, where the same conditions stand once more.
    shutil.rmtree(project, ignore_errors=True)
    shutil.copytree("benches/t10/rules", project / "rules")
    shutil.copytree("benches/t10/sql/feeds", project / "sql" / "feeds")
    systems = []
    manumit(args, project, data, work, systems)
    told = {name: peer(args, name, data, systems) for name in names}
    truth = told["duckdb"]()["hits"]
    for _ in range(args.runs):
        for system in systems:
            system.turn(truth)
    print(f"{rows:,} transactions, {sum(count for count, _ in truth.values()):,} hits, {args.threads} threads, medians of {args.runs}:\n")
    measure.header("system", "seconds", "transactions/s", "peak memory, MiB", "Manumit backtest is faster", "hits")
    first = systems[0]
    for system in systems:
        if system.fault:
            measure.row(system.name, "", "", "", "", system.fault)
            continue
        seconds = statistics.median(system.seconds)
        ratio = "" if system.name.startswith("Manumit") or first.fault else f"{seconds / statistics.median(first.seconds):,.2f} ×"
        measure.row(system.name, f"{seconds:.2f}", rows / seconds, statistics.median(system.mib), ratio, "equal")
    print()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("manumit", "data", "flink-data", "python", "flink-python"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("runs", "threads", "patience"):
        parser.add_argument(f"--{name}", type=int, required=True)
    args = parser.parse_args()
    measure.heading("Ten conditions, beside other systems", args.manumit, "benches/peers.sh")
    with tempfile.TemporaryDirectory() as work:
        try:
            table(args, args.data, ["duckdb", "polars", "chdb", "datafusion"], work)
            table(args, args.flink_data, ["duckdb", "flink"], work)
        except Wrong as fault:
            # Without DuckDB's answer nothing can be held to anything.
            sys.exit(f"DuckDB: {fault}")
    print(
        "Every peer can say all ten conditions. DuckDB and DataFusion run the queries of sql/indicators, one a key; ClickHouse takes no\n"
        "intervals in RANGE, so times are numbers there; Polars joins one rolling group a window beside the rows; Flink takes one window\n"
        "a SELECT and no FILTER on windows, so it runs nine nested SELECTs with CASE, as a stream, over the rows as CSV. dbsp is left out:\n"
        "it needs a Rust build of half an hour and has no rolling count of different values, least or greatest."
    )


main()
