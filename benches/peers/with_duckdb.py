#!/usr/bin/env python3
"""DuckDB: the queries of benches/t10, those over the same key in one SELECT, each distinct window once."""
import sys
from pathlib import Path

import duckdb

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
import answer
import duckdb_bench
from sides import entries


def ask(path, threads):
    con = duckdb.connect()
    con.execute(f"SET threads = {threads}; SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
    con.execute(f"CREATE VIEW transactions AS SELECT * REPLACE (CAST(timezone('UTC', event_time) AS TIMESTAMP) AS event_time) FROM read_parquet('{path}')")
    con.execute(f"CREATE VIEW entries AS {entries()}")
    queries = duckdb_bench.combined(Path("benches/t10"), answer.counted)
    return answer.asked(queries, lambda query: con.execute(query).fetchone())


answer.tell(f"DuckDB {duckdb.__version__}", ask)
