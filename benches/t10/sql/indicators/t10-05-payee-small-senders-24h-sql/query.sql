SELECT tx_id, event_time, direction, account, senders
FROM (
  SELECT *,
    count(DISTINCT counterparty) FILTER (WHERE amount < $small) OVER w AS senders
  FROM entries
  WHERE direction = 'in'
  WINDOW w AS (PARTITION BY account ORDER BY event_time RANGE BETWEEN INTERVAL '24 hours' PRECEDING AND CURRENT ROW)
)
WHERE senders >= $least AND amount >= $large
