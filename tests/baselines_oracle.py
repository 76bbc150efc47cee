"""The tables of `manumit baselines` worked out by DuckDB: ARCHIVE CUSTOMERS.csv TABLES DAY...; ends with 1 at the first difference."""

import csv
import glob
import sys

import duckdb


def tables(archive, customers, day):
    """(baselines, peers) as of a day, as rows of text."""
    db = duckdb.connect()
    db.sql("SET timezone = 'UTC'")
    end = f"TIMESTAMPTZ '{day} 00:00:00+00'"
    files = sorted(glob.glob(f"{archive}/event_date=*/*.parquet"))
    db.sql(
        f"""CREATE TABLE rows_ AS SELECT * FROM read_parquet({files!r}, hive_partitioning = false)
        WHERE NOT late AND event_time < {end} AND event_time >= {end} - INTERVAL '180 days' AND entry_type = 'booking'"""
    )
    sides = [
        f"""SELECT '{direction}' AS direction, {own}_customer AS customer, {other}_account AS party, amount_base, hour(local_time) AS hour,
        least(floor((epoch_us({end}) - epoch_us(event_time)) / 2592000000000)::INT, 5) AS back
        FROM rows_ WHERE {own}_account IS NOT NULL AND {own}_external IS NOT TRUE AND {own}_customer IS NOT NULL
        AND {other}_customer IS DISTINCT FROM {own}_customer"""
        for direction, own, other in (("out", "debtor", "creditor"), ("in", "creditor", "debtor"))
    ]
    db.sql("CREATE TABLE moves AS " + " UNION ALL ".join(sides))
    db.sql(f"CREATE TABLE groups_ AS SELECT customer, segment FROM read_csv('{customers}', all_varchar = true)")
    sums = {}
    for customer, direction, back, amount in db.sql(
        "SELECT customer, direction, back, sum(amount_base) FROM moves GROUP BY ALL"
    ).fetchall():
        sums[customer, direction, back] = amount
    spans = db.sql("SELECT customer, max(back) + 1 FROM moves GROUP BY 1").fetchall()
    db.sql("CREATE TABLE months (customer VARCHAR, inflow DECIMAL(30, 4), outflow DECIMAL(30, 4))")
    db.executemany(
        "INSERT INTO months VALUES (?, ?, ?)",
        [
            (customer, sums.get((customer, "in", back), 0), sums.get((customer, "out", back), 0))
            for customer, span in spans
            for back in range(span)
        ],
    )
    own = db.sql(
        """SELECT m.customer, m.g, m.n, m.i, m.o, m.im, m.om, p.* EXCLUDE (customer) FROM (
          SELECT months.customer, coalesce(segment, 'unknown') AS g, count(*) AS n, quantile_disc(inflow, 0.5) AS i,
            quantile_disc(outflow, 0.5) AS o, max(inflow) AS im, max(outflow) AS om
          FROM months LEFT JOIN groups_ USING (customer) GROUP BY ALL) m
        JOIN (SELECT customer, count(DISTINCT party), count(DISTINCT party) FILTER (direction = 'in'),
            count(DISTINCT party) FILTER (direction = 'out'), quantile_disc(hour, 0.05), quantile_disc(hour, 0.95)
          FROM moves GROUP BY 1) p ON p.customer = m.customer ORDER BY 1"""
    ).fetchall()
    peers = db.sql(
        """SELECT a.g, b.n, i[1], i[2], i[3], o[1], o[2], o[3], k[1], k[2], k[3] FROM (
          SELECT coalesce(segment, 'unknown') AS g, quantile_disc(inflow, [0.5, 0.9, 0.99]) AS i,
            quantile_disc(outflow, [0.5, 0.9, 0.99]) AS o FROM months LEFT JOIN groups_ USING (customer) GROUP BY 1) a
        JOIN (SELECT coalesce(segment, 'unknown') AS g, count(*) AS n, quantile_disc(x, [0.5, 0.9, 0.99]) AS k FROM (
          SELECT customer, count(DISTINCT party) AS x FROM moves GROUP BY 1) LEFT JOIN groups_ USING (customer) GROUP BY 1) b USING (g)
        ORDER BY 1"""
    ).fetchall()
    text = lambda rows: [["" if value is None else str(value) for value in row] for row in rows]
    return {"baselines": text(own), "peers": text(peers)}


def main():
    archive, customers, folder, *days = sys.argv[1:]
    for day in days:
        for name, wanted in tables(archive, customers, day).items():
            with open(f"{folder}/{name}.csv", newline="") as file:
                found = [row[:1] + row[2:] for row in list(csv.reader(file))[1:] if row[1] == day]
            if found != wanted:
                pairs = [pair for pair in zip(found, wanted) if pair[0] != pair[1]][:1]
                print(f"{name} as of {day}: {len(found)} rows, {len(wanted)} by DuckDB; found, wanted: {pairs}")
                sys.exit(1)
            print(f"{name} as of {day}: {len(found)} rows, all values as DuckDB's")


main()
