//! A story as a batch query: indicators by their own SQL over all rows, typologies by SQL over all hits.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray as _};
use arrow::datatypes::{Int64Type, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use manumit_engine::entries;
use manumit_model::{Alert, schema};
use manumit_rules::{held_sql, row_id};

use crate::ways::{Cast, list};

/// An alert as it was opened: subject, microseconds UTC, score.
pub(crate) type Opened = (String, i64, u64);

fn nullable(schema: &Schema) -> SchemaRef {
    let fields: Vec<_> =
        schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    Arc::new(Schema::new(fields))
}

/// The alerts that the rules' SQL opens over all rows, by subject and time.
///
/// # Errors
/// What DataFusion gave up on.
pub(crate) async fn opened(cast: &Cast<'_>) -> Result<Vec<Opened>, String> {
    // A session of its own: rules that are loaded know the tables by their schema only.
    let sql = cast.sql.scratch();
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let given: Vec<String> =
        cast.rows.schema_ref().fields().iter().map(|field| field.name().clone()).collect();
    let rules = cast.rules.fitted(&given);
    let rows = entries::entries(&cast.rows, &nullable(&schema::entries())).map_err(|e| words(&e))?.batch;
    sql.register("entries", rows).map_err(|e| words(&e))?;
    let rows = entries::transactions(&cast.rows, &nullable(&schema::transactions()));
    sql.register("transactions", rows.map_err(|e| words(&e))?.batch).map_err(|e| words(&e))?;
    for (name, rows) in cast.sql.reference().get().batches().map_err(|e| words(&e))? {
        sql.register(name, rows).map_err(|e| words(&e))?;
    }
    let mut hits = Vec::new();
    for indicator in &rules.indicators {
        let id = row_id(indicator.over);
        if !indicator.unmet.is_empty() {
            let none = format!("SELECT {id} AS id FROM {} WHERE false", indicator.over.name());
            let keyed = format!("SELECT {id} AS id, event_time FROM {} WHERE false", indicator.over.name());
            hits.push(if indicator.keyed.is_some() { keyed } else { none });
            continue;
        }
        let Some(ticks) = indicator.ticks_sql() else {
            hits.push(format!("SELECT {id} FROM ({})", indicator.sql));
            continue;
        };
        let mut all = vec!["SELECT '' AS id, event_time FROM entries WHERE false".to_string()];
        for batch in sql.query(&ticks).await.map_err(|e| words(&e))? {
            for &tick in batch.column(0).as_primitive::<Int64Type>().values() {
                let query = rules.hits_sql(indicator, tick);
                all.push(format!("SELECT {id} AS id, event_time FROM ({query})"));
            }
        }
        hits.push(all.join(" UNION ALL "));
    }
    let mut opened = Vec::new();
    for typology in &rules.typologies {
        let query = held_sql(&rules, typology, &hits);
        let mut since: BTreeMap<String, i64> = BTreeMap::new();
        for batch in sql.query(&query).await.map_err(|e| words(&e))? {
            let text = |column: usize, row: usize| {
                array_value_to_string(batch.column(column), row).map_err(|e| e.to_string())
            };
            for row in 0..batch.num_rows() {
                if batch.column(0).is_null(row) {
                    continue;
                }
                let (about, at) = (text(0, row)?, text(1, row)?.parse().unwrap_or_default());
                let open = since.get(&about).is_some_and(|since| at <= since + typology.open_for_micros);
                if !open {
                    let score = text(2, row)?.parse().unwrap_or_default();
                    since.insert(about.clone(), at);
                    opened.push((about, at, score));
                }
            }
        }
    }
    opened.sort();
    Ok(opened)
}

/// What differs from what the stream opened.
pub(crate) fn differences(batch: &[Opened], alerts: &[Alert]) -> Vec<String> {
    let micros = |utc: &str| {
        chrono::DateTime::parse_from_rfc3339(utc).map(|at| at.timestamp_micros()).unwrap_or_default()
    };
    let mut stream: Vec<Opened> = alerts
        .iter()
        .filter(|alert| alert.revision == 1)
        .map(|alert| (alert.subject.key.clone(), micros(&alert.opened_at.utc), u64::from(alert.score)))
        .collect();
    stream.sort();
    if stream == batch {
        return Vec::new();
    }
    let told = |opened: &[Opened]| {
        let line = |(subject, at, score): &Opened| {
            let at =
                chrono::DateTime::from_timestamp_micros(*at).map(|at| at.to_rfc3339()).unwrap_or_default();
            format!("{subject} at {at} with score {score}")
        };
        list(&opened.iter().map(line).collect::<Vec<_>>())
    };
    vec![format!("SQL over all rows opens {}, the stream {}", told(batch), told(&stream))]
}
