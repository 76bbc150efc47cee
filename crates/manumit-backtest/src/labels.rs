//! What is known of past cases, and how well the rules met it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, Schema};
use manumit_model::nearest;
use serde::Serialize;

use crate::BacktestError;
use crate::findings::Findings;

/// Subjects of known cases, and of cases known to be none.
#[derive(Debug, Clone, Default)]
pub struct Labels {
    /// Subjects that should be alerted, with the typologies they are known for; an empty set means any.
    cases: BTreeMap<String, BTreeSet<String>>,
    /// Subjects known to be innocent.
    innocent: BTreeSet<String>,
}

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
    /// Subjects labelled for this typology.
    pub labelled: usize,
    /// Of those, alerted by it.
    pub found: usize,
    /// right / alerted.
    pub precision: Option<f64>,
    /// found / labelled.
    pub recall: Option<f64>,
    /// Some labelled subjects that were not alerted.
    pub missed: Vec<String>,
}

/// The first three are read; the others are those of `manumit evaluate`, so that one file serves both.
const COLUMNS: [&str; 9] =
    ["subject", "typology", "label", "case", "population", "variant", "begins", "ends", "source"];

impl Labels {
    /// Reads a CSV with the columns `subject`, and if wanted `typology` and `label` (true or false, 1 or 0, yes or no;
    /// true when left out).
    ///
    /// # Errors
    /// Names the column or the line that cannot be used.
    pub fn read(path: &Path) -> Result<Labels, BacktestError> {
        let fault = |why: String| BacktestError::Unreadable { file: path.to_path_buf(), why };
        let open =
            || std::fs::File::open(path).map(std::io::BufReader::new).map_err(|e| fault(e.to_string()));
        let format = arrow::csv::reader::Format::default().with_header(true);
        let (found, _) = format.infer_schema(open()?, Some(0)).map_err(|e| fault(e.to_string()))?;
        let names: Vec<String> = found.fields().iter().map(|f| f.name().trim().to_string()).collect();
        if let Some(unknown) = names.iter().find(|name| !COLUMNS.contains(&name.as_str())) {
            let near =
                nearest(unknown, COLUMNS).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            return Err(fault(format!(
                "labels have no column `{unknown}`, only {}{near}",
                COLUMNS.join(", ")
            )));
        }
        if !names.iter().any(|name| name == "subject") {
            return Err(fault(
                "labels need a column `subject`: the account, customer, … that was a case".into(),
            ));
        }
        let fields: Vec<Field> =
            names.into_iter().map(|name| Field::new(name, DataType::Utf8, true)).collect();
        let reader = arrow::csv::ReaderBuilder::new(std::sync::Arc::new(Schema::new(fields)))
            .with_header(true)
            .build(open()?)
            .map_err(|e| fault(e.to_string()))?;
        let mut labels = Labels::default();
        let mut line = 1;
        for batch in reader {
            let batch = batch.map_err(|e| fault(e.to_string()))?;
            let text = |name: &str, row: usize| -> Option<String> {
                let column = batch.column_by_name(name)?.as_string_opt::<i32>()?;
                let value = column.is_valid(row).then(|| column.value(row).trim().to_string())?;
                (!value.is_empty()).then_some(value)
            };
            for row in 0..batch.num_rows() {
                line += 1;
                let Some(subject) = text("subject", row) else {
                    return Err(fault(format!("line {line}: there is no subject")));
                };
                let label = text("label", row).map(|label| label.to_lowercase());
                match label.as_deref() {
                    None | Some("true" | "1" | "yes") => {
                        let typologies = labels.cases.entry(subject).or_default();
                        typologies.extend(text("typology", row));
                    }
                    Some("false" | "0" | "no") => {
                        labels.innocent.insert(subject);
                    }
                    Some(other) => {
                        return Err(fault(format!(
                            "line {line}: the label `{other}` is neither true nor false"
                        )));
                    }
                }
            }
        }
        Ok(labels)
    }

    /// How well each typology, and all of them together, meet the labels.
    pub fn quality(&self, findings: &Findings) -> Vec<Quality> {
        let mut all: Vec<Quality> =
            findings.typologies.iter().map(|typology| self.of(findings, Some(&typology.id))).collect();
        all.push(self.of(findings, None));
        all
    }

    fn of(&self, findings: &Findings, typology: Option<&str>) -> Quality {
        let alerted: BTreeSet<&str> = findings
            .alerts
            .iter()
            .filter(|alert| typology.is_none_or(|id| alert.typology == id))
            .map(|alert| alert.subject.as_str())
            .collect();
        let labelled: Vec<&str> = self
            .cases
            .iter()
            .filter(|(_, known)| typology.is_none_or(|id| known.contains(id)))
            .map(|(subject, _)| subject.as_str())
            .collect();
        let right = alerted.iter().filter(|subject| self.cases.contains_key(**subject)).count();
        let found = labelled.iter().filter(|subject| alerted.contains(**subject)).count();
        let share = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
        Quality {
            typology: typology.unwrap_or("all typologies").to_string(),
            alerted: alerted.len(),
            right,
            innocent: alerted.iter().filter(|subject| self.innocent.contains(**subject)).count(),
            labelled: labelled.len(),
            found,
            precision: share(right, alerted.len()),
            recall: share(found, labelled.len()),
            missed: labelled
                .into_iter()
                .filter(|subject| !alerted.contains(subject))
                .take(10)
                .map(String::from)
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_that_is_neither_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.csv");
        std::fs::write(&path, "subject,label\nA,true\nB,perhaps\n").unwrap();
        let words = Labels::read(&path).unwrap_err().to_string();
        assert!(words.contains("line 3") && words.contains("perhaps"), "{words}");
        std::fs::write(&path, "subjct\nA\n").unwrap();
        assert!(Labels::read(&path).unwrap_err().to_string().contains("did you mean `subject`?"));
    }
}
