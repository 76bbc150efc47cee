//! Many small files of a date become one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::Path;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::{SortOptions, filter_record_batch, interleave_record_batch};
use arrow::row::{OwnedRow, RowConverter, SortField};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use crate::ArchiveError;
use crate::check::{bad, check_entry};
use crate::day::Day;
use crate::file::{ORDER, Outgoing, Places};
use crate::layout::{self, Name};
use crate::manifest::FileEntry;

/// Files of one size class that are merged while the archive is written.
const FEW: usize = 8;

/// Rows read from each file at a time.
const BATCH: usize = 8_192;

/// Files of a date that are worth merging while the archive is written: eight of about one size, so that each row is
/// rewritten few times however many commits there are.
pub(crate) fn due(files: &[FileEntry], below_rows: u64) -> Option<Vec<FileEntry>> {
    let mut classes: BTreeMap<(Day, u32), Vec<&FileEntry>> = BTreeMap::new();
    for entry in files.iter().filter(|entry| entry.rows < below_rows) {
        classes.entry((entry.day(), entry.rows.max(1).ilog2() / 3)).or_default().push(entry);
    }
    let group = classes.into_values().find(|group| group.len() >= FEW)?;
    Some(group.into_iter().cloned().collect())
}

/// Groups of small files to merge on request: all of a date, as long as what comes of it is not much over the bound.
pub(crate) fn all(files: &[FileEntry], below_rows: u64) -> Vec<Vec<FileEntry>> {
    let mut days: BTreeMap<Day, Vec<&FileEntry>> = BTreeMap::new();
    for entry in files.iter().filter(|entry| entry.rows < below_rows) {
        days.entry(entry.day()).or_default().push(entry);
    }
    let mut groups = Vec::new();
    for mut small in days.into_values() {
        small.sort_by_key(|entry| (entry.rows, entry.path.clone()));
        let mut group: Vec<FileEntry> = Vec::new();
        let mut rows = 0;
        for entry in small {
            if rows >= below_rows {
                groups.push(std::mem::take(&mut group));
                rows = 0;
            }
            rows += entry.rows;
            group.push(entry.clone());
        }
        groups.push(group);
    }
    groups.retain(|group| group.len() > 1);
    groups
}

/// One file with the rows of several, in order. They stay; the caller commits the exchange.
///
/// Memory: a batch of each file. Checksums are compared first, so that damage is never copied into a sound file.
pub(crate) fn merge(folder: &Path, files: &[FileEntry], name: &Name<'_>) -> Result<FileEntry, ArchiveError> {
    let mut inputs = Vec::new();
    for entry in files {
        inputs.push(Incoming::open(folder, entry)?);
    }
    let mut out = Outgoing::create(folder, name)?;
    let mut heap: BinaryHeap<Reverse<(OwnedRow, usize)>> = BinaryHeap::new();
    for (index, input) in inputs.iter_mut().enumerate() {
        if let Some(key) = input.key()? {
            heap.push(Reverse((key, index)));
        }
    }
    // Batches that rows are taken from, and which of them each input stands in.
    let mut picked = Picked::default();
    while let Some(Reverse((_, index))) = heap.pop() {
        let input = &mut inputs[index];
        picked.take(index, input);
        if let Some(key) = input.key()? {
            heap.push(Reverse((key, index)));
        }
        if picked.rows.len() >= BATCH {
            out.write(&picked.batch()?)?;
        }
    }
    if !picked.rows.is_empty() {
        out.write(&picked.batch()?)?;
    }
    let entry = out.finish()?;
    let rows: u64 = files.iter().map(|entry| entry.rows).sum();
    if entry.rows != rows {
        // The checksums were right, so this is not the files' fault; nothing is committed.
        let why = format!("merging gave {} rows of {rows}", entry.rows);
        return Err(bad(folder.join(&entry.path), &entry, why).into());
    }
    Ok(entry)
}

/// One file anew without the rows at or behind these offsets of their source partition; `None` when none is left. The file
/// stays; the caller commits the exchange.
///
/// Memory: a batch.
pub(crate) fn cut(
    folder: &Path,
    entry: &FileEntry,
    name: &Name<'_>,
    next: &BTreeMap<(String, i32), i64>,
) -> Result<Option<FileEntry>, ArchiveError> {
    let mut input = Incoming::open(folder, entry)?;
    let mut out: Option<Outgoing<'_>> = None;
    while input.key()?.is_some() {
        let Some(rows) = input.batch.take() else { break };
        let places = Places::of(&rows);
        let stays = |row: usize| {
            places.as_ref().and_then(|places| places.at(row)).is_none_or(|(source, partition, offset)| {
                next.get(&(source.to_string(), partition)).is_none_or(|&next| offset < next)
            })
        };
        let stays: BooleanArray = (0..rows.num_rows()).map(|row| Some(stays(row))).collect();
        let rows = filter_record_batch(&rows, &stays)?;
        if rows.num_rows() == 0 {
            continue;
        }
        match &mut out {
            Some(out) => out.write(&rows)?,
            None => out.insert(Outgoing::create(folder, name)?).write(&rows)?,
        }
    }
    out.map(Outgoing::finish).transpose()
}

#[derive(Default)]
struct Picked {
    batches: Vec<RecordBatch>,
    /// For each input: number of its batch, and where that stands in `batches`.
    places: BTreeMap<usize, (u64, usize)>,
    rows: Vec<(usize, usize)>,
}

impl Picked {
    fn take(&mut self, index: usize, input: &mut Incoming) {
        let Some(batch) = &input.batch else { return };
        let known = self.places.get(&index).filter(|(number, _)| *number == input.number);
        let place = match known {
            Some((_, place)) => *place,
            None => {
                self.batches.push(batch.clone());
                self.places.insert(index, (input.number, self.batches.len() - 1));
                self.batches.len() - 1
            }
        };
        self.rows.push((place, input.row));
        input.row += 1;
    }

    fn batch(&mut self) -> Result<RecordBatch, ArchiveError> {
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        let out = interleave_record_batch(&batches, &self.rows)?;
        *self = Picked::default();
        Ok(out)
    }
}

/// A file that is read row by row.
struct Incoming {
    reader: ParquetRecordBatchReader,
    entry: FileEntry,
    path: std::path::PathBuf,
    converter: RowConverter,
    keys: Option<arrow::row::Rows>,
    batch: Option<RecordBatch>,
    number: u64,
    row: usize,
}

impl Incoming {
    fn open(folder: &Path, entry: &FileEntry) -> Result<Incoming, ArchiveError> {
        let path = folder.join(&entry.path);
        if let Some(why) = check_entry(&path, entry, true) {
            return Err(bad(path, entry, why).into());
        }
        let file = std::fs::File::open(&path).map_err(ArchiveError::io(&path))?;
        let damaged = |why: String| bad(path.clone(), entry, format!("it cannot be read: {why}"));
        let reader = ParquetRecordBatchReaderBuilder::try_new(file)
            .and_then(|builder| builder.with_batch_size(BATCH).build())
            .map_err(|e| damaged(e.to_string()))?;
        let schema = layout::schema();
        let fields = ORDER
            .iter()
            .filter_map(|name| schema.field_with_name(name).ok())
            .map(|field| SortField::new_with_options(field.data_type().clone(), SortOptions::default()))
            .collect();
        Ok(Incoming {
            reader,
            entry: entry.clone(),
            path,
            converter: RowConverter::new(fields)?,
            keys: None,
            batch: None,
            number: 0,
            row: 0,
        })
    }

    /// The sort key of the next row; `None` at the end.
    fn key(&mut self) -> Result<Option<OwnedRow>, ArchiveError> {
        loop {
            if let (Some(batch), Some(keys)) = (&self.batch, &self.keys)
                && self.row < batch.num_rows()
            {
                return Ok(Some(keys.row(self.row).owned()));
            }
            let Some(batch) = self.reader.next() else { return Ok(None) };
            let batch =
                batch.map_err(|e| bad(self.path.clone(), &self.entry, format!("it cannot be read: {e}")))?;
            let batch =
                layout::widened(&batch, batch.column_by_name(layout::LATE).map(|c| c.as_boolean().clone()))?;
            let columns: Vec<_> =
                ORDER.iter().filter_map(|name| batch.column_by_name(name).cloned()).collect();
            self.keys = Some(self.converter.convert_columns(&columns)?);
            self.batch = Some(batch);
            self.number += 1;
            self.row = 0;
        }
    }
}
