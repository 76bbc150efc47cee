#!/usr/bin/env python3
"""Polars: its rolling groups, one for each window, as it has no condition over several of them."""
import os
import sys

sys.path.insert(0, os.path.dirname(__file__))
import answer
import t10


def aggregate(pl, function, column, where):
    values = pl.col(column or "event_time")
    if where:
        values = values.filter(pl.sql_expr(where))
    return {"count": values.len, "count_distinct": values.n_unique, "sum": values.sum, "min": values.min, "max": values.max}[function]()


def ask(path, threads):
    import polars as pl

    rows = pl.read_parquet(path, columns=t10.COLUMNS)
    hits = {}
    for key in t10.FEATURES:
        # In the order that rolling groups come in, so that features are set beside the rows without a join.
        rows = rows.sort(key, "event_time", maintain_order=True)
        found = rows
        for (of, hours), features in t10.windows().items():
            if of != key:
                continue
            rolled = rows.rolling("event_time", group_by=key, period=f"{hours}h", closed="both").agg(
                [aggregate(pl, *rest).alias(name) for name, *rest in features]
            )
            assert rolled[key].equals(rows[key]) and rolled["event_time"].equals(rows["event_time"])
            found = found.hstack(rolled.select(name for name, *_ in features))
        number = pl.col("tx_id").str.slice(1).cast(pl.Int64)
        for id, condition in t10.CONDITIONS.items():
            if condition.split()[0] in t10.FEATURES[key]:
                held = found.filter(pl.sql_expr(condition)).select(pl.len().alias("count"), number.sum().alias("sum"))
                hits[id] = held.row(0)
    return hits


def main():
    # Polars makes its threads when it is loaded.
    os.environ["POLARS_MAX_THREADS"] = sys.argv[sys.argv.index("--threads") + 1]
    import polars

    answer.tell(f"Polars {polars.__version__}", ask)


main()
