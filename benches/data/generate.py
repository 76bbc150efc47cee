#!/usr/bin/env python3
"""Transactions with heavy skew, as one Parquet file ordered by event time.

    generate.py --rows 1000000 --out tx.parquet                        as a bank sends them (see benches/t10/sql/feeds/t10.sql)
    generate.py --rows 50000000 --form canonical --out history.parquet columns of `manumit schema transactions`

What makes windows go wrong is in it on purpose:
  * ten merchants get 1 % of all payments each, payers and payees follow a power law
  * a third of the times are cut to seconds, some to minutes
  * bursts: a payer pays again in the very same millisecond
  * follow-ups exactly 1 hour, 24 hours, 7 days or 30 days after an earlier payment of the same two accounts
  * a few hundred devices are shared by many payers

It is written slice by slice of time, so that memory does not grow with the number of rows. Equal arguments give equal files.
"""
import argparse
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

DAY = 86_400_000
START = 1_767_225_600_000  # 2026-01-01T00:00:00Z, milliseconds
WINDOWS = np.array([DAY // 24, DAY, 7 * DAY, 30 * DAY])
CHANNELS = ["card_present", "card_online", "instant", "sepa", "wallet", "atm", "cash_in", "crypto"]
SHARES = [0.30, 0.24, 0.14, 0.12, 0.10, 0.05, 0.03, 0.02]
# The same as canonical words; the feed of benches/t10 says it in SQL.
METHODS = ["card", "card", "transfer", "transfer", "mobile_money", "cash", "cash", "crypto"]
PLACES = ["pos", "online", "mobile", "online", "mobile", "atm", "branch", "online"]
CODES = np.array([5411, 5812, 5541, 5999, 4829, 6051, 6011, 7995, 5732, 4111, 5912, 5311])
COUNTRIES = [a + b for a in "ABCDEFGHIJ" for b in "EGNRTU"]
HOURS = np.array([2, 1, 1, 1, 1, 2, 4, 7, 9, 10, 11, 12, 12, 11, 10, 10, 11, 12, 12, 11, 9, 7, 5, 3], float)


def power_law(count, exponent):
    """Cumulated probabilities; no one but the merchants has more than a two-thousandth of the rows."""
    weight = 1.0 / np.arange(1, count + 1) ** exponent
    weight = np.minimum(weight / weight.sum(), 0.0005)
    return np.cumsum(weight / weight.sum())


def decimals(numbers, precision, scale):
    """Whole numbers of the smallest unit as decimals, without rounding."""
    words = np.empty((len(numbers), 2), np.int64)
    words[:, 0] = numbers
    words[:, 1] = numbers >> 63
    return pa.Array.from_buffers(pa.decimal128(precision, scale), len(numbers), [None, pa.py_buffer(words)])


def names(prefix, numbers, width):
    digits = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), width, "0")
    return pc.binary_join_element_wise(pa.scalar(prefix), digits, pa.scalar(""))


def words(table, codes):
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(table)).cast(pa.string())


class Bank:
    def __init__(self, rows, accounts, days, seed):
        self.rows, self.accounts, self.days, self.seed = rows, accounts, days, seed
        self.law = power_law(accounts, 0.75)
        shuffle = np.random.default_rng([seed, 1 << 30])
        self.payers, self.payees = shuffle.permutation(accounts), shuffle.permutation(accounts)
        self.later = []  # (time, payer, payee): follow-ups that lie ahead
        self.number = 0

    def pick(self, rng, people, count):
        return people[np.minimum(np.searchsorted(self.law, rng.random(count)), self.accounts - 1)]

    def slice(self, index, slices):
        """The rows of one slice of time, ordered."""
        rng = np.random.default_rng([self.seed, index])
        begin, end = self.days * DAY * index // slices, self.days * DAY * (index + 1) // slices
        wanted = self.rows * (index + 1) // slices - self.rows * index // slices
        due = [part[:, (part[0] >= begin) & (part[0] < end)] for part in self.later]
        due = np.concatenate(due, axis=1) if due else np.empty((3, 0), np.int64)
        due = due[:, : wanted // 2]
        self.later = [part[:, part[0] >= end] for part in self.later]
        self.later = [part for part in self.later if part.shape[1]]
        fresh = wanted - due.shape[1]
        time = rng.integers(begin, end, fresh)
        # More by day than by night: an hour drawn anew where it lies in the slice.
        hour = rng.choice(24, size=fresh, p=HOURS / HOURS.sum())
        moved = time // DAY * DAY + hour * (DAY // 24) + time % (DAY // 24)
        time = np.where((moved >= begin) & (moved < end), moved, time)
        cut = rng.random(fresh)
        time = np.where(cut < 0.02, time // 60_000 * 60_000, np.where(cut < 0.32, time // 1000 * 1000, time))
        time = np.maximum(time, begin)
        payer, payee = self.pick(rng, self.payers, fresh), self.pick(rng, self.payees, fresh)
        merchant = rng.random(fresh) < 0.10
        payee = np.where(merchant, self.accounts + rng.integers(0, 10, fresh), payee)
        burst = int(fresh * 0.005)
        source, target = rng.integers(0, fresh, burst), rng.integers(0, fresh, burst)
        time[target], payer[target] = time[source], payer[source]
        time, payer, payee = (np.concatenate(pair) for pair in zip((time, payer, payee), due))
        order = np.argsort(time, kind="stable")
        time, payer, payee = time[order], payer[order], payee[order]
        again = rng.integers(0, wanted, int(wanted * 0.012))
        self.later.append(np.stack([time[again] + rng.choice(WINDOWS, len(again)), payer[again], payee[again]]))
        return rng, time, payer, payee

    def table(self, index, slices, form):
        rng, time, payer, payee = self.slice(index, slices)
        count = len(time)
        channel = rng.choice(len(CHANNELS), count, p=SHARES)
        cents = np.clip(np.round(np.exp(rng.normal(3.7, 1.35, count)) * 100), 1, 500_000_000).astype(np.int64)
        cents = np.where(rng.random(count) < 0.01, rng.integers(90_000, 100_000, count), cents)
        home = payer * 2_654_435_761 % 97
        country = np.where(rng.random(count) < 0.93, home % 30, rng.integers(0, 60, count))
        city = np.where(rng.random(count) < 0.85, payer * 40_503 % 1000, rng.integers(0, 1000, count))
        device = payer * 2 + (rng.random(count) < 0.2)
        shared = rng.random(count) < 0.004
        device = np.where(shared, 2 * (self.accounts + 10) + rng.integers(0, 200, count), device)
        code = rng.choice(CODES, count)
        currency = rng.choice(5, count, p=[0.7, 0.15, 0.08, 0.04, 0.03])
        number = np.arange(self.number, self.number + count)
        self.number += count
        if form == "raw":
            return pa.table({
                "tx_id": pa.array(number),
                "event_time": pa.array(START + time).cast(pa.timestamp("ms")),
                "debtor": names("AC", payer, 9),
                "creditor": names("AC", payee, 9),
                "amount": decimals(cents, 12, 2),
                "currency": words(["EUR", "USD", "GBP", "CHF", "SEK"], currency),
                "channel": words(CHANNELS, channel),
                "mcc": pa.array(code.astype(np.int32)),
                "country": words(COUNTRIES, country),
                "city": pa.array(city.astype(np.int32)),
                "device": names("dev", device, 9),
            })
        money = decimals(cents * 100, 20, 4)
        return pa.table({
            "tx_id": names("T", number, 10),
            "event_time": pa.array((START + time) * 1000).cast(pa.timestamp("us", "UTC")),
            "method": words(METHODS, channel),
            "channel": words(PLACES, channel),
            "amount": money,
            "currency": words(["EUR"], np.zeros(count)),
            "amount_base": money,
            "debtor_account": names("AC", payer, 9),
            "creditor_account": names("AC", payee, 9),
            "mcc": names("", code, 4),
            "city": names("", city, 1),
            "country": words(COUNTRIES, country),
            "device_id": names("dev", device, 9),
        })


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--accounts", type=int, help="paying and paid accounts each [default: a tenth of the rows]")
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--form", choices=["raw", "canonical"], default="raw")
    parser.add_argument("--out", required=True)
    a = parser.parse_args()
    bank = Bank(a.rows, a.accounts or max(a.rows // 10, 10), a.days, a.seed)
    slices = max(a.days, -(-a.rows // 1_000_000))
    writer = None
    for index in range(slices):
        table = bank.table(index, slices, a.form)
        if writer is None:
            writer = pq.ParquetWriter(a.out, table.schema, compression="zstd")
        writer.write_table(table, row_group_size=131_072)
    writer.close()
    print(f"{bank.number} rows over {a.days} days in {a.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
