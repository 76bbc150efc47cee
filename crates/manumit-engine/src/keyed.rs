//! Keyed SQL: at each tick of event time a query runs once over the retained rows of the keys touched since the last one.
//!
//! Rows stay in the transaction log; per key a roaring bitmap holds the numbers of its entries there, so that a tick costs
//! what its keys' rows cost, and nothing for the rest. Ticks follow from rows alone: time without rows has none.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::{SortColumn, cast, concat_batches, filter_record_batch, lexsort_to_indices, take};
use arrow::datatypes::{DataType, SchemaRef, TimestampMicrosecondType};
use hashbrown::{HashMap, HashSet};
use manumit_rules::ir::Table;
use manumit_rules::keyed::hits_schema;
use manumit_sql::{Reference, SharedReference};
use roaring::RoaringTreemap;

use crate::EngineError;
use crate::entries::{self, TableRows};
use crate::evidence::TransactionLog;
use crate::prepare;
use crate::program::{KeyedProgram, Program};
use crate::shard::{EvidenceRequest, HitBatch, hit_batch};

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
}

/// Entries by key: one for each (table, key column).
struct Space {
    table: Table,
    key: String,
    retention_micros: i64,
    /// Numbers of entries: twice the transaction's, one more for the creditor's side.
    rows: HashMap<Arc<str>, RoaringTreemap>,
    inserted: u64,
    kept: u64,
}

struct RecentHit {
    time: i64,
    indicator: usize,
    subject: String,
    tx_id: Option<String>,
}

/// A number of an entry.
fn number(seq: u64, inward: bool) -> u64 {
    seq * 2 + u64::from(inward)
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
        }
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
                let key = match space.rows.get_key_value(name) {
                    Some((key, _)) => key.clone(),
                    None => Arc::from(name),
                };
                space.rows.entry(key.clone()).or_default().insert(entry);
                space.inserted += 1;
                for (query, due) in self.program.keyed.iter().zip(&mut self.due) {
                    if query.table == space.table && query.key == space.key {
                        let tick = (times[row].div_euclid(query.every_micros) + 1) * query.every_micros;
                        due.entry(tick).or_default().insert(key.clone());
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
        let tables = self.tables.as_ref().map_or(&[][..], |(_, tables)| tables.as_slice());
        let asked = Asked {
            query,
            space: self.space_of(query),
            tables,
            recent: self.recent_hits(query, tick),
            log,
            schema,
            from: log.first_at(tick.saturating_sub(query.lookback_micros)),
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

    /// Numbers of the transactions that the query saw of a key at its hits.
    pub(crate) fn evidence(&self, request: &EvidenceRequest, log: &TransactionLog) -> Vec<u64> {
        let query = self.program.keyed.iter().find(|query| query.indicator == request.indicator);
        let rows =
            query.and_then(|query| Some((query, self.space_of(query)?.rows.get(request.key.as_str())?)));
        let Some((query, rows)) = rows else { return Vec::new() };
        let mut seqs = BTreeSet::new();
        for &tick in &request.times {
            let from = number(log.first_at(tick.saturating_sub(query.lookback_micros)), false);
            let to = number(log.first_at(tick), false);
            seqs.extend(between(rows, from, to).map(|entry| entry / 2));
        }
        seqs.into_iter().collect()
    }

    /// Forgets what no tick at or after `time` looks back to: all keys are gone through once as much was added as is kept.
    pub(crate) fn forget(&mut self, time: i64, log: &TransactionLog) {
        let mut longest = 0;
        for space in &mut self.spaces {
            longest = longest.max(space.retention_micros);
            if space.inserted <= space.kept.max(10_000) {
                continue;
            }
            let first = number(log.first_at(time.saturating_sub(space.retention_micros)), false);
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

/// One query at one tick.
struct Asked<'a> {
    query: &'a KeyedProgram,
    space: Option<&'a Space>,
    tables: &'a [(&'static str, RecordBatch)],
    recent: Vec<&'a RecentHit>,
    log: &'a TransactionLog,
    schema: &'a SchemaRef,
    /// Numbers of transactions: from the first that the query looks back to, to the first that it must not see.
    from: u64,
    to: u64,
}

#[derive(Default)]
struct Answers {
    batches: Vec<RecordBatch>,
    /// Keys whose rows made the query fail.
    failed: Vec<(Arc<str>, String)>,
}

impl Asked<'_> {
    /// The entries of a key, ascending.
    fn entries(&self, key: &str) -> impl DoubleEndedIterator<Item = u64> {
        let rows = self.space.and_then(|space| space.rows.get(key));
        rows.into_iter().flat_map(|rows| between(rows, number(self.from, false), number(self.to, false)))
    }

    fn latest(&self, key: &str) -> Option<u64> {
        self.entries(key).next_back()
    }

    /// The answers for some keys; when the query fails, each half is asked alone, so that one key's rows spoil no
    /// other's answer.
    fn answers(&self, keys: &[Arc<str>]) -> Result<Answers, EngineError> {
        let error = match self.query.planned.answer(&self.rows(keys)?) {
            Ok(batches) => return Ok(Answers { batches, failed: Vec::new() }),
            Err(error) => error,
        };
        if let [key] = keys {
            return Ok(Answers { batches: Vec::new(), failed: vec![(key.clone(), error.to_string())] });
        }
        let (left, right) = keys.split_at(keys.len() / 2);
        let (mut left, right) = (self.answers(left)?, self.answers(right)?);
        left.batches.extend(right.batches);
        left.failed.extend(right.failed);
        Ok(left)
    }

    /// What the query sees of these keys.
    fn rows(&self, keys: &[Arc<str>]) -> Result<BTreeMap<&str, RecordBatch>, EngineError> {
        let mut seqs = RoaringTreemap::new();
        for key in keys {
            for entry in self.entries(key) {
                seqs.insert(entry / 2);
            }
        }
        let seqs: Vec<u64> = seqs.iter().collect();
        let (_, transactions) = self.log.find(&seqs, self.schema)?;
        let batch = table_rows(self.query.table, &transactions, &self.query.schema)?.batch;
        let names: HashSet<&str> = keys.iter().map(AsRef::as_ref).collect();
        let column = batch.column_by_name(&self.query.key);
        let column = column.map(|c| cast(c, &DataType::Utf8)).transpose()?;
        let mine: BooleanArray = match &column {
            // The other side of a payment may belong to a key that was not touched.
            Some(column) => column.as_string::<i32>().iter().map(|k| k.map(|k| names.contains(k))).collect(),
            None => return Err(EngineError::NoSuchColumn { column: self.query.key.clone() }),
        };
        let mut rows: BTreeMap<&str, RecordBatch> =
            self.tables.iter().map(|(name, batch)| (*name, batch.clone())).collect();
        rows.insert(self.query.table.name(), filter_record_batch(&batch, &mine)?);
        if !self.query.hits_of.is_empty() {
            rows.insert("hits", self.hits_rows(&names)?);
        }
        Ok(rows)
    }

    fn hits_rows(&self, keys: &HashSet<&str>) -> Result<RecordBatch, EngineError> {
        let hits: Vec<&&RecentHit> =
            self.recent.iter().filter(|hit| keys.contains(hit.subject.as_str())).collect();
        let ids: StringArray =
            hits.iter().map(|hit| self.query.ids.get(&hit.indicator).map(String::as_str)).collect();
        let subjects: StringArray = hits.iter().map(|hit| Some(hit.subject.as_str())).collect();
        let times: TimestampMicrosecondArray = hits.iter().map(|hit| Some(hit.time)).collect();
        let tx_ids: StringArray = hits.iter().map(|hit| hit.tx_id.as_deref()).collect();
        let columns: Vec<ArrayRef> =
            vec![Arc::new(ids), Arc::new(subjects), Arc::new(times.with_timezone("UTC")), Arc::new(tx_ids)];
        Ok(RecordBatch::try_new(hits_schema(), columns)?)
    }

    /// The answers whose condition holds, each with the latest row of its key.
    fn hits(
        &self,
        program: &Program,
        tick: i64,
        batches: &[RecordBatch],
        faults: &mut Vec<(u64, String)>,
    ) -> Result<Option<HitBatch>, EngineError> {
        let indicator = &program.indicators[self.query.indicator];
        let answer = concat_batches(&self.query.planned.schema(), batches)?;
        if answer.num_rows() == 0 {
            return Ok(None);
        }
        let answer = in_order(&answer, &self.query.key)?;
        let keys = match answer.column_by_name(&self.query.key) {
            Some(column) => cast(column, &DataType::Utf8)?,
            None => return Err(EngineError::NoSuchColumn { column: self.query.key.clone() }),
        };
        let latest: Vec<Option<u64>> =
            keys.as_string::<i32>().iter().map(|key| key.and_then(|key| self.latest(key))).collect();
        let seqs: BTreeSet<u64> = latest.iter().flatten().map(|entry| entry / 2).collect();
        let seqs: Vec<u64> = seqs.into_iter().collect();
        let (numbers, transactions) = self.log.find(&seqs, self.schema)?;
        let table = program.tables.iter().find(|table| table.table == self.query.table);
        let Some(table) = table else { return Ok(None) };
        let TableRows { batch, tx } = table_rows(self.query.table, &transactions, &table.schema)?;
        let inward = inward(&batch);
        let places: HashMap<u64, u32> = tx
            .iter()
            .enumerate()
            .map(|(row, &t)| (number(numbers[t as usize], inward[row]), row as u32))
            .collect();
        // An answer without a row of its key cannot be: the query is keyed. It would be about nobody.
        let known: Vec<(u32, u64, u32)> = (0_u32..)
            .zip(&latest)
            .filter_map(|(row, entry)| {
                let entry = (*entry)?;
                Some((row, entry / 2, *places.get(&entry)?))
            })
            .collect();
        let rows: UInt32Array = known.iter().map(|(row, _, _)| Some(*row)).collect();
        let seqs: Vec<u64> = known.iter().map(|(_, seq, _)| *seq).collect();
        let places: UInt32Array = known.iter().map(|(_, _, place)| Some(*place)).collect();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(indicator.schema.fields().len());
        for &column in &indicator.columns {
            columns.push(if table.schema.field(column).name() == "event_time" {
                Arc::new(TimestampMicrosecondArray::from_value(tick, known.len()).with_timezone("UTC"))
            } else {
                take(batch.column(column).as_ref(), &places, None)?
            });
        }
        for field in &indicator.schema.fields()[columns.len()..] {
            let column = answer.column_by_name(field.name());
            let column = column.ok_or_else(|| EngineError::NoSuchColumn { column: field.name().clone() })?;
            columns.push(cast(&take(column.as_ref(), &rows, None)?, field.data_type())?);
        }
        let batch = RecordBatch::try_new(indicator.schema.clone(), columns)?;
        let held = prepare::evaluate(&indicator.condition, &batch, &seqs, faults)?;
        let held = held.as_boolean();
        let mask: BooleanArray =
            (0..batch.num_rows()).map(|row| Some(held.is_valid(row) && held.value(row))).collect();
        if mask.true_count() == 0 {
            return Ok(None);
        }
        let hits = filter_record_batch(&batch, &mask)?;
        let seqs: Vec<u64> = mask.values().set_indices().map(|row| seqs[row]).collect();
        let times = vec![tick; hits.num_rows()];
        hit_batch(self.query.indicator, indicator, hits, times, seqs, faults).map(Some)
    }
}

fn between(rows: &RoaringTreemap, from: u64, to: u64) -> impl DoubleEndedIterator<Item = u64> + '_ {
    let mut entries = rows.iter();
    if to == 0 {
        // Nothing lies before the first number.
        entries.advance_to(u64::MAX);
    } else {
        entries.advance_to(from);
        entries.advance_back_to(to - 1);
    }
    entries
}

/// By key, then by all values: the order that DataFusion gives depends on how keys were shared out.
fn in_order(answer: &RecordBatch, key: &str) -> Result<RecordBatch, EngineError> {
    let mut columns: Vec<SortColumn> = Vec::new();
    columns.extend(
        answer.column_by_name(key).map(|values| SortColumn { values: values.clone(), options: None }),
    );
    columns
        .extend(answer.columns().iter().map(|values| SortColumn { values: values.clone(), options: None }));
    let order = lexsort_to_indices(&columns, None)?;
    Ok(arrow::compute::take_record_batch(answer, &order)?)
}

/// The table with the columns that are wanted, each of which may be NULL.
pub(crate) fn narrow(table: Table, wanted: impl Fn(&str) -> bool) -> SchemaRef {
    let full = match table {
        Table::Transactions => manumit_model::schema::transactions(),
        Table::Entries => manumit_model::schema::entries(),
    };
    let fields: Vec<_> = full
        .fields()
        .iter()
        .filter(|field| wanted(field.name()))
        .map(|field| Arc::new(field.as_ref().clone().with_nullable(true)))
        .collect();
    Arc::new(arrow::datatypes::Schema::new(fields))
}

fn table_rows(table: Table, rows: &RecordBatch, schema: &SchemaRef) -> Result<TableRows, EngineError> {
    Ok(match table {
        Table::Transactions => entries::transactions(rows, schema)?,
        Table::Entries => entries::entries(rows, schema)?,
    })
}

fn times(batch: &RecordBatch) -> Result<Vec<i64>, EngineError> {
    match batch.column_by_name("event_time") {
        Some(array) => Ok(array.as_primitive::<TimestampMicrosecondType>().values().to_vec()),
        None => Err(EngineError::NoSuchColumn { column: "event_time".into() }),
    }
}

/// Per row: it is the creditor's side.
fn inward(batch: &RecordBatch) -> Vec<bool> {
    match batch.column_by_name("direction").and_then(|c| c.as_string_opt::<i32>()) {
        Some(sides) => {
            (0..batch.num_rows()).map(|row| sides.is_valid(row) && sides.value(row) == "in").collect()
        }
        None => vec![false; batch.num_rows()],
    }
}
