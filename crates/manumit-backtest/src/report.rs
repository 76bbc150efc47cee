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

/// Of them shown at once on the page; the others are folded away.
const SHOWN: usize = 40;

pub use manumit_evaluate::STYLE;

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
        pages.add_filter("minute", minute);
        pages.add_global("shown", SHOWN);
        pages.add_global("style", minijinja::Value::from_safe_string(STYLE.into()));
        pages.add_template("report.html", include_str!("report.html")).map_err(fault)?;
        let value = serde_json::to_value(self).map_err(|e| BacktestError::Report(e.to_string()))?;
        pages.get_template("report.html").and_then(|page| page.render(value)).map_err(fault)
    }
}

/// A time to the minute, as people write it.
fn minute(time: String) -> String {
    match (time.get(..10), time.get(11..16)) {
        (Some(day), Some(minute)) => format!("{day} {minute}"),
        _ => time,
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

/// A bar for each count, and below them in words the first day, what a bar stands for, and the last one; made of numbers and
/// dates only, so that nothing needs escaping. `unit` is what is counted.
fn bars(series: minijinja::Value, unit: &str) -> Result<minijinja::Value, minijinja::Error> {
    let counts: Vec<(String, u64)> = series
        .get_attr("counts")?
        .try_iter()?
        .map(|pair| {
            let count = pair.get_item(&1.into())?;
            Ok((pair.get_item(&0.into())?.to_string(), count.try_into()?))
        })
        .collect::<Result<_, minijinja::Error>>()?;
    let step_name = series.get_attr("step")?;
    let highest = counts.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    let (width, height) = (560.0, 40.0);
    let step = width / counts.len().max(1) as f64;
    let mut svg = format!(
        "<div class=\"plot\"><svg viewBox=\"0 0 {width} {height}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{unit} over time, at most {highest} a {step_name}\">"
    );
    for (at, (day, count)) in counts.iter().enumerate().filter(|(_, (_, count))| *count > 0) {
        let tall = *count as f64 / highest as f64 * height;
        svg.push_str(&format!(
            "<rect x=\"{:.2}\" y=\"{:.2}\" width=\"{:.2}\" height=\"{tall:.2}\"><title>{day}: {count} {unit}</title></rect>",
            at as f64 * step,
            height - tall,
            (step * 0.86).max(0.6)
        ));
    }
    let day = |end: Option<&(String, u64)>| end.map_or(String::new(), |(day, _)| day.clone());
    svg.push_str(&format!(
        "</svg><div><span>{}</span><span>at most {} a {step_name}</span><span>{}</span></div></div>",
        day(counts.first()),
        grouped(highest as f64),
        day(counts.last())
    ));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_keeps_its_words_out_of_the_picture_and_says_what_a_bar_is() {
        let days = BTreeMap::from([("2026-01-02".parse().unwrap(), 3)]);
        let series = series(&days, "2026-01-01".parse().unwrap(), "2026-01-04".parse().unwrap());
        let plot = bars(minijinja::Value::from_serialize(&series), "alerts").unwrap().to_string();
        assert!(!plot.contains("<text"), "{plot}");
        assert_eq!(plot.matches("<rect").count(), 1, "days without any have no bar");
        assert!(plot.contains("<title>2026-01-02: 3 alerts</title>"), "{plot}");
        let words = "<span>2026-01-01</span><span>at most 3 a day</span><span>2026-01-04</span>";
        assert!(plot.ends_with(&format!("<div>{words}</div></div>")), "{plot}");
    }

    #[test]
    fn times_are_told_to_the_minute() {
        assert_eq!(minute("2025-12-31T23:00:03.000000Z".into()), "2025-12-31 23:00");
        assert_eq!(minute("never".into()), "never");
    }

    fn made(alerts: usize) -> Report {
        let opened = |number: usize| Opened {
            alert_id: number.to_string(),
            typology: "x".into(),
            subject_kind: "account".into(),
            subject: format!("<{number}>"),
            opened_at: "2026-01-02T03:04:05.000000Z".into(),
            raised: BTreeSet::new(),
            score: 70,
            urgent: false,
            revisions: 1,
            explanation: String::new(),
            parties: BTreeSet::from([(
                "account".into(),
                "A".into(),
                manumit_model::alert::Role::PossibleBuyer,
            )]),
        };
        let findings = Findings { alerts: (0..alerts).map(opened).collect(), ..Findings::default() };
        let mut report = Report {
            listed: findings.alerts.iter().take(LISTED).cloned().collect(),
            unlisted: alerts.saturating_sub(LISTED),
            ..empty()
        };
        report.parties = BTreeMap::from([("possible_buyer".to_string(), 1282)]);
        report.quality = vec![Quality {
            typology: "x".into(),
            alerted: 1,
            right: 1,
            innocent: 0,
            labelled: 30,
            found: 1,
            found_by_any: 2,
            precision: Some(1.0),
            recall: Some(1.0 / 30.0),
            missed: (0..10).map(|number| format!("case-{number}")).collect(),
        }];
        report
    }

    fn empty() -> Report {
        Report {
            format: "manumit.backtest/1",
            program: "",
            rule_set_hash: String::new(),
            data: Vec::new(),
            notes: Vec::new(),
            from: "2025-12-31T23:00:03.000000Z".into(),
            to: "2026-03-31T22:59:59.999999Z".into(),
            rows: 0,
            unusable_rows: 0,
            seconds: 0.0,
            state: StateUse::default(),
            alerts: 0,
            subjects: 0,
            parties: BTreeMap::new(),
            suppressed: 0,
            excluded: 0,
            faults: BTreeSet::new(),
            bounded: [0; 2],
            typologies: Vec::new(),
            indicators: Vec::new(),
            segments: Vec::new(),
            quality: Vec::new(),
            against: None,
            checked: None,
            cluster: None,
            listed: Vec::new(),
            unlisted: 0,
        }
    }

    #[test]
    fn parties_by_role_are_told_apart_from_alerts_and_called_hypotheses() {
        let page = made(1).html().unwrap();
        let (tiles, parties) = page.split_once("role hypothesis").unwrap();
        assert!(!tiles.contains("possible buyer"), "{tiles}");
        assert!(parties.contains("<b>1\u{202f}282</b>possible buyer"), "{parties}");
        assert!(page.contains("2025-12-31 23:00 to 2026-03-31 22:59 UTC"), "{page}");
        assert!(page.contains("<td class=\"t\">2026-01-02 03:04</td>"), "a time stands in one line: {page}");
    }

    #[test]
    fn long_lists_are_folded_with_their_count_and_wide_tables_scroll_within_themselves() {
        let page = made(LISTED + 5).html().unwrap();
        assert!(page.contains(&format!("<summary>{} more alerts</summary>", LISTED - SHOWN)), "{page}");
        assert!(page.contains("5 more; <code>--alerts FILE</code>"), "{page}");
        assert!(page.contains("<summary>29 missed</summary>") && page.contains("and 19 more"), "{page}");
        assert_eq!(page.matches("<div class=\"wide\"><table>").count(), page.matches("<table>").count());
        assert!(!page.contains("<0>"), "what data say is escaped");
        let few = made(3).html().unwrap();
        assert!(!few.contains("more alerts"), "{few}");
    }
}
