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
    /// What analysts decided, CSV: alert_id, disposition
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

fn summary(found: &Evaluation) -> String {
    let mut out = String::new();
    // Cases that hide are told apart: what they cost in recall is no fault of the others.
    let kinds: Vec<&str> = found.variants.iter().map(|variant| variant.name.as_str()).collect();
    let mut typologies = table(
        ["typology", "cases", "found", "by any", "recall"]
            .into_iter()
            .chain(kinds.iter().copied().filter(|_| kinds.len() > 1))
            .chain(["alerts", "right", "precision", "days to alert"]),
    );
    for one in &found.typologies {
        let counts = [one.cases, one.found, one.found_by_any].map(|count| count.to_string());
        let of_kind = |kind: &&str| {
            let of = one.variants.iter().find(|variant| variant.name == **kind);
            of.map_or("–".into(), |of| format!("{}/{}", of.found, of.cases))
        };
        let row = std::iter::once(one.typology.clone())
            .chain(counts)
            .chain([percent(one.recall)])
            .chain(kinds.iter().filter(|_| kinds.len() > 1).map(of_kind))
            .chain([
                one.alerts.to_string(),
                one.right.to_string(),
                percent(one.precision),
                tenth(one.days_to_alert),
            ]);
        typologies.add_row(row);
    }
    let _ = writeln!(out, "{typologies}\n");
    if !found.variants.is_empty() {
        let mut variants = table(["variant", "cases", "found", "recall"]);
        for one in &found.variants {
            let (cases, found) = (one.cases.to_string(), one.found.to_string());
            variants.add_row([one.name.clone(), cases, found, percent(one.recall)]);
        }
        let _ = writeln!(out, "{variants}\n");
    }
    let mut scores = table(["score", "alerts", "right", "share"]);
    for band in &found.calibration {
        let (alerts, right) = (band.alerts.to_string(), band.right.to_string());
        scores.add_row([format!("{}–{}", band.from, band.to), alerts, right, percent(band.precision)]);
    }
    let _ = writeln!(out, "{scores}\n");
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
    let _ = write!(
        out,
        "{} of {} cases found in time ({}); {} of {} alerts right ({}), {} about people known to be innocent, {} about people of whom nothing is known, {} not decided; {} alerts a day",
        found.found,
        found.cases,
        percent(found.recall),
        found.right,
        found.alerts,
        percent(found.precision),
        found.innocent,
        found.unknown,
        found.open,
        tenth(Some(found.per_day)),
    );
    if let Some(load) = found.per_10k_month {
        let _ = write!(out, ", {load:.1} of 10,000 customers in 30 days");
    }
    out
}
