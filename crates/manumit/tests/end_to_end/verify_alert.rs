//! Alerts on a machine that knows nothing but them, and an old day out of the archive.

use std::path::Path;

use manumit_model::Alert;
use manumit_model::alert::sha256;
use serde_json::Value;

use crate::nordbank::Nordbank;
use crate::program::{FEED, finish, lines, manumit};

/// What is said about the alerts of a file, and the exit code; in an empty folder and environment.
fn verify(alerts: &Path) -> (String, i32) {
    let empty = tempfile::tempdir().unwrap();
    let mut command = manumit(empty.path(), &["verify-alert", &alerts.display().to_string()], &[]);
    let output = command.env_clear().output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&told).into_owned(), output.status.code().unwrap())
}

fn run(bank: &Nordbank, more: &[&str]) {
    let run = ["run", "--feed", FEED, "--from", "records.jsonl", "--alerts", "alerts.jsonl"];
    finish(manumit(bank.folder.path(), &[&run[..], more].concat(), &bank.environment()));
}

/// The same alert with a new seal: what somebody does who changes it on purpose.
fn sealed(alert: &Value) -> Value {
    let alert: Alert = serde_json::from_value(alert.clone()).unwrap();
    serde_json::to_value(alert.sealed().unwrap()).unwrap()
}

/// What is said about one alert.
fn verdict(folder: &Path, alert: &Value) -> (String, i32) {
    let path = folder.join("one.json");
    std::fs::write(&path, serde_json::to_string_pretty(alert).unwrap()).unwrap();
    verify(&path)
}

#[test]
fn every_alert_of_every_typology_in_the_pack_holds() {
    let folder = tempfile::tempdir().unwrap();
    let bank = ["simulate", "--folder", ".", "--customers", "300", "--networks", "1", "--seed", "4"];
    finish(manumit(folder.path(), &bank, &[]));
    let run = [
        "run",
        "--config",
        "manumit.toml",
        "--feed",
        "demo",
        "--from",
        "demo-bank.jsonl",
        "--alerts",
        "alerts.jsonl",
    ];
    finish(manumit(folder.path(), &run, &[]));
    // Of each typology two: all of them take minutes.
    let mut shown = std::collections::BTreeMap::<String, usize>::new();
    let text = std::fs::read_to_string(folder.path().join("alerts.jsonl")).unwrap();
    let some = text.lines().filter(|line| {
        let alert: Value = serde_json::from_str(line).unwrap();
        let count = shown.entry(alert["typology"]["id"].to_string()).or_default();
        *count += 1;
        *count <= 2
    });
    let some: String = some.map(|line| format!("{line}\n")).collect();
    std::fs::write(folder.path().join("some.jsonl"), some).unwrap();
    assert!(shown.len() >= 40, "{shown:?}");
    let (told, code) = verify(&folder.path().join("some.jsonl"));
    assert_eq!(code, 0, "{told}");
}

#[test]
fn every_alert_of_a_run_holds_where_there_is_nothing_but_the_alert() {
    let bank = Nordbank::new(300, 1);
    run(&bank, &[]);
    let alerts = lines(&bank.path("alerts.jsonl"));
    let typologies: std::collections::BTreeSet<&str> =
        alerts.iter().map(|alert| alert["typology"]["id"].as_str().unwrap()).collect();
    assert!(typologies.len() >= 9, "{typologies:?}");
    let (told, code) = verify(&bank.path("alerts.jsonl"));
    assert_eq!(code, 0, "{told}");
    let summary = format!("{} hold, 0 do not hold, 0 cannot be decided", alerts.len());
    assert!(told.ends_with(&format!("{summary}\n")), "{told}");
    let revised = alerts.iter().any(|alert| alert["revision"].as_u64().unwrap() > 1);
    assert!(revised, "later revisions are decided as well");
    // Of reference data what rules asked for, and of columns none that they do not read.
    for alert in &alerts {
        for row in alert["basis"]["reference"].as_array().unwrap() {
            assert!(
                row["values"].as_object().unwrap().keys().all(|name| name != "address" && name != "phone")
            );
        }
    }
}

/// Replaces the value at a pointer.
fn set(alert: &Value, pointer: &str, to: impl Into<Value>) -> Value {
    let mut alert = alert.clone();
    *alert.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = to.into();
    alert
}

#[test]
fn what_was_changed_is_found_by_its_seal_and_by_the_decision_where_the_seal_was_made_anew() {
    let bank = Nordbank::new(160, 1);
    run(&bank, &[]);
    let alerts = lines(&bank.path("alerts.jsonl"));
    let wanted = |alert: &&Value| alert["typology"]["id"] == "fan-in-fast-out";
    let alert = alerts.iter().find(wanted).unwrap();
    let folder = bank.folder.path();
    assert_eq!(verdict(folder, alert).1, 0);
    assert_eq!(&sealed(alert), alert, "the seal is that of the content");
    // A payment to the subject that the gate counted.
    let subject = alert["subject"]["key"].as_str().unwrap();
    let counted = |t: &Value| {
        t["direction"] == "in" && t["indicators"].as_array().unwrap().contains(&"many-senders".into())
    };
    let at = alert["transactions"].as_array().unwrap().iter().position(counted).unwrap();
    let payment = &alert["transactions"][at];
    let field = |name: &str| format!("/transactions/{at}/{name}");
    let amounts = set(&set(alert, &field("amount"), "1.00"), &field("amount_base"), "1.00");
    let gate = "/basis/rules";
    let rule = alert["basis"]["rules"].as_array().unwrap().iter();
    let rule = rule.clone().position(|r| r["file"] == "rules/indicators/many-senders.toml").unwrap();
    let text = alert["basis"]["rules"][rule]["text"].as_str().unwrap();
    let lower = text.replacen("[params.min_senders]\nvalue = ", "[params.min_senders]\nvalue = 1", 1);
    assert_ne!(lower, text);
    let threshold = set(alert, &format!("{gate}/{rule}/text"), lower.as_str());
    let threshold_hashed = set(&threshold, &format!("{gate}/{rule}/sha256"), sha256(lower.as_bytes()));
    let measured = alert["indicators"][0]["measured"].as_array().unwrap();
    let senders = measured.iter().position(|m| m["name"] == "different senders").unwrap();
    let value = format!("/indicators/0/measured/{senders}/value");
    let mut fewer = alert.clone();
    fewer["transactions"].as_array_mut().unwrap().remove(at);
    let score = alert["score"].as_u64().unwrap();
    let held = alert["indicators"][0]["hits"].as_u64().unwrap();
    for (name, changed, words) in [
        ("amount", set(alert, &field("amount"), "1.00"), "in the same currency"),
        ("amounts", amounts, "transactions give"),
        ("time", set(alert, &field("at/utc"), "2020-01-01T00:00:00Z"), "its transactions"),
        ("payee", set(alert, &field("fields/creditor_account"), "ELSEWHERE"), "its transactions give"),
        ("payer", set(alert, &field("fields/debtor_account"), subject), "`parties` is not what follows"),
        ("threshold", threshold, "many-senders.toml is not the one whose hash"),
        ("threshold and hash", threshold_hashed, "does not hold at"),
        ("score", set(alert, "/score", score + 10), "score: the alert says"),
        ("value", set(alert, &value, "999"), "`many-senders`, different senders: the alert says 999"),
        ("hits", set(alert, "/indicators/0/hits", held + 1), "its transactions give"),
        ("subject", set(alert, "/subject/key", "SOMEBODY"), "its opening gives"),
        ("version", set(alert, "/typology/version", 7), "version of the typology: the alert says 7"),
        ("opening", set(alert, "/opened_at/utc", "2019-01-01T00:00:00Z"), "opened"),
        ("a payment left out", fewer, "its transactions give"),
        ("urgency", set(alert, "/urgent", !alert["urgent"].as_bool().unwrap()), "urgent: the alert says"),
    ] {
        let (told, code) = verdict(folder, &changed);
        assert!(code == 1 && told.contains("its seal is that of another content"), "{name}: {told}");
        let (told, code) = verdict(folder, &sealed(&changed));
        assert!(code == 1 && told.contains(": does not hold"), "{name}: {told}");
        assert!(told.contains(words), "{name}, «{words}»: {told}");
        assert!(!told.contains("its seal"), "{name}: {told}");
    }
    // What no rule looks at is protected by the seal, and against whoever makes it anew by the alert log.
    let mut memo = alert.clone();
    memo["transactions"][at]["fields"]["memo"] = "another".into();
    assert_eq!(verdict(folder, &memo).1, 1, "{payment}");
}

#[test]
fn an_alert_that_lacks_evidence_cannot_be_decided_and_says_what_is_missing() {
    let bank = Nordbank::new(160, 1);
    run(&bank, &[]);
    let folder = bank.folder.path();
    let alert = lines(&bank.path("alerts.jsonl")).remove(0);
    let mut shortened = alert.clone();
    shortened["transactions"].as_array_mut().unwrap().pop();
    shortened["transactions_omitted"] = 1.into();
    let mut without = alert.clone();
    without.as_object_mut().unwrap().remove("basis");
    let mut unreadable = alert.clone();
    unreadable["basis"]["rules"][0]["text"] = "this is no rule".into();
    unreadable["basis"]["rules"][0]["sha256"] = sha256(b"this is no rule").into();
    for (alert, words) in [
        (sealed(&shortened), "1 transactions of its evidence are not listed"),
        (without, "it has no `basis`"),
        (sealed(&unreadable), "cannot be loaded by this version"),
        (set(&alert, "/format", "manumit.alert/9"), "its format is `manumit.alert/9`"),
        (Value::from(7), "this is no alert"),
    ] {
        let (told, code) = verdict(folder, &alert);
        assert!(code == 2 && told.contains(": cannot be decided") && told.contains(words), "{words}: {told}");
    }
    assert_eq!(verify(&folder.join("none.json")).1, 2);
    std::fs::write(folder.join("empty.json"), "").unwrap();
    assert_eq!(verify(&folder.join("empty.json")).1, 2);
}

#[test]
fn an_old_day_out_of_the_archive_gives_the_same_alerts_byte_for_byte() {
    let bank = Nordbank::new(160, 1);
    run(&bank, &["--archive", "archive"]);
    let text = std::fs::read_to_string(bank.path("alerts.jsonl")).unwrap();
    let replayed = |period: &[&str]| {
        let again = ["backtest", "--data", "archive", "--alerts", "again.jsonl"];
        finish(manumit(bank.folder.path(), &[&again[..], period].concat(), &bank.environment()));
        std::fs::read_to_string(bank.path("again.jsonl")).unwrap()
    };
    assert!(replayed(&[]) == text, "the whole history gives the same alerts");
    // The day with most alerts, and what was published of it then.
    let mut days: std::collections::BTreeMap<String, Vec<&str>> = std::collections::BTreeMap::new();
    for line in text.lines() {
        let alert: Value = serde_json::from_str(line).unwrap();
        let at = alert["raised_at"]["utc"].as_str().unwrap();
        days.entry(at[..10].to_string()).or_default().push(line);
    }
    let (day, then) = days.into_iter().max_by_key(|(_, alerts)| alerts.len()).unwrap();
    let again = replayed(&["--from", &day, "--to", &day]);
    assert_eq!(again.lines().collect::<Vec<_>>(), then, "{day}");
    assert_eq!(verify(&bank.path("again.jsonl")).1, 0);
}
