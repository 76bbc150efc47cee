//! The loop: mapped rows into the engine, what it finds into the sinks, offsets back to Kafka.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use arrow::array::{Array as _, AsArray as _, RecordBatch};
use manumit_engine::{Engine, Options, PartitionId};
use manumit_feed::{Enricher, Feed};
use manumit_io::{KafkaSource, Standing, Transactions};
use manumit_rules::ir::RuleSet;
use manumit_sql::Sql;

use crate::archive::{Archiver, Finished};
use crate::budget::{self, Warning};
use crate::checkpoint::Store;
use crate::checkpoint::copies::Copies;
use crate::checkpoint::delivery::{Delivery, check_retention};
use crate::checkpoint::resume::{Found, take_up};
use crate::config::{Config, State};
use crate::outputs::{Outputs, Totals};
use crate::pipeline::{self, Input, Item, Pipeline, Request};
use crate::progress::Meter;
use crate::reference::Loaded;
use crate::telemetry::Metrics;

/// Everything a run needs, checked.
pub struct Job {
    /// Settings.
    pub config: Config,
    /// The session with reference tables.
    pub sql: Sql,
    /// The rules.
    pub rules: Arc<RuleSet>,
    /// The feeds.
    pub feeds: Arc<Vec<Feed>>,
    /// Where rows come from.
    pub input: Input,
    /// Reference tables that come from topics.
    pub reference: Loaded,
    /// Where accepted transactions are kept.
    pub archive: Option<Archiver>,
    /// How it delivers exactly once; otherwise at least once.
    pub exact: Option<Exact>,
}

/// What a run with checkpoints begins with.
pub struct Exact {
    /// The producer of all sinks, which has fenced those before.
    pub transactions: Transactions,
    /// The topics, which are not read yet.
    pub source: KafkaSource,
    /// Where the group had come to.
    pub standings: Vec<Standing>,
    /// The folder of checkpoints.
    pub store: Store,
    /// Where they are copied to.
    pub copies: Option<Copies>,
    /// What belongs to `standings`.
    pub found: Found,
    /// How often a checkpoint is made.
    pub every: Duration,
}

/// Rows gathered before the engine takes a step: enough to share among threads.
const STEP_ROWS: usize = 32_768;

/// How long nothing must come before that is news.
const QUIET: Duration = Duration::from_millis(200);

/// How long a row from a topic waits for a step at most, however steadily more of them come.
const LONGEST_WAIT: Duration = Duration::from_millis(50);

/// Rows that one partition may have waiting before it is paused.
const PAUSE_ROWS: usize = 200_000;

struct Open {
    id: PartitionId,
    feed: usize,
    next_offset: i64,
    /// When its end was reached, while nothing came since.
    at_end: Option<Instant>,
    ended: bool,
    paused: bool,
}

struct Loop<'a> {
    engine: Engine,
    outputs: &'a mut Outputs,
    totals: Totals,
    metrics: &'a Metrics,
    feeds: Arc<Vec<Feed>>,
    partitions: BTreeMap<(String, i32), Open>,
    unstepped: usize,
    state: State,
    warning: Warning,
    /// `None` as well when it has ended.
    archive: Option<Archiver>,
    /// Offsets archived for good, when the archive has ended.
    archived: Option<Finished>,
    /// When delivery is exact.
    delivery: Option<Delivery>,
}

/// Runs until the input ends or `stop` is set; what was read is then still evaluated and written.
///
/// # Errors
/// When a source or sink fails for good.
pub fn run(
    job: Job,
    outputs: &mut Outputs,
    metrics: &Metrics,
    meter: &mut Meter,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<Totals> {
    let threads = job.config.worker_threads();
    let mut given: Vec<String> = job.feeds.iter().flat_map(Feed::columns).collect();
    given.sort();
    given.dedup();
    let options = Options {
        threads,
        base_currency: job.config.base_currency.clone(),
        keep_hits: job.config.output.hits.is_some(),
        max_transactions: job.config.output.max_transactions,
        keep_transactions: true,
        state: budget::limit(&job.config.state, threads)?,
        ..Options::default()
    };
    let mut engine = Engine::new(job.rules, &job.sql, &Enricher::columns(&given), options)?;
    if let Some(archive) = &job.archive {
        let (older, tail_micros) = archive.look_back();
        engine.read_older_from(Box::new(older), tail_micros);
    }
    for indicator in engine.rules().indicators.iter().filter(|i| !i.unmet.is_empty()) {
        let (indicator, missing) = (&indicator.meta.id, indicator.unmet.join(", "));
        tracing::warn!(indicator, missing, "not looked at: no feed of this run maps what it needs");
    }
    let enricher = Enricher::new(&job.config.base_currency, job.sql.reference().clone());
    let Some(idle_after) = job.config.idle() else {
        bail!("`idle_after` is `{}`; write for example `30 seconds`", job.config.idle_after)
    };
    let (kafka, until_end) = match &job.input {
        Input::Kafka { until_end, .. } => (true, *until_end),
        Input::Files(_) => (false, true),
    };
    let mut reference = job.reference;
    for letter in std::mem::take(&mut reference.letters) {
        outputs.reference_letter(&letter, metrics)?;
    }
    // A run that ends sees reference data as they were at its start: run again, it gives the same.
    let mut followed = None;
    if !until_end {
        followed = reference.follow(job.sql.reference().clone(), stop.clone())?;
    }
    let mut input = job.input;
    let mut delivery = None;
    if let Some(exact) = job.exact {
        let Some(archive) = &job.archive else { bail!("delivery exactly once needs an archive") };
        check_retention(&job.config, &engine)?;
        let start = take_up(
            &mut engine,
            &job.feeds,
            &pipeline::topics(&job.feeds),
            &exact.standings,
            exact.found,
            archive.folder(),
        )?;
        let Some(group) = exact.source.group() else { bail!("the consumer has no group") };
        exact.source.assign(&exact.standings)?;
        if let Input::Kafka { source, .. } = &mut input {
            *source = Some(Box::new(exact.source));
        }
        let name = &job.config.kafka.group;
        let (store, copies) = (exact.store, exact.copies);
        delivery = Some(Delivery::new(exact.transactions, group, name, store, copies, exact.every, &start));
    }
    let mut pipeline = Pipeline::start(input, &job.feeds, &enricher, threads, stop)?;
    let mut main = Loop {
        engine,
        outputs,
        totals: Totals::default(),
        metrics,
        feeds: job.feeds,
        partitions: BTreeMap::new(),
        unstepped: 0,
        state: job.config.state.clone(),
        warning: Warning::default(),
        archive: job.archive,
        archived: None,
        delivery,
    };
    main.go_on()?;
    let mut committed = Instant::now();
    // A topic that brings little is evaluated as it comes, one that brings much in large steps; files only in large ones.
    let wait = |main: &Loop<'_>| if kafka && main.unstepped > 0 { Duration::ZERO } else { QUIET };
    let mut stepped = Instant::now();
    while let Some(item) = pipeline.next(wait(&main))? {
        let halted = matches!(&item, Item::Closed { partition: -1, .. });
        let quiet = matches!(item, Item::Idle);
        main.take(item, until_end)?;
        for letter in followed.iter().flat_map(|(letters, _)| letters.try_iter()) {
            main.outputs.reference_letter(&letter, metrics)?;
        }
        let waits = kafka && main.unstepped > 0 && stepped.elapsed() >= LONGEST_WAIT;
        if quiet || waits || main.unstepped >= STEP_ROWS {
            main.step()?;
            stepped = Instant::now();
        }
        if kafka {
            if !until_end {
                main.idle(idle_after);
            }
            main.hold_back(&pipeline)?;
            if main.delivery.as_ref().is_some_and(Delivery::is_due) {
                main.deliver()?;
            } else if main.delivery.is_none() && committed.elapsed() > Duration::from_secs(1) {
                main.commit(&pipeline, false)?;
                committed = Instant::now();
            }
            let all_ended = !main.partitions.is_empty() && main.partitions.values().all(|p| p.ended);
            if halted || (until_end && all_ended) {
                break;
            }
        }
        meter.tick(&main.totals, &main.engine, &pipeline.progress);
    }
    if !kafka && stop.load(Ordering::Relaxed) {
        tracing::warn!("stopped before the end of the input");
    }
    if !kafka || until_end {
        let ids: Vec<PartitionId> = main.partitions.values().map(|p| p.id).collect();
        for id in ids {
            main.engine.end(id);
        }
    }
    main.step()?;
    // A history with checkpoints goes on: a tick that is answered now would be answered again by the next run.
    if (!kafka || until_end) && main.delivery.is_none() && !stop.load(Ordering::Relaxed) {
        main.finish()?;
    }
    main.outputs.flush()?;
    main.deliver()?;
    if let Some(archive) = main.archive.take() {
        let finished = archive.finish()?;
        main.totals.archived = Some(finished.counts);
        main.archived = Some(finished);
    }
    if kafka && main.delivery.is_none() {
        main.commit(&pipeline, true)?;
    }
    meter.finish(&main.totals, &main.engine);
    let totals = main.totals;
    stop.store(true, Ordering::Relaxed);
    pipeline.finish();
    if let Some((_, thread)) = followed {
        // A thread that panicked has nothing more to give.
        let _ = thread.join();
    }
    Ok(totals)
}

impl Loop<'_> {
    fn take(&mut self, item: Item, until_end: bool) -> anyhow::Result<()> {
        match item {
            Item::Rows { feed, source, partition, next_offset, mapped } => {
                let name = self.feeds[feed].name().to_string();
                self.totals.read += mapped.read;
                self.totals.filtered += mapped.filtered;
                self.totals.accepted += mapped.transactions.num_rows() as u64;
                let label = [name.as_str()];
                self.metrics.read.with_label_values(&label).inc_by(mapped.read);
                self.metrics.filtered.with_label_values(&label).inc_by(mapped.filtered);
                self.metrics
                    .transactions
                    .with_label_values(&label)
                    .inc_by(mapped.transactions.num_rows() as u64);
                for (currency, count) in unpriced(&mapped.transactions) {
                    let labels = [name.as_str(), currency.as_str()];
                    self.metrics.unpriced.with_label_values(&labels).inc_by(count);
                    *self.totals.unpriced.entry(currency).or_default() += count;
                }
                self.outputs.dead_letters(&mapped.dead_letters, &mut self.totals, self.metrics)?;
                let id = self.open(feed, &source, partition);
                self.unstepped += mapped.transactions.num_rows();
                let kept = self.archive.is_some().then(|| mapped.transactions.clone());
                let late = self.engine.push(id, mapped.transactions)?;
                if let Some(late) = &late {
                    self.outputs.late(&name, late, &mut self.totals, self.metrics)?;
                }
                if let (Some(archive), Some(rows)) = (&self.archive, kept) {
                    let late = late.map_or(Vec::new(), |late| late.places);
                    let reached = (next_offset > 0).then(|| (source.clone(), partition, next_offset));
                    archive.take(rows, late, reached, self.engine.watermark())?;
                }
                if let Some(delivery) = &mut self.delivery {
                    delivery.reached(&source, partition, next_offset);
                }
                if let Some(open) = self.partitions.get_mut(&(source, partition)) {
                    open.next_offset = next_offset;
                    open.at_end = None;
                }
                self.metrics.set_trouble(self.archive.as_ref().and_then(Archiver::trouble));
            }
            Item::Opened { feed, source, partition } => {
                self.open(feed, &source, partition);
            }
            Item::End { source, partition } => {
                if let Some(open) = self.partitions.get_mut(&(source, partition)) {
                    open.at_end.get_or_insert_with(Instant::now);
                    if until_end {
                        open.ended = true;
                        self.engine.end(open.id);
                    }
                }
            }
            Item::Closed { source, partition } => {
                if let Some(open) = self.partitions.remove(&(source, partition)) {
                    // Its new owner reads again what was not committed.
                    self.engine.end(open.id);
                }
            }
            Item::Trouble(message) => {
                tracing::warn!(%message, "Kafka is in trouble; trying again");
                self.metrics.set_trouble(Some(message));
            }
            Item::Idle => {}
        }
        Ok(())
    }

    /// Partitions that an earlier run has read, or this one will, in the order in which the engine knows them; and, of a new
    /// history, the checkpoint that it goes back to when it is killed before the next one.
    fn go_on(&mut self) -> anyhow::Result<()> {
        let Some(delivery) = &self.delivery else { return Ok(()) };
        for (index, read) in delivery.read.iter().enumerate() {
            let Some(feed) = self.feeds.iter().position(|feed| feed.name() == read.feed) else { continue };
            let open = Open {
                id: PartitionId(index),
                feed,
                next_offset: read.next,
                at_end: None,
                ended: false,
                paused: false,
            };
            self.partitions.insert((read.source.clone(), read.partition), open);
        }
        if delivery.read.iter().all(|read| read.next == 0) { self.deliver() } else { Ok(()) }
    }

    /// Evaluates what can be, and commits all of it.
    fn deliver(&mut self) -> anyhow::Result<()> {
        if self.delivery.is_none() {
            return Ok(());
        }
        self.step()?;
        match &mut self.delivery {
            Some(delivery) => {
                delivery.commit(&self.engine, self.archive.as_ref(), self.outputs, self.metrics)
            }
            None => Ok(()),
        }
    }

    fn open(&mut self, feed: usize, source: &str, partition: i32) -> PartitionId {
        let (engine, feeds) = (&mut self.engine, &self.feeds);
        let open = self.partitions.entry((source.to_string(), partition)).or_insert_with(|| Open {
            id: engine.add_partition(feeds[feed].name(), feeds[feed].lateness_micros()),
            feed,
            next_offset: 0,
            at_end: None,
            ended: false,
            paused: false,
        });
        debug_assert_eq!(open.feed, feed);
        open.id
    }

    fn step(&mut self) -> anyhow::Result<()> {
        self.unstepped = 0;
        let step = self.engine.step()?;
        self.outputs.step(self.engine.rules(), step, &mut self.totals, self.metrics)?;
        let watermark = self.engine.watermark();
        if watermark > i64::MIN && watermark < i64::MAX {
            self.metrics.watermark.set(watermark.div_euclid(1_000_000));
        }
        self.metrics.waiting.set(self.engine.waiting_rows() as i64);
        self.metrics.state(self.engine.state_use());
        self.warning.check(&self.engine, &self.state);
        Ok(())
    }

    /// The input is complete.
    fn finish(&mut self) -> anyhow::Result<()> {
        let step = self.engine.finish()?;
        self.outputs.step(self.engine.rules(), step, &mut self.totals, self.metrics)
    }

    /// A partition that has been at its end for long holds nothing back.
    fn idle(&mut self, after: Duration) {
        let mut changed = false;
        for open in self.partitions.values() {
            if open.at_end.is_some_and(|since| since.elapsed() >= after) {
                self.engine.set_idle(open.id, true);
                changed = true;
            }
        }
        if changed {
            // The next step releases what waited for it.
            self.unstepped = self.unstepped.max(1);
        }
    }

    /// Pauses partitions that are far ahead of the watermark, so that memory never pays for skew.
    fn hold_back(&mut self, pipeline: &Pipeline) -> anyhow::Result<()> {
        let Some(requests) = &pipeline.requests else { return Ok(()) };
        if self.engine.waiting_rows() < PAUSE_ROWS && !self.partitions.values().any(|p| p.paused) {
            return Ok(());
        }
        for ((topic, partition), open) in &mut self.partitions {
            let waiting = self.engine.progress(open.id).map_or(0, |p| p.waiting_rows);
            let (request, paused) = if !open.paused && waiting > PAUSE_ROWS {
                (Request::Pause(topic.clone(), *partition), true)
            } else if open.paused && waiting < PAUSE_ROWS / 2 {
                (Request::Resume(topic.clone(), *partition), false)
            } else {
                continue;
            };
            open.paused = paused;
            requests.send(request).context("the Kafka reader ended")?;
        }
        Ok(())
    }

    /// The offset up to which a partition's rows are archived for good; no bound where there is no archive.
    fn archived_to(&self, topic: &str, partition: i32) -> i64 {
        match (&self.archive, &self.archived) {
            (Some(archive), _) => archive.committed(topic, partition).unwrap_or(0),
            (None, Some(finished)) => {
                finished.committed.get(&(topic.to_string(), partition)).copied().unwrap_or(0)
            }
            (None, None) => i64::MAX,
        }
    }

    /// Commits up to the oldest row that still waits, or is not archived: what was released is written and flushed before.
    /// Waits for the answer only when `wait`: the reader may itself be waiting for room in the queue.
    fn commit(&mut self, pipeline: &Pipeline, wait: bool) -> anyhow::Result<()> {
        let Some(requests) = &pipeline.requests else { return Ok(()) };
        self.outputs.flush()?;
        let mut offsets = Vec::new();
        for ((topic, partition), open) in &self.partitions {
            let waiting = self.engine.progress(open.id).and_then(|p| p.oldest_waiting_offset);
            let next = waiting.unwrap_or(open.next_offset).min(self.archived_to(topic, *partition));
            if next > 0 {
                offsets.push((topic.clone(), *partition, next));
            }
        }
        let (answer, answered) = channel();
        requests.send(Request::Commit(offsets, answer)).context("the Kafka reader ended")?;
        if !wait {
            return Ok(());
        }
        match answered.recv_timeout(Duration::from_secs(30)) {
            Ok(Ok(())) => {}
            // After a rebalance another member owns the partition; it reads on from the last commit.
            Ok(Err(error)) => tracing::warn!(%error, "offsets were not committed"),
            Err(_) => tracing::warn!("offsets were not committed: the reader did not answer"),
        }
        Ok(())
    }
}

/// Rows without an amount in the base currency, by their own currency.
fn unpriced(rows: &RecordBatch) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let (Some(amounts), Some(currencies)) =
        (rows.column_by_name("amount_base"), rows.column_by_name("currency"))
    else {
        return counts;
    };
    if amounts.null_count() > 0
        && let Some(currencies) = currencies.as_string_opt::<i32>()
    {
        for row in (0..rows.num_rows()).filter(|&row| amounts.is_null(row) && currencies.is_valid(row)) {
            *counts.entry(currencies.value(row).to_string()).or_default() += 1;
        }
    }
    counts
}
