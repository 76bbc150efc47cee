//! The alert log, as an auditor meets it.

use crate::nordbank::Nordbank;
use crate::program::{FEED, finish, lines, manumit};

#[test]
fn an_altered_alert_and_a_swapped_record_are_named_and_runs_go_on_with_a_log() {
    let bank = Nordbank::new(160, 1);
    let folder = bank.folder.path();
    let run = |alerts: &str| {
        let run = [
            "run",
            "--feed",
            FEED,
            "--from",
            "records.jsonl",
            "--alerts",
            alerts,
            "--alert-log",
            "log.jsonl",
        ];
        manumit(folder, &run, &bank.environment())
    };
    let told = finish(run("alerts.jsonl"));
    let verify = |more: &[&str]| {
        let done = manumit(folder, &[&["verify-log", "log.jsonl"], more].concat(), &[]).output().unwrap();
        let said = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let alerts = lines(&bank.path("alerts.jsonl")).len();
    assert!(alerts >= 5);
    let head = told.split_whitespace().last().unwrap_or_default().to_string();
    let (well, said) = verify(&["--alerts", "alerts.jsonl", "--head", &head]);
    assert!(well && said.contains(&format!("{alerts} records are whole")), "{said}");
    assert!(said.contains(&format!("{alerts} alert revisions in alerts.jsonl are as logged")), "{said}");

    let text = std::fs::read_to_string(bank.path("alerts.jsonl")).unwrap();
    std::fs::write(bank.path("altered.jsonl"), text.replacen("\"score\":", "\"score\":1", 1)).unwrap();
    let (well, said) = verify(&["--alerts", "altered.jsonl"]);
    assert!(!well && said.contains("line 1: alert ") && said.contains("was altered"), "{said}");

    // The same again goes on behind what is there: the log is what was published, and says so of each.
    finish(run("again.jsonl"));
    assert!(verify(&[]).1.contains(&format!("{} records are whole", 2 * alerts)));
    let (well, said) = verify(&["--alerts", "alerts.jsonl"]);
    assert!(!well && said.contains("was published twice"), "{said}");

    let log = std::fs::read_to_string(bank.path("log.jsonl")).unwrap();
    let mut records: Vec<&str> = log.lines().collect();
    records.swap(1, 3);
    std::fs::write(bank.path("log.jsonl"), records.join("\n") + "\n").unwrap();
    let (well, said) = verify(&[]);
    assert!(!well && said.contains("log.jsonl, line 2: records 2 and 4 were swapped"), "{said}");
    let refused = run("third.jsonl").output().unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("records 2 and 4 were swapped"));
}
