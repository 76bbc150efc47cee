//! Corrupt records among good ones: none is lost, none stops the stream, none changes an alert.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use manumit_tests::kafka::Kafka;
use serde_json::Value;

use crate::nordbank::Nordbank;
use crate::program::{FEED, assert_same, feed_on, finish, lines, manumit, parsed, told, with_kafka};

#[path = "../../../manumit-codec/tests/json_suite/cases.rs"]
mod cases;

/// The `n`th way to damage a record, and the reason it must be given.
fn damage(n: usize, record: &str) -> (&'static str, Vec<u8>) {
    let mut value: Value = serde_json::from_str(record).unwrap();
    let cut = record.floor_char_boundary(record.len() - 1 - n % 40);
    match n % 25 {
        0 => return ("not_json", record.as_bytes()[..cut].to_vec()),
        1 => {
            return (
                "not_utf8",
                [&record.as_bytes()[..12], &[0xc3, 0x28], &record.as_bytes()[12..]].concat(),
            );
        }
        2 => return ("not_json", format!("{record}{record}").into_bytes()),
        3 => return ("wrong_shape", format!("[{n}]").into_bytes()),
        4 => return ("oversized", format!("{{\"ref\":\"{}\"}}", "x".repeat((1 << 20) + n)).into_bytes()),
        5 => return ("not_json", format!("<Ntry>{n}</Ntry>").into_bytes()),
        _ => {}
    }
    let mut set = |pointer: &str, to: Value| *value.pointer_mut(pointer).unwrap() = to;
    let reason = match n % 25 {
        6 => ("not_a_date", set("/when/day", "2026-02-30".into())).0,
        7 => ("not_a_date", set("/when/clock", "25:61:00".into())).0,
        8 => ("in_the_future", set("/when/day", "2126-02-03".into())).0,
        9 => ("impossible_time", set("/when/day", "0026-02-03".into())).0,
        10 => ("missing_field", set("/when", Value::Null)).0,
        11 => ("negative_amount", set("/money/minor", (-5).into())).0,
        12 => ("wrong_type", set("/money/minor", "12 euros".into())).0,
        13 => ("wrong_type", set("/money/minor", serde_json::json!(12.5))).0,
        14 => ("missing_field", set("/money/minor", Value::Null)).0,
        15 => ("unknown_currency", set("/money/ccy", "EUX".into())).0,
        16 => ("unknown_currency", set("/money/ccy", "euros".into())).0,
        17 => ("missing_field", set("/ref", Value::Null)).0,
        18 => ("wrong_shape", set("/from", "MANU000001".into())).0,
        19 => ("wrong_shape", set("/lines", serde_json::json!({ "a": 1 }))).0,
        20 => ("wrong_shape", set("/lines", serde_json::json!([{ "a": 1 }]))).0,
        21 => ("bad_mcc", set("/shop", serde_json::json!({ "category": "58x2" }))).0,
        22 => ("out_of_range", set("/where", serde_json::json!({ "town": "x", "pos": [95.0, 8.0] }))).0,
        23 => ("too_long", set("/ref", "r".repeat(70_000).into())).0,
        _ => {
            set("/from", Value::Null);
            set("/to", Value::Null);
            "no_account"
        }
    };
    (reason, value.to_string().into_bytes())
}

/// Every eighth record is followed by a damaged copy of it: (reason where damaged, record).
fn mixed(bank: &Nordbank) -> Vec<(Option<&'static str>, Vec<u8>)> {
    let mut all = Vec::new();
    let mut damaged = 0;
    for (n, (_, record)) in bank.records.iter().enumerate() {
        all.push((None, record.as_bytes().to_vec()));
        if n % 8 == 0 && damaged < 1_000 {
            let (reason, bytes) = damage(damaged, record);
            all.push((Some(reason), bytes));
            damaged += 1;
        }
    }
    assert_eq!(damaged, 1_000);
    all
}

/// Reason by raw bytes, as text or base64.
fn check_letters(
    letters: &[Value],
    mixed: &[(Option<&'static str>, Vec<u8>)],
    offset_of: impl Fn(usize) -> u64,
) {
    let by_offset: BTreeMap<u64, &Value> =
        letters.iter().map(|l| (l["position"]["offset"].as_u64().unwrap(), l)).collect();
    assert_eq!((letters.len(), by_offset.len()), (1_000, 1_000));
    for (n, (reason, bytes)) in mixed.iter().enumerate() {
        let Some(reason) = reason else {
            assert!(!by_offset.contains_key(&offset_of(n)), "a good record is a dead letter: {n}");
            continue;
        };
        let letter = by_offset[&offset_of(n)];
        assert_eq!(letter["reason"], *reason, "{letter:.2000}");
        assert_eq!(letter["raw_bytes"], bytes.len(), "{letter:.2000}");
        match letter["raw"].as_str() {
            // Of what is too long only the beginning is kept.
            Some(raw) => assert!(
                bytes.starts_with(raw.as_bytes())
                    && (raw.len() == bytes.len() || letter["raw_truncated"] == true)
            ),
            None => assert!(letter["raw_base64"].is_string(), "{letter:.2000}"),
        }
        assert!(letter["message"].as_str().is_some_and(|m| !m.is_empty()), "{letter:.2000}");
    }
}

fn sums(folder: &Path, summary: &str, read: usize) {
    let good = read - 1_000;
    assert!(
        summary.contains(&format!(
            "{read} records read: {good} transactions accepted, 0 records filtered, 1000 to dead letters"
        )) && summary.contains(&format!("{good} evaluated, 0 late")),
        "{}: {summary}",
        folder.display()
    );
}

#[test]
fn a_thousand_corrupt_records_become_dead_letters_and_change_no_alert() {
    let bank = Nordbank::new(60, 1);
    let folder = bank.folder.path();
    let arguments = ["run", "--feed", FEED, "--from", "records.jsonl", "--alerts", "clean.jsonl"];
    finish(manumit(folder, &arguments, &bank.environment()));
    let clean = told(lines(&bank.path("clean.jsonl")));
    assert!(clean.len() >= 8, "{}", clean.len());
    let mixed = mixed(&bank);

    let text: Vec<u8> = mixed.iter().flat_map(|(_, record)| [record.as_slice(), b"\n"].concat()).collect();
    fs::write(bank.path("mixed.jsonl"), text).unwrap();
    let arguments = ["run", "--feed", FEED, "--from", "mixed.jsonl", "--alerts", "mixed-alerts.jsonl"];
    let summary = finish(manumit(folder, &arguments, &bank.environment()));
    sums(folder, &summary, mixed.len());
    check_letters(&lines(&bank.path("dead-letters.jsonl")), &mixed, |n| n as u64 + 1);
    assert_same(&clean, &told(lines(&bank.path("mixed-alerts.jsonl"))), "from a file");

    let kafka = Kafka::shared();
    for topic in ["bad", "bad-alerts", "bad-letters"] {
        kafka.topic(topic, 1);
    }
    kafka.send("bad", mixed.iter().map(|(_, record)| ("", record.as_slice())));
    let feed = feed_on(&bank, "bad");
    let arguments = [
        "run",
        "--feed",
        &feed,
        "--until-end",
        "--alerts",
        "kafka:bad-alerts",
        "--dead-letters",
        "kafka:bad-letters",
    ];
    let summary = finish(manumit(folder, &arguments, &with_kafka(&bank, kafka, "bad")));
    sums(folder, &summary, mixed.len());
    let letters = kafka.read("bad-letters");
    check_letters(&parsed(letters.iter().map(Vec::as_slice)), &mixed, |n| n as u64);
    let alerts = kafka.read("bad-alerts");
    assert_same(&clean, &told(parsed(alerts.iter().map(Vec::as_slice))), "from Kafka");
}

/// Three payments of six hours ago, of which the second says it is of the day after tomorrow.
fn one_mistyped(bank: &Nordbank) -> Vec<(String, String)> {
    let now = chrono::Utc::now() - chrono::TimeDelta::hours(6);
    let times = [now, now + chrono::TimeDelta::days(3), now];
    bank.records[..3]
        .iter()
        .zip(times)
        .map(|((_, record), time)| {
            let mut record: Value = serde_json::from_str(record).unwrap();
            record["when"]["day"] = time.format("%Y-%m-%d").to_string().into();
            record["when"]["clock"] = time.format("%H:%M:%S").to_string().into();
            ("one".to_string(), record.to_string())
        })
        .collect()
}

#[test]
fn a_payment_dated_in_the_future_makes_nobody_late() {
    let bank = Nordbank::new(60, 1);
    let folder = bank.folder.path();
    let records = one_mistyped(&bank);
    let set_aside = |said: &str| {
        said.contains("3 records read: 2 transactions accepted, 0 records filtered, 1 to dead letters")
            && said.contains("in_the_future: 1")
            && said.contains("2 evaluated, 0 late")
    };
    let kafka = Kafka::shared();
    kafka.topic("mistyped", 1);
    kafka.send("mistyped", records.iter().map(|(key, record)| (key.as_str(), record.as_bytes())));
    let feed = feed_on(&bank, "mistyped");
    let mut environment = with_kafka(&bank, kafka, "mistyped");
    environment.retain(|(name, _)| name != "MANUMIT_FUTURE");
    let said = finish(manumit(
        folder,
        &["run", "--feed", &feed, "--until-end", "--alerts", "a.jsonl"],
        &environment,
    ));
    assert!(set_aside(&said), "{said}");
    let letters = lines(&bank.path("dead-letters.jsonl"));
    let message = letters[0]["message"].as_str().unwrap();
    assert!(
        letters.len() == 1 && message.contains("more than 1 day after the record was written"),
        "{message}"
    );

    // A file has no such time: it is taken as it is, unless a bound is set.
    let text: Vec<&str> = records.iter().map(|(_, record)| record.as_str()).collect();
    fs::write(bank.path("mistyped.jsonl"), text.join("\n")).unwrap();
    let arguments = ["run", "--feed", FEED, "--from", "mistyped.jsonl", "--alerts", "a.jsonl"];
    let said = finish(manumit(folder, &arguments, &environment));
    assert!(said.contains("2 evaluated, 1 late"), "{said}");
    environment.push(("MANUMIT_FUTURE".into(), "1 day".into()));
    let said = finish(manumit(folder, &arguments, &environment));
    assert!(set_aside(&said), "{said}");
}

/// A document: its name, which begins with `y_`, `n_` or `i_`, and its bytes.
type Document = (String, Vec<u8>);

/// Past the capture of tests that pass, so that nobody takes a test that was left out for one that was run.
fn say(words: &str) {
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{words}").unwrap();
}

/// Our own documents, and those of the folder `MANUMIT_JSON_SUITE`.
fn documents() -> Vec<Document> {
    let mut all = cases::all();
    let Some(folder) = std::env::var_os("MANUMIT_JSON_SUITE") else {
        say("MANUMIT_JSON_SUITE names no folder of y_*, n_*, i_* documents: only our own were tried");
        return all;
    };
    let ours = all.len();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if ["y_", "n_", "i_"].iter().any(|kind| name.starts_with(kind)) {
            all.push((format!("{name} of the suite"), fs::read(&path).unwrap()));
        }
    }
    assert!(all.len() > ours, "{} holds no documents named y_*, n_*, i_*", folder.display());
    say(&format!("{} documents of {} go through the program as well", all.len() - ours, folder.display()));
    all
}

/// What is no JSON is refused as that; what is JSON is refused as something else. Of the rest anything may be said.
fn refused_for_what_it_is(name: &str, letter: &Value) {
    let of_syntax = ["not_json", "not_utf8", "too_deep"].iter().any(|reason| letter["reason"] == **reason);
    match name.as_bytes()[0] {
        b'n' => assert!(of_syntax, "{name}: {letter:.1000}"),
        b'y' => assert!(!of_syntax, "{name}: {letter:.1000}"),
        _ => {}
    }
}

/// Each document is a record without what the feed needs, or no JSON: all are dead letters, wherever they come from.
#[test]
fn every_hostile_document_is_a_dead_letter_from_a_file_and_from_kafka() {
    let bank = Nordbank::new(60, 1);
    let folder = bank.folder.path();
    let good: Vec<&[u8]> = bank.records.iter().take(100).map(|(_, record)| record.as_bytes()).collect();
    let hostile: Vec<Document> = documents().into_iter().filter(|(_, bytes)| !bytes.is_empty()).collect();
    let sums = |summary: &str, count: usize| {
        let all = count + good.len();
        let words = format!(
            "{all} records read: {} transactions accepted, 0 records filtered, {count} to dead letters",
            good.len()
        );
        assert!(summary.contains(&words), "{words}\n{summary}");
    };
    let check = |letters: &[Value], hostile: &[&Document], first: u64| {
        assert_eq!(letters.len(), hostile.len());
        let by_offset: BTreeMap<u64, &Value> =
            letters.iter().map(|l| (l["position"]["offset"].as_u64().unwrap(), l)).collect();
        for ((name, bytes), offset) in hostile.iter().zip(first..) {
            let letter = by_offset[&offset];
            refused_for_what_it_is(name, letter);
            assert_eq!(letter["raw_bytes"], bytes.len(), "{letter:.2000}");
            let said = |name: &str| letter[name].as_str().is_some_and(|words| !words.is_empty());
            assert!(said("reason") && said("message"), "{letter:.2000}");
        }
    };

    // A line is what stands between line ends, and lines of spaces are none.
    let one_line = |(_, bytes): &&Document| {
        !bytes.contains(&b'\n') && !bytes.contains(&b'\r') && !bytes.trim_ascii().is_empty()
    };
    let lines_of: Vec<&Document> = hostile.iter().filter(one_line).collect();
    assert!(lines_of.len() > 700, "{}", lines_of.len());
    let mut text: Vec<u8> = good.iter().flat_map(|record| [record, &b"\n"[..]].concat()).collect();
    lines_of.iter().for_each(|(_, bytes)| text.extend([bytes.as_slice(), b"\n"].concat()));
    fs::write(bank.path("hostile.jsonl"), text).unwrap();
    let run = ["run", "--feed", FEED, "--from", "hostile.jsonl", "--alerts", "hostile-alerts.jsonl"];
    sums(&finish(manumit(folder, &run, &bank.environment())), lines_of.len());
    check(&lines(&bank.path("dead-letters.jsonl")), &lines_of, good.len() as u64 + 1);

    let kafka = Kafka::shared();
    for topic in ["hostile", "hostile-letters"] {
        kafka.topic(topic, 1);
    }
    kafka.send(
        "hostile",
        good.iter()
            .copied()
            .chain(hostile.iter().map(|(_, bytes)| bytes.as_slice()))
            .map(|record| ("", record)),
    );
    let feed = feed_on(&bank, "hostile");
    let run = ["run", "--feed", &feed, "--until-end", "--alerts", "hostile-alerts.jsonl"];
    let run = [&run[..], &["--dead-letters", "kafka:hostile-letters"]].concat();
    sums(&finish(manumit(folder, &run, &with_kafka(&bank, kafka, "hostile"))), hostile.len());
    let letters = kafka.read("hostile-letters");
    let all: Vec<&Document> = hostile.iter().collect();
    check(&parsed(letters.iter().map(Vec::as_slice)), &all, good.len() as u64);
}

/// As a file that is one document, which may be a list of records, each is refused once as a whole, or in its records.
#[test]
fn every_hostile_document_is_refused_as_a_file_of_its_own() {
    let bank = Nordbank::new(60, 1);
    let folder = bank.folder.path();
    fs::create_dir(bank.path("documents")).unwrap();
    let all = documents();
    for (number, (_, bytes)) in all.iter().enumerate() {
        fs::write(folder.join(format!("documents/{number:05}.json")), bytes).unwrap();
    }
    let text = fs::read_to_string(FEED).unwrap().replace("format = \"jsonl\"", "format = \"json\"");
    assert!(text.contains("format = \"json\""), "{text:.400}");
    fs::write(bank.path("documents.sql"), text).unwrap();
    let run = ["run", "--feed", "documents.sql", "--from", "documents", "--alerts", "a.jsonl"];
    let told = finish(manumit(folder, &run, &bank.environment()));
    assert!(told.contains(" 0 transactions accepted"), "{told}");
    let mut letters: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for letter in lines(&bank.path("dead-letters.jsonl")) {
        letters.entry(letter["position"]["source"].as_str().unwrap().to_string()).or_default().push(letter);
    }
    for (number, (name, bytes)) in all.iter().enumerate() {
        let letters = letters.remove(&format!("documents/{number:05}.json")).unwrap_or_default();
        letters.iter().for_each(|letter| refused_for_what_it_is(name, letter));
        match name.as_bytes()[0] {
            // An empty file is no document.
            b'n' if !bytes.is_empty() => assert_eq!(letters.len(), 1, "{name}: {letters:?}"),
            _ => {}
        }
    }
    assert!(letters.is_empty(), "{letters:?}");
}
