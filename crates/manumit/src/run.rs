//! The loop: mapped rows into the engine, what it finds into the sinks, offsets back to Kafka.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::bail;
use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::compute::filter_record_batch;
use manumit_engine::{Engine, Options, PartitionId};
use manumit_feed::{Enricher, Feed};
use manumit_model::DeadLetter;
use manumit_rules::ir::RuleSet;
use manumit_sql::Sql;
use manumit_sql::reference::SharedReference;

use crate::archive::{Archiver, Finished};
use crate::budget::{self, Warning};
use crate::checkpoint::delivery::Delivery;
use crate::checkpoint::resume::Again;
use crate::checkpoint::start::Exact;
use crate::config::{Config, State};
use crate::duplicates::{self, Duplicates};
use crate::ledger::{AlertCounts, AlertLine, Folder, Ledger, Taken, Violation};
use crate::limits::{self, ORDER};
use crate::lists::{Lists, News, Watch};
use crate::outputs::{Outputs, Totals};
use crate::pipeline::{Input, Item, Pipeline, Progress};
use crate::progress::Meter;
use crate::reference::{Loaded, Room};
use crate::status::{LastCheckpoint, Status};
use crate::telemetry::Metrics;

mod topics;

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
    /// Reference tables that come from topics; the run reads them before anything else.
    pub reference: Loaded,
    /// Where accepted transactions are kept.
    pub archive: Option<Archiver>,
    /// How it delivers exactly once; otherwise at least once.
    pub exact: Option<Exact>,
    /// The lists in use.
    pub lists: Arc<Lists>,
    /// Looks for new versions of them, where the run follows topics.
    pub watch: Option<Watch>,
}

/// How a run ended.
pub struct Ended {
    /// What came of it.
    pub totals: Totals,
    /// It made way for new versions of lists, with which it is to be taken up again at once.
    pub lists: Option<Arc<Lists>>,
}

/// Rows gathered before the engine takes a step: enough to share among threads.
const STEP_ROWS: usize = 32_768;

/// How long nothing must come before that is news.
const QUIET: Duration = Duration::from_millis(200);

/// How long a row from a topic waits for a step at most, however steadily more of them come.
const LONGEST_WAIT: Duration = Duration::from_millis(50);

/// How often the ledger is shown and written, beside every commit of a run that delivers exactly once.
const SETTLED_EVERY: Duration = Duration::from_secs(2);

struct Open {
    id: PartitionId,
    /// Its place in the ledger.
    account: usize,
    feed: usize,
    next_offset: i64,
    /// When its end was reached, while nothing came since.
    at_end: Option<Instant>,
    /// When the broker was asked whether that is still so.
    asked: Option<Instant>,
    /// It is, and nobody waits for it.
    idle: bool,
    ended: bool,
    paused: bool,
}

impl Open {
    fn new(id: PartitionId, account: usize, feed: usize, next_offset: i64) -> Open {
        let (at_end, asked) = (None, None);
        Open { id, account, feed, next_offset, at_end, asked, idle: false, ended: false, paused: false }
    }
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
    duplicates: Duplicates,
    ledger: Ledger,
    /// Where the ledger is written by day.
    folder: Option<Folder>,
    violation: Option<Violation>,
    /// When the last commit of this run was.
    checkpoint_at: Option<String>,
    progress: Arc<Progress>,
    /// `None` as well when it has ended.
    archive: Option<Archiver>,
    /// Offsets archived for good, when the archive has ended.
    archived: Option<Finished>,
    /// When delivery is exact.
    delivery: Option<Delivery>,
    /// Reference tables, and what they may take.
    known: (SharedReference, Arc<Room>),
}

/// Messages of reference topics that cannot be used, until they are told.
#[derive(Default)]
struct Letters {
    held: Vec<DeadLetter>,
    bytes: usize,
}

impl Letters {
    /// Bytes of messages that are held.
    const MOST: usize = 16 << 20;

    fn hold(&mut self, letter: DeadLetter, outputs: &mut Outputs, metrics: &Metrics) -> anyhow::Result<()> {
        self.bytes += size_of::<DeadLetter>() + letter.message.len();
        self.bytes += letter.raw.as_ref().or(letter.raw_base64.as_ref()).map_or(0, String::len);
        self.held.push(letter);
        if self.bytes > Letters::MOST { self.send(outputs, metrics) } else { Ok(()) }
    }

    fn send(&mut self, outputs: &mut Outputs, metrics: &Metrics) -> anyhow::Result<()> {
        self.bytes = 0;
        for letter in self.held.drain(..) {
            outputs.reference_letter(&letter, metrics)?;
        }
        Ok(())
    }
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
) -> anyhow::Result<Ended> {
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
        most_state: Some(budget::most(&job.config.state)?),
        most_transactions: Some(budget::most_transactions(&job.config.state)?),
        ..Options::default()
    };
    let columns = Enricher::columns(&given);
    let mut engine = Engine::new(job.rules.clone(), &job.sql, &columns, options.clone())?;
    if let Some(archive) = &job.archive {
        let (older, tail_micros) = archive.look_back();
        engine.read_older_from(Box::new(older), tail_micros);
    }
    let unmet: Vec<String> = engine
        .rules()
        .indicators
        .iter()
        .filter(|indicator| !indicator.unmet.is_empty())
        .map(|indicator| format!("{} ({})", indicator.meta.id, indicator.unmet.join(", ")))
        .collect();
    if !unmet.is_empty() {
        let (count, indicators) = (unmet.len(), unmet.join(", "));
        tracing::warn!(
            count,
            indicators,
            "some indicators find nothing: no feed of this run maps the columns named here; map them in a feed's SELECT where the bank has them"
        );
    }
    let enricher = Enricher::new(&job.config.base_currency, job.sql.reference().clone());
    let Some(idle_after) = job.config.idle() else {
        bail!("`idle_after` is `{}`; write for example `30 seconds`", job.config.idle_after)
    };
    let (kafka, until_end) = match &job.input {
        Input::Kafka { until_end, .. } => (true, *until_end),
        Input::Files(_) | Input::Parts(_) => (false, true),
    };
    let mut reference = job.reference;
    let room = reference.room.clone();
    // Told when the run has begun, unless they are many: nothing is sent before a transaction is about to end.
    let mut letters = Letters::default();
    reference.read_topics(job.sql.reference(), &mut |letter| letters.hold(letter, outputs, metrics))?;
    // A run that ends sees reference data as they were at its start: run again, it gives the same.
    let mut followed = None;
    if !until_end {
        followed = reference.follow(job.sql.reference().clone(), stop.clone())?;
    }
    let folder = job.config.ledger.folder.as_deref().map(Folder::open).transpose()?;
    let mut ledger = Ledger::new(chrono::Utc::now());
    let mut duplicates = Duplicates::new(&job.feeds, job.config.duplicates.horizon_micros()?);
    let mut input = job.input;
    let (mut delivery, mut screened) = (None, None);
    if let Some(exact) = job.exact {
        let Some(archive) = &job.archive else { bail!("delivery exactly once needs an archive") };
        // Only for as long as rows are screened again, so all of its rows stay in memory.
        let with = |lists: &Lists| -> anyhow::Result<Engine> {
            let sql = lists
                .beside(job.sql.reference())
                .map_err(|faults| anyhow::anyhow!("the lists of the checkpoint cannot be read:\n{faults}"))?;
            let alone = Options { state: None, keep_hits: false, ..options.clone() };
            let mut engine = Engine::new(job.rules.clone(), &sql, &columns, alone)?;
            let (older, tail_micros) = archive.look_back();
            engine.read_older_from(Box::new(older), tail_micros);
            Ok(engine)
        };
        let begun = exact.begin(
            &job.config,
            &mut engine,
            &job.feeds,
            &mut duplicates,
            &mut input,
            &Again { archive: archive.folder(), lists: &job.lists, with: &with },
        )?;
        if let Some(saved) = begun.ledger {
            ledger = saved.taken_up();
        }
        (delivery, screened) = (Some(begun.delivery), begun.screened);
    }
    let mut pipeline = Pipeline::start(input, &job.feeds, &enricher, threads, duplicates.is_on(), stop)?;
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
        duplicates,
        ledger,
        folder,
        violation: None,
        checkpoint_at: None,
        progress: pipeline.progress.clone(),
        archive: job.archive,
        archived: None,
        delivery,
        known: (job.sql.reference().clone(), room),
    };
    main.go_on()?;
    letters.send(main.outputs, metrics)?;
    if let Some(step) = screened {
        tracing::info!(
            alerts = step.alerts.len(),
            "past rows were screened again with the lists as they are"
        );
        main.outputs.step(main.engine.rules(), step, &mut main.totals, metrics)?;
        main.deliver()?;
    }
    let mut new_lists = None;
    let (mut committed, mut settled) = (Instant::now(), Instant::now());
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
                main.idle(idle_after, &pipeline)?;
            }
            main.hold_back(&pipeline)?;
        }
        if main.delivery.as_ref().is_some_and(|delivery| delivery.is_due()) {
            main.deliver()?;
        }
        if kafka {
            if main.delivery.is_none() && committed.elapsed() > Duration::from_secs(1) {
                main.commit(&pipeline, false)?;
                committed = Instant::now();
            }
            let all_ended = !main.partitions.is_empty() && main.partitions.values().all(|p| p.ended);
            if halted || (until_end && all_ended) {
                break;
            }
        }
        for news in job.watch.iter().flat_map(Watch::news) {
            new_lists = main.take_news(news, &job.sql)?.or(new_lists);
        }
        if new_lists.is_some() {
            break;
        }
        if settled.elapsed() > SETTLED_EVERY {
            main.settle()?;
            main.write_ledger();
            settled = Instant::now();
        }
        meter.tick(&main.totals, &main.engine, &pipeline.progress);
    }
    let stopped = !kafka && stop.load(Ordering::Relaxed);
    if stopped {
        tracing::warn!("stopped before the end of the input");
    }
    // With checkpoints the next run goes on in the middle of the files: what waits goes on waiting, for what is still to be read.
    if (!kafka || until_end) && !(stopped && main.delivery.is_some()) {
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
    main.settle()?;
    main.write_ledger();
    if let Some(archive) = main.archive.take() {
        let finished = archive.finish()?;
        main.totals.archived = Some(finished.counts);
        main.archived = Some(finished);
    }
    if kafka && main.delivery.is_none() {
        main.commit(&pipeline, true)?;
    }
    meter.finish(&main.totals, &main.engine);
    main.totals.reference_refused = main.known.1.refused();
    let (totals, violation) = (main.totals, main.violation);
    stop.store(true, Ordering::Relaxed);
    pipeline.finish();
    if let Some((letters, thread)) = followed {
        // It may wait for room.
        drop(letters);
        // A thread that panicked has nothing more to give.
        let _ = thread.join();
    }
    match violation {
        Some(violation) => Err(violation.into()),
        None => Ok(Ended { totals, lists: new_lists }),
    }
}

impl Loop<'_> {
    fn take(&mut self, item: Item, until_end: bool) -> anyhow::Result<()> {
        match item {
            Item::Rows { feed, source, partition, next_offset, read, mut mapped, numbers, records, file } => {
                let name = self.feeds[feed].name().to_string();
                let judged =
                    self.duplicates.judge(feed, (&source, partition), &mapped.transactions, &numbers);
                if let Some(keep) = &judged.keep {
                    for conflict in &judged.conflicts {
                        let rows = &mapped.transactions;
                        mapped.dead_letters.push(duplicates::letter(
                            &name,
                            rows,
                            conflict,
                            records.as_deref(),
                        ));
                    }
                    mapped.dead_letters.sort_by_key(|letter| letter.position.offset);
                    mapped.transactions = filter_record_batch(&mapped.transactions, keep)?;
                    self.totals.duplicates += judged.duplicates;
                    self.metrics.duplicates.with_label_values(&[&name]).inc_by(judged.duplicates);
                }
                self.totals.read += read;
                self.totals.filtered += mapped.filtered;
                self.totals.accepted += mapped.transactions.num_rows() as u64;
                let label = [name.as_str()];
                self.metrics.read.with_label_values(&label).inc_by(read);
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
                if let Some(absent) = &mapped.absent {
                    tracing::warn!(feed = %name, "{absent}");
                    self.metrics.files_lacking.with_label_values(&label).inc();
                    self.totals.files_lacking += 1;
                }
                self.outputs.dead_letters(&mapped.dead_letters, &mut self.totals, self.metrics)?;
                let id = self.open(feed, &source, partition);
                self.unstepped += mapped.transactions.num_rows();
                let kept = self.archive.is_some().then(|| mapped.transactions.clone());
                let late = self.engine.push(id, mapped.transactions)?;
                if let Some(late) = &late {
                    self.outputs.late(&name, late, &mut self.totals, self.metrics)?;
                }
                if let Some(open) = self.partitions.get(&(source.clone(), partition)) {
                    let taken = Taken {
                        read,
                        further: mapped.further,
                        filtered: mapped.filtered,
                        duplicates: judged.duplicates,
                        late: late.as_ref().map_or(0, |late| late.places.len() as u64),
                        dead_letters: &mapped.dead_letters,
                        next_offset,
                    };
                    self.ledger.take(open.account, &taken);
                }
                if let (Some(archive), Some(rows)) = (&self.archive, kept) {
                    let late = late.map_or(Vec::new(), |late| late.places);
                    let reached = (next_offset > 0).then(|| (source.clone(), partition, next_offset));
                    archive.take(rows, late, reached, self.engine.watermark())?;
                }
                if let Some(delivery) = &mut self.delivery {
                    match file {
                        Some(file) => delivery.reached_in_file(*file, read),
                        None => delivery.reached(&source, partition, next_offset),
                    }
                }
                if let Some(open) = self.partitions.get_mut(&(source, partition)) {
                    open.next_offset = next_offset;
                    (open.at_end, open.asked, open.idle) = (None, None, false);
                }
                self.metrics.set_trouble(self.archive.as_ref().and_then(Archiver::trouble));
            }
            Item::Opened { feed, source, partition } => {
                self.open(feed, &source, partition);
            }
            Item::End { source, partition } => {
                if let Some(delivery) = &mut self.delivery {
                    delivery.ended(&source);
                }
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
            Item::Quiet { source, partition } => {
                if let Some(open) = self.partitions.get_mut(&(source, partition))
                    && open.at_end.is_some()
                    && !open.idle
                {
                    open.idle = true;
                    self.engine.set_idle(open.id, true);
                    // The next step releases what waited for it.
                    self.unstepped = self.unstepped.max(1);
                }
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
            let (id, name) = (PartitionId(index), self.feeds[feed].name());
            let account = self.ledger.open(name, &read.source, read.partition, id, &self.engine);
            let open = Open::new(id, account, feed, read.next);
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
        // `L1`: first, so that nothing is committed of what does not add up.
        self.settle()?;
        match &mut self.delivery {
            Some(delivery) => {
                let Some(archive) = &self.archive else { bail!("delivery exactly once needs an archive") };
                let (outputs, metrics) = (&mut *self.outputs, self.metrics);
                delivery.commit(
                    &self.engine,
                    &self.ledger,
                    || archive.commit(),
                    || outputs.settled(),
                    &|trouble| metrics.set_trouble(trouble),
                )?;
                self.checkpoint_at = Some(now());
                self.write_ledger();
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Holds the sums of the ledger against each other and shows them.
    ///
    /// # Errors
    /// When one does not hold and delivery is exact: the run must end. Otherwise it goes on and says so until its end.
    fn settle(&mut self) -> anyhow::Result<()> {
        let totals = &self.totals;
        let alerts = AlertCounts {
            raised: totals.raised,
            published: totals.published,
            suppressed: totals.suppressed,
            excluded: totals.excluded,
        };
        let settled = self.ledger.settle(&self.engine, totals.evaluated, alerts);
        self.show();
        let Err(violation) = settled else { return Ok(()) };
        self.metrics.violation(&violation.to_string());
        if self.violation.is_none() {
            tracing::error!(%violation, "records were lost or counted twice");
            self.violation = Some(violation.clone());
        }
        if self.delivery.is_some() { Err(violation.into()) } else { Ok(()) }
    }

    fn show(&self) {
        if let Some(bytes) = limits::resident() {
            self.metrics.resident.set(bytes as i64);
        }
        let mut partitions = self.ledger.partitions();
        let lags = self.progress.lags.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for line in &mut partitions {
            line.lag = lags.get(&(line.source.clone(), line.partition)).copied();
        }
        let lag = (!lags.is_empty()).then(|| lags.values().sum());
        self.metrics.lag.set(lag.map_or(0, |lag: u64| lag as i64));
        let watermark = chrono::DateTime::from_timestamp_micros(self.engine.watermark());
        self.metrics.set_status(Status {
            program: env!("CARGO_PKG_VERSION").into(),
            running: true,
            written_at: now(),
            since: self.ledger.began.clone(),
            trouble: None,
            violation: None,
            watermark: watermark.map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)),
            lag,
            partitions,
            alerts: Some(AlertLine { counts: self.ledger.alerts, balances: self.ledger.alerts.balances() }),
            checkpoint: self
                .delivery
                .as_ref()
                .map(|delivery| LastCheckpoint { number: delivery.number, at: self.checkpoint_at.clone() }),
        });
    }

    /// Writes the day's ledger, where one is wanted. A disk that refuses does not stop the stream: the next one tries again.
    fn write_ledger(&mut self) {
        if let Some(folder) = &self.folder
            && let Err(error) = folder.write(&mut self.ledger, chrono::Utc::now())
        {
            tracing::error!(error = format!("{error:#}"), "the ledger was not written");
        }
    }

    fn open(&mut self, feed: usize, source: &str, partition: i32) -> PartitionId {
        let (engine, feeds, ledger) = (&mut self.engine, &self.feeds, &mut self.ledger);
        let open = self.partitions.entry((source.to_string(), partition)).or_insert_with(|| {
            let id = engine.add_partition(feeds[feed].name(), feeds[feed].lateness_micros());
            let account = ledger.open(feeds[feed].name(), source, partition, id, engine);
            Open::new(id, account, feed, 0)
        });
        debug_assert_eq!(open.feed, feed);
        open.id
    }

    /// A new version of lists that is sound is used from the next commit on: gives the lists where the run must be taken up anew for that.
    /// Without checkpoints nothing can be screened again, and it is used for what comes.
    fn take_news(&mut self, news: News, sql: &Sql) -> anyhow::Result<Option<Arc<Lists>>> {
        match news {
            News::Refused(why) => {
                self.metrics.lists_refused.inc();
                tracing::error!(
                    why,
                    "a new version of lists is refused, and the one before stays in use; `manumit check` says more"
                );
                Ok(None)
            }
            News::Sound(lists) if self.delivery.is_some() => {
                self.metrics.lists_taken.inc();
                tracing::info!("lists have changed: the run commits, and is taken up again with them");
                Ok(Some(lists))
            }
            News::Sound(lists) => {
                self.step()?;
                lists.put_into(sql).map_err(|faults| anyhow::anyhow!("{faults}"))?;
                self.metrics.lists_taken.inc();
                tracing::warn!(
                    "lists have changed, and count for rows from now on; what was read before is not screened again, as the run has \
                     no checkpoints"
                );
                Ok(None)
            }
        }
    }

    fn step(&mut self) -> anyhow::Result<()> {
        self.unstepped = 0;
        // What else grows with the bank takes room from the state.
        let waiting = (self.engine.waiting_bytes() as u64).saturating_sub(ORDER);
        let remembered = self.duplicates.bytes() as u64;
        self.engine.set_beside(remembered + waiting);
        let (reference, room) = &self.known;
        let refused = room.refused();
        self.engine.set_reference_lacks_rows(refused > 0);
        self.metrics.reference(reference.get().bytes(), refused);
        let step = self.engine.step()?;
        self.outputs.step(self.engine.rules(), step, &mut self.totals, self.metrics)?;
        let watermark = self.engine.watermark();
        if watermark > i64::MIN && watermark < i64::MAX {
            self.metrics.watermark.set(watermark.div_euclid(1_000_000));
        }
        self.metrics.remembered.set(self.duplicates.len() as i64);
        self.metrics.waiting.set(self.engine.waiting_rows() as i64);
        self.metrics.state(self.engine.state_use(), remembered, self.engine.waiting_bytes() as u64);
        self.warning.check(&self.engine, &self.state);
        Ok(())
    }

    /// The input is complete.
    fn finish(&mut self) -> anyhow::Result<()> {
        let step = self.engine.finish()?;
        self.outputs.step(self.engine.rules(), step, &mut self.totals, self.metrics)
    }
}

fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
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
