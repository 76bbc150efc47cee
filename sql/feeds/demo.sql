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
entry = "text"
original = "text"
debtor = { iban = "text", name = "text", country = "text", alias = "text" }
creditor = { iban = "text", name = "text", country = "text", alias = "text" }
final_payee = "text"
merchant = { mcc = "text", id = "text", name = "text" }
terminal = "text"
place = { city = "text", country = "text", lat = "number", lon = "number" }
device = "text"
ordered_by = "text"
card = { bin = "text", prepaid = "boolean" }
ticket = { passenger = "text", route = "text" }
stay = { from = "date", to = "date" }
crypto = { wallet = "text", asset = "text", cluster = "text" }
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
  CASE WHEN kind = 'refund' THEN 'refund' ELSE coalesce(entry, 'booking') END AS entry_type,
  original          AS original_tx_id,
  channel,
  debtor.iban       AS debtor_account,
  debtor.name       AS debtor_name,
  debtor.country    AS debtor_country,
  debtor.alias      AS debtor_alias,
  starts_with(debtor.iban, 'EXT-')   AS debtor_external,
  creditor.iban     AS creditor_account,
  creditor.name     AS creditor_name,
  creditor.country  AS creditor_country,
  creditor.alias    AS creditor_alias,
  starts_with(creditor.iban, 'EXT-') AS creditor_external,
  final_payee       AS ultimate_creditor,
  merchant.mcc      AS mcc,
  merchant.id       AS merchant_id,
  merchant.name     AS merchant_name,
  terminal          AS terminal_id,
  place.city        AS city,
  place.country     AS country,
  place.lat         AS latitude,
  place.lon         AS longitude,
  device            AS device_id,
  ordered_by        AS initiator,
  card.bin          AS card_bin,
  card.prepaid      AS prepaid,
  ticket.passenger  AS passenger_name,
  ticket.route      AS route,
  stay.from         AS stay_from,
  stay.to           AS stay_to,
  crypto.wallet     AS wallet_address,
  crypto.asset      AS asset,
  crypto.cluster    AS chain_cluster,
  depositor         AS cash_depositor,
  purpose           AS purpose_code,
  memo
FROM raw
