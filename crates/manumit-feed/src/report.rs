//! How a sample maps, for the integrator's eyes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use arrow::array::{Array, RecordBatch};
use arrow::util::display::array_value_to_string;
use manumit_model::DeadLetter;
use manumit_model::schema::TRANSACTIONS;

use crate::absent::Absent;
use crate::map::{Feed, Mapped};

/// Counts and examples, gathered over samples.
#[derive(Debug, Default)]
pub struct Report {
    read: u64,
    accepted: u64,
    filtered: u64,
    /// By column: values that are known, and the first few different ones.
    columns: BTreeMap<String, (u64, Vec<String>)>,
    /// By stage and reason: how many, and some of them.
    rejected: BTreeMap<(&'static str, String), (u64, Vec<Rejected>)>,
    /// By field of the record, in the order of `[raw]`: records that have a value in it.
    values: Vec<(String, u64)>,
    /// What files lack of the columns that the SELECT reads, each once.
    absent: Vec<Absent>,
}

/// A dead letter and the words for where its record stands.
type Rejected = (String, DeadLetter);

/// Examples shown of each thing.
const EXAMPLES: usize = 3;

impl Report {
    /// Takes in what became of some records; `place`: words for where a dead letter's record stands.
    pub fn add(&mut self, mapped: &Mapped, place: impl Fn(&DeadLetter) -> String) {
        self.read += mapped.read;
        self.filtered += mapped.filtered;
        self.accepted += mapped.transactions.num_rows() as u64;
        self.values(&mapped.transactions);
        for letter in &mapped.dead_letters {
            let entry = self.rejected.entry((letter.stage.as_str(), letter.reason.clone())).or_default();
            entry.0 += 1;
            if entry.1.len() < EXAMPLES {
                entry.1.push((place(letter), letter.clone()));
            }
        }
        if self.values.is_empty() {
            self.values.clone_from(&mapped.values);
        } else {
            self.values.iter_mut().zip(&mapped.values).for_each(|(known, more)| known.1 += more.1);
        }
        if let Some(absent) = mapped.absent.as_deref().filter(|absent| !self.absent.contains(absent)) {
            self.absent.push(absent.clone());
        }
    }

    /// Records looked at so far.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// Canonical columns that some accepted row has a value in.
    pub fn known(&self) -> Vec<String> {
        self.columns.iter().filter(|(_, (known, _))| *known > 0).map(|(name, _)| name.clone()).collect()
    }

    /// Transactions accepted so far.
    pub fn accepted(&self) -> u64 {
        self.accepted
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

    /// True when nothing was rejected, and no file lacks a column that the SELECT reads.
    pub fn is_clean(&self) -> bool {
        self.rejected.is_empty() && self.absent.is_empty()
    }

    /// What to look into although records were accepted.
    fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self.absent.iter().map(ToString::to_string).collect();
        let told = |name: &str| self.absent.iter().any(|absent| absent.missing().iter().any(|m| m == name));
        let empty = self.values.iter().filter(|(name, count)| *count == 0 && !told(name));
        let empty: Vec<String> = empty.map(|(name, _)| format!("`{name}`")).collect();
        // Of a sample whose records are all broken nothing can be said.
        if !empty.is_empty() && self.accepted + self.filtered > 0 {
            warnings.push(format!(
                "no record of the sample has a value in {}: are the fields called so in the records?",
                empty.join(", ")
            ));
        }
        warnings
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
        for warning in self.warnings() {
            let _ = writeln!(out, "\nwarning: {warning}");
        }
        let rejected: u64 = self.rejected.values().map(|(count, _)| count).sum();
        let _ = writeln!(
            out,
            "\n{} records read, {} transactions accepted, {} records filtered, {rejected} rejected",
            self.read, self.accepted, self.filtered
        );
        for ((stage, reason), (count, letters)) in &self.rejected {
            let _ = writeln!(out, "\n  {reason} ({stage}): {count}");
            for (place, letter) in letters {
                let value = letter.value.as_ref().map_or(String::new(), |v| format!(", value `{v}`"));
                let field = letter.field.as_ref().map_or(String::new(), |f| format!(", field `{f}`"));
                let _ = writeln!(out, "    {place}{field}{value}\n      {}", letter.message);
            }
        }
        out
    }
}
