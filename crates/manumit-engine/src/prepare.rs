//! Row expressions of a batch: everything that needs no state, worked out in parallel over chunks.
//!
//! What a shard gets of a row is its image, ready for a ring, and which indicators may hold at it; the columns are only
//! looked at again for rows that hit.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use manumit_sql::{Compiled, Work};

use crate::EngineError;
use crate::bits;
use crate::keyspace::Keyspace;
use crate::program::{Program, TableProgram};
use crate::ring::{FLAGS, NUMBER_BITS};
use crate::table::{Place, TableRows};
use crate::text::{self, Hasher};
use crate::values::Bits;

/// One chunk of ordered transactions, ready for the shards.
pub(crate) struct Prepared {
    pub tables: Vec<PreparedTable>,
    /// Numbers of transactions on which an expression failed, with its words.
    pub faults: Vec<(u64, String)>,
}

/// One table's rows of the chunk.
pub(crate) struct PreparedTable {
    pub rows: TableRows,
    /// In the order of the table's keyspaces.
    pub keyspaces: Vec<PreparedKeyspace>,
}

/// What a keyspace needs of each row at which a filter or an indicator's row condition holds.
pub(crate) struct PreparedKeyspace {
    pub keyspace: usize,
    pub rows: Rows,
    width: usize,
    first_candidate: usize,
    /// By side.
    keys: Vec<StringArray>,
    pub texts: Vec<TextArgument>,
}

/// Those rows, in their order.
#[derive(Default)]
pub(crate) struct Rows {
    pub places: Vec<Place>,
    /// Of the keys.
    pub hashes: Vec<u64>,
    /// A row after another as rings keep them, but for texts, which stand as their hash.
    pub images: Vec<u64>,
    /// Words a row: room for its number, flags as rings keep them, then a bit per indicator of the keyspace whose features are asked for.
    bits: Vec<u64>,
    /// By shard: which of the rows have a key of it.
    pub shards: Vec<Vec<u32>>,
}

/// Rows that are done with: the next chunk's are written over them, as new memory is much slower than old.
#[derive(Default)]
pub(crate) struct Pool(Mutex<Vec<Rows>>);

impl Pool {
    fn take(&self) -> Rows {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        rows.places.clear();
        rows.hashes.clear();
        rows.images.clear();
        rows.bits.clear();
        rows.shards.iter_mut().for_each(Vec::clear);
        rows
    }

    /// Takes back what a chunk was prepared in.
    pub(crate) fn give(&self, prepared: Prepared) {
        let rows = prepared.tables.into_iter().flat_map(|table| table.keyspaces).map(|space| space.rows);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(rows);
    }
}

impl Rows {
    /// Event time of a row; `stride`: words of an image.
    pub(crate) fn time(&self, at: u32, stride: usize) -> i64 {
        self.images[at as usize * stride] as i64
    }
}

impl PreparedKeyspace {
    /// The key at a row.
    pub(crate) fn key(&self, place: Place) -> &str {
        self.keys[place.side()].value(place.row())
    }

    /// Which of the `group`-th 64 indicators of the keyspace may hold at a row.
    pub(crate) fn candidates(&self, at: usize, group: usize) -> u64 {
        bits::word_from(
            &self.rows.bits[at * self.width..(at + 1) * self.width],
            self.first_candidate + group * 64,
        )
    }
}

/// An argument that is text.
pub(crate) struct TextArgument {
    /// Word of an image where it stands.
    pub word: usize,
    /// Word and bit that say that it is NULL.
    null: (usize, u64),
    /// By side.
    columns: Vec<StringArray>,
}

impl TextArgument {
    /// An image has it, as a hash.
    pub(crate) fn is_known(&self, image: &[u64]) -> bool {
        image[self.null.0] & self.null.1 == 0
    }

    pub(crate) fn text(&self, place: Place) -> &str {
        self.columns[place.side()].value(place.row())
    }
}

/// What chunks are prepared with.
pub(crate) struct Context {
    pub program: Arc<Program>,
    pub hasher: Hasher,
    pub shards: usize,
    pub pool: Arc<Pool>,
}

/// Works out one chunk. `start_seq` is the number of its first transaction.
pub(crate) fn prepare(
    context: &Context,
    chunk: &RecordBatch,
    start_seq: u64,
) -> Result<Prepared, EngineError> {
    let times = match chunk.column_by_name("event_time") {
        Some(array) => array.as_primitive::<TimestampMicrosecondType>().values().clone(),
        None => return Err(EngineError::NoSuchColumn { column: "event_time".into() }),
    };
    let mut tables = Vec::new();
    let mut faults = Vec::new();
    for table in &context.program.tables {
        let rows = TableRows::new(chunk, table, times.clone(), start_seq)?;
        let results = results(table, &rows, &mut faults)?;
        let mut keyspaces = Vec::new();
        for &index in &table.keyspaces {
            keyspaces.push(keyspace(context, index, &rows, &results)?);
        }
        tables.push(PreparedTable { rows, keyspaces });
    }
    Ok(Prepared { tables, faults })
}

/// What one side's expressions give.
struct Results {
    /// By expression: its values, where rows keep them.
    values: Vec<Option<ArrayRef>>,
    /// By conjunction: where all of its expressions hold.
    held: Vec<BooleanBuffer>,
}

/// What an expression failed at: expression, side, number of the transaction, words.
type Told = (usize, usize, u64, String);

/// By side: what the expressions give at its rows.
fn results(
    table: &TableProgram,
    rows: &TableRows,
    faults: &mut Vec<(u64, String)>,
) -> Result<Vec<Results>, EngineError> {
    let mut results: Vec<Results> = Vec::with_capacity(rows.sides.len());
    let mut any = BooleanBuffer::new_unset(rows.num_rows());
    for side in &rows.sides {
        any = &any | &side.exists;
    }
    let mut told: Vec<Told> = Vec::new();
    let mut work: Option<Work<'_>> = None;
    for (at, side) in rows.sides.iter().enumerate() {
        let mut here = match work {
            None => table.together.begin(&side.batch),
            Some(before) => before.turn(&side.batch),
        };
        let mut own = Results { values: vec![None; table.expressions.len()], held: Vec::new() };
        // What does not differ from side to side is worked out with the first, for both.
        let asked = |varies: bool| if varies { &side.exists } else { &any };
        for &e in &table.values {
            let varies = table.together.varies(e);
            own.values[e] = match results.first() {
                Some(first) if !varies => first.values[e].clone(),
                _ => Some(match here.value(e, asked(varies)) {
                    Some(array) => array,
                    None => alone(table, e, (at, &side.batch), rows, asked(varies), &mut told)?,
                }),
            };
        }
        for (c, parts) in table.conjunctions.iter().enumerate() {
            let varies = table.together.conjunction_varies(c);
            own.held.push(match results.first() {
                Some(first) if !varies => first.held[c].clone(),
                _ => match here.all_hold(c, asked(varies)) {
                    Some(held) => held,
                    None => one_by_one(table, parts, (at, &side.batch), rows, asked(varies), &mut told)?,
                },
            });
        }
        results.push(own);
        work = Some(here);
    }
    // Several conjunctions may have asked for the same.
    told.sort_unstable();
    told.dedup();
    faults.extend(told.into_iter().map(|(_, _, seq, words)| (seq, words)));
    Ok(results)
}

/// An expression's values at `asked` rows of a side, when it does not go all at once.
fn alone(
    table: &TableProgram,
    expression: usize,
    (at, side): (usize, &RecordBatch),
    rows: &TableRows,
    asked: &BooleanBuffer,
    told: &mut Vec<Told>,
) -> Result<ArrayRef, EngineError> {
    let mut faults = Vec::new();
    let array = evaluate_at(&table.expressions[expression], side, &mut faults, |row| {
        asked.value(row).then_some(rows.start_seq + row as u64)
    })?;
    told.extend(faults.into_iter().map(|(seq, words)| (expression, at, seq, words)));
    Ok(array)
}

/// The `asked` rows of a side at which all parts hold. A part is asked where those before it leave that open, as it is where
/// nothing fails: so what is told as a fault does not depend on other rows.
fn one_by_one(
    table: &TableProgram,
    parts: &[usize],
    side: (usize, &RecordBatch),
    rows: &TableRows,
    asked: &BooleanBuffer,
    told: &mut Vec<Told>,
) -> Result<BooleanBuffer, EngineError> {
    let (mut held, mut open) = (asked.clone(), asked.clone());
    for &part in parts.iter().filter(|&&part| table.expressions[part].data_type == DataType::Boolean) {
        let array = alone(table, part, side, rows, &open, told)?;
        let array = array.as_boolean();
        held = &held & &holds(array);
        let fails = match array.nulls() {
            None => !array.values(),
            Some(nulls) => &!array.values() & nulls.inner(),
        };
        open = &open & &!&fails;
    }
    Ok(held)
}

/// One side of a keyspace's rows.
struct SideOf {
    keys: StringArray,
    /// Row after row: flags, then candidates.
    bits: Vec<u64>,
    arguments: Vec<Bits>,
    /// Rows that matter.
    relevant: BooleanBuffer,
}

fn side(
    space: &Keyspace,
    key: &ArrayRef,
    exists: &BooleanBuffer,
    results: &Results,
) -> Result<SideOf, EngineError> {
    let rows = key.len();
    let keys = cast(key, &DataType::Utf8)?.as_string::<i32>().clone();
    let held = |at: &usize| results.held[*at].clone();
    let mut columns: Vec<BooleanBuffer> = space.filters_at.iter().map(held).collect();
    let mut arguments = Vec::with_capacity(space.arguments.len());
    for argument in &space.arguments {
        let Some(array) = &results.values[argument.expression] else {
            // Cannot be: all expressions of arguments are among the table's values.
            return Err(EngineError::NoSuchColumn { column: format!("expression {}", argument.expression) });
        };
        arguments.push(match argument.half {
            Some(half) => Bits::half(array, half),
            None => Bits::new(array)?,
        });
    }
    for (argument, bits) in space.arguments.iter().zip(&arguments) {
        // A value that no filter of the row asks for is not kept.
        let used =
            argument.used_by.iter().fold(BooleanBuffer::new_unset(rows), |any, &bit| &any | &columns[bit]);
        columns.push(!&(&used & &bits.known));
    }
    columns.extend(space.candidates_at.iter().map(held));
    let nulls = space.filters.len()..space.filters.len() + space.arguments.len();
    let mut relevant = BooleanBuffer::new_unset(rows);
    for (_, column) in columns.iter().enumerate().filter(|(n, _)| !nulls.contains(n)) {
        relevant = &relevant | column;
    }
    relevant = &relevant & exists;
    if let Some(nulls) = keys.nulls() {
        relevant = &relevant & nulls.inner();
    }
    Ok(SideOf { keys, bits: bits::by_row(&columns, NUMBER_BITS, rows), arguments, relevant })
}

fn keyspace(
    context: &Context,
    index: usize,
    rows: &TableRows,
    results: &[Results],
) -> Result<PreparedKeyspace, EngineError> {
    let Context { program, hasher, shards, pool } = context;
    let space = &program.keyspaces[index];
    let mut sides = Vec::with_capacity(rows.sides.len());
    for (of, results) in rows.sides.iter().zip(results) {
        sides.push(side(space, of.batch.column(space.key), &of.exists, results)?);
    }
    let layout = space.layout();
    let flags = layout.values() - FLAGS;
    let first_candidate = NUMBER_BITS + layout.filters + layout.arguments;
    let width = bits::words_of(first_candidate + space.indicators.len());
    let mut out = pool.take();
    out.shards.resize_with(*shards, Vec::new);
    places(&sides, rows.num_rows(), &mut out.places);
    out.hashes.reserve(out.places.len());
    out.bits.reserve(out.places.len() * width);
    out.images.reserve(out.places.len() * layout.stride());
    for (at, &place) in out.places.iter().enumerate() {
        let (row, side) = (place.row(), &sides[place.side()]);
        let hash = text::hash(hasher, side.keys.value(row));
        let bits = &side.bits[row * width..(row + 1) * width];
        out.hashes.push(hash);
        out.shards[text::shard_of(hash, *shards)].push(at as u32);
        out.bits.extend_from_slice(bits);
        let number = rows.seq(place) & ((1 << NUMBER_BITS) - 1);
        out.images.extend([rows.time(place) as u64, bits[0] | number]);
        out.images.extend_from_slice(&bits[1..flags]);
        for (a, argument) in side.arguments.iter().enumerate() {
            let (word, null) = layout.null(a);
            out.images.push(if bits[word - FLAGS] & null == 0 { argument.at(row, hasher) } else { 0 });
        }
    }
    let mut texts = Vec::new();
    for a in 0..layout.arguments {
        let columns: Vec<StringArray> =
            sides.iter().filter_map(|side| side.arguments[a].texts().cloned()).collect();
        if columns.len() == sides.len() {
            texts.push(TextArgument { word: layout.values() + a, null: layout.null(a), columns });
        }
    }
    let keys = sides.into_iter().map(|side| side.keys).collect();
    Ok(PreparedKeyspace { keyspace: index, rows: out, width, first_candidate, keys, texts })
}

/// Rows that matter, in order.
fn places(sides: &[SideOf], rows: usize, places: &mut Vec<Place>) {
    let words: Vec<Vec<u64>> =
        sides.iter().map(|side| side.relevant.bit_chunks().iter_padded().collect()).collect();
    for (block, first) in (0..rows).step_by(64).enumerate() {
        let word = |side: usize| words[side].get(block).copied().unwrap_or(0);
        let mut left = (0..sides.len()).fold(0, |any, side| any | word(side));
        while left != 0 {
            let bit = left.trailing_zeros() as usize;
            left &= left - 1;
            let here = (0..sides.len()).filter(|&side| word(side) >> bit & 1 == 1);
            places.extend(here.map(|side| Place::new(first + bit, side)));
        }
    }
}

/// NULL does not hold.
pub(crate) fn holds(array: &BooleanArray) -> BooleanBuffer {
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
    evaluate_at(expression, batch, faults, |row| seqs.get(row).copied())
}

/// The same; `seq` gives the number of a row's transaction, or `None` for rows that need no value.
fn evaluate_at(
    expression: &Compiled,
    batch: &RecordBatch,
    faults: &mut Vec<(u64, String)>,
    seq: impl Fn(usize) -> Option<u64>,
) -> Result<ArrayRef, EngineError> {
    if let Ok(array) = expression.evaluate(batch) {
        return Ok(array);
    }
    let mut parts: Vec<ArrayRef> = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let value = seq(row).map(|seq| (seq, expression.evaluate(&batch.slice(row, 1))));
        parts.push(match value {
            Some((_, Ok(array))) => array,
            Some((seq, Err(error))) => {
                faults.push((seq, error.to_string()));
                new_null_array(&expression.data_type, 1)
            }
            None => new_null_array(&expression.data_type, 1),
        });
    }
    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    if parts.is_empty() {
        return Ok(new_null_array(&expression.data_type, 0));
    }
    Ok(arrow::compute::concat(&parts)?)
}
