SELECT tx_id, event_time, direction, account, countries
FROM (
  SELECT *,
    count(DISTINCT country) OVER w AS countries
  FROM entries
  WHERE direction = 'in'
  WINDOW w AS (PARTITION BY account ORDER BY event_time RANGE BETWEEN INTERVAL '30 days' PRECEDING AND CURRENT ROW)
)
WHERE countries >= $least AND amount >= $large
