//! Transactions that come again: dropped when they are the same, dead letters when they contradict, and no alert changes.

use std::fmt::Write as _;

use manumit_tests::kafka::Kafka;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::nordbank::Nordbank;
use crate::program::{FEED, assert_same, feed_on, finish, lines, manumit, parsed, told, with_kafka};

/// A record as it is sent: what it is, and for one that contradicts the index of the first in this list.
enum Sent {
    Good(String),
    Copy(String),
    Other(String, usize),
}

impl Sent {
    fn record(&self) -> &str {
        match self {
            Sent::Good(record) | Sent::Copy(record) | Sent::Other(record, _) => record,
        }
    }
}

/// Another amount under the same id.
fn contradicting(record: &str) -> String {
    let mut value: Value = serde_json::from_str(record).unwrap();
    let minor = value["money"]["minor"].as_i64().unwrap();
    value["money"]["minor"] = (minor + 1).into();
    value.to_string()
}

/// One in a hundred comes twice, and one in two hundred again with another amount, up to 150 records later.
fn with_repeats(records: &[(String, String)]) -> Vec<Sent> {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut later: Vec<(usize, bool, usize)> = Vec::new();
    for at in (0..records.len()).step_by(200) {
        for (first, same) in [(at, true), (at + 50, false), (at + 100, true)] {
            if first < records.len() {
                later.push(((first + rng.random_range(1..150)).min(records.len() - 1), same, first));
            }
        }
    }
    later.sort_unstable();
    let mut later = later.into_iter().peekable();
    let (mut sent, mut places) = (Vec::new(), Vec::new());
    for (at, (_, record)) in records.iter().enumerate() {
        places.push(sent.len());
        sent.push(Sent::Good(record.clone()));
        while let Some((_, same, first)) = later.next_if(|next| next.0 == at) {
            let record = &records[first].1;
            sent.push(if same {
                Sent::Copy(record.clone())
            } else {
                Sent::Other(contradicting(record), places[first])
            });
        }
    }
    sent
}

fn count(sent: &[Sent], of: fn(&Sent) -> bool) -> usize {
    sent.iter().filter(|sent| of(sent)).count()
}

/// Without where records were read, and in one order.
fn placeless(hits: Vec<Value>) -> Vec<String> {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|name, _| !name.starts_with("source"));
                fields.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut hits: Vec<String> = hits
        .into_iter()
        .map(|mut hit| {
            strip(&mut hit);
            hit.to_string()
        })
        .collect();
    hits.sort();
    hits
}

#[test]
fn copies_and_contradictions_in_a_file_change_no_hit_and_no_alert() {
    let bank = Nordbank::new(300, 1);
    let folder = bank.folder.path();
    let run = |from: &str, name: &str, more: &[&str], environment: &[(String, String)]| {
        let outputs = ["alerts", "hits", "dead", "late"].map(|kind| format!("{name}-{kind}.jsonl"));
        let [alerts, hits, dead, late] = outputs.each_ref().map(String::as_str);
        let arguments = ["run", "--feed", FEED, "--from", from, "--alerts", alerts, "--hits", hits];
        let arguments = [&arguments[..], &["--dead-letters", dead, "--late", late], more].concat();
        let said = finish(manumit(folder, &arguments, environment));
        (said, outputs.map(|file| lines(&bank.path(&file))))
    };
    let (_, [alerts, hits, _, _]) = run("records.jsonl", "clean", &[], &bank.environment());
    let (alerts, hits) = (told(alerts), placeless(hits));
    assert!(alerts.len() > 8 && hits.len() > 50, "{} {}", alerts.len(), hits.len());

    let sent = with_repeats(&bank.records);
    let copies = count(&sent, |sent| matches!(sent, Sent::Copy(_)));
    let others = count(&sent, |sent| matches!(sent, Sent::Other(..)));
    assert!(copies >= bank.records.len() / 100 && others >= bank.records.len() / 200 && others > 50);
    let mut text = String::new();
    sent.iter().for_each(|sent| writeln!(text, "{}", sent.record()).unwrap());
    std::fs::write(bank.path("repeats.jsonl"), text).unwrap();
    let mut letters_of_one_thread = None;
    for threads in ["1", "3"] {
        let archive = format!("archive-{threads}");
        let more = ["--threads", threads, "--archive", &archive];
        let (said, [again, hits_again, dead, late]) =
            run("repeats.jsonl", threads, &more, &bank.environment());
        let good = bank.records.len();
        assert!(
            said.contains(&format!(
                "{} records read: {good} transactions accepted, 0 records filtered, {others} to dead letters",
                sent.len()
            )) && said.contains(&format!("conflicting_id: {others}"))
                && said.contains(&format!("{good} evaluated, 0 late"))
                && said.contains(&format!("{copies} duplicates dropped"))
                && said.contains(&format!("{good} archived")),
            "{said}"
        );
        assert_same(&alerts, &told(again), "with repeats");
        assert!(hits == placeless(hits_again), "hits differ");
        assert!(late.is_empty());
        let mut letters = dead.iter();
        for (at, sent) in sent.iter().enumerate() {
            let Sent::Other(record, first) = sent else { continue };
            let letter = letters.next().unwrap();
            assert_eq!((&letter["reason"], &letter["stage"]), (&"conflicting_id".into(), &"validate".into()));
            assert_eq!(letter["raw"], record.as_str());
            assert_eq!(letter["position"]["offset"], at + 1);
            assert_eq!(letter["original"]["offset"], first + 1);
            let message = letter["message"].as_str().unwrap();
            let places = [format!("repeats.jsonl:0:{}", at + 1), format!("repeats.jsonl:0:{},", first + 1)];
            assert!(places.iter().all(|place| message.contains(place)), "{message}");
        }
        assert!(letters.next().is_none());
        assert!(letters_of_one_thread.get_or_insert(dead.clone()) == &dead, "threads change dead letters");
    }

    // Switched off, all of them go on: evaluated, or late.
    let mut environment = bank.environment();
    environment.push(("MANUMIT_DUPLICATES_HORIZON".into(), "off".into()));
    let (said, [_, _, dead, late]) = run("repeats.jsonl", "off", &[], &environment);
    assert!(!said.contains("duplicates") && dead.is_empty(), "{said}");
    assert!(said.contains(&format!("{} evaluated, {} late", sent.len() - late.len(), late.len())), "{said}");
}

#[test]
fn the_copy_of_a_late_row_is_a_duplicate_and_one_beyond_the_horizon_is_late() {
    let bank = Nordbank::new(60, 1);
    let mut sent: Vec<&str> = bank.records.iter().map(|(_, record)| record.as_str()).collect();
    let half = sent.len() / 2;
    // Weeks behind; its copy at once; and a record of yesterday again, far within the day; and one of the first day again.
    let late = sent.remove(half - 150);
    let first = sent[0];
    sent.splice(half..half, [late, late, sent[half - 1], first]);
    std::fs::write(bank.path("late-copies.jsonl"), sent.join("\n")).unwrap();
    let mut environment = bank.environment();
    environment.push(("MANUMIT_DUPLICATES_HORIZON".into(), "5 days".into()));
    let arguments = ["run", "--feed", FEED, "--from", "late-copies.jsonl", "--alerts", "a.jsonl"];
    let said = finish(manumit(bank.folder.path(), &arguments, &environment));
    assert!(said.contains("2 late") && said.contains("2 duplicates dropped"), "{said}");
    assert_eq!(lines(&bank.path("late.jsonl")).len(), 2);
}

#[test]
fn a_copy_after_a_restart_is_dropped_though_the_checkpoint_is_lost() {
    let bank = Nordbank::new(60, 1);
    let kafka = Kafka::shared();
    let send = |part: &[(String, String)]| {
        kafka.send("again", part.iter().map(|(key, record)| (key.as_str(), record.as_bytes())));
    };
    kafka.topic("again", 3);
    for topic in ["again-alerts", "again-dead", "again-late"] {
        kafka.topic(topic, 1);
    }
    let feed = feed_on(&bank, "again");
    let folder = bank.folder.path();
    let run = || {
        let arguments = ["run", "--feed", &feed, "--until-end", "--alerts", "kafka:again-alerts"];
        let outputs = ["--dead-letters", "kafka:again-dead", "--late", "kafka:again-late"];
        let folders = ["--archive", "again-archive", "--checkpoints", "again-checkpoints"];
        let arguments = [&arguments[..], &outputs, &folders].concat();
        finish(manumit(folder, &arguments, &with_kafka(&bank, kafka, "again")))
    };
    let third = bank.records.len() / 3;
    for part in 0..3 {
        let end = if part == 2 { bank.records.len() } else { (part + 1) * third };
        let records = &bank.records[part * third..end];
        let mut sent = Vec::new();
        if part > 0 {
            // The last ones of the run before: a copy, and one with another amount.
            let before = &bank.records[part * third - 8..part * third];
            sent.extend(before[..5].iter().cloned());
            sent.extend(before[5..].iter().map(|(key, record)| (key.clone(), contradicting(record))));
        }
        sent.extend(records.iter().cloned());
        send(&sent);
        let said = run();
        assert!(
            said.contains(&format!("{} records read: {} transactions", sent.len(), records.len())),
            "{said}"
        );
        if part > 0 {
            assert!(said.contains("5 duplicates dropped") && said.contains("conflicting_id: 3"), "{said}");
        }
        if part == 1 {
            // What the set is made of is the archive.
            std::fs::remove_dir_all(bank.path("again-checkpoints")).unwrap();
        }
    }
    assert!(kafka.read("again-late").is_empty());
    let letters = parsed(kafka.read("again-dead").iter().map(Vec::as_slice));
    assert_eq!(letters.len(), 6);
    for letter in &letters {
        let (here, first) = (&letter["position"], &letter["original"]);
        // A key's records are in one partition, and nothing came between but the end of a run.
        assert_eq!(
            (&here["source"], &here["partition"]),
            (&first["source"], &first["partition"]),
            "{letter}"
        );
        assert!(here["offset"].as_i64() > first["offset"].as_i64(), "{letter}");
    }
    let arguments = ["run", "--feed", FEED, "--from", "records.jsonl", "--alerts", "clean.jsonl"];
    finish(manumit(folder, &arguments, &bank.environment()));
    let alerts = parsed(kafka.read("again-alerts").iter().map(Vec::as_slice));
    assert_same(&told(lines(&bank.path("clean.jsonl"))), &told(alerts), "with restarts");
}
