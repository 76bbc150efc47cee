//! Figures worked out by hand, and what is said of lines that cannot be used.

#![allow(clippy::unwrap_used, missing_docs)]

use manumit_evaluate::{Raised, Scope, Truth, dispositions, evaluate};

const TRUTH: &str = "\
case,subject,typology,label,population,variant,begins,ends
ring,A,fan-in,true,,plain,2026-03-01T00:00:00Z,2026-03-10T00:00:00Z
ring,B,fan-in,true,,plain,2026-03-02T00:00:00Z,2026-03-08T00:00:00Z
sweep,C,wage-sweep,,,stealthy,2026-03-01,2026-03-05
lone,D,fan-in,,,stealthy,2026-03-01,2026-03-02
,E,fan-in,false,market traders,,,
,F,fan-in,false,market traders,,,
,G,,no,,,,
";

const MOVED: &str = "\
case,tx_id,at,amount
ring,t1,2026-03-01T00:00:00Z,100.00
ring,t2,2026-03-04T00:00:00Z,50.5
ring,t3,2026-03-09T00:00:00Z,49.5
";

const DAY: i64 = 86_400_000_000;

fn alert(id: &str, typology: &str, subject: &str, day: f64, score: u32) -> Raised {
    let opened = chrono_micros("2026-03-01T00:00:00Z") + (day * DAY as f64) as i64;
    Raised {
        id: id.into(),
        typology: typology.into(),
        subject: subject.into(),
        opened,
        raised: vec![opened],
        score,
        urgent: false,
    }
}

fn chrono_micros(text: &str) -> i64 {
    chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
}

fn alerts() -> Vec<Raised> {
    vec![
        alert("1", "fan-in", "B", 3.0, 75),
        alert("2", "wage-sweep", "A", 4.0, 92),
        // Two days after the case, of which one is allowed.
        alert("3", "wage-sweep", "C", 7.0, 71),
        alert("4", "fan-in", "E", 2.0, 79),
        alert("5", "fan-in", "Z", 9.0, 70),
        // Nobody planted a case of it for this one, but D is one.
        alert("6", "wage-sweep", "D", 0.5, 80),
    ]
}

fn close(found: Option<f64>, wanted: f64) -> bool {
    found.is_some_and(|found| (found - wanted).abs() < 1e-9)
}

#[test]
fn figures_of_planted_cases_are_those_worked_out_by_hand() {
    let mut truth = Truth::read("truth.csv", TRUTH).unwrap();
    truth.read_transactions("moved.csv", MOVED).unwrap();
    let scope = Scope { customers: Some(1000), grace: DAY, ..Scope::default() };
    let found = evaluate(&alerts(), &truth, None, &scope);
    assert_eq!((found.cases, found.found), (3, 2), "the ring and D; the sweep was told too late");
    assert_eq!((found.alerts, found.right, found.innocent, found.unknown), (6, 4, 1, 1));
    assert!(close(found.precision, 4.0 / 6.0) && close(found.recall, 2.0 / 3.0));
    assert!((found.days - 9.0).abs() < 1e-9, "{}", found.days);
    assert!(close(found.per_10k_month, 6.0 * 10.0 * 30.0 / 9.0));

    let fan_in = found.typologies.iter().find(|one| one.typology == "fan-in").unwrap();
    assert_eq!((fan_in.cases, fan_in.found, fan_in.found_by_any), (2, 1, 2));
    assert_eq!((fan_in.alerts, fan_in.right), (3, 1));
    assert!(close(fan_in.days_to_alert, 3.0));

    let ring = found.each.iter().find(|case| case.case == "ring").unwrap();
    assert_eq!(ring.found_by, ["fan-in", "wage-sweep"]);
    assert_eq!(ring.moved.as_deref(), Some("150.50"), "what moved until the fourth, its own time included");
    assert!(close(ring.moved_share, 0.7525) && close(ring.days, 3.0));
    let sweep = found.each.iter().find(|case| case.case == "sweep").unwrap();
    assert!(sweep.late && sweep.found_by.is_empty() && sweep.days.is_none());

    let stealthy = found.variants.iter().find(|one| one.name == "stealthy").unwrap();
    assert_eq!((stealthy.cases, stealthy.found), (2, 1));
    let bands: Vec<(u32, usize, usize)> =
        found.calibration.iter().map(|band| (band.from, band.alerts, band.right)).collect();
    assert_eq!(bands, [(70, 4, 2), (80, 1, 1), (90, 1, 1)]);
    let traders = found.confusion.iter().find(|one| one.population == "market traders").unwrap();
    assert_eq!((traders.subjects, traders.alerted, traders.by["fan-in"]), (2, 1, 1));
}

#[test]
fn what_analysts_decided_gives_precision_and_what_is_open_does_not_count() {
    let text =
        "alert_id,disposition,analyst\n1,Reported,x\n2,dismissed,x\n4,false positive,y\n5,in review,y\n";
    let decided = dispositions("decided.csv", text).unwrap();
    let found = evaluate(&alerts(), &Truth::default(), Some(&decided), &Scope::default());
    assert_eq!((found.right, found.dismissed, found.open, found.decided), (1, 2, 3, 3));
    assert_eq!((found.innocent, found.unknown), (0, 0), "who is innocent decisions do not tell");
    assert!(close(found.precision, 1.0 / 3.0) && found.recall.is_none());
    let fan_in = found.typologies.iter().find(|one| one.typology == "fan-in").unwrap();
    assert_eq!((fan_in.alerts, fan_in.decided, fan_in.right), (3, 2, 1));
    let bands: Vec<(u32, usize, usize, usize)> =
        found.calibration.iter().map(|band| (band.from, band.alerts, band.decided, band.right)).collect();
    assert_eq!(bands, [(70, 4, 2, 1), (80, 1, 0, 0), (90, 1, 1, 0)]);
    let page = found.html().unwrap();
    assert!(
        page.contains("<th class=\"n\">decided</th>") && page.contains("of 3 decided alerts right"),
        "{page}"
    );
    assert!(
        !page.contains("recall") && !page.contains("found in time") && !page.contains("innocent"),
        "{page}"
    );
}

#[test]
fn decisions_on_alerts_that_are_not_there_are_counted_and_told() {
    let decided = dispositions("d.csv", "alert_id,disposition\n1,reported\nelsewhere,dismissed\n").unwrap();
    let found = evaluate(&alerts(), &Truth::default(), Some(&decided), &Scope::default());
    let used = found.dispositions.as_ref().unwrap();
    assert_eq!((used.alerts, used.unknown.as_slice()), (2, &["elsewhere".to_string()][..]));
    assert_eq!((found.decided, found.dismissed), (1, 0));
    assert!(found.html().unwrap().contains("1 of the 2 alerts decided are not among the alerts"));
}

#[test]
fn of_two_decisions_the_later_one_counts_and_without_a_time_they_are_refused() {
    let both = |first: &str, second: &str| {
        let text = format!(
            "alert_id,disposition,at,analyst,reason\n1,reported,{first},x,y\n1,dismissed,{second},x,\n"
        );
        dispositions("d.csv", &text)
    };
    let decided = both("2026-03-02T09:00:00Z", "2026-03-02T08:00:00Z").unwrap();
    assert_eq!(
        decided.verdicts["1"],
        manumit_evaluate::Verdict::Right,
        "the later time stands first in the file"
    );
    assert!(decided.changed.contains("1"));
    let found = evaluate(&alerts(), &Truth::default(), Some(&decided), &Scope::default());
    assert!(found.html().unwrap().contains("decided again"));
    for (first, second) in [("", ""), ("2026-03-02", ""), ("", "2026-03-02"), ("2026-03-02", "2026-03-02")] {
        let told = both(first, second).unwrap_err().to_string();
        assert!(
            told.starts_with("d.csv, line 3: alert `1` is `dismissed` here and `reported` in line 2"),
            "{told}"
        );
        assert!(told.contains("write the time of both into `at`"), "{told}");
    }
    let same = dispositions("d.csv", "alert_id,disposition\n1,reported\n1,confirmed\n").unwrap();
    assert!(same.changed.is_empty(), "they say the same");
}

#[test]
fn columns_set_apart_by_semicolons_are_named() {
    let told = dispositions("d.csv", "alert_id;disposition\n1;reported\n").unwrap_err().to_string();
    assert_eq!(told, "d.csv: its columns are set apart by semicolons; save it with commas between them");
}

#[test]
fn the_page_scrolls_what_is_wide_within_itself_and_is_made_for_paper() {
    let truth = Truth::read("truth.csv", TRUTH).unwrap();
    let page = evaluate(&alerts(), &truth, None, &Scope::default()).html().unwrap();
    assert_eq!(page.matches("<div class=\"wide\"><table>").count(), page.matches("<table>").count());
    assert!(page.contains("@media print") && page.contains("size: A4 landscape"));
}

#[test]
fn nothing_gives_no_figures_rather_than_wrong_ones() {
    let found = evaluate(&[], &Truth::default(), None, &Scope::default());
    assert!(found.precision.is_none() && found.recall.is_none() && found.per_10k_month.is_none());
    assert!(found.html().unwrap().contains("–"));
}

#[test]
fn the_page_escapes_what_files_say() {
    let truth = Truth::read("t", "subject,typology\n<script>alert(1)</script>,x\n").unwrap();
    let page = evaluate(&alerts(), &truth, None, &Scope::default()).html().unwrap();
    assert!(!page.contains("<script>") && page.contains("&lt;script&gt;"), "{page}");
}

#[test]
fn lines_that_cannot_be_used_are_named_with_the_mend() {
    let told = |text: &str| Truth::read("truth.csv", text).unwrap_err().to_string();
    assert_eq!(
        told("subject,typolgy\nA,x\n"),
        "truth.csv: there is no column `typolgy`; did you mean `typology`?"
    );
    assert_eq!(told("case\nA\n"), "truth.csv: it needs a column `subject`");
    assert_eq!(
        told("subject,label\nA,true\nB,perhaps\n"),
        "truth.csv, line 3: the label `perhaps` is neither true nor false"
    );
    assert!(told("subject,begins\nA,soon\n").contains("line 2: `begins` is `soon`; write a day"));
    let mut truth = Truth::read("truth.csv", "subject\nA\n").unwrap();
    let told = truth.read_transactions("moved.csv", "case,at,amount\nA,2026-01-01,1e3\n").unwrap_err();
    assert!(told.to_string().contains("moved.csv, line 2: the amount `1e3`"), "{told}");
    let told = truth.read_transactions("moved.csv", "case,at,amount\nB,2026-01-01,1\n").unwrap_err();
    assert!(told.to_string().contains("there is no case `B`"), "{told}");
    let told = dispositions("d.csv", "alert_id,disposition\n1,maybe\n").unwrap_err();
    assert!(told.to_string().contains("`maybe` is no disposition"), "{told}");
}

#[test]
fn an_alert_that_was_open_before_a_case_began_finds_it_only_when_it_is_revised_then() {
    let truth = Truth::read("t", "subject,begins,ends\nA,2026-03-05,2026-03-08T00:00:00Z\n").unwrap();
    let scope = Scope { grace: DAY, ..Scope::default() };
    let before = alert("1", "fan-in", "A", 2.0, 75);
    let found = evaluate(std::slice::from_ref(&before), &truth, None, &scope);
    assert_eq!((found.cases, found.found, found.right), (1, 0, 1));
    assert!(!found.each[0].late);

    let mut revised = before.clone();
    revised.raised.push(before.opened + 3 * DAY);
    let found = evaluate(&[revised], &truth, None, &scope);
    assert_eq!(found.found, 1);
    assert!(close(found.each[0].days, 1.0), "a day after it began: {:?}", found.each[0].days);

    let mut too_late = before.clone();
    too_late.raised.push(before.opened + 10 * DAY);
    let found = evaluate(&[too_late], &truth, None, &scope);
    assert_eq!((found.found, found.each[0].late), (0, true));
}
