//! The transactions that alerts may still have to show, by number.

use std::collections::VecDeque;

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;

use crate::EngineError;

/// Rows of a batch that is worth its overhead.
const ROWS_A_BATCH: usize = 4096;

/// Released transactions, numbered from 0 in the order of release. Older ones than any evidence reaches are dropped.
pub(crate) struct TransactionLog {
    parts: VecDeque<Part>,
    next: u64,
}

struct Part {
    first: u64,
    last_time: i64,
    rows: RecordBatch,
}

impl TransactionLog {
    pub(crate) fn new() -> TransactionLog {
        TransactionLog { parts: VecDeque::new(), next: 0 }
    }

    /// Numbers begin here.
    pub(crate) fn start_at(&mut self, first: u64) {
        self.next = first;
    }

    /// Number of the next row.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Event time of the oldest row that is kept.
    pub(crate) fn oldest(&self) -> Option<i64> {
        let times = self.parts.front()?.rows.column_by_name("event_time")?;
        times.as_primitive_opt::<TimestampMicrosecondType>()?.values().first().copied()
    }

    /// Appends rows and gives the number of the first.
    pub(crate) fn append(&mut self, rows: RecordBatch, last_time: i64) -> u64 {
        let first = self.next;
        self.next += rows.num_rows() as u64;
        self.parts.push_back(Part { first, last_time, rows });
        first
    }

    /// Numbers rows that are not kept, and gives the number of the first.
    pub(crate) fn pass(&mut self, rows: usize) -> u64 {
        let first = self.next;
        self.next += rows as u64;
        first
    }

    /// Drops parts that end before `time`.
    pub(crate) fn drop_before(&mut self, time: i64) {
        while self.parts.front().is_some_and(|part| part.last_time < time) {
            self.parts.pop_front();
        }
    }

    /// Number of the first transaction at or after `time`; rows that were dropped are before any time that is asked for.
    pub(crate) fn first_at(&self, time: i64) -> u64 {
        let part = self.parts.partition_point(|part| part.last_time < time);
        let Some(part) = self.parts.get(part) else { return self.next };
        let times = part.rows.column_by_name("event_time");
        let times = times.and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
        let before = times.map_or(0, |times| times.values().partition_point(|&t| t < time));
        part.first + before as u64
    }

    /// Some columns of the transactions with these numbers, which ascend; numbers no longer here are left out. `schema` is
    /// that of the columns. In batches that a processor's cache holds, none of them much smaller but the last.
    pub(crate) fn columns_of(
        &self,
        seqs: &[u64],
        columns: &[usize],
        schema: &SchemaRef,
    ) -> Result<Vec<RecordBatch>, EngineError> {
        let mut whole = Vec::new();
        let mut parts = Vec::new();
        let mut waiting = 0;
        self.each_part(seqs, |part, here, _| {
            waiting += here.len();
            parts.push(take_record_batch(&part.project(columns)?, here)?);
            if waiting >= ROWS_A_BATCH {
                waiting = 0;
                whole.push(concat_batches(schema, &std::mem::take(&mut parts))?);
            }
            Ok(())
        })?;
        if !parts.is_empty() {
            whole.push(concat_batches(schema, &parts)?);
        }
        Ok(whole)
    }

    /// The transactions with these numbers, which ascend; numbers no longer here are left out.
    pub(crate) fn find(
        &self,
        seqs: &[u64],
        schema: &SchemaRef,
    ) -> Result<(Vec<u64>, RecordBatch), EngineError> {
        let mut found = Vec::with_capacity(seqs.len());
        let mut batches = Vec::new();
        self.each_part(seqs, |part, rows, here| {
            batches.push(take_record_batch(part, rows)?);
            found.extend_from_slice(here);
            Ok(())
        })?;
        Ok((found, concat_batches(schema, &batches)?))
    }

    /// Every part with some of these numbers, the places of them in it, and themselves.
    fn each_part(
        &self,
        seqs: &[u64],
        mut visit: impl FnMut(&RecordBatch, &UInt32Array, &[u64]) -> Result<(), ArrowError>,
    ) -> Result<(), EngineError> {
        let mut rest = seqs;
        let start = self.parts.partition_point(|part| {
            let end = part.first + part.rows.num_rows() as u64;
            seqs.first().is_some_and(|&seq| end <= seq)
        });
        for part in self.parts.range(start..) {
            let end = part.first + part.rows.num_rows() as u64;
            rest = &rest[rest.partition_point(|&seq| seq < part.first)..];
            let here = &rest[..rest.partition_point(|&seq| seq < end)];
            rest = &rest[here.len()..];
            if !here.is_empty() {
                let rows = UInt32Array::from_iter_values(here.iter().map(|&seq| (seq - part.first) as u32));
                visit(&part.rows, &rows, here)?;
            }
            if rest.is_empty() {
                break;
            }
        }
        Ok(())
    }
}
