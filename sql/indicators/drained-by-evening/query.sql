-- Feeds seldom send balances: the balance is what came in less what went out since the look-back began.
-- A day is that of UTC, cut by date_bin, which asks no calendar; with one row a day, ROWS means what RANGE would.
WITH days AS (
  SELECT account, date_bin(INTERVAL '1 day', event_time) AS day,
    sum(amount_base) FILTER (WHERE direction = 'in') AS inflow,
    sum(CASE WHEN direction = 'in' THEN amount_base ELSE -amount_base END) AS change
  FROM entries
  WHERE entry_type = 'booking'
  GROUP BY account, date_bin(INTERVAL '1 day', event_time)
), evenings AS (
  SELECT account, day, inflow,
    sum(change) OVER (PARTITION BY account ORDER BY day ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS balance
  FROM days
)
SELECT account,
  count(*) AS days_in,
  count(*) FILTER (WHERE balance < $balance_ratio * inflow) AS drained,
  count(*) FILTER (WHERE balance < $balance_ratio * inflow) / count(*) AS drained_share
FROM evenings
WHERE inflow > 0
GROUP BY account
