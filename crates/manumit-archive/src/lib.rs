//! Accepted transactions as Parquet, each exactly once.
//!
//! ```text
//!  rows + late flags ─► not there yet? ─► buffers by event date ─► sorted files ─► manifest ─► readers
//!                            │ there: counted, left out                 │ merged, expired ──┘
//! ```
//!
//! A file belongs to the archive from the moment that `_manifest.json` lists it, and a row is in the archive when such a
//! file holds it. The manifest is replaced as a whole, so a crash at any instruction leaves either the state before a
//! commit or the one after it; files that it does not list are of no account and go at the next start of a writer. Rows
//! that are read again after a restart are found by their position and id in the files themselves, and left out.
//!
//! This crate knows Arrow, Parquet and a folder. Everything is synchronous: the caller owns the threads.
//!
//! # Invariants
//! - `A1` a row pushed any number of times, in any batches, by any number of writers one after another, is in the archive once.
//! - `A2` what a commit covers is on disk before the commit returns.
//! - `A3` memory is bounded by [`Settings::buffer_rows`], however many dates the rows have.
//! - `A4` nothing is deleted that this crate did not write.

mod check;
mod compact;
mod day;
mod file;
mod layout;
mod lookup;
mod manifest;
mod reader;
mod replay;
mod seen;
mod writer;

use std::path::{Path, PathBuf};

pub use check::{BadFile, check_parquet};
pub use day::Day;
pub use layout::{KEY_COLUMNS, LATE, schema};
pub use lookup::{Effort, Lookup};
pub use manifest::{FileEntry, MANIFEST, Manifest, Next, Replaced, Span};
pub use reader::{Archive, Depth};
pub use replay::{Replay, Stretch};
pub use writer::{Counts, Held, Merged, Settings, Writer};

/// Why the archive cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The system refused. It may pass: nothing was taken out of memory, and the call may be repeated.
    #[error("{}: {source}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another process writes.
    #[error("{}: another process ({owner}) writes to this archive; wait until it has ended, or give this one a folder of its own", folder.display())]
    Locked {
        /// The archive.
        folder: PathBuf,
        /// What the lock file says about it.
        owner: String,
    },
    /// There is no archive.
    #[error("{}: this is no archive, it has no {MANIFEST}; give the folder that `manumit run --archive` wrote to", folder.display())]
    NoArchive {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder holds data, but not the list of them.
    #[error("{}: there are `event_date=` folders but no {MANIFEST}, and without it nobody knows which files count; restore it from a copy, or give an empty folder", folder.display())]
    ManifestLost {
        /// The folder.
        folder: PathBuf,
    },
    /// The manifest cannot be used.
    #[error("{}: {why}; restore it from a copy of the archive, or from {MANIFEST}.previous beside it", path.display())]
    BadManifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A file of the archive is damaged.
    #[error(transparent)]
    BadFile(#[from] BadFile),
    /// Rows could not be rearranged.
    #[error("rows could not be rearranged: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// Parquet could not be written.
    #[error("{}: {source}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: parquet::errors::ParquetError,
    },
}

impl ArchiveError {
    pub(crate) fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> ArchiveError {
        let path = path.as_ref().to_path_buf();
        move |source| ArchiveError::Io { path, source }
    }

    pub(crate) fn parquet(
        path: impl AsRef<Path>,
    ) -> impl FnOnce(parquet::errors::ParquetError) -> ArchiveError {
        let path = path.as_ref().to_path_buf();
        move |source| ArchiveError::Parquet { path, source }
    }

    /// Trying again may help.
    pub fn may_pass(&self) -> bool {
        match self {
            ArchiveError::Io { .. } => true,
            // A full disk comes out of the Parquet writer as an external error.
            ArchiveError::Parquet { source, .. } => {
                matches!(source, parquet::errors::ParquetError::External(_))
            }
            _ => false,
        }
    }
}
