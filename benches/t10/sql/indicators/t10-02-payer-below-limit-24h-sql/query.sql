SELECT tx_id, event_time, direction, account, near
FROM (
  SELECT *,
    count(*) FILTER (WHERE amount >= $floor AND amount < $limit) OVER w AS near
  FROM entries
  WHERE direction = 'out'
  WINDOW w AS (PARTITION BY account ORDER BY event_time RANGE BETWEEN INTERVAL '24 hours' PRECEDING AND CURRENT ROW)
)
WHERE near >= $least
