//! Typology files: a gate, corroborators, exclusions, roles.

use std::collections::{BTreeMap, BTreeSet};

use manumit_model::alert::{Keyword, Role};
use manumit_model::{Diagnostics, nearest};
use manumit_sql::Sql;
use toml::de::{DeTable, DeValue};

use crate::document::{Fields, File, Text, items, parse, text_of};
use crate::expression::Scope;
use crate::features::duration;
use crate::indicator::{self, SUBJECTS, column, schema_of};
use crate::ir::{Different, Exclusion, Indicator, Part, Roles, Table, Typology};
use crate::{metadata, retired};

/// What typologies may refer to.
pub(crate) struct Known<'a> {
    pub sql: &'a Sql,
    pub indicators: &'a [Indicator],
    /// Indicators whose files have faults: naming them is no further fault.
    pub broken: &'a BTreeSet<String>,
    /// Indicators that run no more.
    pub retired: &'a [retired::Read],
    pub keywords: &'a BTreeMap<String, Vec<Keyword>>,
}

/// A typology file read together with the `query.sql` beside it.
pub(crate) struct Read {
    pub typology: Option<Typology>,
    /// The gate that `query.sql` is; its index is the number of known indicators.
    pub gate: Option<Indicator>,
    /// It runs no more.
    pub retired: Option<retired::Read>,
}

/// The words of roles in typologies and cases.
pub const ROLES: [(&str, Role); 6] = [
    ("possible_victim", Role::PossibleVictim),
    ("possible_controller", Role::PossibleController),
    ("possible_facilitator", Role::PossibleFacilitator),
    ("possible_buyer", Role::PossibleBuyer),
    ("business_front", Role::BusinessFront),
    ("unknown", Role::Unknown),
];

const TLP: [&str; 5] = ["TLP:RED", "TLP:AMBER", "TLP:AMBER+STRICT", "TLP:GREEN", "TLP:CLEAR"];

const DAY: i64 = 86_400_000_000;

pub(crate) fn read(
    file: &File,
    expected_id: &str,
    query: Option<&File>,
    known: &Known<'_>,
    faults: &mut Diagnostics,
) -> Read {
    let Some(document) = parse(file, faults) else {
        return Read { typology: None, gate: None, retired: None };
    };
    let mut fields = Fields::new(file, document.get_ref(), document.span(), "a typology");
    let before = faults.0.len();
    let meta = metadata::read(&mut fields, expected_id, faults);
    if let Some(retired) = retired::read(&mut fields, "typology", &meta, faults) {
        return Read { typology: None, gate: None, retired: Some(retired) };
    }
    let gate =
        query.and_then(|query| indicator::body(&mut fields, meta.clone(), Some(query), known.sql, faults));
    let typology = body(&mut fields, meta, gate.as_ref(), query.is_some(), known, faults);
    fields.finish(faults);
    Read { typology: typology.filter(|_| faults.0.len() == before), gate, retired: None }
}

fn body(
    fields: &mut Fields<'_>,
    mut meta: crate::ir::Metadata,
    own_gate: Option<&Indicator>,
    has_query: bool,
    known: &Known<'_>,
    faults: &mut Diagnostics,
) -> Option<Typology> {
    let mut keywords = Vec::new();
    // An empty list is a decision; no list at all is an oversight.
    let example = fields.value("fiu_keywords").is_none().then_some("[\"KW-HT\"]");
    for text in fields.texts("fiu_keywords", example, faults) {
        match known.keywords.get(&text.value) {
            Some(set) => keywords.extend(set.iter().cloned()),
            None => {
                let message = format!("there is no keyword set `{}`", text.value);
                let fault = text.fault("R011", message, "unknown keyword set");
                let help = match nearest(&text.value, known.keywords.keys().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "keyword sets stand in rules/keywords.toml".into(),
                };
                faults.push(fault.help(help));
            }
        }
        meta.fiu_keywords.push(text.value);
    }
    let subject = fields.needed("subject", "\"account\"", faults)?;
    if !SUBJECTS.iter().any(|(kind, _)| *kind == subject.value) {
        if !has_query {
            let fault =
                subject.fault("R007", format!("`{}` is no subject", subject.value), "unknown subject");
            let help = match nearest(&subject.value, SUBJECTS.iter().map(|(kind, _)| *kind)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "see rules/README.md for the subjects".into(),
            };
            faults.push(fault.help(help));
        }
        return None;
    }
    let within = match fields.needed("within", "\"14 days\"", faults) {
        Some(text) => duration(&text, faults).unwrap_or(DAY),
        None => DAY,
    };
    let mut reader = Reader { known, own_gate, subject: subject.value.clone() };
    let gate = reader.gate(fields, has_query, faults);
    let corroborators = reader.corroborators(fields, faults);
    let number = |fields: &mut Fields<'_>, key, default: u64, faults: &mut Diagnostics| {
        fields.integer(key, faults).unwrap_or(default).min(10_000) as u32
    };
    let gate_points = number(fields, "gate_points", 50, faults);
    let alert_at = number(fields, "alert_at", 70, faults);
    let urgent_at = number(fields, "urgent_at", 90, faults);
    let always_urgent = fields.flag("urgent", faults).unwrap_or(false);
    let open_for_micros = fields.text("open_for", faults).map_or(Some(30 * DAY), |t| duration(&t, faults));
    let revise_every_micros =
        fields.text("revise_every", faults).map_or(Some(7 * DAY), |t| duration(&t, faults));
    let reachable = gate_points + corroborators.iter().map(|p| p.points).sum::<u32>();
    if reachable < alert_at && faults.is_empty() {
        let message = format!(
            "no alert can ever be raised: all points together are {reachable}, alert_at is {alert_at}"
        );
        faults
            .push(fields.file.fault("R021", message).help("add corroborators or points, or lower alert_at"));
    }
    // One red flag is a reason to look, not to report: DESIGN's gate plus corroborators. A draft may be tried without.
    if gate.len() == 1 && gate_points >= alert_at && meta.status != "draft" {
        let message = format!(
            "one indicator alone would raise an alert: the gate gives {gate_points} points, alert_at is {alert_at}"
        );
        faults.push(fields.file.fault("R021", message).help(
            "give the gate fewer points (50 unless `gate_points` says otherwise) and add a corroborator, or another indicator to the gate; \
             while `status = \"draft\"`, it may be tried as it is",
        ));
    }
    let exclusions = reader.exclusions(fields, &gate, faults);
    let roles = roles(fields, faults);
    let tlp = fields.text("tlp", faults);
    let tlp = match tlp {
        Some(text) => crate::document::check_word(&text, "tlp", &TLP, faults).unwrap_or_default(),
        None => "TLP:AMBER".into(),
    };
    let summary = fields.needed("summary", "\"This account …\"", faults)?;
    Some(Typology {
        meta,
        subject: subject_kind(&subject.value),
        within_micros: within,
        gate,
        gate_points,
        corroborators,
        alert_at,
        urgent_at,
        always_urgent,
        open_for_micros: open_for_micros?,
        revise_every_micros: revise_every_micros?,
        exclusions,
        roles,
        tlp,
        keywords,
        summary: summary.value,
    })
}

/// The kind that hits of an indicator with this subject are about.
fn subject_kind(subject: &str) -> String {
    match subject {
        "counterparty" => "account".into(),
        "counterparty_customer" => "customer".into(),
        "counterparty_group" => "group".into(),
        other => other.to_string(),
    }
}

struct Reader<'a> {
    known: &'a Known<'a>,
    own_gate: Option<&'a Indicator>,
    subject: String,
}

impl Reader<'_> {
    fn indicator(&self, index: usize) -> Option<&Indicator> {
        self.known.indicators.get(index).or(self.own_gate)
    }

    fn find(&self, name: &Text, faults: &mut Diagnostics) -> Option<usize> {
        let found = self.known.indicators.iter().position(|i| i.meta.id == name.value);
        let Some(index) = found else {
            if self.known.broken.contains(&name.value) {
                return None;
            }
            if let Some(retired) = self.known.retired.iter().find(|read| read.rule.id == name.value) {
                faults.push(retired::named(name, &retired.rule));
                return None;
            }
            let fault =
                name.fault("R011", format!("there is no indicator `{}`", name.value), "unknown indicator");
            let ids = self.known.indicators.iter().map(|i| i.meta.id.as_str());
            faults.push(match nearest(&name.value, ids) {
                Some(near) => fault.help(format!("did you mean `{near}`?")),
                None => {
                    fault.help("it would be read from rules/indicators/<id>.toml or sql/indicators/<id>/")
                }
            });
            return None;
        };
        let about = &self.known.indicators[index].about_subject;
        if *about != subject_kind(&self.subject) {
            let message =
                format!("`{}` is about each {about}, this typology about each {}", name.value, self.subject);
            let fault = name.fault("R022", message, "another subject");
            faults.push(
                fault.help(
                    "all indicators of a typology are about its subject; see `about` in rules/README.md",
                ),
            );
            return None;
        }
        Some(index)
    }

    fn gate(&mut self, fields: &mut Fields<'_>, has_query: bool, faults: &mut Diagnostics) -> Vec<Part> {
        let value = fields.value("gate");
        let mut parts = Vec::new();
        if has_query {
            if let Some(value) = value {
                let fault = fields.file.fault("R019", "the gate is query.sql already");
                faults.push(fault.at(value.span(), "delete this"));
            }
            if self.own_gate.is_some() {
                let indicator = self.known.indicators.len();
                parts.push(Part { indicator, points: 0, at_least: 1, on_days: 1, different: Vec::new() });
            }
            return parts;
        }
        let Some(value) = value else {
            fields.needed("gate", "\"many-small-senders\"", faults);
            return parts;
        };
        let single = [value];
        let list: Vec<_> = match value.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => single.to_vec(),
        };
        for item in list {
            match item.get_ref() {
                DeValue::Table(table) => {
                    parts.extend(self.part(fields.file, table, item.span(), false, faults));
                }
                _ => match text_of(fields.file, item) {
                    Some(name) => {
                        parts.extend(self.find(&name, faults).map(|indicator| Part {
                            indicator,
                            points: 0,
                            at_least: 1,
                            on_days: 1,
                            different: Vec::new(),
                        }));
                    }
                    None => {
                        let fault = fields.file.fault("R003", "`gate` names an indicator, or a list of them");
                        faults.push(fault.at(item.span(), "here"));
                    }
                },
            }
        }
        parts
    }

    fn part(
        &self,
        file: &File,
        table: &DeTable<'_>,
        span: std::ops::Range<usize>,
        corroborator: bool,
        faults: &mut Diagnostics,
    ) -> Option<Part> {
        let what = if corroborator { "a corroborator" } else { "a gate" };
        let mut fields = Fields::new(file, table, span, what);
        let name = fields.needed("indicator", "\"night-inflow\"", faults);
        let mut points = 0;
        if corroborator {
            let value = fields.value("points");
            points = fields.integer("points", faults).unwrap_or(0) as u32;
            match value {
                None => {
                    fields.needed("points", "15", faults);
                }
                Some(value) if !(5..=50).contains(&points) => {
                    let fault = file.fault("R021", "points of a corroborator are 5 to 50");
                    let fault = fault.at(value.span(), "out of range");
                    faults.push(
                        fault.help("the alert line is 70 unless `alert_at` says otherwise, a gate gives 50"),
                    );
                }
                Some(_) => {}
            }
        }
        let at_least = fields.integer("at_least", faults).unwrap_or(1).max(1);
        let on_days = fields.integer("on_days", faults).unwrap_or(1).max(1);
        let different = fields.table("different", faults);
        let index = name.and_then(|name| self.find(&name, faults));
        let different = match (different, index.and_then(|i| self.indicator(i))) {
            (Some((table, _)), Some(indicator)) => self.different(file, table, indicator.over, faults),
            _ => Vec::new(),
        };
        fields.finish(faults);
        Some(Part { indicator: index?, points, at_least, on_days, different })
    }

    fn different(
        &self,
        file: &File,
        table: &DeTable<'_>,
        over: Table,
        faults: &mut Diagnostics,
    ) -> Vec<Different> {
        let params = BTreeMap::new();
        let scope = Scope {
            sql: self.known.sql,
            table: over,
            schema: schema_of(over),
            features: Vec::new(),
            steps: Vec::new(),
            params: &params,
        };
        let mut list = Vec::new();
        for (name, value) in items(table, file) {
            let number = match value.get_ref() {
                DeValue::Integer(number) => number.as_str().parse::<u64>().ok(),
                _ => None,
            };
            let Some(at_least) = number else {
                let fault = file.fault("R003", "how many different values must be a whole number");
                faults.push(fault.at(value.span(), "here"));
                continue;
            };
            if let Some(canonical) = scope.read(&name, faults) {
                let columns = canonical.columns.into_iter().collect();
                list.push(Different { text: name.value, sql: canonical.sql, columns, at_least });
            }
        }
        list
    }

    fn corroborators(&self, fields: &mut Fields<'_>, faults: &mut Diagnostics) -> Vec<Part> {
        let file = fields.file;
        let tables = fields.tables("corroborator", faults);
        tables.into_iter().filter_map(|(table, span)| self.part(file, table, span, true, faults)).collect()
    }

    fn exclusions(&self, fields: &mut Fields<'_>, gate: &[Part], faults: &mut Diagnostics) -> Vec<Exclusion> {
        let file = fields.file;
        let gate = gate.first().and_then(|part| self.indicator(part.indicator));
        let over = gate.map_or(Table::Entries, |indicator| indicator.over);
        let params = BTreeMap::new();
        let schema = schema_of(over);
        let scope = Scope {
            sql: self.known.sql,
            table: over,
            schema: schema.clone(),
            features: Vec::new(),
            steps: Vec::new(),
            params: &params,
        };
        let mut list = Vec::new();
        for (table, span) in fields.tables("exclude", faults) {
            let mut block = Fields::new(file, table, span.clone(), "an exclusion");
            let when = block.text("when", faults);
            let by_list = block.text("list", faults);
            let of = block.text("column", faults);
            let words = block.needed("words", "\"the customer is a registered business\"", faults);
            block.finish(faults);
            let canonical = match (when, by_list) {
                (Some(when), None) => scope.condition(&when, faults),
                (None, Some(name)) => {
                    let names = self.known.sql.reference().get().list_names();
                    if !names.contains(&name.value) {
                        let fault =
                            name.fault("R011", format!("there is no list `{}`", name.value), "unknown list");
                        let terms = self.known.sql.reference().get().term_list_names();
                        let help = match nearest(&name.value, names.iter().map(String::as_str)) {
                            _ if terms.contains(&name.value) => format!(
                                "it is a list of terms: write when = \"mentions(memo, '{}')\"",
                                name.value
                            ),
                            Some(near) => format!("did you mean `{near}`?"),
                            None => "lists are read from rules/lists/<name>.csv".into(),
                        };
                        faults.push(fault.help(help));
                        continue;
                    }
                    let key = match of {
                        Some(of) => column(&of, &schema, over, faults),
                        None => gate.map(|indicator| indicator.about.clone()),
                    };
                    let Some(key) = key else { continue };
                    let mut text = name.clone();
                    text.value = format!("in_list({key}, '{}')", name.value);
                    scope.condition(&text, faults)
                }
                _ => {
                    let fault = file.fault("R002", "an exclusion needs either `when` or `list`");
                    faults.push(fault.at(span.start..span.start + 11, "here"));
                    None
                }
            };
            if let (Some(canonical), Some(words)) = (canonical, words) {
                list.push(Exclusion {
                    words: words.value,
                    sql: canonical.sql,
                    columns: canonical.columns.into_iter().collect(),
                });
            }
        }
        list
    }
}

fn roles(fields: &mut Fields<'_>, faults: &mut Diagnostics) -> Roles {
    let unknown = Role::Unknown;
    let mut roles = Roles { subject: unknown, members: unknown, payers: unknown, payees: unknown };
    let file = fields.file;
    let Some((table, span)) = fields.table("roles", faults) else { return roles };
    let mut block = Fields::new(file, table, span, "roles");
    let words = ROLES.map(|(word, _)| word);
    let mut read = |key: &'static str, role: &mut Role| {
        if let Some(word) = block.word(key, &words, faults)
            && let Some((_, found)) = ROLES.iter().find(|(w, _)| *w == word)
        {
            *role = *found;
        }
    };
    read("subject", &mut roles.subject);
    read("members", &mut roles.members);
    read("payers", &mut roles.payers);
    read("payees", &mut roles.payees);
    block.finish(faults);
    roles
}

/// Reads `rules/keywords.toml`: `[[KW-HT]]` blocks with `fiu`, `keyword` and, if wanted, `place`.
pub(crate) fn keywords(file: &File, faults: &mut Diagnostics) -> BTreeMap<String, Vec<Keyword>> {
    let mut sets = BTreeMap::new();
    let Some(document) = parse(file, faults) else { return sets };
    for (name, value) in items(document.get_ref(), file) {
        let DeValue::Array(blocks) = value.get_ref() else {
            let fault =
                name.fault("R003", format!("`{}` must be written as [[{}]]", name.value, name.value), "here");
            faults.push(fault);
            continue;
        };
        let mut set = Vec::new();
        for block in blocks.iter() {
            let DeValue::Table(table) = block.get_ref() else { continue };
            let mut fields = Fields::new(file, table, block.span(), "a keyword");
            let fiu = fields.needed("fiu", "\"US FinCEN\"", faults);
            let keyword = fields.needed("keyword", "\"HUMAN TRAFFICKING FIN-2020-A008\"", faults);
            let place = fields.text("place", faults).map(|t| t.value);
            fields.finish(faults);
            if let (Some(fiu), Some(keyword)) = (fiu, keyword) {
                set.push(Keyword { fiu: fiu.value, keyword: keyword.value, place });
            }
        }
        sets.insert(name.value, set);
    }
    sets
}
