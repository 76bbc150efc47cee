SELECT tx_id, event_time, direction, account, inflow, largest
FROM (
  SELECT *,
    sum(amount) FILTER (WHERE channel = 'mobile') OVER w AS inflow,
    max(amount) FILTER (WHERE channel = 'mobile') OVER w AS largest
  FROM entries
  WHERE direction = 'in'
  WINDOW w AS (PARTITION BY account ORDER BY event_time RANGE BETWEEN INTERVAL '7 days' PRECEDING AND CURRENT ROW)
)
WHERE inflow >= $least AND largest < $small
