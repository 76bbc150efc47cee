//! The archive beside the stream: a thread of its own writes, so that files and checksums hold nothing up.
//!
//! ```text
//!  main loop ─► bounded queue ─► writer thread ─► Parquet, manifest
//!      ▲                              │
//!      └── committed positions ◄──────┘   Kafka offsets are never committed beyond them
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use arrow::array::RecordBatch;
use manumit_archive::{ArchiveError, Counts, Held, Settings, Writer};

use self::lookback::LookBack;

pub mod command;
pub mod lookback;

/// Batches that may wait for the writer; then the stream waits for it.
pub const QUEUE: usize = 16;

/// Tries before a run that is ending gives up.
const LAST_TRIES: u32 = 5;

/// How a run archives.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The archive's folder.
    pub folder: PathBuf,
    /// Of the writer.
    pub settings: Settings,
    /// How often the archive is committed, and Kafka offsets behind it.
    pub commit_every: Duration,
    /// How far back from a tick memory holds the rows of keyed queries; the archive gives what is older.
    pub lookback_in_memory: Duration,
}

/// What the writer is given.
enum Task {
    Rows(Batch),
    /// Commit all that came before, and say so.
    Commit(Sender<()>),
}

struct Batch {
    rows: RecordBatch,
    /// Places of late rows.
    late: Vec<usize>,
    /// Topic and partition, and the offset behind the batch; `None` for files.
    reached: Option<(String, i32, i64)>,
    /// All rows evaluated before this event time are in this batch or were in one before it.
    complete_before: i64,
}

/// What the writer thread tells.
struct Told {
    committed: BTreeMap<(String, i32), i64>,
    /// All rows evaluated before this event time are in the archive for good.
    complete_before: i64,
    counts: Counts,
    /// What it is trying again after.
    trouble: Option<String>,
    failed: Option<String>,
}

/// A running writer.
pub struct Archiver {
    folder: PathBuf,
    lookback_in_memory: Duration,
    tasks: SyncSender<Task>,
    told: Arc<Mutex<Told>>,
    thread: JoinHandle<()>,
}

impl Default for Told {
    fn default() -> Self {
        Told {
            committed: BTreeMap::new(),
            complete_before: i64::MIN,
            counts: Counts::default(),
            trouble: None,
            failed: None,
        }
    }
}

fn lock(told: &Mutex<Told>) -> std::sync::MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Archiver {
    /// Starts the writer of an archive. What it has behind the offsets of `committed` is taken out, as it is read again.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn start(
        plan: Plan,
        held: Held,
        committed: &BTreeMap<(String, i32), i64>,
    ) -> anyhow::Result<Archiver> {
        let mut writer = Writer::begin(held, plan.settings.clone()).context("the archive")?;
        let rows = writer.take_back(committed).context("the archive")?;
        if rows > 0 {
            tracing::warn!(rows, "archived, but not committed by the run before: taken out and read again");
        }
        let (tasks, queue) = sync_channel(QUEUE);
        let (folder, lookback_in_memory) = (plan.folder.clone(), plan.lookback_in_memory);
        let told = Arc::new(Mutex::new(Told::default()));
        let shared = told.clone();
        let thread = std::thread::Builder::new().name("archive".into()).spawn(move || {
            if let Err(error) = write(writer, &plan, &queue, &shared) {
                lock(&shared).failed = Some(error.to_string());
            }
        })?;
        Ok(Archiver { folder, lookback_in_memory, tasks, told, thread })
    }

    /// The archive as keyed queries see it, and how far back memory holds rows all the same, microseconds.
    pub fn look_back(&self) -> (LookBack, i64) {
        let micros = i64::try_from(self.lookback_in_memory.as_micros()).unwrap_or(i64::MAX);
        (LookBack::new(self.folder.clone(), self.told.clone()), micros)
    }

    /// Hands over accepted transactions; waits while the writer is far behind. `watermark` is the engine's, to which these
    /// rows were given: no row that is still to come is evaluated before it.
    ///
    /// # Errors
    /// When the writer has given up.
    pub fn take(
        &self,
        rows: RecordBatch,
        late: Vec<usize>,
        reached: Option<(String, i32, i64)>,
        watermark: i64,
    ) -> anyhow::Result<()> {
        let batch = Batch { rows, late, reached, complete_before: watermark };
        self.tasks.send(Task::Rows(batch)).map_err(|_| self.failure())
    }

    /// Waits until everything handed over is in the archive for good.
    ///
    /// # Errors
    /// When the writer has given up.
    pub fn commit(&self) -> anyhow::Result<()> {
        let (done, wait) = channel();
        self.tasks.send(Task::Commit(done)).map_err(|_| self.failure())?;
        wait.recv().map_err(|_| self.failure())
    }

    /// The archive's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The offset up to which a partition is in the archive for good; `None` when none was committed in this run.
    pub fn committed(&self, topic: &str, partition: i32) -> Option<i64> {
        lock(&self.told).committed.get(&(topic.to_string(), partition)).copied()
    }

    /// What keeps the writer from going on for now, in words.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.told).trouble.clone()
    }

    /// Commits all that was handed over and ends the writer.
    ///
    /// # Errors
    /// When that is not possible; what was not committed is read again by the next run.
    pub fn finish(self) -> anyhow::Result<Finished> {
        let Archiver { tasks, told, thread, .. } = self;
        drop(tasks);
        let joined = thread.join();
        let told = std::mem::take(&mut *lock(&told));
        match (told.failed, joined) {
            (Some(failed), _) => Err(anyhow!("the archive: {failed}")),
            (None, Err(_)) => Err(anyhow!("the archive's thread ended early: a bug, please report it")),
            (None, Ok(())) => Ok(Finished { committed: told.committed, counts: told.counts }),
        }
    }

    fn failure(&self) -> anyhow::Error {
        let failed = lock(&self.told).failed.clone();
        anyhow!("the archive: {}", failed.unwrap_or_else(|| "its writer ended early".into()))
    }
}

/// What stands when the writer has ended.
#[derive(Debug, Default)]
pub struct Finished {
    /// Offsets by topic and partition.
    pub committed: BTreeMap<(String, i32), i64>,
    /// What was archived.
    pub counts: Counts,
}

fn write(
    mut writer: Writer,
    plan: &Plan,
    queue: &Receiver<Task>,
    told: &Mutex<Told>,
) -> Result<(), ArchiveError> {
    let mut reached: BTreeMap<(String, i32), i64> = BTreeMap::new();
    let mut complete = i64::MIN;
    let mut committed = Instant::now();
    // What keeps files from being merged is told once; they stay as they are.
    let mut merging = true;
    loop {
        match queue.recv_timeout(plan.commit_every.saturating_sub(committed.elapsed())) {
            Ok(Task::Commit(done)) => {
                insist(told, None, || writer.commit())?;
                tell(told, &reached, complete, &writer);
                // Nobody listens any more when the run has ended.
                let _ = done.send(());
                continue;
            }
            Ok(Task::Rows(Batch { rows, late, reached: to, complete_before })) => {
                insist(told, None, || writer.push(&rows, &late))?;
                complete = complete.max(complete_before);
                if let Some((topic, partition, next)) = to {
                    writer.reached(&topic, partition, next);
                    reached.insert((topic, partition), next);
                }
                if committed.elapsed() < plan.commit_every {
                    continue;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                insist(told, Some(LAST_TRIES), || writer.commit())?;
                tell(told, &reached, complete, &writer);
                return Ok(());
            }
        }
        insist(told, None, || writer.commit())?;
        tell(told, &reached, complete, &writer);
        // No longer than a quarter of the time, so that the stream waits little.
        let until = Instant::now() + plan.commit_every / 4;
        while merging && Instant::now() < until {
            match writer.tend() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(%error, "small files of the archive were not merged; run `manumit archive verify`");
                    merging = false;
                }
            }
        }
        committed = Instant::now();
    }
}

fn tell(told: &Mutex<Told>, reached: &BTreeMap<(String, i32), i64>, complete: i64, writer: &Writer) {
    let mut told = lock(told);
    told.committed.clone_from(reached);
    told.complete_before = complete;
    told.counts = writer.counts();
}

/// Tries again while that may help: the stream waits, and nothing is lost.
fn insist(
    told: &Mutex<Told>,
    tries: Option<u32>,
    mut deed: impl FnMut() -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let mut failed = 0;
    loop {
        let result = deed();
        if result.is_ok() && failed == 0 {
            return Ok(());
        }
        lock(told).trouble = result.as_ref().err().map(|error| format!("the archive: {error}"));
        match result {
            Err(error) if error.may_pass() && tries.is_none_or(|tries| failed + 1 < tries) => {
                failed += 1;
                let wait = Duration::from_secs(1 << failed.min(5));
                tracing::warn!(%error, seconds = wait.as_secs(), "the archive could not be written; trying again");
                std::thread::sleep(wait);
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again_and_what_will_not_is_not() {
        let told = Mutex::new(Told::default());
        let full = || ArchiveError::Io {
            path: "archive".into(),
            source: std::io::Error::from(std::io::ErrorKind::StorageFull),
        };
        let mut tries = 0;
        let mut seen = None;
        let mended = insist(&told, None, || {
            tries += 1;
            if tries == 1 {
                return Err(full());
            }
            seen = lock(&told).trouble.clone();
            Ok(())
        });
        assert!(mended.is_ok() && tries == 2);
        assert!(seen.is_some_and(|words| words.contains("archive")));
        assert_eq!(lock(&told).trouble, None);
        let lost = || ArchiveError::ManifestLost { folder: "archive".into() };
        assert!(matches!(insist(&told, None, || Err(lost())), Err(ArchiveError::ManifestLost { .. })));
        assert!(insist(&told, Some(1), || Err(full())).is_err());
    }
}
