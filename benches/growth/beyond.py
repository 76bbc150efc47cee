#!/usr/bin/env python3
"""The tables of benches/beyond.sh."""
import argparse
import json
import sys
import tempfile
from pathlib import Path

import measure
from measure import Wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("manumit", "folder", "state"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("rows", "runs", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--accounts", type=int, nargs="+", required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        for accounts in args.accounts:
            table(args, accounts, work)


def table(args, accounts, work):
    """All rows in memory, then ever less."""
    data = measure.generated(args.folder, args.rows, accounts)
    command = [args.manumit, "--project", "benches/t10", "backtest", "--data", data, "--threads", args.threads, "--without-evidence"]
    command += ["--segment", "currency", "--out", f"{work}/report"]
    measure.heading(f"{args.rows:,} transactions of {accounts:,} accounts", args.manumit, "benches/beyond.sh")
    measure.header("memory for rows", "transactions/s", "of all in memory", "rows in memory, MiB", "on disk, MiB", "rows moved", "blocks read", "peak of the process, MiB", "hits")
    first = None
    for share in (1, 2, 4, 8):
        settings = {}
        if first:
            settings = {"MANUMIT_STATE_FOLDER": args.state, "MANUMIT_STATE_MEMORY": f"{first['bytes'] // share >> 20}MiB"}
        ran = measure.run(command, args.runs, settings)
        report = json.loads(Path(work, "report/report.json").read_text())
        state, hits = report["state"], {i["id"]: i["hits"] for i in report["indicators"]}
        first = first or {"bytes": state["memory"], "seconds": ran.median(), "hits": hits}
        if hits != first["hits"]:
            raise Wrong(f"other hits with {settings}")
        memory = settings.get("MANUMIT_STATE_MEMORY", "as much as they take")
        measure.row(memory, args.rows / ran.median(), f"{first['seconds'] / ran.median():.2f}", state["memory"] / (1 << 20),
                    state["outside"] / (1 << 20), state["rows_moved"], state["blocks_read"], ran.peak(), sum(hits.values()))


if __name__ == "__main__":
    try:
        main()
    except Wrong as wrong:
        sys.exit(f"no figure: {wrong}")
