---
format = "csv"
currency = "EUR"                 # the set names none

[raw]
step = "integer"                 # hours since it began
type = "text"
amount = "decimal"
nameOrig = "text"
nameDest = "text"
---
-- Sets of the shape that PaySim has: mobile money, hours instead of times, no ids. Its hours are of no place: without a time zone
-- local times stay unknown, so that no rule takes one for a night.
SELECT
  record_number                                                   AS tx_id,
  to_timestamp_seconds(1735689600 + step * 3600) AT TIME ZONE 'UTC' AS event_time,   -- as if step 0 were 2025-01-01
  amount,
  CASE type
    WHEN 'CASH_IN' THEN 'cash' WHEN 'CASH_OUT' THEN 'cash' WHEN 'PAYMENT' THEN 'card' WHEN 'DEBIT' THEN 'direct_debit'
    ELSE 'transfer'
  END                                                             AS method,
  CASE WHEN type = 'CASH_OUT' THEN 'agent' END                    AS channel,
  -- In CASH_IN rows the customer who pays in stands first, and the agent second.
  CASE WHEN type <> 'CASH_IN' THEN nameOrig END                   AS debtor_account,
  CASE type WHEN 'CASH_IN' THEN nameOrig WHEN 'TRANSFER' THEN nameDest END AS creditor_account,
  CASE WHEN type = 'PAYMENT' THEN nameDest END                    AS merchant_id
FROM raw
