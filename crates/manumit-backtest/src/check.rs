//! Two ways of finding the same hits, compared hit for hit: the engine, and each indicator's own SQL.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimestampMicrosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use manumit_rules::ir::{FeatureKind, Function, Indicator, RuleSet};
use serde::Serialize;

use crate::BacktestError;
use crate::history::Period;

/// Examples shown of each kind of difference.
const EXAMPLES: usize = 5;

/// Floats that differ by no more than this part of the larger one are equal: sums of floats depend on their order.
const TOLERANCE: f64 = 1e-6;

/// Stands between the cells of a hit; no id holds it.
const BETWEEN: char = '\u{1f}';

/// Who found a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The streaming engine.
    Engine,
    /// The indicator's own SQL.
    Sql,
}

/// The outcome of a comparison, as the report has it.
#[derive(Debug, Clone, Serialize)]
pub struct Checked {
    /// Who answered the SQL: `DataFusion`, or `Ballista` for a cluster.
    pub by: &'static str,
    /// Seconds the SQL took.
    pub seconds: f64,
    /// By indicator, ordered by id.
    pub indicators: Vec<IndicatorCheck>,
}

impl Checked {
    /// Nothing differs.
    pub fn same(&self) -> bool {
        self.indicators.iter().all(IndicatorCheck::same)
    }
}

/// One indicator, both ways.
#[derive(Debug, Clone, Default, Serialize)]
pub struct IndicatorCheck {
    /// Id.
    pub id: String,
    /// Hits of the engine within the period.
    pub hits: u64,
    /// Hits of the engine, those before the period included.
    pub engine: u64,
    /// Hits of the SQL, those before the period included.
    pub sql: u64,
    /// Hits that the engine alone found, or found with other values.
    pub engine_only: u64,
    /// Hits that the SQL alone found, or found with other values.
    pub sql_only: u64,
    /// Hits whose floating-point values differ by more than rounding.
    pub unequal: u64,
    /// Some of each, in words.
    pub engine_examples: Vec<String>,
    /// Of the SQL's.
    pub sql_examples: Vec<String>,
    /// Of the unequal.
    pub unequal_examples: Vec<String>,
    /// Features that were not compared: DataFusion's sliding standard deviation drifts as rows leave its window.
    pub not_compared: Vec<String>,
    /// Columns that it needs and the data lack: it was not looked at.
    pub unmet: Vec<String>,
    /// Why its SQL gave no answer.
    pub failed: Option<String>,
}

impl IndicatorCheck {
    /// Nothing differs.
    pub fn same(&self) -> bool {
        self.engine_only == 0 && self.sql_only == 0 && self.unequal == 0 && self.failed.is_none()
    }

    /// One line, and the examples below it.
    pub fn words(&self, by: &str) -> String {
        let id = &self.id;
        if !self.unmet.is_empty() {
            return format!("{id}: not looked at, the data have no {}", self.unmet.join(", "));
        }
        if let Some(why) = &self.failed {
            return format!("{id}: {} hits, but its SQL gave no answer by {by}: {why}", grouped(self.hits));
        }
        let left_out = match self.not_compared.as_slice() {
            [] => String::new(),
            names => format!(" ({} not compared)", names.join(", ")),
        };
        if self.same() {
            return format!("{id}: {} hits, the same as its SQL by {by}{left_out}", grouped(self.hits));
        }
        let mut out = format!(
            "{id}: DIFFERS. The engine has {} hits, its SQL by {by} {}{left_out}",
            grouped(self.engine),
            grouped(self.sql)
        );
        for (what, count, examples) in [
            ("only the engine", self.engine_only, &self.engine_examples),
            ("only the SQL", self.sql_only, &self.sql_examples),
            ("other values", self.unequal, &self.unequal_examples),
        ] {
            if count > 0 {
                out.push_str(&format!("\n  {what}: {}", grouped(count)));
            }
            for example in examples {
                out.push_str(&format!("\n    {example}"));
            }
        }
        out
    }
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// How hits of an indicator are compared.
struct Shape {
    /// Column of the subject in the engine's rows.
    key: String,
    /// Columns whose text must be equal.
    exact: Vec<String>,
    /// Columns that are equal within the tolerance.
    floats: Vec<String>,
}

/// A hit that one side has and the other not yet.
struct Held {
    /// How often: above zero by the engine, below by the SQL.
    balance: i64,
    /// Values of the floating-point features.
    values: Box<[Option<f64>]>,
}

/// Collects the hits of both sides, in any order. Memory holds a few words for each hit that the other side has not
/// given yet; the hits in full go to a file, for examples.
pub struct Comparison {
    period: Period,
    shapes: Vec<Shape>,
    checks: Vec<IndicatorCheck>,
    open: Vec<HashMap<u128, Held>>,
    hashers: [RandomState; 2],
    told: BufWriter<std::fs::File>,
    path: PathBuf,
}

impl Comparison {
    /// `rules` as they run on the data: see [`RuleSet::fitted`]. The file is written to `folder`.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn new(rules: &RuleSet, period: &Period, folder: &Path) -> Result<Comparison, BacktestError> {
        let path = folder.join("hits.compared");
        let file = std::fs::File::create(&path)
            .map_err(|source| BacktestError::Write { path: path.clone(), source })?;
        let mut shapes = Vec::new();
        let mut checks = Vec::new();
        for indicator in &rules.indicators {
            let (shape, not_compared) = shape(indicator);
            shapes.push(shape);
            checks.push(IndicatorCheck {
                id: indicator.meta.id.clone(),
                unmet: indicator.unmet.clone(),
                not_compared,
                ..IndicatorCheck::default()
            });
        }
        Ok(Comparison {
            period: *period,
            open: shapes.iter().map(|_| HashMap::new()).collect(),
            shapes,
            checks,
            hashers: [RandomState::new(), RandomState::new()],
            told: BufWriter::new(file),
            path,
        })
    }

    /// Notes that the SQL of an indicator gave no answer.
    pub fn fail(&mut self, indicator: usize, why: String) {
        if let Some(check) = self.checks.get_mut(indicator) {
            check.failed = Some(why);
        }
    }

    /// Takes hits of one indicator.
    ///
    /// # Errors
    /// When a column is missing, or the file cannot be written.
    pub fn add(&mut self, side: Side, indicator: usize, rows: &RecordBatch) -> Result<(), BacktestError> {
        let (Some(shape), Some(check)) = (self.shapes.get(indicator), self.checks.get_mut(indicator)) else {
            return Ok(());
        };
        let column = |name: &str| -> Result<&ArrayRef, BacktestError> {
            let name = if name == "subject" && side == Side::Engine { shape.key.as_str() } else { name };
            rows.column_by_name(name)
                .ok_or_else(|| BacktestError::Report(format!("{}: the hits have no column {name}", check.id)))
        };
        let options = FormatOptions::default().with_null("NULL");
        let exact: Vec<ArrayFormatter<'_>> = shape
            .exact
            .iter()
            .map(|name| Ok(ArrayFormatter::try_new(column(name)?.as_ref(), &options)?))
            .collect::<Result<_, BacktestError>>()?;
        let floats: Vec<ArrayRef> = shape
            .floats
            .iter()
            .map(|name| Ok(cast(column(name)?, &DataType::Float64)?))
            .collect::<Result<_, BacktestError>>()?;
        let times = column("event_time")?.as_primitive_opt::<TimestampMicrosecondType>();
        for row in 0..rows.num_rows() {
            let cells: Vec<String> = exact.iter().map(|cell| cell.value(row).to_string()).collect();
            let text = cells.join(&BETWEEN.to_string());
            let key = u128::from(self.hashers[0].hash_one(&text)) << 64
                | u128::from(self.hashers[1].hash_one(&text));
            let values: Box<[Option<f64>]> = floats
                .iter()
                .map(|array| {
                    let array = array.as_primitive::<Float64Type>();
                    array.is_valid(row).then(|| array.value(row))
                })
                .collect();
            writeln!(self.told, "{indicator} {} {key:032x} {}", side as u8, text.replace(['\n', '\r'], " "))
                .map_err(|source| BacktestError::Write { path: self.path.clone(), source })?;
            let weight = match side {
                Side::Engine => {
                    check.engine += 1;
                    check.hits += u64::from(times.is_some_and(|times| self.period.holds(times.value(row))));
                    1
                }
                Side::Sql => {
                    check.sql += 1;
                    -1
                }
            };
            match self.open[indicator].entry(key) {
                Entry::Vacant(place) => {
                    place.insert(Held { balance: weight, values });
                }
                Entry::Occupied(mut place) => {
                    let held = place.get_mut();
                    if held.balance.signum() != weight && !close(&held.values, &values) {
                        check.unequal += 1;
                        if check.unequal_examples.len() < EXAMPLES {
                            let (engine, sql) = match side {
                                Side::Engine => (&values, &held.values),
                                Side::Sql => (&held.values, &values),
                            };
                            check.unequal_examples.push(format!(
                                "{}; {}: engine {engine:?}, SQL {sql:?}",
                                words(shape, &text),
                                shape.floats.join(", ")
                            ));
                        }
                    }
                    held.balance += weight;
                    if held.balance == 0 {
                        place.remove();
                    }
                }
            }
        }
        Ok(())
    }

    /// What differs.
    ///
    /// # Errors
    /// When the file of hits cannot be read again.
    pub fn finish(mut self) -> Result<Vec<IndicatorCheck>, BacktestError> {
        for (check, open) in self.checks.iter_mut().zip(&self.open) {
            let only = |sign: i64| -> u64 {
                open.values().map(|held| u64::try_from(held.balance * sign).unwrap_or(0)).sum()
            };
            // An SQL that gave no answer lacks all hits; that it failed says enough.
            if check.failed.is_none() {
                (check.engine_only, check.sql_only) = (only(1), only(-1));
            }
        }
        let io = |source| BacktestError::Write { path: self.path.clone(), source };
        self.told.flush().map_err(io)?;
        if self.checks.iter().any(|check| check.engine_only + check.sql_only > 0) {
            let file = std::fs::File::open(&self.path).map_err(io)?;
            for line in BufReader::new(file).lines() {
                let line = line.map_err(io)?;
                let mut parts = line.splitn(4, ' ');
                let (Some(indicator), Some(side), Some(key), Some(text)) =
                    (parts.next(), parts.next(), parts.next(), parts.next())
                else {
                    continue;
                };
                let (Ok(indicator), Ok(key)) = (indicator.parse::<usize>(), u128::from_str_radix(key, 16))
                else {
                    continue;
                };
                let (Some(check), Some(shape)) = (self.checks.get_mut(indicator), self.shapes.get(indicator))
                else {
                    continue;
                };
                let Some(held) = self.open[indicator].get(&key).filter(|_| check.failed.is_none()) else {
                    continue;
                };
                let examples = match (side, held.balance > 0) {
                    ("0", true) => &mut check.engine_examples,
                    ("1", false) => &mut check.sql_examples,
                    _ => continue,
                };
                if examples.len() < EXAMPLES {
                    examples.push(words(shape, text));
                }
            }
        }
        // It holds ids of transactions, and is of no further use.
        let _ = std::fs::remove_file(&self.path);
        Ok(self.checks)
    }
}

/// `tx 4711 out, A1: senders 9, inflow 120.0000`.
fn words(shape: &Shape, text: &str) -> String {
    let named: Vec<(&str, &str)> = shape.exact.iter().map(String::as_str).zip(text.split(BETWEEN)).collect();
    let (head, values): (Vec<_>, Vec<_>) = named
        .into_iter()
        .partition(|(name, _)| ["tx_id", "event_time", "direction", "subject"].contains(name));
    let head: Vec<&str> = head.into_iter().map(|(_, value)| value).collect();
    let values: Vec<String> = values.into_iter().map(|(name, value)| format!("{name} {value}")).collect();
    format!("tx {}: {}", head.join(" "), values.join(", "))
}

fn close(a: &[Option<f64>], b: &[Option<f64>]) -> bool {
    a.iter().zip(b).all(|pair| match pair {
        (None, None) => true,
        (Some(a), Some(b)) => {
            a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()).max(1.0)
        }
        _ => false,
    })
}

/// How hits are compared, and which features are left out.
fn shape(indicator: &Indicator) -> (Shape, Vec<String>) {
    let mut exact = vec!["tx_id".to_string(), "event_time".to_string()];
    if indicator.over == manumit_rules::ir::Table::Entries {
        exact.push("direction".into());
    }
    exact.push("subject".into());
    let mut floats = Vec::new();
    let mut left_out: Vec<String> = Vec::new();
    for feature in &indicator.features {
        let drifts = match &feature.kind {
            FeatureKind::Window(window) => window.function == Function::Stddev,
            FeatureKind::Derived(sql) => sql
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .any(|word| left_out.iter().any(|name| name == word)),
            FeatureKind::Step(_) | FeatureKind::Answer => false,
        };
        if drifts {
            left_out.push(feature.name.clone());
        } else if feature.data_type.is_floating() {
            floats.push(feature.name.clone());
        } else {
            exact.push(feature.name.clone());
        }
    }
    (Shape { key: indicator.key.clone(), exact, floats }, left_out)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
    use manumit_rules::Sources;
    use manumit_sql::Sql;

    use super::*;

    const RULE: &str = r#"
id = "many"
version = 1
status = "draft"
title = "Many"
severity = "low"
exploitation = ["any"]
references = ["FINTRAC-2021-28"]
false_positives = ["shops"]
subject = "account"
over = "entries"
when = "n >= 1"
explain = "{n}"
[features]
n = "count(*) OVER 7 days"
mean = "avg(source_offset) OVER 7 days"
spread = "stddev(source_offset) OVER 7 days"
wide = "spread * 2"
"#;

    fn rules() -> RuleSet {
        let file = (PathBuf::from("rules/indicators/many.toml"), RULE.to_string());
        manumit_rules::load(&Sources::from_files(vec![file]), &Sql::new()).unwrap()
    }

    fn rows(subject: &str, hits: &[(&str, i64, f64)]) -> RecordBatch {
        let text = |value: &dyn Fn(&(&str, i64, f64)) -> String| -> ArrayRef {
            Arc::new(hits.iter().map(|hit| Some(value(hit))).collect::<StringArray>())
        };
        let times = TimestampMicrosecondArray::from(vec![0; hits.len()]).with_timezone("UTC");
        let numbers: Int64Array = hits.iter().map(|hit| Some(hit.1)).collect();
        let means: Float64Array = hits.iter().map(|hit| Some(hit.2)).collect();
        RecordBatch::try_from_iter([
            ("tx_id", text(&|hit| hit.0.to_string())),
            ("event_time", Arc::new(times) as ArrayRef),
            ("direction", text(&|_| "in".into())),
            (subject, text(&|_| "A".into())),
            ("n", Arc::new(numbers) as ArrayRef),
            ("mean", Arc::new(means) as ArrayRef),
        ])
        .unwrap()
    }

    fn compared(engine: &[(&str, i64, f64)], sql: &[(&str, i64, f64)]) -> IndicatorCheck {
        let folder = tempfile::tempdir().unwrap();
        let mut comparison = Comparison::new(&rules(), &Period::default(), folder.path()).unwrap();
        comparison.add(Side::Sql, 0, &rows("subject", sql)).unwrap();
        comparison.add(Side::Engine, 0, &rows("account", engine)).unwrap();
        let check = comparison.finish().unwrap().remove(0);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        check
    }

    #[test]
    fn equal_hits_in_any_order_are_the_same_and_drifting_features_are_said_to_be_left_out() {
        let check = compared(&[("a", 1, 0.5), ("b", 2, 1.0)], &[("b", 2, 1.0 + 1e-12), ("a", 1, 0.5)]);
        assert!(check.same());
        assert_eq!(
            check.words("DataFusion"),
            "many: 2 hits, the same as its SQL by DataFusion (spread, wide not compared)"
        );
    }

    #[test]
    fn a_difference_is_counted_and_shown_from_both_sides() {
        let check = compared(&[("a", 1, 0.5), ("b", 2, 1.0)], &[("a", 7, 0.5), ("b", 2, 1.0)]);
        assert_eq!((check.engine_only, check.sql_only, check.unequal), (1, 1, 0));
        let words = check.words("DataFusion");
        assert!(words.contains("DIFFERS") && words.contains("n 1") && words.contains("n 7"), "{words}");
    }

    #[test]
    fn a_hit_that_comes_twice_must_come_twice_on_both_sides() {
        let check = compared(&[("a", 1, 0.5), ("a", 1, 0.5)], &[("a", 1, 0.5)]);
        assert_eq!((check.engine_only, check.sql_only), (1, 0));
        assert_eq!(check.engine_examples.len(), 2);
    }

    #[test]
    fn floats_may_differ_by_rounding_only() {
        let check = compared(&[("a", 1, 0.5)], &[("a", 1, 0.51)]);
        assert_eq!((check.engine_only, check.sql_only, check.unequal), (0, 0, 1));
        assert!(check.words("Ballista").contains("0.51"));
    }

    #[test]
    fn a_query_that_failed_is_no_agreement() {
        let folder = tempfile::tempdir().unwrap();
        let mut comparison = Comparison::new(&rules(), &Period::default(), folder.path()).unwrap();
        comparison.fail(0, "memory ran out".into());
        let check = comparison.finish().unwrap().remove(0);
        assert!(!check.same());
        assert!(check.words("DataFusion").contains("memory ran out"));
    }
}
