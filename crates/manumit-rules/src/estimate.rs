//! How an indicator runs and what it keeps: class, columns, bytes a row and a key, cost. Estimates, before any row is seen.

use arrow::datatypes::DataType;
use manumit_model::schema;

use crate::frame::interval;
use crate::ir::{FeatureKind, Indicator, Table};

/// What an indicator asks of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    /// Execution class, in words.
    pub class: &'static str,
    /// How long rows are kept for it, microseconds; 0: not at all.
    pub kept_micros: i64,
    /// Bytes for each row that is kept; rows of indicators over the same key are shared.
    pub bytes_per_row: u64,
    /// Bytes for each key that has rows.
    pub bytes_per_key: u64,
    /// What a row costs, in words.
    pub cost: String,
}

/// Bytes of a text on average, with its offset.
const TEXT_BYTES: u64 = 20;

/// A key's name, its place in the hash table, and the head of its rows.
pub const KEY_BYTES: u64 = 120;

fn width(data_type: &DataType) -> u64 {
    match data_type {
        DataType::Boolean => 1,
        DataType::Decimal128(..) => 16,
        other => other.primitive_width().map_or(TEXT_BYTES, |bytes| bytes as u64),
    }
}

/// Bytes of a whole transaction with every column sent: what is kept for evidence and for queries.
pub fn transaction_bytes() -> u64 {
    schema::transactions().fields().iter().map(|field| width(field.data_type())).sum()
}

impl Indicator {
    /// What the indicator asks of the machine.
    pub fn estimate(&self) -> Estimate {
        if let Some(keyed) = &self.keyed {
            let entries = if self.over == Table::Entries { 2 } else { 1 };
            return Estimate {
                class: "keyed SQL: answered at ticks of event time",
                kept_micros: keyed.lookback_micros.saturating_add(keyed.every_micros),
                // Two bytes an entry in a bitmap.
                bytes_per_row: transaction_bytes() + 2 * entries,
                bytes_per_key: KEY_BYTES + 100,
                cost: format!(
                    "at each tick ({} apart) the query runs once over the rows of the last {} of every key that had a row since \
                     the tick before; a row costs nothing until then",
                    interval(keyed.every_micros),
                    interval(keyed.lookback_micros)
                ),
            };
        }
        let windows = self.features.iter().filter_map(|feature| match &feature.kind {
            FeatureKind::Window(aggregate) => Some(aggregate),
            _ => None,
        });
        let (mut arguments, mut longest, mut count) = (Vec::new(), 0, 0_u64);
        for aggregate in windows {
            arguments.extend(aggregate.argument.iter().chain(&aggregate.weight).cloned());
            longest = longest.max(aggregate.frame.longest_micros());
            count += 1;
        }
        let mut steps = 0;
        if let Some(sequence) = &self.sequence {
            longest = longest.max(sequence.reach_micros());
            for step in &sequence.steps {
                arguments.extend(step.compared.iter().flat_map(|c| [c.own.clone(), c.other.clone()]));
                steps += 1;
            }
        }
        arguments.sort();
        arguments.dedup();
        if count == 0 && steps == 0 {
            return Estimate {
                class: "incremental: one row tells",
                kept_micros: 0,
                bytes_per_row: 0,
                bytes_per_key: 0,
                cost: "its expressions, worked out for whole batches".into(),
            };
        }
        // Time, number with flags, one word an argument, and room for rows to come.
        let bytes_per_row = 8 * (3 + arguments.len() as u64);
        let cost = if steps > 0 {
            format!(
                "at a row that can be the last of {steps} steps the others are looked for among the key's rows of the last {}",
                interval(longest)
            )
        } else {
            format!(
                "one look-up of the key and {count} aggregates: keys with few rows are scanned, busy ones keep running aggregates"
            )
        };
        Estimate {
            class: if steps > 0 {
                "sequence: steps looked for backwards from the last one"
            } else {
                "incremental: windows kept per key and answered at every row"
            },
            kept_micros: longest,
            bytes_per_row,
            bytes_per_key: KEY_BYTES + 8 * count,
            cost,
        }
    }
}
