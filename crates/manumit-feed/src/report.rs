//! How a sample maps, for the integrator's eyes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use arrow::array::{Array, RecordBatch};
use arrow::util::display::array_value_to_string;
use manumit_model::DeadLetter;
use manumit_model::schema::TRANSACTIONS;

use crate::map::{Feed, Mapped};

/// Counts and examples, gathered over samples.
#[derive(Debug, Default)]
pub struct Report {
    read: u64,
    accepted: u64,
    filtered: u64,
    /// By column: values that are known, and the first few different ones.
    columns: BTreeMap<String, (u64, Vec<String>)>,
    /// By stage and reason.
    rejected: BTreeMap<(&'static str, String), (u64, Vec<DeadLetter>)>,
}

/// Examples shown of each thing.
const EXAMPLES: usize = 3;

impl Report {
    /// Takes in what became of some records.
    pub fn add(&mut self, mapped: &Mapped) {
        self.read += mapped.read;
        self.filtered += mapped.filtered;
        self.accepted += mapped.transactions.num_rows() as u64;
        self.values(&mapped.transactions);
        for letter in &mapped.dead_letters {
            let entry = self.rejected.entry((letter.stage.as_str(), letter.reason.clone())).or_default();
            entry.0 += 1;
            if entry.1.len() < EXAMPLES {
                entry.1.push(letter.clone());
            }
        }
    }

    fn values(&mut self, rows: &RecordBatch) {
        for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
            let entry = self.columns.entry(field.name().clone()).or_default();
            entry.0 += (column.len() - column.null_count()) as u64;
            for row in (0..column.len()).filter(|&row| column.is_valid(row)) {
                if entry.1.len() >= EXAMPLES {
                    break;
                }
                let value: String =
                    array_value_to_string(column, row).unwrap_or_default().chars().take(32).collect();
                if !entry.1.contains(&value) {
                    entry.1.push(value);
                }
            }
        }
    }

    /// True when nothing was rejected.
    pub fn is_clean(&self) -> bool {
        self.rejected.is_empty()
    }

    /// The report as text, column by column.
    pub fn text(&self, feed: &Feed) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "Feed {}\n", feed.name());
        let _ = writeln!(out, "{:<24} {:<34} {:>6}  examples", "column", "from", "known");
        for column in TRANSACTIONS {
            let output = feed.selection.outputs.iter().find(|o| o.column.name == column.name);
            let from = match output {
                Some(output) => output.text.split_whitespace().collect::<Vec<_>>().join(" "),
                None if self.columns.contains_key(column.name) => "(filled in)".into(),
                None => continue,
            };
            let from: String =
                if from.chars().count() > 34 { from.chars().take(33).chain(['…']).collect() } else { from };
            let (known, examples) = self.columns.get(column.name).cloned().unwrap_or_default();
            let share = (known * 100).checked_div(self.accepted).unwrap_or(0);
            let _ = writeln!(out, "{:<24} {from:<34} {share:>4} %  {}", column.name, examples.join(" | "));
        }
        if !self.columns.contains_key("amount_base") {
            out.push_str(
                "\namount_base is filled in when the feed runs: the amount itself in base_currency, otherwise by fx_rates.\n",
            );
        }
        let missing: Vec<&str> = TRANSACTIONS
            .iter()
            .map(|c| c.name)
            .filter(|n| *n != "amount_base" && !self.columns.contains_key(*n))
            .collect();
        let _ = writeln!(out, "\nNot mapped (unknown to the rules): {}", missing.join(", "));
        let rejected: u64 = self.rejected.values().map(|(count, _)| count).sum();
        let _ = writeln!(
            out,
            "\n{} records read, {} transactions accepted, {} records filtered, {rejected} rejected",
            self.read, self.accepted, self.filtered
        );
        for ((stage, reason), (count, letters)) in &self.rejected {
            let _ = writeln!(out, "\n  {reason} ({stage}): {count}");
            for letter in letters {
                let value = letter.value.as_ref().map_or(String::new(), |v| format!(", value `{v}`"));
                let field = letter.field.as_ref().map_or(String::new(), |f| format!(", field `{f}`"));
                let _ = writeln!(out, "    {}{field}{value}\n      {}", letter.position, letter.message);
            }
        }
        out
    }
}
