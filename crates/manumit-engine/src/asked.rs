//! One keyed query at one tick: the rows that it sees, its answer key by key, and the hits among it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array,
};
use arrow::buffer::{BooleanBuffer, Buffer};
use arrow::compute::{SortColumn, cast, concat_batches, filter_record_batch, lexsort_to_indices, take};
use arrow::datatypes::{DataType, SchemaRef, TimestampMicrosecondType};
use hashbrown::{HashMap, HashSet};
use manumit_rules::ir::Table;
use manumit_rules::keyed::hits_schema;
use roaring::RoaringTreemap;

use crate::EngineError;
use crate::entries::{self, TableRows};
use crate::evidence::TransactionLog;
use crate::keyed_program::KeyedProgram;
use crate::prepare;
use crate::program::Program;
use crate::shard::{HitBatch, hit_batch};

/// Numbers of entries by key: twice the transaction's, one more for the creditor's side.
pub(crate) type EntriesByKey = HashMap<Arc<str>, RoaringTreemap>;

/// A hit that queries may read.
pub(crate) struct RecentHit {
    pub time: i64,
    pub indicator: usize,
    pub subject: String,
    pub tx_id: Option<String>,
}

/// A number of an entry.
pub(crate) fn number(seq: u64, inward: bool) -> u64 {
    seq * 2 + u64::from(inward)
}

/// One query at one tick.
pub(crate) struct Asked<'a> {
    pub query: &'a KeyedProgram,
    pub by_key: Option<&'a EntriesByKey>,
    pub tables: &'a [(&'static str, RecordBatch)],
    pub recent: Vec<&'a RecentHit>,
    pub log: &'a TransactionLog,
    pub schema: &'a SchemaRef,
    /// Columns of the log that the query reads.
    pub columns: Vec<usize>,
    /// Their schema.
    pub narrow: SchemaRef,
    /// Transactions of all keys that only the archive has, in order, with these columns.
    pub older: Option<RecordBatch>,
    /// Numbers of transactions: from the first that the query looks back to, to the first that it must not see.
    pub from: u64,
    pub to: u64,
}

#[derive(Default)]
pub(crate) struct Answers {
    pub batches: Vec<RecordBatch>,
    /// Keys whose rows made the query fail.
    pub failed: Vec<(Arc<str>, String)>,
}

impl Asked<'_> {
    /// The entries of a key, ascending.
    fn entries(&self, key: &str) -> impl DoubleEndedIterator<Item = u64> {
        let rows = self.by_key.and_then(|by_key| by_key.get(key));
        rows.into_iter().flat_map(|rows| between(rows, number(self.from, false), number(self.to, false)))
    }

    pub fn latest(&self, key: &str) -> Option<u64> {
        self.entries(key).next_back()
    }

    /// The answers for some keys; when the query fails, each half is asked alone, so that one key's rows spoil no
    /// other's answer.
    pub fn answers(&self, keys: &[Arc<str>]) -> Result<Answers, EngineError> {
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
    fn rows(&self, keys: &[Arc<str>]) -> Result<BTreeMap<&str, Vec<RecordBatch>>, EngineError> {
        let names: HashSet<&str> = keys.iter().map(AsRef::as_ref).collect();
        let transactions = self.log.columns_of(&self.seqs(keys), &self.columns, &self.narrow)?;
        let mut mine = Vec::with_capacity(transactions.len() + 1);
        for part in self.older.iter().chain(&transactions) {
            mine.push(self.rows_of(&names, part)?);
        }
        let mut rows: BTreeMap<&str, Vec<RecordBatch>> =
            self.tables.iter().map(|(name, batch)| (*name, vec![batch.clone()])).collect();
        rows.insert(self.query.table.name(), mine);
        if !self.query.hits_of.is_empty() {
            rows.insert("hits", vec![self.hits_rows(&names)?]);
        }
        Ok(rows)
    }

    /// Numbers of the transactions in memory with an entry of one of these keys, ascending, each once.
    fn seqs(&self, keys: &[Arc<str>]) -> Vec<u64> {
        let all = || keys.iter().flat_map(|key| self.entries(key)).map(|entry| entry / 2);
        let Some(span) = self.to.checked_sub(self.from) else { return Vec::new() };
        let entries: u64 = keys.iter().map(|key| self.count(key)).sum();
        if entries < span / 64 {
            let mut seqs: Vec<u64> = all().collect();
            seqs.sort_unstable();
            seqs.dedup();
            return seqs;
        }
        // Where they lie close together, a bit for each number is smaller than they are, and in order by itself.
        let mut bits = vec![0_u64; span.div_ceil(64) as usize];
        for at in all().map(|seq| seq - self.from) {
            bits[(at / 64) as usize] |= 1 << (at % 64);
        }
        let bits = BooleanBuffer::new(Buffer::from_vec(bits), 0, span as usize);
        bits.set_indices().map(|at| self.from + at as u64).collect()
    }

    /// How many entries of a key are in memory, whether the query sees them or not.
    fn count(&self, key: &str) -> u64 {
        self.by_key.and_then(|by_key| by_key.get(key)).map_or(0, RoaringTreemap::len)
    }

    /// The rows of these keys among some transactions.
    fn rows_of(&self, names: &HashSet<&str>, transactions: &RecordBatch) -> Result<RecordBatch, EngineError> {
        let batch = table_rows(self.query.table, transactions, &self.query.schema)?.batch;
        let column = batch.column_by_name(&self.query.key);
        let column = column.map(|c| cast(c, &DataType::Utf8)).transpose()?;
        let mine: BooleanArray = match &column {
            // The other side of a payment may belong to a key that was not touched.
            Some(column) => column.as_string::<i32>().iter().map(|k| k.map(|k| names.contains(k))).collect(),
            None => return Err(EngineError::NoSuchColumn { column: self.query.key.clone() }),
        };
        Ok(filter_record_batch(&batch, &mine)?)
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
    pub fn hits(
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

pub(crate) fn between(
    rows: &RoaringTreemap,
    from: u64,
    to: u64,
) -> impl DoubleEndedIterator<Item = u64> + '_ {
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

pub(crate) fn table_rows(
    table: Table,
    rows: &RecordBatch,
    schema: &SchemaRef,
) -> Result<TableRows, EngineError> {
    Ok(match table {
        Table::Transactions => entries::transactions(rows, schema)?,
        Table::Entries => entries::entries(rows, schema)?,
    })
}

pub(crate) fn times(batch: &RecordBatch) -> Result<Vec<i64>, EngineError> {
    match batch.column_by_name("event_time") {
        Some(array) => Ok(array.as_primitive::<TimestampMicrosecondType>().values().to_vec()),
        None => Err(EngineError::NoSuchColumn { column: "event_time".into() }),
    }
}

/// Per row: it is the creditor's side.
pub(crate) fn inward(batch: &RecordBatch) -> Vec<bool> {
    match batch.column_by_name("direction").and_then(|c| c.as_string_opt::<i32>()) {
        Some(sides) => {
            (0..batch.num_rows()).map(|row| sides.is_valid(row) && sides.value(row) == "in").collect()
        }
        None => vec![false; batch.num_rows()],
    }
}
