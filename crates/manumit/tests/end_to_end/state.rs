//! Windows with less memory than their rows take.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::nordbank::Nordbank;
use crate::program::{FEED, assert_same, finish, lines, manumit, told};

#[test]
fn a_run_and_a_backtest_find_the_same_with_most_rows_of_their_windows_on_disk() {
    let bank = Nordbank::new(160, 1);
    let folder = bank.folder.path();
    let mut little = bank.environment();
    little.push(("MANUMIT_STATE_FOLDER".into(), bank.path("state").display().to_string()));
    little.push(("MANUMIT_STATE_MEMORY".into(), "60MiB".into()));
    little.push(("MANUMIT_STATE_TRANSACTIONS_PER_DAY".into(), "10".into()));
    let settings = [("plenty", bank.environment()), ("little", little.clone())];
    let found = settings.map(|(name, environment)| {
        let (alerts, hits) = (format!("{name}.jsonl"), format!("{name}-hits.jsonl"));
        let run = ["run", "--feed", FEED, "--from", "records.jsonl", "--alerts", &alerts, "--hits", &hits];
        let said = finish(manumit(folder, &run, &environment));
        assert!(!said.contains("memory for windows was full"), "{said}");
        let hits: BTreeSet<String> = lines(&bank.path(&hits)).iter().map(Value::to_string).collect();
        (hits, told(lines(&bank.path(&alerts))))
    });
    assert!(found[0].0.len() > 500 && found[0].1.len() >= 5, "{} hits", found[0].0.len());
    let other: Vec<&String> = found[1].0.symmetric_difference(&found[0].0).take(5).collect();
    assert!(other.is_empty(), "hits that only one of both has: {other:#?}");
    assert_same(&found[1].1, &found[0].1, "with rows on disk");

    let backtest = ["backtest", "--feed", FEED, "--data", "records.jsonl", "--verify", "--out", "report"];
    finish(manumit(folder, &backtest, &little));
    let report: Value =
        serde_json::from_slice(&std::fs::read(bank.path("report/report.json")).unwrap()).unwrap();
    let state = &report["state"];
    assert!(
        state["rows_moved"].as_u64().unwrap() > 5_000 && state["blocks_read"].as_u64().unwrap() > 100,
        "{state}"
    );
    // Nothing is left of either.
    assert_eq!(std::fs::read_dir(bank.path("state")).unwrap().count(), 0);
}

#[test]
fn a_folder_for_state_that_cannot_be_used_is_named_before_anything_is_read() {
    let bank = Nordbank::new(10, 1);
    let mut environment = bank.environment();
    environment.push(("MANUMIT_STATE_FOLDER".into(), bank.path("records.jsonl").display().to_string()));
    let run = ["run", "--feed", FEED, "--from", "records.jsonl", "--alerts", "alerts.jsonl"];
    let done = manumit(bank.folder.path(), &run, &environment).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && said.contains("`[state] folder` must be a folder"), "{said}");
}
