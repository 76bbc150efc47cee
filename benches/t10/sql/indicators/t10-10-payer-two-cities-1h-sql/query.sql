SELECT tx_id, event_time, direction, account, cities
FROM (
  SELECT *,
    count(DISTINCT city) FILTER (WHERE channel IN ('pos', 'atm')) OVER w AS cities
  FROM entries
  WHERE direction = 'out'
  WINDOW w AS (PARTITION BY account ORDER BY event_time RANGE BETWEEN INTERVAL '1 hours' PRECEDING AND CURRENT ROW)
)
WHERE cities >= $least
