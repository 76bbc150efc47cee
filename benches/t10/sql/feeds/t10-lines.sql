---
format = "jsonl"
topics = ["t10"]
time_zone = "UTC"
lateness = "0 seconds"

[raw]
tx_id = "integer"
event_time = "timestamp"
debtor = "text"
creditor = "text"
amount = "decimal"
currency = "text"
channel = "text"
mcc = "integer"
country = "text"
city = "integer"
device = "text"
---
-- What benches/data/lines.py writes: the rows of t10.sql as JSON lines, in the order of their times.
SELECT
  CAST(tx_id AS VARCHAR) AS tx_id,
  event_time,
  amount,
  currency,
  debtor AS debtor_account,
  creditor AS creditor_account,
  device AS device_id,
  CASE channel
    WHEN 'card_present' THEN 'card'
    WHEN 'card_online' THEN 'card'
    WHEN 'instant' THEN 'transfer'
    WHEN 'sepa' THEN 'transfer'
    WHEN 'wallet' THEN 'mobile_money'
    WHEN 'atm' THEN 'cash'
    WHEN 'cash_in' THEN 'cash'
    WHEN 'crypto' THEN 'crypto'
    ELSE 'other'
  END AS method,
  CASE channel
    WHEN 'card_present' THEN 'pos'
    WHEN 'instant' THEN 'mobile'
    WHEN 'wallet' THEN 'mobile'
    WHEN 'atm' THEN 'atm'
    WHEN 'cash_in' THEN 'branch'
    ELSE 'online'
  END AS channel,
  lpad(CAST(mcc AS VARCHAR), 4, '0') AS mcc,
  country,
  CAST(city AS VARCHAR) AS city
FROM raw
