//! Keyed SQL: at each tick of event time a query runs once over the retained rows of the keys touched since the last one.
//!
//! Rows stay in the transaction log; per key a roaring bitmap holds the numbers of its entries there, so that a tick costs
//! what its keys' rows cost, and nothing for the rest. Where there is an archive, the log holds a tail of the look-back and
//! the archive gives what is older. Ticks follow from rows alone: time without rows has none.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, SchemaRef};
use hashbrown::{HashMap, HashSet};
use manumit_model::schema::ENTRY_SIDES;
use manumit_rules::ir::Table;
use manumit_sql::{Reference, SharedReference};
use roaring::RoaringTreemap;

use crate::EngineError;
use crate::asked::{Answers, Asked, EntriesByKey, RecentHit, between, inward, number, table_rows, times};
use crate::entries::TableRows;
use crate::evidence::TransactionLog;
use crate::keyed_program::{KeyedProgram, narrow};
use crate::older::{OlderRows, Tail, ordered};
use crate::program::Program;
use crate::saved::{SavedKeyed, SavedRecent};
use crate::shard::{EvidenceRequest, HitBatch};

/// Fewer keys than this are not worth another thread.
const KEYS_A_THREAD: usize = 256;

/// Per indicator the only keys that may hit.
pub(crate) type OnlyKeys = Arc<Vec<std::collections::HashSet<String>>>;

/// Reference tables by name.
type Tables = Vec<(&'static str, RecordBatch)>;

/// Retained rows by key, and the ticks that are due.
pub(crate) struct KeyedQueries {
    program: Arc<Program>,
    reference: SharedReference,
    threads: usize,
    /// Per indicator the only keys that may hit.
    only_keys: Option<OnlyKeys>,
    spaces: Vec<Space>,
    /// Per query: keys touched, by the tick at which they are looked at.
    due: Vec<BTreeMap<i64, HashSet<Arc<str>>>>,
    /// Hits of indicators that queries read, by time.
    recent: VecDeque<RecentHit>,
    /// Reference tables as they were last read, with the state that they were read from.
    tables: Option<(Arc<Reference>, Tables)>,
    /// Where rows before `floor` are.
    tail: Option<Tail>,
    /// Rows at or after this event time are in memory, rows before it in the archive, if there is one. Never goes back;
    /// `i64::MIN` before the first row.
    floor: i64,
}

/// Adds an entry, which mostly comes after all others.
fn add(entries: &mut RoaringTreemap, entry: u64) {
    if entries.try_push(entry).is_err() {
        entries.insert(entry);
    }
}

/// A key as the index of entries holds it: its letters are in memory once.
fn known(rows: &EntriesByKey, name: &str) -> Arc<str> {
    rows.get_key_value(name).map_or_else(|| Arc::from(name), |(key, _)| key.clone())
}

/// What queries counted for an alert.
#[derive(Default)]
pub(crate) struct Counted {
    /// Numbers in the log.
    pub seqs: Vec<u64>,
    /// Rows from the archive.
    pub older: Option<RecordBatch>,
}

/// Entries by key: one for each (table, key column).
struct Space {
    table: Table,
    key: String,
    retention_micros: i64,
    rows: EntriesByKey,
    inserted: u64,
    kept: u64,
}

impl KeyedQueries {
    pub(crate) fn new(
        program: Arc<Program>,
        reference: SharedReference,
        threads: usize,
        only_keys: Option<OnlyKeys>,
    ) -> KeyedQueries {
        let mut spaces: Vec<Space> = Vec::new();
        for query in &program.keyed {
            match spaces.iter_mut().find(|s| s.table == query.table && s.key == query.key) {
                Some(space) => space.retention_micros = space.retention_micros.max(query.retention_micros),
                None => spaces.push(Space {
                    table: query.table,
                    key: query.key.clone(),
                    retention_micros: query.retention_micros,
                    rows: HashMap::new(),
                    inserted: 0,
                    kept: 0,
                }),
            }
        }
        let due = program.keyed.iter().map(|_| BTreeMap::new()).collect();
        KeyedQueries {
            program,
            reference,
            threads,
            only_keys,
            spaces,
            due,
            recent: VecDeque::new(),
            tables: None,
            tail: None,
            floor: i64::MIN,
        }
    }

    /// From now on memory keeps only a tail of what queries look back to. It is never shorter than a tick: the latest row
    /// of a key that is asked about is in memory.
    pub(crate) fn read_older_from(&mut self, mut tail: Tail) {
        let longest = self.program.keyed.iter().map(|query| query.every_micros).max().unwrap_or(0);
        tail.micros = tail.micros.max(longest);
        self.tail = Some(tail);
    }

    /// Rows at or after `first_time` are about to come, and none before it any more. Gives the time before which the log
    /// need not hold rows for queries.
    pub(crate) fn advance(&mut self, first_time: i64) -> i64 {
        let oldest = self.next_tick().map_or(first_time, |tick| tick.min(first_time));
        if self.floor == i64::MIN {
            // What this run has not read itself can only be in the archive.
            self.floor = oldest;
        } else if let Some(tail) = &self.tail {
            let enough = oldest.saturating_sub(tail.micros);
            self.floor = self.floor.max(enough.min(tail.older.complete_before()));
        }
        let longest = self.program.keyed.iter().map(|query| query.retention_micros).max();
        match (&self.tail, longest) {
            (_, None) => i64::MAX,
            (Some(_), Some(longest)) => self.floor.max(oldest.saturating_sub(longest)),
            (None, Some(longest)) => oldest.saturating_sub(longest),
        }
    }

    /// Bytes that keys, what is known of their rows, and hits that queries read take, about.
    pub(crate) fn bytes(&self) -> u64 {
        let spaces =
            self.spaces.iter().map(|space| space.rows.len() as u64 * 240 + (space.kept + space.inserted) * 4);
        spaces.sum::<u64>() + self.recent.len() as u64 * 150
    }

    /// There is nothing to do, ever.
    pub(crate) fn is_empty(&self) -> bool {
        self.program.keyed.is_empty()
    }

    /// The earliest tick that waits for its time.
    pub(crate) fn next_tick(&self) -> Option<i64> {
        self.due.iter().filter_map(|ticks| ticks.keys().next().copied()).min()
    }

    /// Takes rows that were released, numbered from `start_seq`.
    pub(crate) fn take(&mut self, rows: &RecordBatch, start_seq: u64) -> Result<(), EngineError> {
        for space in &mut self.spaces {
            let wanted = [space.key.as_str(), "event_time", "direction"];
            let schema = narrow(space.table, |name| wanted.contains(&name));
            let TableRows { batch, tx } = table_rows(space.table, rows, &schema)?;
            let times = times(&batch)?;
            let inward = inward(&batch);
            let keys = match batch.column_by_name(&space.key) {
                Some(column) => cast(column, &DataType::Utf8)?,
                None => return Err(EngineError::NoSuchColumn { column: space.key.clone() }),
            };
            let keys = keys.as_string::<i32>();
            for row in (0..batch.num_rows()).filter(|&row| keys.is_valid(row)) {
                let name = keys.value(row);
                let entry = number(start_seq + u64::from(tx[row]), inward[row]);
                match space.rows.get_mut(name) {
                    Some(entries) => add(entries, entry),
                    None => add(space.rows.entry(Arc::from(name)).or_default(), entry),
                }
                space.inserted += 1;
                for (query, due) in self.program.keyed.iter().zip(&mut self.due) {
                    if query.table == space.table && query.key == space.key {
                        let tick = (times[row].div_euclid(query.every_micros) + 1) * query.every_micros;
                        let due = due.entry(tick).or_default();
                        if !due.contains(name) {
                            due.insert(known(&space.rows, name));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Keeps hits that queries read.
    pub(crate) fn take_hits(&mut self, hits: &[HitBatch]) {
        for batch in hits {
            if !self.program.keyed.iter().any(|query| query.hits_of.contains(&batch.indicator)) {
                continue;
            }
            let ids = batch.rows.column_by_name("tx_id").and_then(|c| c.as_string_opt::<i32>());
            for row in 0..batch.times.len() {
                self.recent.push_back(RecentHit {
                    time: batch.times[row],
                    indicator: batch.indicator,
                    subject: batch.about.value(row).to_string(),
                    tx_id: ids.filter(|ids| ids.is_valid(row)).map(|ids| ids.value(row).to_string()),
                });
            }
        }
        self.recent.make_contiguous().sort_by_key(|hit| hit.time);
    }

    /// The hits of all ticks before `time`: every row and hit before them has been taken.
    pub(crate) fn answer_before(
        &mut self,
        time: i64,
        log: &TransactionLog,
        schema: &SchemaRef,
        faults: &mut Vec<(u64, String)>,
    ) -> Result<Vec<HitBatch>, EngineError> {
        let mut hits = Vec::new();
        for index in 0..self.due.len() {
            let later = self.due[index].split_off(&time);
            let now = std::mem::replace(&mut self.due[index], later);
            for (tick, keys) in now {
                let only =
                    self.only_keys.as_ref().and_then(|all| all.get(self.program.keyed[index].indicator));
                let mut keys: Vec<Arc<str>> =
                    keys.into_iter().filter(|key| only.is_none_or(|only| only.contains(&**key))).collect();
                if keys.is_empty() {
                    continue;
                }
                keys.sort_unstable();
                hits.extend(self.answer(index, tick, &keys, log, schema, faults)?);
            }
        }
        Ok(hits)
    }

    fn answer(
        &mut self,
        index: usize,
        tick: i64,
        keys: &[Arc<str>],
        log: &TransactionLog,
        schema: &SchemaRef,
        faults: &mut Vec<(u64, String)>,
    ) -> Result<Option<HitBatch>, EngineError> {
        self.read_reference()?;
        let program = self.program.clone();
        let query = &program.keyed[index];
        let from = tick.saturating_sub(query.lookback_micros);
        let names: Vec<&str> = keys.iter().map(AsRef::as_ref).collect();
        // Rows are copied for each tick: only what the query reads of them.
        let wanted = if self.tail.is_some() { query.columns() } else { query.read() };
        let columns: Vec<usize> =
            (0..schema.fields().len()).filter(|&at| wanted.contains(schema.field(at).name())).collect();
        let narrow: SchemaRef = Arc::new(schema.project(&columns)?);
        let older = match self.older(query, &names, from, tick, &narrow) {
            Ok(older) => older.map(|rows| ordered(&rows, &narrow)).transpose()?,
            Err(words) => {
                // An answer from a part of the rows would be a wrong one: there is none, and it is said of every key.
                let space = self.space_of(query);
                let latest = |key: &&str| {
                    let rows = space?.rows.get(*key)?;
                    between(rows, 0, number(log.first_at(tick), false)).next_back()
                };
                faults.extend(names.iter().filter_map(latest).map(|entry| (entry / 2, words.clone())));
                return Ok(None);
            }
        };
        let tables = self.tables.as_ref().map_or(&[][..], |(_, tables)| tables.as_slice());
        let asked = Asked {
            query,
            by_key: self.space_of(query).map(|space| &space.rows),
            tables,
            recent: self.recent_hits(query, tick),
            log,
            schema,
            columns,
            narrow,
            older,
            from: log.first_at(from.max(self.floor)),
            to: log.first_at(tick),
        };
        let size = keys.len().div_ceil(self.threads.max(1)).max(KEYS_A_THREAD);
        let parts: Vec<Result<Answers, EngineError>> = std::thread::scope(|scope| {
            let asked = &asked;
            let mut chunks = keys.chunks(size);
            let first = chunks.next();
            let others: Vec<_> = chunks.map(|chunk| scope.spawn(move || asked.answers(chunk))).collect();
            let mut parts: Vec<_> = first.map(|chunk| asked.answers(chunk)).into_iter().collect();
            parts
                .extend(others.into_iter().map(|other| other.join().unwrap_or(Err(EngineError::WorkerLost))));
            parts
        });
        let mut batches = Vec::new();
        for part in parts {
            let part = part?;
            batches.extend(part.batches);
            faults.extend(
                part.failed
                    .into_iter()
                    .filter_map(|(key, message)| asked.latest(&key).map(|entry| (entry / 2, message))),
            );
        }
        asked.hits(&program, tick, &batches, faults)
    }

    /// Rows of these keys from `from` on that are no longer in memory; `None` when there are none to be had.
    fn older(
        &self,
        query: &KeyedProgram,
        keys: &[&str],
        from: i64,
        tick: i64,
        schema: &SchemaRef,
    ) -> Result<Option<Vec<RecordBatch>>, String> {
        let to = self.floor.min(tick);
        let Some(tail) = self.tail.as_ref().filter(|_| from < to) else { return Ok(None) };
        let columns = match ENTRY_SIDES.iter().find(|(name, _, _)| *name == query.key) {
            Some((_, out, inward)) if query.table == Table::Entries => vec![*out, *inward],
            _ => vec![query.key.as_str()],
        };
        tail.older.rows(&OlderRows { columns: &columns, keys, from, to, schema }).map(Some)
    }

    fn space_of(&self, query: &KeyedProgram) -> Option<&Space> {
        self.spaces.iter().find(|s| s.table == query.table && s.key == query.key)
    }

    fn read_reference(&mut self) -> Result<(), EngineError> {
        let now = self.reference.get();
        if self.tables.as_ref().is_none_or(|(known, _)| !Arc::ptr_eq(known, &now)) {
            let tables = now.batches()?;
            self.tables = Some((now, tables));
        }
        Ok(())
    }

    /// Rows of the table `hits` at a tick, of all subjects.
    fn recent_hits(&self, query: &KeyedProgram, tick: i64) -> Vec<&RecentHit> {
        if query.hits_of.is_empty() {
            return Vec::new();
        }
        let from = self.recent.partition_point(|hit| hit.time < tick.saturating_sub(query.lookback_micros));
        let to = self.recent.partition_point(|hit| hit.time < tick);
        self.recent.range(from..to).filter(|hit| query.hits_of.contains(&hit.indicator)).collect()
    }

    /// The transactions that the query saw of a key at its hits.
    pub(crate) fn evidence(
        &self,
        request: &EvidenceRequest,
        log: &TransactionLog,
        schema: &SchemaRef,
    ) -> Result<Counted, String> {
        let query = self.program.keyed.iter().find(|query| query.indicator == request.indicator);
        let Some(query) = query else { return Ok(Counted::default()) };
        let rows = self.space_of(query).and_then(|space| space.rows.get(request.key.as_str()));
        let mut seqs = BTreeSet::new();
        let mut older = Vec::new();
        // Looked at from the oldest hit on: what one hit saw is not read again for the next.
        let mut read_to = i64::MIN;
        for &tick in &request.times {
            let from = tick.saturating_sub(query.lookback_micros);
            if let Some(rows) = rows {
                let first = number(log.first_at(from.max(self.floor)), false);
                let end = number(log.first_at(tick), false);
                seqs.extend(between(rows, first, end).map(|entry| entry / 2));
            }
            let key = [request.key.as_str()];
            older.extend(self.older(query, &key, from.max(read_to), tick, schema)?.into_iter().flatten());
            read_to = read_to.max(tick);
        }
        let older = (!older.is_empty()).then(|| concat_batches(schema, &older)).transpose();
        Ok(Counted { seqs: seqs.into_iter().collect(), older: older.map_err(|e| e.to_string())? })
    }

    /// What does not follow from rows.
    pub(crate) fn saved(&self) -> SavedKeyed {
        let recent = self.recent.iter().map(|hit| SavedRecent {
            time: hit.time,
            indicator: hit.indicator,
            subject: hit.subject.clone(),
            tx_id: hit.tx_id.clone(),
        });
        SavedKeyed { recent: recent.collect(), floor: self.floor }
    }

    /// Puts back what [`KeyedQueries::saved`] gave, after the rows have been taken again.
    pub(crate) fn restore(&mut self, saved: &SavedKeyed, watermark: i64) {
        self.recent = saved
            .recent
            .iter()
            .map(|hit| RecentHit {
                time: hit.time,
                indicator: hit.indicator,
                subject: hit.subject.clone(),
                tx_id: hit.tx_id.clone(),
            })
            .collect();
        self.floor = saved.floor;
        self.passed(watermark);
    }

    /// Ticks before `time` have been answered.
    pub(crate) fn passed(&mut self, time: i64) {
        for due in &mut self.due {
            *due = due.split_off(&time);
        }
    }

    /// Forgets what no tick at or after `time` looks back to: all keys are gone through once as much was added as is kept.
    pub(crate) fn forget(&mut self, time: i64, log: &TransactionLog) {
        let mut longest = 0;
        for space in &mut self.spaces {
            longest = longest.max(space.retention_micros);
            if space.inserted <= space.kept.max(10_000) {
                continue;
            }
            let oldest = time.saturating_sub(space.retention_micros);
            let oldest = if self.tail.is_some() { oldest.max(self.floor) } else { oldest };
            let first = number(log.first_at(oldest), false);
            space.kept = 0;
            space.inserted = 0;
            space.rows.retain(|_, rows| {
                rows.remove_range(..first);
                space.kept += rows.len();
                !rows.is_empty()
            });
        }
        let oldest = time.saturating_sub(longest);
        while self.recent.front().is_some_and(|hit| hit.time < oldest) {
            self.recent.pop_front();
        }
    }
}
