//! Alerts as analysts read them, and how good they are by two commands.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::nordbank::Nordbank;
use crate::program::{FEED, finish, lines, manumit};

/// What is printed about alerts where there is nothing but them: neither project nor configuration.
fn show(arguments: &[&str]) -> String {
    let empty = tempfile::tempdir().unwrap();
    let mut command = manumit(empty.path(), &[&["show"], arguments].concat(), &[]);
    let output = command.env_clear().output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn alerts_of_a_run_are_listed_told_in_words_and_printed_from_their_file_alone() {
    let bank = Nordbank::new(300, 1);
    let run = ["run", "--feed", FEED, "--from", "records.jsonl", "--alerts", "alerts.jsonl"];
    finish(manumit(bank.folder.path(), &run, &bank.environment()));
    let file = bank.path("alerts.jsonl").display().to_string();
    let alerts = lines(&bank.path("alerts.jsonl"));
    let id = |alert: &Value| alert["alert_id"].as_str().unwrap().to_string();
    let ids: BTreeSet<String> = alerts.iter().map(id).collect();
    assert!(ids.len() > 9 && alerts.len() > ids.len(), "some are revised");
    // A line an alert, below a header and above an empty line and the sum.
    let table = show(&[&file]);
    assert_eq!(table.lines().count(), ids.len() + 3, "{table}");

    let last = alerts.last().unwrap();
    let told = show(&[&file, &id(last)]);
    let revision = last["revision"].as_u64().unwrap();
    assert!(told.starts_with(&format!("ALERT {} (revision {revision})", id(last))), "{told}");
    assert!(told.contains(last["explanation"].as_str().unwrap()), "{told}");
    for transaction in last["transactions"].as_array().unwrap() {
        assert!(told.contains(transaction["tx_id"].as_str().unwrap()), "{transaction}");
    }

    let page = bank.path("alert.html").display().to_string();
    show(&[&file, &id(last), "--html", &page]);
    let page = std::fs::read_to_string(page).unwrap();
    for measured in
        last["indicators"].as_array().unwrap().iter().flat_map(|i| i["measured"].as_array().unwrap())
    {
        assert!(page.contains(measured["value"].as_str().unwrap()), "{measured}");
    }
    assert!(page.contains("not a finding") && !page.contains("<script"), "{page}");
}

#[test]
fn one_truth_file_gives_the_same_cases_in_a_backtest_and_in_an_evaluation() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let bank =
        ["--customers", "200", "--networks", "2", "--typologies", "wage-sweep-to-controller,fan-in-fast-out"];
    finish(manumit(folder, &[&["simulate", "--folder", "bank"][..], &bank].concat(), &[]));
    let backtest = [
        "backtest",
        "--config",
        "bank/manumit.toml",
        "--feed",
        "demo",
        "--data",
        "bank/demo-bank.jsonl",
        "--labels",
        "bank/truth.csv",
        "--alerts",
        "alerts.jsonl",
    ];
    finish(manumit(folder, &backtest, &[]));
    let evaluate =
        ["evaluate", "--alerts", "alerts.jsonl", "--truth", "bank/truth.csv", "--out", "evaluation"];
    finish(manumit(folder, &evaluate, &[]));
    let report = json(&folder.join("backtest/report.json"));
    let evaluation = json(&folder.join("evaluation/evaluation.json"));
    let quality = |typology: &str| {
        let all = report["quality"].as_array().unwrap();
        all.iter().find(|one| one["typology"] == typology).unwrap_or_else(|| panic!("{typology} is missing"))
    };
    let all = quality("all typologies");
    assert_eq!(all["labelled"], evaluation["cases"], "{all}");
    assert_eq!(all["found"], evaluation["found"], "{all}");
    assert!(all["found"].as_u64() > Some(0), "{all}");
    for one in evaluation["typologies"].as_array().unwrap() {
        let found = quality(one["typology"].as_str().unwrap());
        for (here, there) in [("labelled", "cases"), ("found", "found"), ("found_by_any", "found_by_any")] {
            assert_eq!(found[here], one[there], "{here}: {found} {one}");
        }
    }
    // Networks, not their members.
    let members = std::fs::read_to_string(folder.join("bank/truth.csv")).unwrap();
    let members = members.lines().filter(|line| line.contains(",true,")).count() as u64;
    assert!(all["labelled"].as_u64() < Some(members), "{members} members, {all}");
}
