-- Table `months`: what each customer took in and paid out in each of the last six months of thirty days, own transfers left out.
-- `entries` holds the 180 days before $ends and nothing later; `customers` is what the bank knew then.
-- A month before the first movement that is seen is none; a month without movement behind it is one of nothing.
WITH moves AS (
  SELECT customer, direction, amount_base,
    least(CAST(date_part('day', $ends - event_time) AS BIGINT) / 30, 5) AS month_back
  FROM entries
  WHERE entry_type = 'booking' AND customer IS NOT NULL AND coalesce(counterparty_customer <> customer, true)
), seen AS (
  SELECT customer, max(month_back) + 1 AS months
  FROM moves
  GROUP BY customer
), calendar AS (
  SELECT s.customer, s.months, m.month_back
  FROM seen s
  JOIN (VALUES (0), (1), (2), (3), (4), (5)) AS m(month_back) ON m.month_back < s.months
)
SELECT c.customer, c.months, c.month_back,
  -- Whom a customer is compared with: change it here, for instance to `segment || ' ' || industry` for businesses.
  -- The name of the segment must stay that of a group, as customers without movements are compared with theirs.
  coalesce(k.segment, 'unknown') AS peer_group,
  coalesce(sum(v.amount_base) FILTER (WHERE v.direction = 'in'), 0) AS inflow,
  coalesce(sum(v.amount_base) FILTER (WHERE v.direction = 'out'), 0) AS outflow
FROM calendar c
LEFT JOIN moves v ON v.customer = c.customer AND v.month_back = c.month_back
LEFT JOIN customers k ON k.customer = c.customer
GROUP BY c.customer, c.months, c.month_back, coalesce(k.segment, 'unknown')
