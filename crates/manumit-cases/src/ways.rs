//! One story told to the engine in several ways, which must all end the same.

use std::sync::Arc;

use arrow::array::{Array as _, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use manumit_engine::{Engine, EngineError, Options, PartitionId, Resume, Snapshot, Step};
use manumit_model::Alert;
use manumit_rules::ir::RuleSet;
use manumit_sql::Sql;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::read::Setting;

/// How a story is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    AtOnce,
    RowByRow,
    OutOfOrder,
    TakenUpAgain,
    BatchQuery,
}

impl Way {
    pub(crate) const ALL: [Way; 5] =
        [Way::AtOnce, Way::RowByRow, Way::OutOfOrder, Way::TakenUpAgain, Way::BatchQuery];

    /// In words, for those who read why a case failed.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Way::AtOnce => "all rows at once",
            Way::RowByRow => "row by row",
            Way::OutOfOrder => "rows out of order within their lateness",
            Way::TakenUpAgain => "stopped and taken up again",
            Way::BatchQuery => "as a batch query",
        }
    }

    pub(crate) fn failed(self, why: &str) -> String {
        format!("told {} it cannot be tried: {why}", self.words())
    }
}

/// A story with the rules that it is told to.
pub(crate) struct Cast<'a> {
    pub rules: Arc<RuleSet>,
    pub sql: &'a Sql,
    /// Canonical rows, in the author's order.
    pub rows: RecordBatch,
    /// Microseconds UTC of each of them.
    pub times: &'a [i64],
    pub setting: &'a Setting,
}

/// What the engine found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// All revisions, as published.
    pub alerts: Vec<Alert>,
    /// Hits by indicator and whom they are about.
    pub hits: Vec<(String, String)>,
    /// Gate hits that an exclusion silenced.
    pub excluded: u64,
    /// Expressions that failed, in DataFusion's words.
    pub faults: Vec<String>,
    /// Rows that came too late.
    pub late: usize,
}

impl Found {
    /// The last revision of each alert.
    pub(crate) fn last(&self) -> Vec<&Alert> {
        let superseded = |alert: &Alert| {
            self.alerts.iter().any(|o| o.alert_id == alert.alert_id && o.revision > alert.revision)
        };
        self.alerts.iter().filter(|alert| !superseded(alert)).collect()
    }

    /// Each alert in a line.
    pub(crate) fn told(&self) -> Vec<String> {
        let line = |alert: &&Alert| {
            let ids: Vec<&str> = alert.indicators.iter().map(|indicator| indicator.id.as_str()).collect();
            let urgent = if alert.urgent { ", urgent" } else { "" };
            format!("{}, score {}{urgent}: {}", alert.subject.key, alert.score, ids.join(", "))
        };
        self.last().iter().map(line).collect()
    }

    fn take(&mut self, step: Step, rules: &RuleSet) {
        for hits in &step.hits {
            let indicator = &rules.indicators[hits.indicator];
            let about = hits.rows.column_by_name(&indicator.about);
            for row in 0..hits.rows.num_rows() {
                let about = about
                    .and_then(|column| arrow::util::display::array_value_to_string(column, row).ok())
                    .unwrap_or_default();
                self.hits.push((indicator.meta.id.clone(), about));
            }
        }
        self.alerts.extend(step.alerts);
        self.excluded += step.excluded;
        self.faults
            .extend(step.faults.into_iter().map(|fault| format!("{}: {}", fault.tx_id, fault.message)));
    }
}

/// Tells the story one way.
///
/// # Errors
/// What the engine gave up on.
pub(crate) fn tell(cast: &Cast<'_>, way: Way, seed: u64) -> Result<Found, String> {
    let words = |error: EngineError| error.to_string();
    let mut order: Vec<u32> = (0..cast.times.len() as u32).collect();
    let time = |row: &u32| cast.times[*row as usize];
    order.sort_by_key(time);
    let mut found = Found::default();
    let mut engine = engine(cast).map_err(words)?;
    match way {
        Way::AtOnce | Way::BatchQuery => push(cast, &mut engine, &order, &mut found).map_err(words)?,
        Way::RowByRow => {
            for row in &order {
                push(cast, &mut engine, &[*row], &mut found).map_err(words)?;
                let step = engine.step().map_err(words)?;
                found.take(step, &cast.rules);
            }
        }
        Way::OutOfOrder => {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut late: Vec<(i64, u32)> = order
                .iter()
                .map(|row| (time(row) + rng.random_range(0..=cast.setting.lateness_micros), *row))
                .collect();
            late.sort_unstable();
            for (_, row) in late {
                push(cast, &mut engine, &[row], &mut found).map_err(words)?;
                let step = engine.step().map_err(words)?;
                found.take(step, &cast.rules);
            }
        }
        Way::TakenUpAgain => {
            // A stop costs an engine, so a long story is not stopped after each row.
            let every = order.len().div_ceil(MOST_STOPS).max(1);
            for (number, part) in order.chunks(every).enumerate() {
                push(cast, &mut engine, part, &mut found).map_err(words)?;
                let step = engine.step().map_err(words)?;
                found.take(step, &cast.rules);
                let told = (number * every + part.len()).min(order.len());
                engine = again(cast, engine, &order[..told])?;
            }
        }
    }
    engine.end(PartitionId(0));
    let step = engine.step().map_err(words)?;
    found.take(step, &cast.rules);
    let step = engine.finish().map_err(words)?;
    found.take(step, &cast.rules);
    Ok(found)
}

/// Stops of one story.
const MOST_STOPS: usize = 8;

fn engine(cast: &Cast<'_>) -> Result<Engine, EngineError> {
    let columns: Vec<String> =
        cast.rows.schema_ref().fields().iter().map(|field| field.name().clone()).collect();
    let options = Options {
        base_currency: cast.setting.currency.clone(),
        keep_hits: true,
        max_transactions: usize::MAX,
        ..Options::default()
    };
    let mut engine = Engine::new(cast.rules.clone(), cast.sql, &columns, options)?;
    engine.add_partition("case", cast.setting.lateness_micros);
    Ok(engine)
}

fn rows(cast: &Cast<'_>, order: &[u32]) -> Result<RecordBatch, EngineError> {
    Ok(take_record_batch(&cast.rows, &UInt32Array::from(order.to_vec()))?)
}

fn push(cast: &Cast<'_>, engine: &mut Engine, order: &[u32], found: &mut Found) -> Result<(), EngineError> {
    if let Some(late) = engine.push(PartitionId(0), rows(cast, order)?)? {
        found.late += late.rows.num_rows();
    }
    Ok(())
}

/// Another engine in the place of `old`, made of what a checkpoint would hold and of the rows that were read.
fn again(cast: &Cast<'_>, old: Engine, read: &[u32]) -> Result<Engine, String> {
    let words = |error: EngineError| error.to_string();
    let text = serde_json::to_string(&old.snapshot().map_err(words)?).map_err(|error| error.to_string())?;
    drop(old);
    let snapshot: Snapshot = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let watermark = snapshot.watermark;
    let mut engine = engine(cast).map_err(words)?;
    let resume = Resume::Exactly(Box::new(snapshot));
    engine.resume(&resume).map_err(words)?;
    let from = engine.rows_from(&resume);
    let ids = cast.rows.column_by_name("tx_id").map(|ids| ids.to_data());
    let ids = ids.map(arrow::array::StringArray::from).ok_or("the rows have no ids")?;
    let time = |row: &&u32| cast.times[**row as usize];
    let mut kept: Vec<u32> = read.iter().filter(|row| time(row) >= from).copied().collect();
    kept.sort_by_key(|row| (cast.times[*row as usize], ids.value(*row as usize)));
    let (evaluated, waiting): (Vec<u32>, Vec<u32>) = kept.iter().partition(|row| time(row) < watermark);
    if !evaluated.is_empty() {
        engine.replay(&resume, &rows(cast, &evaluated).map_err(words)?).map_err(words)?;
    }
    engine.resumed(&resume).map_err(words)?;
    if !waiting.is_empty() {
        engine.wait(PartitionId(0), &rows(cast, &waiting).map_err(words)?).map_err(words)?;
    }
    Ok(engine)
}

/// What differs from the first way; nothing, when the alerts are equal to the letter.
pub(crate) fn differences(first: &Found, other: &Found) -> Vec<String> {
    if first.alerts == other.alerts && other.late == 0 {
        return Vec::new();
    }
    let mut complaints = vec![format!(
        "it ends otherwise than with all rows at once: alerts {} instead of {}",
        list(&other.told()),
        list(&first.told())
    )];
    if other.late > 0 {
        complaints.push(format!("{} rows came too late", other.late));
    }
    if first.told() == other.told() {
        complaints.push("they differ in their details".into());
    }
    complaints
}

/// Lines as one text.
pub(crate) fn list(lines: &[String]) -> String {
    if lines.is_empty() { "none".into() } else { lines.join("; ") }
}
