//! Exactly once from Kafka to Kafka, whatever kills the process and whenever.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use manumit_tests::kafka::Kafka;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::nordbank::Nordbank;
use crate::program::{assert_same, feed_on, finish, lines, manumit, parsed, told, with_kafka};

/// Kills of a run, and their seed: `MANUMIT_FAULT_KILLS` and `MANUMIT_FAULT_SEED` ask for more and for others.
pub fn asked(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The bank's records as a bad day brings them: out of order within the feed's lateness and beyond, some twice, some broken.
pub fn bad_day(bank: &Nordbank, rng: &mut ChaCha8Rng) -> Vec<(String, String)> {
    let mut records = bank.records.clone();
    for at in 0..records.len().saturating_sub(400) {
        match rng.random_range(0..1_000) {
            0..10 => {
                let again = records[at].clone();
                records.insert(at + 200, again);
            }
            10..15 => {
                let half = records[at].1.floor_char_boundary(records[at].1.len() / 2);
                records[at].1.truncate(half);
            }
            15..60 => records.swap(at, at + 7),
            60..62 => records.swap(at, at + 390),
            _ => {}
        }
    }
    records
}

pub struct Outcome {
    pub alerts: BTreeMap<(String, u64), Value>,
    pub others: BTreeMap<&'static str, Vec<String>>,
}

const TOPICS: [&str; 3] = ["hits", "dead", "late"];

#[derive(Clone)]
pub struct Run<'a> {
    pub bank: &'a Nordbank,
    pub kafka: &'a Kafka,
    pub name: &'static str,
    /// What the names of its folders begin with.
    pub folders: &'static str,
    pub feed: String,
    pub environment: Vec<(String, String)>,
}

impl<'a> Run<'a> {
    pub fn new(bank: &'a Nordbank, kafka: &'a Kafka, input: &str, name: &'static str) -> Run<'a> {
        for topic in ["alerts", "urgent", "hits", "dead", "late"] {
            kafka.topic(&format!("{name}-{topic}"), 3);
        }
        let mut environment = with_kafka(bank, kafka, name);
        environment.push(("MANUMIT_CHECKPOINT_EVERY".into(), "300 milliseconds".into()));
        // A run that reads to the end knows no idle partitions, and is what services are compared with: none must be idle there
        // because a test took its time.
        environment.push(("MANUMIT_IDLE_AFTER".into(), "1 hour".into()));
        Run { bank, kafka, name, folders: name, feed: feed_on(bank, input), environment }
    }

    pub fn command(&self, more: &[&str]) -> Command {
        let name = self.name;
        let [alerts, urgent, hits, dead, late] =
            ["alerts", "urgent", "hits", "dead", "late"].map(|topic| format!("kafka:{name}-{topic}"));
        let [archive, checkpoints, ledger] =
            ["archive", "checkpoints", "ledger"].map(|what| format!("{}-{what}", self.folders));
        let arguments =
            ["run", "--feed", &self.feed, "--alerts", &alerts, "--hits", &hits, "--dead-letters", &dead];
        let where_to = [
            "--urgent",
            &urgent,
            "--late",
            &late,
            "--archive",
            &archive,
            "--checkpoints",
            &checkpoints,
            "--ledger",
            &ledger,
        ];
        manumit(self.bank.folder.path(), &[&arguments[..], &where_to, more].concat(), &self.environment)
    }

    /// What became of the records, by partition and in words; all sums hold.
    pub fn ledger(&self) -> BTreeMap<u64, BTreeMap<&'static str, u64>> {
        let folder = format!("{}-ledger", self.folders);
        let asked = ["status", "--ledger", &folder, "--json"];
        let output = manumit(self.bank.folder.path(), &asked, &[]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        // Of all days, should a midnight lie between them.
        let mut partitions: BTreeMap<u64, BTreeMap<&'static str, u64>> = BTreeMap::new();
        for file in std::fs::read_dir(self.bank.path(&folder)).unwrap() {
            for line in lines(&file.unwrap().path()).iter().filter(|line| line["kind"] == "partition") {
                assert_eq!(line["balances"], true, "{line}");
                let counts = partitions.entry(line["partition"].as_u64().unwrap()).or_default();
                for name in ["read", "further", "filtered", "duplicates", "late", "evaluated"] {
                    *counts.entry(name).or_default() += line[name].as_u64().unwrap();
                }
                let dead = line["dead_letters"].as_object().unwrap().values();
                *counts.entry("dead").or_default() += dead.map(|dead| dead.as_u64().unwrap()).sum::<u64>();
            }
        }
        partitions
    }

    /// Records that the ledger counts; while a service runs, up to its last commit at least.
    pub fn ledger_reads(&self) -> u64 {
        let there = self.bank.path(&format!("{}-ledger", self.folders));
        let none = std::fs::read_dir(there).map_or(0, Iterator::count) == 0;
        if none { 0 } else { self.ledger().values().map(|counts| counts["read"]).sum() }
    }

    pub fn outcome(&self) -> Outcome {
        let read = |topic: &str| self.kafka.read(&format!("{}-{topic}", self.name));
        let alerts = told(parsed(read("alerts").iter().map(Vec::as_slice)));
        // The urgent ones came by their own way as well, each once, and no others.
        let urgent = told(parsed(read("urgent").iter().map(Vec::as_slice)));
        let of_all = alerts.iter().filter(|(_, alert)| alert["urgent"] == true);
        assert_eq!(urgent, of_all.map(|(id, alert)| (id.clone(), alert.clone())).collect());
        let others = TOPICS.map(|topic| {
            let mut all: Vec<String> =
                read(topic).iter().map(|message| String::from_utf8_lossy(message).into_owned()).collect();
            if topic == "dead" {
                // When it was read differs.
                all = all.iter().map(|letter| timeless(letter)).collect();
            }
            all.sort();
            (topic, all)
        });
        Outcome { alerts, others: others.into() }
    }
}

fn timeless(letter: &str) -> String {
    let mut letter: Value = serde_json::from_str(letter).unwrap();
    letter.as_object_mut().unwrap().retain(|name, _| name != "at" && name != "received_at");
    letter.to_string()
}

pub fn assert_equal(a: &Outcome, b: &Outcome, what: &str) {
    assert_same(&a.alerts, &b.alerts, what);
    for topic in TOPICS {
        let (ours, theirs) = (&a.others[topic], &b.others[topic]);
        assert_eq!(ours.len(), theirs.len(), "{what}: {topic}");
        assert!(ours == theirs, "{what}: {topic} differ");
    }
}

/// The ledger counts every record that was sent, once, and as an undisturbed run's does.
pub fn assert_balanced(run: &Run<'_>, calm: &Run<'_>, records: usize) {
    let (ours, theirs) = (run.ledger(), calm.ledger());
    assert_eq!(ours, theirs, "the ledgers of {} and {}", run.name, calm.name);
    assert_eq!(ours.values().map(|counts| counts["read"]).sum::<u64>(), records as u64, "{ours:?}");
}

/// How long it took from each kill to the next commit, where no other kill came before it.
fn recoveries(kills: &[Instant], commits: &[(String, Instant)]) -> Vec<Duration> {
    // What the killed process had asked for may still be seen a moment later.
    let after =
        |kill: Instant| commits.iter().map(|(_, at)| *at).find(|at| *at > kill + Duration::from_millis(100));
    let next = kills.iter().skip(1).copied().map(Some).chain([None]);
    let of = |(kill, next): (&Instant, Option<Instant>)| {
        after(*kill).filter(|at| next.is_none_or(|next| *at < next)).map(|at| at - *kill)
    };
    let mut all: Vec<Duration> = kills.iter().zip(next).filter_map(of).collect();
    all.sort();
    all
}

/// Every revision published stands in the log once, with its content, and nothing else does.
fn the_log_is_of_what_was_published(run: &Run<'_>, log: &str) {
    let published = run.kafka.read(&format!("{}-alerts", run.name));
    let mut text = published.join(&b'\n');
    text.push(b'\n');
    std::fs::write(run.bank.path("published.jsonl"), text).unwrap();
    let verify = ["verify-log", log, "--alerts", "published.jsonl"];
    let output = manumit(run.bank.folder.path(), &verify, &[]).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains(&format!("{} records are whole", published.len())), "{said}");
    assert!(said.contains(&format!("{} alert revisions", published.len())), "{said}");
}

#[test]
fn a_service_killed_again_and_again_publishes_what_an_undisturbed_one_does_each_once() {
    let bank = Nordbank::new(1_200, 2);
    let mut rng = ChaCha8Rng::seed_from_u64(asked("MANUMIT_FAULT_SEED", 5));
    let records = bad_day(&bank, &mut rng);
    // One of its own, as it is stopped and killed, too.
    let kafka = &Kafka::start();
    kafka.topic("bad-day", 12);
    let rough = Run::new(&bank, kafka, "bad-day", "rough");
    let kills = asked("MANUMIT_FAULT_KILLS", 8) as usize;
    let mut killed = Vec::new();
    let watch = kafka.watch("rough", "bad-day", 12);
    std::thread::scope(|scope| {
        // Each kill meets new records; who sends them waits for a broker that is away, kills do not.
        let (more, wanted) = channel();
        let parts = records.chunks(records.len().div_ceil(kills + 1));
        scope.spawn(move || {
            for part in parts {
                kafka.send("bad-day", part.iter().map(|(key, record)| (key.as_str(), record.as_bytes())));
                // When all kills are done, the rest comes at once.
                let _ = wanted.recv();
            }
        });
        let mut trouble = None;
        while killed.len() < kills {
            let stops = killed.len() == kills / 3;
            if stops || killed.len() == 2 * kills / 3 {
                trouble.take().map(ScopedJoinHandle::join);
                let (before, away) = (rng.random_range(0..2_000), rng.random_range(0..3_000));
                trouble = Some(scope.spawn(move || {
                    std::thread::sleep(Duration::from_millis(before));
                    let began = Instant::now();
                    if stops {
                        kafka.stop(0)
                    } else {
                        kafka.kill(0)
                    }
                    std::thread::sleep(Duration::from_millis(away));
                    kafka.revive(0);
                    let how = if stops { "stopped" } else { "killed" };
                    println!("the broker was {how}, and started again after {:?}", began.elapsed());
                }));
            }
            let mut command = rough.command(&["--alert-log", "rough-log.jsonl"]);
            let log = std::fs::File::create(bank.path("rough.log")).unwrap();
            let mut service = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(rng.random_range(300..2_500)));
            assert!(service.try_wait().unwrap().is_none(), "it ended by itself\n{}", {
                std::fs::read_to_string(bank.path("rough.log")).unwrap()
            });
            service.kill().unwrap();
            service.wait().unwrap();
            killed.push(Instant::now());
            let _ = more.send(());
        }
    });
    let began = Instant::now();
    let summary = finish(rough.command(&["--until-end", "--alert-log", "rough-log.jsonl"]));
    println!("the last run took {:?}:\n{summary}", began.elapsed());
    let recovered = recoveries(&killed, &watch.notes());
    let at = |part: usize| recovered.get((recovered.len().saturating_sub(1)) * part / 2);
    println!(
        "of {kills} kills {} had a commit before the next kill; from kill to commit, least, median, most: {:?} {:?} {:?}",
        recovered.len(),
        at(0),
        at(1),
        at(2)
    );
    assert!(!recovered.is_empty(), "no run came to a commit");
    assert_eq!(kafka.committed("rough", "bad-day", 12), records.len() as i64);

    let calm = Run::new(&bank, kafka, "bad-day", "calm");
    let summary = finish(calm.command(&["--until-end"]));
    println!("undisturbed:\n{summary}");
    let wanted = calm.outcome();
    assert!(wanted.alerts.len() > 10, "{} alerts", wanted.alerts.len());
    assert!(TOPICS.iter().all(|topic| wanted.others[topic].len() > 50), "{:?}", {
        TOPICS.map(|topic| (topic, wanted.others[topic].len()))
    });
    assert_equal(&rough.outcome(), &wanted, "killed");
    assert_balanced(&rough, &calm, records.len());
    the_log_is_of_what_was_published(&rough, "rough-log.jsonl");
    forgotten_offsets_are_not_taken_for_a_new_history(&rough, &wanted);
    let (said, code) = {
        let output =
            manumit(bank.folder.path(), &["checkpoint", "verify", "--checkpoints", "rough-checkpoints"], &[])
                .output()
                .unwrap();
        (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
    };
    assert_eq!(code, Some(0), "{said}");
}

/// As if the group's offsets had expired: another group with these checkpoints.
fn forgotten_offsets_are_not_taken_for_a_new_history(run: &Run<'_>, wanted: &Outcome) {
    let mut environment = run.environment.clone();
    environment.push(("MANUMIT_KAFKA_GROUP".into(), "forgotten".into()));
    let command = |more: &[&str]| {
        let mut command = run.command(more);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command
    };
    let output = command(&["--until-end"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("--from-checkpoint"), "{said}");
    let said = finish(command(&["--until-end", "--from-checkpoint"]));
    assert!(said.contains("0 records read"), "{said}");
    assert_equal(&run.outcome(), wanted, "forgotten");
}

/// Reads what there is as a service does, and is stopped in order.
pub fn serve_for_a_while(run: &Run<'_>, topic: &str, wanted: i64) {
    let mut service = run.command(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(90);
    while run.kafka.committed(run.name, topic, 12) < wanted {
        assert!(Instant::now() < deadline, "{}", run.kafka.committed(run.name, topic, 12));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(Command::new("kill").args(["-TERM", &service.id().to_string()]).status().unwrap().success());
    assert!(service.wait().unwrap().success());
}

#[test]
fn damaged_or_lost_checkpoints_are_said_and_change_nothing() {
    let bank = Nordbank::new(120, 1);
    let mut rng = ChaCha8Rng::seed_from_u64(asked("MANUMIT_FAULT_SEED", 5));
    let records = bad_day(&bank, &mut rng);
    let kafka = Kafka::shared();
    let send = |topic: &str, part: &[(String, String)]| {
        kafka.send(topic, part.iter().map(|(key, record)| (key.as_str(), record.as_bytes())));
    };
    let third = records.len() / 3;
    kafka.topic("damage", 12);
    let rough = Run::new(&bank, kafka, "damage", "damage-run");
    let checkpoints = bank.path("damage-run-checkpoints");
    let newest = || {
        let mut files: Vec<_> =
            std::fs::read_dir(&checkpoints).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.pop().unwrap()
    };
    send("damage", &records[..third]);
    serve_for_a_while(&rough, "damage", third as i64);
    let damaged = newest();
    let mut bytes = std::fs::read(&damaged).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&damaged, &bytes).unwrap();
    let verify = ["checkpoint", "verify", "--checkpoints", "damage-run-checkpoints"];
    let listed = manumit(bank.folder.path(), &verify, &[]).output().unwrap();
    let said = String::from_utf8_lossy(&listed.stdout);
    assert!(!listed.status.success() && said.contains("1 of them damaged"), "{said}");

    send("damage", &records[third..2 * third]);
    serve_for_a_while(&rough, "damage", 2 * third as i64);
    std::fs::remove_dir_all(&checkpoints).unwrap();

    send("damage", &records[2 * third..]);
    let said = finish(rough.command(&["--until-end"]));
    assert!(said.contains("no checkpoint can be used"), "{said}");
    let calm = Run::new(&bank, kafka, "damage", "damage-calm");
    finish(calm.command(&["--until-end"]));
    let wanted = calm.outcome();
    assert!(!wanted.alerts.is_empty() && wanted.others["hits"].len() > 100);
    assert_equal(&rough.outcome(), &wanted, "damaged");

    // Without its rows, too, nothing can be made again: that is said, and nothing is published.
    std::fs::remove_dir_all(&checkpoints).unwrap();
    std::fs::remove_dir_all(bank.path("damage-run-archive")).unwrap();
    let output = rough.command(&["--until-end"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("--from-beginning"), "{said}");
    assert_equal(&rough.outcome(), &wanted, "refused");
}

#[test]
fn an_instance_that_was_thought_dead_is_fenced() {
    let bank = Nordbank::new(60, 1);
    let kafka = Kafka::shared();
    kafka.topic("fence", 12);
    let send = |part: &[(String, String)]| {
        kafka.send("fence", part.iter().map(|(key, record)| (key.as_str(), record.as_bytes())));
    };
    let half = bank.records.len() / 2;
    send(&bank.records[..half]);
    let run = Run::new(&bank, kafka, "fence", "fence-run");
    let first = run.command(&[]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while kafka.committed("fence-run", "fence", 12) < half as i64 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(100));
    }
    // It sleeps while the other one takes over, as a machine does that was cut off: of two archives each has its own.
    let signal = |which: &str| {
        assert!(Command::new("kill").args([which, &first.id().to_string()]).status().unwrap().success());
    };
    signal("-STOP");
    for folder in ["archive", "checkpoints"] {
        let copied = Command::new("cp")
            .arg("-r")
            .args([bank.path(&format!("fence-run-{folder}")), bank.path(&format!("other-{folder}"))])
            .status();
        assert!(copied.unwrap().success());
    }
    send(&bank.records[half..]);
    let other = Run { folders: "other", feed: run.feed.clone(), environment: run.environment.clone(), ..run };
    finish(other.command(&["--until-end"]));
    signal("-CONT");
    let output = first.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("has taken over"), "{said}");

    let calm = Run::new(&bank, kafka, "fence", "fence-calm");
    finish(calm.command(&["--until-end"]));
    assert_same(&calm.outcome().alerts, &other.outcome().alerts, "fenced");
}
