---
format = "jsonl"
topics = ["demo-bank"]
time_zone = "Europe/Berlin"
lateness = "0 seconds"
currency = "EUR"
country = "DE"

[raw]
id = "text"
booked = "timestamp"
amount = "decimal"
currency = "text"
kind = "text"
channel = "text"
debtor = { iban = "text", name = "text", country = "text" }
creditor = { iban = "text", name = "text", country = "text" }
merchant = { mcc = "text", name = "text" }
place = { city = "text", country = "text", lat = "number", lon = "number" }
memo = "text"
depositor = "text"
purpose = "text"
---
-- The bank of `manumit demo`. Ids that begin with EXT- are accounts of other banks.
SELECT
  id                AS tx_id,
  booked            AS event_time,
  amount,
  currency,
  CASE kind
    WHEN 'cash_in'  THEN 'cash'
    WHEN 'cash_out' THEN 'cash'
    WHEN 'refund'   THEN 'card'
    ELSE kind
  END               AS method,
  CASE WHEN kind = 'refund' THEN 'refund' ELSE 'booking' END AS entry_type,
  channel,
  debtor.iban       AS debtor_account,
  debtor.name       AS debtor_name,
  debtor.country    AS debtor_country,
  starts_with(debtor.iban, 'EXT-')   AS debtor_external,
  creditor.iban     AS creditor_account,
  creditor.name     AS creditor_name,
  creditor.country  AS creditor_country,
  starts_with(creditor.iban, 'EXT-') AS creditor_external,
  merchant.mcc      AS mcc,
  merchant.name     AS merchant_name,
  place.city        AS city,
  place.lat         AS latitude,
  place.lon         AS longitude,
  depositor         AS cash_depositor,
  purpose           AS purpose_code,
  memo
FROM raw
