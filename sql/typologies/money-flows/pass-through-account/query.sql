SELECT tx_id, event_time, account, inflow, outflow, senders, receivers
FROM (
  SELECT *,
    sum(amount_base) FILTER (WHERE direction = 'in') OVER w AS inflow,
    sum(amount_base) FILTER (WHERE direction = 'out') OVER w AS outflow,
    count(DISTINCT counterparty) FILTER (WHERE direction = 'in') OVER w AS senders,
    count(DISTINCT counterparty) FILTER (WHERE direction = 'out') OVER w AS receivers
  FROM entries
  WHERE entry_type = 'booking' AND counterparty IS NOT NULL AND coalesce(counterparty_customer <> customer, true)
    -- Rent and shopping leave by card and direct debit; money that is passed on does not.
    AND coalesce(method NOT IN ('card', 'direct_debit'), true)
  WINDOW w AS (PARTITION BY account ORDER BY event_time RANGE BETWEEN INTERVAL '3 days' PRECEDING AND CURRENT ROW)
)
WHERE direction = 'out'
  AND senders >= $min_senders
  AND receivers >= $min_receivers
  AND inflow >= $least
  AND outflow >= $low * inflow
  AND outflow <= $high * inflow
