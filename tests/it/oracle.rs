//! DataFusion's batch answer to rules, as lines to compare with what the stream found.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow::util::display::array_value_to_string;
use manumit_engine::entries;
use manumit_model::{Alert, schema};
use manumit_rules::ir::RuleSet;
pub use manumit_rules::row_id;
use manumit_sql::Sql;

/// A value so that equal values are equal text.
pub fn cell(array: &dyn Array, row: usize) -> String {
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
    add_tables(sql, transactions);
    reference_tables(sql);
    let mut out = Vec::new();
    for index in 0..rules.indicators.len() {
        for query in queries(rules, index, sql).await {
            for batch in sql.query(&query).await.unwrap_or_else(|e| panic!("{e}\n{query}")) {
                lines(rules, index, &batch, "subject", &mut out);
            }
        }
    }
    remove_tables(sql);
    out.sort();
    out
}

/// Makes the reference tables known to the session, as they are now.
pub fn reference_tables(sql: &Sql) {
    for (name, rows) in sql.reference().get().batches().unwrap() {
        sql.session().deregister_table(name).unwrap();
        sql.register(name, rows).unwrap();
    }
}

/// The queries whose answers together are an indicator's hits: one, or one a tick.
pub async fn queries(rules: &RuleSet, indicator: usize, sql: &Sql) -> Vec<String> {
    let indicator = &rules.indicators[indicator];
    let Some(ticks) = indicator.ticks_sql() else { return vec![rules.hits_sql(indicator, 0)] };
    let mut all = Vec::new();
    for batch in sql.query(&ticks).await.unwrap() {
        let ticks = batch.column(0).as_primitive::<Int64Type>().values();
        all.extend(ticks.iter().map(|&tick| rules.hits_sql(indicator, tick)));
    }
    all
}

/// The schema with every column nullable.
pub fn nullable(schema: &arrow::datatypes::Schema) -> arrow::datatypes::SchemaRef {
    let fields: Vec<_> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    Arc::new(arrow::datatypes::Schema::new(fields))
}

/// An alert as it was opened: typology, subject, microseconds UTC, score.
pub type Opened = (String, String, i64, u32);

/// Makes the two tables that rules read out of transactions; `remove_tables` takes them away.
pub fn add_tables(sql: &Sql, rows: &RecordBatch) {
    let entries = entries::entries(rows, &nullable(&schema::entries())).unwrap().batch;
    let transactions = entries::transactions(rows, &nullable(&schema::transactions())).unwrap().batch;
    sql.register("entries", entries).unwrap();
    sql.register("transactions", transactions).unwrap();
}

/// Takes the tables of [`add_tables`] away.
pub fn remove_tables(sql: &Sql) {
    for name in ["entries", "transactions"] {
        sql.session().deregister_table(name).unwrap();
    }
}

/// The alerts that DataFusion finds over all transactions at once, sorted.
pub async fn batch_alerts(rules: &RuleSet, sql: &Sql, transactions: &RecordBatch) -> Vec<Opened> {
    add_tables(sql, transactions);
    reference_tables(sql);
    let mut hits = Vec::new();
    for (index, indicator) in rules.indicators.iter().enumerate() {
        let id = row_id(indicator.over);
        hits.push(match &indicator.keyed {
            None => format!("SELECT {id} FROM ({})", indicator.sql),
            Some(_) => {
                let mut all: Vec<String> = queries(rules, index, sql)
                    .await
                    .iter()
                    .map(|query| format!("SELECT {id} AS id, event_time FROM ({query})"))
                    .collect();
                all.push("SELECT '' AS id, event_time FROM entries WHERE false".into());
                all.join(" UNION ALL ")
            }
        });
    }
    let opened = alerts_of(rules, sql, &hits).await;
    remove_tables(sql);
    opened
}

/// The alerts that follow from hits, given for each indicator as a query for the [`row_id`]s that hit (for keyed SQL as `id`
/// with `event_time`, the tick); sorted.
///
/// Typologies are told anew in SQL, as windows over all hits; only the opening of one alert at a time is a loop.
pub async fn alerts_of(rules: &RuleSet, sql: &Sql, hit_rows: &[String]) -> Vec<Opened> {
    let mut opened = Vec::new();
    for typology in &rules.typologies {
        let query = manumit_rules::held_sql(rules, typology, hit_rows);
        let mut open: Option<(String, i64)> = None;
        for batch in sql.query(&query).await.unwrap_or_else(|e| panic!("{}: {e}\n{query}", typology.meta.id))
        {
            for row in 0..batch.num_rows() {
                let (about, at) = (cell(batch.column(0), row), cell(batch.column(1), row).parse().unwrap());
                let still = open
                    .as_ref()
                    .is_some_and(|(known, since)| *known == about && at <= since + typology.open_for_micros);
                if !still {
                    let score = cell(batch.column(2), row).parse().unwrap();
                    opened.push((typology.meta.id.clone(), about.clone(), at, score));
                    open = Some((about, at));
                }
            }
        }
    }
    opened.sort();
    opened
}

/// What the stream opened, in the same form.
pub fn opened(alerts: &[Alert]) -> Vec<Opened> {
    let micros = |utc: &str| chrono::DateTime::parse_from_rfc3339(utc).unwrap().timestamp_micros();
    let mut all: Vec<_> = alerts
        .iter()
        .filter(|alert| alert.revision == 1)
        .map(|a| (a.typology.id.clone(), a.subject.key.clone(), micros(&a.opened_at.utc), a.score))
        .collect();
    all.sort();
    all
}
