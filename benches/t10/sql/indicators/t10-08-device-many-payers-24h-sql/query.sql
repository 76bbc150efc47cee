SELECT tx_id, event_time, device_id, payers
FROM (
  SELECT *,
    count(DISTINCT debtor_account) OVER w AS payers
  FROM transactions
  WINDOW w AS (PARTITION BY device_id ORDER BY event_time RANGE BETWEEN INTERVAL '24 hours' PRECEDING AND CURRENT ROW)
)
WHERE payers >= $least
