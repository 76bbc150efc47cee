//! Which rows are in the archive already: asked only where a source is read again.
//!
//! The files themselves are the memory. A row is the same row when it comes from the same position with the same feed and
//! id. So a file that was read before adds nothing, one with new content under an old name adds all of it, and a record
//! that was rejected at first and is accepted after its mapping was mended is added then.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashSet};
use std::hash::{Hash as _, Hasher as _};
use std::path::Path;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::statistics::Statistics;

use crate::ArchiveError;
use crate::check::{bad, check_entry};
use crate::file::{Places, spans};
use crate::manifest::{FileEntry, Span};

/// Offsets that are looked at together.
const WINDOW: i64 = 1 << 17;

/// Columns that tell a row.
const COLUMNS: [&str; 5] = ["tx_id", "feed", "source", "source_partition", "source_offset"];

/// Rows of a stretch of one source partition.
struct Window {
    number: i64,
    rows: HashSet<(i64, u64)>,
}

/// What is known of committed files; forgotten when files are added.
#[derive(Default)]
pub(crate) struct Seen {
    /// Highest offset in committed files, by source partition.
    highest: BTreeMap<(String, i32), i64>,
    windows: BTreeMap<(String, i32), Window>,
}

impl Seen {
    pub(crate) fn new(files: &[FileEntry]) -> Seen {
        let mut seen = Seen::default();
        files.iter().for_each(|entry| seen.add(entry));
        seen
    }

    /// A file was committed.
    pub(crate) fn add(&mut self, entry: &FileEntry) {
        for span in &entry.spans {
            let key = (span.source.clone(), span.partition);
            let highest = self.highest.entry(key.clone()).or_insert(span.last);
            *highest = (*highest).max(span.last);
            self.windows.remove(&key);
        }
    }

    /// The rows of `rows` that are in `files`; `None` when none is.
    pub(crate) fn known(
        &mut self,
        folder: &Path,
        files: &[FileEntry],
        rows: &RecordBatch,
    ) -> Result<Option<BooleanArray>, ArchiveError> {
        let again = spans(rows)
            .into_iter()
            .any(|(key, (first, _))| self.highest.get(&key).is_some_and(|&highest| first <= highest));
        let (true, Some(places)) = (again, Places::of(rows)) else { return Ok(None) };
        let ids = Ids::of(rows);
        let mut known = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            let Some((source, partition, offset)) = places.at(row) else {
                known.push(false);
                continue;
            };
            let key = (source.to_string(), partition);
            if self.highest.get(&key).is_none_or(|&highest| offset > highest) {
                known.push(false);
                continue;
            }
            let number = offset.div_euclid(WINDOW);
            let loaded = self.windows.get(&key).is_some_and(|window| window.number == number);
            if !loaded {
                let window = load(folder, files, &key, number)?;
                self.windows.insert(key.clone(), window);
            }
            let window = self.windows.get(&key);
            known.push(window.is_some_and(|window| window.rows.contains(&(offset, ids.hash(row)))));
        }
        let any = known.contains(&true);
        Ok(any.then(|| BooleanArray::from(known)))
    }
}

fn overlaps(span: &Span, key: &(String, i32), first: i64, last: i64) -> bool {
    span.source == key.0 && span.partition == key.1 && span.first <= last && span.last >= first
}

fn load(
    folder: &Path,
    files: &[FileEntry],
    key: &(String, i32),
    number: i64,
) -> Result<Window, ArchiveError> {
    let first = number.saturating_mul(WINDOW);
    let last = first.saturating_add(WINDOW - 1);
    let mut window = Window { number, rows: HashSet::new() };
    for entry in files.iter().filter(|e| e.spans.iter().any(|span| overlaps(span, key, first, last))) {
        let path = folder.join(&entry.path);
        // Without the checksum: this runs while the stream waits. A wrong byte that still decodes is found by `verify`.
        if let Some(why) = check_entry(&path, entry, false) {
            return Err(bad(path, entry, why).into());
        }
        let damaged = |why: String| bad(path.clone(), entry, format!("it cannot be read: {why}"));
        let file = std::fs::File::open(&path).map_err(ArchiveError::io(&path))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| damaged(e.to_string()))?;
        let columns = ProjectionMask::columns(builder.parquet_schema(), COLUMNS);
        let groups = (0..builder.metadata().num_row_groups())
            .filter(|&group| {
                let group = builder.metadata().row_group(group);
                let offsets = group.columns().iter().find(|c| c.column_path().string() == "source_offset");
                match offsets.and_then(|c| c.statistics()) {
                    Some(Statistics::Int64(offsets)) => {
                        offsets.min_opt().is_none_or(|&min| min <= last)
                            && offsets.max_opt().is_none_or(|&max| max >= first)
                    }
                    _ => true,
                }
            })
            .collect();
        let reader = builder
            .with_projection(columns)
            .with_row_groups(groups)
            .with_batch_size(8_192)
            .build()
            .map_err(|e| damaged(e.to_string()))?;
        for rows in reader {
            let rows = rows.map_err(|e| damaged(e.to_string()))?;
            let ids = Ids::of(&rows);
            let Some(places) = Places::of(&rows) else { continue };
            for row in 0..rows.num_rows() {
                if let Some((source, partition, offset)) = places.at(row)
                    && source == key.0
                    && partition == key.1
                    && (first..=last).contains(&offset)
                {
                    window.rows.insert((offset, ids.hash(row)));
                }
            }
        }
    }
    Ok(window)
}

/// Feed and id of each row.
struct Ids<'a>([Option<&'a arrow::array::StringArray>; 2]);

impl<'a> Ids<'a> {
    fn of(rows: &'a RecordBatch) -> Ids<'a> {
        Ids(["feed", "tx_id"].map(|name| rows.column_by_name(name).and_then(|c| c.as_string_opt::<i32>())))
    }

    /// Two ids at one position are taken for one with a chance of 2^-64.
    fn hash(&self, row: usize) -> u64 {
        let mut hasher = DefaultHasher::new();
        for column in self.0 {
            column.filter(|c| c.is_valid(row)).map(|c| c.value(row)).hash(&mut hasher);
        }
        hasher.finish()
    }
}
