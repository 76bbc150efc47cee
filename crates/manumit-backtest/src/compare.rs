//! Two versions of the rules over one history: who is alerted by both, only by the new one, only by the old one.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::findings::{Findings, Opened};

/// Examples listed of each kind.
const EXAMPLES: usize = 5;

/// One typology, or all of them, in two versions of the rules. What is compared is who is alerted.
#[derive(Debug, Clone, Serialize)]
pub struct Overlap {
    /// Typology id; `all typologies` for a subject alerted by any.
    pub typology: String,
    /// Subjects alerted by both.
    pub same: usize,
    /// Subjects alerted by the new rules only.
    pub gained: usize,
    /// Subjects alerted by the old rules only.
    pub lost: usize,
    /// First alerts of some of each, in the order of event time.
    pub same_examples: Vec<Opened>,
    /// Of the gained.
    pub gained_examples: Vec<Opened>,
    /// Of the lost.
    pub lost_examples: Vec<Opened>,
}

/// Compares by typology, then over all typologies.
pub fn overlaps(new: &Findings, old: &Findings) -> Vec<Overlap> {
    let ids: BTreeSet<&str> =
        new.typologies.iter().chain(&old.typologies).map(|typology| typology.id.as_str()).collect();
    let mut all: Vec<Overlap> =
        ids.into_iter().map(|id| overlap(id, &first_of(new, Some(id)), &first_of(old, Some(id)))).collect();
    all.push(overlap("all typologies", &first_of(new, None), &first_of(old, None)));
    all
}

/// The first alert of each subject.
fn first_of<'a>(findings: &'a Findings, typology: Option<&str>) -> BTreeMap<(&'a str, &'a str), &'a Opened> {
    let mut first = BTreeMap::new();
    for alert in findings.alerts.iter().filter(|alert| typology.is_none_or(|id| alert.typology == id)) {
        first.entry((alert.subject_kind.as_str(), alert.subject.as_str())).or_insert(alert);
    }
    first
}

fn overlap(
    typology: &str,
    new: &BTreeMap<(&str, &str), &Opened>,
    old: &BTreeMap<(&str, &str), &Opened>,
) -> Overlap {
    let pick = |from: &BTreeMap<(&str, &str), &Opened>, wanted: &dyn Fn(&(&str, &str)) -> bool| {
        let mut alerts: Vec<Opened> =
            from.iter().filter(|(subject, _)| wanted(subject)).map(|(_, alert)| (*alert).clone()).collect();
        alerts.sort_by(|a, b| (&a.opened_at, &a.subject).cmp(&(&b.opened_at, &b.subject)));
        let count = alerts.len();
        alerts.truncate(EXAMPLES);
        (count, alerts)
    };
    let (same, same_examples) = pick(new, &|subject| old.contains_key(subject));
    let (gained, gained_examples) = pick(new, &|subject| !old.contains_key(subject));
    let (lost, lost_examples) = pick(old, &|subject| !new.contains_key(subject));
    Overlap {
        typology: typology.to_string(),
        same,
        gained,
        lost,
        same_examples,
        gained_examples,
        lost_examples,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::TypologyName;

    fn findings(alerts: &[(&str, &str, &str)]) -> Findings {
        let alerts = alerts.iter().map(|(typology, subject, at)| Opened {
            alert_id: format!("{typology}/{subject}/{at}"),
            typology: (*typology).into(),
            subject_kind: "account".into(),
            subject: (*subject).into(),
            opened_at: (*at).into(),
            raised: BTreeSet::new(),
            score: 50,
            urgent: false,
            revisions: 1,
            explanation: String::new(),
            parties: BTreeSet::new(),
        });
        let name = |id: &str| TypologyName { id: id.into(), version: 1, title: String::new() };
        Findings { alerts: alerts.collect(), typologies: vec![name("x")], ..Findings::default() }
    }

    #[test]
    fn a_subject_is_counted_once_however_often_it_is_alerted() {
        let new = findings(&[("x", "a", "2026-01-01"), ("x", "a", "2026-02-01"), ("x", "b", "2026-01-02")]);
        let old = findings(&[("x", "a", "2026-01-05"), ("y", "c", "2026-01-05")]);
        let both = overlaps(&new, &old);
        let count: Vec<_> = both.iter().map(|o| (o.typology.as_str(), o.same, o.gained, o.lost)).collect();
        assert_eq!(count, [("x", 1, 1, 0), ("all typologies", 1, 1, 1)]);
        assert_eq!(both[0].same_examples[0].opened_at, "2026-01-01");
    }
}
