//! One Parquet file: sorted rows in, an entry of the manifest out.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use sha2::{Digest as _, Sha256};

use crate::ArchiveError;
use crate::check::hexadecimal;
use crate::layout::{self, FORMAT, KEY_COLUMNS, LATE, Name};
use crate::manifest::{FileEntry, Span, sync_folder};

/// Key of a file's metadata that holds its number of rows.
pub(crate) const ROWS: &str = "manumit.rows";

/// Rows of a row group: small, so that one key's rows are in few of them.
const GROUP_ROWS: usize = 32_768;

/// Rows of a page, the least that is read.
const PAGE_ROWS: usize = 4_096;

/// Columns by which the rows of a file are ordered, as rows leave the engine.
pub(crate) const ORDER: [&str; 3] = ["event_time", "feed", "tx_id"];

/// Puts rows of the archive's schema in order.
pub(crate) fn sorted(batches: &[RecordBatch]) -> Result<RecordBatch, ArchiveError> {
    let rows = concat_batches(&layout::schema(), batches)?;
    // Rows of one time and id, too, have one order.
    let places = ["source", "source_partition", "source_offset"];
    let columns: Vec<SortColumn> = ORDER
        .iter()
        .chain(&places)
        .filter_map(|name| rows.column_by_name(name))
        .map(|column| SortColumn { values: column.clone(), options: None })
        .collect();
    let order: UInt32Array = lexsort_to_indices(&columns, None)?;
    Ok(take_record_batch(&rows, &order)?)
}

/// Writes to a file and sums up what it writes.
struct Summing {
    file: std::io::BufWriter<std::fs::File>,
    sum: Sha256,
    bytes: u64,
}

impl Write for Summing {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.sum.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// A file on its way: rows go in in order, the file has its name when it is finished.
pub(crate) struct Outgoing<'a> {
    folder: &'a Path,
    relative: String,
    writer: ArrowWriter<Summing>,
    rows: u64,
    late_rows: u64,
    times: Option<(i64, i64)>,
    spans: BTreeMap<(String, i32), (i64, i64)>,
}

impl<'a> Outgoing<'a> {
    pub(crate) fn create(folder: &'a Path, name: &Name<'_>) -> Result<Outgoing<'a>, ArchiveError> {
        let relative = name.path();
        let path = folder.join(&relative);
        if let Some(parent) = path.parent().filter(|parent| !parent.is_dir()) {
            std::fs::create_dir_all(parent).map_err(ArchiveError::io(parent))?;
            sync_folder(folder)?;
        }
        let temporary = layout::temporary(&path);
        let file = std::fs::File::create(&temporary).map_err(ArchiveError::io(&temporary))?;
        let to =
            Summing { file: std::io::BufWriter::with_capacity(1 << 18, file), sum: Sha256::new(), bytes: 0 };
        let writer = ArrowWriter::try_new(to, layout::schema(), Some(properties()))
            .map_err(ArchiveError::parquet(&temporary))?;
        Ok(Outgoing { folder, relative, writer, rows: 0, late_rows: 0, times: None, spans: BTreeMap::new() })
    }

    pub(crate) fn write(&mut self, rows: &RecordBatch) -> Result<(), ArchiveError> {
        if let Some((first, last)) = times(rows) {
            self.times = Some(self.times.map_or((first, last), |(f, l)| (f.min(first), l.max(last))));
        }
        for (key, (first, last)) in spans(rows) {
            let span = self.spans.entry(key).or_insert((first, last));
            *span = (span.0.min(first), span.1.max(last));
        }
        self.rows += rows.num_rows() as u64;
        let late = rows.column_by_name(LATE).and_then(|c| c.as_boolean_opt());
        self.late_rows += late.map_or(0, |late| late.true_count() as u64);
        self.writer.write(rows).map_err(ArchiveError::parquet(self.folder.join(&self.relative)))
    }

    /// On disk under its name, but not yet listed.
    pub(crate) fn finish(mut self) -> Result<FileEntry, ArchiveError> {
        let path = self.folder.join(&self.relative);
        let temporary = layout::temporary(&path);
        let spans: Vec<Span> = self
            .spans
            .iter()
            .map(|((source, partition), &(first, last))| Span {
                source: source.clone(),
                partition: *partition,
                first,
                last,
            })
            .collect();
        let told = [
            ("manumit.format", FORMAT.to_string()),
            ("manumit.program", env!("CARGO_PKG_VERSION").to_string()),
            (ROWS, self.rows.to_string()),
            ("manumit.spans", serde_json::to_string(&spans).unwrap_or_default()),
        ];
        for (key, value) in told {
            self.writer.append_key_value_metadata(KeyValue::new(key.to_string(), value));
        }
        let written = self.writer.into_inner().map_err(ArchiveError::parquet(&temporary))?;
        let Summing { file, sum, bytes } = written;
        let file = file.into_inner().map_err(|e| ArchiveError::io(&temporary)(e.into_error()))?;
        file.sync_all().map_err(ArchiveError::io(&temporary))?;
        drop(file);
        std::fs::rename(&temporary, &path).map_err(ArchiveError::io(&path))?;
        if let Some(parent) = path.parent() {
            sync_folder(parent)?;
        }
        let (first_event_micros, last_event_micros) = self.times.unwrap_or_default();
        Ok(FileEntry {
            path: self.relative,
            rows: self.rows,
            late_rows: self.late_rows,
            bytes,
            sha256: hexadecimal(&sum.finalize()),
            first_event_micros,
            last_event_micros,
            spans,
        })
    }
}

fn properties() -> WriterProperties {
    let schema = layout::schema();
    let order = ORDER
        .iter()
        .filter_map(|name| schema.index_of(name).ok())
        .map(|index| SortingColumn { column_idx: index as i32, descending: false, nulls_first: true })
        .collect();
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_sorting_columns(Some(order));
    for key in KEY_COLUMNS {
        // Sized for a group of rows all different, then folded to what the values need.
        properties = properties
            .set_column_bloom_filter_enabled(ColumnPath::from(key), true)
            .set_column_bloom_filter_fpp(ColumnPath::from(key), 0.01)
            .set_column_bloom_filter_max_ndv(ColumnPath::from(key), GROUP_ROWS as u64);
    }
    properties.build()
}

fn times(rows: &RecordBatch) -> Option<(i64, i64)> {
    let times = rows.column_by_name("event_time")?.as_primitive_opt::<TimestampMicrosecondType>()?;
    let known = || (0..times.len()).filter(|&row| times.is_valid(row)).map(|row| times.value(row));
    Some((known().min()?, known().max()?))
}

/// Rows that follow each other from one source partition: source, partition, lowest and highest offset.
type Run<'a> = ((&'a str, i32), (i64, i64));

/// Lowest and highest offset of each source partition.
pub(crate) fn spans(rows: &RecordBatch) -> BTreeMap<(String, i32), (i64, i64)> {
    let mut all: BTreeMap<(String, i32), (i64, i64)> = BTreeMap::new();
    let mut last: Option<Run<'_>> = None;
    let Some(places) = Places::of(rows) else { return all };
    let mut close = |last: Option<Run<'_>>| {
        if let Some(((source, partition), (low, high))) = last {
            let span = all.entry((source.to_string(), partition)).or_insert((low, high));
            *span = (span.0.min(low), span.1.max(high));
        }
    };
    for row in 0..rows.num_rows() {
        let Some((source, partition, offset)) = places.at(row) else { continue };
        match &mut last {
            Some((key, span)) if *key == (source, partition) => {
                *span = (span.0.min(offset), span.1.max(offset));
            }
            _ => close(last.replace(((source, partition), (offset, offset)))),
        }
    }
    close(last);
    all
}

/// Where each row was read.
pub(crate) struct Places<'a> {
    sources: &'a arrow::array::StringArray,
    partitions: &'a arrow::array::Int32Array,
    offsets: &'a arrow::array::Int64Array,
}

impl<'a> Places<'a> {
    /// `None` when the rows do not say.
    pub(crate) fn of(rows: &'a RecordBatch) -> Option<Places<'a>> {
        Some(Places {
            sources: rows.column_by_name("source")?.as_string_opt::<i32>()?,
            partitions: rows.column_by_name("source_partition")?.as_primitive_opt::<Int32Type>()?,
            offsets: rows.column_by_name("source_offset")?.as_primitive_opt::<Int64Type>()?,
        })
    }

    /// Source, partition and offset of a row.
    pub(crate) fn at(&self, row: usize) -> Option<(&'a str, i32, i64)> {
        let known = self.sources.is_valid(row) && self.partitions.is_valid(row) && self.offsets.is_valid(row);
        known.then(|| (self.sources.value(row), self.partitions.value(row), self.offsets.value(row)))
    }
}
