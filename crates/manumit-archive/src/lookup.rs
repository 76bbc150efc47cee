//! One key's rows: found through the statistics and bloom filters of row groups, without reading the rest.

use std::collections::HashSet;
use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowPredicateFn, ParquetRecordBatchReaderBuilder, RowFilter};
use parquet::file::statistics::Statistics;

use crate::ArchiveError;
use crate::check::{bad, check_entry};
use crate::layout::LATE;
use crate::manifest::FileEntry;
use crate::reader::Archive;

/// With more keys than this some key is in nearly every row group, and asking the bloom filters is not worth it.
const ASKED_KEYS: usize = 4_096;

/// Which rows are looked for: those that came in time.
#[derive(Debug, Clone)]
pub struct Lookup<'a> {
    /// A row counts when any of these columns holds any of the keys.
    pub columns: &'a [&'a str],
    /// The keys.
    pub keys: &'a HashSet<&'a str>,
    /// First event time, microseconds UTC.
    pub from: i64,
    /// First event time that is too late, microseconds UTC.
    pub to: i64,
    /// The columns wanted; one that the archive does not have is NULL.
    pub schema: &'a SchemaRef,
}

/// How much a lookup had to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Effort {
    /// Row groups of the files of that time.
    pub groups: u64,
    /// Of them read.
    pub groups_read: u64,
}

impl Archive {
    /// The rows looked for, file by file.
    ///
    /// # Errors
    /// [`ArchiveError::BadFile`] names a file that is damaged or gone: an answer without it would be a wrong one.
    pub fn look_up(&self, wanted: &Lookup<'_>) -> Result<(Vec<RecordBatch>, Effort), ArchiveError> {
        let mut effort = Effort::default();
        let mut found = Vec::new();
        for entry in self.files(Some(wanted.from), Some(wanted.to)) {
            let path = self.path(&entry);
            if let Some(why) = check_entry(&path, &entry, false) {
                return Err(bad(path, &entry, why).into());
            }
            look_into(&path, &entry, wanted, &mut effort, &mut found)?;
        }
        Ok((found, effort))
    }
}

fn look_into(
    path: &Path,
    entry: &FileEntry,
    wanted: &Lookup<'_>,
    effort: &mut Effort,
    found: &mut Vec<RecordBatch>,
) -> Result<(), ArchiveError> {
    let damaged = |why: String| bad(path.to_path_buf(), entry, format!("it cannot be read: {why}"));
    let file = std::fs::File::open(path).map_err(ArchiveError::io(path))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| damaged(e.to_string()))?;
    let mut groups = Vec::new();
    for group in 0..builder.metadata().num_row_groups() {
        effort.groups += 1;
        if in_time(&builder, group, wanted)
            && may_hold(&builder, group, wanted).map_err(|e| damaged(e.to_string()))?
        {
            groups.push(group);
        }
    }
    effort.groups_read += groups.len() as u64;
    if groups.is_empty() {
        return Ok(());
    }
    let parquet = builder.parquet_schema();
    let named = |name: &str| wanted.schema.fields().iter().any(|field| field.name() == name);
    let all: Vec<&str> = parquet.columns().iter().map(|column| column.name()).collect();
    let columns = ProjectionMask::columns(parquet, all.iter().copied().filter(|name| named(name)));
    let asked = ProjectionMask::columns(parquet, wanted.columns.iter().copied().chain(["event_time", LATE]));
    // A predicate must outlive what it borrows from: the reader takes owned ones only.
    let keys: HashSet<String> = wanted.keys.iter().map(|key| (*key).to_string()).collect();
    let names: Vec<String> = wanted.columns.iter().map(|name| (*name).to_string()).collect();
    let (from, to) = (wanted.from, wanted.to);
    let mine = ArrowPredicateFn::new(asked, move |rows| mask(&rows, &names, &keys, from, to));
    let reader = builder
        .with_row_groups(groups)
        .with_projection(columns)
        .with_row_filter(RowFilter::new(vec![Box::new(mine)]))
        .with_batch_size(8_192)
        .build()
        .map_err(|e| damaged(e.to_string()))?;
    for rows in reader {
        let rows = rows.map_err(|e| damaged(e.to_string()))?;
        if rows.num_rows() > 0 {
            found.push(fitted(&rows, wanted.schema)?);
        }
    }
    Ok(())
}

fn in_time(
    builder: &ParquetRecordBatchReaderBuilder<std::fs::File>,
    group: usize,
    wanted: &Lookup<'_>,
) -> bool {
    let group = builder.metadata().row_group(group);
    let times = group.columns().iter().find(|column| column.column_path().string() == "event_time");
    match times.and_then(|column| column.statistics()) {
        Some(Statistics::Int64(times)) => {
            times.min_opt().is_none_or(|&first| first < wanted.to)
                && times.max_opt().is_none_or(|&last| last >= wanted.from)
        }
        _ => true,
    }
}

/// False when the bloom filters of all columns say that none of the keys is there.
fn may_hold(
    builder: &ParquetRecordBatchReaderBuilder<std::fs::File>,
    group: usize,
    wanted: &Lookup<'_>,
) -> parquet::errors::Result<bool> {
    if wanted.keys.len() > ASKED_KEYS {
        return Ok(true);
    }
    let columns = builder.metadata().row_group(group).columns();
    for (index, column) in columns.iter().enumerate() {
        if !wanted.columns.contains(&column.column_path().string().as_str()) {
            continue;
        }
        match builder.get_row_group_column_bloom_filter(group, index)? {
            Some(filter) if !wanted.keys.iter().any(|key| filter.check(*key)) => {}
            _ => return Ok(true),
        }
    }
    Ok(false)
}

/// Rows of the time and the keys that were not late.
fn mask(
    rows: &RecordBatch,
    columns: &[String],
    keys: &HashSet<String>,
    from: i64,
    to: i64,
) -> Result<BooleanArray, ArrowError> {
    let no = || ArrowError::SchemaError("event_time or late is missing".into());
    let times = rows.column_by_name("event_time").ok_or_else(no)?;
    let times = times.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(no)?;
    let late = rows.column_by_name(LATE).and_then(|c| c.as_boolean_opt()).ok_or_else(no)?;
    let mut held = vec![false; rows.num_rows()];
    for name in columns {
        let Some(column) = rows.column_by_name(name) else { continue };
        let column = cast(column, &DataType::Utf8)?;
        let column = column.as_string::<i32>();
        for (row, held) in held.iter_mut().enumerate() {
            *held |= column.is_valid(row) && keys.contains(column.value(row));
        }
    }
    Ok(held
        .into_iter()
        .enumerate()
        .map(|(row, held)| {
            Some(held && times.is_valid(row) && (from..to).contains(&times.value(row)) && !late.value(row))
        })
        .collect())
}

fn fitted(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = schema.fields().iter().map(|field| -> Result<ArrayRef, ArrowError> {
        match rows.column_by_name(field.name()) {
            Some(array) if array.data_type() == field.data_type() => Ok(array.clone()),
            Some(array) => cast(array, field.data_type()),
            None => Ok(new_null_array(field.data_type(), rows.num_rows())),
        }
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
}
