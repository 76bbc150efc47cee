"""What every peer's script takes and tells.

    python benches/peers/with_X.py --data FILE --threads N

The file has canonical columns. Told is one line of JSON: `version`, `seconds` from the first statement to the answer (the start
of the interpreter is not counted), `peak_mib` of the process and what it started, and `hits`: of each condition how many,
and the sum of the numbers in their transaction ids, so that two answers that are equal there are the same set.
"""
import argparse
import json
import os
import time
from pathlib import Path

# The number in a transaction id of benches/data/generate.py, T0000000012, and how SQL takes it out.
NUMBER = "CAST(substr(tx_id, 2) AS BIGINT)"


def peak_mib():
    """Most memory that this process had, and each that it started and that still runs."""
    parents, peaks = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line)
            except OSError:
                continue  # it has just ended
            parents[int(folder.name)] = int(status["PPid"])
            peaks[int(folder.name)] = int(status.get("VmHWM", "0 kB").split()[0])
    total = 0
    for process in peaks:
        ancestor = process
        while ancestor and ancestor != os.getpid():
            ancestor = parents.get(ancestor)
        total += peaks[process] if ancestor else 0
    return total / 1024


def tell(version, ask):
    """Runs `ask(path, threads)`, which gives the hits, and tells. `ask` may return (begin, hits) where not all of it counts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    began = time.monotonic()
    hits = ask(args.data, args.threads)
    if isinstance(hits, tuple):
        began, hits = hits
    seconds = time.monotonic() - began
    hits = {id: [int(count), int(numbers or 0)] for id, (count, numbers) in hits.items()}
    print(json.dumps({"version": version, "seconds": seconds, "peak_mib": peak_mib(), "hits": hits}), flush=True)


def asked(queries, fetch):
    """Hits from queries that give, for each of their conditions, the count and the sum."""
    hits = {}
    for ids, query in queries:
        row = fetch(query)
        hits.update((id, (row[2 * i], row[2 * i + 1])) for i, id in enumerate(ids))
    return hits


def counted(condition):
    """The two numbers of a condition's hits, in SQL."""
    return f"count(*) FILTER (WHERE {condition}), sum({NUMBER}) FILTER (WHERE {condition})"
