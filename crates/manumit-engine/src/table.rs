//! Rows of one table as they stand in a chunk of transactions: where they are, and how values of some are collected.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::buffer::{BooleanBuffer, ScalarBuffer};
use arrow::compute::{interleave, take};
use arrow::error::ArrowError;
use manumit_rules::ir::Table;

use crate::entries::{self, Side};
use crate::program::TableProgram;

/// A row of a table: a transaction of the chunk, or one side of it. In the order of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(u32);

impl Place {
    pub(crate) fn new(row: usize, side: usize) -> Place {
        Place((row as u32) << 1 | side as u32)
    }

    /// Of the chunk.
    pub(crate) fn row(self) -> usize {
        (self.0 >> 1) as usize
    }

    pub(crate) fn side(self) -> usize {
        (self.0 & 1) as usize
    }
}

/// One table's rows of a chunk.
pub(crate) struct TableRows {
    /// Transactions as they are, or the two sides of entries; each has a row a transaction.
    pub sides: Vec<Side>,
    /// Event times of the chunk's rows.
    pub times: ScalarBuffer<i64>,
    /// Number of the chunk's first transaction.
    pub start_seq: u64,
}

impl TableRows {
    pub(crate) fn new(
        chunk: &RecordBatch,
        table: &TableProgram,
        times: ScalarBuffer<i64>,
        start_seq: u64,
    ) -> Result<TableRows, ArrowError> {
        let sides = match table.table {
            Table::Entries => entries::sides(chunk, &table.schema)?.into(),
            Table::Transactions => {
                let batch = entries::transactions(chunk, &table.schema)?.batch;
                vec![Side { exists: BooleanBuffer::new_set(batch.num_rows()), batch }]
            }
        };
        Ok(TableRows { sides, times, start_seq })
    }

    pub(crate) fn num_rows(&self) -> usize {
        self.times.len()
    }

    /// Event time of the last row.
    pub(crate) fn last_time(&self) -> i64 {
        self.times.last().copied().unwrap_or(i64::MIN)
    }

    /// Event time of a row.
    pub(crate) fn time(&self, place: Place) -> i64 {
        self.times[place.row()]
    }

    /// Number of a row's transaction.
    pub(crate) fn seq(&self, place: Place) -> u64 {
        self.start_seq + place.row() as u64
    }

    /// A column's values at some rows.
    pub(crate) fn collect(&self, column: usize, places: &Places) -> Result<ArrayRef, ArrowError> {
        let columns: Vec<&ArrayRef> = self.sides.iter().map(|side| side.batch.column(column)).collect();
        let one = match columns.as_slice() {
            [only] => Some(only),
            [out, inward] if Arc::ptr_eq(out, inward) => Some(out),
            [out, inward] => places.one_side.map(|side| if side == 0 { out } else { inward }),
            _ => None,
        };
        match one {
            Some(column) => take(column.as_ref(), &places.rows, None),
            None => {
                let columns: Vec<&dyn Array> = columns.iter().map(|column| column.as_ref()).collect();
                interleave(&columns, &places.pairs)
            }
        }
    }
}

/// Rows that values are collected of.
pub(crate) struct Places {
    rows: UInt32Array,
    pairs: Vec<(usize, usize)>,
    /// They are all of this side.
    one_side: Option<usize>,
}

impl Places {
    pub(crate) fn new(places: impl Iterator<Item = Place>) -> Places {
        let pairs: Vec<(usize, usize)> = places.map(|place| (place.side(), place.row())).collect();
        let first = pairs.first().map_or(0, |pair| pair.0);
        Places {
            rows: pairs.iter().map(|pair| pair.1 as u32).collect(),
            one_side: pairs.iter().all(|pair| pair.0 == first).then_some(first),
            pairs,
        }
    }
}
