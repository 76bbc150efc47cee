//! The report of a backtest: one JSON document, and the same as one HTML page that needs nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use chrono::{Datelike as _, Days, NaiveDate};
use datafusion::arrow::array::AsArray as _;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::prelude::SessionContext;
use manumit_engine::StateUse;
use manumit_model::schema::ENTRY_SIDES;
use serde::Serialize;

use crate::BacktestError;
use crate::batch::keys_table;
use crate::check::Checked;
use crate::compare::Overlap;
use crate::findings::{Findings, Opened};
use crate::history::{History, Period};
use crate::labels::Quality;

/// Alerts listed in the report; the file given by `--alerts` has all of them.
const LISTED: usize = 200;

/// How pages look: the content of a `<style>`, for other reports, too.
pub const STYLE: &str = include_str!("style.css");

/// The whole report.
#[derive(Debug, Serialize)]
pub struct Report {
    /// `manumit.backtest/1`.
    pub format: &'static str,
    /// Version of the program.
    pub program: &'static str,
    /// Hash of the rules.
    pub rule_set_hash: String,
    /// Where the data came from.
    pub data: Vec<String>,
    /// What a reader must know about the data.
    pub notes: Vec<String>,
    /// First and last event time that counts, RFC 3339 UTC.
    pub from: String,
    /// Last.
    pub to: String,
    /// Rows read, the time before the period that fills the windows included.
    pub rows: u64,
    /// Rows that could not be used.
    pub unusable_rows: u64,
    /// Seconds it took.
    pub seconds: f64,
    /// The most bytes that rows of windows took, in memory and outside, and how often they went to and fro.
    pub state: StateUse,
    /// Alerts opened.
    pub alerts: usize,
    /// Different subjects alerted.
    pub subjects: usize,
    /// Different parties named in alerts, by the part they are taken to play.
    pub parties: BTreeMap<String, usize>,
    /// Times an open alert held again without being published.
    pub suppressed: u64,
    /// Gate hits that an exclusion silenced.
    pub excluded: u64,
    /// Rules that failed on rows, in words.
    pub faults: BTreeSet<String>,
    /// Rows that a key was too full of to keep for sequences, and rows at which a sequence was not looked for to the end.
    pub bounded: [u64; 2],
    /// By typology.
    pub typologies: Vec<TypologyReport>,
    /// By indicator.
    pub indicators: Vec<IndicatorReport>,
    /// By segment, for each column asked for.
    pub segments: Vec<Segment>,
    /// Against labels, when given.
    pub quality: Vec<Quality>,
    /// Against other rules, when given.
    pub against: Option<Against>,
    /// Hits of the engine held against the indicators' own SQL, when asked for.
    pub checked: Option<Checked>,
    /// Who found the hits, when a cluster did.
    pub cluster: Option<ClusterUse>,
    /// Alerts, the first of them.
    pub listed: Vec<Opened>,
    /// Alerts that are not listed.
    pub unlisted: usize,
}

/// One typology.
#[derive(Debug, Serialize)]
pub struct TypologyReport {
    /// Id.
    pub id: String,
    /// Version.
    pub version: u32,
    /// Title.
    pub title: String,
    /// Alerts opened.
    pub alerts: usize,
    /// Of them urgent.
    pub urgent: usize,
    /// Different subjects.
    pub subjects: usize,
    /// Alerts opened over time.
    pub series: Series,
}

/// One indicator.
#[derive(Debug, Serialize)]
pub struct IndicatorReport {
    /// Id.
    pub id: String,
    /// Hits.
    pub hits: u64,
    /// Different subjects.
    pub subjects: usize,
    /// Columns that it needs and the data lack.
    pub unmet: Vec<String>,
    /// Hits over time.
    pub series: Series,
}

/// Counts over time: days, or weeks (from Monday) for more than a hundred days.
#[derive(Debug, Clone, Serialize)]
pub struct Series {
    /// `day` or `week`.
    pub step: &'static str,
    /// (first day, count), without gaps.
    pub counts: Vec<(String, u64)>,
}

/// How a segment is met by alerts: a rate far above the others' asks for a reason.
#[derive(Debug, Serialize)]
pub struct Segment {
    /// Kind of subject.
    pub subject_kind: String,
    /// Column.
    pub column: String,
    /// Its value; empty for none.
    pub value: String,
    /// Subjects with rows of that value in the data.
    pub subjects: u64,
    /// Of them alerted.
    pub alerted: u64,
    /// Alerted of a thousand.
    pub per_thousand: f64,
}

/// The other version of the rules.
#[derive(Debug, Serialize)]
pub struct Against {
    /// Folder or revision.
    pub name: String,
    /// Its hash.
    pub rule_set_hash: String,
    /// Its alerts.
    pub alerts: usize,
    /// By typology, and over all.
    pub overlaps: Vec<Overlap>,
}

/// What a cluster did for a backtest.
#[derive(Debug, Clone, Serialize)]
pub struct ClusterUse {
    /// Where its scheduler is.
    pub scheduler: String,
    /// Seconds from the first query to the last.
    pub seconds: f64,
    /// Queries.
    pub jobs: usize,
    /// Stages of all queries.
    pub stages: usize,
    /// Tasks of all stages.
    pub tasks: usize,
    /// Keys that hit, over all indicators.
    pub keys: usize,
    /// Transactions of these keys, which were fetched and replayed here for their alerts.
    pub fetched: u64,
    /// Executors, by name.
    pub executors: Vec<ExecutorUse>,
}

/// What one executor did.
#[derive(Debug, Clone, Serialize)]
pub struct ExecutorUse {
    /// Name.
    pub name: String,
    /// Where it is.
    pub address: String,
    /// Partitions it works on at a time.
    pub cores: usize,
    /// Tasks it did.
    pub tasks: usize,
    /// Rows its tasks gave.
    pub rows: u64,
    /// Seconds its tasks took, added up.
    pub seconds: f64,
}

fn series(days: &BTreeMap<NaiveDate, u64>, first: NaiveDate, last: NaiveDate) -> Series {
    let weekly = (last - first).num_days() > 100;
    let begin = |day: NaiveDate| {
        let back = if weekly { u64::from(day.weekday().num_days_from_monday()) } else { 0 };
        day.checked_sub_days(Days::new(back)).unwrap_or(day)
    };
    let mut counts: BTreeMap<NaiveDate, u64> = BTreeMap::new();
    let mut day = begin(first);
    while day <= last {
        counts.insert(day, 0);
        match day.checked_add_days(Days::new(if weekly { 7 } else { 1 })) {
            Some(next) => day = next,
            None => break,
        }
    }
    for (&day, &count) in days {
        *counts.entry(begin(day)).or_default() += count;
    }
    Series {
        step: if weekly { "week" } else { "day" },
        counts: counts.into_iter().map(|(day, count)| (day.to_string(), count)).collect(),
    }
}

fn instant(micros: Option<i64>) -> String {
    micros.map_or(String::new(), manumit_engine::documents::instant)
}

/// Puts the report together. `segments`, `quality` and `against` come from their own modules.
pub fn report(
    history: &History,
    period: &Period,
    findings: &Findings,
    segments: Vec<Segment>,
    quality: Vec<Quality>,
    against: Option<Against>,
) -> Report {
    let extent = &findings.extent;
    let from = period.from.into_iter().chain(extent.first).max();
    let to = period.to.map(|to| to - 1).into_iter().chain(extent.last).min();
    let date = |micros: Option<i64>| {
        micros.and_then(chrono::DateTime::from_timestamp_micros).map_or(NaiveDate::MIN, |t| t.date_naive())
    };
    let (first, last) = (date(from), date(to));
    let typologies = findings.typologies.iter().map(|typology| {
        let mut days: BTreeMap<NaiveDate, u64> = BTreeMap::new();
        for day in findings.of(&typology.id).filter_map(Opened::day) {
            *days.entry(day).or_default() += 1;
        }
        TypologyReport {
            id: typology.id.clone(),
            version: typology.version,
            title: typology.title.clone(),
            alerts: findings.of(&typology.id).count(),
            urgent: findings.of(&typology.id).filter(|alert| alert.urgent).count(),
            subjects: findings.of(&typology.id).map(|a| &a.subject).collect::<BTreeSet<_>>().len(),
            series: series(&days, first, last),
        }
    });
    let indicators = findings.indicators.iter().map(|(id, counts)| IndicatorReport {
        id: id.clone(),
        hits: counts.total,
        subjects: counts.subjects.len(),
        unmet: findings.unmet.get(id).cloned().unwrap_or_default(),
        series: series(&counts.days, first, last),
    });
    let mut parties: BTreeMap<String, BTreeSet<(&str, &str)>> = BTreeMap::new();
    for (kind, key, role) in findings.alerts.iter().flat_map(|alert| &alert.parties) {
        let role =
            serde_json::to_value(role).ok().and_then(|v| v.as_str().map(String::from)).unwrap_or_default();
        parties.entry(role).or_default().insert((kind, key));
    }
    let subjects: BTreeSet<(&str, &str)> =
        findings.alerts.iter().map(|a| (a.subject_kind.as_str(), a.subject.as_str())).collect();
    Report {
        format: "manumit.backtest/1",
        program: env!("CARGO_PKG_VERSION"),
        rule_set_hash: findings.rules.clone(),
        data: history.files.iter().map(|file| file.display().to_string()).collect(),
        notes: history.notes.clone(),
        from: instant(from),
        to: instant(to),
        rows: extent.rows,
        unusable_rows: extent.unusable,
        seconds: findings.seconds,
        state: findings.state,
        alerts: findings.alerts.len(),
        subjects: subjects.len(),
        parties: parties.into_iter().map(|(role, keys)| (role, keys.len())).collect(),
        suppressed: findings.suppressed,
        excluded: findings.excluded,
        faults: findings.faults.clone(),
        bounded: findings.bounded,
        typologies: typologies.collect(),
        indicators: indicators.collect(),
        segments,
        quality,
        against,
        checked: None,
        cluster: None,
        listed: findings.alerts.iter().take(LISTED).cloned().collect(),
        unlisted: findings.alerts.len().saturating_sub(LISTED),
    }
}

impl Report {
    /// As JSON.
    ///
    /// # Errors
    /// Never in practice.
    pub fn json(&self) -> Result<String, BacktestError> {
        serde_json::to_string_pretty(self).map_err(|e| BacktestError::Report(e.to_string()))
    }

    /// As one HTML page: all values escaped, no script, nothing loaded from elsewhere.
    ///
    /// # Errors
    /// When the page does not fit the report: a bug.
    pub fn html(&self) -> Result<String, BacktestError> {
        let fault = |e: minijinja::Error| BacktestError::Report(format!("{e:#}"));
        let mut pages = minijinja::Environment::new();
        pages.add_filter("bars", bars);
        pages.add_filter("percent", |share: Option<f64>| {
            share.map_or("–".into(), |s| format!("{:.1} %", s * 100.0))
        });
        pages.add_filter("grouped", grouped);
        pages.add_global("style", minijinja::Value::from_safe_string(STYLE.into()));
        pages.add_template("report.html", include_str!("report.html")).map_err(fault)?;
        let value = serde_json::to_value(self).map_err(|e| BacktestError::Report(e.to_string()))?;
        pages.get_template("report.html").and_then(|page| page.render(value)).map_err(fault)
    }
}

fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// A bar for each count, as SVG; made of numbers and dates only, so that nothing needs escaping.
fn bars(series: minijinja::Value) -> Result<minijinja::Value, minijinja::Error> {
    let counts: Vec<(String, u64)> = series
        .get_attr("counts")?
        .try_iter()?
        .map(|pair| {
            let count = pair.get_item(&1.into())?;
            Ok((pair.get_item(&0.into())?.to_string(), count.try_into()?))
        })
        .collect::<Result<_, minijinja::Error>>()?;
    let highest = counts.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    let (width, height) = (560.0, 56.0);
    let step = width / counts.len().max(1) as f64;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {width} {}\" role=\"img\" aria-label=\"counts over time, at most {highest}\">",
        height + 14.0
    );
    for (at, (day, count)) in counts.iter().enumerate() {
        let tall = *count as f64 / highest as f64 * height;
        svg.push_str(&format!(
            "<rect x=\"{:.2}\" y=\"{:.2}\" width=\"{:.2}\" height=\"{tall:.2}\"><title>{day}: {count}</title></rect>",
            at as f64 * step,
            height - tall,
            (step * 0.86).max(0.6)
        ));
    }
    let ends = [(0.0, "start", counts.first()), (width, "end", counts.last())];
    for (x, anchor, end) in ends {
        if let Some((day, _)) = end {
            svg.push_str(&format!(
                "<text x=\"{x}\" y=\"{}\" text-anchor=\"{anchor}\">{day}</text>",
                height + 11.0
            ));
        }
    }
    svg.push_str(&format!("<text x=\"2\" y=\"9\">{highest}</text></svg>"));
    Ok(minijinja::Value::from_safe_string(svg))
}

/// Columns of a transaction in which subjects of a kind stand.
fn columns_of(kind: &str) -> Vec<String> {
    match ENTRY_SIDES.iter().find(|(entry, _, _)| *entry == kind) {
        Some((_, out, inward)) => vec![(*out).to_string(), (*inward).to_string()],
        None => [kind.to_string(), format!("{kind}_id")]
            .into_iter()
            .filter(|name| manumit_model::schema::column(name).is_some())
            .collect(),
    }
}

/// Counts subjects and alerted subjects by the values of a transaction column: one with rows of two values counts in both.
/// The session must know the history's files; `folder`: see [`keys_table`].
///
/// # Errors
/// When the data cannot be read.
pub async fn segments(
    session: &SessionContext,
    folder: Option<&Path>,
    history: &History,
    period: &Period,
    findings: &Findings,
    column: &str,
) -> Result<Vec<Segment>, BacktestError> {
    let mut out = Vec::new();
    let kinds: BTreeSet<&str> = findings.alerts.iter().map(|alert| alert.subject_kind.as_str()).collect();
    for kind in kinds {
        let sides: Vec<String> =
            columns_of(kind).into_iter().filter(|name| history.columns.contains(name)).collect();
        if sides.is_empty() {
            continue;
        }
        let alerted: BTreeSet<&str> = findings
            .alerts
            .iter()
            .filter(|alert| alert.subject_kind == kind)
            .map(|alert| alert.subject.as_str())
            .collect();
        keys_table(session, folder, "alerted", alerted.into_iter()).await?;
        let rows = history.query(period);
        let keys: Vec<String> = sides
            .iter()
            .map(|side| format!("SELECT {side} AS k, coalesce(CAST({column} AS VARCHAR), '') AS v FROM ({rows}) WHERE {side} IS NOT NULL"))
            .collect();
        let sql = format!(
            "SELECT v, count(*) AS subjects, count(a.k) AS alerted FROM (SELECT DISTINCT k, v FROM ({})) AS s \
             LEFT JOIN alerted AS a ON s.k = a.k GROUP BY v ORDER BY v",
            keys.join(" UNION ALL ")
        );
        for batch in session.sql(&sql).await?.collect().await? {
            let values = batch.column(0).as_string::<i32>();
            let (all, hit) =
                (batch.column(1).as_primitive::<Int64Type>(), batch.column(2).as_primitive::<Int64Type>());
            for row in 0..batch.num_rows() {
                let (subjects, alerted) = (all.value(row) as u64, hit.value(row) as u64);
                out.push(Segment {
                    subject_kind: kind.to_string(),
                    column: column.to_string(),
                    value: values.value(row).to_string(),
                    subjects,
                    alerted,
                    per_thousand: alerted as f64 * 1000.0 / subjects.max(1) as f64,
                });
            }
        }
    }
    Ok(out)
}
