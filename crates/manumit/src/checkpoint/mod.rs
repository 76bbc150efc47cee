//! Checkpoints: what a run must know, beside the archive, to go on as if it had never stopped.
//!
//! A checkpoint is one file of two lines: a head with the checksum of the body, and the body. It is written under another
//! name, brought to disk, and renamed, so that a file of that name is whole; one that is not is told by its checksum.
//! Which one counts is not told by the folder but by Kafka: the offsets of a transaction carry the number of the checkpoint
//! that was written before it. A run over files has nobody to tell, and the newest whole one counts.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use manumit_engine::Snapshot;
use manumit_io::Standing;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::whole;

use crate::ledger::Ledger;
use crate::lists::Lists;

pub mod command;
pub mod copies;
pub mod delivery;
pub mod files;
pub mod resume;
pub mod start;

/// Version of the file; raised when an older program could misread it.
pub const FORMAT: &str = "manumit.checkpoint/1";

/// How far one source partition was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// The feed.
    pub feed: String,
    /// Topic; for files the feed's name.
    pub source: String,
    /// Partition; 0 for files.
    pub partition: i32,
    /// The first offset that belongs to this history; 0 for files.
    pub begin: i64,
    /// The offset behind the last record read; for files the number of records read.
    pub next: i64,
}

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Its number; each is one more than the one before.
    pub number: u64,
    /// The program that wrote it.
    pub program: String,
    /// When, RFC 3339 UTC.
    pub written_at: String,
    /// Consumer group; empty for files.
    pub group: String,
    /// By the engine's numbers of partitions.
    pub read: Vec<Read>,
    /// Lengths of output files, by path.
    pub files: BTreeMap<String, u64>,
    /// The engine, without its rows: those are in the archive.
    pub engine: Snapshot,
    /// What became of all records up to here. Programs before it leave it out, and do not mind it: a run that finds none
    /// begins one with what waits.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ledger: Option<Ledger>,
    /// The lists in use, whole: a run that is taken up knows what its windows were made with, whatever is on disk by then. Programs
    /// before it leave it out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lists: Option<Arc<Lists>>,
    /// How far files were read, where the run reads files.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub files_read: Option<files::FilesRead>,
}

impl Read {
    /// It is the partition that Kafka tells this of.
    fn is_of(&self, standing: &Standing) -> bool {
        (self.source.as_str(), self.partition)
            == (standing.reached.topic.as_str(), standing.reached.partition)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    format: String,
    number: u64,
    bytes: u64,
    sha256: String,
}

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("checkpoint {}: {why}", path.display())]
pub struct Unusable {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub why: String,
}

/// The folder of checkpoints.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
    keep: usize,
}

impl Store {
    /// The folder, made when it is not there. The newest `keep` are kept, two at least: that of the last transaction, and the
    /// one before, should the transaction not have been committed.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(folder: &Path, keep: usize) -> anyhow::Result<Store> {
        std::fs::create_dir_all(folder).with_context(|| format!("`{}`", folder.display()))?;
        Ok(Store { folder: folder.to_path_buf(), keep: keep.max(2) })
    }

    /// Where a checkpoint is.
    pub fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("checkpoint-{number:010}.json"))
    }

    /// Numbers that there are files of, ascending.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn numbers(&self) -> anyhow::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        let entries =
            std::fs::read_dir(&self.folder).with_context(|| format!("`{}`", self.folder.display()))?;
        for entry in entries {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| {
                name.strip_prefix("checkpoint-")?.strip_suffix(".json")?.parse::<u64>().ok()
            });
            numbers.extend(number);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Writes a checkpoint, whole and on disk when this returns. Waits while the disk is full: `trouble` is told why, and
    /// `None` when that is over.
    ///
    /// # Errors
    /// When trying again does not help; the ones before are as they were.
    pub fn write(&self, checkpoint: &Checkpoint, trouble: &dyn Fn(Option<String>)) -> anyhow::Result<()> {
        let body = serde_json::to_vec(checkpoint)?;
        let head = Head {
            format: FORMAT.into(),
            number: checkpoint.number,
            bytes: body.len() as u64,
            sha256: sum(&body),
        };
        let path = self.path(checkpoint.number);
        let head = serde_json::to_vec(&head)?;
        let write = || -> std::io::Result<()> {
            whole::write(&path, |file| {
                file.write_all(&head)?;
                file.write_all(b"\n")?;
                file.write_all(&body)?;
                file.write_all(b"\n")
            })?;
            std::fs::File::open(&self.folder)?.sync_all()
        };
        insist(&format!("checkpoint `{}`", path.display()), trouble, write)
    }

    /// Deletes what is older than the newest ones.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn tidy(&self) -> anyhow::Result<()> {
        let numbers = self.numbers()?;
        for number in numbers.iter().rev().skip(self.keep) {
            let path = self.path(*number);
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(%error, path = %path.display(), "an old checkpoint was not deleted");
            }
        }
        Ok(())
    }

    /// Deletes all before `number`: they are of another history.
    ///
    /// # Errors
    /// When the folder cannot be read, or one is left over.
    pub fn forget_before(&self, number: u64) -> anyhow::Result<()> {
        for number in self.numbers()?.into_iter().filter(|&other| other < number) {
            let path = self.path(number);
            std::fs::remove_file(&path).with_context(|| format!("`{}`", path.display()))?;
        }
        Ok(())
    }

    /// Reads and checks one.
    ///
    /// # Errors
    /// [`Unusable`] says why not.
    pub fn read(&self, number: u64) -> Result<Checkpoint, Unusable> {
        let path = self.path(number);
        let bytes = std::fs::read(&path).map_err(|e| Unusable { path: path.clone(), why: e.to_string() })?;
        parse(&path, &bytes, number)
    }
}

/// Checks the bytes of a checkpoint; `path` says where they are.
///
/// # Errors
/// [`Unusable`] says why they cannot be used.
pub fn parse(path: &Path, bytes: &[u8], number: u64) -> Result<Checkpoint, Unusable> {
    let unusable = |why: String| Unusable { path: path.to_path_buf(), why };
    let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
        return Err(unusable("it is cut off in its first line".into()));
    };
    let head: Head =
        serde_json::from_slice(&bytes[..end]).map_err(|e| unusable(format!("its head is damaged: {e}")))?;
    if head.format != FORMAT {
        return Err(unusable(format!("its format is `{}`, this program knows `{FORMAT}`", head.format)));
    }
    let body = bytes[end + 1..].strip_suffix(b"\n").unwrap_or(&bytes[end + 1..]);
    if body.len() as u64 != head.bytes {
        return Err(unusable(format!("it has {} bytes where {} were written", body.len(), head.bytes)));
    }
    if sum(body) != head.sha256 {
        return Err(unusable("it is damaged: its checksum is another one".into()));
    }
    let checkpoint: Checkpoint =
        serde_json::from_slice(body).map_err(|e| unusable(format!("it cannot be read: {e}")))?;
    if checkpoint.number != number {
        return Err(unusable(format!("it is number {}", checkpoint.number)));
    }
    Ok(checkpoint)
}

/// Why something could not be done.
struct Refusal {
    why: anyhow::Error,
    /// Trying again may help.
    may_pass: bool,
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Refusal {
        use std::io::ErrorKind::{Interrupted, QuotaExceeded, StorageFull, TimedOut};
        let may_pass = matches!(error.kind(), StorageFull | QuotaExceeded | TimedOut | Interrupted);
        Refusal { may_pass, why: error.into() }
    }
}

/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Tries again while that may help: the stream waits, nothing is lost, and memory stays bounded. `trouble` is told why, and `None`
/// when it is over.
fn insist<R: Into<Refusal>>(
    what: &str,
    trouble: &dyn Fn(Option<String>),
    mut deed: impl FnMut() -> Result<(), R>,
) -> anyhow::Result<()> {
    let mut wait = Duration::from_millis(250);
    let mut failed = false;
    loop {
        match deed().map_err(Into::into) {
            Ok(()) => {
                if failed {
                    trouble(None);
                    tracing::info!("{what}: done after all");
                }
                return Ok(());
            }
            Err(Refusal { why, may_pass: true }) => {
                failed = true;
                tracing::warn!("{what}: {why:#}; trying again, and nothing is committed until then");
                trouble(Some(format!("{what}: {why:#}")));
                std::thread::sleep(wait);
                wait = (wait * 2).min(LONGEST_WAIT);
            }
            Err(Refusal { why, may_pass: false }) => return Err(why.context(what.to_string())),
        }
    }
}

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again_and_told_and_what_will_not_is_not() {
        let fault = |may_pass| Refusal { why: anyhow::anyhow!("away"), may_pass };
        let told = std::cell::RefCell::new(Vec::new());
        let mut tries = 0;
        let tell = |trouble: Option<String>| told.borrow_mut().push(trouble);
        let sent = insist("the store", &tell, || {
            tries += 1;
            if tries < 3 { Err(fault(true)) } else { Ok(()) }
        });
        assert!(sent.is_ok() && tries == 3);
        let away = Some("the store: away".to_string());
        assert_eq!(*told.borrow(), [away.clone(), away, None]);
        assert!(insist("the store", &tell, || Err(fault(false))).is_err());
    }
}
