//! Every record is accounted for: while a service runs, after it, and over a restart; and a sum that does not hold stops it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use manumit_tests::kafka::Kafka;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::nordbank::Nordbank;
use crate::program::{feed_on, finish, lines, manumit, with_kafka};

struct Service<'a> {
    bank: &'a Nordbank,
    kafka: &'a Kafka,
    topic: &'static str,
    feed: String,
    environment: Vec<(String, String)>,
}

impl<'a> Service<'a> {
    fn new(bank: &'a Nordbank, kafka: &'a Kafka, topic: &'static str) -> Service<'a> {
        kafka.topic(topic, 3);
        kafka.topic(&format!("{topic}-alerts"), 1);
        let mut environment = with_kafka(bank, kafka, topic);
        environment.push(("MANUMIT_CHECKPOINT_EVERY".into(), "300 milliseconds".into()));
        environment.push(("MANUMIT_IDLE_AFTER".into(), "1 seconds".into()));
        Service { bank, kafka, topic, feed: feed_on(bank, topic), environment }
    }

    fn send(&self, part: &[(String, String)]) {
        self.kafka.send(self.topic, part.iter().map(|(key, record)| (key.as_str(), record.as_bytes())));
    }

    fn command(&self, more: &[&str]) -> Command {
        let alerts = format!("kafka:{}-alerts", self.topic);
        let arguments = ["run", "--feed", &self.feed, "--alerts", &alerts, "--ledger", "ledger"];
        let folders = ["--archive", "archive", "--checkpoints", "checkpoints"];
        manumit(self.bank.folder.path(), &[&arguments[..], &folders, more].concat(), &self.environment)
    }

    fn committed(&self) -> i64 {
        self.kafka.committed(self.topic, self.topic, 3)
    }
}

fn status(folder: &Path, arguments: &[&str]) -> (String, String, bool) {
    let output = manumit(folder, &[&["status"], arguments].concat(), &[]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.success())
}

/// A number of all partitions of a status.
fn sum(status: &Value, name: &str) -> u64 {
    status["partitions"].as_array().unwrap().iter().map(|line| line[name].as_u64().unwrap()).sum()
}

/// A number of all partitions in all days of the ledger folder.
fn in_files(bank: &Nordbank, name: &str) -> u64 {
    let files = std::fs::read_dir(bank.path("ledger")).unwrap().map(|entry| entry.unwrap().path());
    let lines = files.flat_map(|file| lines(&file));
    lines.filter(|line| line["kind"] == "partition").map(|line| line[name].as_u64().unwrap()).sum()
}

#[test]
fn a_service_tells_what_became_of_every_record_while_it_runs_and_afterwards() {
    let bank = Nordbank::new(60, 1);
    let kafka = Kafka::shared();
    let service = Service::new(&bank, kafka, "told");
    let half = bank.records.len() / 2;
    service.send(&bank.records[..half]);
    // A copy and two that are broken.
    service.send(&bank.records[half - 1..half]);
    service.send(&[(bank.records[0].0.clone(), "{".into()), (bank.records[0].0.clone(), "[]".into())]);
    let mut running = service
        .command(&["--listen", "127.0.0.1:0"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(running.stderr.take().unwrap()).lines();
    let address = told
        .by_ref()
        .map(|line| line.unwrap())
        .find_map(|line| Some(line.strip_prefix("metrics on http://")?.split_once('/')?.0.to_string()))
        .unwrap();
    let rest = std::thread::spawn(move || told.map(|line| line.unwrap()).collect::<Vec<_>>().join("\n"));
    let folder = bank.folder.path();
    let deadline = Instant::now() + Duration::from_secs(60);
    let state = loop {
        let (json, said, well) = status(folder, &["--listen", &address, "--json"]);
        assert!(well, "{json}{said}");
        let state: Value = serde_json::from_str(&json).unwrap();
        if sum(&state, "evaluated") == half as u64 && state["checkpoint"]["at"].is_string() {
            break state;
        }
        assert!(Instant::now() < deadline, "{json}");
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(
        (sum(&state, "read"), sum(&state, "duplicates"), sum(&state, "waiting")),
        (half as u64 + 3, 1, 0)
    );
    let dead = |reason: &str| -> u64 {
        let lines = state["partitions"].as_array().unwrap();
        lines.iter().filter_map(|line| line["dead_letters"][reason].as_u64()).sum()
    };
    assert_eq!((dead("not_json"), dead("wrong_shape"), &state["running"]), (1, 1, &true.into()));
    let alerts = &state["alerts"];
    let number = |name: &str| alerts[name].as_u64().unwrap();
    assert!(
        number("published") > 0 && number("raised") == number("published") + number("suppressed"),
        "{alerts}"
    );
    let (table, _, _) = status(folder, &["--listen", &address]);
    assert!(
        table.contains("running, manumit") && table.contains("told:2") && table.contains("1 not_json"),
        "{table}"
    );
    assert!(!table.contains("WRONG") && table.contains("last checkpoint"), "{table}");

    assert!(Command::new("kill").args(["-TERM", &running.id().to_string()]).status().unwrap().success());
    assert!(running.wait().unwrap().success());
    let said = rest.join().unwrap();
    assert!(said.contains("1 duplicates dropped"), "{said}");
    // Nobody answers any more: the last ledger does.
    let (table, _, well) = status(folder, &["--listen", &address, "--ledger", "ledger"]);
    assert!(well && table.contains("not running (no run answers") && table.contains("told:0"), "{table}");
    assert_eq!(in_files(&bank, "read"), half as u64 + 3);
    let (_, said, well) = status(folder, &["--listen", &address]);
    assert!(!well && said.contains("--listen") && said.contains("[ledger] folder"), "{said}");
    let (_, said, well) = status(folder, &[]);
    assert!(!well && said.contains("[server] listen"), "{said}");

    // The next run goes on with the same ledger.
    service.send(&bank.records[half..]);
    finish(service.command(&["--until-end"]));
    assert_eq!(in_files(&bank, "read"), bank.records.len() as u64 + 3);
    assert_eq!(in_files(&bank, "duplicates"), 1);
    // Partitions that had been idle wake one after another, so that some of their rows are late.
    assert_eq!(in_files(&bank, "evaluated") + in_files(&bank, "late"), bank.records.len() as u64);
    assert!(in_files(&bank, "evaluated") > half as u64);
    let newest = Value::Array(lines(&newest_file(&bank.path("ledger"))));
    assert!(newest.as_array().unwrap().iter().all(|line| line["balances"] == true), "{newest}");
}

fn newest_file(folder: &Path) -> PathBuf {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.pop().unwrap()
}

/// Changes the newest checkpoint, so that its checksum is right.
fn change_checkpoint(bank: &Nordbank, change: impl FnOnce(&mut Value)) {
    let path = newest_file(&bank.path("checkpoints"));
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, body) = text.split_once('\n').unwrap();
    let mut head: Value = serde_json::from_str(head).unwrap();
    let mut body: Value = serde_json::from_str(body).unwrap();
    change(&mut body);
    let body = body.to_string();
    head["bytes"] = body.len().into();
    head["sha256"] =
        Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect::<String>().into();
    std::fs::write(&path, format!("{head}\n{body}\n")).unwrap();
}

#[test]
fn a_ledger_that_does_not_balance_stops_the_run_before_anything_is_committed() {
    let bank = Nordbank::new(60, 1);
    let kafka = Kafka::shared();
    let service = Service::new(&bank, kafka, "unbalanced");
    let half = bank.records.len() / 2;
    service.send(&bank.records[..half]);
    finish(service.command(&["--until-end"]));
    let (committed, alerts) = (service.committed(), kafka.read("unbalanced-alerts").len());
    assert_eq!(committed, half as i64);
    service.send(&bank.records[half..]);
    let mut wrong = String::new();
    change_checkpoint(&bank, |body| {
        let account = &mut body["ledger"]["accounts"][1];
        account["read"] = (account["read"].as_u64().unwrap() + 7).into();
        wrong = format!("feed `nordbank`, `unbalanced` partition {}", account["partition"]);
    });
    let output = service.command(&["--until-end"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("the ledger does not balance"), "{said}");
    assert!(said.contains(&wrong) && said.contains("7"), "{said}");
    assert_eq!((service.committed(), kafka.read("unbalanced-alerts").len()), (committed, alerts));

    // A checkpoint of a program that kept none: the run begins a ledger.
    change_checkpoint(&bank, |body| {
        body.as_object_mut().unwrap().remove("ledger").unwrap();
    });
    finish(service.command(&["--until-end"]));
    assert_eq!(service.committed(), bank.records.len() as i64);
    let (json, said, well) = status(bank.folder.path(), &["--ledger", "ledger", "--json"]);
    assert!(well, "{json}{said}");
    let state: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(sum(&state, "read"), (bank.records.len() - half) as u64);
}
