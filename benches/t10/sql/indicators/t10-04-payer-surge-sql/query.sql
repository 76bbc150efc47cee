SELECT tx_id, event_time, direction, account, today, month, payments, today / month AS share
FROM (
  SELECT *,
    sum(amount) OVER w1 AS today,
    sum(amount) OVER w2 AS month,
    count(*) OVER w2 AS payments
  FROM entries
  WHERE direction = 'out'
  WINDOW w1 AS (PARTITION BY account ORDER BY event_time RANGE BETWEEN INTERVAL '24 hours' PRECEDING AND CURRENT ROW),
    w2 AS (PARTITION BY account ORDER BY event_time RANGE BETWEEN INTERVAL '30 days' PRECEDING AND CURRENT ROW)
)
WHERE today * 2 > month AND payments >= $least
