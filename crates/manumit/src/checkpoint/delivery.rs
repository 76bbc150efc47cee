//! Exactly once: outputs, offsets and checkpoint of a stretch of the stream are there together, or not at all.
//!
//! ```text
//!  rows ─► archive, on disk ─► checkpoint N, on disk (─► copies in an object store) ─► one transaction { outputs, offsets, «N» }
//! ```
//! A crash before the transaction is committed leaves «N − 1» with the offsets: the run goes on from there, with the same
//! rows and therefore the same outputs. What the archive has beyond is known to it when it comes again. For runs over files see
//! [`super::files`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use manumit_engine::Engine;
use manumit_io::{Group, Reached, Transactions};

use super::copies::Copies;
use super::files::{self, Progress};
use super::resume::{Note, Start};
use super::{Checkpoint, Read, Store};
use crate::config::Config;
use crate::ledger::Ledger;
use crate::lists::Lists;

/// Makes outputs and offsets count: all that was sent since the last time, or nothing of it.
pub trait Transact {
    /// Says what is to be committed: copies are made after that, as they must not be written by an instance that another one has
    /// taken over from.
    ///
    /// # Errors
    /// When another one has.
    fn announce(&mut self, offsets: &[Reached], note: &str) -> anyhow::Result<()> {
        let _ = (offsets, note);
        Ok(())
    }

    /// Commits what was sent, and these offsets with `note`.
    ///
    /// # Errors
    /// When it is not known to be committed: the run must end, and the next one learns which it was.
    fn commit(&mut self, offsets: &[Reached], note: &str) -> anyhow::Result<()>;
}

/// Kafka's transactions.
pub struct Kafka {
    /// The producer of all sinks.
    pub transactions: Transactions,
    /// For whom offsets are committed.
    pub group: Group,
}

impl Transact for Kafka {
    fn announce(&mut self, offsets: &[Reached], note: &str) -> anyhow::Result<()> {
        Ok(self.transactions.announce(&self.group, offsets, note)?)
    }

    fn commit(&mut self, offsets: &[Reached], note: &str) -> anyhow::Result<()> {
        Ok(self.transactions.commit(&self.group, offsets, note)?)
    }
}

/// Where records come from, and with that what is committed after a checkpoint.
pub enum From<T = Kafka> {
    /// Topics: outputs and offsets together, which decides which checkpoint counts.
    Topics {
        /// Commits them.
        transactions: T,
        /// Name of the consumer group.
        group: String,
    },
    /// Files: nothing, the checkpoint is the commit.
    Files(Progress),
}

/// How a run delivers exactly once.
pub struct Delivery<T = Kafka> {
    /// Where records come from.
    pub from: From<T>,
    /// A new history: what there is of another one goes when it has a checkpoint.
    pub anew: bool,
    /// Where checkpoints are.
    pub store: Store,
    /// Where they, and the archive, are copied to.
    pub copies: Option<Copies>,
    /// How often.
    pub every: Duration,
    /// By the engine's numbers of partitions.
    pub read: Vec<Read>,
    /// Number of the last checkpoint.
    pub number: u64,
    /// When that was.
    pub last: Instant,
    /// The lists in use.
    pub lists: Option<Arc<Lists>>,
}

impl<T: Transact> Delivery<T> {
    /// Ready to begin at `start`.
    pub fn new(
        from: From<T>,
        store: Store,
        copies: Option<Copies>,
        every: Duration,
        start: &Start,
    ) -> Delivery<T> {
        Delivery {
            from,
            anew: false,
            store,
            copies,
            every,
            read: start.read.clone(),
            number: start.number,
            last: Instant::now(),
            lists: None,
        }
    }

    /// It is time for the next commit.
    pub fn is_due(&self) -> bool {
        self.last.elapsed() >= self.every
    }

    /// Notes how far a partition was read.
    pub fn reached(&mut self, source: &str, partition: i32, next: i64) {
        let read = self.read.iter_mut().find(|r| r.source == source && r.partition == partition);
        if let Some(read) = read {
            read.next = read.next.max(next);
        }
    }

    /// Notes how far a file was read, with so many records of its feed.
    pub fn reached_in_file(&mut self, reached: files::Reached, records: u64) {
        if let Some(read) = self.read.iter_mut().find(|read| read.feed == reached.read.feed) {
            read.next = read.next.saturating_add_unsigned(records);
        }
        if let From::Files(progress) = &mut self.from {
            progress.reached(reached);
        }
    }

    /// All files of a feed were read to their end, as far as this run reads them.
    pub fn ended(&mut self, feed: &str) {
        if let From::Files(progress) = &mut self.from {
            progress.ended(feed);
        }
    }

    /// Commits everything up to here. All rows below the watermark must have been evaluated, and what came of it sent.
    /// `archive` brings the rows read so far to disk, then `outputs` the files, whose lengths it gives; `trouble` is told what
    /// the commit waits for, and `None` when that is over.
    ///
    /// # Errors
    /// When it cannot be committed: the run must end, and the next one goes on from the commit before.
    pub fn commit(
        &mut self,
        engine: &Engine,
        ledger: &Ledger,
        archive: impl FnOnce() -> anyhow::Result<()>,
        outputs: impl FnOnce() -> anyhow::Result<BTreeMap<String, u64>>,
        trouble: &dyn Fn(Option<String>),
    ) -> anyhow::Result<()> {
        archive()?;
        let files = outputs()?;
        let engine = engine.snapshot()?;
        let note = Note { checkpoint: self.number + 1, watermark: engine.watermark };
        let checkpoint = Checkpoint {
            number: note.checkpoint,
            program: env!("CARGO_PKG_VERSION").into(),
            written_at: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            group: match &self.from {
                From::Topics { group, .. } => group.clone(),
                From::Files(_) => String::new(),
            },
            read: self.read.clone(),
            files,
            engine,
            ledger: Some(ledger.clone()),
            lists: self.lists.clone(),
            files_read: match &self.from {
                From::Topics { .. } => None,
                From::Files(progress) => Some(progress.saved()),
            },
        };
        self.store.write(&checkpoint, trouble)?;
        let offsets: Vec<Reached> = self
            .read
            .iter()
            .map(|read| Reached { topic: read.source.clone(), partition: read.partition, next: read.next })
            .collect();
        if let Some(copies) = &mut self.copies {
            if let From::Topics { transactions, .. } = &mut self.from {
                transactions.announce(&offsets, &note.text())?;
            }
            copies.send(note.checkpoint, &self.store, trouble)?;
        }
        if let From::Topics { transactions, .. } = &mut self.from {
            transactions.commit(&offsets, &note.text())?;
        }
        if std::mem::take(&mut self.anew) {
            self.store.forget_before(note.checkpoint)?;
        }
        self.number = note.checkpoint;
        self.last = Instant::now();
        self.store.tidy()
    }
}

/// The id by which brokers fence an instance that was thought dead.
pub fn transactional_id(group: &str) -> String {
    format!("manumit-{}", if group.is_empty() { "manumit" } else { group })
}

/// Refuses an archive that would forget rows which windows are made of again.
///
/// # Errors
/// Says how long it must keep them.
pub fn check_retention(config: &Config, engine: &Engine) -> anyhow::Result<()> {
    let Some(days) = config.archive.retention.as_deref().and_then(crate::config::days) else { return Ok(()) };
    let needed = engine.lookback_micros();
    if needed == i64::MAX {
        bail!(
            "`[checkpoint]` needs the whole archive: a window of rows may count rows of any age; leave `[archive] retention` out"
        );
    }
    // A whole date goes at once.
    let least = needed / 86_400_000_000 + 2;
    if i64::from(days) < least {
        bail!(
            "`[archive] retention` is `{days} days`, but windows are made again from rows of {least} days: write retention = \"{least} days\" or more"
        );
    }
    Ok(())
}

/// What a run with checkpoints cannot do.
///
/// # Errors
/// Says what, and the mend.
pub fn check(config: &Config, from_kafka: bool) -> anyhow::Result<()> {
    if config.checkpoint.folder.is_none() {
        if let Some(copy) = &config.checkpoint.copy {
            bail!(
                "`[checkpoint] copy` is `{copy}`, but there are no checkpoints to copy: set `[checkpoint] folder` as well"
            );
        }
        return Ok(());
    }
    if config.checkpoint.every().is_none() {
        bail!("`[checkpoint] every` is `{}`; write for example `5 seconds`", config.checkpoint.every);
    }
    if config.archive.folder.is_none() {
        bail!("`[checkpoint]` needs `[archive] folder`: windows are made again from the rows there");
    }
    if from_kafka {
        return Ok(());
    }
    let output = &config.output;
    if let Some(topic) = output.targets().find(|target| target.starts_with("kafka:")) {
        bail!(
            "a run over files with checkpoints writes its outputs to files, which are cut back when it was killed; `{topic}` is a topic: \
             name a file, send the records through a topic as well, or leave the checkpoints out"
        );
    }
    if config.checkpoint.copy.is_some() {
        bail!(
            "`[checkpoint] copy` is for runs that read Kafka topics: the outputs of a run over files are files, which are not copied, and \
             without them it cannot go on; leave it out"
        );
    }
    Ok(())
}
