//! Undecoded records on their way from a source to a codec.

use std::sync::Arc;

use crate::dead_letter::Position;

/// Consecutive undecoded records of one source partition, in the order read, without copies of their own:
/// all bytes stand in one buffer.
#[derive(Debug, Clone, Default)]
pub struct Records {
    /// Topic or file path; `stdin` for standard input.
    pub source: Arc<str>,
    /// Kafka partition; 0 for files.
    pub partition: i32,
    /// All records, one after another. For lines: without the line end.
    pub data: Vec<u8>,
    /// End of each record in `data`, ascending.
    pub ends: Vec<usize>,
    /// Offset of each record: the Kafka offset, or the record's number in the file counted from 1.
    pub offsets: Vec<i64>,
    /// Length of each record as it stood in the source, for those longer than what is kept in `data`:
    /// (index, whole length). The reader cuts oversized records so that memory stays bounded.
    pub oversized: Vec<(usize, u64)>,
    /// Records of a topic that stand in a batch that cannot be unfolded: indices; nothing of them is in `data`.
    pub unreadable: Vec<usize>,
    /// First record of a CSV file with a header; it is not among the records.
    pub header: Option<Arc<[u8]>>,
    /// Processing time of the poll, microseconds since 1970-01-01 UTC; only the future guard uses it, where no record tells when
    /// it was written.
    pub polled_at_micros: i64,
    /// When each record was written to its topic, microseconds since 1970-01-01 UTC, the same at every reading; empty for
    /// files, and where a topic does not tell.
    pub written_at_micros: Vec<i64>,
}

impl Records {
    /// An empty list for a source partition.
    pub fn new(source: Arc<str>, partition: i32, polled_at_micros: i64) -> Self {
        Records { source, partition, polled_at_micros, ..Records::default() }
    }

    /// Appends one record.
    pub fn push(&mut self, offset: i64, bytes: &[u8]) {
        self.data.extend_from_slice(bytes);
        self.ends.push(self.data.len());
        self.offsets.push(offset);
    }

    /// When the record at `index` was written, or read where that is not known, microseconds UTC.
    pub fn known_at(&self, index: usize) -> i64 {
        self.written_at_micros.get(index).copied().unwrap_or(self.polled_at_micros)
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of the record at `index`; empty when there is no such record.
    pub fn get(&self, index: usize) -> &[u8] {
        let Some(&end) = self.ends.get(index) else { return &[] };
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.data[start..end]
    }

    /// Position of the record at `index`.
    pub fn position(&self, index: usize) -> Position {
        Position {
            source: self.source.clone(),
            partition: self.partition,
            offset: self.offsets.get(index).copied().unwrap_or_default(),
        }
    }
}
