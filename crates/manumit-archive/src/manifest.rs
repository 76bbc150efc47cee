//! The list of the files that count. Whoever holds one has one state of the archive.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::ArchiveError;
use crate::day::Day;
use crate::layout::{self, FORMAT, Name};

/// Name of the manifest below the archive's folder.
pub const MANIFEST: &str = "_manifest.json";

/// One state of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// `manumit.archive/1`.
    pub format: String,
    /// Part of the names of all files of this archive.
    pub id: String,
    /// Version of the program that wrote it.
    pub program: String,
    /// Commits so far.
    pub commits: u64,
    /// Number of the next file; higher ones are left over from a crash.
    pub next_file: u64,
    /// Canonical columns that some feed has sent so far; the others are NULL in every row.
    pub columns: Vec<String>,
    /// How far each source was archived when it was last committed.
    pub positions: Vec<Next>,
    /// The files that count, ordered by path.
    pub files: Vec<FileEntry>,
    /// Files that no longer count and are still to be deleted.
    pub replaced: Vec<Replaced>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path below the archive's folder, with `/`.
    pub path: String,
    /// Rows.
    pub rows: u64,
    /// Of them late.
    pub late_rows: u64,
    /// Size.
    pub bytes: u64,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// Event time of the first row, microseconds UTC.
    pub first_event_micros: i64,
    /// Event time of the last row.
    pub last_event_micros: i64,
    /// Where its rows were read.
    pub spans: Vec<Span>,
}

/// Rows of one source partition in a file lie between these offsets; not every offset between has one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    /// Topic or file.
    pub source: String,
    /// Kafka partition; 0 for files.
    pub partition: i32,
    /// Lowest offset, or record number in the file.
    pub first: i64,
    /// Highest.
    pub last: i64,
}

/// How far a source partition is archived.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Next {
    /// Topic or file.
    pub source: String,
    /// Kafka partition; 0 for files.
    pub partition: i32,
    /// The offset to go on with.
    pub next: i64,
}

/// A file that was merged into another one, or has expired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// Path below the archive's folder.
    pub path: String,
    /// When it ceased to count, seconds since 1970-01-01 UTC: readers that began before may still read it for a while.
    pub at_seconds: u64,
}

impl FileEntry {
    /// Its event date.
    pub fn day(&self) -> Day {
        Day::of(self.first_event_micros)
    }
}

impl Manifest {
    /// Of an empty archive.
    pub(crate) fn new(id: String) -> Manifest {
        Manifest {
            format: FORMAT.into(),
            id,
            program: env!("CARGO_PKG_VERSION").into(),
            commits: 0,
            next_file: 1,
            columns: Vec::new(),
            positions: Vec::new(),
            files: Vec::new(),
            replaced: Vec::new(),
        }
    }

    /// The newest event date.
    pub fn newest(&self) -> Option<Day> {
        self.files.iter().map(FileEntry::day).max()
    }

    /// Reads the manifest of a folder; `None` when there is none.
    pub(crate) fn read(folder: &Path) -> Result<Option<Manifest>, ArchiveError> {
        let path = folder.join(MANIFEST);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ArchiveError::io(&path)(error)),
        };
        let bad = |why: String| ArchiveError::BadManifest { path: path.clone(), why };
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|e| bad(format!("the manifest cannot be read: {e}")))?;
        if manifest.format != FORMAT {
            return Err(bad(format!("its format is `{}`, this program knows `{FORMAT}`", manifest.format)));
        }
        let mut seen = BTreeSet::new();
        for entry in &manifest.files {
            // Paths come from here and go to the disk: none may lead out of the folder.
            let placed = Name::parse(&entry.path).filter(|name| name.id == manifest.id);
            if placed.is_none_or(|name| name.day != entry.day() || name.number >= manifest.next_file) {
                return Err(bad(format!("`{}` is no path of a file of this archive", entry.path)));
            }
            if !seen.insert(&entry.path) {
                return Err(bad(format!("`{}` is listed twice", entry.path)));
            }
        }
        if let Some(replaced) = manifest.replaced.iter().find(|r| Name::parse(&r.path).is_none()) {
            return Err(bad(format!("`{}` is no path of a file of this archive", replaced.path)));
        }
        Ok(Some(manifest))
    }

    /// Replaces the manifest of a folder: from here on, this state holds. The one before stays beside it.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), ArchiveError> {
        let path = folder.join(MANIFEST);
        let temporary = folder.join(format!("{MANIFEST}.tmp"));
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|e| ArchiveError::BadManifest { path: path.clone(), why: e.to_string() })?;
        text.push(b'\n');
        let mut file = std::fs::File::create(&temporary).map_err(ArchiveError::io(&temporary))?;
        file.write_all(&text).map_err(ArchiveError::io(&temporary))?;
        file.sync_all().map_err(ArchiveError::io(&temporary))?;
        let previous = folder.join(format!("{MANIFEST}.previous"));
        // A second name for the old one, so that there is never a moment without a manifest.
        let _ = std::fs::remove_file(&previous);
        let _ = std::fs::hard_link(&path, &previous);
        std::fs::rename(&temporary, &path).map_err(ArchiveError::io(&path))?;
        sync_folder(folder)
    }
}

/// What a path below the archive is to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It counts.
    Listed,
    /// A writer of this archive has left it, is writing it, or has yet to delete it.
    Leftover,
    /// Nobody here wrote it.
    Stranger,
}

impl Manifest {
    /// What each of some paths is; in the order given.
    pub(crate) fn standings<'a>(&self, paths: &'a [String]) -> Vec<(&'a str, Standing)> {
        let listed: BTreeSet<&str> = self.files.iter().map(|entry| entry.path.as_str()).collect();
        let replaced: BTreeSet<&str> = self.replaced.iter().map(|replaced| replaced.path.as_str()).collect();
        let standing = |path: &str| {
            let unnamed = layout::without_temporary(path);
            let named = unnamed.as_deref().unwrap_or(path);
            let ours = Name::parse(named).filter(|name| name.id == self.id);
            match ours {
                None => Standing::Stranger,
                Some(_) if unnamed.is_some() => Standing::Leftover,
                Some(_) if listed.contains(path) => Standing::Listed,
                Some(name) if name.number >= self.next_file || replaced.contains(path) => Standing::Leftover,
                Some(_) => Standing::Stranger,
            }
        };
        paths.iter().map(|path| (path.as_str(), standing(path))).collect()
    }
}

/// Makes renames and removals in a folder last.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), ArchiveError> {
    std::fs::File::open(folder).and_then(|f| f.sync_all()).map_err(ArchiveError::io(folder))
}
