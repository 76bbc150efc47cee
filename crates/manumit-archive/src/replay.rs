//! Rows that a stream has read, in the order in which it evaluated them.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowPredicateFn, ParquetRecordBatchReaderBuilder, RowFilter};

use crate::ArchiveError;
use crate::check::{bad, check_entry};
use crate::day::Day;
use crate::file::{Places, sorted};
use crate::layout::LATE;
use crate::manifest::FileEntry;
use crate::reader::Archive;

/// Rows given at a time, if no more of them share one event time.
const SLICE_ROWS: usize = 32_768;

/// What was read of one source partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// First offset.
    pub begin: i64,
    /// The offset behind the last one.
    pub next: i64,
}

/// Which rows are wanted: those that came in time.
#[derive(Debug, Clone)]
pub struct Replay {
    /// First event time, microseconds UTC.
    pub from: i64,
    /// By topic and partition; rows of other sources are left out.
    pub read: BTreeMap<(String, i32), Stretch>,
}

impl Archive {
    /// Gives the rows wanted to `each`, ordered by event time, feed and transaction id; no event time is cut in two.
    /// Memory holds one event date.
    ///
    /// # Errors
    /// [`ArchiveError::BadFile`] names a file that is damaged or gone; those of `each`.
    pub fn replay<E: From<ArchiveError>>(
        &self,
        wanted: &Replay,
        mut each: impl FnMut(RecordBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut days: BTreeMap<Day, Vec<FileEntry>> = BTreeMap::new();
        for entry in self.files(Some(wanted.from), None) {
            days.entry(entry.day()).or_default().push(entry);
        }
        for files in days.into_values() {
            let mut batches = Vec::new();
            for entry in &files {
                self.read_into(entry, wanted, &mut batches)?;
            }
            let rows = sorted(&batches)?;
            let times: Vec<i64> = match rows.column_by_name("event_time") {
                Some(times) => times.as_primitive::<TimestampMicrosecondType>().values().to_vec(),
                None => continue,
            };
            let mut start = 0;
            while start < times.len() {
                let mut end = (start + SLICE_ROWS).min(times.len());
                while end < times.len() && times[end] == times[end - 1] {
                    end += 1;
                }
                each(rows.slice(start, end - start))?;
                start = end;
            }
        }
        Ok(())
    }

    /// Highest event time of the rows of each source partition that were read: what its watermark followed. A late row is
    /// never the highest one.
    ///
    /// # Errors
    /// As [`Archive::replay`].
    pub fn highest(
        &self,
        read: &BTreeMap<(String, i32), Stretch>,
    ) -> Result<BTreeMap<(String, i32), i64>, ArchiveError> {
        let mut highest: BTreeMap<(String, i32), i64> = BTreeMap::new();
        // Newest first: a file that ends before what is known of all its partitions cannot tell more.
        let mut files = self.files(None, None);
        files.sort_by_key(|entry| std::cmp::Reverse(entry.last_event_micros));
        for entry in files {
            let tells = entry.spans.iter().any(|span| {
                let key = (span.source.clone(), span.partition);
                read.contains_key(&key)
                    && highest.get(&key).is_none_or(|&known| known < entry.last_event_micros)
            });
            if !tells {
                continue;
            }
            let mut batches = Vec::new();
            let wanted = Replay { from: i64::MIN, read: read.clone() };
            self.read_into(&entry, &wanted, &mut batches)?;
            for rows in &batches {
                let (Some(places), Some(times)) = (
                    Places::of(rows),
                    rows.column_by_name("event_time")
                        .and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>()),
                ) else {
                    continue;
                };
                for row in 0..rows.num_rows() {
                    if let Some((source, partition, _)) = places.at(row) {
                        let time = times.value(row);
                        let known = highest.entry((source.to_string(), partition)).or_insert(time);
                        *known = (*known).max(time);
                    }
                }
            }
        }
        Ok(highest)
    }

    /// Gives the rows that were read, late ones too, of each source partition from an event time on (microseconds UTC), a few
    /// thousand at a time and in no order.
    ///
    /// # Errors
    /// As [`Archive::replay`].
    pub fn recent<E: From<ArchiveError>>(
        &self,
        wanted: &BTreeMap<(String, i32), (Stretch, i64)>,
        mut each: impl FnMut(RecordBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        for entry in self.files(None, None) {
            let tells = entry.spans.iter().any(|span| {
                let asked = wanted.get(&(span.source.clone(), span.partition));
                asked.is_some_and(|(_, from)| entry.last_event_micros >= *from)
            });
            if !tells {
                continue;
            }
            let mut batches = Vec::new();
            let wanted = wanted.clone();
            let filter = move |rows: &RecordBatch| {
                let asked = |source: &str, partition| wanted.get(&(source.to_string(), partition)).copied();
                mask(rows, true, asked)
            };
            self.read_filtered(&entry, filter, &mut batches)?;
            for rows in batches {
                each(rows)?;
            }
        }
        Ok(())
    }

    fn read_into(
        &self,
        entry: &FileEntry,
        wanted: &Replay,
        out: &mut Vec<RecordBatch>,
    ) -> Result<(), ArchiveError> {
        let wanted = wanted.clone();
        let filter = move |rows: &RecordBatch| {
            let asked = |source: &str, partition| {
                let stretch = wanted.read.get(&(source.to_string(), partition)).copied();
                stretch.map(|stretch| (stretch, wanted.from))
            };
            mask(rows, false, asked)
        };
        self.read_filtered(entry, filter, out)
    }

    fn read_filtered(
        &self,
        entry: &FileEntry,
        filter: impl Fn(&RecordBatch) -> Result<BooleanArray, ArrowError> + Send + 'static,
        out: &mut Vec<RecordBatch>,
    ) -> Result<(), ArchiveError> {
        let path = self.path(entry);
        if let Some(why) = check_entry(&path, entry, false) {
            return Err(bad(path, entry, why).into());
        }
        let damaged = |why: String| bad(path.clone(), entry, format!("it cannot be read: {why}"));
        let file = std::fs::File::open(&path).map_err(ArchiveError::io(&path))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| damaged(e.to_string()))?;
        let asked = ["event_time", LATE, "source", "source_partition", "source_offset"];
        let asked = ProjectionMask::columns(builder.parquet_schema(), asked);
        let reader = builder
            .with_row_filter(RowFilter::new(vec![Box::new(ArrowPredicateFn::new(asked, move |rows| {
                filter(&rows)
            }))]))
            .with_batch_size(8_192)
            .build()
            .map_err(|e| damaged(e.to_string()))?;
        for rows in reader {
            let rows = rows.map_err(|e| damaged(e.to_string()))?;
            if rows.num_rows() > 0 {
                out.push(rows);
            }
        }
        Ok(())
    }
}

/// What was read of a source partition, and from which event time on it is wanted, microseconds UTC.
type Asked = (Stretch, i64);

/// Rows that `asked` wants: what was read of their source partition, and from which event time on.
fn mask(
    rows: &RecordBatch,
    late_too: bool,
    asked: impl Fn(&str, i32) -> Option<Asked>,
) -> Result<BooleanArray, ArrowError> {
    let no = || ArrowError::SchemaError("event_time, late or the position is missing".into());
    let times = rows.column_by_name("event_time").ok_or_else(no)?;
    let times = times.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(no)?;
    let late = rows.column_by_name(LATE).and_then(|c| c.as_boolean_opt()).ok_or_else(no)?;
    let places = Places::of(rows).ok_or_else(no)?;
    let mut last: Option<((&str, i32), Option<Asked>)> = None;
    let held = (0..rows.num_rows()).map(|row| {
        let Some((source, partition, offset)) = places.at(row) else { return Some(false) };
        let stretch = match last {
            Some((key, stretch)) if key == (source, partition) => stretch,
            _ => {
                let stretch = asked(source, partition);
                last = Some(((source, partition), stretch));
                stretch
            }
        };
        let Some((stretch, from)) = stretch else { return Some(false) };
        let read = (stretch.begin..stretch.next).contains(&offset);
        Some(read && times.is_valid(row) && times.value(row) >= from && (late_too || !late.value(row)))
    });
    Ok(held.collect())
}
