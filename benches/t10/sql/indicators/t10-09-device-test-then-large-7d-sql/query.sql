SELECT tx_id, event_time, device_id, smallest, largest, online
FROM (
  SELECT *,
    min(amount) OVER w AS smallest,
    max(amount) OVER w AS largest,
    count(*) FILTER (WHERE method = 'card' AND channel = 'online') OVER w AS online
  FROM transactions
  WINDOW w AS (PARTITION BY device_id ORDER BY event_time RANGE BETWEEN INTERVAL '7 days' PRECEDING AND CURRENT ROW)
)
WHERE smallest * $times <= largest AND online >= $least
