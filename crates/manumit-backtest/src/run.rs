//! One pass of one version of the rules over a history.

use std::collections::HashSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use arrow::array::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use manumit_engine::{Engine, Hits, Options, StateLimit, documents};
use manumit_feed::Enricher;
use manumit_rules::ir::RuleSet;
use manumit_sql::Sql;

use crate::BacktestError;
use crate::findings::{Findings, OpenAlerts};
use crate::history::{Extent, History, Period};

/// What a pass needs beside the history.
#[derive(Clone)]
pub struct Setup {
    /// The rules.
    pub rules: Arc<RuleSet>,
    /// The session that they were loaded into, with reference tables.
    pub sql: Sql,
    /// ISO 4217 code that `amount_base` is in.
    pub base_currency: String,
    /// Worker threads.
    pub threads: usize,
    /// Hits and alerts of these event times count; earlier rows only fill the windows.
    pub period: Period,
    /// Keep transactions, so that parties can be named; without, memory holds the windows only.
    pub keep_transactions: bool,
    /// Write every hit of the period here, one JSON object a line.
    pub hits: Option<PathBuf>,
    /// Write every alert of the period here, one JSON object a line.
    pub alerts: Option<PathBuf>,
    /// See [`Options::only_keys`].
    pub only_keys: Option<Arc<Vec<HashSet<String>>>>,
    /// See [`Options::state`].
    pub state: Option<StateLimit>,
    /// See [`Options::most_state`].
    pub most_state: Option<usize>,
    /// See [`Options::most_transactions`].
    pub most_transactions: Option<usize>,
}

/// Told as the pass goes on.
pub trait Watch {
    /// `done` of `rows` rows; so many alerts so far.
    fn tick(&mut self, done: u64, rows: u64, alerts: u64);
    /// Shown all hits, those before the period included.
    ///
    /// # Errors
    /// What goes wrong with them ends the pass.
    fn found(&mut self, rules: &RuleSet, hits: &[Hits]) -> Result<(), BacktestError> {
        let _ = (rules, hits);
        Ok(())
    }
    /// True to stop early.
    fn stopped(&self) -> bool;
}

/// The period with the time before it that fills the windows.
///
/// # Errors
/// When the rules do not compile, which their loader should have refused.
pub fn read_period(history: &History, setup: &Setup) -> Result<Period, BacktestError> {
    Ok(read_from(&engine(history, setup, 1)?, &setup.period))
}

/// Why there is nothing to backtest; `all`: what the whole history holds.
pub fn nothing_in_period(all: &Extent) -> BacktestError {
    BacktestError::Empty(match (all.first, all.last) {
        (Some(first), Some(last)) => {
            format!("go from {} to {}", documents::instant(first), documents::instant(last))
        }
        _ => "hold none that can be used".into(),
    })
}

fn read_from(engine: &Engine, period: &Period) -> Period {
    Period { from: period.from.map(|from| from.saturating_sub(engine.lookback_micros())), to: period.to }
}

fn engine(history: &History, setup: &Setup, threads: usize) -> Result<Engine, BacktestError> {
    let options = Options {
        threads,
        base_currency: setup.base_currency.clone(),
        keep_hits: true,
        max_transactions: 500,
        keep_transactions: setup.keep_transactions,
        feeds_mixed: history.feeds_mixed,
        only_keys: setup.only_keys.clone(),
        state: setup.state.clone(),
        most_state: setup.most_state,
        most_transactions: setup.most_transactions,
        ..Options::default()
    };
    Ok(Engine::new(setup.rules.clone(), &setup.sql, &history.given_columns(), options)?)
}

/// Rows that go into the engine before it is asked what it found: enough that workers, who wait for each other after a
/// step, seldom do. The first steps are smaller, each twice as large as the one before, or workers would wait for the reader.
const STEP_ROWS: usize = 160_000;
const FIRST_STEP_ROWS: usize = 16_384;

/// Batches read ahead of the engine: the rows of a step and some more, so that the next one can begin when one ends.
const AHEAD: usize = 12;

/// Rows of a history, read by a thread of the runtime.
struct Reading {
    batches: Receiver<Result<RecordBatch, BacktestError>>,
    reader: tokio::task::JoinHandle<()>,
}

impl Reading {
    fn begin(runtime: &tokio::runtime::Runtime, mut stream: SendableRecordBatchStream) -> Reading {
        let (sender, batches) = sync_channel::<Result<RecordBatch, BacktestError>>(AHEAD);
        let reader = runtime.spawn(async move {
            use futures::StreamExt as _;
            while let Some(batch) = stream.next().await {
                let sent = tokio::task::block_in_place(|| sender.send(batch.map_err(BacktestError::from)));
                if sent.is_err() {
                    return;
                }
            }
        });
        Reading { batches, reader }
    }

    fn end(self) {
        drop(self.batches);
        self.reader.abort();
    }
}

/// Runs the rules over the history.
///
/// # Errors
/// [`BacktestError`] when data cannot be read, the period holds none, or results cannot be written.
pub fn run(
    runtime: &tokio::runtime::Runtime,
    history: &Arc<History>,
    setup: &Setup,
    watch: &mut dyn Watch,
) -> Result<Findings, BacktestError> {
    let enrich = history.lacks_base_amounts();
    let enricher = Enricher::new(&setup.base_currency, setup.sql.reference().clone());
    let mut engine = engine(history, setup, setup.threads)?;
    let read = read_from(&engine, &setup.period);
    // Base amounts are worked out from columns that rules may not read.
    let mut columns = history.columns.clone();
    if !enrich {
        let read = engine.columns();
        columns.retain(|name| read.contains(name));
    }
    // Where footers show that no row is left out, rows are read while it is still measured how they are ordered.
    let mut early = None;
    if history.all_usable(&read) {
        let (stream, _) = runtime.block_on(history.rows(&read, &Extent::default(), &columns))?;
        early = Some(Reading::begin(runtime, stream));
    }
    let extent = runtime.block_on(history.extent(&read))?;
    if extent.rows == 0 {
        return Err(nothing_in_period(&runtime.block_on(history.extent(&Period::default()))?));
    }
    let (reading, disorder) = match early {
        Some(reading) if extent.unusable == 0 && !extent.needs_sorting() => (reading, extent.disorder_micros),
        other => {
            if let Some(reading) = other {
                reading.end();
            }
            let (stream, disorder) = runtime.block_on(history.rows(&read, &extent, &columns))?;
            (Reading::begin(runtime, stream), disorder)
        }
    };
    let partition = engine.add_partition("backtest", disorder);
    let mut findings = Findings::new(&engine, extent);
    let mut open = OpenAlerts::default();
    let mut hits = setup.hits.as_ref().map(Lines::create).transpose()?;
    let mut alerts = setup.alerts.as_ref().map(Lines::create).transpose()?;
    let began = Instant::now();
    let (mut unstepped, mut step_rows) = (0, FIRST_STEP_ROWS);
    let mut done = 0;
    loop {
        let batch = reading.batches.recv().ok().transpose()?;
        let last = batch.is_none() || watch.stopped();
        if let Some(batch) = batch {
            let batch = if enrich { enricher.enrich(&batch)? } else { batch };
            unstepped += batch.num_rows();
            done += batch.num_rows() as u64;
            engine.push(partition, batch)?;
        }
        if last {
            engine.end(partition);
        }
        if last || unstepped >= step_rows {
            (unstepped, step_rows) = (0, (step_rows * 2).min(STEP_ROWS));
            let mut step = engine.step()?;
            if last && !watch.stopped() {
                step.append(engine.finish()?);
            }
            watch.found(engine.rules(), &step.hits)?;
            if let Some(lines) = &mut hits {
                for hit in documents::documents(engine.rules(), &step.hits) {
                    if in_period(&hit.event_time, &setup.period) {
                        lines.write(&hit)?;
                    }
                }
            }
            if let Some(lines) = &mut alerts {
                for alert in step.alerts.iter().filter(|a| in_period(&a.raised_at.utc, &setup.period)) {
                    lines.write(alert)?;
                }
            }
            findings.take(&engine, step, &setup.period, &mut open);
            watch.tick(done, findings.extent.rows, findings.alerts.len() as u64);
        }
        if last {
            break;
        }
    }
    reading.end();
    for lines in [hits, alerts].into_iter().flatten() {
        lines.finish()?;
    }
    findings.seconds = began.elapsed().as_secs_f64();
    findings.alerts.sort_by(|a, b| {
        (&a.opened_at, &a.typology, &a.subject).cmp(&(&b.opened_at, &b.typology, &b.subject))
    });
    Ok(findings)
}

fn in_period(text: &str, period: &Period) -> bool {
    *period == Period::default()
        || chrono::DateTime::parse_from_rfc3339(text).is_ok_and(|time| period.holds(time.timestamp_micros()))
}

/// A file of JSON lines.
struct Lines {
    path: PathBuf,
    writer: std::io::BufWriter<std::fs::File>,
}

impl Lines {
    fn create(path: &PathBuf) -> Result<Lines, BacktestError> {
        let file = std::fs::File::create(path)
            .map_err(|source| BacktestError::Write { path: path.clone(), source })?;
        Ok(Lines { path: path.clone(), writer: std::io::BufWriter::new(file) })
    }

    fn write(&mut self, value: &impl serde::Serialize) -> Result<(), BacktestError> {
        let mut line = serde_json::to_vec(value).map_err(|e| BacktestError::Report(e.to_string()))?;
        line.push(b'\n');
        self.writer
            .write_all(&line)
            .map_err(|source| BacktestError::Write { path: self.path.clone(), source })
    }

    fn finish(mut self) -> Result<(), BacktestError> {
        self.writer.flush().map_err(|source| BacktestError::Write { path: self.path.clone(), source })
    }
}
