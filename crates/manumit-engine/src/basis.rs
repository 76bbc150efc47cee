//! What an alert was decided by, beside its transactions: texts of its rules, and of reference data what these asked about
//! the parties in question, and no more.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Decimal128Type, TimestampMicrosecondType};
use manumit_model::alert::{Basis, ListEntry, ListVersion, MccGroup, Opening};
use manumit_model::schema::ENTRY_SIDES;
use manumit_rules::ir::{Indicator, Piece, RuleSet, Table, Typology};
use manumit_sql::reference::{Reference, ReferenceVersion, TIMED, Table as Known};

use crate::typology::{Raise, parts};

/// What one part of an alert counted.
pub(crate) struct Asked {
    pub indicator: usize,
    pub gate: bool,
    /// Rows of the evidence.
    pub rows: BTreeSet<usize>,
    /// Keys whose rows they are.
    pub keys: BTreeSet<String>,
}

pub(crate) fn basis(
    rules: &RuleSet,
    raise: &Raise,
    rows: &RecordBatch,
    asked: &[Asked],
    reference: &Reference,
    base_currency: &str,
) -> Basis {
    let typology = &rules.typologies[raise.typology];
    let mut excerpt = Excerpt {
        rows,
        reference,
        versions: BTreeMap::new(),
        lists: BTreeSet::new(),
        terms: BTreeMap::new(),
        groups: BTreeMap::new(),
    };
    for part in asked {
        let indicator = &rules.indicators[part.indicator];
        let gate = part.gate.then_some(typology);
        for call in texts(indicator, gate, typology, part.indicator).iter().flat_map(|text| calls(text)) {
            excerpt.take(&call, indicator, part);
        }
    }
    // Whole groups and lists that a part without hits asks for must be known by name, or its text does not load.
    for part in parts(typology) {
        let indicator = &rules.indicators[part.indicator];
        for call in
            texts(indicator, Some(typology), typology, part.indicator).iter().flat_map(|text| calls(text))
        {
            match (call.name.as_str(), call.arguments.get(1).and_then(|name| literal(name))) {
                ("in_list", Some(list)) => excerpt.lists.extend(reference.entries_of(list, "")),
                ("mentions" | "term_found", Some(list)) => excerpt.find_terms(list, ""),
                ("in_mcc_group", Some(group)) => {
                    excerpt.groups.entry(group.into()).or_default();
                }
                _ => {}
            }
        }
    }
    excerpt.rates(asked, base_currency);
    let missing: BTreeSet<String> =
        parts(typology).flat_map(|part| rules.indicators[part.indicator].unmet.iter().cloned()).collect();
    let written = |(version, columns): (&ReferenceVersion, &BTreeSet<&'static str>)| {
        reference.written(version, columns.iter().copied())
    };
    let named: BTreeSet<String> =
        excerpt.lists.iter().filter(|entry| entry.value.is_some()).map(|entry| entry.list.clone()).collect();
    let terms = excerpt.terms.iter().flat_map(|(list, places)| {
        // A list of which nothing was found must be known by name as well.
        let places: Vec<Option<usize>> =
            if places.is_empty() { vec![None] } else { places.iter().copied().map(Some).collect() };
        places.into_iter().map(|place| reference.term_entry(list, place))
    });
    let terms = terms.collect();
    let asked: BTreeSet<&String> =
        excerpt.lists.iter().map(|entry| &entry.list).chain(excerpt.terms.keys()).collect();
    let list_versions = asked.into_iter().filter_map(|list| {
        Some(ListVersion { list: list.clone(), sha256: reference.list_version(list)?.into() })
    });
    let list_versions = list_versions.collect();
    Basis {
        base_currency: base_currency.into(),
        rules: rules.texts.get(&typology.meta.id).cloned().unwrap_or_default(),
        columns_missing: missing.into_iter().collect(),
        reference: excerpt.versions.iter().map(written).collect(),
        // That a list holds none of what was asked is said only where it holds nothing that was.
        lists: excerpt.lists.into_iter().filter(|e| e.value.is_some() || !named.contains(&e.list)).collect(),
        terms,
        list_versions,
        mcc_groups: excerpt
            .groups
            .into_iter()
            .map(|(group, codes)| MccGroup { group, codes: codes.into_iter().collect() })
            .collect(),
        opening: raise.opening.clone().map(|(at_micros, tx_id)| Opening { tx_id, at_micros }),
        seal: String::new(),
    }
}

/// All expressions of an indicator, and of the typology on the indicator's rows.
fn texts<'r>(
    indicator: &'r Indicator,
    gate: Option<&'r Typology>,
    typology: &'r Typology,
    index: usize,
) -> Vec<&'r str> {
    let mut texts = indicator.expressions();
    texts.extend(indicator.keyed.iter().map(|keyed| keyed.query.as_str()));
    for piece in &indicator.explain.0 {
        if let Piece::Value { sql, .. } = piece {
            texts.push(sql);
        }
    }
    texts.extend(gate.into_iter().flat_map(|typology| &typology.exclusions).map(|x| x.sql.as_str()));
    let own = parts(typology).filter(|part| part.indicator == index);
    texts.extend(own.flat_map(|part| &part.different).map(|different| different.sql.as_str()));
    texts
}

/// A call of a function with the texts of its arguments.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    name: String,
    arguments: Vec<String>,
}

/// All calls in an expression, inner ones too.
fn calls(text: &str) -> Vec<Call> {
    let bytes = text.as_bytes();
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'\'' {
            at = after_literal(bytes, at);
            continue;
        }
        let start = at;
        while at < bytes.len() && is_name(bytes[at]) {
            at += 1;
        }
        if at > start && bytes.get(at) == Some(&b'(') {
            let name = text[start..at].to_ascii_lowercase();
            found.push(Call { name, arguments: arguments(text, at + 1) });
        }
        if at == start {
            at += 1;
        }
    }
    found
}

/// Behind the text literal that begins here.
fn after_literal(bytes: &[u8], at: usize) -> usize {
    let end = bytes[at + 1..].iter().position(|&b| b == b'\'');
    end.map_or(bytes.len(), |length| at + length + 2)
}

fn arguments(text: &str, start: usize) -> Vec<String> {
    let bytes = text.as_bytes();
    let (mut depth, mut at, mut from) = (0_usize, start, start);
    let mut list = Vec::new();
    while at < bytes.len() {
        match bytes[at] {
            b'\'' => {
                at = after_literal(bytes, at);
                continue;
            }
            b'(' => depth += 1,
            b')' if depth == 0 => break,
            b')' => depth -= 1,
            b',' if depth == 0 => {
                list.push(text[from..at].trim().to_string());
                from = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    list.push(text[from..at.max(from)].trim().to_string());
    list
}

fn literal(text: &str) -> Option<&str> {
    text.strip_prefix('\'')?.strip_suffix('\'')
}

/// Columns of transactions in which accounts and customers stand.
const ACCOUNTS: [&str; 2] = ["debtor_account", "creditor_account"];
const CUSTOMERS: [&str; 2] = ["debtor_customer", "creditor_customer"];

struct Excerpt<'a> {
    rows: &'a RecordBatch,
    reference: &'a Reference,
    versions: BTreeMap<ReferenceVersion, BTreeSet<&'static str>>,
    lists: BTreeSet<ListEntry>,
    /// Places in each list of terms, as the first one of a text is the one that is told.
    terms: BTreeMap<String, BTreeSet<usize>>,
    groups: BTreeMap<String, BTreeSet<String>>,
}

impl Excerpt<'_> {
    fn text(&self, column: &str, row: usize) -> Option<&str> {
        let values = self.rows.column_by_name(column)?.as_string_opt::<i32>()?;
        values.is_valid(row).then(|| values.value(row))
    }

    fn time(&self, row: usize) -> Option<i64> {
        let times = self.rows.column_by_name("event_time")?.as_primitive_opt::<TimestampMicrosecondType>()?;
        times.is_valid(row).then(|| times.value(row))
    }

    /// Values that a column has in the rows that a part counted, as the part's keys see them, with their rows; `None`
    /// when it is no column.
    fn values(&self, column: &str, indicator: &Indicator, part: &Asked) -> Option<Vec<(String, usize)>> {
        let sided = self.sided(column, indicator, part)?;
        Some(sided.into_iter().filter_map(|(value, row)| Some((value?, row))).collect())
    }

    /// The same with what is unknown: the same sides of the same rows for each column.
    fn sided(
        &self,
        column: &str,
        indicator: &Indicator,
        part: &Asked,
    ) -> Option<Vec<(Option<String>, usize)>> {
        let sides = |name: &str| ENTRY_SIDES.iter().find(|side| side.0 == name).map(|side| [side.1, side.2]);
        let entries = indicator.over == Table::Entries;
        let own = match sides(column) {
            Some(columns) if entries => columns,
            None if manumit_model::schema::column(column).is_some() => {
                let column = manumit_model::schema::column(column)?.name;
                [column, column]
            }
            _ => return None,
        };
        let keys = sides(&indicator.key).filter(|_| entries);
        let mut found = Vec::new();
        for &row in &part.rows {
            for side in 0..2 {
                let seen = keys
                    .is_none_or(|keys| self.text(keys[side], row).is_some_and(|key| part.keys.contains(key)));
                if seen {
                    found.push((self.text(own[side], row).map(String::from), row));
                }
            }
        }
        Some(found)
    }

    fn take(&mut self, call: &Call, indicator: &Indicator, part: &Asked) {
        let [first, rest @ ..] = call.arguments.as_slice() else { return };
        let table = match call.name.split_once("__") {
            Some(("account", column)) => Some((Known::Accounts, column)),
            Some(("customer", column)) => Some((Known::Customers, column)),
            Some(("baseline", column)) => Some((Known::Baselines, column)),
            Some(("peer", column)) => return self.take_peers(first, column, indicator, part),
            Some(("business", column)) => Some((Known::BusinessFacts, column)),
            _ => None,
        };
        if let Some((table, column)) = table {
            let Some((column, _)) = table.columns().iter().find(|(name, _)| *name == column) else { return };
            let now = rest.first().is_some_and(|time| time == "event_time");
            match self.values(first, indicator, part) {
                Some(values) => {
                    for (key, row) in values {
                        self.look_up(table, &[&key], self.time(row).filter(|_| now), column);
                    }
                }
                // An author's own expression: whoever takes part may be meant, and an account's customer.
                None => self.take_everybody(table, column, part),
            }
            return;
        }
        if TIMED.iter().any(|(name, _)| *name == call.name) {
            self.take_timed(&call.name, first, rest, indicator, part);
            return;
        }
        match call.name.as_str() {
            "place_lat" | "place_lon" => {
                let column = if call.name == "place_lat" { "latitude" } else { "longitude" };
                for &row in &part.rows {
                    let (Some(city), country) = (self.text("city", row), self.text("country", row)) else {
                        continue;
                    };
                    let key = [city.to_string(), country.unwrap_or_default().to_string()];
                    self.look_up(Known::Places, &[&key[0], &key[1]], Some(0), column);
                }
            }
            "in_list" => {
                let Some(list) = rest.first().and_then(|name| literal(name)) else { return };
                for value in self.asked(first, indicator, part) {
                    self.lists.extend(self.reference.entries_of(list, &value));
                }
            }
            "mentions" | "term_found" => {
                let Some(list) = rest.first().and_then(|name| literal(name)) else { return };
                for text in self.asked(first, indicator, part) {
                    self.find_terms(list, &text);
                }
            }
            "in_mcc_group" => {
                let Some(group) = rest.first().and_then(|name| literal(name)) else { return };
                let codes: Vec<String> = match self.values(first, indicator, part) {
                    Some(values) => values.into_iter().map(|(value, _)| value).collect(),
                    None => {
                        part.rows.iter().filter_map(|&row| self.text("mcc", row).map(String::from)).collect()
                    }
                };
                let held = self.groups.entry(group.to_string()).or_default();
                held.extend(codes.into_iter().filter(|code| self.reference.is_in_mcc_group(group, code)));
            }
            _ => {}
        }
    }

    /// Values that an expression may give: those of a column; of an author's own expression, such as a name or else another, those of all
    /// columns and look-ups in it.
    fn asked(&self, expression: &str, indicator: &Indicator, part: &Asked) -> BTreeSet<String> {
        if let Some(values) = self.values(expression, indicator, part) {
            return values.into_iter().map(|(value, _)| value).collect();
        }
        let names = expression.split(|c: char| !c.is_alphanumeric() && c != '_');
        let columns = names.filter_map(|name| self.values(name, indicator, part)).flatten();
        let mut asked: BTreeSet<String> = columns.map(|(value, _)| value).collect();
        for inner in calls(expression).iter().filter(|inner| inner.name.contains("__")) {
            asked.extend(self.looked_up(inner, indicator, part));
        }
        asked
    }

    /// What is usual in the groups that an expression gives: each look-up in it may name one.
    fn take_peers(&mut self, group: &str, column: &str, indicator: &Indicator, part: &Asked) {
        let Some((column, _)) = Known::Peers.columns().iter().find(|(name, _)| *name == column) else {
            return;
        };
        let mut groups = BTreeSet::new();
        for inner in calls(group).iter().filter(|inner| inner.name.contains("__")) {
            groups.extend(self.looked_up(inner, indicator, part));
        }
        let times: Vec<i64> = part.rows.iter().filter_map(|&row| self.time(row)).collect();
        for group in groups {
            for &time in &times {
                self.look_up(Known::Peers, &[&group], Some(time), column);
            }
        }
    }

    /// What a function that asks as of a row's time says: about columns of the row, the second of which may be a word.
    fn take_timed(
        &mut self,
        function: &str,
        first: &str,
        rest: &[String],
        indicator: &Indicator,
        part: &Asked,
    ) {
        let second = rest.first().filter(|second| *second != "event_time");
        let word = second.and_then(|second| literal(second));
        let Some(firsts) = self.sided(first, indicator, part) else { return };
        let seconds = match (second, word) {
            (Some(column), None) => self.sided(column, indicator, part),
            _ => None,
        };
        for (at, (value, row)) in firsts.iter().enumerate() {
            let other = match &seconds {
                Some(seconds) => seconds.get(at).and_then(|(other, _)| other.clone()),
                None => Some(word.unwrap_or_default().to_string()),
            };
            let (Some(value), Some(other), Some(time)) = (value, other, self.time(*row)) else { continue };
            for (version, column) in self.reference.asked_of(function, value, &other, time) {
                self.versions.entry(version).or_default().extend(column);
            }
        }
    }

    fn find_terms(&mut self, list: &str, text: &str) {
        self.terms.entry(list.into()).or_default().extend(self.reference.terms_in(list, text));
    }

    /// Values that an inner look-up gives, such as the occupation whose list is asked.
    fn looked_up(&self, call: &Call, indicator: &Indicator, part: &Asked) -> Vec<String> {
        let Some((table, column)) = call.name.split_once("__") else { return Vec::new() };
        let table = match table {
            "account" => Known::Accounts,
            "customer" => Known::Customers,
            "baseline" => Known::Baselines,
            "business" => Known::BusinessFacts,
            _ => return Vec::new(),
        };
        let keys = call.arguments.first().and_then(|first| self.values(first, indicator, part));
        let mut values = BTreeSet::new();
        for (key, row) in keys.into_iter().flatten() {
            for version in self.reference.versions(table, &[&key], self.time(row)) {
                values.extend(self.reference.written(&version, [column].into_iter()).values.into_values());
            }
        }
        values.into_iter().collect()
    }

    fn look_up(&mut self, table: Known, key: &[&str], time: Option<i64>, column: &'static str) {
        for version in self.reference.versions(table, key, time) {
            self.versions.entry(version).or_default().insert(column);
        }
    }

    fn take_everybody(&mut self, table: Known, column: &'static str, part: &Asked) {
        for &row in &part.rows {
            let time = self.time(row);
            for account in ACCOUNTS {
                let Some(account) = self.text(account, row).map(String::from) else { continue };
                self.look_up(Known::Accounts, &[&account], time, "customer");
                if table == Known::Accounts {
                    self.look_up(table, &[&account], None, column);
                } else if let Some(customer) =
                    time.and_then(|time| self.reference.customer_of(&account, time))
                {
                    self.look_up(table, &[customer], None, column);
                }
            }
            for customer in CUSTOMERS.into_iter().filter(|_| table != Known::Accounts) {
                let Some(customer) = self.text(customer, row).map(String::from) else { continue };
                self.look_up(table, &[&customer], None, column);
            }
        }
    }

    /// Rates by which amounts came to their value in the base currency; a feed may have told that itself.
    fn rates(&mut self, asked: &[Asked], base: &str) {
        let rows: BTreeSet<usize> = asked.iter().flat_map(|part| part.rows.iter().copied()).collect();
        let amounts = |name: &str, row: usize| {
            let amounts = self.rows.column_by_name(name)?.as_primitive_opt::<Decimal128Type>()?;
            amounts.is_valid(row).then(|| amounts.value(row))
        };
        let mut wanted = Vec::new();
        for row in rows {
            let (Some(amount), Some(currency), Some(time)) =
                (amounts("amount", row), self.text("currency", row), self.time(row))
            else {
                continue;
            };
            let told = amounts("amount_base", row);
            if currency != base
                && told.is_some()
                && told == self.reference.in_base(amount, currency, base, time)
            {
                wanted.push((currency.to_string(), time));
            }
        }
        for (currency, time) in wanted {
            self.look_up(Known::FxRates, &[&currency], Some(time), "rate");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_found_with_their_arguments_and_not_in_texts() {
        let found =
            calls("in_list(customer__occupation(customer, event_time), 'a,(b', event_time) AND x = 'f(1)'");
        let named: Vec<(&str, usize)> = found.iter().map(|c| (c.name.as_str(), c.arguments.len())).collect();
        assert_eq!(named, [("in_list", 3), ("customer__occupation", 2)]);
        assert_eq!(found[0].arguments[1], "'a,(b'");
        assert_eq!(literal(&found[0].arguments[1]), Some("a,(b"));
        assert_eq!(calls("count(*) FILTER (WHERE f(g(x)) > 0")[1].arguments, ["g(x)"]);
        assert_eq!(calls("f('open"), [Call { name: "f".into(), arguments: vec!["'open".into()] }]);
    }
}
