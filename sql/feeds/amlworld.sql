---
format = "csv"
lateness = "1 day"               # rows of a set are not always in order
optional = ["Timestamp", "Date", "Time"]   # a set has the one or the other two

[raw]
Timestamp = "text"               # 2022/09/01 00:20; or the two below
Date = "text"
Time = "text"
"From Bank" = "text"
Account = "text"
"To Bank" = "text"
Account_2 = "text"               # the second column called `Account`
"Amount Paid" = "decimal"
"Payment Currency" = "text"
"Payment Format" = "text"
---
-- Sets of the shape that AMLworld and others of its kind have: bank to bank, no ids, currencies by name.
SELECT
  record_number                                                   AS tx_id,
  to_timestamp(replace(coalesce(Timestamp, Date || ' ' || Time), '/', '-') || ':00') AT TIME ZONE 'UTC' AS event_time,
  "Amount Paid"                                                   AS amount,
  CASE "Payment Currency"
    WHEN 'US Dollar' THEN 'USD' WHEN 'Euro' THEN 'EUR' WHEN 'UK Pound' THEN 'GBP' WHEN 'Swiss Franc' THEN 'CHF'
    WHEN 'Yuan' THEN 'CNY' WHEN 'Yen' THEN 'JPY' WHEN 'Rupee' THEN 'INR' WHEN 'Ruble' THEN 'RUB'
    WHEN 'Canadian Dollar' THEN 'CAD' WHEN 'Australian Dollar' THEN 'AUD' WHEN 'Mexican Peso' THEN 'MXN'
    WHEN 'Brazil Real' THEN 'BRL' WHEN 'Saudi Riyal' THEN 'SAR' WHEN 'Shekel' THEN 'ILS'
    ELSE "Payment Currency"
  END                                                             AS currency,
  CASE "Payment Format"
    WHEN 'Cash' THEN 'cash' WHEN 'Cheque' THEN 'cheque' WHEN 'Credit Card' THEN 'card' WHEN 'Wire' THEN 'wire'
    WHEN 'ACH' THEN 'transfer' WHEN 'Bitcoin' THEN 'crypto' ELSE 'other'
  END                                                             AS method,
  -- An account's number is its own within its bank only.
  "From Bank" || '-' || Account                                   AS debtor_account,
  "From Bank"                                                     AS debtor_bank,
  "To Bank" || '-' || Account_2                                   AS creditor_account,
  "To Bank"                                                       AS creditor_bank
FROM raw
-- An account that pays itself (reinvestment) moves nothing, and bitcoin has no ISO 4217 code.
WHERE "Payment Format" <> 'Reinvestment' AND "Payment Currency" <> 'Bitcoin'
