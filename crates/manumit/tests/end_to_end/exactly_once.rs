//! Exactly once from Kafka to Kafka, whatever kills the process and whenever.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use manumit_tests::kafka::Kafka;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::nordbank::Nordbank;
use crate::program::{assert_same, feed_on, finish, manumit, parsed, told, with_kafka};

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
                let half = records[at].1.len() / 2;
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
        for topic in ["alerts", "hits", "dead", "late"] {
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
        let [alerts, hits, dead, late] =
            ["alerts", "hits", "dead", "late"].map(|topic| format!("kafka:{name}-{topic}"));
        let (archive, checkpoints) =
            (format!("{}-archive", self.folders), format!("{}-checkpoints", self.folders));
        let arguments =
            ["run", "--feed", &self.feed, "--alerts", &alerts, "--hits", &hits, "--dead-letters", &dead];
        let where_to = ["--late", &late, "--archive", &archive, "--checkpoints", &checkpoints];
        manumit(self.bank.folder.path(), &[&arguments[..], &where_to, more].concat(), &self.environment)
    }

    pub fn outcome(&self) -> Outcome {
        let read = |topic: &str| self.kafka.read(&format!("{}-{topic}", self.name));
        let alerts = told(parsed(read("alerts").iter().map(Vec::as_slice)));
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

#[test]
fn a_service_killed_again_and_again_publishes_what_an_undisturbed_one_does_each_once() {
    let bank = Nordbank::new(1_200, 2);
    let mut rng = ChaCha8Rng::seed_from_u64(asked("MANUMIT_FAULT_SEED", 5));
    let records = bad_day(&bank, &mut rng);
    let kafka = Kafka::shared();
    kafka.topic("bad-day", 12);
    kafka.send("bad-day", records.iter().map(|(key, record)| (key.as_str(), record.as_bytes())));

    let calm = Run::new(&bank, kafka, "bad-day", "calm");
    let summary = finish(calm.command(&["--until-end"]));
    println!("undisturbed:\n{summary}");
    let wanted = calm.outcome();
    assert!(wanted.alerts.len() > 10, "{} alerts", wanted.alerts.len());
    assert!(TOPICS.iter().all(|topic| wanted.others[topic].len() > 50), "{:?}", {
        TOPICS.map(|topic| (topic, wanted.others[topic].len()))
    });
    let rough = Run::new(&bank, kafka, "bad-day", "rough");
    let kills = asked("MANUMIT_FAULT_KILLS", 8);
    let (mut done, mut progress) = (0, Vec::new());
    while done < kills {
        let mut service = rough.command(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(rng.random_range(300..2_500)));
        assert!(service.try_wait().unwrap().is_none(), "it ended by itself");
        service.kill().unwrap();
        service.wait().unwrap();
        done += 1;
        progress.push(kafka.committed("rough", "bad-day", 12));
    }
    println!("committed at each kill: {progress:?} of {}", records.len());
    let began = Instant::now();
    let summary = finish(rough.command(&["--until-end"]));
    println!("the last run took {:?}:\n{summary}", began.elapsed());
    assert_eq!(kafka.committed("rough", "bad-day", 12), records.len() as i64);
    assert_equal(&rough.outcome(), &wanted, "killed");
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
