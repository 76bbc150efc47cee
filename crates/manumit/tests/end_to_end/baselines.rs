//! `manumit baselines`: what is usual is worked out of the archive, knows nothing of what comes after, and rules look it up.

use std::path::Path;
use std::process::Command;

use crate::program::{finish, lines, manumit, rule, write};

/// A feed of lines `id,time,from,to,amount`.
const FEED: &str = "---\nformat = \"csv\"\nheader = false\ncurrency = \"EUR\"\ntime_zone = \"UTC\"\n[raw]\nid = \"text\"\nat = \"timestamp\"\n\
                    payer = \"text\"\npayee = \"text\"\namount = \"decimal\"\n---\nSELECT id AS tx_id, at AS event_time, payer AS debtor_account, \
                    payee AS creditor_account, amount, 'transfer' AS method FROM raw\n";

/// Six months of thirty days before 2026-07-01, the first of which begins on 2026-01-02.
fn project(folder: &Path, rows: &str) {
    write(folder, "sql/feeds/bank.sql", FEED);
    write(folder, "accounts.csv", "account,customer\nA,ann\nA2,ann\nB,ben\nC,cem\n");
    write(
        folder,
        "customers.csv",
        "customer,segment,valid_from\nann,person,\nben,person,\ncem,person,\ncem,business,2026-07-02\n",
    );
    write(folder, "rows.csv", rows);
    write(
        folder,
        "manumit.toml",
        "feeds = [\"bank\"]\n[archive]\nfolder = \"archive\"\n[reference]\naccounts = \"accounts.csv\"\ncustomers = \"customers.csv\"\n",
    );
    let indicator = "over = \"entries\"\nwhen = \"direction = 'in' AND inflow >= 2 * own AND inflow > peers.inflow_p90\"\n\
                     explain = \"{inflow} against {own}\"\n[features]\ninflow = \"sum(amount_base) FILTER (WHERE direction = 'in') OVER 30 days\"\n\
                     own = \"baseline.inflow_median\"\n";
    write(folder, "rules/indicators/more-than-usual.toml", &rule("more-than-usual", indicator));
    let typology = "within = \"1 day\"\ngate = \"more-than-usual\"\ngate_points = 70\nsummary = \"More.\"\nfiu_keywords = []\nopen_for = \"1 day\"\n";
    write(folder, "rules/typologies/sums/much/typology.toml", &rule("much", typology));
}

/// Ann gets 100, 300, 200, nothing, 500, 400 in her six months, and moves money between her own accounts; Ben 50 in the last two.
/// They stand in the order of time: late rows count in no baseline.
const ROWS: &str = "\
a1,2026-01-05 08:00:00,X1,A,100.00
a2,2026-02-05 09:00:00,X1,A,300.00
a3,2026-03-06 10:00:00,X2,A,200.00
own,2026-04-06 11:00:00,A2,A,9999.00
a5,2026-05-05 12:00:00,X3,A,499.99
a6,2026-05-05 13:00:00,X3,A,0.01
b1,2026-05-20 10:00:00,X1,B,50.00
a7,2026-06-05 14:00:00,X1,A,400.00
a8,2026-06-05 15:00:00,A,Y1,33.33
b2,2026-06-20 10:00:00,X1,B,50.00
c1,2026-07-01 00:00:00,X1,C,777.00
";

fn archive(folder: &Path) {
    finish(manumit(
        folder,
        &["run", "--feed", "bank", "--from", "rows.csv", "--alerts", "alerts.jsonl"],
        &[],
    ));
}

fn told(mut command: Command) -> (String, Option<i32>) {
    let output = command.output().unwrap();
    (String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(), output.status.code())
}

fn file(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap()
}

#[test]
fn medians_and_percentiles_are_those_worked_out_by_hand_and_versions_stand_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    project(folder, ROWS);
    archive(folder);
    let (said, code) = told(manumit(folder, &["baselines", "--as-of", "2026-07-01"], &[]));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("as of 2026-07-01: 2 customers, 1 groups"), "{said}");
    let own = "\
customer,valid_from,peer_group,months,inflow_median,outflow_median,inflow_most,outflow_most,counterparties,senders,receivers,hour_from,hour_to
ann,2026-07-01,person,6,200.0000,0.0000,500.0000,33.3300,4,3,1,8,15
ben,2026-07-01,person,2,50.0000,0.0000,50.0000,0.0000,1,1,0,10,10
";
    assert_eq!(file(folder, "baselines.csv"), own);
    // Eight months: 0, 50, 50, 100, 200, 300, 400, 500.
    let peers = "\
peer_group,valid_from,members,inflow_p50,inflow_p90,inflow_p99,outflow_p50,outflow_p90,outflow_p99,counterparties_p50,counterparties_p90,counterparties_p99
person,2026-07-01,2,100.0000,500.0000,500.0000,0.0000,33.3300,33.3300,1,4,4
";
    assert_eq!(file(folder, "peers.csv"), peers);

    // The day after the newest: the row of that day counts now, the first of January no more; the older version stays as it was.
    let (said, code) = told(manumit(folder, &["baselines"], &[]));
    assert_eq!(code, Some(0), "{said}");
    let both = file(folder, "baselines.csv");
    let kept: Vec<&str> = both.lines().filter(|line| !line.contains("2026-07-02")).collect();
    assert_eq!(kept, own.lines().collect::<Vec<_>>());
    assert!(both.contains("cem,2026-07-02,business,1,777.0000"), "{both}");
    // Again: nothing changes.
    told(manumit(folder, &["baselines", "--as-of", "2026-07-01", "--as-of", "2026-07-02"], &[]));
    assert_eq!(file(folder, "baselines.csv"), both);
}

#[test]
fn what_comes_later_changes_no_version_and_days_without_a_past_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = (folder.path().join("before"), folder.path().join("after"));
    let cut: String = ROWS
        .lines()
        .filter(|row| !row.contains("2026-06") && !row.contains("2026-07"))
        .fold(String::new(), |text, row| text + row + "\n");
    for (folder, rows) in [(&before, cut.as_str()), (&after, ROWS)] {
        project(folder, rows);
        archive(folder);
        let (said, code) = told(manumit(folder, &["baselines", "--as-of", "2026-05-21"], &[]));
        assert_eq!(code, Some(0), "{said}");
    }
    for name in ["baselines.csv", "peers.csv"] {
        assert_eq!(file(&before, name), file(&after, name));
    }
    for (day, words) in [
        ("2026-01-05", "the day after 2026-01-05"),
        ("2026-07-03", "until 2026-07-02"),
        ("soon", "is no day"),
    ] {
        let (said, code) = told(manumit(&after, &["baselines", "--as-of", day], &[]));
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(words), "{day}: {said}");
    }
}

#[test]
fn a_rule_looks_up_the_version_of_its_rows_time_and_the_alert_can_be_decided_again_without_the_tables() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    project(folder, ROWS);
    archive(folder);
    let (said, code) =
        told(manumit(folder, &["baselines", "--as-of", "2026-05-21", "--as-of", "2026-07-01"], &[]));
    assert_eq!(code, Some(0), "{said}");
    let config = file(folder, "manumit.toml") + "baselines = \"baselines.csv\"\npeers = \"peers.csv\"\n";
    write(folder, "manumit.toml", &config.replace("folder = \"archive\"", "folder = \"archive-2\""));
    // As of 21 May Ann's median is 200 and the peers' 90th percentile 500; before that day nothing is known, so nothing holds.
    let later = "d1,2026-05-10 10:00:00,X9,A,5000.00\nd2,2026-06-25 10:00:00,X9,A,100.00\nd3,2026-06-26 10:00:00,X9,A,0.01\nd4,2026-07-01 10:00:00,X9,B,501.00\n";
    write(folder, "rows.csv", &(ROWS.replace("c1,2026-07-01 00:00:00,X1,C,777.00\n", "") + later));
    let mut sorted: Vec<String> = file(folder, "rows.csv").lines().map(String::from).collect();
    sorted.sort_by_key(|row| row.split(',').nth(1).map(String::from));
    write(folder, "rows.csv", &(sorted.join("\n") + "\n"));
    finish(manumit(
        folder,
        &["run", "--feed", "bank", "--from", "rows.csv", "--alerts", "alerts-2.jsonl"],
        &[],
    ));
    let alerts: Vec<(String, String)> = lines(&folder.join("alerts-2.jsonl"))
        .iter()
        .filter(|alert| alert["revision"] == 1)
        .map(|alert| {
            let text = |pointer: &str| alert.pointer(pointer).unwrap().as_str().unwrap().to_string();
            (text("/subject/key"), text("/opened_at/utc"))
        })
        .collect();
    let wanted =
        [("A", "2026-06-05T14:00:00Z"), ("A", "2026-06-26T10:00:00Z"), ("B", "2026-07-01T10:00:00Z")];
    let found: Vec<(&str, &str)> = alerts.iter().map(|(key, at)| (key.as_str(), at.as_str())).collect();
    assert_eq!(found, wanted);

    // The alert carries the values that were looked up.
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::copy(folder.join("alerts-2.jsonl"), elsewhere.path().join("alerts.jsonl")).unwrap();
    let (said, code) = told(manumit(elsewhere.path(), &["verify-alert", "alerts.jsonl"], &[]));
    assert_eq!(code, Some(0), "{said}");
}
