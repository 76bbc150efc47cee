//! The threads of an engine. Each owns a range of keys; what needs no state is worked out by whoever is free.
//!
//! ```text
//!  chunks of the step ─► prepare, by any worker ─► process in order, by every worker for its keys ─► one output a worker
//! ```
//!
//! A worker takes the next prepared chunk if there is one, and prepares another one if not, so that nobody waits while
//! there is something to do, and few chunks stand prepared at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use arrow::array::RecordBatch;

use crate::EngineError;
use crate::engine::Options;
use crate::order::times_of;
use crate::prepare::{self, Context, Pool, Prepared};
use crate::program::Program;
use crate::shard::{EvidenceRequest, Limits, Shard, ShardOutput};
use crate::text::Hasher;

/// Rows of one chunk at most, if no more of them share one event time.
const CHUNK_ROWS: usize = 8_192;

enum Task {
    Step(Arc<Work>),
    Evidence(Arc<Vec<EvidenceRequest>>),
}

enum Answer {
    Step(Box<Result<ShardOutput, EngineError>>),
    /// Per request: numbers of the transactions counted.
    Evidence(Result<Vec<Vec<u64>>, EngineError>),
}

struct Worker {
    tasks: Option<Sender<Task>>,
    thread: Option<JoinHandle<()>>,
}

/// All workers of an engine.
pub(crate) struct Workers {
    workers: Vec<Worker>,
    answers: Receiver<Answer>,
}

impl Workers {
    /// Starts them. `others`: bytes that others take of the room for state.
    ///
    /// # Errors
    /// [`EngineError::WorkerLost`] when the system gives no thread.
    pub(crate) fn start(
        program: &Arc<Program>,
        options: &Options,
        others: &Arc<AtomicU64>,
    ) -> Result<Workers, EngineError> {
        let hasher = Hasher::default();
        let (answer, answers) = channel();
        let count = options.threads.max(1);
        let (rows, trials) = (options.max_step_rows.max(1), options.max_step_trials);
        let limits = Limits { rows, trials, most: options.most_state, others: others.clone() };
        let mut workers = Vec::new();
        let pool = Arc::new(Pool::default());
        for index in 0..count {
            let (tasks, inbox) = channel();
            let only_keys = options.only_keys.clone();
            let state = options.state.as_ref();
            let (owned, limits) = (program.clone(), limits.clone());
            let shard = Shard::new(owned, hasher.clone(), index, count, limits, only_keys, state);
            let (program, hasher, answer) = (program.clone(), hasher.clone(), answer.clone());
            let context = Context { program, hasher, shards: count, pool: pool.clone() };
            let thread = std::thread::Builder::new()
                .name(format!("shard-{index}"))
                .spawn(move || work(shard, &context, &inbox, &answer))
                .map_err(|_| EngineError::WorkerLost)?;
            workers.push(Worker { tasks: Some(tasks), thread: Some(thread) });
        }
        Ok(Workers { workers, answers })
    }

    /// Works out one step's rows: batches in order, between different event times, each with the number of its first
    /// transaction.
    ///
    /// # Errors
    /// [`EngineError`] when rows cannot be rearranged or a worker is lost.
    pub(crate) fn step(&self, batches: &[(RecordBatch, u64)]) -> Result<ShardOutput, EngineError> {
        let work = Arc::new(Work::new(batches, self.workers.len())?);
        self.send(|| Task::Step(work.clone()))?;
        let mut all = ShardOutput::default();
        let mut error = None;
        for _ in &self.workers {
            match self.receive()? {
                Answer::Step(result) => match *result {
                    Ok(output) => all.append(output),
                    Err(why) => error = Some(why),
                },
                Answer::Evidence(_) => return Err(EngineError::WorkerLost),
            }
        }
        error.map_or(Ok(all), Err)
    }

    /// Per request: numbers of the transactions that were counted.
    ///
    /// # Errors
    /// [`EngineError::WorkerLost`].
    pub(crate) fn evidence(
        &self,
        requests: &Arc<Vec<EvidenceRequest>>,
    ) -> Result<Vec<Vec<u64>>, EngineError> {
        self.send(|| Task::Evidence(requests.clone()))?;
        let mut found: Vec<Vec<u64>> = vec![Vec::new(); requests.len()];
        for _ in &self.workers {
            let Answer::Evidence(parts) = self.receive()? else { return Err(EngineError::WorkerLost) };
            for (all, part) in found.iter_mut().zip(parts?) {
                all.extend(part);
            }
        }
        Ok(found)
    }

    fn send(&self, task: impl Fn() -> Task) -> Result<(), EngineError> {
        for worker in &self.workers {
            let tasks = worker.tasks.as_ref().ok_or(EngineError::WorkerLost)?;
            tasks.send(task()).map_err(|_| EngineError::WorkerLost)?;
        }
        Ok(())
    }

    fn receive(&self) -> Result<Answer, EngineError> {
        self.answers.recv().map_err(|_| EngineError::WorkerLost)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            worker.tasks = None;
        }
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take() {
                // A worker that panicked has already been seen as a lost one.
                let _ = thread.join();
            }
        }
    }
}

fn work(mut shard: Shard, context: &Context, tasks: &Receiver<Task>, answers: &Sender<Answer>) {
    while let Ok(task) = tasks.recv() {
        let answer = match task {
            Task::Step(work) => {
                let result = catch_unwind(AssertUnwindSafe(|| step(&mut shard, context, &work)));
                let result = result.unwrap_or(Err(EngineError::WorkerLost));
                if result.is_err() {
                    // Nobody else must wait for what this worker would have prepared.
                    work.stop();
                }
                Answer::Step(Box::new(result))
            }
            Task::Evidence(requests) => {
                let found = requests.iter().map(|request| shard.evidence(request)).collect();
                Answer::Evidence(shard.sound().map(|()| found))
            }
        };
        if answers.send(answer).is_err() {
            return;
        }
    }
}

fn step(shard: &mut Shard, context: &Context, work: &Work) -> Result<ShardOutput, EngineError> {
    let mut output = ShardOutput::default();
    let mut done = 0;
    loop {
        match work.next(done) {
            Next::Process(chunk) => {
                shard.process(&chunk, work.first_time, &mut output)?;
                drop(chunk);
                if let Some(chunk) = work.processed(done) {
                    context.pool.give(chunk);
                }
                done += 1;
            }
            Next::Prepare(index) => {
                let (chunk, seq) = &work.chunks[index];
                let mut prepared = prepare::prepare(context, chunk, *seq)?;
                output.faults.append(&mut prepared.faults);
                work.prepared(index, prepared);
            }
            Next::Nothing => {
                shard.sweep(work.first_time, work.rows);
                shard.weigh(&mut output);
                return Ok(output);
            }
        }
    }
}

/// The rows of one step, in chunks between different event times.
struct Work {
    first_time: i64,
    rows: usize,
    /// With the number of the first transaction of each.
    chunks: Vec<(RecordBatch, u64)>,
    workers: usize,
    progress: Mutex<Progress>,
    changed: Condvar,
}

struct Progress {
    /// The first chunk that nobody has begun to prepare.
    next: usize,
    /// Chunks that are prepared, and how many workers have still to process each.
    prepared: Vec<(Option<Arc<Prepared>>, usize)>,
    /// Chunks that all workers have processed.
    finished: usize,
    stopped: bool,
}

enum Next {
    Process(Arc<Prepared>),
    Prepare(usize),
    Nothing,
}

impl Work {
    fn new(batches: &[(RecordBatch, u64)], workers: usize) -> Result<Work, EngineError> {
        let rows: usize = batches.iter().map(|(batch, _)| batch.num_rows()).sum();
        let size = rows.div_ceil(workers).clamp(256, CHUNK_ROWS);
        let mut chunks = Vec::new();
        let mut first_time = None;
        for (batch, start_seq) in batches {
            let times = times_of(batch)?;
            first_time = first_time.or(times.first().copied());
            let mut start = 0;
            while start < times.len() {
                let mut end = (start + size).min(times.len());
                while end < times.len() && times[end] == times[end - 1] {
                    end += 1;
                }
                chunks.push((batch.slice(start, end - start), start_seq + start as u64));
                start = end;
            }
        }
        Ok(Work {
            first_time: first_time.unwrap_or(i64::MIN),
            rows,
            progress: Mutex::new(Progress {
                next: 0,
                prepared: chunks.iter().map(|_| (None, workers)).collect(),
                finished: 0,
                stopped: false,
            }),
            chunks,
            workers,
            changed: Condvar::new(),
        })
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        // A worker that panics holds no lock, and nothing is half done in it.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a worker that has processed `done` chunks does next; waits until there is something.
    fn next(&self, done: usize) -> Next {
        let mut progress = self.progress();
        loop {
            if progress.stopped || done == self.chunks.len() {
                return Next::Nothing;
            }
            if let (Some(chunk), _) = &progress.prepared[done] {
                return Next::Process(chunk.clone());
            }
            // Not too far ahead of the slowest: prepared rows take much memory.
            if progress.next < self.chunks.len().min(progress.finished + 2 * self.workers + 2) {
                progress.next += 1;
                return Next::Prepare(progress.next - 1);
            }
            progress = self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn prepared(&self, index: usize, prepared: Prepared) {
        self.progress().prepared[index].0 = Some(Arc::new(prepared));
        self.changed.notify_all();
    }

    /// Gives the chunk back when this worker was the last one.
    fn processed(&self, index: usize) -> Option<Prepared> {
        let mut progress = self.progress();
        let (chunk, left) = &mut progress.prepared[index];
        *left -= 1;
        if *left > 0 {
            return None;
        }
        let chunk = chunk.take();
        progress.finished += 1;
        drop(progress);
        self.changed.notify_all();
        chunk.and_then(Arc::into_inner)
    }

    fn stop(&self) {
        self.progress().stopped = true;
        self.changed.notify_all();
    }
}
