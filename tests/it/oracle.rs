//! DataFusion's batch answer to rules, as lines to compare with what the stream found.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow::util::display::array_value_to_string;
use manumit_engine::entries;
use manumit_model::{Alert, schema};
use manumit_rules::ir::RuleSet;
use manumit_sql::Sql;

/// A value so that equal values are equal text.
fn cell(array: &dyn Array, row: usize) -> String {
    if array.is_null(row) {
        return "NULL".into();
    }
    array_value_to_string(array, row).unwrap()
}

/// One line a hit: indicator, tx_id, direction, subject, features.
pub fn lines(rules: &RuleSet, indicator: usize, batch: &RecordBatch, subject: &str, out: &mut Vec<String>) {
    let indicator = &rules.indicators[indicator];
    let names = ["tx_id", "direction", subject].into_iter().map(String::from);
    // DataFusion's sliding stddev drifts when rows leave (equal values may even give NaN), ours is exact:
    // `window_oracle` compares it with a tolerance, and no condition here depends on it.
    let features = indicator.features.iter().map(|f| f.name.clone()).filter(|name| name != "spread");
    let names: Vec<String> = names.chain(features).collect();
    for row in 0..batch.num_rows() {
        let cells: Vec<String> =
            names.iter().map(|name| cell(batch.column_by_name(name).unwrap().as_ref(), row)).collect();
        out.push(format!("{}: {}", indicator.meta.id, cells.join(" ")));
    }
}

/// DataFusion's answer to each indicator's own SQL over all entries at once, sorted.
pub async fn batch_answer(rules: &RuleSet, sql: &Sql, transactions: &RecordBatch) -> Vec<String> {
    let full = entries::entries(transactions, &nullable(&schema::entries())).unwrap().batch;
    sql.register("entries", full).unwrap();
    reference_tables(sql);
    let mut out = Vec::new();
    for index in 0..rules.indicators.len() {
        for query in queries(rules, index, sql).await {
            for batch in sql.query(&query).await.unwrap_or_else(|e| panic!("{e}\n{query}")) {
                lines(rules, index, &batch, "subject", &mut out);
            }
        }
    }
    sql.session().deregister_table("entries").unwrap();
    out.sort();
    out
}

/// Makes the reference tables known to the session, as they are now.
fn reference_tables(sql: &Sql) {
    for (name, rows) in sql.reference().get().batches().unwrap() {
        sql.session().deregister_table(name).unwrap();
        sql.register(name, rows).unwrap();
    }
}

/// The queries whose answers together are an indicator's hits: one, or one a tick.
async fn queries(rules: &RuleSet, indicator: usize, sql: &Sql) -> Vec<String> {
    let indicator = &rules.indicators[indicator];
    let Some(ticks) = indicator.ticks_sql() else { return vec![rules.hits_sql(indicator, 0)] };
    let mut all = Vec::new();
    for batch in sql.query(&ticks).await.unwrap() {
        let ticks = batch.column(0).as_primitive::<Int64Type>().values();
        all.extend(ticks.iter().map(|&tick| rules.hits_sql(indicator, tick)));
    }
    all
}

fn nullable(schema: &arrow::datatypes::Schema) -> arrow::datatypes::SchemaRef {
    let fields: Vec<_> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    Arc::new(arrow::datatypes::Schema::new(fields))
}

/// The alerts that DataFusion finds over all entries at once: (typology, subject, microseconds when opened), sorted.
///
/// Typologies are told anew in SQL, as windows over all hits; only the opening of one alert at a time is a loop.
pub async fn batch_alerts(
    rules: &RuleSet,
    sql: &Sql,
    transactions: &RecordBatch,
) -> Vec<(String, String, i64)> {
    let full = entries::entries(transactions, &nullable(&schema::entries())).unwrap().batch;
    sql.register("entries", full).unwrap();
    reference_tables(sql);
    let mut opened = Vec::new();
    for typology in &rules.typologies {
        let parts: Vec<_> = typology.gate.iter().chain(&typology.corroborators).collect();
        let most = parts.iter().map(|p| p.different.len()).max().unwrap_or(0);
        let mut hits = Vec::new();
        for (p, part) in parts.iter().enumerate() {
            let indicator = &rules.indicators[part.indicator];
            let excluded: Vec<String> = match p < typology.gate.len() {
                true => typology.exclusions.iter().map(|x| format!("coalesce(({}), false)", x.sql)).collect(),
                false => Vec::new(),
            };
            let excluded = if excluded.is_empty() { "false".into() } else { excluded.join(" OR ") };
            let different: String = (0..most)
                .map(|d| match part.different.get(d) {
                    Some(different) => format!(", CAST({} AS VARCHAR) AS d{d}", different.sql),
                    None => format!(", CAST(NULL AS VARCHAR) AS d{d}"),
                })
                .collect();
            for query in queries(rules, part.indicator, sql).await {
                // The row of the hit, at the time of the hit: for a query that is the tick.
                hits.push(format!(
                    "SELECT {p} AS part, event_time, CAST({} AS VARCHAR) AS about{different} FROM ( \
                     SELECT e.* EXCEPT (event_time), h.event_time FROM entries e JOIN ({query}) AS h \
                     ON h.tx_id = e.tx_id AND h.direction = e.direction) WHERE NOT ({excluded})",
                    indicator.about
                ));
            }
        }
        let mut counts = String::new();
        let mut holds = Vec::new();
        for (p, part) in parts.iter().enumerate() {
            counts.push_str(&format!(
                ", count(*) FILTER (WHERE part = {p}) OVER w AS n{p}, \
                 count(DISTINCT date_trunc('day', event_time)) FILTER (WHERE part = {p}) OVER w AS days{p}"
            ));
            let mut all = vec![format!("n{p} >= {} AND days{p} >= {}", part.at_least.max(1), part.on_days)];
            for (d, different) in part.different.iter().enumerate() {
                counts.push_str(&format!(
                    ", count(DISTINCT d{d}) FILTER (WHERE part = {p}) OVER w AS different{p}_{d}"
                ));
                all.push(format!("different{p}_{d} >= {}", different.at_least));
            }
            holds.push(format!("({})", all.join(" AND ")));
        }
        if hits.is_empty() {
            continue;
        }
        let points: String = (typology.gate.len()..parts.len())
            .map(|p| format!(" + CASE WHEN {} THEN {} ELSE 0 END", holds[p], parts[p].points))
            .collect();
        let query = format!(
            "SELECT DISTINCT about, CAST(event_time AS BIGINT) AS at FROM (SELECT about, event_time{counts} FROM ({}) \
             WINDOW w AS (PARTITION BY about ORDER BY event_time RANGE BETWEEN INTERVAL '{} seconds' PRECEDING AND CURRENT ROW)) \
             WHERE {} AND {}{points} >= {} ORDER BY about, at",
            hits.join(" UNION ALL "),
            typology.within_micros / 1_000_000,
            holds[..typology.gate.len()].join(" AND "),
            typology.gate_points,
            typology.alert_at,
        );
        let mut open: Option<(String, i64)> = None;
        for batch in sql.query(&query).await.unwrap_or_else(|e| panic!("{}: {e}\n{query}", typology.meta.id))
        {
            for row in 0..batch.num_rows() {
                let (about, at) = (cell(batch.column(0), row), cell(batch.column(1), row).parse().unwrap());
                let still = open
                    .as_ref()
                    .is_some_and(|(known, since)| *known == about && at <= since + typology.open_for_micros);
                if !still {
                    opened.push((typology.meta.id.clone(), about.clone(), at));
                    open = Some((about, at));
                }
            }
        }
    }
    sql.session().deregister_table("entries").unwrap();
    opened.sort();
    opened
}

/// What the stream opened, in the same form.
pub fn opened(alerts: &[Alert]) -> Vec<(String, String, i64)> {
    let micros = |utc: &str| chrono::DateTime::parse_from_rfc3339(utc).unwrap().timestamp_micros();
    let mut all: Vec<_> = alerts
        .iter()
        .filter(|alert| alert.revision == 1)
        .map(|a| (a.typology.id.clone(), a.subject.key.clone(), micros(&a.opened_at.utc)))
        .collect();
    all.sort();
    all
}
