//! `manumit feed check` and `manumit run` on files that are not as they were when the feed was written.

use std::fs;
use std::path::Path;
use std::process::Output;

use crate::program::{finish, lines, manumit, rule, write};

const FEED: &str = r#"---
format = "csv"
delimiter = ";"
time_zone = "Europe/Berlin"
lateness = "1 hour"

[raw]
Tag = "text"
Konto = "text"
Betrag = "text"
"Währung" = "text"
Zweck = "text"
Referenz = "text"
---
SELECT
  Referenz AS tx_id,
  to_timestamp(Tag, '%d.%m.%Y %H:%M:%S') AS event_time,
  replace(replace(Betrag, '.', ''), ',', '.') AS amount,
  "Währung" AS currency,
  Konto AS debtor_account,
  Zweck AS memo
FROM raw
"#;

/// In order but for the last one; a text of two lines before a refused one, an id again, an id with other content.
const DAY: &str = "Tag;Konto;Betrag;Währung;Zweck;Referenz\n\
    30.03.2026 10:00:00;DE01;10,00;EUR;Miete;R1\n\
    30.03.2026 11:00:00;DE01;20,00;EUR;\"Miete\nApril\";R2\n\
    30.03.2026 11:30:00;DE01;20,005;EUR;Miete;R3\n\
    30.03.2026 11:30:00;DE01;20,00;EUR;Miete;R4\n\
    30.03.2026 11:30:00;DE01;20,00;EUR;Miete;R4\n\
    30.03.2026 11:30:00;DE01;21,00;EUR;Miete;R4\n\
    30.03.2026 08:00:00;DE01;30,00;EUR;Miete;R5\n";

fn project() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "sql/feeds/day.sql", FEED);
    for (id, when) in [("by-memo", "memo = 'Miete'"), ("by-device", "device_id = 'D'")] {
        let needs = if id == "by-device" { "needs = [\"device_id\"]\n" } else { "" };
        let rest = format!("over = \"entries\"\nwhen = \"{when}\"\nexplain = \"seen\"\n{needs}");
        write(folder.path(), &format!("rules/indicators/{id}.toml"), &rule(id, &rest));
    }
    write(folder.path(), "day.csv", DAY);
    folder
}

/// What it said, and whether it found nothing wrong.
fn check(folder: &Path, sample: &str) -> (String, bool) {
    let Output { status, stdout, stderr } =
        manumit(folder, &["feed", "check", "day", sample], &[]).output().unwrap();
    assert!(matches!(status.code(), Some(0 | 2)), "{}", String::from_utf8_lossy(&stderr));
    (String::from_utf8(stdout).unwrap(), status.success())
}

#[test]
fn a_check_tells_what_a_run_would_set_aside_and_what_rules_would_not_see() {
    let project = project();
    let (told, clean) = check(project.path(), "day.csv");
    assert!(!clean);
    for words in [
        "6 transactions accepted",
        "day.csv, line 5 (record 4), field `amount`",
        "1 of 6 transactions would be late in a run",
        "is 3 hours 30 minutes behind",
        "1 of 6 transactions would be dropped in a run",
        "1 of 6 transactions would be rejected in a run (conflicting_id)",
        "`R4`: record 5 of day.csv and record 7 of day.csv",
        "1 of 2 indicators find nothing, as the feed maps no\n  `device_id`: by-device",
        "Not mapped, with how many of 2 indicators read it: ",
        "`device_id` (1)",
    ] {
        assert!(told.contains(words), "{words}\n{told}");
    }
    // What the check says of a run is so.
    let summary = finish(manumit(project.path(), &["run", "--feed", "day", "--from", "day.csv"], &[]));
    assert!(summary.contains("1 late") && summary.contains("1 duplicates dropped"), "{summary}");
    assert!(summary.contains("conflicting_id: 1"), "{summary}");
}

#[test]
fn a_renamed_column_is_told_by_check_and_run_once_a_file() {
    let project = project();
    let folder = project.path();
    let good = DAY.lines().take(2).collect::<Vec<_>>().join("\n") + "\n";
    fs::write(folder.join("good.csv"), &good).unwrap();
    assert!(check(folder, "good.csv").1);
    fs::write(folder.join("hdr2.csv"), good.replace("Zweck", "Verwendungszweck")).unwrap();
    let wanted = "the header of hdr2.csv has no column `Zweck`; it has `Verwendungszweck`";
    let (told, clean) = check(folder, "hdr2.csv");
    assert!(
        told.contains(&format!("warning: {wanted}")) && told.contains("1 transactions accepted"),
        "{told}"
    );
    assert!(!clean && told.contains("NULL in all of the sample") && told.contains("`memo` (1)"), "{told}");
    let run = |from: &str| finish(manumit(folder, &["run", "--feed", "day", "--from", from], &[]));
    let log = run("hdr2.csv");
    assert_eq!(log.matches(wanted).count(), 1, "{log}");
    assert!(log.contains("1 files lack a column") && log.contains("1 transactions accepted"), "{log}");

    // Without its currency no row can be used, and the letters say why.
    fs::write(folder.join("hdr.csv"), good.replace("Währung", "Waehrung")).unwrap();
    assert!(run("hdr.csv").contains("missing_column: 1"));
    let letters = lines(&folder.join("dead-letters.jsonl"));
    let message = letters[0]["message"].as_str().unwrap();
    assert!(
        message.contains("the header of hdr.csv has no column `Währung`; it has `Waehrung`"),
        "{message}"
    );
}

#[test]
fn files_without_records_are_told_and_their_header_is_looked_at_all_the_same() {
    let project = project();
    let folder = project.path();
    fs::write(folder.join("empty.csv"), "").unwrap();
    let (told, clean) = check(folder, "empty.csv");
    assert!(!clean && told.contains("warning: empty.csv has no record"), "{told}");
    fs::write(folder.join("two.csv"), "Tag;Konto\n").unwrap();
    let (told, clean) = check(folder, "two.csv");
    assert!(!clean && told.contains("warning: two.csv has no record"), "{told}");
    assert!(told.contains("the header of two.csv has no columns `Betrag`, `Währung`, `Zweck`"), "{told}");
}

#[test]
fn a_backtest_of_raw_records_asks_for_the_feed() {
    let project = project();
    fs::write(project.path().join("x.jsonl"), "{\"id\":1}\n").unwrap();
    let output =
        manumit(project.path(), &["backtest", "--data", "x.jsonl", "--out", "out"], &[]).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && told.contains("give --feed NAME"), "{told}");
    assert!(!told.contains("expected extension"), "{told}");
}
