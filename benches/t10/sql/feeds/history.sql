---
format = "parquet"
time_zone = "UTC"
lateness = "0 seconds"
---
-- What benches/data/generate.py --form canonical writes: columns that are canonical already, in the order of their times.
SELECT
  tx_id, event_time, method, channel, amount, currency, debtor_account, creditor_account, mcc, city, country, device_id
FROM raw
