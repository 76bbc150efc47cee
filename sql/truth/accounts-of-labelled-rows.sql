-- Truth for `manumit evaluate` of a set of bank-to-bank transfers in which each transfer is labelled, and nothing says which belong
-- together; see rules/INDEPENDENT.md. A case is an account with at least four labelled transfers: those at the rims of patterns have one
-- or two, and no rule about a flow can see them.
SELECT subject, min(at) AS begins, max(at) AS ends
FROM (
  SELECT replace("Date" || 'T' || "Time" || ':00Z', '/', '-') AS at, "To Bank" || '-' || "Account_2" AS subject
  FROM payments WHERE "Is Laundering" = '1'
  UNION ALL
  SELECT replace("Date" || 'T' || "Time" || ':00Z', '/', '-'), "From Bank" || '-' || "Account"
  FROM payments WHERE "Is Laundering" = '1'
)
GROUP BY subject
HAVING count(*) >= 4
ORDER BY subject
