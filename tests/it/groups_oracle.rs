//! Groups of customers against a naive answer: for each question all pairs are looked at again and joined by union-find.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use manumit_sql::reference::{GroupRule, Reference, Table};
use proptest::prelude::*;

const DAY: i64 = 86_400_000_000;
const KINDS: [&str; 4] = ["phone", "device", "address", "employer"];

/// A customer holds an identifier from a day (0: always) to another (`LAST`: for good).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    customer: usize,
    kind: usize,
    value: usize,
    from: i64,
    to: i64,
}

const LAST: i64 = 12;

fn name(customer: usize) -> String {
    // Ids do not stand in the order in which customers are first seen.
    format!("C{:02}", (customer * 7 + 3) % 16)
}

fn row() -> impl Strategy<Value = Row> {
    (0..12_usize, 0..KINDS.len(), 0..5_usize, 0..LAST, 1..=LAST).prop_map(
        |(customer, kind, value, from, long)| Row {
            customer,
            kind,
            value,
            from,
            to: (from + long).min(LAST),
        },
    )
}

fn rule() -> impl Strategy<Value = GroupRule> {
    (1..=2_usize, 2..=4_usize, 3..=8_usize).prop_map(|(weak_needed, max_holders, max_members)| GroupRule {
        strong: BTreeSet::from(["phone".into(), "device".into()]),
        weak: BTreeSet::from(["address".into(), "employer".into()]),
        weak_needed,
        max_holders,
        max_members,
    })
}

fn add(reference: &mut Reference, row: Row) {
    let day = |day: i64, open: i64| {
        let date = chrono::DateTime::from_timestamp(day * 86_400, 0).unwrap().date_naive();
        if day == open { String::new() } else { date.to_string() }
    };
    // Four digits at least, or it would be no telephone number.
    let value = format!("100{}0", row.value);
    let mut columns = vec![("customer", name(row.customer))];
    if KINDS[row.kind] == "device" {
        columns.push(("device", value));
    } else {
        columns.extend([("kind", KINDS[row.kind].to_string()), ("value", value)]);
    }
    columns.extend([("valid_from", day(row.from, 0)), ("valid_to", day(row.to, LAST))]);
    let columns =
        columns.into_iter().map(|(name, v)| (name, Arc::new(StringArray::from(vec![v])) as ArrayRef));
    let table = if KINDS[row.kind] == "device" { Table::Devices } else { Table::Contacts };
    reference.add_rows(table, &RecordBatch::try_from_iter(columns).unwrap()).unwrap();
}

/// The rows that count: a later one replaces one of the same key and beginning.
fn counting(rows: &[Row]) -> Vec<Row> {
    let mut kept: Vec<Row> = Vec::new();
    for row in rows {
        let key = |r: &Row| (r.customer, r.kind, r.value, r.from);
        kept.retain(|other| key(other) != key(row));
        kept.push(*row);
    }
    kept
}

fn root(parent: &[usize], mut of: usize) -> usize {
    while parent[of] != of {
        of = parent[of];
    }
    of
}

/// Group of each customer on a day, from scratch.
fn naive(rows: &[Row], rule: &GroupRule, day: i64) -> BTreeMap<usize, String> {
    // Since when whom holds what.
    let mut holds: BTreeMap<(usize, usize), BTreeMap<usize, i64>> = BTreeMap::new();
    for row in counting(rows).iter().filter(|row| row.from <= day && (day < row.to || row.to == LAST)) {
        let since = holds.entry((row.kind, row.value)).or_default().entry(row.customer).or_insert(row.from);
        *since = (*since).min(row.from);
    }
    holds.retain(|_, holders| holders.len() <= rule.max_holders);
    // Each pair: since when it is linked.
    let mut links: Vec<(usize, usize, i64)> = Vec::new();
    for a in 0..12 {
        for b in a + 1..12 {
            let mut strong: Vec<i64> = Vec::new();
            let mut weak: BTreeMap<usize, i64> = BTreeMap::new();
            for ((kind, _), holders) in &holds {
                let (Some(&one), Some(&other)) = (holders.get(&a), holders.get(&b)) else { continue };
                let since = one.max(other);
                if rule.strong.contains(KINDS[*kind]) {
                    strong.push(since);
                } else {
                    let known = weak.entry(*kind).or_insert(since);
                    *known = (*known).min(since);
                }
            }
            let mut weak: Vec<i64> = weak.into_values().collect();
            weak.sort_unstable();
            let all = strong.into_iter().chain(weak.get(rule.weak_needed - 1).copied());
            links.extend(all.min().map(|since| (a, b, since)));
        }
    }
    let mut parent: Vec<usize> = (0..12).collect();
    for &(a, b, _) in &links {
        let (a, b) = (root(&parent, a), root(&parent, b));
        parent[a] = b;
    }
    let mut groups = BTreeMap::new();
    for of in 0..12 {
        let members: Vec<usize> =
            (0..12).filter(|&other| root(&parent, other) == root(&parent, of)).collect();
        if members.len() < 2 || members.len() > rule.max_members {
            continue;
        }
        let eldest = members
            .iter()
            .map(|&member| {
                let own = links.iter().filter(|(a, b, _)| *a == member || *b == member);
                (own.map(|link| link.2).min().unwrap(), name(member))
            })
            .min()
            .unwrap();
        groups.insert(of, eldest.1);
    }
    groups
}

fn answers(reference: &Reference, day: i64) -> BTreeMap<usize, String> {
    let names: Vec<String> = (0..12).map(name).collect();
    // In the middle of the day, as rows rarely fall on midnight.
    let found = reference.groups_of(names.iter().map(|name| Some((name.as_str(), day * DAY + DAY / 2))));
    let found = found.into_iter().enumerate();
    found.filter_map(|(customer, group)| Some((customer, group?.to_string()))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn groups_are_those_of_a_union_of_all_pairs_whatever_was_asked_before(
        rows in prop::collection::vec(row(), 1..40),
        asked in prop::collection::vec((0..40_usize, 0..LAST), 0..60),
        rule in rule(),
    ) {
        let mut reference = Reference::default();
        reference.set_group_rule(rule.clone());
        for (n, row) in rows.iter().enumerate() {
            add(&mut reference, *row);
            // Answers between rows are remembered; later rows must make the right ones forgotten.
            for (_, day) in asked.iter().filter(|(after, _)| *after == n) {
                prop_assert_eq!(answers(&reference, *day), naive(&rows[..=n], &rule, *day), "after {} rows, day {}", n + 1, day);
            }
        }
        let mut again = Reference::default();
        again.set_group_rule(rule.clone());
        for row in counting(&rows).into_iter().rev() {
            add(&mut again, row);
        }
        for day in (0..LAST).rev() {
            let wanted = naive(&rows, &rule, day);
            prop_assert_eq!(answers(&reference, day), wanted.clone(), "day {}", day);
            prop_assert_eq!(answers(&again, day), wanted.clone(), "rows the other way round, day {}", day);
            prop_assert_eq!(answers(&again.clone(), day), wanted, "a copy, day {}", day);
        }
    }

    #[test]
    fn what_an_alert_holds_of_a_group_gives_it_again(rows in prop::collection::vec(row(), 1..40), rule in rule()) {
        let mut whole = Reference::default();
        whole.set_group_rule(rule.clone());
        rows.iter().for_each(|row| add(&mut whole, *row));
        for day in 0..LAST {
            let time = day * DAY + DAY / 2;
            let groups = naive(&rows, &rule, day);
            let named: BTreeSet<&String> = groups.values().collect();
            for group in named {
                let (told, kept) = whole.group_at(group, time).unwrap();
                let mut members: Vec<String> =
                    groups.iter().filter(|(_, of)| *of == group).map(|(&member, _)| name(member)).collect();
                members.sort();
                prop_assert_eq!(&told.members, &members);
                let basis = manumit_model::alert::Basis { reference: kept.clone(), ..Default::default() };
                let mut part = Reference::default();
                part.restore(&basis).unwrap();
                part.set_group_rule(rule.clone());
                prop_assert_eq!(part.group_at(group, time), Some((told, kept)));
            }
        }
    }
}
