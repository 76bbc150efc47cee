//! The one writer: rows into files, files into the manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, not, take_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use manumit_model::schema::column;
use sha2::{Digest as _, Sha256};

use crate::ArchiveError;
use crate::check::hexadecimal;
use crate::compact;
use crate::day::Day;
use crate::file::{Outgoing, sorted, spans};
use crate::layout::{self, Name};
use crate::manifest::{FileEntry, Manifest, Next, Replaced, Standing};
use crate::seen::Seen;

/// How a writer goes about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Files of a date with fewer rows are merged.
    pub compact_below_rows: u64,
    /// Rows in memory; beyond that the largest date is written to disk.
    pub buffer_rows: usize,
    /// Event dates kept, counted back from the newest; `None`: all.
    pub retention_days: Option<u32>,
    /// How long a file that no longer counts stays on disk for readers that began before.
    pub keep_replaced: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            compact_below_rows: 500_000,
            buffer_rows: 200_000,
            retention_days: None,
            keep_replaced: Duration::from_secs(600),
        }
    }
}

/// What a writer did since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Rows committed.
    pub archived: u64,
    /// Of them late.
    pub late: u64,
    /// Rows left out because they were in the archive already.
    pub known: u64,
    /// Rows left out because their date is older than the retention.
    pub expired: u64,
}

/// What merging or expiring changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Merged {
    /// Files that no longer count.
    pub files_before: u64,
    /// Files that took their place.
    pub files_after: u64,
    /// Rows in them; for expired files, rows that are gone.
    pub rows: u64,
}

#[derive(Default)]
struct Buffer {
    batches: Vec<RecordBatch>,
    rows: usize,
}

/// Writes to an archive; holds its lock until it is dropped.
pub struct Writer {
    folder: PathBuf,
    settings: Settings,
    manifest: Manifest,
    buffers: BTreeMap<Day, Buffer>,
    buffered_rows: usize,
    /// On disk, but not yet in the manifest.
    written: Vec<FileEntry>,
    /// Offsets of rows that are buffered or written, by source partition.
    uncommitted: BTreeMap<(String, i32), (i64, i64)>,
    /// How far each source partition was pushed.
    next: BTreeMap<(String, i32), i64>,
    /// Columns that were pushed.
    columns: BTreeSet<String>,
    seen: Seen,
    counts: Counts,
    /// Not released before the writer goes.
    _held: Held,
}

/// The right to write to an archive: no other process has it before this is dropped.
#[derive(Debug)]
pub struct Held {
    folder: PathBuf,
    _lock: File,
}

impl Held {
    /// Takes it. Files of the archive may be put into the folder, or taken out, before a writer begins.
    ///
    /// # Errors
    /// When another process has it.
    pub fn take(folder: &Path) -> Result<Held, ArchiveError> {
        std::fs::create_dir_all(folder).map_err(ArchiveError::io(folder))?;
        Ok(Held { folder: folder.to_path_buf(), _lock: lock(folder)? })
    }
}

impl Writer {
    /// Opens an archive to write to it, or makes one; removes what a crash left.
    ///
    /// # Errors
    /// When another process writes to it, or its manifest cannot be used.
    pub fn open(folder: &Path, settings: Settings) -> Result<Writer, ArchiveError> {
        Writer::begin(Held::take(folder)?, settings)
    }

    /// The same, of an archive that is held already.
    ///
    /// # Errors
    /// When its manifest cannot be used.
    pub fn begin(held: Held, settings: Settings) -> Result<Writer, ArchiveError> {
        let folder = held.folder.as_path();
        let manifest = match Manifest::read(folder)? {
            Some(manifest) => manifest,
            None if layout::has_dates(folder) => {
                return Err(ArchiveError::ManifestLost { folder: folder.to_path_buf() });
            }
            None => {
                let manifest = Manifest::new(new_id(folder));
                manifest.write(folder)?;
                manifest
            }
        };
        let paths = layout::walk(folder).map_err(ArchiveError::io(folder))?;
        let replaced: BTreeSet<&str> = manifest.replaced.iter().map(|r| r.path.as_str()).collect();
        for (path, standing) in manifest.standings(&paths) {
            if standing == Standing::Leftover && !replaced.contains(path) {
                remove(&folder.join(path))?;
            }
        }
        let next = manifest.positions.iter().map(|p| ((p.source.clone(), p.partition), p.next)).collect();
        Ok(Writer {
            folder: folder.to_path_buf(),
            settings,
            seen: Seen::new(&manifest.files),
            columns: manifest.columns.iter().cloned().collect(),
            manifest,
            buffers: BTreeMap::new(),
            buffered_rows: 0,
            written: Vec::new(),
            uncommitted: BTreeMap::new(),
            next,
            counts: Counts::default(),
            _held: held,
        })
    }

    /// The state last committed.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What it did so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Rows in memory.
    pub fn buffered_rows(&self) -> usize {
        self.buffered_rows
    }

    /// Takes accepted transactions (canonical columns, with `source`, `source_partition` and `source_offset`); `late`: places
    /// of those that came late. Those that are in the archive already are left out and counted.
    ///
    /// # Invariants
    /// A1: a call that failed may be repeated; what it took before is found again.
    ///
    /// # Errors
    /// When the disk refuses, or a file of the archive that must be looked into is damaged.
    pub fn push(&mut self, rows: &RecordBatch, late: &[usize]) -> Result<(), ArchiveError> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let mut flags = vec![false; rows.num_rows()];
        for &place in late {
            if let Some(flag) = flags.get_mut(place) {
                *flag = true;
            }
        }
        for field in rows.schema().fields().iter().filter(|field| column(field.name()).is_some()) {
            if !self.columns.contains(field.name()) {
                self.columns.insert(field.name().clone());
            }
        }
        let mut rows = layout::widened(rows, Some(BooleanArray::from(flags)))?;
        let pushed = spans(&rows);
        let again = pushed.iter().any(|(key, (first, last))| {
            self.uncommitted.get(key).is_some_and(|(low, high)| first <= high && last >= low)
        });
        if again {
            // Read again while the first reading is still in memory: only committed files can be looked into.
            self.commit()?;
        }
        if let Some(known) = self.seen.known(&self.folder, &self.manifest.files, &rows)? {
            self.counts.known += known.true_count() as u64;
            rows = filter_record_batch(&rows, &not(&known)?)?;
        }
        for (key, span) in spans(&rows) {
            let wide = self.uncommitted.entry(key).or_insert(span);
            *wide = (wide.0.min(span.0), wide.1.max(span.1));
        }
        self.buffer(&rows)?;
        for ((source, partition), (_, last)) in pushed {
            self.reached(&source, partition, last.saturating_add(1));
        }
        while self.buffered_rows > self.settings.buffer_rows {
            let largest =
                self.buffers.iter().max_by_key(|(day, buffer)| (buffer.rows, std::cmp::Reverse(**day)));
            let Some(day) = largest.map(|(day, _)| *day) else { break };
            self.flush(day)?;
        }
        Ok(())
    }

    /// Records up to `next` have been pushed, or gave no rows.
    pub fn reached(&mut self, source: &str, partition: i32, next: i64) {
        let known = self.next.entry((source.to_string(), partition)).or_insert(next);
        *known = (*known).max(next);
    }

    fn buffer(&mut self, rows: &RecordBatch) -> Result<(), ArchiveError> {
        let Some(times) =
            rows.column_by_name("event_time").and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>())
        else {
            return Ok(());
        };
        let mut days: BTreeMap<Day, Vec<u32>> = BTreeMap::new();
        for row in 0..rows.num_rows() {
            let time = if times.is_valid(row) { times.value(row) } else { 0 };
            days.entry(Day::of(time)).or_default().push(row as u32);
        }
        let newest = days.keys().chain(self.buffers.keys()).copied().chain(self.manifest.newest()).max();
        let horizon = self.settings.retention_days.zip(newest).map(|(days, newest)| newest.back(days));
        let single = days.len() == 1;
        for (day, places) in days {
            if horizon.is_some_and(|horizon| day < horizon) {
                self.counts.expired += places.len() as u64;
                continue;
            }
            let count = places.len();
            let part =
                if single { rows.clone() } else { take_record_batch(rows, &UInt32Array::from(places))? };
            let buffer = self.buffers.entry(day).or_default();
            buffer.batches.push(part);
            buffer.rows += count;
            self.buffered_rows += count;
        }
        Ok(())
    }

    /// Writes the rows of a date to a file; they stay in memory until that has worked.
    fn flush(&mut self, day: Day) -> Result<(), ArchiveError> {
        let Some(buffer) = self.buffers.get(&day) else { return Ok(()) };
        let number = self.manifest.next_file + self.written.len() as u64;
        let mut out = Outgoing::create(&self.folder, &Name { day, number, id: &self.manifest.id })?;
        out.write(&sorted(&buffer.batches)?)?;
        self.written.push(out.finish()?);
        self.buffered_rows -= buffer.rows;
        self.buffers.remove(&day);
        Ok(())
    }

    /// Everything pushed so far is in the archive when this returns.
    ///
    /// # Invariants
    /// A2. A call that failed may be repeated.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn commit(&mut self) -> Result<(), ArchiveError> {
        let days: Vec<Day> = self.buffers.keys().copied().collect();
        for day in days {
            self.flush(day)?;
        }
        let positions: Vec<Next> = self
            .next
            .iter()
            .map(|((source, partition), &next)| Next { source: source.clone(), partition: *partition, next })
            .collect();
        let mut next = self.manifest.clone();
        next.next_file += self.written.len() as u64;
        next.files.extend(self.written.iter().cloned());
        next.positions = positions;
        next.columns = self.columns.iter().cloned().collect();
        if let Some(days) = self.settings.retention_days {
            expire(&mut next, days);
        }
        self.sweep(&mut next);
        if next == self.manifest {
            return Ok(());
        }
        self.install(next)?;
        for entry in std::mem::take(&mut self.written) {
            self.counts.archived += entry.rows;
            self.counts.late += entry.late_rows;
            self.seen.add(&entry);
        }
        self.uncommitted.clear();
        Ok(())
    }

    fn install(&mut self, mut next: Manifest) -> Result<(), ArchiveError> {
        next.commits += 1;
        next.program = env!("CARGO_PKG_VERSION").into();
        next.files.sort_by(|a, b| a.path.cmp(&b.path));
        next.write(&self.folder)?;
        self.manifest = next;
        Ok(())
    }

    /// Deletes files that have not counted for long, and then strikes them out of the next manifest.
    fn sweep(&self, next: &mut Manifest) {
        let keep = self.settings.keep_replaced.as_secs();
        let due = |replaced: &Replaced| replaced.at_seconds.saturating_add(keep) <= now_seconds();
        // Only what the manifest on disk does not list: a crash before the next one is written loses nothing.
        let current: BTreeSet<&str> = self.manifest.replaced.iter().map(|r| r.path.as_str()).collect();
        next.replaced.retain(|replaced| {
            !(current.contains(replaced.path.as_str())
                && due(replaced)
                && remove(&self.folder.join(&replaced.path)).is_ok())
        });
    }

    /// Merges one group of small files, when there is one that is worth it. To be called after a commit.
    ///
    /// # Errors
    /// When the disk refuses, or a file is damaged: it is named, and the archive is as before.
    pub fn tend(&mut self) -> Result<bool, ArchiveError> {
        match compact::due(&self.manifest.files, self.settings.compact_below_rows) {
            Some(group) => self.merge(&group).map(|()| true),
            None => Ok(false),
        }
    }

    /// Merges all small files of every date.
    ///
    /// # Errors
    /// As [`Writer::tend`]; what was merged before stays merged.
    pub fn compact(&mut self) -> Result<Merged, ArchiveError> {
        self.commit()?;
        let mut merged = Merged::default();
        for group in compact::all(&self.manifest.files, self.settings.compact_below_rows) {
            self.merge(&group)?;
            merged.files_before += group.len() as u64;
            merged.files_after += 1;
            merged.rows += group.iter().map(|entry| entry.rows).sum::<u64>();
        }
        self.commit()?;
        Ok(merged)
    }

    fn merge(&mut self, group: &[FileEntry]) -> Result<(), ArchiveError> {
        let Some(day) = group.first().map(FileEntry::day) else { return Ok(()) };
        // Files written but not committed hold the numbers before.
        let number = self.manifest.next_file + self.written.len() as u64;
        debug_assert!(self.written.is_empty());
        let entry = compact::merge(&self.folder, group, &Name { day, number, id: &self.manifest.id })?;
        let mut next = self.manifest.clone();
        next.next_file = number + 1;
        replace(&mut next, |known| group.iter().any(|old| old.path == known.path));
        next.files.push(entry);
        self.install(next)
    }

    /// Takes out rows at or behind these offsets of their source partitions: they were archived by a run that died before it
    /// could commit, and are read again. What is made of them then may be something else (late, or a duplicate of a row that
    /// is read first this time), and the archive must say the same as the run. Gives how many. To be called before the first row.
    ///
    /// # Errors
    /// When the disk refuses, or a file is damaged: it is named, and the archive is as before.
    pub fn take_back(&mut self, next: &BTreeMap<(String, i32), i64>) -> Result<u64, ArchiveError> {
        let offset = |source: &str, partition| next.get(&(source.to_string(), partition)).copied();
        let is_beyond = |entry: &&FileEntry| {
            entry
                .spans
                .iter()
                .any(|span| offset(&span.source, span.partition).is_some_and(|offset| span.last >= offset))
        };
        let beyond: Vec<FileEntry> = self.manifest.files.iter().filter(is_beyond).cloned().collect();
        if beyond.is_empty() {
            return Ok(0);
        }
        let mut manifest = self.manifest.clone();
        let mut rows = 0;
        for entry in &beyond {
            let name = Name { day: entry.day(), number: manifest.next_file, id: &self.manifest.id };
            let left = compact::cut(&self.folder, entry, &name, next)?;
            rows += entry.rows - left.as_ref().map_or(0, |left| left.rows);
            replace(&mut manifest, |known| known.path == entry.path);
            manifest.next_file += 1;
            manifest.files.extend(left);
        }
        for position in &mut manifest.positions {
            if let Some(offset) = offset(&position.source, position.partition) {
                position.next = position.next.min(offset);
            }
        }
        self.next = manifest.positions.iter().map(|p| ((p.source.clone(), p.partition), p.next)).collect();
        self.install(manifest)?;
        self.seen = Seen::new(&self.manifest.files);
        Ok(rows)
    }

    /// Drops event dates that are more than `days` older than the newest one.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn expire(&mut self, days: u32) -> Result<Merged, ArchiveError> {
        self.commit()?;
        let mut next = self.manifest.clone();
        let expired = expire(&mut next, days);
        if expired.files_before > 0 {
            self.install(next)?;
        }
        self.commit()?;
        Ok(expired)
    }
}

/// Takes files out of the list; they are deleted later.
fn replace(manifest: &mut Manifest, gone: impl Fn(&FileEntry) -> bool) -> Merged {
    let at_seconds = now_seconds();
    let mut merged = Merged::default();
    let (out, kept): (Vec<FileEntry>, Vec<FileEntry>) =
        std::mem::take(&mut manifest.files).into_iter().partition(gone);
    manifest.files = kept;
    for entry in out {
        merged.files_before += 1;
        merged.rows += entry.rows;
        manifest.replaced.push(Replaced { path: entry.path, at_seconds });
    }
    merged
}

fn expire(manifest: &mut Manifest, days: u32) -> Merged {
    match manifest.newest().map(|newest| newest.back(days)) {
        Some(horizon) => replace(manifest, |entry| entry.day() < horizon),
        None => Merged::default(),
    }
}

/// Deletes a file, and its folder when that is empty.
fn remove(path: &Path) -> Result<(), ArchiveError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(ArchiveError::io(path)(error)),
        _ => {
            if let Some(parent) = path.parent() {
                // Refused while it holds anything.
                let _ = std::fs::remove_dir(parent);
            }
            Ok(())
        }
    }
}

fn lock(folder: &Path) -> Result<File, ArchiveError> {
    let path = folder.join(layout::LOCK);
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(ArchiveError::io(&path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let owner = std::fs::read_to_string(&path).unwrap_or_default().trim().to_string();
            return Err(ArchiveError::Locked { folder: folder.to_path_buf(), owner });
        }
        Err(TryLockError::Error(error)) => return Err(ArchiveError::io(&path)(error)),
    }
    // For whoever finds it locked; the lock itself is the system's.
    file.set_len(0)
        .and_then(|()| write!(file, "process {}", std::process::id()))
        .map_err(ArchiveError::io(&path))?;
    Ok(file)
}

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn new_id(folder: &Path) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let path = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    let sum = Sha256::digest(format!("{} {now} {}", path.display(), std::process::id()));
    hexadecimal(&sum[..4])
}
