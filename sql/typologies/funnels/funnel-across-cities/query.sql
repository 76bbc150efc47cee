SELECT tx_id, event_time, account, deposits, cities, depositors, cash_in, outflow
FROM (
  SELECT *,
    count(*) FILTER (WHERE direction = 'in' AND method = 'cash' AND amount_base < $report_limit) OVER w AS deposits,
    count(DISTINCT city) FILTER (WHERE direction = 'in' AND method = 'cash') OVER w AS cities,
    count(DISTINCT cash_depositor)
      FILTER (WHERE direction = 'in' AND method = 'cash' AND coalesce(cash_depositor <> customer, true)) OVER w AS depositors,
    sum(amount_base) FILTER (WHERE direction = 'in' AND method = 'cash') OVER w AS cash_in,
    -- Rent and shopping leave by card and direct debit; cash that is moved on does not.
    sum(amount_base) FILTER (WHERE direction = 'out' AND coalesce(method NOT IN ('card', 'direct_debit'), true)) OVER w AS outflow,
    last_value(city) FILTER (WHERE direction = 'in' AND method = 'cash') OVER three_days AS deposit_city
  FROM entries
  WHERE entry_type = 'booking'
  WINDOW
    w AS (PARTITION BY account ORDER BY event_time RANGE BETWEEN INTERVAL '14 days' PRECEDING AND CURRENT ROW),
    three_days AS (PARTITION BY account ORDER BY event_time RANGE BETWEEN INTERVAL '3 days' PRECEDING AND CURRENT ROW)
)
WHERE direction = 'out' AND coalesce(method NOT IN ('card', 'direct_debit'), true)
  AND deposits >= $min_deposits
  AND cities >= $min_cities
  AND depositors >= $min_depositors
  AND outflow >= $out_share * cash_in
  AND deposit_city IS NOT NULL
  AND coalesce(city <> deposit_city, true)
