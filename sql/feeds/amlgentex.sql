---
format = "parquet"
currency = "EUR"                 # the set names none

[raw]
tx_id = "integer"
ts_ms = "integer"
type = "text"
src = "integer"
dst = "integer"
amount_cents = "integer"
src_bank = "text"
dst_bank = "text"
---
-- transactions.parquet of AMLGentex as rules/INDEPENDENT.md brings it. Days only: without a time zone local times stay unknown,
-- so that no rule takes a made-up hour for a night. Accounts below zero are the world outside, not accounts.
SELECT
  tx_id,
  to_timestamp_millis(ts_ms) AT TIME ZONE 'UTC'     AS event_time,
  amount_cents / 100                                AS amount,
  CASE WHEN type = 'CASH' THEN 'cash' WHEN dst < 0 THEN 'card' ELSE 'transfer' END AS method,
  CASE WHEN src >= 0 THEN src END                   AS debtor_account,
  CASE WHEN src >= 0 THEN src_bank END              AS debtor_bank,
  CASE WHEN dst >= 0 THEN dst END                   AS creditor_account,
  CASE WHEN dst >= 0 THEN dst_bank END              AS creditor_bank
FROM raw
