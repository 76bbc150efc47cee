#!/usr/bin/env python3
"""ClickHouse, in the process (chdb): all windows of one key in one SELECT.

It knows no RANGE over times with intervals, and takes offsets of 32 bits only: times are milliseconds divided by 128, which a
float holds exactly, and which makes whole numbers of all windows. `FILTER` and `DISTINCT` are functions' names there.
"""
import chdb

import answer
import t10


def call(function, column, where):
    name = {"count": "count", "count_distinct": "uniqExact", "sum": "sum", "min": "min", "max": "max"}[function]
    # Of no rows it gives 0 where SQL gives NULL.
    name += "OrNull" if function in ("sum", "min", "max") else ""
    arguments = [argument for argument in (column, where) if argument]
    return f"{name}{'If' if where else ''}({', '.join(arguments)})"


def queries(path, threads):
    columns = ", ".join(name for name in t10.COLUMNS if name != "event_time")
    for key, features in t10.FEATURES.items():
        windows = {hours for hours, *_ in features.values()}
        calls = ", ".join(f"{call(*rest)} OVER w{hours} AS {name}" for name, (hours, *rest) in features.items())
        frames = ", ".join(
            f"w{hours} AS (PARTITION BY {key} ORDER BY at RANGE BETWEEN {hours * 3_600_000 // 128} PRECEDING AND CURRENT ROW)" for hours in sorted(windows)
        )
        conditions = {id: c for id, c in t10.CONDITIONS.items() if c.split()[0] in features}
        wanted = ", ".join(f"countIf({c}), sumIf(toInt64(substring(tx_id, 2)), {c})" for c in conditions.values())
        rows = f"SELECT {columns}, toFloat64(toUnixTimestamp64Micro(event_time)) / 128000 AS at FROM file('{path}', Parquet)"
        yield list(conditions), f"SELECT {wanted} FROM (SELECT tx_id, amount, {calls} FROM ({rows}) WINDOW {frames}) SETTINGS max_threads = {threads}"


def ask(path, threads):
    def fetch(query):
        return [int(value) for value in str(chdb.query(query, "CSV")).replace("\\N", "0").strip().split(",")]

    return answer.asked(queries(path, threads), fetch)


answer.tell(f"chdb {chdb.__version__} (ClickHouse {chdb.engine_version})", ask)
