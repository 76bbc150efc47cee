#!/usr/bin/env python3
"""DataFusion's batch mode: the same queries as DuckDB."""
import sys
from pathlib import Path

import datafusion

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
import answer
import duckdb_bench
from sides import entries


def ask(path, threads):
    context = datafusion.SessionContext(datafusion.SessionConfig().with_target_partitions(threads))
    context.register_parquet("transactions", path)
    context.sql(f"CREATE VIEW entries AS {entries()}").collect()

    def fetch(query):
        batch = context.sql(query).collect()[0]
        return [column[0].as_py() for column in batch.columns]

    return answer.asked(duckdb_bench.combined(Path("benches/t10"), answer.counted), fetch)


answer.tell(f"DataFusion {datafusion.__version__}", ask)
