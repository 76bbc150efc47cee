//! Groups of customers that share identifiers: what links, and the questions that are asked about them.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::array::{Array, StringArray, TimestampMicrosecondArray};
use manumit_model::alert::{Group, GroupLink, ReferenceRow};

use super::excerpt::instant;
use super::links::Links;
use super::{Reference, Validity};

/// Name that an alert's rows of identifiers go by.
const LINKS: &str = "links";

/// Which identifiers make a group (`rules/groups.toml`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GroupRule {
    /// Kinds of identifiers of which one shared is enough.
    pub strong: BTreeSet<String>,
    /// Kinds of which several must be shared.
    pub weak: BTreeSet<String>,
    /// How many different weak kinds must be shared, from 1 on.
    pub weak_needed: usize,
    /// An identifier that more customers hold at a time links nobody.
    pub max_holders: usize,
    /// What would have more members is no group.
    pub max_members: usize,
}

/// What a shared identifier is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strength {
    /// Enough by itself.
    Strong,
    /// One of several.
    Weak,
}

impl GroupRule {
    pub(crate) fn strength(&self, kind: &str) -> Option<Strength> {
        if self.strong.contains(kind) {
            Some(Strength::Strong)
        } else {
            self.weak.contains(kind).then_some(Strength::Weak)
        }
    }
}

impl Reference {
    /// Says which identifiers make a group. Without it there are no groups.
    pub fn set_group_rule(&mut self, rule: GroupRule) {
        Arc::make_mut(&mut self.links).forget_all();
        if let Some(links) = &mut self.excerpt_links {
            links.forget_all();
        }
        self.group_rule = Some(rule);
    }

    /// What makes a group, if that was said.
    pub fn group_rule(&self) -> Option<&GroupRule> {
        self.group_rule.as_ref()
    }

    fn group_links(&self) -> &Links {
        self.excerpt_links.as_ref().unwrap_or(&self.links)
    }

    /// No customer can be in a group: there is no rule, or no identifier.
    pub fn knows_no_groups(&self) -> bool {
        self.group_rule.is_none() || self.group_links().is_empty()
    }

    /// The group of each customer at each time (microseconds UTC), named by one of its members: the one whose link to
    /// another is the oldest, of several the least id. NULL for one that is linked with nobody.
    pub fn groups_of<'a>(
        &self,
        asked: impl ExactSizeIterator<Item = Option<(&'a str, i64)>>,
    ) -> Vec<Option<&str>> {
        match &self.group_rule {
            Some(rule) if !self.group_links().is_empty() => self.group_links().groups_of(rule, asked),
            _ => vec![None; asked.len()],
        }
    }

    pub(crate) fn group_column(
        &self,
        customers: &StringArray,
        times: &TimestampMicrosecondArray,
    ) -> StringArray {
        let asked = (0..customers.len()).map(|row| {
            (customers.is_valid(row) && times.is_valid(row)).then(|| (customers.value(row), times.value(row)))
        });
        self.groups_of(asked).into_iter().collect()
    }

    /// Members of a group at a time and what links them, with the rows that say so; `None` when nobody is known to be in it.
    pub fn group_at(&self, group: &str, time: i64) -> Option<(Group, Vec<ReferenceRow>)> {
        let rule = self.group_rule.as_ref()?;
        let (members, shared) = self.group_links().shared(rule, group, time)?;
        let mut rows = Vec::new();
        let mut links = Vec::new();
        for shared in shared {
            let mut customers: Vec<String> = Vec::new();
            for (customer, validity) in shared.customers {
                if customers.last().is_none_or(|last| last != customer) {
                    customers.push(customer.to_string());
                }
                rows.push(ReferenceRow {
                    table: LINKS.into(),
                    key: [customer, shared.kind, shared.value].map(String::from).to_vec(),
                    valid_from: instant(validity.from),
                    valid_to: instant(validity.to),
                    values: Default::default(),
                });
            }
            let (kind, value) = (shared.kind.to_string(), shared.value.to_string());
            links.push(GroupLink { kind, value, strong: shared.strong, customers });
        }
        rows.sort();
        Some((Group { members: members.into_iter().map(String::from).collect(), links }, rows))
    }

    /// Takes a row of identifiers that an alert holds; false when it is a row of a table.
    pub(super) fn restore_link(&mut self, row: &ReferenceRow) -> Result<bool, String> {
        if row.table != LINKS {
            return Ok(false);
        }
        let [customer, kind, value] = row.key.as_slice() else {
            return Err(format!("a key of `{LINKS}` has 3 parts"));
        };
        let validity = Validity::read(
            row.valid_from.as_deref().unwrap_or_default(),
            row.valid_to.as_deref().unwrap_or_default(),
        )?;
        self.excerpt_links.get_or_insert_default().add(customer, kind, value, validity);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, RecordBatch};
    use manumit_model::alert::Basis;

    use super::*;
    use crate::reference::Table;

    const DAY: i64 = 86_400_000_000;

    fn rule() -> GroupRule {
        let kinds = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        GroupRule {
            strong: kinds(&["phone", "device"]),
            weak: kinds(&["address", "employer"]),
            weak_needed: 2,
            max_holders: 3,
            max_members: 5,
        }
    }

    /// Rows `customer kind value from to`; days since 1970 or `-`.
    fn add(reference: &mut Reference, rows: &str) {
        let day = |text: &str| match text.parse::<i64>() {
            Ok(day) => chrono::DateTime::from_timestamp(day * 86_400, 0).unwrap().to_rfc3339(),
            Err(_) => String::new(),
        };
        for line in rows.lines().filter(|line| !line.trim().is_empty()) {
            let mut words: Vec<String> = line.split_whitespace().map(String::from).collect();
            words.resize(5, "-".into());
            let (from, to) = (day(&words[3]), day(&words[4]));
            let named = if words[1] == "device" {
                vec![("customer", words[0].as_str()), ("device", words[2].as_str())]
            } else {
                vec![
                    ("customer", words[0].as_str()),
                    ("kind", words[1].as_str()),
                    ("value", words[2].as_str()),
                ]
            };
            let table = if words[1] == "device" { Table::Devices } else { Table::Contacts };
            let all = named.into_iter().chain([("valid_from", from.as_str()), ("valid_to", to.as_str())]);
            let columns =
                all.map(|(name, value)| (name, Arc::new(StringArray::from(vec![value])) as ArrayRef));
            reference.add_rows(table, &RecordBatch::try_from_iter(columns).unwrap()).unwrap();
        }
    }

    fn known(rows: &str) -> Reference {
        let mut reference = Reference::default();
        reference.set_group_rule(rule());
        add(&mut reference, rows);
        reference
    }

    fn groups(reference: &Reference, customers: &str, day: i64) -> String {
        let asked: Vec<&str> = customers.split(' ').collect();
        let found = reference.groups_of(asked.iter().map(|name| Some((*name, day * DAY))));
        found.into_iter().map(|group| group.unwrap_or("-")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn one_strong_identifier_links_and_two_weak_ones_of_different_kinds() {
        let reference = known(
            "A phone 12345\nB phone 12345\nC address road\nD address road\nE address way\nF address way\nE employer mill\nF employer mill\n\
             G address one\nH address one\nG address two\nH address two",
        );
        assert_eq!(groups(&reference, "A B C D E F G H X", 0), "A A - - E E - - -");
    }

    #[test]
    fn devices_link_like_contacts() {
        assert_eq!(groups(&known("B device h1\nA device h1"), "A B", 0), "A A");
    }

    #[test]
    fn who_joins_gives_no_other_name_and_the_older_group_keeps_its_own() {
        // B and C are linked since day 10; A, whose id is less, joins on day 20; Y and Z are older still, and merge on day 30.
        let reference = known(
            "B phone 11111 10\nC phone 11111 10\nA device h 1\nC device h 20\nY phone 22222 5\nZ phone 22222 5\nZ device h 30",
        );
        assert_eq!(groups(&reference, "A B C Y Z", 9), "- - - Y Y");
        assert_eq!(groups(&reference, "A B C Y Z", 10), "- B B Y Y");
        assert_eq!(groups(&reference, "A B C Y Z", 20), "B B B Y Y");
        assert_eq!(groups(&reference, "A B C Y Z", 30), "Y Y Y Y Y");
    }

    #[test]
    fn a_link_ends_with_its_row_and_members_part() {
        let reference = known("A phone 11111 1 20\nB phone 11111 1\nB device h 2\nC device h 2");
        assert_eq!(groups(&reference, "A B C", 19), "A A A");
        assert_eq!(groups(&reference, "A B C", 20), "- B B");
    }

    #[test]
    fn an_identifier_of_too_many_links_nobody_and_too_many_people_are_no_group() {
        let reference = known("A phone 11111\nB phone 11111\nC phone 11111\nD phone 11111 5");
        assert_eq!(groups(&reference, "A B C D", 4), "A A A -");
        assert_eq!(groups(&reference, "A B C D", 5), "- - - -");
        let chain = "A device 1\nB device 1\nB device 2\nC device 2\nC device 3\nD device 3\nD device 4\nE device 4\nE device 5 9\nF device 5 9";
        let reference = known(chain);
        assert_eq!(groups(&reference, "A E F", 8), "A A -");
        assert_eq!(groups(&reference, "A E F", 9), "- - -");
    }

    #[test]
    fn a_new_row_changes_what_was_asked_before() {
        let mut reference = known("A phone 11111\nB phone 11111\nX device h");
        assert_eq!(groups(&reference, "A B C X", 7), "A A - -");
        add(&mut reference, "C device h 3\nB device h 5");
        assert_eq!(groups(&reference, "A B C X", 2), "A A - -");
        assert_eq!(groups(&reference, "A B C X", 4), "A A C C");
        assert_eq!(groups(&reference, "A B C X", 7), "A A A A");
        // The bank mends a row: it ended on day 6.
        add(&mut reference, "B device h 5 6");
        assert_eq!(groups(&reference, "A B C X", 7), "A A C C");
    }

    #[test]
    fn an_alerts_rows_of_a_group_give_it_again_and_nothing_else_links() {
        let whole = known(
            "A phone 11111 1\nB phone 11111 2\nB address road\nC address road\nB employer mill 3\nC employer mill\nA address road\nD address road 9 10",
        );
        let (group, rows) = whole.group_at("A", 5 * DAY).unwrap();
        assert_eq!(group.members, ["A", "B", "C"]);
        let links: Vec<String> = group
            .links
            .iter()
            .map(|link| format!("{} {} {} {}", link.kind, link.value, link.strong, link.customers.join("+")))
            .collect();
        assert_eq!(links, ["address road false B+C", "employer mill false B+C", "phone 11111 true A+B"]);
        let mut basis = Basis { reference: rows.clone(), ..Basis::default() };
        // A contact that was written down for another question.
        let other = whole.asked_of("contact_since", "D", "address", 9 * DAY);
        basis.reference.extend(other.iter().map(|(version, _)| whole.written(version, std::iter::empty())));
        assert_eq!(basis.reference.len(), rows.len() + 1);
        let mut part = Reference::default();
        part.restore(&basis).unwrap();
        part.set_group_rule(rule());
        assert_eq!(part.group_at("A", 5 * DAY), Some((group, rows)));
        assert!(whole.group_at("nobody", 5 * DAY).is_none() && whole.group_at("D", 5 * DAY).is_none());
        basis.reference[0].key.pop();
        assert!(Reference::default().restore(&basis).unwrap_err().to_string().contains("3 parts"));
    }

    #[test]
    fn without_a_rule_there_are_no_groups() {
        let mut reference = Reference::default();
        add(&mut reference, "A phone 11111\nB phone 11111");
        assert!(reference.knows_no_groups());
        assert_eq!(groups(&reference, "A B", 0), "- -");
        reference.set_group_rule(rule());
        assert_eq!(groups(&reference, "A B", 0), "A A");
        reference.set_group_rule(GroupRule { strong: BTreeSet::new(), ..rule() });
        assert_eq!(groups(&reference, "A B", 0), "- -");
    }
}
