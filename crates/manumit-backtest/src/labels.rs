//! What is known of past cases, and how well the rules met it: cases are found as `manumit evaluate` finds them.

use std::collections::BTreeSet;
use std::path::Path;

use manumit_evaluate::{Evaluation, Raised, Scope, Truth};
use serde::Serialize;

use crate::BacktestError;
use crate::findings::Findings;

/// An alert is in time until a day after the case's last transaction: what `manumit evaluate --grace` is unless told otherwise.
const GRACE: i64 = 86_400_000_000;

/// Known cases, and subjects known to be innocent.
#[derive(Debug, Clone, Default)]
pub struct Labels(Truth);

/// How the alerts of one typology meet the labels. Shares are `None` where they would be of nothing.
#[derive(Debug, Clone, Serialize)]
pub struct Quality {
    /// Typology id, or `all typologies`.
    pub typology: String,
    /// Subjects alerted.
    pub alerted: usize,
    /// Of them, subjects of a known case of any kind.
    pub right: usize,
    /// Of them, subjects known to be innocent.
    pub innocent: usize,
    /// Cases labelled for this typology: networks where the file has a column `case`, otherwise subjects.
    pub labelled: usize,
    /// Of those, alerted by it in time, be it by one of several subjects.
    pub found: usize,
    /// Of those, alerted in time by any typology.
    pub found_by_any: usize,
    /// right / alerted.
    pub precision: Option<f64>,
    /// found / labelled.
    pub recall: Option<f64>,
    /// The first ten cases that it did not alert in time, of labelled − found.
    pub missed: Vec<String>,
}

impl Labels {
    /// Reads what [`Truth::read`] does: a CSV with the column `subject`, and if wanted `case`, `typology`, `label` and others.
    ///
    /// # Errors
    /// Names the column or the line that cannot be used.
    pub fn read(path: &Path) -> Result<Labels, BacktestError> {
        let text = std::fs::read_to_string(path).map_err(|error| BacktestError::Unreadable {
            file: path.to_path_buf(),
            why: error.to_string(),
        })?;
        Ok(Labels(Truth::read(&path.display().to_string(), &text)?))
    }

    /// How well each typology, and all of them together, meet the labels.
    pub fn quality(&self, findings: &Findings) -> Vec<Quality> {
        let alerts: Vec<Raised> = findings
            .alerts
            .iter()
            .map(|alert| Raised {
                id: alert.alert_id.clone(),
                typology: alert.typology.clone(),
                subject: alert.subject.clone(),
                opened: alert.raised.first().copied().unwrap_or_default(),
                raised: alert.raised.iter().copied().collect(),
                score: alert.score,
                urgent: alert.urgent,
            })
            .collect();
        let scope = Scope { grace: GRACE, ..Scope::default() };
        let met = manumit_evaluate::evaluate(&alerts, &self.0, None, &scope);
        let mut all: Vec<Quality> =
            findings.typologies.iter().map(|typology| self.of(findings, &met, Some(&typology.id))).collect();
        all.push(self.of(findings, &met, None));
        all
    }

    fn of(&self, findings: &Findings, met: &Evaluation, typology: Option<&str>) -> Quality {
        let alerted: BTreeSet<&str> = findings
            .alerts
            .iter()
            .filter(|alert| typology.is_none_or(|id| alert.typology == id))
            .map(|alert| alert.subject.as_str())
            .collect();
        let in_case = |subject: &&&str| self.0.cases.values().any(|case| case.subjects.contains(**subject));
        let right = alerted.iter().filter(in_case).count();
        let innocent = |subject: &&&str| self.0.innocent.contains_key(**subject) && !in_case(subject);
        let (labelled, found, found_by_any) = match typology {
            None => (met.cases, met.found, met.found),
            Some(id) => met
                .typologies
                .iter()
                .find(|one| one.typology == id)
                .map_or((0, 0, 0), |one| (one.cases, one.found, one.found_by_any)),
        };
        let missed = met.each.iter().filter(|case| match typology {
            None => case.found_by.is_empty(),
            Some(id) => {
                case.typologies.iter().any(|known| known == id) && !case.found_by.iter().any(|by| by == id)
            }
        });
        let share = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
        Quality {
            typology: typology.unwrap_or("all typologies").to_string(),
            alerted: alerted.len(),
            right,
            innocent: alerted.iter().filter(innocent).count(),
            labelled,
            found,
            found_by_any,
            precision: share(right, alerted.len()),
            recall: share(found, labelled),
            missed: missed.take(10).map(|case| case.case.clone()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::{Opened, TypologyName};

    fn read(text: &str) -> Result<Labels, BacktestError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.csv");
        std::fs::write(&path, text).unwrap();
        Labels::read(&path)
    }

    fn findings(alerts: &[(&str, &str, i64)]) -> Findings {
        let alerts = alerts.iter().map(|(typology, subject, raised)| Opened {
            alert_id: format!("{typology}/{subject}"),
            typology: (*typology).into(),
            subject_kind: "account".into(),
            subject: (*subject).into(),
            opened_at: String::new(),
            raised: BTreeSet::from([*raised]),
            score: 70,
            urgent: false,
            revisions: 1,
            explanation: String::new(),
            parties: BTreeSet::new(),
        });
        let typologies = ["fan-in", "sweep"]
            .map(|id| TypologyName { id: id.into(), version: 1, title: String::new() })
            .to_vec();
        Findings { alerts: alerts.collect(), typologies, ..Findings::default() }
    }

    #[test]
    fn a_label_that_is_neither_is_named_with_its_line() {
        let words = read("subject,label\nA,true\nB,perhaps\n").unwrap_err().to_string();
        assert!(words.contains("line 3") && words.contains("perhaps"), "{words}");
        let words = read("subjct\nA\n").unwrap_err().to_string();
        assert!(words.contains("did you mean `subject`?"), "{words}");
    }

    #[test]
    fn a_case_is_found_when_any_of_its_members_is_alerted() {
        let labels = read(
            "case,subject,typology,label\nring,A,fan-in,\nring,B,fan-in,\nring,C,fan-in,\nlone,D,fan-in,\n,E,fan-in,false\n",
        );
        let quality =
            labels.unwrap().quality(&findings(&[("fan-in", "B", 0), ("sweep", "D", 0), ("fan-in", "E", 0)]));
        let counts = |q: &Quality| (q.alerted, q.right, q.innocent, q.labelled, q.found, q.found_by_any);
        assert_eq!(counts(&quality[0]), (2, 1, 1, 2, 1, 2), "{quality:?}");
        assert_eq!((quality[0].recall, quality[0].missed.as_slice()), (Some(0.5), &["lone".to_string()][..]));
        assert_eq!(counts(&quality[1]), (1, 1, 0, 0, 0, 0), "{quality:?}");
        assert_eq!(counts(&quality[2]), (3, 2, 1, 2, 2, 2), "{quality:?}");
        assert_eq!(quality[2].recall, Some(1.0));
    }

    #[test]
    fn without_a_column_case_each_subject_is_one() {
        let labels = read("subject,typology\nA,fan-in\nB,fan-in\n").unwrap();
        let quality = labels.quality(&findings(&[("fan-in", "B", 0)]));
        assert_eq!((quality[0].labelled, quality[0].found, quality[0].recall), (2, 1, Some(0.5)));
        assert_eq!(quality[0].missed, ["A"]);
    }

    #[test]
    fn an_alert_that_comes_after_a_case_is_over_does_not_find_it() {
        let labels = read("subject,typology,begins,ends\nA,fan-in,1970-01-02,1970-01-03\n").unwrap();
        let found = |day: i64| labels.quality(&findings(&[("fan-in", "A", day * GRACE)]))[0].found;
        assert_eq!([0, 1, 3, 4].map(found), [0, 1, 1, 0]);
    }
}
