//! Who holds which identifier and when, and the groups that follow from it at a time.
//!
//! A group is what can be reached from a customer over links that hold at a time, so it is a function of the rows and that
//! time alone. It is worked out when somebody asks, over the customer's neighbourhood, and remembered together with the
//! span of time in which nothing in that neighbourhood changes. A new row makes forgotten what has looked at it, and no more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use hashbrown::HashMap;

use super::groups::{GroupRule, Strength};
use super::{JOINT, Validity, weight};

/// A customer or an identifier, by number.
type Number = u32;

/// Spans that are remembered; then all is forgotten and worked out again when asked.
const REMEMBERED: usize = 4_000_000;

/// Texts by number, each once.
#[derive(Debug, Default, Clone)]
struct Names {
    numbers: HashMap<Box<str>, Number>,
    names: Vec<Box<str>>,
    /// That they take.
    bytes: u64,
}

impl Names {
    fn number(&mut self, name: &str) -> Number {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number = self.names.len() as Number;
        self.numbers.insert(name.into(), number);
        self.names.push(name.into());
        self.bytes += weight::of_name(name);
        number
    }

    fn name(&self, number: Number) -> &str {
        &self.names[number as usize]
    }
}

/// Of a customer: an identifier it holds; of an identifier: a customer that holds it.
#[derive(Debug, Clone, Copy)]
struct Holding {
    other: Number,
    validity: Validity,
}

/// Identifiers and their holders.
#[derive(Debug, Default)]
pub(crate) struct Links {
    customers: Names,
    /// Named `kind JOINT value`.
    identifiers: Names,
    kinds: Names,
    /// By identifier.
    kind_of: Vec<Number>,
    /// By customer.
    held: Vec<Vec<Holding>>,
    /// By identifier.
    holders: Vec<Vec<Holding>>,
    /// Of the lists of both.
    holdings: u64,
    remembered: RwLock<Remembered>,
}

impl Clone for Links {
    fn clone(&self) -> Links {
        Links {
            customers: self.customers.clone(),
            identifiers: self.identifiers.clone(),
            kinds: self.kinds.clone(),
            kind_of: self.kind_of.clone(),
            held: self.held.clone(),
            holders: self.holders.clone(),
            holdings: self.holdings,
            remembered: RwLock::new(self.remembered.read().unwrap_or_else(PoisonError::into_inner).clone()),
        }
    }
}

/// What was worked out, by customer.
#[derive(Debug, Default, Clone)]
struct Remembered {
    spans: HashMap<Number, Vec<Span>>,
    count: usize,
}

/// A time in which a customer's group stays as it is.
#[derive(Debug, Clone)]
struct Span {
    from: i64,
    to: i64,
    group: Option<Number>,
    /// All that were looked at: who depends on the same rows.
    looked_at: Arc<[Number]>,
}

impl Remembered {
    fn at(&self, customer: Number, time: i64) -> Option<Option<Number>> {
        let spans = self.spans.get(&customer)?;
        spans.iter().find(|span| span.from <= time && time < span.to).map(|span| span.group)
    }

    fn keep(&mut self, found: &Component) {
        if self.count > REMEMBERED {
            *self = Remembered::default();
        }
        let looked_at: Arc<[Number]> = found.members.keys().copied().collect();
        for &member in looked_at.iter() {
            let spans = self.spans.entry(member).or_default();
            // Two threads may have worked out the same at once.
            if spans.iter().any(|span| (span.from, span.to) == (found.from, found.to)) {
                continue;
            }
            let looked_at = looked_at.clone();
            spans.push(Span { from: found.from, to: found.to, group: found.group, looked_at });
            self.count += 1;
        }
    }

    /// Forgets all that has looked at a customer.
    fn forget(&mut self, customer: Number) {
        for span in self.spans.remove(&customer).unwrap_or_default() {
            self.count -= 1;
            for member in span.looked_at.iter().filter(|&&member| member != customer) {
                if let Some(spans) = self.spans.get_mut(member) {
                    let before = spans.len();
                    spans.retain(|other| !Arc::ptr_eq(&other.looked_at, &span.looked_at));
                    self.count -= before - spans.len();
                }
            }
        }
    }
}

/// What can be reached from a customer at a time.
struct Component {
    /// Since when each is linked; `None` for one that is not.
    members: BTreeMap<Number, Option<i64>>,
    /// Number of the customer that the group is named by; `None` when there is no group.
    group: Option<Number>,
    /// The same holds at all times of `[from, to)`.
    from: i64,
    to: i64,
}

/// Narrows a span of time around an instant, so that nothing that was looked at changes within it.
struct Around {
    time: i64,
    from: i64,
    to: i64,
}

impl Around {
    /// Whether a row is valid at the instant; the span ends where that changes.
    fn holds(&mut self, validity: Validity) -> bool {
        for change in [validity.from, validity.to] {
            if change <= self.time {
                self.from = self.from.max(change);
            } else {
                self.to = self.to.min(change);
            }
        }
        validity.holds(self.time)
    }
}

/// A link that leaves a customer.
struct Edge {
    to: Number,
    /// The identifiers that make it.
    by: Vec<Number>,
    /// Since when.
    since: i64,
}

/// An identifier that links members of a group, for the eyes of an analyst.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shared<'l> {
    pub kind: &'l str,
    pub value: &'l str,
    pub strong: bool,
    /// Customers with the times in which they hold it.
    pub customers: Vec<(&'l str, Validity)>,
}

impl Links {
    /// Bytes that names and holdings take.
    pub(crate) fn bytes(&self) -> u64 {
        self.customers.bytes + self.identifiers.bytes + self.kinds.bytes + self.holdings
    }

    /// Bytes that is remembered of groups takes, about: it can be worked out again.
    pub(crate) fn remembered_bytes(&self) -> u64 {
        let remembered = self.remembered.read().unwrap_or_else(PoisonError::into_inner);
        remembered.count as u64 * weight::OF_SPAN
    }

    /// Nobody holds anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.customers.names.is_empty()
    }

    /// A customer holds an identifier; a later row replaces one with the same beginning.
    pub(crate) fn add(&mut self, customer: &str, kind: &str, value: &str, validity: Validity) {
        let customer = self.customers.number(customer);
        let identifier = self.identifiers.number(&format!("{kind}{JOINT}{value}"));
        let kind = self.kinds.number(kind);
        if self.held.len() <= customer as usize {
            self.held.push(Vec::new());
        }
        if self.holders.len() <= identifier as usize {
            self.holders.push(Vec::new());
            self.kind_of.push(kind);
        }
        let holdings = &mut self.holdings;
        let mut put = |list: &mut Vec<Holding>, other: Number| {
            let before = list.len();
            list.retain(|known| (known.other, known.validity.from) != (other, validity.from));
            if list.len() == before {
                *holdings += weight::OF_HOLDING;
            }
            weight::push(list, Holding { other, validity });
        };
        put(&mut self.held[customer as usize], identifier);
        put(&mut self.holders[identifier as usize], customer);
        let remembered = self.remembered.get_mut().unwrap_or_else(PoisonError::into_inner);
        if remembered.count > 0 {
            // Whoever holds the identifier has looked at its holders; nobody else can have seen this row.
            remembered.forget(customer);
            for holding in &self.holders[identifier as usize] {
                remembered.forget(holding.other);
            }
        }
    }

    /// Another rule: nothing that was worked out counts any more.
    pub(crate) fn forget_all(&mut self) {
        *self.remembered.get_mut().unwrap_or_else(PoisonError::into_inner) = Remembered::default();
    }

    /// The group of each customer at each time, by the id of the member it is named by.
    pub(crate) fn groups_of<'l, 'a>(
        &'l self,
        rule: &GroupRule,
        asked: impl Iterator<Item = Option<(&'a str, i64)>>,
    ) -> Vec<Option<&'l str>> {
        let mut answers = Vec::new();
        let mut open: Vec<(usize, Number, i64)> = Vec::new();
        {
            // Once for all rows: taking the lock costs as much as a look-up.
            let remembered = self.remembered.read().unwrap_or_else(PoisonError::into_inner);
            for one in asked {
                let number = one.and_then(|(name, time)| Some((*self.customers.numbers.get(name)?, time)));
                let known = number.map(|(customer, time)| (customer, time, remembered.at(customer, time)));
                answers.push(match known {
                    None => None,
                    Some((_, _, Some(group))) => group,
                    Some((customer, time, None)) => {
                        open.push((answers.len(), customer, time));
                        None
                    }
                });
            }
        }
        for (row, customer, time) in open {
            let known = self.remembered.read().unwrap_or_else(PoisonError::into_inner).at(customer, time);
            answers[row] = known.unwrap_or_else(|| {
                let found = self.component(rule, customer, time);
                self.remembered.write().unwrap_or_else(PoisonError::into_inner).keep(&found);
                found.group
            });
        }
        answers.into_iter().map(|group| group.map(|group| self.customers.name(group))).collect()
    }

    fn component(&self, rule: &GroupRule, start: Number, time: i64) -> Component {
        let mut around = Around { time, from: i64::MIN, to: i64::MAX };
        let mut members: BTreeMap<Number, Option<i64>> = BTreeMap::from([(start, None)]);
        let mut open = vec![start];
        while let Some(customer) = open.pop() {
            for edge in self.edges(rule, customer, &mut around) {
                if let Some(since) = members.get_mut(&customer) {
                    *since = Some(since.map_or(edge.since, |known| known.min(edge.since)));
                }
                members.entry(edge.to).or_insert_with(|| {
                    open.push(edge.to);
                    None
                });
            }
            if members.len() > rule.max_members {
                // What is still open hangs on what was seen, so it is as large for each of them.
                return Component { members, group: None, from: around.from, to: around.to };
            }
        }
        // The member whose link is the oldest; there are always two such, so the lesser id counts.
        let linked = members.iter().filter_map(|(&member, since)| since.map(|since| (since, member)));
        let eldest = linked.min_by_key(|&(since, member)| (since, self.customers.name(member)));
        Component { group: eldest.map(|(_, member)| member), members, from: around.from, to: around.to }
    }

    /// Links of a customer at the time, each other customer once.
    fn edges(&self, rule: &GroupRule, customer: Number, around: &mut Around) -> Vec<Edge> {
        // Since when this customer holds each identifier.
        let mut own: BTreeMap<Number, i64> = BTreeMap::new();
        for holding in &self.held[customer as usize] {
            if self.strength(rule, holding.other).is_some() && around.holds(holding.validity) {
                let since = own.entry(holding.other).or_insert(holding.validity.from);
                *since = (*since).min(holding.validity.from);
            }
        }
        let mut edges: BTreeMap<Number, Edge> = BTreeMap::new();
        // By other customer: of each kind of weak identifiers since when one is shared, and which are.
        let mut weak: BTreeMap<Number, BTreeMap<Number, (i64, Vec<Number>)>> = BTreeMap::new();
        for (&identifier, &mine) in &own {
            let Some(others) = self.current_holders(rule, identifier, around) else { continue };
            for (&other, &theirs) in others.iter().filter(|(other, _)| **other != customer) {
                let since = mine.max(theirs);
                if self.strength(rule, identifier) == Some(Strength::Strong) {
                    let edge = edges.entry(other).or_insert(Edge { to: other, by: Vec::new(), since });
                    edge.since = edge.since.min(since);
                    edge.by.push(identifier);
                } else {
                    let kind = self.kind_of[identifier as usize];
                    let known = weak.entry(other).or_default().entry(kind).or_insert((since, Vec::new()));
                    known.0 = known.0.min(since);
                    known.1.push(identifier);
                }
            }
        }
        for (other, kinds) in weak.into_iter().filter(|(_, kinds)| kinds.len() >= rule.weak_needed) {
            let mut begun: Vec<i64> = kinds.values().map(|(since, _)| *since).collect();
            begun.sort_unstable();
            // They link since so many of them are shared.
            let Some(&since) = begun.get(rule.weak_needed.saturating_sub(1)) else { continue };
            let edge = edges.entry(other).or_insert(Edge { to: other, by: Vec::new(), since });
            edge.since = edge.since.min(since);
            edge.by.extend(kinds.into_values().flat_map(|(_, identifiers)| identifiers));
        }
        edges.into_values().collect()
    }

    /// Who holds an identifier at the time, and since when; `None` when they are so many that it links nobody.
    fn current_holders(
        &self,
        rule: &GroupRule,
        identifier: Number,
        around: &mut Around,
    ) -> Option<BTreeMap<Number, i64>> {
        let mut current: BTreeMap<Number, i64> = BTreeMap::new();
        // As long as these hold it they are too many, whatever the others do.
        let mut of_these = Around { time: around.time, from: around.from, to: around.to };
        let mut of_all = Around { time: around.time, from: around.from, to: around.to };
        for holding in &self.holders[identifier as usize] {
            if !of_all.holds(holding.validity) {
                continue;
            }
            of_these.holds(holding.validity);
            let since = current.entry(holding.other).or_insert(holding.validity.from);
            *since = (*since).min(holding.validity.from);
            if current.len() > rule.max_holders {
                (around.from, around.to) = (of_these.from, of_these.to);
                return None;
            }
        }
        (around.from, around.to) = (of_all.from, of_all.to);
        Some(current)
    }

    fn strength(&self, rule: &GroupRule, identifier: Number) -> Option<Strength> {
        rule.strength(self.kinds.name(self.kind_of[identifier as usize]))
    }

    /// Members of a customer's group at a time, and each identifier that links some of them; both in order of their ids.
    pub(crate) fn shared(
        &self,
        rule: &GroupRule,
        member: &str,
        time: i64,
    ) -> Option<(Vec<&str>, Vec<Shared<'_>>)> {
        let start = *self.customers.numbers.get(member)?;
        let found = self.component(rule, start, time);
        found.group?;
        let mut links: BTreeMap<Number, BTreeSet<Number>> = BTreeMap::new();
        let mut around = Around { time, from: i64::MIN, to: i64::MAX };
        for &customer in found.members.keys() {
            for edge in self.edges(rule, customer, &mut around) {
                for identifier in edge.by {
                    links.entry(identifier).or_default().extend([customer, edge.to]);
                }
            }
        }
        let shared = links.into_iter().filter_map(|(identifier, customers)| {
            let (kind, value) = self.identifiers.name(identifier).split_once(JOINT)?;
            let mut holders: Vec<(&str, Validity)> = self.holders[identifier as usize]
                .iter()
                .filter(|holding| customers.contains(&holding.other) && holding.validity.holds(time))
                .map(|holding| (self.customers.name(holding.other), holding.validity))
                .collect();
            holders.sort_unstable();
            let strong = self.strength(rule, identifier) == Some(Strength::Strong);
            Some(Shared { kind, value, strong, customers: holders })
        });
        let mut shared: Vec<Shared<'_>> = shared.collect();
        shared.sort_unstable();
        let mut members: Vec<&str> =
            found.members.keys().map(|&member| self.customers.name(member)).collect();
        members.sort_unstable();
        Some((members, shared))
    }
}
