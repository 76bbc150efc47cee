//! Row expressions of a batch: everything that needs no state, worked out in parallel over chunks.

use std::hash::BuildHasher;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use manumit_rules::ir::Table;
use manumit_sql::Compiled;

use crate::EngineError;
use crate::entries::{self, TableRows};
use crate::program::{Keyspace, Program, TableProgram};
use crate::values::ArgumentColumn;

/// One chunk of ordered transactions, ready for the shards.
pub(crate) struct Prepared {
    pub tables: Vec<PreparedTable>,
    /// Numbers of transactions on which an expression failed, with its words.
    pub faults: Vec<(u64, String)>,
}

/// One table's rows of the chunk.
pub(crate) struct PreparedTable {
    pub batch: RecordBatch,
    pub times: Vec<i64>,
    /// Number of each row's transaction.
    pub seqs: Vec<u64>,
    /// In the order of the table's keyspaces.
    pub keyspaces: Vec<PreparedKeyspace>,
}

/// What a keyspace needs of each row.
pub(crate) struct PreparedKeyspace {
    pub keyspace: usize,
    pub keys: StringArray,
    pub hashes: Vec<u64>,
    /// One bitmap per filter.
    pub filters: Vec<BooleanBuffer>,
    pub arguments: Vec<ArgumentColumn>,
    /// Per indicator of the keyspace: rows at which its features are computed.
    pub candidates: Vec<BooleanBuffer>,
    /// Rows with any filter bit or candidate.
    pub relevant: Vec<u32>,
}

/// Works out one chunk. `start_seq` is the number of its first transaction.
pub(crate) fn prepare(
    program: &Program,
    hasher: &foldhash::quality::RandomState,
    chunk: &RecordBatch,
    start_seq: u64,
) -> Result<Prepared, EngineError> {
    let mut tables = Vec::new();
    let mut faults = Vec::new();
    for table in &program.tables {
        let rows = match table.table {
            Table::Transactions => entries::transactions(chunk, &table.schema)?,
            Table::Entries => entries::entries(chunk, &table.schema)?,
        };
        tables.push(prepare_table(program, table, hasher, rows, start_seq, &mut faults)?);
    }
    Ok(Prepared { tables, faults })
}

fn prepare_table(
    program: &Program,
    table: &TableProgram,
    hasher: &foldhash::quality::RandomState,
    rows: TableRows,
    start_seq: u64,
    faults: &mut Vec<(u64, String)>,
) -> Result<PreparedTable, EngineError> {
    let batch = rows.batch;
    let seqs: Vec<u64> = rows.tx.iter().map(|&row| start_seq + u64::from(row)).collect();
    let times = match batch.column_by_name("event_time") {
        Some(array) => array.as_primitive::<TimestampMicrosecondType>().values().to_vec(),
        None => return Err(EngineError::NoSuchColumn { column: "event_time".into() }),
    };
    let mut results: Vec<ArrayRef> = Vec::with_capacity(table.expressions.len());
    for expression in &table.expressions {
        results.push(evaluate(expression, &batch, &seqs, faults)?);
    }
    let masks: Vec<Option<BooleanBuffer>> = results
        .iter()
        .map(|array| (array.data_type() == &DataType::Boolean).then(|| holds(array.as_boolean())))
        .collect();
    let mut keyspaces = Vec::new();
    for &index in &table.keyspaces {
        let space = &program.keyspaces[index];
        keyspaces.push(prepare_keyspace(program, space, index, hasher, &batch, &results, &masks)?);
    }
    Ok(PreparedTable { batch, times, seqs, keyspaces })
}

fn prepare_keyspace(
    program: &Program,
    space: &Keyspace,
    index: usize,
    hasher: &foldhash::quality::RandomState,
    batch: &RecordBatch,
    results: &[ArrayRef],
    masks: &[Option<BooleanBuffer>],
) -> Result<PreparedKeyspace, EngineError> {
    let rows = batch.num_rows();
    let keys = cast(batch.column(space.key), &DataType::Utf8)?.as_string::<i32>().clone();
    let all = |expressions: &[usize]| -> BooleanBuffer {
        let mut buffer: Option<BooleanBuffer> = None;
        for mask in expressions.iter().filter_map(|&e| masks[e].as_ref()) {
            buffer = Some(buffer.map_or_else(|| mask.clone(), |b| &b & mask));
        }
        buffer.unwrap_or_else(|| BooleanBuffer::new_set(rows))
    };
    let filters: Vec<BooleanBuffer> = space.filters.iter().map(|f| all(f)).collect();
    let candidates: Vec<BooleanBuffer> =
        space.indicators.iter().map(|&i| all(&program.indicators[i].candidate)).collect();
    let mut any = BooleanBuffer::new_unset(rows);
    for buffer in filters.iter().chain(&candidates) {
        any = &any | buffer;
    }
    let relevant: Vec<u32> =
        any.set_indices().filter(|&row| keys.is_valid(row)).map(|row| row as u32).collect();
    let mut hashes = vec![0; rows];
    for &row in &relevant {
        hashes[row as usize] = hasher.hash_one(keys.value(row as usize));
    }
    let arguments = space
        .arguments
        .iter()
        .map(|a| match a.half {
            Some(half) => Ok(ArgumentColumn::half(&results[a.expression], half)),
            None => ArgumentColumn::new(&results[a.expression]),
        })
        .collect::<Result<_, _>>()?;
    Ok(PreparedKeyspace { keyspace: index, keys, hashes, filters, arguments, candidates, relevant })
}

/// NULL does not hold.
fn holds(array: &BooleanArray) -> BooleanBuffer {
    match array.nulls() {
        None => array.values().clone(),
        Some(nulls) => array.values() & nulls.inner(),
    }
}

/// Evaluates an expression on all rows; when that fails, row by row, so that one row's overflow spoils no other's
/// result: the failing row's value is NULL, and it is told as a fault.
pub(crate) fn evaluate(
    expression: &Compiled,
    batch: &RecordBatch,
    seqs: &[u64],
    faults: &mut Vec<(u64, String)>,
) -> Result<ArrayRef, EngineError> {
    if let Ok(array) = expression.evaluate(batch) {
        return Ok(array);
    }
    let mut parts: Vec<ArrayRef> = Vec::with_capacity(batch.num_rows());
    for (row, &seq) in seqs.iter().enumerate().take(batch.num_rows()) {
        parts.push(match expression.evaluate(&batch.slice(row, 1)) {
            Ok(array) => array,
            Err(error) => {
                faults.push((seq, error.to_string()));
                arrow::array::new_null_array(&expression.data_type, 1)
            }
        });
    }
    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    if parts.is_empty() {
        return Ok(arrow::array::new_null_array(&expression.data_type, 0));
    }
    Ok(arrow::compute::concat(&parts)?)
}
