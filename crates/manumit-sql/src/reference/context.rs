//! What surrounds a customer at a time: contacts and devices and since when, who may act on an account, who belongs together.

use datafusion::arrow::array::{Array, AsArray};

use super::{JOINT, Reference, ReferenceVersion, Rows, Table, Validity};

/// Functions that ask as of a time, and how many arguments stand before the time: rules leave the time out, as it is the
/// row's `event_time`.
pub const TIMED: [(&str, usize); 7] = [
    ("contact_since", 2),
    ("device_since", 2),
    ("authority", 2),
    ("authorised_accounts", 1),
    ("relation", 2),
    ("related", 2),
    ("group_of", 1),
];

fn joined(parts: &[&str]) -> String {
    parts.join(&JOINT.to_string())
}

impl Rows {
    /// When the row of a key that counts at a time is valid, and its number.
    fn version(&self, key: &str, time: i64) -> Option<(Validity, u32)> {
        self.index.get(key)?.iter().rev().find(|(validity, _)| validity.holds(time)).copied()
    }

    fn keys_of(&self, value: &str) -> impl Iterator<Item = &str> {
        self.by.get(value).into_iter().flatten().map(|key| &**key)
    }
}

impl Reference {
    fn known(&self, table: Table) -> Option<&Rows> {
        self.rows_of(table)
    }

    /// The text of a table's first column for a key; `or` where the bank left it empty.
    fn word(&self, table: Table, key: &str, time: i64, or: &'static str) -> Option<&str> {
        let rows = self.known(table)?;
        let (_, row) = rows.version(key, time)?;
        let words = rows.columns.first()?.as_string::<i32>();
        Some(if words.is_valid(row as usize) { words.value(row as usize) } else { or })
    }

    /// Since when the newest contact of a kind is valid; `None` when none is known, or it always was.
    pub(crate) fn contact_since(&self, customer: &str, kind: &str, time: i64) -> Option<i64> {
        let rows = self.known(Table::Contacts)?;
        let of_kind = |key: &&str| key.split(JOINT).nth(1) == Some(kind);
        let valid = rows.keys_of(customer).filter(of_kind).filter_map(|key| rows.version(key, time));
        valid.map(|(validity, _)| validity.from).max().filter(|&from| from != i64::MIN)
    }

    /// Since when a customer uses a device; `None` when that is not known, or it always did.
    pub(crate) fn device_since(&self, customer: &str, device: &str, time: i64) -> Option<i64> {
        let (validity, _) = self.known(Table::Devices)?.version(&joined(&[customer, device]), time)?;
        Some(validity.from).filter(|&from| from != i64::MIN)
    }

    /// In which role somebody may act on an account; `authorised` where the bank names none.
    pub(crate) fn authority(&self, person: &str, account: &str, time: i64) -> Option<&str> {
        self.word(Table::AuthorisedUsers, &joined(&[account, person]), time, "authorised")
    }

    /// On how many accounts somebody may act.
    pub(crate) fn authorised_accounts(&self, person: &str, time: i64) -> i64 {
        let Some(rows) = self.known(Table::AuthorisedUsers) else { return 0 };
        rows.keys_of(person).filter(|key| rows.version(key, time).is_some()).count() as i64
    }

    /// What `other` is to `customer`; `related` where the bank names nothing.
    pub(crate) fn relation(&self, customer: &str, other: &str, time: i64) -> Option<&str> {
        self.word(Table::Relations, &joined(&[customer, other]), time, "related")
    }

    /// Rows that an answer of one of [`TIMED`] follows from, `group_of` aside, and the column that it reads.
    pub fn asked_of(
        &self,
        function: &str,
        first: &str,
        second: &str,
        time: i64,
    ) -> Vec<(ReferenceVersion, Option<&'static str>)> {
        let exact = |table: Table, key: [&str; 2], column: Option<&'static str>| {
            let found = self.versions(table, &key, Some(time));
            found.into_iter().map(|version| (version, column)).collect::<Vec<_>>()
        };
        let listed = |table: Table, of: &str, wanted: &dyn Fn(&[&str]) -> bool| {
            let keys = self.known(table).into_iter().flat_map(|rows| rows.keys_of(of));
            let keys = keys.map(|key| key.split(JOINT).collect::<Vec<_>>()).filter(|key| wanted(key));
            keys.flat_map(|key| self.versions(table, &key, Some(time)))
                .map(|version| (version, None))
                .collect()
        };
        match function {
            "contact_since" => {
                listed(Table::Contacts, first, &|key| key.get(1).is_some_and(|kind| *kind == second))
            }
            "device_since" => exact(Table::Devices, [first, second], None),
            "authority" => exact(Table::AuthorisedUsers, [second, first], Some("role")),
            "authorised_accounts" => listed(Table::AuthorisedUsers, first, &|_| true),
            "relation" => exact(Table::Relations, [first, second], Some("relation")),
            "related" => {
                let mut both = exact(Table::Relations, [first, second], None);
                both.extend(exact(Table::Relations, [second, first], None));
                both
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
    use manumit_model::alert::Basis;

    use super::*;

    const DAY: i64 = 86_400_000_000;

    fn table(reference: &mut Reference, table: Table, columns: &[(&str, &[&str])]) {
        let columns = columns
            .iter()
            .map(|(name, values)| (*name, Arc::new(StringArray::from(values.to_vec())) as ArrayRef));
        reference.add_rows(table, &RecordBatch::try_from_iter(columns).unwrap()).unwrap();
    }

    fn known() -> Reference {
        let mut reference = Reference::default();
        table(
            &mut reference,
            Table::Contacts,
            &[
                ("customer", &["C", "C", "C", "D"]),
                ("kind", &["phone", "phone", "email", "phone"]),
                ("value", &["+49 30 1111", "+49 30 2222", "c@example.org", "+49 30 2222"]),
                ("valid_from", &["", "1970-01-11", "1970-01-21", "1970-01-02"]),
                ("valid_to", &["1970-01-11", "1970-01-31", "", ""]),
            ],
        );
        table(
            &mut reference,
            Table::Devices,
            &[("customer", &["C"]), ("device", &["H1"]), ("valid_from", &["1970-01-05"])],
        );
        table(
            &mut reference,
            Table::AuthorisedUsers,
            &[
                ("account", &["A", "B"]),
                ("customer", &["P", "P"]),
                ("role", &["power_of_attorney", ""]),
                ("valid_to", &["1970-01-11", ""]),
            ],
        );
        table(
            &mut reference,
            Table::Relations,
            &[("customer", &["C"]), ("related", &["D"]), ("relation", &["guardian"])],
        );
        reference
    }

    #[test]
    fn what_surrounds_a_customer_is_told_as_of_a_time() {
        let reference = known();
        assert_eq!(reference.contact_since("C", "phone", 5 * DAY), None, "it always was");
        assert_eq!(reference.contact_since("C", "phone", 10 * DAY), Some(10 * DAY));
        assert_eq!(reference.contact_since("C", "phone", 30 * DAY), None, "it has ended");
        assert_eq!(reference.contact_since("C", "email", 19 * DAY), None);
        assert_eq!(reference.contact_since("nobody", "phone", 5 * DAY), None);
        assert_eq!(reference.device_since("C", "H1", 4 * DAY), Some(4 * DAY));
        assert_eq!(reference.device_since("C", "H1", 4 * DAY - 1), None);
        assert_eq!(reference.authority("P", "A", 0), Some("power_of_attorney"));
        assert_eq!(reference.authority("P", "B", 0), Some("authorised"));
        assert_eq!(reference.authority("A", "P", 0), None);
        assert_eq!(reference.authorised_accounts("P", 0), 2);
        assert_eq!(reference.authorised_accounts("P", 10 * DAY), 1);
        assert_eq!(reference.authorised_accounts("nobody", 0), 0);
        assert_eq!(reference.relation("C", "D", 0), Some("guardian"));
        assert_eq!(reference.relation("D", "C", 0), None);
    }

    #[test]
    fn the_rows_that_an_answer_follows_from_give_it_again() {
        let whole = known();
        for time in [5 * DAY, 10 * DAY, 20 * DAY, 40 * DAY] {
            // Several questions may read one row: it is written once, with the columns of all.
            let mut asked: BTreeMap<ReferenceVersion, BTreeSet<&str>> = BTreeMap::new();
            for (function, first, second) in [
                ("contact_since", "C", "phone"),
                ("device_since", "C", "H1"),
                ("authority", "P", "A"),
                ("authorised_accounts", "P", ""),
                ("relation", "C", "D"),
                ("related", "D", "C"),
            ] {
                for (version, column) in whole.asked_of(function, first, second, time) {
                    asked.entry(version).or_default().extend(column);
                }
            }
            let written =
                asked.iter().map(|(version, columns)| whole.written(version, columns.iter().copied()));
            let basis = Basis { reference: written.collect(), ..Basis::default() };
            let mut part = Reference::default();
            part.restore(&basis).unwrap();
            assert_eq!(part.contact_since("C", "phone", time), whole.contact_since("C", "phone", time));
            assert_eq!(part.device_since("C", "H1", time), whole.device_since("C", "H1", time));
            assert_eq!(part.authority("P", "A", time), whole.authority("P", "A", time));
            assert_eq!(part.authorised_accounts("P", time), whole.authorised_accounts("P", time));
            assert_eq!(part.relation("C", "D", time), whole.relation("C", "D", time));
            assert_eq!(part.contact_since("C", "email", time), None, "nobody asked");
        }
    }
}
