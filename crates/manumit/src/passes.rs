//! Passes of one version of the rules over a history: here, here and held against SQL, or on a cluster.

use std::collections::{BTreeMap, HashSet};
use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::Compression;
use datafusion::parquet::file::properties::WriterProperties;
use datafusion::prelude::SessionContext;
use indicatif::{ProgressBar, ProgressStyle};
use manumit_backtest::batch::{
    ask, extent, hits_sql, key_columns, keys_table, local_session, register, register_reference,
};
use manumit_backtest::check::{Checked, Comparison, Side};
use manumit_backtest::findings::Findings;
use manumit_backtest::history::{History, Period};
use manumit_backtest::report::{ClusterUse, ExecutorUse};
use manumit_backtest::{BacktestError, Setup, Watch, nothing_in_period, read_period, run};
use manumit_cluster::{Cluster, JobStatus};
use manumit_engine::Hits;
use manumit_rules::ir::RuleSet;

/// What a pass gave.
pub(crate) struct Outcome {
    pub findings: Findings,
    pub checked: Option<Checked>,
    pub cluster: Option<ClusterUse>,
}

/// One version of the rules over one history.
pub(crate) struct Pass<'a> {
    pub runtime: &'a tokio::runtime::Runtime,
    pub history: &'a Arc<History>,
    pub setup: &'a Setup,
    pub stop: &'a Arc<AtomicBool>,
    /// Shown beside the progress.
    pub name: &'a str,
    /// A folder for files of the pass; needed where hits are compared.
    pub scratch: &'a Path,
}

impl Pass<'_> {
    /// By the engine of this process; with `verify` also by each indicator's own SQL, and compared.
    pub fn here(&self, verify: bool) -> anyhow::Result<Outcome> {
        if !verify {
            let findings = self.engine(self.history, self.setup, None)?;
            return Ok(Outcome { findings, checked: None, cluster: None });
        }
        let rules = self.setup.rules.fitted(&self.history.given_columns());
        let mut comparison = Comparison::new(&rules, &self.setup.period, self.scratch)?;
        let findings = self.engine(self.history, self.setup, Some(&mut comparison))?;
        let began = Instant::now();
        let session = local_session(&self.setup.sql, self.setup.threads)?;
        let read = read_period(self.history, self.setup)?;
        self.runtime.block_on(register(self.history, &session, &read, &self.setup.base_currency))?;
        if rules.indicators.iter().any(|indicator| indicator.keyed.is_some()) {
            self.runtime.block_on(register_reference(&session, &self.setup.sql, None))?;
        }
        for (index, indicator) in rules.indicators.iter().enumerate() {
            self.tell("SQL of", began, index, rules.indicators.len())?;
            for sql in self.runtime.block_on(hits_sql(&session, &rules, indicator))? {
                let answer = ask(&session, &sql, |rows| comparison.add(Side::Sql, index, &rows));
                if let Err(error) = self.runtime.block_on(answer) {
                    comparison.fail(index, error.to_string());
                }
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        let checked = Checked { by: "DataFusion", seconds, indicators: comparison.finish()? };
        Ok(Outcome { findings, checked: Some(checked), cluster: None })
    }

    /// The cluster finds the hits of all indicators by their SQL and gives the transactions of the keys that hit; the
    /// engine of this process replays these, as features of a key depend on its own rows only, and builds the alerts.
    /// What both found is compared.
    pub fn on(&self, cluster: &Cluster) -> anyhow::Result<Outcome> {
        let began = Instant::now();
        let session = cluster.session();
        let rules = self.setup.rules.fitted(&self.history.given_columns());
        let read = read_period(self.history, self.setup)?;
        let base = &self.setup.base_currency;
        if rules.indicators.iter().any(|indicator| indicator.keyed.is_some()) {
            self.runtime.block_on(register_reference(session, &self.setup.sql, Some(self.scratch)))?;
        }
        let mut tally = Tally::new(cluster);
        self.runtime.block_on(register(self.history, session, &read, base))?;
        let (extent, plan) = self.runtime.block_on(self::extent(self.history, session, &read))?;
        tally.add(self.runtime.block_on(cluster.status(&plan))?);
        if extent.rows == 0 {
            let (all, _) = self.runtime.block_on(self::extent(self.history, session, &Period::default()))?;
            bail!(nothing_in_period(&all));
        }
        let mut comparison = Comparison::new(&rules, &self.setup.period, self.scratch)?;
        let mut keys: Vec<HashSet<String>> = vec![HashSet::new(); rules.indicators.len()];
        for (index, indicator) in rules.indicators.iter().enumerate() {
            self.tell("cluster:", began, index, rules.indicators.len())?;
            for sql in self.runtime.block_on(hits_sql(session, &rules, indicator))? {
                let answer = ask(session, &sql, |rows| {
                    collect_keys(&rows, &mut keys[index])?;
                    comparison.add(Side::Sql, index, &rows)
                });
                let plan = self
                    .runtime
                    .block_on(answer)
                    .with_context(|| format!("{} on the cluster", indicator.meta.id))?;
                tally.add(self.runtime.block_on(cluster.status(&plan))?);
            }
        }
        let rows = self.scratch.join("rows.parquet");
        let fetched =
            self.runtime.block_on(fetch(self.history, session, &rules, &keys, self.scratch, &rows))?;
        tally.add(self.runtime.block_on(cluster.status(&fetched.plan))?);
        let seconds = began.elapsed().as_secs_f64();
        let count = keys.iter().map(HashSet::len).sum();

        let part = Arc::new(self.runtime.block_on(History::open(&[rows], true))?);
        let setup = Setup { only_keys: Some(Arc::new(keys)), ..self.setup.clone() };
        let mut findings = self.engine(&part, &setup, Some(&mut comparison))?;
        findings.extent = extent;
        findings.evaluated = extent.rows;
        findings.seconds = began.elapsed().as_secs_f64();
        let checked = Checked { by: "Ballista", seconds, indicators: comparison.finish()? };
        let used = tally.finish(seconds, count, fetched.rows);
        Ok(Outcome { findings, checked: Some(checked), cluster: Some(used) })
    }

    fn engine(
        &self,
        history: &Arc<History>,
        setup: &Setup,
        comparison: Option<&mut Comparison>,
    ) -> anyhow::Result<Findings> {
        let mut watching = Watching { bar: Bar::new(self.name, self.stop.clone()), comparison };
        let findings = run(self.runtime, history, setup, &mut watching)?;
        watching.bar.finish();
        self.stopped()?;
        Ok(findings)
    }

    fn stopped(&self) -> anyhow::Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            bail!("stopped; no report was written");
        }
        Ok(())
    }

    /// A line now and then, as queries take their time.
    fn tell(&self, what: &str, began: Instant, done: usize, all: usize) -> anyhow::Result<()> {
        self.stopped()?;
        let seconds = began.elapsed().as_secs();
        if done > 0 && seconds >= 10 && done.is_multiple_of(all.div_ceil(10).max(1)) {
            eprintln!("{}: {what} {done} of {all} indicators answered, {seconds} s", self.name);
        }
        Ok(())
    }
}

fn collect_keys(rows: &RecordBatch, keys: &mut HashSet<String>) -> Result<(), BacktestError> {
    let Some(subjects) = rows.column_by_name("subject") else {
        return Err(BacktestError::Report("the hits have no column subject".into()));
    };
    let subjects = cast(subjects, &DataType::Utf8)?;
    let subjects = subjects.as_string::<i32>();
    for row in (0..subjects.len()).filter(|&row| subjects.is_valid(row)) {
        if !keys.contains(subjects.value(row)) {
            keys.insert(subjects.value(row).to_string());
        }
    }
    Ok(())
}

struct Fetched {
    rows: u64,
    plan: Arc<dyn datafusion::physical_plan::ExecutionPlan>,
}

/// Writes the transactions of all keys to a file. Without keys it is one row, which cannot hit: an engine wants something.
async fn fetch(
    history: &History,
    session: &SessionContext,
    rules: &RuleSet,
    keys: &[HashSet<String>],
    scratch: &Path,
    to: &Path,
) -> anyhow::Result<Fetched> {
    let mut by_column: BTreeMap<&str, HashSet<&str>> = BTreeMap::new();
    for (indicator, keys) in rules.indicators.iter().zip(keys).filter(|(_, keys)| !keys.is_empty()) {
        for column in key_columns(indicator) {
            by_column.entry(column).or_default().extend(keys.iter().map(String::as_str));
        }
    }
    let columns: Vec<String> = history.given_columns().iter().map(|name| format!("t.{name}")).collect();
    let mut sql = format!("SELECT {} FROM transactions AS t", columns.join(", "));
    let mut wanted = Vec::new();
    for (number, (column, keys)) in by_column.iter().enumerate() {
        let name = format!("keys_{number}");
        let mut sorted: Vec<&str> = keys.iter().copied().collect();
        sorted.sort_unstable();
        keys_table(session, Some(scratch), &name, sorted.into_iter()).await?;
        // Keys are different from each other: a join gives no row twice.
        sql.push_str(&format!(" LEFT JOIN {name} ON t.{column} = {name}.k"));
        wanted.push(format!("{name}.k IS NOT NULL"));
    }
    if wanted.is_empty() {
        sql.push_str(" LIMIT 1");
    } else {
        sql.push_str(&format!(" WHERE {}", wanted.join(" OR ")));
    }
    let mut writer: Option<ArrowWriter<std::fs::File>> = None;
    let mut rows = 0;
    let write = |e: datafusion::parquet::errors::ParquetError| BacktestError::DataFusion(e.into());
    let plan = ask(session, &sql, |batch| {
        rows += batch.num_rows() as u64;
        if writer.is_none() {
            let file = std::fs::File::create(to)
                .map_err(|source| BacktestError::Write { path: to.to_path_buf(), source })?;
            let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
            writer = Some(ArrowWriter::try_new(file, batch.schema(), Some(properties)).map_err(write)?);
        }
        match &mut writer {
            Some(writer) => writer.write(&batch).map_err(write),
            None => Ok(()),
        }
    })
    .await
    .context("transactions of the keys that hit, from the cluster")?;
    match writer {
        Some(writer) => writer.close().map_err(write)?,
        None => bail!(
            "the cluster gave no transactions for the keys that hit: the files may have changed meanwhile"
        ),
    };
    Ok(Fetched { rows, plan })
}

/// What executors did, added up.
struct Tally {
    used: ClusterUse,
}

impl Tally {
    fn new(cluster: &Cluster) -> Tally {
        let executors = cluster.executors.iter().map(|executor| ExecutorUse {
            name: executor.name.clone(),
            address: executor.address.clone(),
            cores: executor.cores,
            tasks: 0,
            rows: 0,
            seconds: 0.0,
        });
        Tally {
            used: ClusterUse {
                scheduler: cluster.scheduler.clone(),
                seconds: 0.0,
                jobs: 0,
                stages: 0,
                tasks: 0,
                keys: 0,
                fetched: 0,
                executors: executors.collect(),
            },
        }
    }

    fn add(&mut self, job: Option<JobStatus>) {
        let Some(job) = job else { return };
        self.used.jobs += 1;
        self.used.stages += job.stages.len();
        for task in job.stages.into_iter().flat_map(|stage| stage.tasks) {
            self.used.tasks += 1;
            let executors = &mut self.used.executors;
            let place = match executors.iter().position(|executor| executor.name == task.executor) {
                Some(place) => place,
                // It joined while the backtest ran.
                None => {
                    executors.push(ExecutorUse {
                        name: task.executor,
                        address: String::new(),
                        cores: 0,
                        tasks: 0,
                        rows: 0,
                        seconds: 0.0,
                    });
                    executors.len() - 1
                }
            };
            executors[place].tasks += 1;
            executors[place].rows += task.rows;
            executors[place].seconds += task.millis as f64 / 1000.0;
        }
    }

    fn finish(self, seconds: f64, keys: usize, fetched: u64) -> ClusterUse {
        ClusterUse { seconds, keys, fetched, ..self.used }
    }
}

/// Progress, and hits that are compared.
struct Watching<'a> {
    bar: Bar,
    comparison: Option<&'a mut Comparison>,
}

impl Watch for Watching<'_> {
    fn tick(&mut self, done: u64, rows: u64, alerts: u64) {
        self.bar.tick(done, rows, alerts);
    }

    fn found(&mut self, _: &RuleSet, hits: &[Hits]) -> Result<(), BacktestError> {
        if let Some(comparison) = &mut self.comparison {
            for hits in hits {
                comparison.add(Side::Engine, hits.indicator, &hits.rows)?;
            }
        }
        Ok(())
    }

    fn stopped(&self) -> bool {
        self.bar.stop.load(Ordering::Relaxed)
    }
}

/// A bar on a terminal, lines every ten seconds otherwise.
struct Bar {
    bar: Option<ProgressBar>,
    name: String,
    began: Instant,
    shown: Instant,
    stop: Arc<AtomicBool>,
}

impl Bar {
    fn new(name: &str, stop: Arc<AtomicBool>) -> Bar {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let style = ProgressStyle::with_template(
                "{prefix} [{elapsed_precise}] {bar:30} {percent:>3} %  {msg}  {eta} left",
            );
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(name.to_string());
            bar
        });
        let now = Instant::now();
        Bar { bar, name: name.to_string(), began: now, shown: now, stop }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn tick(&mut self, done: u64, rows: u64, alerts: u64) {
        let every = Duration::from_millis(if self.bar.is_some() { 200 } else { 10_000 });
        if self.shown.elapsed() < every {
            return;
        }
        self.shown = Instant::now();
        let rate = done as f64 / self.began.elapsed().as_secs_f64().max(0.001);
        let percent = done * 100 / rows.max(1);
        match &self.bar {
            Some(bar) => {
                bar.set_length(rows);
                bar.set_position(done);
                bar.set_message(format!("{done} of {rows} transactions, {rate:.0}/s, {alerts} alerts"));
            }
            None => eprintln!(
                "{}: {percent} %, {done} of {rows} transactions, {rate:.0}/s, {alerts} alerts",
                self.name
            ),
        }
    }
}
