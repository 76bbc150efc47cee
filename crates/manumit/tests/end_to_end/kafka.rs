//! From Apache Kafka to Apache Kafka.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use manumit_tests::kafka::Kafka;

use crate::nordbank::Nordbank;
use crate::program::{FEED, assert_same, feed_on, finish, lines, manumit, parsed, told, with_kafka};

pub fn send(kafka: &Kafka, topic: &str, records: &[(String, String)]) {
    kafka.send(topic, records.iter().map(|(key, record)| (key.as_str(), record.as_bytes())));
}

#[test]
fn a_million_records_give_the_same_alerts_from_a_file_and_from_1_or_12_partitions() {
    let bank = Nordbank::new(8_000, 4);
    assert!(bank.records.len() >= 1_000_000, "{}", bank.records.len());
    let mut runs = Vec::new();
    for threads in ["1", "2"] {
        let alerts = format!("alerts-{threads}.jsonl");
        let arguments =
            ["run", "--feed", FEED, "--from", "records.jsonl", "--alerts", &alerts, "--threads", threads];
        let summary = finish(manumit(bank.folder.path(), &arguments, &bank.environment()));
        println!("from a file, {threads} threads:\n{summary}");
        runs.push(told(lines(&bank.path(&alerts))));
    }
    assert!(runs[0].len() > 30, "{} alerts", runs[0].len());
    assert_same(&runs[0], &runs[1], "1 and 2 threads");
    let kafka = Kafka::shared();
    for partitions in [1, 12] {
        let topic = format!("million-{partitions}");
        let alerts = format!("{topic}-alerts");
        kafka.topic(&topic, partitions);
        kafka.topic(&alerts, 3);
        send(kafka, &topic, &bank.records);
        let feed = feed_on(&bank, &topic);
        let to = format!("kafka:{alerts}");
        let arguments = ["run", "--feed", &feed, "--until-end", "--alerts", &to];
        let summary = finish(manumit(bank.folder.path(), &arguments, &with_kafka(&bank, kafka, &topic)));
        println!("{partitions} partitions:\n{summary}");
        let published = kafka.read(&alerts);
        let from_kafka = told(parsed(published.iter().map(Vec::as_slice)));
        assert_same(&runs[0], &from_kafka, &topic);
        assert_eq!(kafka.committed(&topic, &topic, partitions), bank.records.len() as i64);
    }
}

#[test]
fn a_service_told_to_stop_commits_what_it_evaluated_and_the_next_one_reads_on() {
    let bank = Nordbank::new(60, 1);
    let kafka = Kafka::shared();
    kafka.topic("stop", 2);
    kafka.topic("stop-late", 1);
    let half = bank.records.len() / 2;
    send(kafka, "stop", &bank.records[..half]);
    let feed = feed_on(&bank, "stop");
    let arguments = [
        "run",
        "--feed",
        &feed,
        "--alerts",
        "alerts.jsonl",
        "--late",
        "kafka:stop-late",
        "--listen",
        "127.0.0.1:0",
    ];
    let mut environment = with_kafka(&bank, kafka, "stop");
    environment.push(("MANUMIT_IDLE_AFTER".into(), "1 seconds".into()));
    let mut evaluated = 0;
    for part in 0..2 {
        if part == 1 {
            send(kafka, "stop", &bank.records[half..]);
        }
        let mut service =
            manumit(bank.folder.path(), &arguments, &environment).stderr(Stdio::piped()).spawn().unwrap();
        let mut told = BufReader::new(service.stderr.take().unwrap()).lines();
        let address = told
            .by_ref()
            .map(|line| line.unwrap())
            .find_map(|line| Some(line.strip_prefix("metrics on http://")?.split_once('/')?.0.to_string()))
            .expect("the service says where its metrics are");
        let wanted = if part == 0 { half } else { bank.records.len() - half };
        let deadline = Instant::now() + Duration::from_secs(60);
        // All but what the lateness bound holds back is evaluated while the service waits for more.
        while metric(&address, "manumit_rows_evaluated_total") < wanted as u64 {
            assert!(Instant::now() < deadline, "{}", metric(&address, "manumit_rows_evaluated_total"));
            std::thread::sleep(Duration::from_millis(100));
        }
        let stopped = std::process::Command::new("kill").args(["-TERM", &service.id().to_string()]).status();
        assert!(stopped.unwrap().success());
        let rest: Vec<String> = told.map(|line| line.unwrap()).collect();
        assert_eq!(service.wait().unwrap().code(), Some(0), "{rest:?}");
        evaluated += wanted;
        assert_eq!(kafka.committed("stop", "stop", 2), evaluated as i64, "{rest:?}");
    }
    assert!(kafka.read("stop-late").is_empty());
}

/// Sum over all labels of a counter.
pub fn metric(address: &str, name: &str) -> u64 {
    let of = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        (series.split('{').next() == Some(name)).then(|| value.parse::<f64>().ok())?
    };
    metrics(address).lines().filter_map(of).sum::<f64>() as u64
}

/// All metrics of a run, in Prometheus' text format.
pub fn metrics(address: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn reference_tables_from_topics_give_the_same_alerts_and_bad_messages_are_set_aside() {
    let bank = Nordbank::new(60, 1);
    let folder = bank.folder.path();
    let arguments = ["run", "--feed", FEED, "--from", "records.jsonl", "--alerts", "files.jsonl"];
    finish(manumit(folder, &arguments, &bank.environment()));
    let kafka = Kafka::shared();
    let mut environment = with_kafka(&bank, kafka, "reference");
    for (table, name) in
        [("accounts", "MANUMIT_REFERENCE_ACCOUNTS"), ("customers", "MANUMIT_REFERENCE_CUSTOMERS")]
    {
        let topic = format!("reference-{table}");
        kafka.topic(&topic, 3);
        let text = std::fs::read_to_string(bank.path(&format!("{table}.csv"))).unwrap();
        let mut lines = text.lines();
        let header: Vec<&str> = lines.next().unwrap().split(',').collect();
        let rows: Vec<(String, String)> = lines
            .map(|line| {
                let cells = header.iter().zip(line.split(',')).filter(|(_, cell)| !cell.is_empty());
                let row: serde_json::Map<String, serde_json::Value> =
                    cells.map(|(name, cell)| ((*name).to_string(), cell.into())).collect();
                (line.split(',').next().unwrap().to_string(), serde_json::Value::Object(row).to_string())
            })
            .collect();
        send(kafka, &topic, &rows);
        let bad = ["{\"account\":", "[1]", "{\"customer\":null,\"account\":null}", ""];
        kafka.send(&topic, bad.iter().map(|message| ("x", message.as_bytes())));
        environment.retain(|(known, _)| known != name);
        environment.push((name.into(), format!("kafka:{topic}")));
    }
    let arguments = ["run", "--feed", FEED, "--from", "records.jsonl", "--alerts", "topics.jsonl"];
    finish(manumit(folder, &arguments, &environment));
    let (files, topics) = (lines(&bank.path("files.jsonl")), lines(&bank.path("topics.jsonl")));
    assert!(files.len() > 8);
    assert_same(&told(files), &told(topics), "reference tables from topics");
    let letters = lines(&bank.path("dead-letters.jsonl"));
    assert_eq!(letters.len(), 6, "{letters:?}");
    assert!(letters.iter().all(|l| l["reason"] == "bad_reference_row"), "{letters:?}");
}

/// Typology, subject and opening time of each alert: what does not depend on how a bank names its payments.
fn opened(alerts: &[serde_json::Value]) -> BTreeSet<(String, String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_string();
    let all = alerts.iter();
    all.map(|a| (text(&a["typology"]["id"]), text(&a["subject"]["key"]), text(&a["opened_at"]["utc"])))
        .collect()
}

#[test]
fn two_feeds_on_three_topics_give_the_alerts_of_one_file() {
    let bank = Nordbank::new(60, 1);
    let folder = bank.folder.path();
    let arguments = ["run", "--feed", FEED, "--from", "records.jsonl", "--alerts", "one.jsonl"];
    finish(manumit(folder, &arguments, &bank.environment()));
    let one = opened(&lines(&bank.path("one.jsonl")));
    assert!(one.len() >= 8, "{}", one.len());

    let kafka = Kafka::shared();
    for (topic, partitions) in [("nord-a", 2), ("nord-b", 1), ("demo-bank", 3)] {
        kafka.topic(topic, partitions);
    }
    // Every account's payments come through all three topics.
    let part = |records: &[(String, String)], which: usize| -> Vec<(String, String)> {
        records.iter().enumerate().filter(|(n, _)| n % 3 == which).map(|(_, r)| r.clone()).collect()
    };
    send(kafka, "nord-a", &part(&bank.records, 0));
    send(kafka, "nord-b", &part(&bank.records, 1));
    send(kafka, "demo-bank", &part(&bank.demo_records, 2));
    let feed = feed_on(&bank, "nord-a");
    let text = std::fs::read_to_string(&feed).unwrap();
    std::fs::write(&feed, text.replace("[\"nord-a\"]", "[\"nord-a\", \"nord-b\"]")).unwrap();
    let arguments = ["run", "--feed", &feed, "--feed", "demo", "--until-end", "--alerts", "three.jsonl"];
    let summary = finish(manumit(folder, &arguments, &with_kafka(&bank, kafka, "feeds")));
    let records = bank.records.len();
    assert!(summary.contains(&format!("{records} evaluated, 0 late")), "{summary}");
    assert_eq!(opened(&lines(&bank.path("three.jsonl"))), one);
}

#[test]
fn the_demo_finds_the_same_through_kafka() {
    let kafka = Kafka::shared();
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut all = vec!["demo", "--customers", "100", "--networks", "1"];
        all.extend(arguments);
        let output = manumit(folder.path(), &all, &[]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let told = String::from_utf8(output.stdout).unwrap();
        let table: Vec<String> = told.lines().take_while(|line| !line.is_empty()).map(String::from).collect();
        assert!(table.len() > 10 && told.contains("ALERT"), "{told}");
        table
    };
    assert_eq!(run(&["--kafka", &kafka.brokers]), run(&[]));
}
