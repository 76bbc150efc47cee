//! Hits as documents: one form for a run's sink, a backtest and whoever compares the two.

use arrow::array::{Array, AsArray};
use arrow::datatypes::TimestampMicrosecondType;
use chrono::{DateTime, SecondsFormat};
use manumit_model::hit::Hit;
use manumit_model::row;
use manumit_rules::ir::RuleSet;

use crate::Hits;

/// An instant as hits write it: always with six decimals, so that equal instants are equal texts and order as texts.
pub fn instant(micros: i64) -> String {
    DateTime::from_timestamp_micros(micros)
        .map_or_else(|| micros.to_string(), |time| time.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// The hits of one step, in the order of [`Hit::order`], which depends on neither shards nor batches.
pub fn documents(rules: &RuleSet, found: &[Hits]) -> Vec<Hit> {
    let mut all = Vec::new();
    for hits in found {
        let Some(indicator) = rules.indicators.get(hits.indicator) else { continue };
        let rows = &hits.rows;
        let text = |name: &str, row: usize| -> Option<String> {
            let column = rows.column_by_name(name)?;
            column
                .is_valid(row)
                .then(|| arrow::util::display::array_value_to_string(column, row).unwrap_or_default())
        };
        let others: Vec<String> = rows
            .schema()
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .filter(|name| !indicator.features.iter().any(|feature| feature.name == *name))
            .collect();
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        let times =
            rows.column_by_name("event_time").and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
        for row in 0..rows.num_rows() {
            let subject = text(&indicator.key, row).unwrap_or_default();
            all.push(Hit {
                indicator: indicator.meta.id.clone(),
                version: indicator.meta.version,
                event_time: times.map_or(String::new(), |times| instant(times.value(row))),
                tx_id: text("tx_id", row),
                direction: text("direction", row),
                about: text(&indicator.about, row).filter(|about| *about != subject),
                subject,
                values: row::json(rows, row, &others),
            });
        }
    }
    all.sort_by(|a, b| a.order().cmp(&b.order()));
    all
}
