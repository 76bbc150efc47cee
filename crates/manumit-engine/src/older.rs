//! Rows that memory no longer holds, by key: what an archive gives back.
//!
//! Keyed queries may look back further than memory is wanted to hold rows. Event time is then cut in two at a *floor*: rows
//! at or after it are in memory, rows before it are asked of an [`Older`]. A row is on one side only, so no answer depends
//! on where the floor lies.

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{SortColumn, concat_batches, lexsort_to_indices, partition, take_record_batch};
use arrow::datatypes::SchemaRef;

use crate::EngineError;

/// Which rows are asked for.
#[derive(Debug, Clone, Copy)]
pub struct OlderRows<'a> {
    /// Columns of `transactions` in which a key may stand: two where a payment's sides are looked at.
    pub columns: &'a [&'a str],
    /// The keys, ascending; a row counts when any of the columns holds any of them.
    pub keys: &'a [&'a str],
    /// First event time, microseconds UTC.
    pub from: i64,
    /// First event time that is too late, microseconds UTC.
    pub to: i64,
    /// The columns that the rows must have, in this order; what was not archived is NULL.
    pub schema: &'a SchemaRef,
}

/// Where accepted transactions are kept for longer than memory holds them.
pub trait Older: Send {
    /// All rows that were evaluated before this event time can be asked for, microseconds UTC; `i64::MIN`: none yet. Never
    /// goes back.
    fn complete_before(&self) -> i64;

    /// The rows asked for that were evaluated, in any order; late ones are none of them.
    ///
    /// # Errors
    /// Why they cannot be had, and the mend, in words.
    fn rows(&self, asked: &OlderRows<'_>) -> Result<Vec<RecordBatch>, String>;
}

/// An [`Older`], and how much stays in memory all the same.
pub(crate) struct Tail {
    pub older: Box<dyn Older>,
    /// Rows this far back from a tick are kept in memory.
    pub micros: i64,
}

/// What tells one row from another, in the order in which rows leave the orderer.
pub(crate) const ORDER: [&str; 6] =
    ["event_time", "feed", "tx_id", "source", "source_partition", "source_offset"];

fn order_of(rows: &RecordBatch) -> Vec<ArrayRef> {
    ORDER.iter().filter_map(|name| rows.column_by_name(name)).cloned().collect()
}

/// Rows in the order in which they would lie in memory.
pub(crate) fn ordered(batches: &[RecordBatch], schema: &SchemaRef) -> Result<RecordBatch, EngineError> {
    let rows = concat_batches(schema, batches)?;
    Ok(take_record_batch(&rows, &order(&rows)?)?)
}

fn order(rows: &RecordBatch) -> Result<UInt32Array, EngineError> {
    let columns: Vec<SortColumn> =
        order_of(rows).into_iter().map(|values| SortColumn { values, options: None }).collect();
    Ok(lexsort_to_indices(&columns, None)?)
}

/// Number of the first row that came from an archive; numbers of rows in memory are far below it.
const FIRST: u64 = 1 << 63;

/// The transactions of one alert, from memory and archive: each once, however many indicators counted it and wherever.
pub(crate) struct Shown {
    /// By event time.
    pub rows: RecordBatch,
    /// Of `rows`: those of memory keep theirs.
    pub numbers: Vec<u64>,
    /// Per part that was read from the archive: numbers of its rows.
    pub counted: Vec<Vec<u64>>,
}

/// Puts together what memory gave, and what was read from the archive for each part of an alert. Windows may have a row in
/// memory that a query has from the archive.
pub(crate) fn shown(
    memory: (RecordBatch, Vec<u64>),
    parts: &[RecordBatch],
    schema: &SchemaRef,
) -> Result<Shown, EngineError> {
    let (rows, numbers) = memory;
    let mut counted = vec![Vec::new(); parts.len()];
    if parts.iter().all(|part| part.num_rows() == 0) {
        return Ok(Shown { rows, numbers, counted });
    }
    let part_of: Vec<usize> = parts
        .iter()
        .enumerate()
        .flat_map(|(part, rows)| std::iter::repeat_n(part, rows.num_rows()))
        .collect();
    let all = concat_batches(schema, std::iter::once(&rows).chain(parts))?;
    let order = order(&all)?;
    let sorted = take_record_batch(&all, &order)?;
    let (mut kept, mut named) = (Vec::new(), Vec::new());
    for (same, fresh) in partition(&order_of(&sorted))?.ranges().into_iter().zip(FIRST..) {
        let place = |row: usize| order.value(row) as usize;
        let mut in_memory = same.clone().filter(|&row| place(row) < numbers.len()).peekable();
        let number = in_memory.peek().map_or(fresh, |&row| numbers[place(row)]);
        if number == fresh {
            kept.push(same.start as u32);
            named.push(fresh);
        }
        for row in in_memory {
            kept.push(row as u32);
            named.push(numbers[place(row)]);
        }
        for row in same.filter(|&row| place(row) >= numbers.len()) {
            counted[part_of[place(row) - numbers.len()]].push(number);
        }
    }
    Ok(Shown { rows: take_record_batch(&sorted, &UInt32Array::from(kept))?, numbers: named, counted })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array as _, AsArray as _, StringArray, TimestampMicrosecondArray};
    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

    use super::*;

    fn rows(of: &[(i64, &str)]) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![
            Field::new("event_time", DataType::Timestamp(TimeUnit::Microsecond, None), true),
            Field::new("tx_id", DataType::Utf8, true),
        ]));
        let times: TimestampMicrosecondArray = of.iter().map(|row| Some(row.0)).collect();
        let ids: StringArray = of.iter().map(|row| Some(row.1)).collect();
        RecordBatch::try_new(schema, vec![Arc::new(times), Arc::new(ids)]).unwrap()
    }

    #[test]
    fn a_transaction_is_shown_once_whoever_counted_it() {
        let (left, right) = (rows(&[(3, "c"), (1, "a")]), rows(&[(1, "a"), (1, "b"), (3, "c")]));
        let schema = left.schema();
        let memory = (rows(&[(3, "c"), (4, "d")]), vec![7, 8]);
        let shown = shown(memory, &[left, right], &schema).unwrap();
        let ids = shown.rows.column(1).as_string::<i32>();
        assert_eq!((0..ids.len()).map(|i| ids.value(i)).collect::<Vec<_>>(), ["a", "b", "c", "d"]);
        assert_eq!(shown.numbers, [FIRST, FIRST + 1, 7, 8]);
        assert_eq!(shown.counted, [vec![FIRST, 7], vec![FIRST, FIRST + 1, 7]]);
    }
}
