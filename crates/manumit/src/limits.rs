//! What a run may hold in memory, part by part, so that one number can be given for the process and be kept.
//!
//! ```text
//!  [limits] memory = program + order + reading + Kafka + archive … + [state] memory, and a fifth of it all for the allocator
//! ```
//!
//! Every part has its own bound and its own way of keeping it; [`parts`] is the list, `docker/STATE.md` the guide.

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use manumit_io::{BATCH_BYTES, CLIENT_BYTES, PIECE_BYTES, POLL_BYTES, READER_BYTES, SEND_BYTES};

use crate::archive::QUEUE;
use crate::config::{Config, State};
use crate::pipeline::items_under_way;

/// Bytes that a feed takes of a record where it does not say: `max_record_bytes`.
pub const DEFAULT_RECORD: usize = 1 << 20;

/// The program itself, with DataFusion and the built-in rules: measured, and rounded up.
const PROGRAM: u64 = 256 << 20;

/// What a worker has in hand: rows that are prepared, what expressions gave, its stack.
const WORKER: u64 = 64 << 20;

/// Bytes of rows that wait for their order, of all partitions together.
pub const ORDER: u64 = 128 << 20;

/// Bytes that mapped rows take for each byte of their records, about, the records themselves included.
const MAPPED: u64 = 5;

/// Bytes of a row that waits to be archived, twice: as it came, and sorted.
const ARCHIVED_ROW: u64 = 1_024;

/// What the Kafka client has beside the bytes of short messages, as a factor.
const CLIENT: u64 = 4;

/// What rows of reference tables take on their way from JSON, for each byte of it.
const READ: u64 = 8;

/// Of all of it so much is left for what the allocator cannot give back.
const SLACK: u64 = 5;

/// Less than this is no room for state.
const LEAST_STATE: u64 = 32 << 20;

/// One part of what is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// In words.
    pub name: &'static str,
    /// Bytes at most.
    pub bytes: u64,
    /// What happens there.
    pub policy: &'static str,
    /// The label `part` of `manumit_memory_bytes`; empty where it is not measured.
    pub metric: &'static str,
}

/// `16 GiB` in bytes; `None` when it is no size.
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let number_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..number_end].parse().ok()?;
    let factor = match text[number_end..].trim() {
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// Everything but the state. `longest_record`: bytes that any feed takes of a record; `files`: bytes that reference tables from files take.
fn fixed(config: &Config, longest_record: usize, files: u64) -> Vec<Part> {
    let kafka = !config.kafka.brokers.trim().is_empty();
    let batch = if kafka { POLL_BYTES } else { BATCH_BYTES } as u64 * MAPPED;
    let mut parts = vec![
        Part {
            name: "the program and its workers",
            bytes: PROGRAM + config.worker_threads() as u64 * WORKER,
            policy: "does not grow",
            metric: "",
        },
        Part {
            name: "rows that wait for their order",
            bytes: ORDER,
            policy: "partitions that are ahead are paused; what the slowest one's `lateness` needs beyond that counts as state",
            metric: "waiting",
        },
        Part {
            name: "records on their way from the source",
            bytes: items_under_way(config.worker_threads()) as u64 * (batch + longest_record as u64),
            policy: "reading waits",
            metric: "",
        },
    ];
    if files > 0 {
        let policy = "as large as the tables: counted when they are read, once";
        parts.push(Part { name: "reference tables from files", bytes: files, policy, metric: "reference" });
    }
    let topics = config.reference.topics().count() as u64;
    if topics > 0 {
        // A table that changes is there twice for a moment.
        let rows = 2 * config.limits.reference_bytes().unwrap_or(0);
        parts.push(Part {
            name: "reference tables from topics",
            bytes: rows + topics * CLIENT * READER_BYTES as u64 + READ * PIECE_BYTES as u64,
            policy: "rows of new keys are refused: dead letters (`[limits] reference`, twice, and their readers)",
            metric: "reference",
        });
    }
    if kafka {
        parts.push(Part {
            name: "what the Kafka client has fetched",
            bytes: CLIENT * CLIENT_BYTES as u64,
            policy: "it fetches no more (`queued.max.messages.kbytes`)",
            metric: "",
        });
        let outputs = config.output.targets().filter(|to| to.starts_with("kafka:"));
        // One producer for all outputs where they are committed together.
        let producers = if config.checkpoint.folder.is_some() { 1 } else { outputs.count() as u64 };
        parts.push(Part {
            name: "what is on its way to topics",
            bytes: producers * 2 * SEND_BYTES as u64,
            policy: "the stream waits (`queue.buffering.max.kbytes`)",
            metric: "",
        });
    }
    if config.archive.folder.is_some() {
        let (rows, queue) = (config.archive.buffer_rows as u64, QUEUE as u64 * batch);
        parts.push(Part {
            name: "rows that are not archived yet",
            bytes: rows * ARCHIVED_ROW + queue,
            policy: "they are written (`[archive] buffer_rows`); the stream waits for the writer",
            metric: "",
        });
    }
    parts
}

/// All parts; the last but one is the state, the last what the allocator needs. `files`: bytes that reference tables from files take, see
/// [`crate::reference::bytes_of_files`].
pub fn parts(config: &Config, longest_record: usize, files: u64) -> Vec<Part> {
    let mut parts = fixed(config, longest_record, files);
    let state = &config.state;
    parts.push(Part {
        name: "state: `[state] memory`",
        bytes: state.bytes().unwrap_or(0),
        policy: match state.folder {
            Some(_) => "older rows and transactions go to `[state] folder`; then rows of new keys are refused",
            None => "rows of new keys are refused, and the oldest transactions are forgotten by alerts (name a `[state] folder`)",
        },
        metric: "rows, keys, texts, counts, transactions, hits, duplicates",
    });
    let sum: u64 = parts.iter().map(|part| part.bytes).sum();
    let policy = "what was freed and is not given back";
    parts.push(Part { name: "allocator", bytes: sum / SLACK, policy, metric: "" });
    parts
}

/// Gives the state what `[limits] memory` leaves, where nothing else is said.
///
/// # Errors
/// When it is no size, or what is wanted does not fit in.
pub fn settle(config: &mut Config, longest_record: usize, files: u64) -> anyhow::Result<()> {
    config.limits.reference_bytes()?;
    let Some(text) = &config.limits.memory else { return Ok(()) };
    let limit = bytes(text)
        .with_context(|| format!("`memory` in [limits] is `{text}`; write for example memory = \"4 GiB\""))?;
    let others: u64 = fixed(config, longest_record, files).iter().map(|part| part.bytes).sum();
    let left = (limit - limit / (SLACK + 1)).saturating_sub(others);
    if left < LEAST_STATE {
        let least = least(config, longest_record, files);
        bail!(
            "`memory` in [limits] is `{text}`, of which nothing is left for state; give at least \"{least} MiB\", or see what the rest is \
             for: manumit explain --memory"
        );
    }
    match config.state.bytes() {
        Some(wanted) if config.state.memory.is_some() && wanted > left => bail!(
            "`memory` in [state] is `{}`, but `memory` in [limits], `{text}`, leaves {} MiB for it; leave out the former, or raise the latter \
             (manumit explain --memory)",
            config.state.memory(),
            mib(left)
        ),
        _ if config.state.memory.is_some() => Ok(()),
        _ => {
            config.state.memory = Some(format!("{} MiB", left >> 20));
            Ok(())
        }
    }
}

/// The least limit that leaves room for state, MiB.
fn least(config: &Config, longest_record: usize, files: u64) -> u64 {
    let mut config = config.clone();
    let mut least = 0;
    loop {
        let others: u64 = fixed(&config, longest_record, files).iter().map(|part| part.bytes).sum();
        let next = mib((others + LEAST_STATE) * (SLACK + 1) / SLACK);
        if next <= least {
            return least;
        }
        // What is left out may be a part of the limit, and grows with it, by less than half.
        least = next;
        config.limits.memory = Some(format!("{least} MiB"));
    }
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// All parts as a table, with their sum.
pub fn table(parts: &[Part]) -> String {
    let mut out = String::from("At most in memory, and what happens there:\n\n");
    for part in parts {
        let _ = writeln!(out, "  {:>9} MiB  {:<38} {}", mib(part.bytes), part.name, part.policy);
    }
    let sum = parts.iter().map(|part| part.bytes).sum();
    let _ = writeln!(out, "  {:>9} MiB  together\n", mib(sum));
    out.push_str(
        "`[limits] memory` bounds the sum, and gives the state what the others leave. Metrics: manumit_memory_bytes. Guide: docker/STATE.md.",
    );
    out
}

/// Bytes of this process that are in memory; `None` where the system does not tell.
pub fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

impl State {
    /// Bytes that rows of windows of time may take in memory before older ones go elsewhere: a quarter of all, as keys, what is worked out of
    /// rows, and hits have nowhere to go.
    pub fn bytes_of_rows(&self) -> Option<u64> {
        self.bytes().map(|bytes| bytes / 4)
    }

    /// Bytes that transactions kept for alerts may take in memory: read back they are slow but seldom asked for, so an eighth is
    /// enough where they have somewhere to go.
    pub fn bytes_of_transactions(&self) -> Option<u64> {
        self.bytes().map(|bytes| if self.folder.is_some() { bytes / 8 } else { bytes / 4 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(limit: Option<&str>, state: Option<&str>) -> Config {
        let mut config = Config { threads: 2, ..Config::default() };
        config.kafka.brokers = "broker:9092".into();
        config.output.alerts = "kafka:alerts".into();
        config.archive.folder = Some("archive".into());
        config.limits.memory = limit.map(String::from);
        config.state.memory = state.map(String::from);
        config
    }

    #[test]
    fn a_size_is_read_as_written() {
        assert_eq!(bytes("16 GiB"), Some(16 << 30));
        assert_eq!(bytes("512MiB"), Some(512 << 20));
        assert_eq!((bytes("16"), bytes("much")), (None, None));
    }

    #[test]
    fn the_state_gets_what_the_others_leave_and_the_sum_is_the_limit() {
        let mut config = config(Some("4 GiB"), None);
        settle(&mut config, 1 << 20, 0).unwrap();
        let parts = parts(&config, 1 << 20, 0);
        let sum: u64 = parts.iter().map(|part| part.bytes).sum();
        assert!(sum <= 4 << 30 && sum > (4 << 30) - (8 << 20), "{} MiB", sum >> 20);
        let state = config.state.bytes().unwrap();
        assert!(state > 1 << 30 && state < 4 << 30, "{} MiB", state >> 20);
        let table = table(&parts);
        assert!(table.contains("4096 MiB  together") || table.contains("4095 MiB  together"), "{table}");
    }

    #[test]
    fn reference_tables_take_room_from_the_state() {
        let state = |change: &dyn Fn(&mut Config), files: u64| {
            let mut config = config(Some("4 GiB"), None);
            change(&mut config);
            settle(&mut config, 1 << 20, files).map(|()| config.state.bytes().unwrap() >> 20)
        };
        let without = state(&|_| (), 0).unwrap();
        assert_eq!(state(&|_| (), 300 << 20).unwrap(), without - 300);
        let topic = |config: &mut Config| config.reference.accounts = Some("kafka:accounts".into());
        // An eighth of all, twice; what the reader has ahead, and a piece on its way.
        assert_eq!(state(&topic, 0).unwrap(), without - 2 * 512 - 16 - 32);
        let said = |config: &mut Config| {
            topic(config);
            config.limits.reference = Some("64 MiB".into());
        };
        assert_eq!(state(&said, 0).unwrap(), without - 2 * 64 - 16 - 32);
        let wrong = |config: &mut Config| config.limits.reference = Some("some".into());
        let fault = state(&wrong, 0).unwrap_err().to_string();
        assert!(fault.contains("`reference` in [limits] is `some`") && fault.contains("512 MiB"), "{fault}");
    }

    #[test]
    fn a_limit_that_does_not_hold_what_is_wanted_is_refused_with_what_would() {
        let said =
            |limit, state| settle(&mut config(Some(limit), state), 1 << 20, 0).unwrap_err().to_string();
        assert!(said("much", None).contains("`memory` in [limits] is `much`"));
        let small = said("512 MiB", None);
        let least: u64 = small.split('"').nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(settle(&mut config(Some(&format!("{least} MiB")), None), 1 << 20, 0).is_ok(), "{small}");
        assert!(settle(&mut config(Some(&format!("{} MiB", least - 2)), None), 1 << 20, 0).is_err());
        let both = said("4 GiB", Some("4 GiB"));
        assert!(both.contains("[state] is `4 GiB`") && both.contains("leaves"), "{both}");
        let mut fits = config(Some("4 GiB"), Some("256 MiB"));
        settle(&mut fits, 1 << 20, 0).unwrap();
        assert_eq!(fits.state.bytes(), Some(256 << 20));
        let mut without = config(None, None);
        settle(&mut without, 1 << 20, 0).unwrap();
        assert_eq!(without.state.bytes(), Some(16 << 30));
    }
}
