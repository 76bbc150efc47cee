//! From sources to mapped rows: one reader thread, several mappers, results in the order they were read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use manumit_feed::{Enricher, Feed, FeedError, Fingerprints, Format, Mapped};
use manumit_io::{Event, IoError, KafkaSettings, KafkaSource, list_files};
use manumit_model::Records;

use crate::checkpoint::files::{Planned, Reached};

mod files;

pub(crate) use files::framing;

/// What leaves the pipeline, in order.
pub enum Item {
    /// Mapped records of a partition, with the offset behind the last of them.
    Rows {
        /// Index of the feed.
        feed: usize,
        /// Topic or, for files, the feed's name.
        source: String,
        /// Kafka partition; 0 for files.
        partition: i32,
        /// Offset behind the last record (Kafka).
        next_offset: i64,
        /// Records, as the reader counts them.
        read: u64,
        /// The rows, and what could not be mapped.
        mapped: Mapped,
        /// What tells its rows from others; empty when nobody asked.
        numbers: Fingerprints,
        /// The records that the rows were made of, where a row's offset tells its record.
        records: Option<Box<Records>>,
        /// Where its file was read to, when files are read in parts.
        file: Option<Box<Reached>>,
    },
    /// The partition is ours from now on.
    Opened {
        /// Index of the feed.
        feed: usize,
        /// Topic or feed.
        source: String,
        /// Partition.
        partition: i32,
    },
    /// All there is so far has been read; for files: the end.
    End {
        /// Topic or feed.
        source: String,
        /// Partition.
        partition: i32,
    },
    /// The broker says that there is still no more.
    Quiet {
        /// Topic.
        source: String,
        /// Partition.
        partition: i32,
    },
    /// The partition is no longer ours.
    Closed {
        /// Topic.
        source: String,
        /// Partition.
        partition: i32,
    },
    /// Kafka is in trouble that may pass.
    Trouble(String),
    /// Nothing new: time to look at the clock.
    Idle,
}

/// What the main loop asks of a Kafka reader.
pub enum Request {
    /// Commit these offsets and answer when done.
    Commit(Vec<(String, i32, i64)>, Sender<Result<(), IoError>>),
    /// Read no more of it for now.
    Pause(String, i32),
    /// Go on with it.
    Resume(String, i32),
    /// Ask the broker whether all there is was read: [`Item::Quiet`] if so, and nothing if not, or if it does not answer.
    Ask(String, i32),
}

enum Work {
    Map {
        feed: usize,
        source: String,
        partition: i32,
        next_offset: i64,
        records: Records,
        reached: Option<Box<Reached>>,
    },
    Rows {
        feed: usize,
        source: String,
        batch: RecordBatch,
        file: Arc<str>,
        first: i64,
        polled_at: i64,
        reached: Option<Box<Reached>>,
    },
    Pass(Item),
}

/// Why a pipeline ended early.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// A source failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// Mapping failed in a way that is no record's fault.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// Rows could not be completed.
    #[error("rows could not be enriched: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// A Parquet file cannot be read.
    #[error("{path}: {source}")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// Why.
        source: manumit_codec::ParquetError,
    },
    /// Standard input was asked for twice, or the system gave no thread.
    #[error("{0}")]
    Other(String),
}

/// How far files have been read, for progress bars.
#[derive(Default)]
pub struct Progress {
    /// Bytes of all files; 0 when not known.
    pub total: AtomicU64,
    /// Bytes read.
    pub read: AtomicU64,
    /// Kafka messages not yet read.
    pub lag: AtomicU64,
    /// The same by topic and partition, as far as it is known.
    pub lags: Mutex<BTreeMap<(String, i32), u64>>,
}

/// A running pipeline.
pub struct Pipeline {
    results: Receiver<(u64, Result<Item, PipelineError>)>,
    ready: BTreeMap<u64, Result<Item, PipelineError>>,
    next: u64,
    /// Requests to the Kafka reader.
    pub requests: Option<Sender<Request>>,
    /// How far it is.
    pub progress: Arc<Progress>,
    threads: Vec<JoinHandle<()>>,
    /// What was said of files that lack columns.
    told: BTreeSet<String>,
}

/// Where rows come from.
pub enum Input {
    /// Files of each feed, one feed after another.
    Files(Vec<(usize, Vec<String>)>),
    /// Parts of files of each feed, one feed after another: a run with checkpoints.
    Parts(Vec<Planned>),
    /// Topics of all feeds.
    Kafka {
        /// The cluster.
        settings: KafkaSettings,
        /// Stop reading a partition at its end.
        until_end: bool,
        /// A source that reads already; otherwise one joins the group.
        source: Option<Box<KafkaSource>>,
    },
}

impl Pipeline {
    /// Starts reading and mapping; `stop` ends it early. With `numbered` every row has its fingerprint.
    ///
    /// # Errors
    /// [`PipelineError`] when a source cannot be opened.
    pub fn start(
        input: Input,
        feeds: &Arc<Vec<Feed>>,
        enricher: &Enricher,
        mappers: usize,
        numbered: bool,
        stop: &Arc<AtomicBool>,
    ) -> Result<Pipeline, PipelineError> {
        // Bounded on both sides: a slow engine holds back reading, and memory stays the same.
        let (work, queue) = sync_channel::<(u64, Work)>(mappers + 2);
        let (result, results) = sync_channel(mappers + 2);
        let progress = Arc::new(Progress::default());
        let mut threads = Vec::new();
        let mut requests = None;
        let reader: Reader = match input {
            Input::Files(list) => {
                let mut total = 0;
                for (_, paths) in &list {
                    let files = list_files(paths)?;
                    total += files.iter().filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum::<u64>();
                }
                progress.total.store(total, Ordering::Relaxed);
                let (feeds, stop, progress) = (feeds.clone(), stop.clone(), progress.clone());
                Box::new(move |post| {
                    for (feed, paths) in list {
                        files::read_files(&feeds[feed], feed, &paths, post, &stop, &progress)?;
                    }
                    Ok(())
                })
            }
            Input::Parts(list) => {
                progress.total.store(list.iter().map(files::bytes).sum(), Ordering::Relaxed);
                let (feeds, stop, progress) = (feeds.clone(), stop.clone(), progress.clone());
                Box::new(move |post| {
                    for planned in list {
                        files::read_parts(&feeds[planned.feed], planned, post, &stop, &progress)?;
                    }
                    Ok(())
                })
            }
            Input::Kafka { settings, until_end, source } => {
                let topics = topics(feeds);
                let source = match source {
                    Some(source) => *source,
                    None => {
                        let names: Vec<String> = topics.keys().cloned().collect();
                        KafkaSource::open(&settings, &names, longest_record(feeds))?
                    }
                };
                let (sender, receiver) = channel();
                requests = Some(sender);
                let (stop, progress) = (stop.clone(), progress.clone());
                Box::new(move |post| {
                    read_kafka(source, &topics, &receiver, post, &stop, until_end, &progress)
                })
            }
        };
        let failed = result.clone();
        let spawn = |name: String, body: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name)
                .spawn(body)
                .map_err(|e| PipelineError::Other(e.to_string()))
        };
        threads.push(spawn(
            "reader".into(),
            Box::new(move || {
                let post = Post { work, next: std::cell::Cell::new(0) };
                if let Err(error) = reader(&post) {
                    let _ = failed.send((post.next.get(), Err(error)));
                }
            }),
        )?);
        let queue = Arc::new(Mutex::new(queue));
        for index in 0..mappers.max(1) {
            let (queue, result, feeds, enricher) =
                (queue.clone(), result.clone(), feeds.clone(), enricher.clone());
            threads.push(spawn(
                format!("mapper-{index}"),
                Box::new(move || {
                    loop {
                        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                        let Ok((number, work)) = next else { return };
                        if result.send((number, map(&feeds, &enricher, numbered, work))).is_err() {
                            return;
                        }
                    }
                }),
            )?);
        }
        let (ready, told) = (BTreeMap::new(), BTreeSet::new());
        Ok(Pipeline { results, ready, next: 0, requests, progress, threads, told })
    }

    /// The next item in order; `Item::Idle` when none came for `wait`, `None` at the end.
    ///
    /// # Errors
    /// [`PipelineError`] when reading or mapping failed.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Item>, PipelineError> {
        let deadline = Instant::now() + wait;
        loop {
            if let Some(item) = self.ready.remove(&self.next) {
                self.next += 1;
                return item.map(|item| Some(self.once(item)));
            }
            match self.results.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok((number, item)) => {
                    self.ready.insert(number, item);
                }
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => return Ok(Some(Item::Idle)),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => match self.ready.pop_first() {
                    Some((number, item)) => {
                        self.next = number + 1;
                        return item.map(|item| Some(self.once(item)));
                    }
                    None => return Ok(None),
                },
            }
        }
    }

    /// All records of a file lack the same columns: the first of them say so.
    fn once(&mut self, mut item: Item) -> Item {
        if let Item::Rows { mapped, .. } = &mut item
            && mapped.absent.as_ref().is_some_and(|absent| !self.told.insert(absent.to_string()))
        {
            mapped.absent = None;
        }
        item
    }

    /// Lets all threads end.
    pub fn finish(self) {
        let Pipeline { results, requests, threads, .. } = self;
        drop(requests);
        drop(results);
        for thread in threads {
            // A thread that panicked has already ended the pipeline.
            let _ = thread.join();
        }
    }
}

/// Pieces of work that are read and not yet with the main loop, at most: those that wait for a mapper, are with one, wait for the
/// loop, or wait there for one read before them.
pub fn items_under_way(mappers: usize) -> usize {
    4 * mappers.max(1) + 4
}

/// Index of the feed of each topic.
pub fn topics(feeds: &[Feed]) -> BTreeMap<String, usize> {
    let mut topics = BTreeMap::new();
    for (index, feed) in feeds.iter().enumerate() {
        topics.extend(feed.topics().iter().map(|topic| (topic.clone(), index)));
    }
    topics
}

/// Bytes that any feed takes of a record.
pub fn longest_record(feeds: &[Feed]) -> usize {
    feeds.iter().map(Feed::max_record_bytes).max().unwrap_or(1 << 20)
}

/// Reads a source to its end.
type Reader = Box<dyn FnOnce(&Post) -> Result<(), PipelineError> + Send>;

/// The reader's side of the work queue; work is numbered in the order read.
struct Post {
    work: SyncSender<(u64, Work)>,
    next: std::cell::Cell<u64>,
}

impl Post {
    /// False when nobody listens any more.
    fn send(&self, work: Work) -> bool {
        let number = self.next.get();
        self.next.set(number + 1);
        self.work.send((number, work)).is_ok()
    }
}

fn map(feeds: &[Feed], enricher: &Enricher, numbered: bool, work: Work) -> Result<Item, PipelineError> {
    let (feed, source, partition, next_offset, read, mapped, records, file) = match work {
        Work::Pass(item) => return Ok(item),
        Work::Map { feed, source, partition, next_offset, records, reached } => {
            let mapped = feeds[feed].map(&records)?;
            let document = feeds[feed].format() == Format::Json;
            // How many records a document has only its decoder knows.
            let read = if document { mapped.read } else { records.len() as u64 };
            // The records of a document are numbered within it.
            let records = (numbered && !document).then(|| Box::new(records));
            (feed, source, partition, next_offset, read, mapped, records, reached)
        }
        Work::Rows { feed, source, batch, file, first, polled_at, reached } => {
            let read = batch.num_rows() as u64;
            let mapped = feeds[feed].map_rows_of(batch, &file, first, polled_at)?;
            (feed, source, 0, 0, read, mapped, None, reached)
        }
    };
    // Before enrichment and by as many threads as there are mappers: the main loop only looks the numbers up.
    let numbers = if numbered { Fingerprints::of(&mapped.transactions) } else { Fingerprints::default() };
    let transactions = enricher.enrich(&mapped.transactions)?;
    let mapped = Mapped { transactions, ..mapped };
    Ok(Item::Rows { feed, source, partition, next_offset, read, mapped, numbers, records, file })
}

fn read_kafka(
    mut source: KafkaSource,
    topics: &BTreeMap<String, usize>,
    requests: &Receiver<Request>,
    post: &Post,
    stop: &AtomicBool,
    until_end: bool,
    progress: &Progress,
) -> Result<(), PipelineError> {
    let mut lag_asked = Instant::now();
    // After a stop nothing more is read, but commits are still taken until the main loop lets go.
    let mut stopped = false;
    loop {
        loop {
            match requests.try_recv() {
                Ok(Request::Commit(offsets, answer)) => {
                    let _ = answer.send(source.commit(&offsets));
                }
                Ok(Request::Pause(topic, partition)) => source.pause(&topic, partition)?,
                Ok(Request::Resume(topic, partition)) => source.resume(&topic, partition)?,
                Ok(Request::Ask(topic, partition)) => {
                    if source.is_at_end(&topic, partition) {
                        post.send(Work::Pass(Item::Quiet { source: topic, partition }));
                    }
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
        }
        if stop.load(Ordering::Relaxed) {
            if !stopped {
                stopped = true;
                post.send(Work::Pass(Item::Closed { source: String::new(), partition: -1 }));
            }
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        for event in source.poll(Duration::from_millis(100), 20_000)? {
            let work = match event {
                Event::Records(records) => {
                    let topic = records.source.to_string();
                    let Some(&feed) = topics.get(&topic) else { continue };
                    let next_offset = records.offsets.last().map_or(0, |o| o + 1);
                    Work::Map {
                        feed,
                        source: topic,
                        partition: records.partition,
                        next_offset,
                        records,
                        reached: None,
                    }
                }
                Event::Assigned { topic, partition } => {
                    let Some(&feed) = topics.get(&topic) else { continue };
                    Work::Pass(Item::Opened { feed, source: topic, partition })
                }
                Event::Revoked { topic, partition } => {
                    tracing::warn!(
                        topic,
                        partition,
                        "the partition is shared out anew, as the members of the consumer group have changed"
                    );
                    Work::Pass(Item::Closed { source: topic, partition })
                }
                Event::End { topic, partition } => {
                    if until_end {
                        // What comes later is not part of this run.
                        source.pause(&topic, partition)?;
                    }
                    Work::Pass(Item::End { source: topic, partition })
                }
                Event::Trouble(message) => Work::Pass(Item::Trouble(message)),
            };
            if !post.send(work) {
                return Ok(());
            }
        }
        if lag_asked.elapsed() > Duration::from_secs(5) {
            let lags = source.lags();
            progress.lag.store(lags.values().sum(), Ordering::Relaxed);
            *progress.lags.lock().unwrap_or_else(PoisonError::into_inner) = lags;
            lag_asked = Instant::now();
        }
    }
}
