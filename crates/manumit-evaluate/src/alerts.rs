//! What counts of an alert.

use std::collections::BTreeMap;

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
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let fault = |why: String| EvaluateError::Line { file: file.into(), line: number as u64 + 1, why };
        let alert: Alert = serde_json::from_str(line).map_err(|error| {
            fault(format!("this is no alert as `manumit schema alert` describes it: {error}"))
        })?;
        let opened = DateTime::parse_from_rfc3339(&alert.opened_at.utc)
            .map_err(|_| fault(format!("`{}` is no time", alert.opened_at.utc)))?;
        let raised = Raised {
            id: alert.alert_id.clone(),
            typology: alert.typology.id,
            subject: alert.subject.key,
            opened: opened.timestamp_micros(),
            score: alert.score,
            urgent: alert.urgent,
        };
        let known = last.get(&alert.alert_id).is_some_and(|(revision, _)| *revision > alert.revision);
        if !known {
            last.insert(alert.alert_id, (alert.revision, raised));
        }
    }
    let mut all: Vec<Raised> = last.into_values().map(|(_, raised)| raised).collect();
    all.sort_by(|a, b| (a.opened, &a.id).cmp(&(b.opened, &b.id)));
    Ok(all)
}
