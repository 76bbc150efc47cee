-- Truth for `manumit evaluate` of the labels of AMLGentex; see rules/INDEPENDENT.md.
-- A case is a pattern, its subject the account in its middle; `amlgentex-members.sql` takes everybody in it.
SELECT m.typology || '-' || m.pattern_id                     AS "case",
  m.account                                                  AS subject,
  m.typology                                                 AS variant,
  to_timestamp_millis(t.begins)::text || 'Z'                 AS begins,
  to_timestamp_millis(t.ends)::text || 'Z'                   AS ends
FROM members m
JOIN (
  SELECT l.pattern_id, min(t.ts_ms) AS begins, max(t.ts_ms) AS ends
  FROM labels l JOIN payments t ON t.tx_id = l.tx_id
  WHERE l.is_illicit
  GROUP BY l.pattern_id
) t ON t.pattern_id = m.pattern_id
WHERE m.is_main
ORDER BY 1, 2
