//! Queries that look back further than memory holds rows, and further than the run has read.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::nordbank::Nordbank;
use crate::program::{FEED, assert_same, finish, lines, manumit, rule, told, write};

const INDICATOR: &str = r#"
lookback = "40 days"
every = "1 day"
when = "payments >= 12"
explain = "{payments} payments, the latest {days_ago} days after the first"
"#;

const QUERY: &str =
    "SELECT account, count(*) AS payments, count(DISTINCT counterparty) AS payees, sum(amount_base) AS paid,
  (max(extract(epoch FROM event_time)) - min(extract(epoch FROM event_time))) / 86400 AS days_ago
FROM entries WHERE direction = 'out' GROUP BY account";

const TYPOLOGY: &str = r#"
fiu_keywords = []
summary = "The account pays the same few again and again."
within = "10 days"
gate = "returns-to-the-same"
gate_points = 80
alert_at = 60
open_for = "30 days"
"#;

/// A project with one query and one typology, beside the bank's records.
fn project(bank: &Nordbank) {
    let folder = bank.folder.path();
    let indicator = rule("returns-to-the-same", INDICATOR);
    write(folder, "sql/indicators/returns-to-the-same/indicator.toml", &indicator);
    write(folder, "sql/indicators/returns-to-the-same/query.sql", QUERY);
    write(folder, "rules/typologies/same-few/typology.toml", &rule("same-few", TYPOLOGY));
}

fn hits(path: &Path) -> BTreeSet<String> {
    lines(path).iter().map(Value::to_string).collect()
}

#[test]
fn a_query_finds_the_same_whether_its_rows_are_in_memory_in_the_archive_or_of_an_earlier_run() {
    let bank = Nordbank::new(60, 1);
    let folder = bank.folder.path();
    project(&bank);
    let arguments = |name: &str| {
        let (alerts, hits) = (format!("{name}.jsonl"), format!("{name}-hits.jsonl"));
        ["--alerts", &alerts, "--hits", &hits].map(String::from)
    };
    let run = |name: &str, from: &str, more: &[&str]| {
        let outputs = arguments(name);
        let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
        [&["run", "--feed", FEED, "--from", from], &outputs[..], more]
            .concat()
            .iter()
            .map(|a| a.to_string())
            .collect()
    };
    let start = |arguments: &Vec<String>, environment: &[(String, String)]| {
        manumit(folder, &arguments.iter().map(String::as_str).collect::<Vec<_>>(), environment)
    };
    let plain: Vec<String> = run("plain", "records.jsonl", &[]);
    finish(start(&plain, &bank.environment()));
    let wanted = hits(&bank.path("plain-hits.jsonl"));
    let alerts = told(lines(&bank.path("plain.jsonl")));
    assert!(wanted.len() > 200 && alerts.len() > 10, "{} hits, {} alerts", wanted.len(), alerts.len());

    // Memory holds a day, the archive the rest of what was read so far.
    let mut environment = bank.environment();
    environment.push(("MANUMIT_ARCHIVE_COMMIT_EVERY".into(), "1 seconds".into()));
    environment.push(("MANUMIT_ARCHIVE_LOOKBACK_IN_MEMORY".into(), "1 day".into()));
    environment.push(("RUST_LOG".into(), "manumit=debug".into()));
    let archived: Vec<String> = run("archived", "-", &["--archive", "archive"]);
    let mut child =
        start(&archived, &environment).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let text = std::fs::read(bank.path("records.jsonl")).unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut said = child.stderr.take().unwrap();
    let listener = std::thread::spawn(move || std::io::read_to_string(&mut said).unwrap());
    for part in text.chunks(text.len() / 4) {
        input.write_all(part).unwrap();
        input.flush().unwrap();
        // A commit comes between.
        std::thread::sleep(Duration::from_millis(1_800));
    }
    drop(input);
    assert!(child.wait().unwrap().success());
    let said = listener.join().unwrap();
    assert_eq!(hits(&bank.path("archived-hits.jsonl")), wanted);
    assert_same(&told(lines(&bank.path("archived.jsonl"))), &alerts, "read back from the archive");
    let looked: Vec<Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let rows = |line: &Value| line["fields"]["rows"].as_u64();
    let read: u64 = looked
        .iter()
        .filter(|line| line["fields"]["message"] == "looked back into the archive")
        .filter_map(rows)
        .sum();
    assert!(read > 1_000, "{read} rows were read back\n{said}");

    // Yesterday's file in one run, today's in the next: the query sees both.
    let day = {
        let sql = "SELECT tx_id, event_time FROM transactions";
        let output = manumit(folder, &["query", sql, "--archive", "archive", "--format", "json"], &[])
            .output()
            .unwrap();
        let times: BTreeMap<String, String> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|row| (row["tx_id"].as_str().unwrap().into(), row["event_time"].as_str().unwrap().into()))
            .collect();
        let last = times.values().max().unwrap();
        let midnight =
            format!("{}-25T00:00:00", &times.values().filter(|t| t[..7] < last[..7]).max().unwrap()[..7]);
        times.into_iter().map(|(id, time)| (id, time < midnight)).collect::<BTreeMap<_, _>>()
    };
    let mut both = BTreeSet::new();
    for (name, before) in [("first", true), ("second", false)] {
        let part: Vec<&str> = bank
            .records
            .iter()
            .filter(|(_, record)| {
                let record: Value = serde_json::from_str(record).unwrap();
                day[record["ref"].as_str().unwrap()] == before
            })
            .map(|(_, record)| record.as_str())
            .collect();
        assert!(part.len() * 20 > bank.records.len(), "{}", part.len());
        std::fs::write(bank.path(&format!("{name}-records.jsonl")), part.join("\n")).unwrap();
        let arguments: Vec<String> = run(name, &format!("{name}-records.jsonl"), &["--archive", "daily"]);
        finish(start(&arguments, &environment));
        both.extend(hits(&bank.path(&format!("{name}-hits.jsonl"))));
    }
    assert_eq!(both, wanted);

    // What the archive forgets while the query still needs it is refused before anything runs.
    environment.push(("MANUMIT_ARCHIVE_RETENTION".into(), "30 days".into()));
    let output = start(&archived, &environment).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("retention = \"43 days\""), "{said}");
    let output = manumit(folder, &["check"], &environment[..2]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
