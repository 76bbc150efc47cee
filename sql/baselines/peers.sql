-- Table `peers`: what is usual in a group. Of money each month of each member counts as one value; of counterparties each member.
-- The p-th percentile is the smallest value that at least p of a hundred do not exceed: one that was seen, and exact.
WITH ranked AS (
  SELECT peer_group, inflow, outflow,
    row_number() OVER (PARTITION BY peer_group ORDER BY inflow) AS in_place,
    row_number() OVER (PARTITION BY peer_group ORDER BY outflow) AS out_place,
    count(*) OVER (PARTITION BY peer_group) AS n
  FROM months
), money AS (
  SELECT peer_group,
    min(inflow) FILTER (WHERE in_place * 100 >= n * 50) AS inflow_p50,
    min(inflow) FILTER (WHERE in_place * 100 >= n * 90) AS inflow_p90,
    min(inflow) FILTER (WHERE in_place * 100 >= n * 99) AS inflow_p99,
    min(outflow) FILTER (WHERE out_place * 100 >= n * 50) AS outflow_p50,
    min(outflow) FILTER (WHERE out_place * 100 >= n * 90) AS outflow_p90,
    min(outflow) FILTER (WHERE out_place * 100 >= n * 99) AS outflow_p99
  FROM ranked
  GROUP BY peer_group
), placed AS (
  SELECT peer_group, counterparties,
    row_number() OVER (PARTITION BY peer_group ORDER BY counterparties) AS place,
    count(*) OVER (PARTITION BY peer_group) AS n
  FROM baselines
), parties AS (
  SELECT peer_group, max(n) AS members,
    min(counterparties) FILTER (WHERE place * 100 >= n * 50) AS counterparties_p50,
    min(counterparties) FILTER (WHERE place * 100 >= n * 90) AS counterparties_p90,
    min(counterparties) FILTER (WHERE place * 100 >= n * 99) AS counterparties_p99
  FROM placed
  GROUP BY peer_group
)
SELECT m.peer_group, p.members, m.inflow_p50, m.inflow_p90, m.inflow_p99, m.outflow_p50, m.outflow_p90, m.outflow_p99,
  p.counterparties_p50, p.counterparties_p90, p.counterparties_p99
FROM money m
JOIN parties p ON p.peer_group = m.peer_group
ORDER BY m.peer_group
