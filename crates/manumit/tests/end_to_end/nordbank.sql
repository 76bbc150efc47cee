---
format = "jsonl"
topics = ["nordbank"]
time_zone = "Europe/Berlin"
lateness = "15 minutes"
country = "DE"

[raw]
ref = "text"
when = { day = "text", clock = "text" }
money = { minor = "integer", ccy = "text" }
type = "text"
from = { acct = "text", holder = "text", ctry = "text" }
to = { acct = "text", holder = "text", ctry = "text" }
shop = { category = "text", label = "text" }
where = { town = "text", pos = ["number"] }
lines = ["text"]
brought_by = "text"
iso_purpose = "text"
---
-- Written from sql/feeds/README.md alone: local times in two fields, cents, text in lines.
SELECT
  ref                                   AS tx_id,
  raw['when']['day'] || 'T' || raw['when']['clock'] AS event_time,
  money.minor / 100                     AS amount,
  money.ccy                             AS currency,
  CASE type
    WHEN 'TRF' THEN 'transfer' WHEN 'P2P' THEN 'p2p' WHEN 'CRD' THEN 'card' WHEN 'RFD' THEN 'card'
    WHEN 'CIN' THEN 'cash' WHEN 'OUT' THEN 'cash' WHEN 'DD' THEN 'direct_debit' WHEN 'WIR' THEN 'wire' WHEN 'OTH' THEN 'other'
  END                                   AS method,
  CASE type WHEN 'RFD' THEN 'refund' ELSE 'booking' END AS entry_type,
  raw['from']['acct']                   AS debtor_account,
  raw['from']['holder']                 AS debtor_name,
  raw['from']['ctry']                   AS debtor_country,
  starts_with(raw['from']['acct'], 'EXT-') AS debtor_external,
  raw['to']['acct']                     AS creditor_account,
  raw['to']['holder']                   AS creditor_name,
  raw['to']['ctry']                     AS creditor_country,
  starts_with(raw['to']['acct'], 'EXT-') AS creditor_external,
  shop.category                         AS mcc,
  shop.label                            AS merchant_name,
  raw['where']['town']                  AS city,
  raw['where']['pos'][1]                AS latitude,
  raw['where']['pos'][2]                AS longitude,
  brought_by                            AS cash_depositor,
  iso_purpose                           AS purpose_code,
  nullif(array_to_string(lines, ' '), '') AS memo
FROM raw
