-- Table `baselines`: each customer's own past. A median is the smallest value that at least half of the months do not exceed, so it is
-- always one that was seen, and exact.
WITH ranked AS (
  SELECT customer, peer_group, months, inflow, outflow,
    row_number() OVER (PARTITION BY customer ORDER BY inflow, month_back) AS in_place,
    row_number() OVER (PARTITION BY customer ORDER BY outflow, month_back) AS out_place
  FROM months
), medians AS (
  SELECT customer, peer_group, months,
    max(inflow) FILTER (WHERE in_place * 2 BETWEEN months AND months + 1) AS inflow_median,
    max(outflow) FILTER (WHERE out_place * 2 BETWEEN months AND months + 1) AS outflow_median,
    max(inflow) AS inflow_most,
    max(outflow) AS outflow_most
  FROM ranked
  GROUP BY customer, peer_group, months
), parties AS (
  SELECT customer,
    count(DISTINCT counterparty) AS counterparties,
    count(DISTINCT counterparty) FILTER (WHERE direction = 'in') AS senders,
    count(DISTINCT counterparty) FILTER (WHERE direction = 'out') AS receivers
  FROM entries
  WHERE entry_type = 'booking' AND customer IS NOT NULL AND coalesce(counterparty_customer <> customer, true)
  GROUP BY customer
), clock AS (
  SELECT customer, date_part('hour', local_time) AS hour,
    row_number() OVER (PARTITION BY customer ORDER BY date_part('hour', local_time)) AS place,
    count(*) OVER (PARTITION BY customer) AS moves
  FROM entries
  WHERE entry_type = 'booking' AND customer IS NOT NULL AND local_time IS NOT NULL
    AND coalesce(counterparty_customer <> customer, true)
), hours AS (
  -- Of a hundred movements five are earlier than the first, and five later than the second.
  SELECT customer,
    min(hour) FILTER (WHERE place * 100 >= moves * 5) AS hour_from,
    min(hour) FILTER (WHERE place * 100 >= moves * 95) AS hour_to
  FROM clock
  GROUP BY customer
)
SELECT m.customer, m.peer_group, m.months, m.inflow_median, m.outflow_median, m.inflow_most, m.outflow_most,
  p.counterparties, p.senders, p.receivers, h.hour_from, h.hour_to
FROM medians m
LEFT JOIN parties p ON p.customer = m.customer
LEFT JOIN hours h ON h.customer = m.customer
ORDER BY m.customer
