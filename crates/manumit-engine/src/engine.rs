//! The engine's outside, and the way of one step: prepare in chunks, process by shard, typologies, evidence, alerts.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef};
use manumit_model::{Alert, Position};
use manumit_rules::ir::RuleSet;
use manumit_sql::Sql;
use manumit_sql::reference::SharedReference;

use crate::EngineError;
use crate::alerts::{self, Evidence};
use crate::documents;
use crate::evidence::{Bound, TransactionLog};
use crate::keyed::KeyedQueries;
use crate::older::{self, Older, Tail};
use crate::order::{LateRows, Orderer, PartitionId, Progress, times_of};
use crate::program::{Program, longest_window};
use crate::rescreen::Screening;
use crate::shard::{EvidenceRequest, HitBatch, ShardOutput};
use crate::tail::{StateUse, Store};
use crate::typology::{OnlyHits, Raise, Typologies};
use crate::workers::Workers;

/// How an engine runs. Only `only_keys`, `only_hits` and the bounds of sequences can change what it finds, and [`Step`] counts where the
/// latter do.
#[derive(Debug, Clone)]
pub struct Options {
    /// Worker threads; each owns a range of keys.
    pub threads: usize,
    /// ISO 4217 code that `amount_base` is in, for explanations.
    pub base_currency: String,
    /// Keep the rows that hit in [`Step::hits`].
    pub keep_hits: bool,
    /// Transactions an alert lists; the rest is counted.
    pub max_transactions: usize,
    /// Keep transactions as long as an alert may have to show them; otherwise alerts name none, nor parties, memory
    /// holds the windows only, and of the columns those only are looked at that rules read: [`Engine::columns`].
    pub keep_transactions: bool,
    /// One partition may hold rows of several feeds: those of one event time are ordered by their column `feed`, which is
    /// looked at even if no rule reads it.
    pub feeds_mixed: bool,
    /// Rows kept of one key for sequences; of more the oldest are dropped, and a sequence that needs them is missed.
    pub max_step_rows: usize,
    /// Rows of steps looked at to complete sequences at one row; where that is not enough, the row does not hit.
    pub max_step_trials: u64,
    /// Per indicator, in the order of [`RuleSet::indicators`], the only keys that may hit: others are not seen with all
    /// of their rows. `None`: all of them. Set where the hits were found elsewhere and their alerts are wanted.
    pub only_keys: Option<Arc<Vec<HashSet<String>>>>,
    /// The only hits that typologies see; `None`: all of them. Set where rows are those of one alert's evidence: of rows
    /// that it holds because later ones counted them, it does not hold what they would count themselves.
    pub only_hits: Option<Arc<OnlyHits>>,
    /// Where rows of time windows go that memory has no room for; `None`: all of them stay in memory.
    pub state: Option<StateLimit>,
    /// Bytes of memory that all state may take, [`StateUse::bytes`] and what [`Engine::set_beside`] says. When it does, rows of keys
    /// that have none yet are not looked at until others have expired: counted in [`Step::rows_refused`], and a gap of
    /// alerts of that time. `None`: no bound.
    pub most_state: Option<usize>,
    /// Bytes of memory that transactions may take which alerts may have to show. The oldest go to the store of `state`, and are read back
    /// when they are asked for; where there is none they are forgotten, which alerts that counted them say. `None`: no bound.
    pub most_transactions: Option<usize>,
}

/// Bounds the memory that rows of time windows take.
#[derive(Debug, Clone)]
pub struct StateLimit {
    /// Bytes that they may take, of all worker threads together. Keys, running aggregates, texts, rows of steps and windows of rows
    /// come on top: see [`Options::most_state`].
    pub memory: usize,
    /// Where the others go.
    pub store: Arc<dyn Store>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            threads: 1,
            base_currency: "EUR".into(),
            keep_hits: false,
            max_transactions: 500,
            keep_transactions: true,
            feeds_mixed: false,
            max_step_rows: 100_000,
            max_step_trials: 100_000,
            only_keys: None,
            only_hits: None,
            state: None,
            most_state: None,
            most_transactions: None,
        }
    }
}

/// An expression of a rule that failed on a row (an overflow, a cast): its value counts as unknown there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Feed of the row.
    pub feed: String,
    /// Its transaction id.
    pub tx_id: String,
    /// Where the row came from.
    pub position: Position,
    /// DataFusion's words.
    pub message: String,
}

/// Rows at which an indicator held.
#[derive(Debug, Clone)]
pub struct Hits {
    /// Index into [`RuleSet::indicators`].
    pub indicator: usize,
    /// The columns that the indicator uses, then its features.
    pub rows: Arc<RecordBatch>,
}

/// What one step found.
#[derive(Debug, Default)]
pub struct Step {
    /// Transactions evaluated.
    pub evaluated: u64,
    /// Hits of all indicators.
    pub hit_count: u64,
    /// The hits themselves, when [`Options::keep_hits`]; by indicator, in no fixed order among shards.
    pub hits: Vec<Hits>,
    /// Alerts opened or revised, by event time.
    pub alerts: Vec<Alert>,
    /// Times a typology held for a subject: each gives an alert, or is suppressed.
    pub raised: u64,
    /// Times an open alert held again without being published.
    pub suppressed: u64,
    /// Gate hits silenced by an exclusion.
    pub excluded: u64,
    /// Expressions that failed on a row.
    pub faults: Vec<Fault>,
    /// Rows of steps that were dropped although a sequence might still have used them; see [`Options::max_step_rows`].
    pub steps_dropped: u64,
    /// Rows at which the search for a sequence was given up; see [`Options::max_step_trials`].
    pub sequences_given_up: u64,
    /// Rows that were not looked at, as their keys were new and there was no room; see [`Options::most_state`].
    pub rows_refused: u64,
}

impl Step {
    /// Adds what a later step found.
    pub fn append(&mut self, later: Step) {
        self.evaluated += later.evaluated;
        self.hit_count += later.hit_count;
        self.hits.extend(later.hits);
        self.alerts.extend(later.alerts);
        self.raised += later.raised;
        self.suppressed += later.suppressed;
        self.excluded += later.excluded;
        self.faults.extend(later.faults);
        self.steps_dropped += later.steps_dropped;
        self.sequences_given_up += later.sequences_given_up;
        self.rows_refused += later.rows_refused;
    }
}

/// Ordered rows in; hits and alert changes out.
pub struct Engine {
    program: Arc<Program>,
    options: Options,
    orderer: Orderer,
    /// Columns of the rows that the log keeps: all, or those that keyed queries read where alerts name no transactions.
    kept: Vec<usize>,
    schema: SchemaRef,
    workers: Workers,
    typologies: Typologies,
    keyed: KeyedQueries,
    log: TransactionLog,
    state: StateUse,
    /// Bytes that the caller keeps for this run.
    beside: u64,
    /// Bytes of state that are no shard's, as shards see them.
    others: Arc<AtomicU64>,
    /// Rows before this event time were not looked at because there was no room for new keys.
    refused_until: i64,
    /// The caller had no room for some rows of reference tables.
    reference_lacks_rows: bool,
    /// And of each keyspace in memory.
    spaces: Vec<StateUse>,
    /// What rules look up; alerts give an excerpt.
    reference: SharedReference,
    /// While rows that were evaluated before are screened again.
    screening: Option<Screening>,
}

impl Engine {
    /// Compiles the rules and starts the workers. `columns`: canonical columns that the feeds give.
    ///
    /// # Errors
    /// [`EngineError`] when an expression does not compile, which the rule loader should have refused.
    pub fn new(
        rules: Arc<RuleSet>,
        sql: &Sql,
        columns: &[String],
        options: Options,
    ) -> Result<Engine, EngineError> {
        let rules = Arc::new(rules.fitted(columns));
        let program = Arc::new(Program::compile(rules.clone(), sql)?);
        let orderer = if options.keep_transactions {
            Orderer::new(columns)
        } else {
            let mut read = program.columns_read();
            if options.feeds_mixed {
                read.insert("feed".into());
            }
            Orderer::new(&columns.iter().filter(|name| read.contains(*name)).cloned().collect::<Vec<_>>())
        };
        let others = Arc::new(AtomicU64::new(0));
        let workers = Workers::start(&program, &options, &others)?;
        let log = TransactionLog::new(options.most_transactions.map(|bytes| Bound {
            bytes,
            store: options.state.as_ref().map(|state| state.store.clone()),
            shard: options.threads.max(1),
        }));
        let all = orderer.schema();
        let kept: Vec<usize> = if options.keep_transactions {
            (0..all.fields().len()).collect()
        } else {
            let wanted = program.columns_kept();
            (0..all.fields().len()).filter(|&at| wanted.contains(all.field(at).name())).collect()
        };
        Ok(Engine {
            typologies: Typologies::new(rules, options.only_hits.clone()),
            reference: sql.reference().clone(),
            keyed: KeyedQueries::new(
                program.clone(),
                sql.reference().clone(),
                options.threads.max(1),
                options.only_keys.clone(),
            ),
            schema: Arc::new(all.project(&kept)?),
            kept,
            program,
            options,
            orderer,
            workers,
            log,
            state: StateUse::default(),
            beside: 0,
            others,
            refused_until: i64::MIN,
            reference_lacks_rows: false,
            spaces: Vec::new(),
            screening: None,
        })
    }

    /// Keyed queries find rows older than `tail_micros` in `older`; memory need not hold them any longer. To be called
    /// before the first row.
    pub fn read_older_from(&mut self, older: Box<dyn Older>, tail_micros: i64) {
        self.keyed.read_older_from(Tail { older, micros: tail_micros });
    }

    /// Registers a source partition of a feed; lateness in microseconds.
    pub fn add_partition(&mut self, feed: &str, lateness_micros: i64) -> PartitionId {
        self.orderer.add_partition(feed, lateness_micros)
    }

    /// An idle partition does not hold the watermark back; its next row wakes it.
    pub fn set_idle(&mut self, id: PartitionId, idle: bool) {
        self.orderer.set_idle(id, idle);
    }

    /// No more rows will come from this partition.
    pub fn end(&mut self, id: PartitionId) {
        self.orderer.end(id);
    }

    /// How far a partition is.
    pub fn progress(&self, id: PartitionId) -> Option<Progress> {
        self.orderer.progress(id)
    }

    /// The rules as they run on the columns given: see [`RuleSet::fitted`].
    pub fn rules(&self) -> &RuleSet {
        &self.program.rules
    }

    /// The columns that it looks at, of those given: rows need have no others.
    pub fn columns(&self) -> Vec<String> {
        self.orderer.schema().fields().iter().map(|field| field.name().clone()).collect()
    }

    /// Microseconds UTC; `i64::MIN` before the first release.
    pub fn watermark(&self) -> i64 {
        self.orderer.watermark()
    }

    /// How far before a time rows must be known for everything at that time to be as if all were: the longest
    /// windows and sequences, and the longest time that an alert stays open. Microseconds; `i64::MAX` when a window of
    /// rows may count the oldest.
    pub fn lookback_micros(&self) -> i64 {
        let open = self.program.rules.typologies.iter().map(|t| t.open_for_micros).max().unwrap_or(0);
        self.program.lookback_micros().saturating_add(open)
    }

    /// What the state took after the last step that had rows.
    pub fn state_use(&self) -> StateUse {
        self.state
    }

    /// Bytes that the caller keeps for this run and that count as state: what it remembers to tell duplicates, for instance.
    pub fn set_beside(&mut self, bytes: u64) {
        self.beside = bytes;
        self.others.store(self.state.transactions + self.state.hits + bytes, Ordering::Relaxed);
    }

    /// Says that rows of reference tables were refused, as there was no room for them: alerts from now on name it as a data gap.
    pub fn set_reference_lacks_rows(&mut self, lacks: bool) {
        self.reference_lacks_rows = lacks;
    }

    /// The same in memory by key column, with the indicator whose windows keep its rows longest; most memory first.
    pub fn state_by_key(&self) -> Vec<(&str, &str, StateUse)> {
        let mut all: Vec<(&str, &str, StateUse)> = (self.program.keyspaces.iter().zip(&self.spaces))
            .filter_map(|(space, held)| {
                let indicators = space.indicators.iter().map(|&i| &self.program.rules.indicators[i]);
                let indicator = indicators.max_by_key(|indicator| longest_window(indicator))?;
                Some((indicator.key.as_str(), indicator.meta.id.as_str(), *held))
            })
            .collect();
        all.sort_by_key(|(_, _, held)| std::cmp::Reverse(held.memory));
        all
    }

    /// Rows that wait for the watermark.
    pub fn waiting_rows(&self) -> usize {
        self.orderer.waiting_rows()
    }

    /// Bytes that they take.
    pub fn waiting_bytes(&self) -> usize {
        self.orderer.waiting_bytes()
    }

    /// Takes rows of one partition in the order read; gives back those behind their partition's watermark.
    ///
    /// # Errors
    /// [`EngineError`] when a column that every feed must give is missing.
    pub fn push(&mut self, id: PartitionId, rows: RecordBatch) -> Result<Option<LateRows>, EngineError> {
        self.orderer.push(id, rows)
    }

    /// Evaluates all rows below the watermark.
    ///
    /// # Errors
    /// [`EngineError`] when rows cannot be rearranged or a worker is lost; the engine must not be used after that.
    pub fn step(&mut self) -> Result<Step, EngineError> {
        let mut step = Step::default();
        let parts = self.orderer.release()?;
        let (first_time, mut batches) = match parts.first() {
            Some(first) => (times_of(first)?.first().copied(), Vec::with_capacity(parts.len())),
            None => (None, Vec::new()),
        };
        let Some(first_time) = first_time else {
            self.ticks_before(self.orderer.watermark(), &mut step)?;
            return Ok(step);
        };
        self.ticks_before(first_time, &mut step)?;
        let for_alerts = first_time.saturating_sub(self.program.evidence_micros());
        let for_queries = self.keyed.advance(first_time);
        self.log.drop_before(for_alerts.min(for_queries));
        for rows in parts {
            let start_seq = if self.options.keep_transactions || !self.keyed.is_empty() {
                let last_time = times_of(&rows)?.last().copied().unwrap_or(first_time);
                self.log.append(rows.project(&self.kept)?, last_time)
            } else {
                self.log.pass(rows.num_rows())
            };
            step.evaluated += rows.num_rows() as u64;
            batches.push((rows, start_seq));
        }
        let ShardOutput { mut hits, mut faults, steps_dropped, given_up, state, spaces } =
            self.workers.step(&batches)?;
        step.rows_refused += state.refused - self.state.refused;
        if state.refused > self.state.refused {
            self.refused_until = self.orderer.watermark();
        }
        (self.state, self.spaces) = (state, spaces);
        step.steps_dropped += steps_dropped;
        step.sequences_given_up += given_up;
        let watermark = self.orderer.watermark();
        if !self.keyed.is_empty() {
            for (rows, start_seq) in &batches {
                self.keyed.take(rows, *start_seq)?;
            }
            self.keyed.take_hits(&hits);
            hits.extend(self.keyed.answer_before(watermark, &self.log, &self.schema, &mut faults)?);
            self.keyed.forget(first_time, &self.log);
        }
        self.conclude(hits, faults, watermark, &mut step)?;
        self.settle(for_queries)?;
        Ok(step)
    }

    /// A step is over: rows that memory has no room for go, and what is left is weighed.
    fn settle(&mut self, for_queries: i64) -> Result<(), EngineError> {
        self.log.make_room(for_queries)?;
        self.log.sound()?;
        self.log.weigh(&mut self.state);
        self.state.hits = self.typologies.bytes() + self.keyed.bytes();
        self.set_beside(self.beside);
        Ok(())
    }

    /// The input is complete: keyed queries are answered at the ticks after its last row, too. A stream that goes on is not
    /// finished: it would be asked again at the same tick when more rows have come.
    ///
    /// # Errors
    /// As [`Engine::step`].
    pub fn finish(&mut self) -> Result<Step, EngineError> {
        let mut step = Step::default();
        self.ticks_before(i64::MAX, &mut step)?;
        Ok(step)
    }

    /// Takes rows that were evaluated in an earlier run. With `typologies`, these see the hits, and their alerts are not told.
    pub(crate) fn relive(&mut self, rows: &RecordBatch, typologies: bool) -> Result<(), EngineError> {
        let rows = self.orderer.widen(rows)?;
        let times = times_of(&rows)?;
        let (Some(&first_time), Some(&last_time)) = (times.first(), times.last()) else { return Ok(()) };
        if typologies {
            self.pass_ticks(first_time)?;
        } else {
            self.keyed.passed(first_time);
        }
        let for_alerts = first_time.saturating_sub(self.program.evidence_micros());
        let for_queries = self.keyed.advance(first_time);
        self.log.drop_before(for_alerts.min(for_queries));
        let start_seq = self.log.append(rows.project(&self.kept)?, last_time);
        let ShardOutput { hits, .. } = self.workers.step(&[(rows.clone(), start_seq)])?;
        if !self.keyed.is_empty() {
            self.keyed.take(&rows, start_seq)?;
            if typologies {
                self.keyed.take_hits(&hits);
            }
            self.keyed.forget(first_time, &self.log);
        }
        if typologies {
            self.see_again(&hits, first_time)?;
        }
        self.settle(for_queries)
    }

    /// Answers ticks before `time` for typologies, of rows that were evaluated before.
    pub(crate) fn pass_ticks(&mut self, time: i64) -> Result<(), EngineError> {
        if self.keyed.next_tick().is_none_or(|tick| tick >= time) {
            return Ok(());
        }
        let hits = self.keyed.answer_before(time, &self.log, &self.schema, &mut Vec::new())?;
        self.see_again(&hits, time)
    }

    pub(crate) fn screening_mut(&mut self) -> &mut Option<Screening> {
        &mut self.screening
    }

    pub(crate) fn log(&self) -> &TransactionLog {
        &self.log
    }

    pub(crate) fn log_mut(&mut self) -> &mut TransactionLog {
        &mut self.log
    }

    pub(crate) fn orderer(&self) -> &Orderer {
        &self.orderer
    }

    pub(crate) fn orderer_mut(&mut self) -> &mut Orderer {
        &mut self.orderer
    }

    pub(crate) fn typologies(&self) -> &Typologies {
        &self.typologies
    }

    pub(crate) fn typologies_mut(&mut self) -> &mut Typologies {
        &mut self.typologies
    }

    pub(crate) fn keyed(&self) -> &KeyedQueries {
        &self.keyed
    }

    pub(crate) fn keyed_mut(&mut self) -> &mut KeyedQueries {
        &mut self.keyed
    }

    /// Columns of released rows.
    pub(crate) fn schema(&self) -> SchemaRef {
        self.orderer.schema()
    }

    /// How far before the watermark rows make the windows, microseconds; `i64::MAX`: all rows there were.
    pub(crate) fn rows_micros(&self) -> i64 {
        self.program.lookback_micros()
    }

    /// Answers keyed queries at ticks before `time`, before rows at or after it make windows forget what led up to them.
    fn ticks_before(&mut self, time: i64, step: &mut Step) -> Result<(), EngineError> {
        if self.keyed.next_tick().is_none_or(|tick| tick >= time) {
            return Ok(());
        }
        let mut faults = Vec::new();
        let hits = self.keyed.answer_before(time, &self.log, &self.schema, &mut faults)?;
        self.conclude(hits, faults, time, step)
    }

    /// From hits to alerts. `time`: no hit before it is still to come.
    fn conclude(
        &mut self,
        hits: Vec<HitBatch>,
        mut faults: Vec<(u64, String)>,
        time: i64,
        step: &mut Step,
    ) -> Result<(), EngineError> {
        let outcome = self.typologies.step(&hits, time);
        step.alerts.extend(self.build_alerts(&outcome.raised, &mut faults)?);
        step.hit_count += hits.iter().map(|h| h.times.len() as u64).sum::<u64>();
        step.raised += outcome.held;
        step.suppressed += outcome.suppressed;
        step.excluded += outcome.excluded;
        step.faults.extend(self.resolve_faults(faults)?);
        if self.options.keep_hits {
            step.hits.extend(hits.into_iter().map(|h| Hits { indicator: h.indicator, rows: h.rows }));
        }
        Ok(())
    }

    pub(crate) fn build_alerts(
        &self,
        raised: &[Raise],
        faults: &mut Vec<(u64, String)>,
    ) -> Result<Vec<Alert>, EngineError> {
        if raised.is_empty() {
            return Ok(Vec::new());
        }
        let mut requests = Vec::new();
        let mut counts = Vec::with_capacity(raised.len());
        for raise in raised {
            let before = requests.len();
            if self.options.keep_transactions {
                requests.extend(alerts::requests(&self.program.rules, raise));
            }
            counts.push(requests.len() - before);
        }
        let requests = Arc::new(requests);
        let found = self.workers.evidence(&requests)?;
        let mut alerts = Vec::with_capacity(raised.len());
        let mut rest = found.into_iter().zip(requests.iter());
        for (raise, count) in raised.iter().zip(counts) {
            let mine: Vec<(Vec<u64>, &EvidenceRequest)> = rest.by_ref().take(count).collect();
            let evidence = self.evidence(raise, mine, faults)?;
            alerts.push(alerts::build(
                &self.program,
                raise,
                &evidence,
                &self.options,
                &self.reference.get(),
            )?);
        }
        Ok(alerts)
    }

    /// The transactions of one alert: from shards and queries their numbers, from the log and the archive the rows.
    fn evidence(
        &self,
        raise: &Raise,
        parts: Vec<(Vec<u64>, &EvidenceRequest)>,
        faults: &mut Vec<(u64, String)>,
    ) -> Result<Evidence, EngineError> {
        let mut counted: Vec<Vec<u64>> = Vec::with_capacity(parts.len());
        let mut older: Vec<RecordBatch> = Vec::with_capacity(parts.len());
        for (mut seqs, request) in parts {
            let mut rows = None;
            match self.keyed.evidence(request, &self.log, &self.schema) {
                Ok(found) => {
                    seqs.extend(found.seqs);
                    rows = found.older;
                }
                // The alert comes all the same, with what memory has.
                Err(words) => faults.extend(raise.held.iter().flat_map(|held| &held.keys).flat_map(|hits| {
                    let latest = hits.seqs.last().copied();
                    latest.map(|seq| (seq, words.clone()))
                })),
            }
            counted.push(seqs);
            older.push(rows.unwrap_or_else(|| RecordBatch::new_empty(self.schema.clone())));
        }
        let mut all: Vec<u64> = counted.iter().flatten().copied().collect();
        all.extend(raise.held.iter().flat_map(|h| h.keys.iter().flat_map(|key| &key.seqs)));
        all.sort_unstable();
        all.dedup();
        if !self.options.keep_transactions {
            all.clear();
        }
        let (numbers, rows) = self.log.find(&all, &self.schema)?;
        let shown = older::shown((rows, numbers), &older, &self.schema)?;
        for (seqs, more) in counted.iter_mut().zip(shown.counted) {
            seqs.extend(more);
        }
        let mut gaps = Vec::new();
        let reaches_back = raise.time.saturating_sub(self.program.evidence_micros());
        if self.refused_until > reaches_back {
            let until = documents::instant(self.refused_until);
            gaps.push(format!(
                "memory for windows was full until {until}: rows of accounts (or other subjects) without any before were not looked at, so \
                 more may have happened than is counted here"
            ));
        }
        if self.reference_lacks_rows {
            gaps.push(
                "memory for reference tables is full, and rows of their topics were refused: what is known of accounts and customers may lack \
                 some, or be out of date"
                    .into(),
            );
        }
        let forgotten = self.log.forgotten_of(&all);
        if forgotten > 0 {
            gaps.push(format!(
                "{forgotten} of the transactions that were counted are not shown: memory had no room to keep them, and `[state]` names no folder \
                 for them"
            ));
        }
        Ok(Evidence { counted, numbers: shown.numbers, rows: shown.rows, gaps })
    }

    fn resolve_faults(&self, mut faults: Vec<(u64, String)>) -> Result<Vec<Fault>, EngineError> {
        faults.sort();
        faults.dedup();
        let mut resolved = Vec::new();
        for (seq, message) in faults {
            let (_, row) = self.log.find(&[seq], &self.schema)?;
            if row.num_rows() == 0 {
                continue;
            }
            let text = |name: &str| -> String {
                let column = row.column_by_name(name).and_then(|c| c.as_string_opt::<i32>());
                column.filter(|c| c.is_valid(0)).map_or(String::new(), |c| c.value(0).to_string())
            };
            let partition = row.column_by_name("source_partition").and_then(|c| {
                let numbers = c.as_primitive_opt::<Int32Type>()?;
                numbers.is_valid(0).then(|| numbers.value(0))
            });
            let offset = row.column_by_name("source_offset").and_then(|c| {
                let numbers = c.as_primitive_opt::<Int64Type>()?;
                numbers.is_valid(0).then(|| numbers.value(0))
            });
            let position = Position {
                source: text("source").into(),
                partition: partition.unwrap_or(0),
                offset: offset.unwrap_or(0),
            };
            resolved.push(Fault { feed: text("feed"), tx_id: text("tx_id"), position, message });
        }
        Ok(resolved)
    }
}
