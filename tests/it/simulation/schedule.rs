//! What happens to a run, and when.

use std::fmt;

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

/// Threads that a run has, at most.
pub const MOST_THREADS: usize = 3;

/// Where in a commit a process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    BeforeArchive,
    AfterArchive,
    /// The checkpoint is whole and on disk; Kafka was told nothing.
    AfterCheckpoint,
    /// Kafka has committed, and the process does not live to hear of it.
    AfterTransaction,
}

pub const POINTS: [Point; 4] =
    [Point::BeforeArchive, Point::AfterArchive, Point::AfterCheckpoint, Point::AfterTransaction];

/// What happened to a checkpoint file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    Flipped,
    CutOff,
    Gone,
}

/// Which checkpoints the next process finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    All,
    /// All but the one that belongs to the last commit.
    Older(Damage),
    None,
}

/// How the next process begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    pub threads: usize,
    /// Bytes that rows of windows may take before they go to disk.
    pub memory: Option<usize>,
    pub left: Left,
    /// Partitions that were silent are found so at once, where the checkpoint does not tell.
    pub silent_at_once: bool,
}

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The next records of a partition come, as one batch.
    Deliver {
        partition: usize,
        count: usize,
    },
    Step,
    /// Nothing came from a partition for long.
    Silent {
        partition: usize,
    },
    /// Small files of the archive are merged.
    Merge,
    Commit,
    /// A commit that does not end.
    DieCommitting {
        at: Point,
        restart: Restart,
    },
    Die {
        restart: Restart,
    },
}

impl Restart {
    pub fn plain() -> Restart {
        Restart { threads: 1, memory: None, left: Left::All, silent_at_once: true }
    }

    pub fn draw(rng: &mut ChaCha8Rng) -> Restart {
        let damage = *[Damage::Flipped, Damage::CutOff, Damage::Gone].choose(rng).unwrap();
        Restart {
            threads: rng.random_range(1..=MOST_THREADS),
            memory: rng.random_bool(0.3).then(|| rng.random_range(0..20_000)),
            left: *[Left::All, Left::All, Left::All, Left::Older(damage), Left::None].choose(rng).unwrap(),
            silent_at_once: rng.random_bool(0.5),
        }
    }
}

/// A schedule over so many partitions, of `rows` records in all.
pub fn draw(rng: &mut ChaCha8Rng, partitions: usize, rows: usize) -> Vec<Event> {
    let largest = [3, 20, 80][rng.random_range(0..3)];
    let wanted = rng.random_range(4..(12 + 2 * rows / largest).clamp(5, 60));
    let silence = if rng.random_bool(0.4) { 15 } else { 0 };
    let trouble = [4, 10, 20][rng.random_range(0..3)];
    let mut events = Vec::new();
    while events.len() < wanted {
        let dice = rng.random_range(0..100 + silence + trouble);
        let partition = rng.random_range(0..partitions);
        events.push(match dice {
            0..62 => Event::Deliver { partition, count: rng.random_range(1..=largest) },
            62..80 => Event::Step,
            80..84 => Event::Merge,
            84..100 => Event::Commit,
            _ if dice < 100 + silence => Event::Silent { partition },
            _ if rng.random_bool(0.6) => {
                Event::DieCommitting { at: *POINTS.choose(rng).unwrap(), restart: Restart::draw(rng) }
            }
            _ => Event::Die { restart: Restart::draw(rng) },
        });
    }
    events
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Deliver { partition, count } => write!(f, "p{partition}: the next {count} records"),
            Event::Step => f.write_str("step"),
            Event::Silent { partition } => write!(f, "p{partition} is silent"),
            Event::Merge => f.write_str("files of the archive are merged"),
            Event::Commit => f.write_str("commit"),
            Event::DieCommitting { at, restart } => write!(f, "commit, dies {at:?}; {restart}"),
            Event::Die { restart } => write!(f, "dies; {restart}"),
        }
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.memory.map_or("in memory".into(), |bytes| format!("on disk beyond {bytes} bytes"));
        let left = match self.left {
            Left::All => "with all checkpoints".into(),
            Left::Older(damage) => format!("the last checkpoint {damage:?}"),
            Left::None => "without checkpoints".into(),
        };
        let silent = if self.silent_at_once { "" } else { ", silent partitions not known" };
        write!(f, "begins again with {} threads, state {state}, {left}{silent}", self.threads)
    }
}
