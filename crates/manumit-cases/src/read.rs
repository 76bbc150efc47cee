//! Case files: `cases.toml` beside a typology, in the format of `rules/CASES.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use chrono::NaiveDate;
use chrono_tz::Tz;
use manumit_model::alert::Role;
use manumit_model::schema::Kind;
use manumit_model::{Diagnostics, nearest};
use manumit_rules::Sources;
use manumit_rules::document::{self, Fields, File, Text, items, text_of};
use manumit_rules::{ROLES, duration};
use manumit_sql::reference::Table as Reference;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::story::{self, Story, day, fault};
use crate::table::{Table, known_column};

/// What holds for all cases of a file.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub day_1: NaiveDate,
    pub zone: Tz,
    pub currency: String,
    pub lateness_micros: i64,
}

/// Rows of a table by their key: values as text, by column.
pub(crate) type Keyed = BTreeMap<String, BTreeMap<String, String>>;

/// What the bank knows: values as text, by column.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub accounts: Keyed,
    pub customers: Keyed,
    pub baselines: Keyed,
    pub peers: Keyed,
    pub places: Vec<BTreeMap<String, String>>,
    /// Contacts, devices and what else surrounds customers; a later row replaces one of the same key and beginning.
    pub context: Vec<(Reference, BTreeMap<String, String>)>,
    pub fx_rates: BTreeMap<String, String>,
    pub lists: BTreeMap<String, Vec<String>>,
}

impl Facts {
    /// Tables whose rows have one key, by their names in a case file.
    pub fn keyed(&mut self) -> [(Reference, &mut Keyed); 4] {
        [
            (Reference::Accounts, &mut self.accounts),
            (Reference::Customers, &mut self.customers),
            (Reference::Baselines, &mut self.baselines),
            (Reference::Peers, &mut self.peers),
        ]
    }
}

/// An alert that must come.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The subject's key.
    pub subject: String,
    /// Role hypothesis of the subject.
    pub role: Option<Role>,
    /// Least and greatest score of the last revision.
    pub score: (u64, u64),
    /// Ids of all indicators that count in the last revision.
    pub indicators: BTreeSet<String>,
    /// Whether it is urgent.
    pub urgent: Option<bool>,
    /// The last day on which it may be opened, local to the setting.
    pub by: Option<NaiveDate>,
}

/// One case, or a near miss with its change made.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its id.
    pub id: String,
    /// What is told, or why nothing must be raised.
    pub words: String,
    /// The case that this is a near miss of.
    pub of: Option<String>,
    /// Alerts that must come, no others.
    pub wanted: Vec<Wanted>,
    pub(crate) story: Story,
    pub(crate) facts: Facts,
}

/// The cases of one typology.
#[derive(Debug, Clone)]
pub struct Suite {
    /// The typology's id.
    pub typology: String,
    /// The file.
    pub file: File,
    /// In the order of the file, near misses behind.
    pub cases: Vec<Case>,
    pub(crate) setting: Setting,
}

/// The cases of all typologies, by typology.
///
/// # Errors
/// All faults of all case files.
pub fn suites(sources: &Sources) -> Result<Vec<Suite>, Diagnostics> {
    let mut faults = Diagnostics::default();
    let mut suites = Vec::new();
    for (path, text) in sources.iter() {
        let ours = path.starts_with("rules/typologies") || path.starts_with("sql/typologies");
        if !ours || path.file_name() != Some(Path::new("cases.toml").as_os_str()) {
            continue;
        }
        let file = File { path: path.to_path_buf(), text: text.clone() };
        let typology = path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().to_string());
        if sources.get(&path.with_file_name("typology.toml")).is_none() {
            faults.push(
                file.fault("R041", "there is no typology.toml beside these cases")
                    .help("cases stand in the folder of their typology"),
            );
            continue;
        }
        suites.extend(suite(file, typology.unwrap_or_default(), &mut faults));
    }
    suites.sort_by(|a, b| a.typology.cmp(&b.typology));
    if faults.is_empty() { Ok(suites) } else { Err(faults) }
}

fn suite(file: File, typology: String, faults: &mut Diagnostics) -> Option<Suite> {
    let root = document::parse(&file, faults)?;
    let mut fields = Fields::new(&file, root.get_ref(), root.span(), "a file of cases");
    let setting = setting(&mut fields, faults);
    let facts = facts(&mut fields, setting.day_1, Facts::default(), faults);
    let told = fields.tables("case", faults);
    let missed = fields.tables("near_miss", faults);
    fields.finish(faults);
    let mut cases: Vec<Case> = Vec::new();
    let mut tables: Vec<Option<Table>> = Vec::new();
    if told.is_empty() {
        let help = "begin with `[[case]]`; see rules/CASES.md";
        faults.push(file.fault("R042", "there are no cases in this file").help(help));
    }
    for (table, span) in told {
        let read = case(&file, table, span, &setting, &facts, faults);
        if let Some((case, table)) = read {
            cases.push(case);
            tables.push(Some(table));
        }
    }
    for (table, span) in missed {
        let place = span.clone();
        if let Some(case) = near_miss(&file, table, span, &setting, &cases, &tables, faults) {
            if cases.iter().any(|known| known.id == case.id) {
                let message = format!("the case `{}` is there twice", case.id);
                faults.push(fault(&file, &place, message, "again here", "give it another id"));
            }
            cases.push(case);
            tables.push(None);
        }
    }
    for (index, case) in cases.iter().enumerate() {
        if cases[..index].iter().any(|known| known.id == case.id) && case.of.is_none() {
            let message = format!("the case `{}` is there twice", case.id);
            faults.push(file.fault("R042", message).help("give one of them another id"));
        }
        let missed = cases.iter().any(|other| other.of.as_ref() == Some(&case.id));
        if !case.wanted.is_empty() && !missed {
            let message = format!("the case `{}` raises an alert and has no near miss", case.id);
            faults.push(
                file.fault("R042", message)
                    .help("tell with [[near_miss]] which one fact makes the difference, and why"),
            );
        }
    }
    Some(Suite { typology, cases, setting, file: file.clone() })
}

fn setting(fields: &mut Fields<'_>, faults: &mut Diagnostics) -> Setting {
    let mut setting = Setting {
        // A Monday.
        day_1: NaiveDate::from_ymd_opt(2026, 3, 2).unwrap_or_default(),
        zone: Tz::UTC,
        currency: "EUR".into(),
        lateness_micros: 3_600_000_000,
    };
    let Some((table, span)) = fields.table("setting", faults) else { return setting };
    let mut fields = Fields::new(fields.file, table, span, "the setting");
    if let Some(text) = fields.text("day_1", faults) {
        match text.value.parse() {
            Ok(day) => setting.day_1 = day,
            Err(_) => {
                let fault = text.fault("R040", format!("`{}` is no date", text.value), "here");
                faults.push(fault.help("write for example day_1 = \"2026-03-02\", a Monday"));
            }
        }
    }
    if let Some(text) = fields.text("time_zone", faults) {
        match text.value.parse() {
            Ok(zone) => setting.zone = zone,
            Err(_) => {
                let message = format!("`{}` is no time zone", text.value);
                let zones = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
                let help = match nearest(&text.value, zones) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "write for example time_zone = \"Europe/Berlin\"".into(),
                };
                faults.push(text.fault("R040", message, "here").help(help));
            }
        }
    }
    if let Some(text) = fields.text("currency", faults) {
        setting.currency = text.value;
    }
    if let Some(text) = fields.text("lateness", faults) {
        setting.lateness_micros = duration(&text, faults).unwrap_or(setting.lateness_micros);
    }
    fields.finish(faults);
    setting
}

/// A value of a fact as text: texts, numbers and true/false are written alike.
fn value(file: &File, value: &Spanned<DeValue<'_>>, faults: &mut Diagnostics) -> Option<String> {
    match value.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.as_str().to_string()),
        DeValue::Float(number) => Some(number.as_str().to_string()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Datetime(date) => Some(date.to_string()),
        _ => {
            faults.push(fault(
                file,
                &value.span(),
                "a fact is one value",
                "here",
                "write a text, a number or true/false",
            ));
            None
        }
    }
}

/// The facts of one row of a reference table.
fn row(
    file: &File,
    table: &DeTable<'_>,
    of: Reference,
    day_1: NaiveDate,
    faults: &mut Diagnostics,
) -> BTreeMap<String, String> {
    let mut row = BTreeMap::new();
    for (name, given) in items(table, file) {
        let column = of.columns().iter().find(|(column, _)| *column == name.value);
        let validity = ["valid_from", "valid_to"].contains(&name.value.as_str());
        let key = (of == Reference::Places || of.is_context()) && of.keys().contains(&name.value.as_str());
        if column.is_none() && !validity && !key {
            let message = format!("the table `{}` has no column `{}`", of.name(), name.value);
            let keys = of.keys().iter().copied().filter(|_| of.is_context());
            let known = keys.chain(of.columns().iter().map(|(column, _)| *column));
            let help = match nearest(&name.value, known.clone()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("its columns are {}", known.collect::<Vec<_>>().join(", ")),
            };
            faults.push(name.fault("R004", message, "not known").help(help));
            continue;
        }
        let Some(mut text) = value(file, given, faults) else { continue };
        if validity || column.is_some_and(|(_, kind)| *kind == Kind::Date) {
            match day(&text, day_1) {
                Some(day) => text = day.to_string(),
                None => {
                    let message = format!("`{text}` is no day");
                    let help = "write `day -400`, counted from day 1, or a date such as `2026-03-02`";
                    faults.push(fault(file, &given.span(), message, "here", help));
                }
            }
        }
        row.insert(name.value, text);
    }
    row
}

/// Facts on top of those that are known.
fn facts(fields: &mut Fields<'_>, day_1: NaiveDate, mut facts: Facts, faults: &mut Diagnostics) -> Facts {
    let file = fields.file;
    for (of, known) in facts.keyed() {
        let Some((table, _)) = fields.table(of.name(), faults) else { continue };
        for (name, given) in items(table, file) {
            match given.get_ref() {
                DeValue::Table(table) => {
                    known.entry(name.value).or_default().extend(row(file, table, of, day_1, faults));
                }
                _ => faults.push(fault(
                    file,
                    &given.span(),
                    format!("`{}` must be a table of facts", name.value),
                    "here",
                    "write for example `[customers.C1]` and `segment = \"person\"` below it",
                )),
            }
        }
    }
    for (table, _) in fields.tables("places", faults) {
        facts.places.push(row(file, table, Reference::Places, day_1, faults));
    }
    for of in Reference::ALL.into_iter().filter(|of| of.is_context()) {
        for (table, _) in fields.tables(of.name(), faults) {
            facts.context.push((of, row(file, table, of, day_1, faults)));
        }
    }
    if let Some((table, _)) = fields.table("fx_rates", faults) {
        for (name, given) in items(table, file) {
            if let Some(rate) = value(file, given, faults) {
                facts.fx_rates.insert(name.value, rate);
            }
        }
    }
    if let Some((table, _)) = fields.table("lists", faults) {
        for (name, given) in items(table, file) {
            let values = match given.get_ref() {
                DeValue::Array(values) => {
                    values.iter().map(|value| text_of(file, value)).collect::<Option<Vec<Text>>>()
                }
                _ => None,
            };
            match values {
                Some(values) => facts
                    .lists
                    .entry(name.value)
                    .or_default()
                    .extend(values.into_iter().map(|value| value.value)),
                None => faults.push(fault(
                    file,
                    &given.span(),
                    "a list is a list of texts",
                    "here",
                    "write for example advert-platforms = [\"Pinboard\"]",
                )),
            }
        }
    }
    facts
}

fn case(
    file: &File,
    table: &DeTable<'_>,
    span: Range<usize>,
    setting: &Setting,
    known: &Facts,
    faults: &mut Diagnostics,
) -> Option<(Case, Table)> {
    let mut fields = Fields::new(file, table, span.clone(), "a case");
    let id = fields.needed("id", "\"sixteen-strangers\"", faults);
    let title = fields.needed("title", "\"Sixteen strangers pay at night\"", faults);
    let because = fields.text("because", faults);
    let transactions = fields.needed("transactions", "'''…'''", faults);
    let alerts = fields.tables("alert", faults);
    let facts = facts(&mut fields, setting.day_1, known.clone(), faults);
    fields.finish(faults);
    let raising = !alerts.is_empty();
    let wanted: Vec<Wanted> = alerts
        .into_iter()
        .filter_map(|(table, span)| alert(file, table, span, setting.day_1, faults))
        .collect();
    let (id, title) = (id?, title?);
    if !raising && because.is_none() {
        let message = format!("the case `{}` wants no alert and does not say why", id.value);
        let help = "add `because = \"…\"`, or the alert that must come as [[case.alert]]";
        faults.push(fault(file, &id.span, message, "this case", help));
    }
    let table = Table::read(&transactions?, faults)?;
    let story = story::tell(&table, setting, file, faults)?;
    let words = match (&because, wanted.is_empty()) {
        (Some(because), true) => format!("{}: {}", title.value, because.value),
        _ => title.value,
    };
    Some((Case { id: id.value, words, of: None, wanted, story, facts }, table))
}

fn alert(
    file: &File,
    table: &DeTable<'_>,
    span: Range<usize>,
    day_1: NaiveDate,
    faults: &mut Diagnostics,
) -> Option<Wanted> {
    let mut fields = Fields::new(file, table, span.clone(), "an alert");
    let subject = fields.needed("subject", "\"collector\"", faults);
    let role = fields.word("role", &ROLES.map(|(word, _)| word), faults);
    let role = role.and_then(|role| ROLES.iter().find(|(word, _)| *word == role)).map(|(_, role)| *role);
    let score = fields.value("score");
    let indicators =
        fields.texts("indicators", Some("[\"many-senders\"]"), faults).into_iter().map(|text| text.value);
    let indicators = indicators.collect();
    let urgent = fields.flag("urgent", faults);
    let by = fields.text("by", faults);
    fields.finish(faults);
    let number = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
        DeValue::Integer(number) => number.as_str().parse::<u64>().ok(),
        _ => None,
    };
    let bounds = match score.map(|score| score.get_ref()) {
        Some(DeValue::Array(bounds)) => match (bounds.len(), bounds.first(), bounds.last()) {
            (2, Some(from), Some(to)) => number(from).zip(number(to)),
            _ => None,
        },
        Some(DeValue::Integer(number)) => number.as_str().parse().ok().map(|score: u64| (score, score)),
        _ => None,
    };
    let Some(score) = bounds else {
        let place = score.map_or(span, Spanned::span);
        let message = "an alert needs its score";
        faults.push(fault(
            file,
            &place,
            message,
            "here",
            "write for example score = [70, 85], or score = 75",
        ));
        return None;
    };
    let by = match by {
        Some(text) => match day(&text.value, day_1) {
            Some(day) => Some(day),
            None => {
                let message = format!("`{}` is no day", text.value);
                faults.push(text.fault("R040", message, "here").help("write for example by = \"day 12\""));
                None
            }
        },
        None => None,
    };
    Some(Wanted { subject: subject?.value, role, score, indicators, urgent, by })
}

fn near_miss(
    file: &File,
    table: &DeTable<'_>,
    span: Range<usize>,
    setting: &Setting,
    cases: &[Case],
    tables: &[Option<Table>],
    faults: &mut Diagnostics,
) -> Option<Case> {
    let mut fields = Fields::new(file, table, span.clone(), "a near miss");
    let of = fields.needed("of", "\"sixteen-strangers\"", faults);
    let id = fields.needed("id", "\"fourteen-strangers\"", faults);
    let because = fields.needed("because", "\"fewer than fifteen are …\"", faults);
    let set = fields.table("set", faults);
    let leave_out = fields.text("leave_out", faults);
    let add = fields.text("add", faults);
    let own = facts(&mut fields, setting.day_1, Facts::default(), faults);
    fields.finish(faults);
    let (of, id, because) = (of?, id?, because?);
    let found = cases.iter().zip(tables).find(|(case, _)| case.id == of.value && case.of.is_none());
    let Some((case, Some(table))) = found else {
        let message = format!("there is no case `{}`", of.value);
        let known = cases.iter().filter(|case| case.of.is_none()).map(|case| case.id.as_str());
        let help = match nearest(&of.value, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`of` names a case of this file that has no faults".into(),
        };
        faults.push(of.fault("R042", message, "not known").help(help));
        return None;
    };
    if case.wanted.is_empty() {
        let message = format!("the case `{}` raises nothing that could be missed", of.value);
        faults
            .push(of.fault("R042", message, "here").help("a near miss is one of a case with [[case.alert]]"));
    }
    let mut told = table.clone();
    let mut changes = 0;
    if let Some((given, place)) = set {
        changes += 1;
        let mut rows = None;
        let mut set = Vec::new();
        for (name, given) in items(given, file) {
            let Some(value) = value(file, given, faults) else { continue };
            if name.value == "rows" {
                rows = Some(value);
                continue;
            }
            if let Err(help) = known_column(&name.value) {
                let message = format!("a table of transactions has no column `{}`", name.value);
                faults.push(name.fault("R004", message, "not known here").help(help));
            }
            set.push((name.value, value));
        }
        match set.as_slice() {
            [(name, value)] => {
                if told.set(rows.as_deref(), name, value) == 0 {
                    let rows = rows.unwrap_or_default();
                    let message = format!("no line of the case has the label `{rows}`");
                    faults.push(fault(file, &place, message, "here", "give the line that label"));
                }
            }
            _ => {
                let help = "write for example set = { rows = \"clients\", amount = \"20\" }";
                faults.push(fault(file, &place, "a near miss changes one column", "here", help));
            }
        }
    }
    if let Some(label) = leave_out {
        changes += 1;
        if told.leave_out(&label.value) == 0 {
            let message = format!("no line of the case has the label `{}`", label.value);
            faults.push(label.fault("R042", message, "here").help("give the line that label"));
        }
    }
    if let Some(text) = add {
        changes += 1;
        told.add(&Table::read(&text, faults)?);
    }
    let facts_changed = [&own.accounts, &own.customers, &own.baselines, &own.peers]
        .into_iter()
        .flat_map(BTreeMap::values)
        .chain(&own.places)
        .map(|row| row.keys().filter(|name| !name.starts_with("valid_")).count().max(1))
        .sum::<usize>()
        + own.fx_rates.len()
        + own.context.len()
        + own.lists.len();
    // A place is told with its key and all its columns.
    changes += if own.places.is_empty() { facts_changed } else { own.places.len() };
    if changes != 1 {
        let message = format!("a near miss differs in one fact; this one in {changes}");
        let help = "write one of `set`, `leave_out`, `add`, or one fact about an account or a customer";
        faults.push(fault(file, &id.span, message, "this near miss", help));
    }
    let mut facts = case.facts.clone();
    let mut own = own;
    for ((_, known), (_, own)) in facts.keyed().into_iter().zip(own.keyed()) {
        for (key, row) in std::mem::take(own) {
            known.entry(key).or_default().extend(row);
        }
    }
    facts.places.extend(own.places);
    facts.context.extend(own.context);
    facts.fx_rates.extend(own.fx_rates);
    for (list, values) in own.lists {
        facts.lists.entry(list).or_default().extend(values);
    }
    let story = story::tell(&told, setting, file, faults)?;
    Some(Case { id: id.value, words: because.value, of: Some(of.value), wanted: Vec::new(), story, facts })
}
