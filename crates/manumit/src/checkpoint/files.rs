//! Exactly once from files: how far each file was read, and what is to be read next.
//!
//! ```text
//!  rows ─► archive, on disk ─► outputs, on disk ─► checkpoint N { outputs' lengths, files read, files left }, on disk
//! ```
//! Nobody else tells which checkpoint counts, so the newest whole one does, and outputs are cut back to the lengths that it names.
//!
//! A run makes a plan at its start: which files, each up to the length that it has then. The plan is in the checkpoints, and is finished
//! before another one is begun. So a run that was killed reads what it would have read, in the same order, whatever has come or grown since:
//! what is late does not depend on when it was killed, and rows that the archive has beyond the checkpoint are those that come again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use manumit_archive::{Archive, Stretch};
use manumit_engine::{Engine, Resume};
use manumit_feed::{Feed, Format};
use manumit_io::{FilePlace, IoError, ends_of, list_files};
use serde::{Deserialize, Serialize};

use super::resume::{Start, known_from, replay};
use super::{Checkpoint, Read, Store};
use crate::config::Output;
use crate::duplicates::Duplicates;

/// A file that was read, as far as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRead {
    /// The feed.
    pub feed: String,
    /// As the run names it.
    pub path: String,
    /// Number behind that of the last record read; 1 for documents, which are read as a whole.
    pub next: i64,
    /// Bytes up to there; of documents and Parquet files all they have.
    pub bytes: u64,
    /// SHA-256 of the first and the last 64 KiB of these bytes.
    pub sha256: String,
}

/// A stretch of a file that is to be read: from where the file was read to, up to a byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The feed.
    pub feed: String,
    /// As the run names it.
    pub path: String,
    /// The byte behind it: what is appended later belongs to a later part.
    pub to: u64,
}

/// What a checkpoint tells of files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesRead {
    /// Files that were read, wholly or to somewhere.
    pub read: Vec<FileRead>,
    /// What the run was still to read, in this order.
    pub left: Vec<Part>,
}

/// What one feed is to read.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Index of the feed.
    pub feed: usize,
    /// In this order.
    pub parts: Vec<(PathBuf, u64)>,
    /// Where files were read to before.
    pub from: BTreeMap<PathBuf, FilePlace>,
}

/// What a batch of records of a file has reached.
#[derive(Debug, Clone)]
pub struct Reached {
    /// Number of the part among those of its feed.
    pub part: usize,
    /// The file, up to here.
    pub read: FileRead,
}

/// SHA-256 of what [`ends_of`] gives.
pub fn sum_of(ends: &[u8]) -> String {
    super::sum(ends)
}

/// A file of which lines may be appended; others are read as a whole.
fn grows(feed: &Feed) -> bool {
    matches!(feed.format(), Format::JsonLines | Format::Csv)
}

/// The newest checkpoint that is whole, and the highest number of any.
///
/// # Errors
/// When there are some and none can be used, or it is one of a run over Kafka topics.
pub fn newest(store: &Store) -> anyhow::Result<(Option<Checkpoint>, u64)> {
    let numbers = store.numbers()?;
    let Some(&highest) = numbers.last() else { return Ok((None, 0)) };
    for &number in numbers.iter().rev() {
        match store.read(number) {
            Ok(checkpoint) if checkpoint.files_read.is_none() => bail!(
                "checkpoint {number} is of a run over Kafka topics, and this one reads files: give it another `[checkpoint] folder`"
            ),
            Ok(checkpoint) => {
                if number < highest {
                    tracing::warn!(
                        number,
                        "an older checkpoint is used: outputs are cut back to it, and what came since is read again"
                    );
                }
                return Ok((Some(checkpoint), highest));
            }
            Err(error) => tracing::error!(%error, "a checkpoint cannot be used"),
        }
    }
    bail!(
        "none of the {} checkpoints can be used (see above), so it is not known what was read: restore one, or read everything again \
         with --from-beginning, which also writes the outputs anew",
        numbers.len()
    )
}

/// What is to be read: first what is left of an earlier run's plan, then what is new.
///
/// # Errors
/// When a file that was read has been replaced, is gone before its end, is named by two feeds, or is standard input.
pub fn plan(
    feeds: &[Feed],
    inputs: &[(usize, Vec<String>)],
    before: Option<&FilesRead>,
) -> anyhow::Result<Vec<Planned>> {
    let none = FilesRead::default();
    let before = before.unwrap_or(&none);
    let mut owners: BTreeMap<PathBuf, usize> = BTreeMap::new();
    let mut planned = Vec::new();
    for (feed, paths) in inputs {
        let name = feeds[*feed].name();
        let known: BTreeMap<&Path, &FileRead> =
            before.read.iter().filter(|it| it.feed == name).map(|it| (Path::new(&it.path), it)).collect();
        let listed: Vec<PathBuf> = list_files(paths)?;
        for path in &listed {
            if path.as_os_str() == "-" {
                bail!(
                    "standard input cannot be read again, so a run with checkpoints cannot go on with it: write it to a file, or leave \
                     the checkpoints out"
                );
            }
            if owners.insert(path.clone(), *feed).is_some_and(|other| other != *feed) {
                bail!(
                    "`{}` is read by two feeds; with checkpoints a file has one mapping: give each feed files of its own",
                    path.display()
                );
            }
        }
        let grows = grows(&feeds[*feed]);
        let mut parts: Vec<(PathBuf, u64)> = Vec::new();
        for part in before.left.iter().filter(|part| part.feed == name) {
            let path = PathBuf::from(&part.path);
            match (path.metadata(), known.get(path.as_path())) {
                (Ok(there), _) => parts.push((path, part.to.min(there.len()))),
                (Err(_), Some(read)) => bail!(
                    "`{}` was read up to record {} when the run stopped, and is not there any more: put it back, or read everything again \
                     with --from-beginning, which also writes the outputs anew",
                    part.path,
                    read.next - 1
                ),
                (Err(error), None) => {
                    tracing::warn!(path = part.path, %error, "a file that was to be read is left out");
                }
            }
        }
        let there: BTreeSet<&PathBuf> = listed.iter().chain(parts.iter().map(|(path, _)| path)).collect();
        for path in there {
            if let Some(read) = known.get(path.as_path()) {
                check(path, read, grows)?;
            }
        }
        let mut new: BTreeSet<&PathBuf> = BTreeSet::new();
        for path in listed.iter().filter(|path| new.insert(path)) {
            let length = path.metadata().map_err(|e| unreadable(path, e))?.len();
            let last = parts.iter().rev().find(|(planned, _)| planned == path).map(|(_, to)| *to);
            let to = last.or_else(|| known.get(path.as_path()).map(|it| it.bytes)).unwrap_or(0);
            if length > to && (grows || to == 0) {
                parts.push((path.clone(), length));
            }
        }
        let place = |it: &&FileRead| FilePlace { next: it.next, bytes: it.bytes };
        let from = known.iter().map(|(path, it)| (path.to_path_buf(), place(it))).collect();
        planned.push(Planned { feed: *feed, parts, from });
    }
    Ok(planned)
}

fn unreadable(path: &Path, source: std::io::Error) -> IoError {
    IoError::File { path: path.display().to_string(), source }
}

/// The file begins with what was read of it, and, where it is read as a whole, is that.
fn check(path: &Path, read: &FileRead, grows: bool) -> anyhow::Result<()> {
    let file = File::open(path).map_err(|e| unreadable(path, e))?;
    let length = file.metadata().map_err(|e| unreadable(path, e))?.len();
    let what = if length < read.bytes {
        format!("has {length} bytes, and had {} or more", read.bytes)
    } else if length > read.bytes && !grows {
        format!("has {length} bytes, and had {}", read.bytes)
    } else if sum_of(&ends_of(&file, read.bytes).map_err(|e| unreadable(path, e))?) != read.sha256 {
        "has other content than it had".to_string()
    } else {
        return Ok(());
    };
    let when = match read.next {
        ..=1 => "when it was read".to_string(),
        next => format!("when it was read up to record {}", next - 1),
    };
    let mend = if grows { "Lines may be appended to it" } else { "It is read as a whole" };
    bail!(
        "`{}` {what} {when}: it was replaced or changed, so what was read of it cannot be told from what is new. {mend}; other records \
         belong in a file with another name. Put the old one back, or read everything again with --from-beginning, which also writes \
         the outputs anew",
        path.display()
    )
}

/// Lengths to cut outputs back to, by their names as configured.
///
/// # Errors
/// When a new history would be written behind, or over, what is in a file: only `from_beginning` says that it may go.
pub fn lengths(
    output: &Output,
    checkpoint: Option<&Checkpoint>,
    from_beginning: bool,
) -> anyhow::Result<BTreeMap<String, u64>> {
    if let Some(checkpoint) = checkpoint {
        return Ok(checkpoint.files.clone());
    }
    let mut lengths = BTreeMap::new();
    for name in output.targets() {
        let there = std::fs::metadata(name).is_ok_and(|it| it.len() > 0);
        if there && !from_beginning && name != "-" {
            bail!(
                "`{name}` has content already, but there is no checkpoint that tells where it is from: move it away, or give \
                 --from-beginning to write it anew"
            );
        }
        lengths.insert(name.clone(), 0);
    }
    // The alert log is added to: what it says of earlier runs stays true.
    Ok(lengths)
}

/// How far a run over files is.
pub struct Progress {
    planned: Vec<Planned>,
    /// By number of the plan: parts that were read to their end.
    done: Vec<usize>,
    names: Vec<String>,
    read: BTreeMap<(String, String), FileRead>,
}

impl Progress {
    /// At the start of a plan.
    pub fn new(feeds: &[Feed], planned: Vec<Planned>, before: Option<&FilesRead>) -> Progress {
        let read = before.map_or_else(Vec::new, |before| before.read.clone());
        Progress {
            done: vec![0; planned.len()],
            names: planned.iter().map(|it| feeds[it.feed].name().to_string()).collect(),
            planned,
            read: read.into_iter().map(|it| ((it.feed.clone(), it.path.clone()), it)).collect(),
        }
    }

    /// What is to be read.
    pub fn planned(&self) -> Vec<Planned> {
        self.planned.clone()
    }

    /// Records of a file were taken.
    pub fn reached(&mut self, reached: Reached) {
        let Reached { part, read } = reached;
        if let Some(index) = self.names.iter().position(|name| *name == read.feed) {
            self.done[index] = part;
        }
        self.read.insert((read.feed.clone(), read.path.clone()), read);
    }

    /// All parts of a feed were read.
    pub fn ended(&mut self, feed: &str) {
        if let Some(index) = self.names.iter().position(|name| name == feed) {
            self.done[index] = self.planned[index].parts.len();
        }
    }

    /// As a checkpoint keeps it.
    pub fn saved(&self) -> FilesRead {
        let left =
            self.planned.iter().zip(&self.done).zip(&self.names).flat_map(|((planned, done), name)| {
                planned.parts.iter().skip(*done).map(|(path, to)| Part {
                    feed: name.clone(),
                    path: path.display().to_string(),
                    to: *to,
                })
            });
        FilesRead { left: left.collect(), read: self.read.values().cloned().collect() }
    }
}

/// Makes the engine what it was, with one partition for each feed.
///
/// # Errors
/// When the archive does not hold the rows, or is damaged.
pub fn take_up(
    engine: &mut Engine,
    feeds: &[Feed],
    inputs: &[Planned],
    checkpoint: Option<Checkpoint>,
    number: u64,
    archive: &Path,
) -> anyhow::Result<Start> {
    let mut read: Vec<Read> = checkpoint.as_ref().map_or_else(Vec::new, |it| it.read.clone());
    for planned in inputs {
        let name = feeds[planned.feed].name();
        if !read.iter().any(|it| it.feed == name) {
            read.push(Read { feed: name.into(), source: name.into(), partition: 0, begin: 0, next: 0 });
        }
    }
    for it in &read {
        let feed = inputs.iter().map(|planned| &feeds[planned.feed]).find(|feed| feed.name() == it.feed);
        let feed = feed.with_context(|| {
            format!("the checkpoint was made with the feed `{}`, of which this run reads no files", it.feed)
        })?;
        engine.add_partition(feed.name(), feed.lateness_micros());
    }
    let Some(checkpoint) =
        checkpoint.filter(|it| it.files_read.as_ref().is_some_and(|it| !it.read.is_empty()))
    else {
        tracing::info!("nothing was read before: a new history begins");
        return Ok(Start { read, number, highest: Vec::new(), ledger: None });
    };
    let stretches = stretches(feeds, checkpoint.files_read.iter().flat_map(|it| &it.read));
    let history = Archive::open(archive).context("the archive that the state is made of")?;
    let highest: Vec<Option<i64>> = checkpoint.engine.partitions.iter().map(|it| it.highest).collect();
    let fits = engine.fits(&checkpoint.engine);
    if !fits {
        tracing::warn!("the rules have changed: the state is made anew from the archive's rows");
        if highest.iter().any(Option::is_some) && history.highest(&stretches)?.is_empty() {
            bail!(
                "records were read before, but the archive `{}` has none of them, so windows cannot be made again; restore it, or read \
                 everything again with --from-beginning, which also writes the outputs anew",
                archive.display()
            );
        }
    }
    let ledger = checkpoint.ledger.filter(|_| fits);
    let resume = if fits {
        Resume::Exactly(Box::new(checkpoint.engine))
    } else {
        let (watermark, partitions) = (checkpoint.engine.watermark, checkpoint.engine.partitions);
        Resume::FromRows { watermark, partitions }
    };
    let mine = |read: &Read, feed: &str, _: &str, _: i32| read.feed == feed;
    let replayed = replay(engine, &history, &resume, None, &read, stretches, &mine).with_context(|| {
        format!(
            "the archive `{}` does not hold exactly the rows that were read: it was changed, or had rows under the names of these files \
             before. Restore it, or give another `[archive] folder` and read everything again with --from-beginning",
            archive.display()
        )
    })?;
    tracing::info!(exactly = fits, rows = replayed.0, waiting = replayed.1, "taken up again");
    Ok(Start { read, number, highest, ledger })
}

fn stretches<'a>(
    feeds: &[Feed],
    read: impl Iterator<Item = &'a FileRead>,
) -> BTreeMap<(String, i32), Stretch> {
    read.map(|it| {
        let feed = feeds.iter().find(|feed| feed.name() == it.feed);
        // The records of a document are numbered within it, and it is read as a whole.
        let whole = feed.is_some_and(|feed| feed.format() == Format::Json);
        let next = if whole { i64::MAX } else { it.next };
        ((it.path.clone(), 0), Stretch { begin: 0, next })
    })
    .collect()
}

/// Fills the set that tells duplicates, as [`super::resume::known_before`] does: all files of a feed are one partition there.
///
/// # Errors
/// When the archive is damaged.
pub fn known_before(
    duplicates: &mut Duplicates,
    feeds: &[Feed],
    start: &Start,
    before: &FilesRead,
    archive: &Path,
) -> anyhow::Result<()> {
    let files = |read: &Read| stretches(feeds, before.read.iter().filter(|it| it.feed == read.feed));
    known_from(duplicates, feeds, start, archive, &files, true)
}

#[cfg(test)]
mod tests {
    use manumit_sql::Sql;

    use super::*;

    const FEED: &str = r#"---
format = "FORMAT"
[raw]
id = "text"
at = "timestamp"
amount = "decimal"
from = "text"
to = "text"
---
SELECT id AS tx_id, at AS event_time, amount, 'EUR' AS currency, 'transfer' AS method,
  raw['from'] AS debtor_account, raw['to'] AS creditor_account
FROM raw"#;

    fn feed(name: &str, format: &str) -> Feed {
        let text = FEED.replace("FORMAT", format);
        Feed::load(name, Path::new("feed.sql"), text.into(), &Sql::new(), None).unwrap()
    }

    fn reached(part: usize, path: &Path, next: i64, bytes: u64) -> Reached {
        let ends = ends_of(&File::open(path).unwrap(), bytes).unwrap();
        let (path, sha256) = (path.display().to_string(), sum_of(&ends));
        Reached { part, read: FileRead { feed: "bank".into(), path, next, bytes, sha256 } }
    }

    #[test]
    fn a_plan_is_finished_before_what_came_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let feeds = [feed("bank", "jsonl")];
        let inputs = [(0, vec![path("*.jsonl").display().to_string()])];
        let parts = |planned: &[Planned]| -> Vec<(String, u64)> {
            let name = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
            planned[0].parts.iter().map(|(path, to)| (name(path), *to)).collect()
        };
        let of = |name: &str, to| (name.to_string(), to);
        std::fs::write(path("a.jsonl"), "1\n2\n").unwrap();
        std::fs::write(path("c.jsonl"), "1\n2\n").unwrap();
        let planned = plan(&feeds, &inputs, None).unwrap();
        assert_eq!(parts(&planned), [of("a", 4), of("c", 4)]);
        let mut progress = Progress::new(&feeds, planned, None);
        progress.reached(reached(0, &path("a.jsonl"), 2, 2));
        // It was killed here; b comes, and a and c grow.
        std::fs::write(path("a.jsonl"), "1\n2\n3\n").unwrap();
        std::fs::write(path("b.jsonl"), "1\n").unwrap();
        std::fs::write(path("c.jsonl"), "1\n2\n3\n").unwrap();
        let saved = progress.saved();
        let planned = plan(&feeds, &inputs, Some(&saved)).unwrap();
        assert_eq!(parts(&planned), [of("a", 4), of("c", 4), of("a", 6), of("b", 2), of("c", 6)]);
        let mut progress = Progress::new(&feeds, planned, Some(&saved));
        progress.reached(reached(1, &path("c.jsonl"), 2, 2));
        assert_eq!(progress.saved().left.len(), 4);
        progress.ended("bank");
        let saved = progress.saved();
        assert!(saved.left.is_empty() && saved.read.len() == 2, "{saved:?}");
        // Gone before its end, and gone without having been begun.
        progress.done[0] = 2;
        std::fs::remove_file(path("b.jsonl")).unwrap();
        let planned = plan(&feeds, &inputs, Some(&progress.saved())).unwrap();
        assert_eq!(parts(&planned), [of("a", 6), of("c", 6)]);
        std::fs::remove_file(path("a.jsonl")).unwrap();
        let error = plan(&feeds, &inputs, Some(&progress.saved())).unwrap_err().to_string();
        assert!(
            error.contains("a.jsonl` was read up to record 1 when the run stopped, and is not there"),
            "{error}"
        );
    }

    #[test]
    fn a_file_of_two_feeds_and_standard_input_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl").display().to_string();
        std::fs::write(&path, "1\n").unwrap();
        let feeds = [feed("bank", "jsonl"), feed("other", "jsonl")];
        let twice = [(0, vec![path.clone(), path.clone()]), (1, vec![path])];
        assert_eq!(plan(&feeds, &twice[..1], None).unwrap()[0].parts.len(), 1);
        let error = plan(&feeds, &twice, None).unwrap_err().to_string();
        assert!(error.contains("is read by two feeds"), "{error}");
        let error = plan(&feeds, &[(0, vec!["-".into()])], None).unwrap_err().to_string();
        assert!(error.contains("standard input cannot be read again"), "{error}");
    }
}
