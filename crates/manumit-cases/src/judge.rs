//! What was found against what is wanted, in words.

use std::collections::{BTreeMap, BTreeSet};

use chrono::DateTime;
use manumit_model::Alert;
use manumit_model::alert::Role;
use manumit_rules::ROLES;

use crate::read::{Case, Setting, Wanted};
use crate::ways::Found;

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All ways as it should.
    AsWanted,
    /// Not so.
    Otherwise {
        /// The way that ended otherwise, the first one.
        way: &'static str,
        /// What is wrong, in words.
        complaints: Vec<String>,
    },
}

/// A case that was tried.
#[derive(Debug, Clone)]
pub struct Tried {
    /// The case.
    pub case: Case,
    /// How it ended.
    pub outcome: Outcome,
    /// The alerts that came, a line each.
    pub found: Vec<String>,
}

fn word(role: Role) -> &'static str {
    ROLES.iter().find(|(_, known)| *known == role).map_or("unknown", |(word, _)| word)
}

/// What is wrong with what was found; nothing, when all is as wanted.
pub(crate) fn judge(case: &Case, found: &Found, setting: &Setting) -> Vec<String> {
    let mut complaints = Vec::new();
    let alerts = found.last();
    for fault in &found.faults {
        complaints.push(format!("an expression failed on transaction {fault}"));
    }
    if found.late > 0 {
        complaints.push(format!("{} rows came too late", found.late));
    }
    for alert in &alerts {
        if !case.wanted.iter().any(|wanted| wanted.subject == alert.subject.key) {
            complaints.push(format!(
                "an alert about `{}` was raised that nobody wants, score {}:{}",
                alert.subject.key,
                alert.score,
                measured(alert)
            ));
        }
    }
    for wanted in &case.wanted {
        let about: Vec<&&Alert> = alerts.iter().filter(|alert| alert.subject.key == wanted.subject).collect();
        match about.as_slice() {
            [] => complaints.push(format!(
                "no alert about `{}` was raised; {}",
                wanted.subject,
                seen(found, &wanted.subject)
            )),
            [alert] => compare(wanted, alert, found, setting, &mut complaints),
            several => complaints.push(format!(
                "{} alerts about `{}` were opened, not one",
                several.len(),
                wanted.subject
            )),
        }
    }
    complaints
}

fn measured(alert: &Alert) -> String {
    let mut out = String::new();
    for indicator in &alert.indicators {
        out.push_str(&format!(
            "\n      {} ({} times): {}",
            indicator.id, indicator.hits, indicator.explanation
        ));
    }
    out
}

/// What held about a subject, for those who wonder why there is no alert.
fn seen(found: &Found, subject: &str) -> String {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (indicator, _) in found.hits.iter().filter(|(_, about)| about == subject) {
        *counts.entry(indicator).or_default() += 1;
    }
    let mut out = match counts.is_empty() {
        true => "none of its indicators held".to_string(),
        false => {
            let counts: Vec<String> =
                counts.iter().map(|(indicator, times)| format!("{indicator} ({times} ×)")).collect();
            format!("what held is {}", counts.join(", "))
        }
    };
    if found.excluded > 0 {
        out.push_str(&format!("; an exclusion silenced {} hits of the gate", found.excluded));
    }
    out
}

fn compare(wanted: &Wanted, alert: &Alert, found: &Found, setting: &Setting, complaints: &mut Vec<String>) {
    let subject = &wanted.subject;
    let score = u64::from(alert.score);
    let (from, to) = wanted.score;
    if score < from || score > to {
        complaints.push(format!("the score of `{subject}` is {score}, wanted {from} to {to}"));
    }
    let counted: BTreeSet<String> = alert.indicators.iter().map(|one| one.id.clone()).collect();
    for missing in wanted.indicators.difference(&counted) {
        let hits = found.hits.iter().filter(|(id, about)| id == missing && about == subject).count();
        complaints.push(format!("`{missing}` does not count for `{subject}` (it held {hits} ×)"));
    }
    for extra in counted.difference(&wanted.indicators) {
        let how = alert.indicators.iter().find(|one| one.id == *extra);
        let how = how.map(|one| one.explanation.as_str()).unwrap_or_default();
        complaints.push(format!("`{extra}` counts for `{subject}`, and the case does not name it: {how}"));
    }
    if let Some(role) = wanted.role {
        let party = alert.parties.iter().find(|party| party.key == *subject);
        match party {
            Some(party) if party.role_hypothesis != role => complaints.push(format!(
                "the role hypothesis of `{subject}` is {}, wanted {}",
                word(party.role_hypothesis),
                word(role)
            )),
            None => complaints.push(format!("the alert names no role of `{subject}`")),
            Some(_) => {}
        }
    }
    if let Some(urgent) = wanted.urgent
        && urgent != alert.urgent
    {
        let is = if alert.urgent { "is urgent" } else { "is not urgent" };
        complaints.push(format!("the alert about `{subject}` {is}"));
    }
    if let Some(by) = wanted.by
        && let Ok(opened) = DateTime::parse_from_rfc3339(&alert.opened_at.utc)
    {
        let day = opened.with_timezone(&setting.zone).date_naive();
        if day > by {
            let late = (day - by).num_days();
            complaints.push(format!("the alert about `{subject}` was opened {late} days too late, on {day}"));
        }
    }
}
