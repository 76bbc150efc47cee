SELECT tx_id, event_time, direction, account, payees
FROM (
  SELECT *,
    count(DISTINCT counterparty) OVER w AS payees
  FROM entries
  WHERE direction = 'out'
  WINDOW w AS (PARTITION BY account ORDER BY event_time RANGE BETWEEN INTERVAL '7 days' PRECEDING AND CURRENT ROW)
)
WHERE payees >= $least
