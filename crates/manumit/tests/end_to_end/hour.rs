//! More keys and transactions than there is memory for: what is resident stays below the limit that is configured, and does not creep
//! upwards. A short form runs with all tests; `tests/hour.sh` runs an hour of replay at full speed.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use manumit_tests::kafka::{Feeder, Kafka};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::exactly_once::asked;
use crate::kafka::metrics;
use crate::program::{lines, manumit, rule, write};

const PARTITIONS: i32 = 4;

/// Records that the feeder may be ahead of what is committed: fewer than the topic keeps.
const AHEAD: u64 = 2_000_000;

const FEED: &str = r#"---
format = "jsonl"
topics = ["hour"]
time_zone = "UTC"
lateness = "1 minutes"
currency = "EUR"
country = "DE"

[raw]
id = "text"
at = "timestamp"
amount = "decimal"
from = "text"
to = "text"
device = "text"
---
SELECT id AS tx_id, at AS event_time, amount, 'EUR' AS currency, 'transfer' AS method, 'online' AS channel,
  "from" AS debtor_account, "to" AS creditor_account, device AS device_id
FROM raw
"#;

const PAYS: &str = r#"
over = "entries"
where = "direction = 'out'"
when = "payees >= 6 AND paid >= 2000"
explain = "{paid} to {payees} accounts within a day"

[features]
payees = "count(DISTINCT counterparty) OVER 24 hours"
paid = "sum(amount) OVER 24 hours"
"#;

const TAKES: &str = r#"
over = "entries"
where = "direction = 'in'"
when = "payments >= 6"
explain = "{payments} payments within 12 hours"

[features]
payments = "count(*) OVER 12 hours"
"#;

const SHARES: &str = r#"
over = "transactions"
when = "payers >= 6"
explain = "{payers} payers on one device within a day"

[features]
payers = "count(DISTINCT debtor_account) OVER 24 hours"
"#;

const TYPOLOGY: &str = r#"
fiu_keywords = []
summary = "The account pays many others within a day."
within = "1 days"
gate = "pays"
gate_points = 80
alert_at = 60
open_for = "2 days"
"#;

/// The feed and its rules, as a project.
fn project(folder: &Path) {
    write(folder, "sql/feeds/hour.sql", FEED);
    for (id, text) in [("pays", PAYS), ("takes", TAKES), ("shares", SHARES)] {
        let text = rule(id, text);
        let text = if id == "shares" { text.replace(r#""account""#, r#""device""#) } else { text };
        write(folder, &format!("rules/indicators/{id}.toml"), &text);
    }
    write(folder, "rules/typologies/pays-many/typology.toml", &rule("pays-many", TYPOLOGY));
}

/// Payments between so many accounts, on so many devices, so many a day: out of order within the feed's lateness.
struct Payments {
    rng: ChaCha8Rng,
    keys: u64,
    a_day: u64,
    number: u64,
}

impl Payments {
    fn new(keys: u64, a_day: u64) -> Payments {
        let rng = ChaCha8Rng::seed_from_u64(asked("MANUMIT_FAULT_SEED", 51));
        Payments { rng, keys, a_day, number: 0 }
    }

    /// Writes the next one as a line, and gives the number of its payer.
    fn next(&mut self, line: &mut String) -> u64 {
        let Payments { rng, keys, a_day, number } = self;
        let begin: DateTime<Utc> = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
        *number += 1;
        // One in a hundred rows is of one of a hundred busy accounts.
        let most = if rng.random_range(0..100) == 0 { 100 } else { *keys };
        let [from, to, device] = [most, *keys, *keys].map(|most| rng.random_range(0..most));
        let millis = *number * 86_400_000 / *a_day + rng.random_range(0..30_000);
        let at = begin + TimeDelta::milliseconds(millis as i64);
        let (at, cents) = (at.format("%Y-%m-%dT%H:%M:%S%.3fZ"), rng.random_range(100..100_000_u32));
        let (euro, cents) = (cents / 100, cents % 100);
        line.clear();
        write!(
            line,
            r#"{{"id":"T{number}","at":"{at}","amount":"{euro}.{cents:02}","from":"AC{from:09}","to":"AC{to:09}","device":"D{device:09}"}}"#
        )
        .unwrap();
        from
    }
}

/// Sends records until it is told to stop, one in a hundred twice, one in two hundred broken.
fn feed(feeder: &Feeder, keys: u64, a_day: u64, stop: &AtomicBool, sent: &AtomicU64, done: &AtomicU64) {
    let (mut payments, mut line) = (Payments::new(keys, a_day), String::new());
    while !stop.load(Ordering::Relaxed) {
        if sent.load(Ordering::Relaxed) > done.load(Ordering::Relaxed) + AHEAD {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        let mut count = 0;
        for _ in 0..10_000 {
            let partition = (payments.next(&mut line) % PARTITIONS as u64) as i32;
            let times = match payments.rng.random_range(0..200) {
                0 | 1 => 2,
                2 => {
                    line.truncate(line.len() / 2);
                    1
                }
                _ => 1,
            };
            (0..times).for_each(|_| feeder.send("hour", partition, line.as_bytes()));
            count += times;
        }
        sent.fetch_add(count, Ordering::Relaxed);
    }
    feeder.flush();
}

/// What a run that said where its metrics are holds, by part.
fn parts(said: &str) -> String {
    let address = said.lines().find_map(|line| line.strip_prefix("metrics on http://")?.split_once('/'));
    let Some((address, _)) = address else { return String::new() };
    let mib = |line: &str| {
        let (name, value) = line.strip_prefix("manumit_")?.rsplit_once(' ')?;
        let shown = name.strip_prefix("memory_bytes{part=").or(name.strip_prefix("state_bytes{where=\"disk"));
        match shown {
            Some(part) => {
                let part = part.trim_matches(['"', '}']);
                let part = if part.is_empty() { "on disk" } else { part };
                Some(format!("{part} {}", value.parse::<u64>().ok()? >> 20))
            }
            None => matches!(name, "state_keys" | "state_rows_refused").then(|| format!("{name} {value}")),
        }
    };
    metrics(address).lines().filter_map(mib).collect::<Vec<_>>().join(", ")
}

/// A line of `/proc/PID/status`, MiB.
fn memory(id: u32, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}

/// MiB an hour by which the samples (seconds, MiB) rise: the line of least squares.
fn slope(samples: &[(f64, u64)]) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: &dyn Fn(&(f64, u64)) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (time, used) = (mean(&|s| s.0), mean(&|s| s.1 as f64));
    let up: f64 = samples.iter().map(|s| (s.0 - time) * (s.1 as f64 - used)).sum();
    let over: f64 = samples.iter().map(|s| (s.0 - time).powi(2)).sum();
    if over > 0.0 { up / over * 3_600.0 } else { 0.0 }
}

#[test]
#[ignore = "an hour: tests/hour.sh runs it"]
fn an_hour_of_replay_at_full_speed_stays_within_its_memory() {
    let seconds = asked("MANUMIT_HOUR_SECONDS", 3_600);
    let (keys, a_day) = (asked("MANUMIT_HOUR_KEYS", 10_000_000), asked("MANUMIT_HOUR_A_DAY", 1_000_000));
    let limit = asked("MANUMIT_HOUR_LIMIT_MIB", 2_048);
    let parent = std::env::var_os("MANUMIT_HOUR_FOLDER").unwrap_or_else(|| std::env::temp_dir().into());
    let folder = tempfile::tempdir_in(parent).unwrap();
    let folder = folder.path();
    project(folder);
    let kafka = Kafka::start();
    // The disk holds: what was read goes when a quarter of a gigabyte of a partition has come since.
    let keeps =
        [("retention.bytes", "268435456"), ("segment.bytes", "67108864"), ("file.delete.delay.ms", "1000")];
    kafka.topic_with("hour", PARTITIONS, &keeps);
    for topic in ["hour-alerts", "hour-dead", "hour-late"] {
        kafka.topic_with(topic, PARTITIONS, &keeps);
    }
    let (given, every) = (format!("{limit} MiB"), "5 seconds");
    let environment = [
        ("MANUMIT_KAFKA_BROKERS", kafka.brokers.as_str()),
        ("MANUMIT_KAFKA_GROUP", "hour"),
        ("MANUMIT_LIMITS_MEMORY", &given),
        ("MANUMIT_STATE_FOLDER", "state"),
        ("MANUMIT_SERVER_LISTEN", "127.0.0.1:0"),
        ("MANUMIT_STATE_TRANSACTIONS_PER_DAY", "10000"),
        ("MANUMIT_CHECKPOINT_EVERY", every),
        ("MANUMIT_ARCHIVE_RETENTION", "6 days"),
        ("MANUMIT_FUTURE", "18250 days"),
    ]
    .map(|(name, value)| (name.to_string(), value.to_string()));
    let arguments =
        ["run", "--feed", "hour", "--alerts", "kafka:hour-alerts", "--dead-letters", "kafka:hour-dead"];
    let others = [
        "--late",
        "kafka:hour-late",
        "--archive",
        "archive",
        "--checkpoints",
        "checkpoints",
        "--ledger",
        "ledger",
    ];
    let log = folder.join("run.log");
    let said = || std::fs::read_to_string(&log).unwrap();
    let mut command = manumit(folder, &[&arguments[..], &others].concat(), &environment);
    command.stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
    let mut service = command.spawn().unwrap();
    let (stop, sent, done) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let mut samples: Vec<(f64, u64)> = Vec::new();
    let feeder = kafka.feeder();
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| feed(&feeder, keys, a_day, &stop, &sent, &done));
        let mut shown = Instant::now();
        while began.elapsed() < Duration::from_secs(seconds) {
            std::thread::sleep(Duration::from_secs(2));
            let Some(used) = memory(service.id(), "VmRSS:") else { break };
            samples.push((began.elapsed().as_secs_f64(), used));
            done.store(kafka.committed("hour", "hour", PARTITIONS) as u64, Ordering::Relaxed);
            if used > limit {
                break;
            }
            if shown.elapsed() > Duration::from_secs(30) {
                let (at, rows) = (began.elapsed().as_secs(), done.load(Ordering::Relaxed));
                println!("{at} s: {used} MiB, {rows} records, {} a second", rows / at.max(1));
                println!("    {}", parts(&said()));
                shown = Instant::now();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let highest = memory(service.id(), "VmHWM:").unwrap_or(0);
    let ended = service.try_wait().unwrap();
    assert!(ended.is_none(), "it ended: {ended:?}\n{}", said());
    assert!(Command::new("kill").args(["-TERM", &service.id().to_string()]).status().unwrap().success());
    assert!(service.wait().unwrap().success(), "{}", said());
    let took = began.elapsed().as_secs();
    let read = kafka.committed("hour", "hour", PARTITIONS) as u64;
    let rises = slope(&samples[samples.len() / 2..]);
    let told = said();
    println!(
        "{}",
        told.lines().rev().take(12).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    );
    println!(
        "{read} records in {took} s, {} a second; {highest} MiB resident at most, of {limit}; in the second half {rises:.0} MiB more an hour",
        read / took.max(1)
    );
    let status = manumit(folder, &["status", "--ledger", "ledger"], &[]).output().unwrap();
    println!("{}", String::from_utf8_lossy(&status.stdout));
    assert!(status.status.success(), "the ledger does not balance");
    assert!(highest <= limit, "{highest} MiB are more than {limit}");
    assert!(seconds < 1_800 || rises < limit as f64 / 10.0, "{rises} MiB more an hour");
}

/// Payments of so many accounts by files, and the highest that was resident, MiB; with what the run said.
fn run_of(folder: &Path, rows: u64, a_day: u64, environment: &[(&str, &str)]) -> (u64, String) {
    let mut all = vec![("MANUMIT_FUTURE", "18250 days"), ("MANUMIT_STATE_TRANSACTIONS_PER_DAY", "1000")];
    all.extend(environment);
    let all: Vec<(String, String)> = all.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
    let run = ["run", "--feed", "hour", "--from", "-", "--alerts", "alerts.jsonl", "--threads", "2"];
    let log = folder.join("run.log");
    let mut command = manumit(folder, &run, &all);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
    let mut program = command.spawn().unwrap();
    let mut input = std::io::BufWriter::new(program.stdin.take().unwrap());
    let id = program.id();
    let highest = AtomicU64::new(0);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // It only rises, so the last look is all that counts.
            while !ended.load(Ordering::Relaxed) {
                highest.fetch_max(memory(id, "VmHWM:").unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let (mut payments, mut line) = (Payments::new(10_000_000, a_day), String::new());
        for _ in 0..rows {
            payments.next(&mut line);
            line.push('\n');
            input.write_all(line.as_bytes()).unwrap();
        }
        drop(input);
        let done = program.wait().unwrap();
        ended.store(true, Ordering::Relaxed);
        let said = std::fs::read_to_string(&log).unwrap();
        assert!(done.success(), "{said}");
        (highest.load(Ordering::Relaxed), said)
    })
}

/// Three keys a row, nearly all of them new, and windows that hold all of them: without a bound this takes half as much again.
#[test]
fn far_more_keys_and_transactions_than_memory_stay_below_the_limit_that_is_configured() {
    const LIMIT: u64 = 1_152;
    let folder = tempfile::tempdir().unwrap();
    project(folder.path());
    let limit = format!("{LIMIT} MiB");
    let environment =
        [("MANUMIT_LIMITS_MEMORY".into(), limit.clone()), ("MANUMIT_THREADS".into(), "2".into())];
    let explained = manumit(folder.path(), &["explain", "--memory"], &environment).output().unwrap();
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    let together = explained.lines().find(|line| line.contains("together")).unwrap();
    let together: u64 = together.split_whitespace().next().unwrap().parse().unwrap();
    assert!(together <= LIMIT && together + 16 > LIMIT, "{explained}");

    let (highest, said) = run_of(folder.path(), 1_500_000, 1_500_000, &[("MANUMIT_LIMITS_MEMORY", &limit)]);
    assert!(highest > 0 && highest <= LIMIT, "{highest} MiB\n{explained}\n{said}");
    // Nothing is lost in silence: neither keys nor evidence.
    assert!(said.contains("memory for windows was full"), "{said}");
    assert!(said.contains("the oldest are forgotten"), "{said}");
    println!("{highest} MiB of {LIMIT}");
    let gaps = |alert: &serde_json::Value| alert["data_gaps"].to_string();

    let state = folder.path().join("state").display().to_string();
    let both = [("MANUMIT_LIMITS_MEMORY", limit.as_str()), ("MANUMIT_STATE_FOLDER", state.as_str())];
    let (highest, said) = run_of(folder.path(), 1_500_000, 1_500_000, &both);
    assert!(highest > 0 && highest <= LIMIT, "{highest} MiB with a folder\n{explained}\n{said}");
    assert!(!said.contains("the oldest are forgotten"), "{said}");
    println!("{highest} MiB of {LIMIT} with a folder");
    let alerts = lines(&folder.path().join("alerts.jsonl"));
    assert!(!alerts.is_empty());
    assert!(!alerts.iter().any(|alert| gaps(alert).contains("are not shown")), "a transaction was lost");
}
