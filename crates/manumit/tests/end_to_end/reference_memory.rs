//! Reference tables from topics that are more than memory has room for, and topics that hold what no table can take.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use manumit_tests::kafka::Kafka;
use serde_json::{Value, json};

use crate::bombs::measured;
use crate::kafka::{metric, send};
use crate::nordbank::Nordbank;
use crate::program::{FEED, assert_same, feed_on, finish, lines, manumit, told, with_kafka};

/// The bank's accounts as messages.
fn accounts(bank: &Nordbank) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(bank.path("accounts.csv")).unwrap();
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let row = |line: &str| {
        let cells = header.iter().zip(line.split(',')).filter(|(_, cell)| !cell.is_empty());
        let row: serde_json::Map<String, Value> =
            cells.map(|(name, cell)| ((*name).to_string(), cell.into())).collect();
        (line.split(',').next().unwrap().to_string(), Value::Object(row).to_string())
    };
    lines.map(row).collect()
}

/// Accounts that nobody pays from.
fn strangers(numbers: std::ops::Range<usize>) -> Vec<(String, String)> {
    let row = |n: usize| {
        let account = format!("XX{n:020}");
        let row =
            json!({ "account": account, "customer": format!("stranger-{n:012}"), "product": "current" });
        (account, row.to_string())
    };
    numbers.map(row).collect()
}

/// The bank's environment with its accounts from a topic.
fn from_topic(bank: &Nordbank, topic: &str, mib: usize) -> Vec<(String, String)> {
    let mut environment = with_kafka(bank, Kafka::shared(), topic);
    environment.retain(|(name, _)| name != "MANUMIT_REFERENCE_ACCOUNTS");
    environment.push(("MANUMIT_REFERENCE_ACCOUNTS".into(), format!("kafka:{topic}")));
    environment.push(("MANUMIT_LIMITS_REFERENCE".into(), format!("{mib} MiB")));
    environment
}

#[test]
fn rows_of_reference_topics_that_memory_has_no_room_for_are_refused_and_what_is_known_stays() {
    let bank = Nordbank::new(60, 1);
    let folder = bank.folder.path();
    let run = ["run", "--feed", FEED, "--from", "records.jsonl", "--alerts"];
    finish(manumit(folder, &[&run[..], &["files.jsonl"]].concat(), &bank.environment()));
    let kafka = Kafka::shared();
    let topic = "reference-full";
    kafka.topic(topic, 1);
    let ours = accounts(&bank);
    send(kafka, topic, &ours);
    send(kafka, topic, &strangers(0..20_000));
    // What is known may change, however full it is.
    send(kafka, topic, &ours);
    let said = finish(manumit(folder, &[&run[..], &["topic.jsonl"]].concat(), &from_topic(&bank, topic, 1)));
    let told_of = "memory for reference tables is full: rows of keys that are not known are refused";
    assert_eq!(said.matches(told_of).count(), 1, "{said}");
    let refused: usize = said
        .lines()
        .find_map(|line| line.split_once(" rows of reference topics were refused")?.0.parse().ok())
        .unwrap_or_else(|| panic!("{said}"));
    assert!(refused > 10_000 && refused < 20_000, "{refused}");
    let letters = lines(&bank.path("dead-letters.jsonl"));
    assert_eq!(letters.len(), 1_000, "the first ones tell what there is to tell");
    for letter in &letters {
        assert_eq!(
            (&letter["reason"], &letter["feed"]),
            (&json!("reference_full"), &json!("reference:accounts"))
        );
        assert!(letter["raw"].as_str().unwrap().contains("stranger-"), "{letter}");
    }
    let (files, mut topic) = (lines(&bank.path("files.jsonl")), lines(&bank.path("topic.jsonl")));
    assert!(files.len() > 8);
    for alert in &mut topic {
        let gaps = alert["data_gaps"].as_array_mut().unwrap();
        let before = gaps.len();
        gaps.retain(|gap| !gap.as_str().unwrap().contains("memory for reference tables is full"));
        assert_eq!(gaps.len(), before - 1, "{gaps:?}");
    }
    assert_same(&told(files), &told(topic), "the bank's own accounts are known");
}

#[test]
fn a_reference_topic_that_goes_on_growing_stays_within_its_memory_and_the_service_goes_on() {
    let bank = Nordbank::new(60, 1);
    let kafka = Kafka::shared();
    let (topic, table) = ("reference-grows", "reference-grows-accounts");
    kafka.topic(topic, 1);
    kafka.topic(table, 2);
    send(kafka, table, &accounts(&bank));
    let half = bank.records.len() / 2;
    send(kafka, topic, &bank.records[..half]);
    let feed = feed_on(&bank, topic);
    let arguments = ["run", "--feed", &feed, "--alerts", "alerts.jsonl", "--listen", "127.0.0.1:0"];
    let mut environment = from_topic(&bank, table, 16);
    environment.push(("MANUMIT_IDLE_AFTER".into(), "1 seconds".into()));
    let mut service = manumit(bank.folder.path(), &arguments, &environment);
    let mut service = service.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(service.stderr.take().unwrap()).lines().map(Result::unwrap);
    let address = said
        .by_ref()
        .find_map(|line| Some(line.strip_prefix("metrics on http://")?.split_once('/')?.0.to_string()))
        .expect("the service says where its metrics are");
    let wait = |what: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !what() {
            assert!(Instant::now() < deadline, "{}", crate::kafka::metrics(&address));
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let taken = || {
        let all = crate::kafka::metrics(&address);
        let line =
            all.lines().find_map(|line| line.strip_prefix("manumit_memory_bytes{part=\"reference\"} "));
        line.map_or(0, |bytes| bytes.parse::<u64>().unwrap())
    };
    wait(&|| metric(&address, "manumit_rows_evaluated_total") >= half as u64);
    assert!(metric(&address, "manumit_reference_rows_refused") == 0 && taken() > 10_000, "{}", taken());
    send(kafka, table, &strangers(0..200_000));
    // Tables are looked at when there are rows.
    send(kafka, topic, &bank.records[half..]);
    wait(&|| metric(&address, "manumit_rows_evaluated_total") >= bank.records.len() as u64);
    let mut more = 0;
    wait(&|| metric(&address, "manumit_dead_letters_total") >= 1_000);
    while metric(&address, "manumit_reference_rows_refused") < 50_000 {
        // A row that is there already: so that the service looks.
        send(kafka, topic, &bank.records[more..=more]);
        more += 1;
        assert!(more < 600, "{}", crate::kafka::metrics(&address));
        std::thread::sleep(Duration::from_millis(100));
    }
    // What tables from files take, customers here, comes on top.
    assert!(taken() > 14 << 20 && taken() < 17 << 20, "{} bytes", taken());
    let stopped = std::process::Command::new("kill").args(["-TERM", &service.id().to_string()]).status();
    assert!(stopped.unwrap().success());
    let rest: Vec<String> = said.collect();
    assert_eq!(service.wait().unwrap().code(), Some(0), "{rest:?}");
    let full = |line: &&String| line.contains("memory for reference tables is full: rows of keys");
    assert_eq!(rest.iter().filter(full).count(), 1, "{rest:?}");
}

#[test]
fn a_million_rows_of_a_reference_topic_take_no_more_than_is_reckoned_for_them() {
    let bank = Nordbank::new(60, 1);
    let folder = bank.folder.path();
    let kafka = Kafka::shared();
    let run = ["run", "--feed", FEED, "--from", "records.jsonl", "--alerts", "alerts.jsonl"];
    let mut most = Vec::new();
    for (topic, rows) in [("reference-none", 0), ("reference-million", 1_000_000)] {
        kafka.topic(topic, 4);
        send(kafka, topic, &accounts(&bank));
        for start in (0..rows).step_by(100_000) {
            send(kafka, topic, &strangers(start..start + 100_000));
        }
        let (said, held) = measured(manumit(folder, &run, &from_topic(&bank, topic, 128)), folder);
        assert_eq!(said.contains("rows of reference topics were refused"), rows > 0, "{said}");
        most.push(held);
    }
    eprintln!("a million accounts in 128 MiB: {} MiB held at most; without them {} MiB", most[1], most[0]);
    // Twice what they may take, and their reader, as `manumit explain --memory` says.
    assert!(most[1] < most[0] + 2 * 128 + 48, "{most:?} MiB");
}

#[test]
fn batches_of_reference_topics_that_cannot_be_unfolded_and_rows_without_measure_are_set_aside() {
    let bank = Nordbank::new(60, 1);
    let folder = bank.folder.path();
    let run = ["run", "--feed", FEED, "--from", "records.jsonl", "--alerts"];
    finish(manumit(folder, &[&run[..], &["files.jsonl"]].concat(), &bank.environment()));
    let kafka = Kafka::shared();
    let topic = "reference-bombs";
    kafka.topic(topic, 1);
    let ours = accounts(&bank);
    let (first, second) = ours.split_at(ours.len() / 2);
    let bomb =
        |mib: usize| json!({ "account": "A", "customer": "x".repeat(mib << 20) }).to_string().into_bytes();
    send(kafka, topic, first);
    kafka.send_folded(topic, "gzip", &[&bomb(100)]);
    kafka.send_folded(topic, "zstd", &[&bomb(150)]);
    send(kafka, topic, second);
    let (said, most) = measured(
        manumit(folder, &[&run[..], &["topic.jsonl"]].concat(), &from_topic(&bank, topic, 16)),
        folder,
    );
    eprintln!("{most} MiB held at most");
    let letters = lines(&bank.path("dead-letters.jsonl"));
    let reasons: Vec<&str> = letters.iter().map(|letter| letter["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["oversized", "not_unfolded"], "{said}");
    assert!(letters[0]["raw_bytes"].as_u64() > Some(100 << 20) && letters[0]["raw_truncated"] == true);
    let (files, topic) = (lines(&bank.path("files.jsonl")), lines(&bank.path("topic.jsonl")));
    assert_same(&told(files), &told(topic), "the rows around them are there");
}

#[test]
fn what_reference_tables_may_take_is_told_before_a_run_and_checked() {
    let bank = Nordbank::new(60, 1);
    let folder = bank.folder.path();
    let explain = |environment: &[(String, String)]| {
        let done = manumit(folder, &["explain", "--memory"], environment).output().unwrap();
        let text =
            [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        (done.status.success(), text)
    };
    let (well, table) = explain(&from_topic(&bank, "not-asked", 64));
    // Twice 64, a reader with 16, and 32 for rows on their way. Customers come from a file.
    let row = table.lines().find(|line| line.contains("reference tables from topics")).unwrap_or_default();
    assert!(well && row.contains("176 MiB") && row.contains("dead letters"), "{table}");
    assert!(table.contains("reference tables from files"), "{table}");
    let mut wrong = bank.environment();
    wrong.push(("MANUMIT_LIMITS_REFERENCE".into(), "much".into()));
    let (well, said) = explain(&wrong);
    assert!(
        !well && said.contains("`reference` in [limits] is `much`") && said.contains("512 MiB"),
        "{said}"
    );
}
