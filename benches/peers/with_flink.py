#!/usr/bin/env python3
"""Apache Flink's SQL as a stream: event time, state on the heap, its mini cluster in one Java.

All windows of one SELECT must be the same there, so the conditions are nine nested SELECTs; FILTER is refused on windows and
written as CASE. It reads two CSV files in step, each in the order of time, which stand for two partitions (its Parquet reader
is a package of its own), and writes hits to files. Making the CSV files and starting Java are not counted.
"""
import os
import sys
import tempfile
import time

import answer
import t10

# What the file holds in place of the transaction id: the number in it.
ROW = """n BIGINT, event_time TIMESTAMP(3), debtor_account STRING, creditor_account STRING, device_id STRING, amount DECIMAL(20, 4),
channel STRING, `method` STRING, country STRING, city STRING"""


def write_partitions(path, folder, count):
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv as csv
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=t10.COLUMNS)
    number = pc.cast(pc.utf8_slice_codeunits(table["tx_id"], 1), pa.int64())
    times = pc.replace_substring(pc.strftime(pc.cast(table["event_time"], pa.timestamp("ms")), "%Y-%m-%d %H:%M:%S"), "T", " ")
    table = table.set_column(0, "n", number).set_column(1, "event_time", times)
    for part in range(count):
        rows = table.take(pa.array(range(part, table.num_rows, count)))
        # Compressed files are not split, so that each is read from its beginning by one reader.
        with pa.CompressedOutputStream(f"{folder}/part-{part}.csv.gz", "gzip") as out:
            csv.write_csv(rows, out, csv.WriteOptions(include_header=False))


def call(function, column, where):
    value = f"`{column}`" if column else "1"
    if where:
        value = f"CASE WHEN {where.replace('method', '`method`')} THEN {value} END"
    elif not column:
        value = "*"
    return f"COUNT(DISTINCT {value})" if function == "count_distinct" else f"{function.upper()}({value})"


def query():
    inner = "tx"
    for (key, hours), features in t10.windows().items():
        length = f"INTERVAL '{hours // 24}' DAY" if hours % 24 == 0 else f"INTERVAL '{hours}' HOUR"
        calls = ", ".join(f"{call(*rest)} OVER w AS {name}" for name, *rest in features)
        frame = f"PARTITION BY {key} ORDER BY event_time RANGE BETWEEN {length} PRECEDING AND CURRENT ROW"
        inner = f"(SELECT *, {calls} FROM {inner} WINDOW w AS ({frame}))"
    mask = " + ".join(f"CASE WHEN {c} THEN {1 << i} ELSE 0 END" for i, c in enumerate(t10.CONDITIONS.values()))
    return f"SELECT n, mask FROM (SELECT n, {mask} AS mask FROM {inner}) WHERE mask > 0"


def ask(path, threads):
    from pyflink.table import EnvironmentSettings, TableEnvironment

    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(f"{folder}/in")
        write_partitions(path, f"{folder}/in", threads)
        environment = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
        settings = environment.get_config()
        settings.set("parallelism.default", str(threads))
        settings.set("pipeline.object-reuse", "true")
        settings.set("taskmanager.numberOfTaskSlots", str(threads))
        # A row of the very time of a watermark counts as late, so it stays a step behind.
        watermark = "WATERMARK FOR event_time AS event_time - INTERVAL '0.001' SECOND"
        environment.execute_sql(f"CREATE TABLE tx ({ROW}, {watermark}) WITH ('connector' = 'filesystem', 'path' = '{folder}/in', 'format' = 'csv')")
        environment.execute_sql(f"CREATE TABLE hits (n BIGINT, mask INT) WITH ('connector' = 'filesystem', 'path' = '{folder}/out', 'format' = 'csv')")
        began = time.monotonic()
        environment.execute_sql(f"INSERT INTO hits {query()}").wait()
        hits = {id: [0, 0] for id in t10.CONDITIONS}
        for parent, _, files in os.walk(f"{folder}/out"):
            for file in files:
                with open(os.path.join(parent, file)) as lines:
                    for line in lines:
                        number, mask = map(int, line.split(","))
                        for i, found in enumerate(hits.values()):
                            if mask >> i & 1:
                                found[0] += 1
                                found[1] += number
        return began, hits


def main():
    import pyflink.version

    os.environ.setdefault("JVM_ARGS", "-Xmx12g -XX:+UseParallelGC")
    os.environ["FLINK_LOG_DIR"] = tempfile.gettempdir()
    answer.tell(f"Flink {pyflink.version.__version__}", ask)
    sys.stdout.flush()


main()
