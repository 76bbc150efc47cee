//! What counts of an alert.

use std::collections::{BTreeMap, BTreeSet};

use chrono::DateTime;
use manumit_model::Alert;

use crate::EvaluateError;

/// An alert with its last revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raised {
    /// Its id.
    pub id: String,
    /// The typology's id.
    pub typology: String,
    /// Whom it is about.
    pub subject: String,
    /// When it was opened, microseconds UTC.
    pub opened: i64,
    /// When it was raised first and with each revision, microseconds UTC, in order.
    pub raised: Vec<i64>,
    /// Score of the last revision.
    pub score: u32,
    /// Whether the last revision is urgent.
    pub urgent: bool,
}

/// Reads alerts as a run publishes them, JSON lines; of several revisions the last one counts. By time and id.
///
/// # Errors
/// Names the line that is no alert.
pub fn raised(file: &str, text: &str) -> Result<Vec<Raised>, EvaluateError> {
    let mut last: BTreeMap<String, (u32, Raised)> = BTreeMap::new();
    let mut times: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let fault = |why: String| EvaluateError::Line { file: file.into(), line: number as u64 + 1, why };
        let alert: Alert = serde_json::from_str(line).map_err(|error| {
            fault(format!("this is no alert as `manumit schema alert` describes it: {error}"))
        })?;
        let time = |text: &str| {
            let time = DateTime::parse_from_rfc3339(text).map_err(|_| fault(format!("`{text}` is no time")));
            time.map(|time| time.timestamp_micros())
        };
        let opened = time(&alert.opened_at.utc)?;
        times.entry(alert.alert_id.clone()).or_default().extend([opened, time(&alert.raised_at.utc)?]);
        let raised = Raised {
            id: alert.alert_id.clone(),
            typology: alert.typology.id,
            subject: alert.subject.key,
            opened,
            raised: Vec::new(),
            score: alert.score,
            urgent: alert.urgent,
        };
        let known = last.get(&alert.alert_id).is_some_and(|(revision, _)| *revision > alert.revision);
        if !known {
            last.insert(alert.alert_id, (alert.revision, raised));
        }
    }
    let with_times = |(id, (_, raised)): (String, (u32, Raised))| Raised {
        raised: times.remove(&id).into_iter().flatten().collect(),
        ..raised
    };
    let mut all: Vec<Raised> = last.into_iter().map(with_times).collect();
    all.sort_by(|a, b| (a.opened, &a.id).cmp(&(b.opened, &b.id)));
    Ok(all)
}
