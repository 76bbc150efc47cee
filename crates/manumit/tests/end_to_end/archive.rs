//! The archive through runs, re-runs, a killed process and damage; and what is asked of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use manumit_tests::kafka::Kafka;
use serde_json::Value;

use crate::nordbank::Nordbank;
use crate::program::{FEED, assert_same, feed_on, finish, lines, manumit, told, with_kafka};

/// Standard output, standard error and exit code.
fn output(folder: &Path, arguments: &[&str], environment: &[(String, String)]) -> (String, String, i32) {
    let output = manumit(folder, arguments, environment).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap())
}

/// Rows of a query as JSON objects.
fn asked(folder: &Path, sql: &str, more: &[&str]) -> Vec<Value> {
    let arguments = [&["query", sql, "--archive", "archive", "--format", "json"], more].concat();
    let (rows, told, code) = output(folder, &arguments, &[]);
    assert_eq!(code, 0, "{sql}: {told}");
    rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn reference(record: &str) -> String {
    let record: Value = serde_json::from_str(record).unwrap();
    record["ref"].as_str().unwrap().to_string()
}

/// Every accepted transaction is there, and there once.
fn assert_once<'a>(folder: &Path, records: impl Iterator<Item = &'a String>) {
    let mut there = BTreeMap::new();
    for row in asked(folder, "SELECT tx_id, count(*) AS n FROM transactions GROUP BY tx_id", &[]) {
        there.insert(row["tx_id"].as_str().unwrap().to_string(), row["n"].as_i64().unwrap());
    }
    let expected: BTreeMap<String, i64> = records.map(|record| (reference(record), 1)).collect();
    assert_eq!(there.len(), expected.len());
    assert_eq!(there, expected);
}

fn parquet_files(folder: &Path) -> Vec<PathBuf> {
    let manifest = std::fs::read(folder.join("archive/_manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let files = manifest["files"].as_array().unwrap().iter();
    files.map(|file| folder.join("archive").join(file["path"].as_str().unwrap())).collect()
}

/// Each two-hundredth record comes long after its time.
fn disordered(bank: &Nordbank) -> Vec<String> {
    let mut all: Vec<String> = bank.records.iter().map(|(_, record)| record.clone()).collect();
    for at in (0..all.len() - 900).step_by(200) {
        let record = all.remove(at);
        all.insert(at + 800, record);
    }
    all
}

#[test]
fn a_file_read_twice_is_archived_once_and_late_rows_are_flagged() {
    let bank = Nordbank::new(60, 1);
    let folder = bank.folder.path();
    let records = disordered(&bank);
    std::fs::write(bank.path("disordered.jsonl"), records.join("\n")).unwrap();
    let arguments = ["run", "--feed", FEED, "--from", "disordered.jsonl", "--archive", "archive"];
    let arguments = [&arguments[..], &["--alerts", "alerts.jsonl", "--hits", "hits.jsonl"]].concat();
    let mut late = 0;
    for round in 0..2 {
        let summary = finish(manumit(folder, &arguments, &bank.environment()));
        late = lines(&bank.path("late.jsonl")).len();
        let (new, known) = if round == 0 { (records.len(), 0) } else { (0, records.len()) };
        let flagged = if round == 0 { late } else { 0 };
        let account = format!("{new} archived ({flagged} of them late), {known} were in the archive already");
        assert!(summary.contains(&account), "{account}\n{summary}");
    }
    assert!(late > 10, "{late}");
    assert_once(folder, records.iter());
    let flagged: BTreeSet<String> = asked(folder, "SELECT tx_id FROM transactions WHERE late", &[])
        .iter()
        .map(|row| row["tx_id"].as_str().unwrap().to_string())
        .collect();
    let said: BTreeSet<String> = lines(&bank.path("late.jsonl"))
        .iter()
        .map(|row| row["tx_id"].as_str().unwrap().to_string())
        .collect();
    assert_eq!(flagged, said);
    // What was enriched was archived: the accounts table knows these customers.
    let enriched =
        asked(folder, "SELECT count(debtor_customer) AS n, count(amount_base) AS m FROM transactions", &[]);
    assert!(enriched[0]["n"].as_i64().unwrap() > 100);
    assert_eq!(enriched[0]["m"].as_i64().unwrap() as usize, records.len());

    // The same rules over the archive say what the stream said, without the late rows.
    let (_, words, code) = output(
        folder,
        &["backtest", "--data", "archive", "--hits", "again-hits.jsonl", "--alerts", "again.jsonl"],
        &bank.environment(),
    );
    assert_eq!(code, 0, "{words}");
    let sorted = |name: &str| {
        let mut all: Vec<String> = lines(&bank.path(name)).iter().map(Value::to_string).collect();
        all.sort();
        all
    };
    assert!(sorted("hits.jsonl").len() > 100);
    assert_eq!(sorted("again-hits.jsonl"), sorted("hits.jsonl"));
    assert_same(
        &told(lines(&bank.path("alerts.jsonl"))),
        &told(lines(&bank.path("again.jsonl"))),
        "backtest",
    );
}

#[test]
fn a_killed_run_leaves_nothing_that_the_next_one_does_not_mend() {
    let bank = Nordbank::new(1_000, 1);
    let folder = bank.folder.path();
    let mut environment = bank.environment();
    environment.push(("MANUMIT_ARCHIVE_COMMIT_EVERY".into(), "1 seconds".into()));
    let text = std::fs::read(bank.path("records.jsonl")).unwrap();
    let arguments =
        ["run", "--feed", FEED, "--from", "-", "--archive", "archive", "--alerts", "alerts.jsonl"];
    let mut killed = 0;
    for part in [text.len() / 2, text.len() * 3 / 4] {
        let before = rows_listed(folder);
        let mut run = manumit(folder, &arguments, &environment)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = run.stdin.take().unwrap();
        let first = text[..part].to_vec();
        let feeder = std::thread::spawn(move || {
            // The run is killed while it reads.
            let _ = input.write_all(&first);
            input
        });
        let deadline = Instant::now() + Duration::from_secs(60);
        while rows_listed(folder) <= before {
            assert!(Instant::now() < deadline, "nothing was committed");
            std::thread::sleep(Duration::from_millis(20));
        }
        run.kill().unwrap();
        run.wait().unwrap();
        drop(feeder.join().unwrap());
        killed += 1;
        assert!(rows_listed(folder) < bank.records.len() as u64);
    }
    assert_eq!(killed, 2);
    let mut run = manumit(folder, &arguments, &environment).stdin(Stdio::piped()).spawn().unwrap();
    run.stdin.take().unwrap().write_all(&text).unwrap();
    assert!(run.wait().unwrap().success());
    assert_once(folder, bank.records.iter().map(|(_, record)| record));
    let (report, told, code) = output(folder, &["archive", "verify", "--archive", "archive"], &[]);
    assert_eq!(code, 0, "{report}{told}");
}

fn rows_listed(folder: &Path) -> u64 {
    let Ok(manifest) = std::fs::read(folder.join("archive/_manifest.json")) else { return 0 };
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    manifest["files"].as_array().unwrap().iter().map(|file| file["rows"].as_u64().unwrap()).sum()
}

#[test]
fn a_service_killed_between_commits_archives_every_message_once() {
    let bank = Nordbank::new(200, 1);
    let folder = bank.folder.path();
    let kafka = Kafka::shared();
    kafka.topic("archived", 3);
    let feed = feed_on(&bank, "archived");
    let mut environment = with_kafka(&bank, kafka, "archived");
    environment.push(("MANUMIT_ARCHIVE_COMMIT_EVERY".into(), "1 seconds".into()));
    let arguments = ["run", "--feed", &feed, "--archive", "archive", "--alerts", "alerts.jsonl"];
    let send = |part: &[(String, String)]| {
        kafka.send("archived", part.iter().map(|(key, record)| (key.as_str(), record.as_bytes())));
    };
    let third = bank.records.len() / 3;
    for round in 0..2 {
        send(&bank.records[round * third..(round + 1) * third]);
        let before = rows_listed(folder);
        let mut service = manumit(folder, &arguments, &environment).stderr(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(90);
        while rows_listed(folder) < before + third as u64 / 2 {
            assert!(Instant::now() < deadline, "{} archived", rows_listed(folder));
            std::thread::sleep(Duration::from_millis(20));
        }
        service.kill().unwrap();
        service.wait().unwrap();
        // What Kafka holds as read is in the archive.
        assert!(kafka.committed("archived", "archived", 3) <= rows_listed(folder) as i64);
    }
    send(&bank.records[2 * third..]);
    let arguments = [&arguments[..], &["--until-end"]].concat();
    finish(manumit(folder, &arguments, &environment));
    assert_eq!(kafka.committed("archived", "archived", 3), bank.records.len() as i64);
    assert_once(folder, bank.records.iter().map(|(_, record)| record));
}

#[test]
fn damaged_and_foreign_files_are_named_and_skipped_by_flag_alone() {
    let bank = Nordbank::new(60, 1);
    let folder = bank.folder.path();
    let arguments = ["run", "--feed", FEED, "--from", "records.jsonl", "--archive", "archive"];
    finish(manumit(folder, &arguments, &bank.environment()));
    let files = parquet_files(folder);
    assert!(files.len() >= 85, "{}", files.len());
    let mut bytes = std::fs::read(&files[3]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&files[3], &bytes).unwrap();
    std::fs::write(&files[7], b"no Parquet at all").unwrap();
    let foreign = files[9].with_file_name("copy of report.parquet");
    std::fs::copy(&files[9], &foreign).unwrap();
    let bad = [&files[3], &files[7], &foreign];
    let name = |path: &Path| path.strip_prefix(folder).unwrap().display().to_string();
    let counted =
        ["query", "SELECT count(*) AS n FROM transactions WHERE amount > 0", "--archive", "archive"];
    for arguments in
        [&counted[..], &["backtest", "--data", "archive"], &["archive", "verify", "--archive", "archive"]]
    {
        let (out, told, code) = output(folder, arguments, &bank.environment());
        assert_eq!(code, 1, "{out}{told}");
        for path in bad {
            assert!(format!("{out}{told}").contains(&name(path)), "{arguments:?}: {out}{told}");
        }
        assert!(format!("{out}{told}").contains("--skip-bad-files"), "{out}{told}");
    }
    let (out, told, code) = output(folder, &[&counted[..], &["--skip-bad-files"]].concat(), &[]);
    assert_eq!(code, 0, "{told}");
    for path in bad {
        assert!(told.contains(&format!("left out: {}", name(path))), "{told}");
    }
    assert!(out.contains("| n"), "{out}");
    let skipping = ["backtest", "--data", "archive", "--skip-bad-files", "--out", "report"];
    let (_, told, code) = output(folder, &skipping, &bank.environment());
    assert_eq!(code, 0, "{told}");
    let report: Value =
        serde_json::from_slice(&std::fs::read(bank.path("report/report.json")).unwrap()).unwrap();
    let page = std::fs::read_to_string(bank.path("report/report.html")).unwrap();
    for path in bad {
        let noted = |note: &Value| note.as_str().unwrap().contains(&name(path));
        assert!(report["notes"].as_array().unwrap().iter().any(noted), "{}", report["notes"]);
        assert!(told.contains(&name(path)), "{told}");
        assert!(page.contains(path.file_name().unwrap().to_str().unwrap()));
    }
    // A date that is whole can be backtested alone.
    let date = name(files[20].parent().unwrap());
    let (_, told, code) = output(folder, &["backtest", "--data", &date, "--out", "one"], &bank.environment());
    assert_eq!(code, 0, "{told}");
}

#[test]
fn a_key_is_found_through_bloom_filters_and_dates_through_the_manifest() {
    let bank = Nordbank::new(60, 1);
    let folder = bank.folder.path();
    let arguments = [
        "run",
        "--feed",
        FEED,
        "--from",
        "records.jsonl",
        "--archive",
        "archive",
        "--alerts",
        "alerts.jsonl",
    ];
    finish(manumit(folder, &[&arguments[..], &["--hits", "hits.jsonl"]].concat(), &bank.environment()));
    let keys = "SELECT debtor_account AS k, count(*) AS n, count(DISTINCT event_date) AS d FROM transactions \
                WHERE debtor_account IS NOT NULL GROUP BY 1 ORDER BY d, k LIMIT 1";
    let rare = asked(folder, keys, &[]).remove(0);
    let (key, days) = (rare["k"].as_str().unwrap(), rare["d"].as_u64().unwrap());
    let files = parquet_files(folder).len() as u64;
    assert!(days * 3 < files, "{rare}");
    let plan = |sql: &str| -> String {
        asked(folder, &format!("EXPLAIN ANALYZE {sql}"), &[])
            .iter()
            .map(|row| row["plan"].to_string())
            .collect()
    };
    let matched = |plan: &str, name: &str| -> Vec<(u64, u64)> {
        let marker = format!("{name}=");
        let found = plan.split(&marker).skip(1);
        let number = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
        found
            .map(|rest| (number(rest), rest.split_once("→ ").map_or(0, |(_, matched)| number(matched))))
            .collect()
    };
    // 1% of the filters may say «perhaps» where there is nothing.
    for (sql, sides) in [
        (format!("SELECT * FROM transactions WHERE debtor_account = '{key}'"), 1),
        (format!("SELECT * FROM entries WHERE account = '{key}'"), 2),
    ] {
        let plan = plan(&sql);
        let groups = matched(&plan, "row_groups_pruned_bloom_filter");
        assert_eq!(groups.len(), sides, "{plan}");
        let (asked, left) = groups[0];
        assert!(
            asked > left && left >= days.min(asked) && left <= days + files / 10,
            "{groups:?} {days}: {plan}"
        );
    }
    let day = "SELECT count(*) FROM transactions WHERE amount > 0 AND event_date = ";
    let first: String = asked(folder, "SELECT CAST(min(event_date) AS VARCHAR) AS d FROM transactions", &[])
        [0]["d"]
        .as_str()
        .unwrap()
        .into();
    let scan = plan(&format!("{day}DATE '{first}'"));
    assert_eq!(scan.matches(".parquet").count(), 1, "{scan}");
    let scan = plan(&format!("SELECT tx_id FROM transactions WHERE event_time < '{first}T23:59:59Z'"));
    assert_eq!(scan.matches(".parquet").count(), 1, "{scan}");

    // The two sides are those that the engine makes.
    let sides = "SELECT count(*) AS n FROM entries WHERE direction = 'out' AND account = debtor_account \
                 AND NOT coalesce(debtor_external, false)";
    let payers = "SELECT count(*) AS n FROM transactions WHERE debtor_account IS NOT NULL \
                  AND NOT coalesce(debtor_external, false)";
    assert_eq!(asked(folder, sides, &[])[0]["n"], asked(folder, payers, &[])[0]["n"]);
    // Alerts join transactions, nested columns and all.
    let evidence = "SELECT a.alert_id, t.tx_id, e.t['amount'] AS said, t.amount FROM \
                    (SELECT alert_id, unnest(transactions) AS t FROM alerts) e \
                    JOIN alerts a ON a.alert_id = e.alert_id JOIN transactions t ON t.tx_id = e.t['tx_id'] \
                    WHERE a.subject['kind'] = 'account' ORDER BY 1, 2";
    let rows = asked(folder, evidence, &["--alerts", "alerts.jsonl"]);
    assert!(rows.len() > 20, "{}", rows.len());
    for row in &rows {
        let (said, kept) = (row["said"].as_str().unwrap(), row["amount"].as_str().unwrap());
        assert_eq!(
            kept.trim_end_matches('0').trim_end_matches('.'),
            said.trim_end_matches('0').trim_end_matches('.')
        );
    }
    let hits = "SELECT indicator, count(*) AS n FROM hits GROUP BY 1 ORDER BY 1";
    let counted: i64 =
        asked(folder, hits, &["--hits", "hits.jsonl"]).iter().map(|r| r["n"].as_i64().unwrap()).sum();
    assert_eq!(counted as usize, lines(&bank.path("hits.jsonl")).len());
}

#[test]
fn reference_tables_and_functions_are_there_and_results_come_in_four_formats() {
    let bank = Nordbank::new(60, 1);
    let folder = bank.folder.path();
    let arguments = ["run", "--feed", FEED, "--from", "records.jsonl", "--archive", "archive"];
    finish(manumit(folder, &arguments, &bank.environment()));
    let joined = "SELECT t.tx_id, t.amount, a.customer, account__customer(t.debtor_account, t.event_time) AS same \
                  FROM transactions t JOIN accounts a ON a.account = t.debtor_account \
                  AND t.event_time >= coalesce(a.valid_from, t.event_time) ORDER BY t.event_time, t.tx_id LIMIT 5";
    let base = ["query", joined, "--archive", "archive"];
    let (csv, told, code) = output(folder, &[&base[..], &["--format", "csv"]].concat(), &bank.environment());
    assert_eq!(code, 0, "{told}");
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0], ["tx_id", "amount", "customer", "same"]);
    assert_eq!(rows.len(), 6);
    for row in &rows[1..] {
        assert_eq!(row[2], row[3]);
        assert!(row[1].split_once('.').is_some_and(|(_, places)| places.len() == 4), "{row:?}");
    }
    let (table, ..) = output(folder, &base, &bank.environment());
    assert!(table.contains(rows[1][0]) && table.starts_with("+--"), "{table}");
    let parquet = [&base[..], &["--format", "parquet", "--out", "result.parquet"]].concat();
    let (_, told, code) = output(folder, &parquet, &bank.environment());
    assert_eq!(code, 0, "{told}");
    let bytes = std::fs::read(bank.path("result.parquet")).unwrap();
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    // The questions of the guide, each as it stands there.
    let guide =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../sql/ARCHIVE.md")).unwrap();
    let questions = guide.split("```sql\n").nth(1).unwrap().split("```").next().unwrap();
    std::fs::write(bank.path("none.jsonl"), "").unwrap();
    assert!(questions.split(";\n").count() > 6);
    for question in questions.split(";\n").filter(|question| !question.trim().is_empty()) {
        let arguments = ["query", "-", "--archive", "archive", "--alerts", "none.jsonl"];
        let mut asking = manumit(folder, &arguments, &bank.environment());
        let mut asking = asking.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        asking.stdin.take().unwrap().write_all(question.as_bytes()).unwrap();
        assert!(asking.wait_with_output().unwrap().status.success(), "{question}");
    }
    let lists = asked(folder, "SELECT count(DISTINCT list) AS n FROM lists", &[]);
    assert!(lists[0]["n"].as_i64().unwrap() >= 1);
    let groups = asked(folder, "SELECT count(*) AS n FROM mcc_groups WHERE mcc_group = 'lodging'", &[]);
    assert!(groups[0]["n"].as_i64().unwrap() >= 1);
    let (plan, ..) = output(
        folder,
        &["query", "SELECT tx_id FROM transactions", "--archive", "archive", "--explain"],
        &[],
    );
    assert!(plan.contains("logical_plan") && plan.contains("physical_plan"), "{plan}");
}

#[test]
fn a_query_that_cannot_be_answered_says_why_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let feed = "{\"id\":\"1\"}\n";
    std::fs::write(folder.join("x.jsonl"), feed).unwrap();
    for (arguments, expected) in [
        (vec!["SELECT * FROM transaction"], vec!["no table `transaction`", "did you mean `transactions`?"]),
        (vec!["SELECT * FROM transactions"], vec!["--archive DIR"]),
        (vec!["SELECT * FROM transactions", "--archive", "nowhere"], vec!["nowhere", "no archive"]),
        (vec!["SELECT * FROM alerts"], vec!["--alerts FILE"]),
        (vec!["SELECT mc FROM mcc_groups"], vec!["no column `mc`", "did you mean `mcc`?"]),
        (vec!["DROP TABLE transactions"], vec!["`DROP TABLE` is refused", "SELECT"]),
        (vec!["COPY mcc_groups TO 'x.csv'"], vec!["`COPY", "is refused"]),
        (vec!["CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'x.csv'"], vec!["is refused"]),
        (vec!["INSERT INTO lists SELECT * FROM lists"], vec!["`INSERT INTO` is refused"]),
        (vec!["EXPLAIN ANALYZE INSERT INTO lists SELECT * FROM lists"], vec!["is refused"]),
        (vec!["SET datafusion.execution.batch_size = 1"], vec!["is refused"]),
        (vec!["SELECT 1; DROP TABLE lists"], vec!["give one query"]),
        (vec!["SELEC 1"], vec!["cannot be read"]),
        (vec!["SELECT (1 2)"], vec!["cannot be read", "Line: 1, Column: 11"]),
    ] {
        let arguments = [vec!["query"], arguments].concat();
        let (out, told, code) = output(folder, &arguments, &[]);
        assert_eq!(code, 1, "{arguments:?}: {out}");
        for words in expected {
            assert!(told.contains(words), "{arguments:?}: {told}");
        }
    }
    std::fs::write(folder.join("alerts.jsonl"), "{\"alert_id\":\"1\"}\n{\"alert_id\":\n").unwrap();
    let arguments = ["query", "SELECT alert_id FROM alerts", "--alerts", "alerts.jsonl", "--format", "csv"];
    let (_, told, code) = output(folder, &arguments, &[]);
    assert!(code == 1 && told.contains("alerts.jsonl:2"), "{told}");
    let (rows, told, code) = output(folder, &[&arguments[..], &["--skip-bad-files"]].concat(), &[]);
    assert_eq!((rows.as_str(), code), ("alert_id\n1\n", 0), "{told}");
    assert!(told.contains("left out: alerts.jsonl:2"), "{told}");
}

#[test]
fn commands_show_shrink_and_expire_an_archive() {
    let bank = Nordbank::new(60, 1);
    let folder = bank.folder.path();
    let half = bank.records.len() / 2;
    for (name, part) in [("a.jsonl", &bank.records[..half]), ("b.jsonl", &bank.records[half - 200..])] {
        let records: Vec<&str> = part.iter().map(|(_, record)| record.as_str()).collect();
        std::fs::write(bank.path(name), records.join("\n")).unwrap();
        let arguments = ["run", "--feed", FEED, "--from", name, "--archive", "archive"];
        finish(manumit(folder, &arguments, &bank.environment()));
    }
    let files = parquet_files(folder).len();
    let archive = |arguments: &[&str]| {
        let arguments = [&["archive"], arguments, &["--archive", "archive"]].concat();
        let (out, told, code) = output(folder, &arguments, &[]);
        assert_eq!(code, 0, "{told}");
        out
    };
    assert!(archive(&["list"]).contains("archived up to b.jsonl, partition 0, offset"));
    let count = || asked(folder, "SELECT count(*) AS n FROM transactions", &[])[0]["n"].as_i64().unwrap();
    let rows = count();
    assert_eq!(rows as usize, bank.records.len() + 200, "another file is another source");
    assert!(archive(&["compact"]).contains("small files with"));
    assert!(parquet_files(folder).len() < files);
    assert_eq!(count(), rows);
    assert!(archive(&["expire", "--older-than", "30 days"]).contains("are gone"));
    let oldest = "SELECT (max(event_date) - min(event_date)) AS d FROM transactions";
    assert!(count() < rows && asked(folder, oldest, &[])[0]["d"].to_string().contains("30"));
    assert!(archive(&["verify"]).contains("are sound"));
    let (_, told, code) = output(folder, &["archive", "list", "--archive", "archiv"], &[]);
    assert!(code == 1 && told.contains("no archive"), "{told}");
}
