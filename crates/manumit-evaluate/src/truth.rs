//! What is known: cases and innocent look-alikes, money that moved, and what analysts decided.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate};
use manumit_model::money::Money;
use manumit_model::nearest;

use crate::EvaluateError;

/// A known case: a person or a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Case {
    /// Accounts, customers, … any of which stands for it.
    pub subjects: BTreeSet<String>,
    /// What it is known for; empty: anything.
    pub typologies: BTreeSet<String>,
    /// First relevant transaction, microseconds UTC.
    pub begins: Option<i64>,
    /// Last one.
    pub ends: Option<i64>,
    /// How it hides, such as `plain` or `stealthy`; empty where that is not told.
    pub variant: String,
    /// Relevant transactions: microseconds UTC and 1/10000 of the base currency's unit, by time.
    pub moved: Vec<(i64, i128)>,
}

/// Cases, and those who are known to be none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Truth {
    /// By the case's name.
    pub cases: BTreeMap<String, Case>,
    /// Innocent subjects, with the population that they belong to.
    pub innocent: BTreeMap<String, String>,
}

/// What became of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Reported, or confirmed.
    Right,
    /// Dismissed.
    Wrong,
    /// Still open.
    Open,
}

/// What analysts decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dispositions {
    /// By alert id, what counts.
    pub verdicts: BTreeMap<String, Verdict>,
    /// Alerts that were decided again and otherwise than before: of them the latest decision counts.
    pub changed: BTreeSet<String>,
}

const COLUMNS: [&str; 9] =
    ["case", "subject", "typology", "label", "population", "variant", "begins", "ends", "source"];

/// One line of a table, by column.
struct Line<'f> {
    file: &'f str,
    number: u64,
    cells: BTreeMap<String, String>,
}

impl Line<'_> {
    fn text(&self, column: &str) -> Option<&str> {
        self.cells.get(column).map(String::as_str).filter(|text| !text.is_empty())
    }

    fn needed(&self, column: &str) -> Result<&str, EvaluateError> {
        self.text(column).ok_or_else(|| self.fault(format!("`{column}` is empty; write it there")))
    }

    fn fault(&self, why: String) -> EvaluateError {
        EvaluateError::Line { file: self.file.into(), line: self.number, why }
    }

    fn time(&self, column: &str) -> Result<Option<i64>, EvaluateError> {
        let Some(text) = self.text(column) else { return Ok(None) };
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return Ok(Some(time.timestamp_micros()));
        }
        let day = text.parse::<NaiveDate>().ok().and_then(|day| day.and_hms_opt(0, 0, 0));
        match day {
            // A case that ends on a day ends with it.
            Some(day) if column == "ends" => {
                Ok(Some(day.and_utc().timestamp_micros() + 86_400_000_000 - 1))
            }
            Some(day) => Ok(Some(day.and_utc().timestamp_micros())),
            None => Err(self.fault(format!(
                "`{column}` is `{text}`; write a day such as 2026-03-02, or a time such as 2026-03-02T14:00:00Z"
            ))),
        }
    }
}

/// The lines of a CSV file with a header.
fn lines<'f>(
    file: &'f str,
    text: &str,
    known: &[&str],
    needed: &[&str],
) -> Result<Vec<Line<'f>>, EvaluateError> {
    let whole = |why: String| EvaluateError::File { file: file.into(), why };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| whole(error.to_string()))?.clone();
    // What spreadsheets of many countries call CSV.
    if let [only] = header.iter().collect::<Vec<_>>()[..]
        && let Some(other) = [';', '\t'].into_iter().find(|other| only.contains(*other))
    {
        let other = if other == ';' { "semicolons" } else { "tabs" };
        return Err(whole(format!("its columns are set apart by {other}; save it with commas between them")));
    }
    if let Some(unknown) = header.iter().find(|name| !known.contains(name)) {
        let help = match nearest(unknown, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("columns are {}", known.join(", ")),
        };
        return Err(whole(format!("there is no column `{unknown}`; {help}")));
    }
    if let Some(missing) = needed.iter().find(|name| !header.iter().any(|given| given == **name)) {
        return Err(whole(format!("it needs a column `{missing}`")));
    }
    let mut lines = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| whole(error.to_string()))?;
        let number = record.position().map_or(0, csv::Position::line);
        let cells = header.iter().map(String::from).zip(record.iter().map(String::from)).collect();
        lines.push(Line { file, number, cells });
    }
    Ok(lines)
}

impl Truth {
    /// Reads cases: a line a subject, with the columns `subject` and if wanted `case` (the subject itself when left out),
    /// `typology`, `label` (true or false; true when left out), `population`, `variant`, `begins`, `ends`, `source` (ignored).
    ///
    /// # Errors
    /// Names the column or the line that cannot be used.
    pub fn read(file: &str, text: &str) -> Result<Truth, EvaluateError> {
        let mut truth = Truth::default();
        for line in lines(file, text, &COLUMNS, &["subject"])? {
            let subject = line.needed("subject")?.to_string();
            let label = line.text("label").map(str::to_lowercase);
            let typology = line.text("typology");
            match label.as_deref() {
                None | Some("true" | "1" | "yes") => {}
                Some("false" | "0" | "no") => {
                    let population = line.text("population").map(String::from);
                    let like = typology.map(|typology| format!("looks like {typology}"));
                    let population = population.or(like).unwrap_or_else(|| "innocent".into());
                    truth.innocent.insert(subject, population);
                    continue;
                }
                Some(other) => {
                    return Err(line.fault(format!("the label `{other}` is neither true nor false")));
                }
            }
            let (begins, ends) = (line.time("begins")?, line.time("ends")?);
            let case = truth.cases.entry(line.text("case").unwrap_or(&subject).to_string()).or_default();
            case.subjects.insert(subject.clone());
            case.typologies.extend(typology.map(String::from));
            case.begins = case.begins.into_iter().chain(begins).min();
            case.ends = case.ends.into_iter().chain(ends).max();
            if let Some(variant) = line.text("variant") {
                case.variant = variant.to_string();
            }
        }
        Ok(truth)
    }

    /// Reads the relevant transactions of the cases: `case`, `at`, `amount` in the base currency; `tx_id` is ignored.
    ///
    /// # Errors
    /// Names the line that cannot be used, or the case that is not known.
    pub fn read_transactions(&mut self, file: &str, text: &str) -> Result<(), EvaluateError> {
        for line in lines(file, text, &["case", "tx_id", "at", "amount"], &["case", "at", "amount"])? {
            let name = line.needed("case")?.to_string();
            let at = line.time("at")?.ok_or_else(|| line.fault("`at` is empty; write the time".into()))?;
            let amount = line.needed("amount")?;
            let amount =
                Money::parse(amount).map_err(|error| line.fault(format!("the amount `{amount}` {error}")))?;
            let Some(case) = self.cases.get_mut(&name) else {
                return Err(line.fault(format!("there is no case `{name}` among the cases")));
            };
            case.begins = case.begins.into_iter().chain([at]).min();
            case.ends = case.ends.into_iter().chain([at]).max();
            case.moved.push((at, i128::from(amount.0)));
        }
        for case in self.cases.values_mut() {
            case.moved.sort_unstable();
        }
        Ok(())
    }
}

/// One decision of the file.
struct Decision {
    at: Option<i64>,
    line: u64,
    word: String,
    verdict: Verdict,
}

/// Reads what analysts decided: `alert_id`, `disposition`, and if wanted `at` (when), `analyst` and `reason` (both ignored). Of
/// several decisions on one alert the latest by `at` counts.
///
/// # Errors
/// Names the line whose disposition is no word of the list or whose `at` is no time, and two lines that contradict each other
/// without a time that tells which one is later.
pub fn dispositions(file: &str, text: &str) -> Result<Dispositions, EvaluateError> {
    let known = ["alert_id", "disposition", "at", "analyst", "reason"];
    let mut decisions: BTreeMap<String, Vec<Decision>> = BTreeMap::new();
    for line in lines(file, text, &known, &["alert_id", "disposition"])? {
        let word = line.needed("disposition")?.to_lowercase().replace([' ', '-'], "_");
        let verdict = match word.as_str() {
            "reported" | "confirmed" | "escalated" => Verdict::Right,
            "dismissed" | "false_positive" | "no_suspicion" => Verdict::Wrong,
            "open" | "in_review" => Verdict::Open,
            other => {
                return Err(line.fault(format!(
                    "`{other}` is no disposition; words are reported, confirmed, escalated, dismissed, false_positive, no_suspicion, open, in_review"
                )));
            }
        };
        let decision = Decision { at: line.time("at")?, line: line.number, word, verdict };
        decisions.entry(line.needed("alert_id")?.to_string()).or_default().push(decision);
    }
    let mut all = Dispositions::default();
    for (alert, mut decisions) in decisions {
        decisions.sort_by_key(|decision| decision.at);
        let Some(last) = decisions.last() else { continue };
        let others: Vec<&Decision> = decisions.iter().filter(|one| one.verdict != last.verdict).collect();
        if let Some(unclear) = others.iter().find(|one| one.at.is_none() || one.at == last.at) {
            let (first, second) = if unclear.line < last.line { (*unclear, last) } else { (last, *unclear) };
            return Err(EvaluateError::Line {
                file: file.into(),
                line: second.line,
                why: format!(
                    "alert `{alert}` is `{}` here and `{}` in line {}, and nothing tells which one is later; write the time of \
                     both into `at` (the later one counts), or leave one out",
                    second.word, first.word, first.line
                ),
            });
        }
        if !others.is_empty() {
            all.changed.insert(alert.clone());
        }
        all.verdicts.insert(alert, last.verdict);
    }
    Ok(all)
}
