#!/usr/bin/env python3
"""Transactions of few, many and busy payers, as one Parquet file with canonical columns, ordered by event time.

    keys.py --case hot --rows 20000000 --out hot.parquet

  uniform   twenty payments an account, at any time of forty days
  hot       the same, but two thirds of all rows are one account's: half of all within thirty days
  burst     the same, but one account pays 100,000 times (a tenth of the rows, if that is less) in one and the same microsecond
  single    every row has an account of its own

It is written slice by slice of time, so that memory does not grow with the number of rows. Equal arguments give equal files.
"""
import argparse

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from generate import START, decimals, names, words

DAYS = 40
SLICE = 500_000


def slices(case, rows, seed):
    """The columns of each slice: times in microseconds from the beginning, payers, payees, whether online, cents."""
    count = -(-rows // SLICE)
    accounts = max(rows // 20, 2)
    burst = min(100_000, rows // 10) if case == "burst" else 0
    length = DAYS * 86_400_000_000
    done = 0
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        wanted = (rows - burst) * (index + 1) // count - (rows - burst) * index // count
        begin, end = length * index // count, length * (index + 1) // count
        time = np.sort(rng.integers(begin, end, wanted))
        payer = rng.integers(1, accounts, wanted)
        if case == "hot":
            payer = np.where(rng.random(wanted) < 2 / 3, 0, payer)
        if case == "single":
            # Not in the order of time: a million other accounts lie between neighbours.
            payer = (np.arange(done, done + wanted, dtype=np.int64) * 1_000_003) % rows if rows % 1_000_003 else np.arange(done, done + wanted)
        if burst and index == count // 2:
            at = int(np.searchsorted(time, (begin + end) // 2))
            time = np.insert(time, at, np.full(burst, (begin + end) // 2))
            payer = np.insert(payer, at, np.zeros(burst, np.int64))
        many = len(time)
        cents = np.clip(np.round(np.exp(rng.normal(3.7, 1.35, many)) * 100), 1, 500_000_000).astype(np.int64)
        yield done, time, payer, rng.integers(0, accounts, many), rng.random(many) < 0.5, cents
        done += many


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=["uniform", "hot", "burst", "single"], required=True)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", required=True)
    a = parser.parse_args()
    writer = None
    for number, time, payer, payee, online, cents in slices(a.case, a.rows, a.seed):
        money, count = decimals(cents * 100, 20, 4), len(time)
        table = pa.table({
            "tx_id": names("T", np.arange(number, number + count), 10),
            "event_time": pa.array(START * 1000 + time).cast(pa.timestamp("us", "UTC")),
            "method": words(["transfer"], np.zeros(count)),
            "channel": words(["branch", "online"], online),
            "amount": money,
            "currency": words(["EUR"], np.zeros(count)),
            "amount_base": money,
            "debtor_account": names("AC", payer, 9),
            "creditor_account": names("PE", payee, 9),
        })
        writer = writer or pq.ParquetWriter(a.out, table.schema, compression="zstd")
        writer.write_table(table, row_group_size=131_072)
    writer.close()


if __name__ == "__main__":
    main()
