//! One state of the archive, to be read.

use std::path::{Path, PathBuf};

use crate::ArchiveError;
use crate::check::{BadFile, bad, check_entry};
use crate::day::Day;
use crate::layout::{self, LOCK};
use crate::manifest::{FileEntry, MANIFEST, Manifest, Standing};

/// How closely files are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Size, footer, number of rows.
    Footers,
    /// All bytes, against the checksum they were written with.
    Checksums,
}

/// One state of the archive. A writer may go on beside it.
#[derive(Debug, Clone)]
pub struct Archive {
    folder: PathBuf,
    manifest: Manifest,
}

impl Archive {
    /// The folder is that of an archive, be it one that has lost its manifest.
    pub fn is_at(folder: &Path) -> bool {
        folder.join(MANIFEST).is_file() || (folder.join(LOCK).is_file() && layout::has_dates(folder))
    }

    /// The archive that a path is in: its folder itself, one of its dates, or one of its files.
    pub fn around(path: &Path) -> Option<&Path> {
        path.ancestors().take(3).find(|folder| Archive::is_at(folder))
    }

    /// Reads the manifest.
    ///
    /// # Errors
    /// When there is none, or it cannot be used.
    pub fn open(folder: &Path) -> Result<Archive, ArchiveError> {
        match Manifest::read(folder)? {
            Some(manifest) => Ok(Archive { folder: folder.to_path_buf(), manifest }),
            None if layout::has_dates(folder) => {
                Err(ArchiveError::ManifestLost { folder: folder.to_path_buf() })
            }
            None => Err(ArchiveError::NoArchive { folder: folder.to_path_buf() }),
        }
    }

    /// The manifest as it was read.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a file is.
    pub fn path(&self, entry: &FileEntry) -> PathBuf {
        self.folder.join(&entry.path)
    }

    /// Files with rows of these event times, microseconds UTC, `to` excluded; both may be open.
    pub fn files(&self, from: Option<i64>, to: Option<i64>) -> Vec<FileEntry> {
        let holds = |entry: &&FileEntry| {
            from.is_none_or(|from| entry.last_event_micros >= from)
                && to.is_none_or(|to| entry.first_event_micros < to)
        };
        self.manifest.files.iter().filter(holds).cloned().collect()
    }

    /// First and last event date.
    pub fn days(&self) -> Option<(Day, Day)> {
        let days = || self.manifest.files.iter().map(FileEntry::day);
        Some((days().min()?, days().max()?))
    }

    /// Tells sound files from bad ones.
    pub fn check(&self, files: Vec<FileEntry>, depth: Depth) -> (Vec<FileEntry>, Vec<BadFile>) {
        let mut bad_files = Vec::new();
        let mut sound = Vec::new();
        for entry in files {
            let path = self.path(&entry);
            match check_entry(&path, &entry, depth == Depth::Checksums) {
                None => sound.push(entry),
                Some(why) => bad_files.push(bad(path, &entry, why)),
            }
        }
        (sound, bad_files)
    }

    /// Parquet files in the folder that no writer of this archive wrote. What a crash left, or a writer is at, is none.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn strangers(&self) -> Result<Vec<BadFile>, ArchiveError> {
        let paths = layout::walk(&self.folder).map_err(ArchiveError::io(&self.folder))?;
        let stranger = |path: &str| BadFile {
            path: self.folder.join(path),
            why: format!("it is a foreign file: it lies in the archive, but {MANIFEST} does not list it"),
            mend: "move it out of the folder, or go on without it with --skip-bad-files".into(),
            rows: None,
        };
        let standings = self.manifest.standings(&paths);
        let strangers = standings
            .iter()
            .filter(|(path, standing)| *standing == Standing::Stranger && path.ends_with(".parquet"));
        Ok(strangers.map(|(path, _)| stranger(path)).collect())
    }
}
