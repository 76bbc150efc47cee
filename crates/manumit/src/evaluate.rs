//! `manumit evaluate`: how well alerts meet known cases, or what analysts decided.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use chrono::{DateTime, NaiveDate};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use manumit_evaluate::{Evaluation, Scope, Truth};

/// What to evaluate.
#[derive(Args, Debug)]
pub struct EvaluateArgs {
    /// Alerts as a run or a backtest publishes them, JSON lines
    #[arg(long, value_name = "FILE")]
    alerts: PathBuf,
    /// Known cases and innocent look-alikes, CSV: subject, and if wanted case, typology, label, population, variant, begins, ends
    #[arg(long, value_name = "FILE", required_unless_present = "dispositions")]
    truth: Option<PathBuf>,
    /// The cases' relevant transactions, CSV: case, at, amount; for the money that moved before an alert
    #[arg(long, value_name = "FILE", requires = "truth")]
    transactions: Option<PathBuf>,
    /// What analysts decided, CSV: alert_id, disposition, and if wanted at, analyst, reason; of several on one alert the latest `at` counts
    #[arg(long, value_name = "FILE")]
    dispositions: Option<PathBuf>,
    /// Customers that were watched: a number, or the customers' file, whose lines are counted
    #[arg(long, value_name = "NUMBER or FILE")]
    customers: Option<String>,
    /// First day that was watched [default: of the alerts and cases]
    #[arg(long, value_name = "DATE")]
    from: Option<NaiveDate>,
    /// Last day that was watched
    #[arg(long, value_name = "DATE")]
    to: Option<NaiveDate>,
    /// An alert is in time until so many days after the case's last transaction
    #[arg(long, value_name = "DAYS", default_value_t = 1)]
    grace: u32,
    /// Write evaluation.html and evaluation.json to this folder
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

fn read(path: &Path) -> anyhow::Result<(String, String)> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| format!("{name} cannot be read"))?;
    Ok((name, text))
}

/// Works out the figures and writes them where they are wanted; the summary.
///
/// # Errors
/// When a file cannot be read or written, or a line cannot be used.
pub fn evaluate(args: &EvaluateArgs) -> anyhow::Result<String> {
    let (name, text) = read(&args.alerts)?;
    let alerts = manumit_evaluate::raised(&name, &text)?;
    let mut truth = Truth::default();
    if let Some(path) = &args.truth {
        let (name, text) = read(path)?;
        truth = Truth::read(&name, &text)?;
    }
    if let Some(path) = &args.transactions {
        let (name, text) = read(path)?;
        truth.read_transactions(&name, &text)?;
    }
    let dispositions = match &args.dispositions {
        Some(path) => {
            let (name, text) = read(path)?;
            Some(manumit_evaluate::dispositions(&name, &text)?)
        }
        None => None,
    };
    let micros = |day: NaiveDate, days: u64| {
        let day = day.checked_add_days(chrono::Days::new(days))?.and_hms_opt(0, 0, 0)?;
        Some(DateTime::timestamp_micros(&day.and_utc()))
    };
    let scope = Scope {
        customers: args.customers.as_deref().map(customers).transpose()?,
        watched: (args.from.and_then(|day| micros(day, 0)), args.to.and_then(|day| micros(day, 1))),
        grace: i64::from(args.grace) * 86_400_000_000,
    };
    let found = manumit_evaluate::evaluate(&alerts, &truth, dispositions.as_ref(), &scope);
    let mut out = summary(&found);
    if let Some(folder) = &args.out {
        std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        for (name, text) in [("evaluation.json", found.json()?), ("evaluation.html", found.html()?)] {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
            let _ = write!(out, "\n{}", path.display());
        }
    }
    Ok(out)
}

/// A number, or the lines of a file below its header.
fn customers(text: &str) -> anyhow::Result<u64> {
    if let Ok(number) = text.replace(['_', ','], "").parse() {
        return Ok(number);
    }
    let path = Path::new(text);
    if !path.is_file() {
        bail!("`{text}` is neither a number of customers nor a file of them");
    }
    let (_, text) = read(path)?;
    Ok(text.lines().filter(|line| !line.trim().is_empty()).count().saturating_sub(1) as u64)
}

fn percent(share: Option<f64>) -> String {
    share.map_or("–".into(), |share| format!("{:.0} %", share * 100.0))
}

fn tenth(number: Option<f64>) -> String {
    number.map_or("–".into(), |number| format!("{number:.1}"))
}

fn table<'a>(head: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(head.into_iter().collect::<Vec<_>>());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Ids in a sentence: ten of them, and how many more.
fn some(ids: &[String]) -> String {
    let more = ids.len().saturating_sub(10);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", ids[..ids.len().min(10)].join(", "))
}

/// By typology. What nothing is known of has no column: without cases there is no recall, without dispositions all are decided.
fn by_typology(found: &Evaluation) -> Table {
    let (of_cases, of_decisions) = (found.cases > 0, found.dispositions.is_some());
    // Cases that hide are told apart: what they cost in recall is no fault of the others.
    let kinds: Vec<&str> = found.variants.iter().map(|variant| variant.name.as_str()).collect();
    let kinds = if kinds.len() > 1 { kinds } else { Vec::new() };
    let mut head = vec!["typology"];
    if of_cases {
        head.extend(["cases", "found", "by any", "recall"]);
        head.extend(&kinds);
    }
    head.push("alerts");
    if of_decisions {
        head.push("decided");
    }
    head.extend(["right", "precision"]);
    if of_cases {
        head.push("days to alert");
    }
    let mut typologies = table(head);
    for one in &found.typologies {
        let mut row = vec![one.typology.clone()];
        if of_cases {
            row.extend([one.cases, one.found, one.found_by_any].map(|count| count.to_string()));
            row.push(percent(one.recall));
            row.extend(kinds.iter().map(|kind| {
                let of = one.variants.iter().find(|variant| variant.name == *kind);
                of.map_or("–".into(), |of| format!("{}/{}", of.found, of.cases))
            }));
        }
        row.push(one.alerts.to_string());
        if of_decisions {
            row.push(one.decided.to_string());
        }
        row.extend([one.right.to_string(), percent(one.precision)]);
        if of_cases {
            row.push(tenth(one.days_to_alert));
        }
        typologies.add_row(row);
    }
    typologies
}

fn by_score(found: &Evaluation) -> Table {
    let of_decisions = found.dispositions.is_some();
    let decided = of_decisions.then_some("decided");
    let mut scores = table(["score", "alerts"].into_iter().chain(decided).chain(["right", "share"]));
    for band in &found.calibration {
        let mut row = vec![format!("{}–{}", band.from, band.to), band.alerts.to_string()];
        row.extend(of_decisions.then(|| band.decided.to_string()));
        row.extend([band.right.to_string(), percent(band.precision)]);
        scores.add_row(row);
    }
    scores
}

fn summary(found: &Evaluation) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}\n", by_typology(found));
    if !found.variants.is_empty() {
        let mut variants = table(["variant", "cases", "found", "recall"]);
        for one in &found.variants {
            let (cases, found) = (one.cases.to_string(), one.found.to_string());
            variants.add_row([one.name.clone(), cases, found, percent(one.recall)]);
        }
        let _ = writeln!(out, "{variants}\n");
    }
    let _ = writeln!(out, "{}\n", by_score(found));
    if found.confusion.iter().any(|one| one.alerted > 0) {
        let mut innocent = table(["innocent people", "known", "alerted", "by"]);
        for one in found.confusion.iter().filter(|one| one.alerted > 0) {
            let by: Vec<String> =
                one.by.iter().map(|(typology, count)| format!("{typology} ({count})")).collect();
            let (known, alerted) = (one.subjects.to_string(), one.alerted.to_string());
            innocent.add_row([one.population.clone(), known, alerted, by.join(", ")]);
        }
        let _ = writeln!(out, "{innocent}\n");
    }
    let missed: Vec<String> = found
        .each
        .iter()
        .filter(|case| case.found_by.is_empty())
        .map(|case| format!("{}{}", case.case, if case.late { " (too late)" } else { "" }))
        .collect();
    if !missed.is_empty() {
        let _ = writeln!(out, "not found: {}\n", missed.join(", "));
    }
    if let Some(used) = &found.dispositions {
        if !used.unknown.is_empty() {
            let _ = writeln!(
                out,
                "{} of the {} alerts decided are not among the alerts, and count for nothing: {}",
                used.unknown.len(),
                used.alerts,
                some(&used.unknown)
            );
        }
        if !used.changed.is_empty() {
            let _ = writeln!(
                out,
                "{} alerts were decided again, and otherwise; the latest decision counts: {}",
                used.changed.len(),
                some(&used.changed)
            );
        }
    }
    if found.cases > 0 {
        let recall = percent(found.recall);
        let _ = write!(out, "{} of {} cases found in time ({recall}); ", found.found, found.cases);
    }
    let precision = percent(found.precision);
    let _ = match &found.dispositions {
        Some(_) => write!(
            out,
            "{} of {} decided alerts right ({precision}), {} dismissed; {} of {} alerts not decided",
            found.right, found.decided, found.dismissed, found.open, found.alerts
        ),
        None => write!(
            out,
            "{} of {} alerts right ({precision}), {} about people known to be innocent, {} about people of whom nothing is known",
            found.right, found.alerts, found.innocent, found.unknown
        ),
    };
    let _ = write!(out, "; {} alerts a day", tenth(Some(found.per_day)));
    if let Some(load) = found.per_10k_month {
        let _ = write!(out, ", {load:.1} of 10,000 customers in 30 days");
    }
    out
}

#[cfg(test)]
mod tests {
    use manumit_evaluate::{Raised, dispositions};

    use super::*;

    fn alerts() -> Vec<Raised> {
        let alert = |id: &str, score| Raised {
            id: id.into(),
            typology: "fan-in".into(),
            subject: id.into(),
            opened: 0,
            raised: vec![0],
            score,
            urgent: false,
        };
        vec![alert("1", 75), alert("2", 75), alert("3", 92)]
    }

    #[test]
    fn without_cases_nothing_is_said_of_recall_and_the_denominator_of_precision_is_shown() {
        let text =
            "alert_id,disposition,at\n1,dismissed,2026-03-01\n1,reported,2026-03-02\n2,dismissed,\n9,open,\n";
        let decided = dispositions("decided.csv", text).unwrap();
        let told = summary(&manumit_evaluate::evaluate(
            &alerts(),
            &Truth::default(),
            Some(&decided),
            &Scope::default(),
        ));
        for word in ["recall", "cases", "innocent", "days to alert"] {
            assert!(!told.contains(word), "{word}: {told}");
        }
        let row = |of: &str| {
            let line = told.lines().find(|line| line.trim_start().starts_with(of)).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(row("typology"), "typology alerts decided right precision");
        assert_eq!(row("fan-in"), "fan-in 3 2 1 50 %");
        assert_eq!(row("70–79"), "70–79 2 2 1 50 %");
        assert_eq!(row("90–99"), "90–99 1 0 0 –");
        assert!(
            told.contains("1 of 2 decided alerts right (50 %), 1 dismissed; 1 of 3 alerts not decided"),
            "{told}"
        );
        assert!(
            told.contains("1 of the 3 alerts decided are not among the alerts, and count for nothing: 9"),
            "{told}"
        );
        assert!(
            told.contains("1 alerts were decided again, and otherwise; the latest decision counts: 1"),
            "{told}"
        );
    }

    #[test]
    fn with_cases_the_summary_tells_how_many_are_found_and_no_decisions() {
        let truth = Truth::read("truth.csv", "subject,typology\n1,fan-in\nX,fan-in\n").unwrap();
        let told = summary(&manumit_evaluate::evaluate(&alerts(), &truth, None, &Scope::default()));
        assert!(told.contains("1 of 2 cases found in time (50 %); 1 of 3 alerts right (33 %)"), "{told}");
        assert!(!told.contains("decided"), "{told}");
    }
}
