//! A typology as one SQL query over the hits of its indicators: windows over hits, as the stream keeps them.

use std::fmt::Write as _;

use crate::ir::{RuleSet, Table, Typology};

/// What tells one row of a table from all others, as SQL.
pub fn row_id(over: Table) -> &'static str {
    match over {
        Table::Entries => "concat(tx_id, direction)",
        Table::Transactions => "tx_id",
    }
}

/// The times at which a typology holds, as a query for `about` (the subject), `at` (microseconds UTC) and `score`, by
/// subject and time. `hit_rows` gives for each indicator a query for the [`row_id`]s that hit; for keyed SQL for `id` and
/// `event_time`, the tick.
///
/// What is silenced by an exclusion is left out. That one alert stays open for a time is not in it: of the times of one
/// subject the first opens an alert, and then the first after it that lies more than `open_for` behind.
pub fn held_sql(rules: &RuleSet, typology: &Typology, hit_rows: &[String]) -> String {
    let parts: Vec<_> = typology.gate.iter().chain(&typology.corroborators).collect();
    let most = parts.iter().map(|part| part.different.len()).max().unwrap_or(0);
    let mut hits = Vec::new();
    for (p, part) in parts.iter().enumerate() {
        let indicator = &rules.indicators[part.indicator];
        let excluded: Vec<String> = match p < typology.gate.len() {
            true => typology.exclusions.iter().map(|x| format!("coalesce(({}), false)", x.sql)).collect(),
            false => Vec::new(),
        };
        let excluded = if excluded.is_empty() { "false".into() } else { excluded.join(" OR ") };
        let mut different = String::new();
        for d in 0..most {
            let value = part.different.get(d).map_or("NULL", |different| different.sql.as_str());
            let _ = write!(different, ", CAST({value} AS VARCHAR) AS d{d}");
        }
        let (over, id, rows) = (indicator.over.name(), row_id(indicator.over), &hit_rows[part.indicator]);
        let about = &indicator.about;
        hits.push(match &indicator.keyed {
            None => format!(
                "SELECT {p} AS part, event_time, CAST({about} AS VARCHAR) AS about{different} FROM {over} \
                 WHERE {id} IN ({rows}) AND NOT ({excluded})"
            ),
            // The row of the hit, at the time of the hit, which is the tick.
            Some(_) => format!(
                "SELECT {p} AS part, event_time, CAST({about} AS VARCHAR) AS about{different} FROM ( \
                 SELECT e.* EXCEPT (event_time), h.event_time FROM {over} e JOIN ({rows}) AS h ON h.id = {id} \
                 ) WHERE NOT ({excluded})"
            ),
        });
    }
    let mut counts = String::new();
    let mut holds = Vec::new();
    for (p, part) in parts.iter().enumerate() {
        let _ = write!(
            counts,
            ", count(*) FILTER (WHERE part = {p}) OVER w AS n{p}, \
             count(DISTINCT date_trunc('day', event_time)) FILTER (WHERE part = {p}) OVER w AS days{p}"
        );
        let mut all = vec![format!("n{p} >= {} AND days{p} >= {}", part.at_least.max(1), part.on_days)];
        for (d, different) in part.different.iter().enumerate() {
            let _ =
                write!(counts, ", count(DISTINCT d{d}) FILTER (WHERE part = {p}) OVER w AS different{p}_{d}");
            all.push(format!("different{p}_{d} >= {}", different.at_least));
        }
        holds.push(format!("({})", all.join(" AND ")));
    }
    // A time at which only parts hit that do not hold says nothing new.
    let new: String = holds.iter().enumerate().map(|(p, holds)| format!(" WHEN {p} THEN {holds}")).collect();
    let points: String = (typology.gate.len()..parts.len())
        .map(|p| format!(" + CASE WHEN {} THEN {} ELSE 0 END", holds[p], parts[p].points))
        .collect();
    format!(
        "SELECT DISTINCT about, CAST(event_time AS BIGINT) AS at, {gate}{points} AS score FROM (SELECT about, event_time, part{counts} FROM ({}) \
         WINDOW w AS (PARTITION BY about ORDER BY event_time RANGE BETWEEN INTERVAL '{} microseconds' PRECEDING AND CURRENT ROW)) \
         WHERE {} AND CASE part{new} END AND {gate}{points} >= {} ORDER BY about, at",
        hits.join(" UNION ALL "),
        typology.within_micros,
        holds[..typology.gate.len()].join(" AND "),
        typology.alert_at,
        gate = typology.gate_points,
    )
}
