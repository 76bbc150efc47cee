#!/usr/bin/env python3
"""Parquet as benches/data/generate.py writes it, as JSON lines: what the feed t10-lines of benches/t10 reads.

    lines.py --data tx.parquet --out tx.jsonl [--rows N]
"""
import argparse
import itertools
import json

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def lines(path, rows=None):
    """One JSON object a row, without line end; times as RFC 3339 in UTC, amounts as texts, so that none is rounded."""

    def every():
        for batch in pq.ParquetFile(path).iter_batches(65_536):
            columns = {}
            for name, column in zip(batch.schema.names, batch.columns):
                if pa.types.is_timestamp(column.type):
                    column = pc.strftime(column, format="%Y-%m-%dT%H:%M:%SZ")
                elif pa.types.is_decimal(column.type):
                    column = column.cast(pa.string())
                columns[name] = column.to_pylist()
            for row in zip(*columns.values()):
                yield json.dumps(dict(zip(columns, row)), separators=(",", ":"))

    return itertools.islice(every(), rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--rows", type=int, help="only the first [default: all]")
    args = parser.parse_args()
    with open(args.out, "w") as out:
        for line in lines(args.data, args.rows):
            out.write(line + "\n")


if __name__ == "__main__":
    main()
