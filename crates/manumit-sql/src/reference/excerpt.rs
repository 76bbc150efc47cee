//! A part of the reference data, written down for an alert, and read back on another machine.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat};
use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::util::display::array_value_to_string;
use manumit_model::alert::{Basis, ListEntry, ReferenceRow, TermEntry};

use super::{JOINT, Reference, ReferenceError, Table, Validity};
use crate::terms::{Term, TermKind};

pub(super) fn instant(micros: i64) -> Option<String> {
    let open = micros == i64::MIN || micros == i64::MAX;
    let time = DateTime::from_timestamp_micros(micros).filter(|_| !open)?;
    Some(time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

impl Reference {
    /// Rows of a table for a key, without values: the one that counts at a time, or all where no time is given.
    pub fn versions(&self, table: Table, key: &[&str], time: Option<i64>) -> Vec<ReferenceVersion> {
        let Ok(key) = table.key(key.iter().map(ToString::to_string).collect()) else { return Vec::new() };
        let Some(rows) = self.tables.get(table.name()) else { return Vec::new() };
        let Some(versions) = rows.index.get(key.join(&JOINT.to_string()).as_str()) else { return Vec::new() };
        let wanted = time.map(|time| rows.at(&key.join(&JOINT.to_string()), time));
        let counts = |row: u32| wanted.is_none_or(|wanted| wanted == Some(row));
        versions
            .iter()
            .filter(|(_, row)| counts(*row))
            .map(|&(validity, row)| ReferenceVersion { table, key: key.clone(), validity, row })
            .collect()
    }

    /// Writes a row down with these of its columns; unknown values are left out.
    pub fn written<'c>(
        &self,
        version: &ReferenceVersion,
        columns: impl Iterator<Item = &'c str>,
    ) -> ReferenceRow {
        let mut values = BTreeMap::new();
        if let Some(rows) = self.tables.get(version.table.name()) {
            for name in columns {
                let place = version.table.columns().iter().position(|(known, _)| *known == name);
                let Some(column) = place.and_then(|place| rows.columns.get(place)) else { continue };
                let row = version.row as usize;
                if column.is_valid(row)
                    && let Ok(value) = array_value_to_string(column, row)
                {
                    values.insert(name.to_string(), value);
                }
            }
        }
        ReferenceRow {
            table: version.table.name().into(),
            key: version.key.clone(),
            valid_from: instant(version.validity.from),
            valid_to: instant(version.validity.to),
            values,
        }
    }

    /// When a value stands in a list; one entry without a value when it never does.
    pub fn entries_of(&self, list: &str, value: &str) -> Vec<ListEntry> {
        let value = value.trim().to_lowercase();
        let found = self.lists.get(list).and_then(|list| list.get(value.as_str()));
        let mut entries: Vec<ListEntry> = found
            .into_iter()
            .flatten()
            .map(|validity| ListEntry {
                list: list.into(),
                value: Some(value.clone()),
                valid_from: instant(validity.from),
                valid_to: instant(validity.to),
            })
            .collect();
        if entries.is_empty() {
            entries.push(ListEntry { list: list.into(), value: None, valid_from: None, valid_to: None });
        }
        entries
    }

    /// Places in a list of its terms that stand in a text, whenever they are valid.
    pub fn terms_in(&self, list: &str, text: &str) -> Vec<usize> {
        let (Some((number, _)), Ok(index)) = (self.term_list(list), self.term_index()) else {
            return Vec::new();
        };
        index.find(text).into_iter().filter(|hit| hit.list == number).map(|hit| hit.term as usize).collect()
    }

    /// The term at a place of a list; without a place, that the list is asked and none of its terms was found.
    pub fn term_entry(&self, list: &str, place: Option<usize>) -> TermEntry {
        let term = place.and_then(|place| self.term_list(list)?.1.get(place));
        TermEntry {
            list: list.into(),
            id: term.map(|term| term.id.clone()),
            term: term.map(|term| term.term.clone()).unwrap_or_default(),
            kind: term.map(|term| term.kind.name().to_string()).unwrap_or_default(),
            language: term.map(|term| term.language.clone()).unwrap_or_default(),
            valid_from: term.and_then(|term| instant(term.validity.from)),
            valid_to: term.and_then(|term| instant(term.validity.to)),
        }
    }

    /// The code is one of the group's.
    pub fn is_in_mcc_group(&self, group: &str, code: &str) -> bool {
        self.mcc_groups.get(group).is_some_and(|codes| codes.contains(code))
    }

    /// Takes what an alert holds of reference data.
    ///
    /// # Errors
    /// [`ReferenceError`] names the row, counted from 1, that cannot be used.
    pub fn restore(&mut self, basis: &Basis) -> Result<(), ReferenceError> {
        // What links whom was written down apart: other rows of contacts are there for other questions.
        self.excerpt_links.get_or_insert_default();
        for (at, row) in basis.reference.iter().enumerate() {
            let fault = |message: String| ReferenceError { line: at + 1, message };
            if self.restore_link(row).map_err(fault)? {
                continue;
            }
            let Some(table) = Table::ALL.into_iter().find(|table| table.name() == row.table) else {
                return Err(fault(format!("there is no reference table `{}`", row.table)));
            };
            if row.key.len() != table.keys().len() {
                return Err(fault(format!("a key of `{}` has {} parts", row.table, table.keys().len())));
            }
            let text = |value: Option<&str>| Arc::new(StringArray::from(vec![value])) as ArrayRef;
            let keys = table.keys().iter().zip(&row.key).map(|(name, value)| (*name, text(Some(value))));
            let values = row.values.iter().map(|(name, value)| (name.as_str(), text(Some(value))));
            let validity = [("valid_from", &row.valid_from), ("valid_to", &row.valid_to)]
                .map(|(name, value)| (name, text(value.as_deref())));
            let columns = keys.chain(values).chain(validity).map(|(name, values)| (name, values, true));
            let batch = RecordBatch::try_from_iter_with_nullable(columns)
                .map_err(|error| fault(error.to_string()))?;
            self.add_rows(table, &batch).map_err(|error| fault(error.message))?;
        }
        for (at, entry) in basis.lists.iter().enumerate() {
            let list = self.lists.entry(entry.list.clone()).or_default();
            let Some(value) = &entry.value else { continue };
            let validity = Validity::read(
                entry.valid_from.as_deref().unwrap_or_default(),
                entry.valid_to.as_deref().unwrap_or_default(),
            );
            let validity = validity.map_err(|message| ReferenceError { line: at + 1, message })?;
            list.entry(value.clone().into_boxed_str()).or_default().push(validity);
        }
        for (at, entry) in basis.terms.iter().enumerate() {
            let fault = |message: String| ReferenceError { line: at + 1, message };
            let list = self.terms.entry(entry.list.clone()).or_default();
            let Some(id) = &entry.id else { continue };
            let Some(kind) = TermKind::named(&entry.kind) else {
                return Err(fault(format!("`{}` is no kind of term", entry.kind)));
            };
            let validity = Validity::read(
                entry.valid_from.as_deref().unwrap_or_default(),
                entry.valid_to.as_deref().unwrap_or_default(),
            );
            list.push(Term {
                id: id.clone(),
                term: entry.term.clone(),
                kind,
                language: entry.language.clone(),
                validity: validity.map_err(fault)?,
            });
        }
        self.index = std::sync::OnceLock::new();
        for group in &basis.mcc_groups {
            self.mcc_groups.entry(group.group.clone()).or_default().extend(group.codes.iter().cloned());
        }
        Ok(())
    }
}

/// One row of a reference table, as [`Reference::versions`] finds it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReferenceVersion {
    table: Table,
    key: Vec<String>,
    validity: Validity,
    row: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use manumit_model::alert::MccGroup;

    #[test]
    fn an_excerpt_answers_what_it_was_asked_as_the_whole_does() {
        let mut whole = Reference::default();
        let text = |values: &[&str]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
        let rows = RecordBatch::try_from_iter([
            ("account", text(&["A", "A", "B"])),
            ("customer", text(&["first", "second", "other"])),
            ("opened_on", text(&["2020-01-31", "", "2021-01-01"])),
            ("valid_from", text(&["", "2026-02-01", ""])),
            ("valid_to", text(&["2026-02-01", "", ""])),
        ]);
        whole.add_rows(Table::Accounts, &rows.unwrap()).unwrap();
        whole.add_list_csv("shops", "value,valid_from,valid_to\nAcme,2026-01-01,\n").unwrap();
        whole.add_mcc_groups_csv("group,mcc\nlodging,7011\n").unwrap();
        let february = 1_769_904_000_000_000;
        let mut basis = Basis::default();
        for time in [february - 1, february] {
            for version in whole.versions(Table::Accounts, &["A"], Some(time)) {
                basis.reference.push(whole.written(&version, ["customer", "opened_on"].into_iter()));
            }
        }
        basis.lists.extend(whole.entries_of("shops", " ACME"));
        basis.lists.extend(whole.entries_of("shops", "nobody"));
        assert!(whole.is_in_mcc_group("lodging", "7011") && !whole.is_in_mcc_group("lodging", "1234"));
        basis.mcc_groups.push(MccGroup { group: "lodging".into(), codes: vec!["7011".into()] });
        let mut part = Reference::default();
        part.restore(&basis).unwrap();
        for time in [february - 1, february] {
            assert!(part.customer_of("A", time).is_some());
            assert_eq!(part.customer_of("A", time), whole.customer_of("A", time));
        }
        assert_eq!(part.customer_of("B", february), None, "nobody asked");
        assert_eq!(part.list("shops"), whole.list("shops"));
        assert!(part.is_in_mcc_group("lodging", "7011"));
        basis.reference[0].values.insert("opened_on".into(), "soon".into());
        let error = Reference::default().restore(&basis).unwrap_err();
        assert!(error.to_string().contains("`soon` in column `opened_on`"), "{error}");
    }
}
