SELECT tx_id, event_time, direction, account, payments
FROM (
  SELECT *,
    count(*) OVER w AS payments
  FROM entries
  WHERE direction = 'out'
  WINDOW w AS (PARTITION BY account ORDER BY event_time RANGE BETWEEN INTERVAL '1 hours' PRECEDING AND CURRENT ROW)
)
WHERE payments >= $least
