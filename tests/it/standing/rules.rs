//! Random indicators and typologies, as the text that an author would write; the project's own loader reads them.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use manumit_rules::ir::RuleSet;
use manumit_rules::{Sources, load};
use manumit_sql::Sql;
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::{queries, sequences};

/// A feature's name tells how far it can be compared: `f…` with every answer; `e…` holds a time, which moves when all
/// rows are moved; `p…` with the plain answer only, as DataFusion's sliding aggregate drifts (a standard deviation, a mean
/// of floats).
#[derive(Debug, Clone)]
pub struct Feature {
    pub name: String,
    pub sql: String,
    pub kind: Kind,
}

/// What a feature's value is, so that conditions compare like with like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Count,
    Amount,
    Number,
    Text,
    Share,
    Time,
    Flag,
}

/// An indicator as an author writes it.
#[derive(Debug, Clone)]
pub struct Indicator {
    pub id: String,
    /// `entries` or `transactions`.
    pub over: &'static str,
    pub subject: &'static str,
    pub about: Option<&'static str>,
    pub row_filter: Option<String>,
    /// `within` and the `[[step]]` blocks of a sequence.
    pub steps: Option<String>,
    pub features: Vec<Feature>,
    pub when: String,
    /// Value of `$p`, when the condition uses it.
    pub param: Option<i64>,
    /// Answered at ticks, by this query; its columns are the features.
    pub keyed: Option<queries::Query>,
}

/// A typology as an author writes it.
#[derive(Debug, Clone)]
pub struct Typology {
    pub id: String,
    pub subject: &'static str,
    pub within: String,
    /// Ids of the indicators it uses.
    pub uses: Vec<String>,
    /// Everything but the head.
    pub body: String,
}

const HEAD: &str = "version = 1\nstatus = \"draft\"\ntitle = \"Drawn\"\nseverity = \"low\"\nexploitation = [\"any\"]\n\
                    references = [\"test\"]\nfalse_positives = [\"none\"]\n";

/// The engine knows windows of rows (`OVER 10 rows`): then they are drawn, too.
const WINDOWS_OF_ROWS: bool = true;

/// Lists that conditions may look into: one that always holds, one that begins on the second of June.
const LISTS: [(&str, &str); 2] = [
    ("clubs", "value,valid_from,valid_to,source\nclub,,,test\n"),
    ("gifts", "value,valid_from,valid_to,source\ngift,2026-06-02,,test\n"),
];

/// A length of time in words.
pub fn length(unit: i64, times: i64) -> String {
    let (name, size) = [
        ("hours", 3_600_000_000_i64),
        ("minutes", 60_000_000),
        ("seconds", 1_000_000),
        ("milliseconds", 1_000),
        ("microseconds", 1),
    ]
    .into_iter()
    .find(|(_, size)| unit % size == 0)
    .unwrap();
    format!("{} {name}", unit / size * times)
}

fn window(rng: &mut ChaCha8Rng, unit: i64) -> String {
    let excluding = ["", "", "", " excluding end", " excluding current row"];
    if WINDOWS_OF_ROWS && rng.random_bool(0.15) {
        let excluded = ["", " excluding current row"].choose(rng).unwrap();
        return format!("{} rows{excluded}", [1, 2, 5, 30, 100].choose(rng).unwrap());
    }
    if rng.random_bool(0.25) {
        let period = ["day", "week", "month"].choose(rng).unwrap();
        let zone = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"].choose(rng).unwrap();
        return format!("calendar {period} in {zone}{}", excluding.choose(rng).unwrap());
    }
    let start = [" excluding start", " excluding start and end", " excluding start and current row"];
    let excluded = if rng.random_bool(0.3) { start.choose(rng) } else { excluding.choose(rng) };
    // Between the start and the end of a microsecond there is no time, and the loader refuses it.
    let least = if unit == 1 && excluded == Some(&" excluding start and end") { 2 } else { 1 };
    let times = *[least, 2, 3, 5, 8, 13, 30, 60].choose(rng).unwrap();
    format!("{}{}", length(unit, times), excluded.unwrap())
}

/// A condition on one row; several of them are unknown (NULL) on some rows.
pub fn row_condition(rng: &mut ChaCha8Rng, over: &str) -> String {
    let mut all = vec![
        "method = 'cash'",
        "method IN ('card', 'transfer')",
        "entry_type = 'booking'",
        "entry_type NOT IN ('refund', 'reversal')",
        "city = 'x'",
        "NOT (city = 'x')",
        "city IS NULL OR city = 'y'",
        "memo = 'club'",
        "memo LIKE 'g%'",
        "in_list(memo, 'clubs')",
        "NOT in_list(memo, 'gifts')",
        "amount_base > 2.50",
        "amount_base BETWEEN 1 AND 3.33",
        "amount_base - coalesce(fee_amount, 0) > 0",
        "NOT (fee_amount >= 2)",
        "is_night(local_time)",
        "in_mcc_group(mcc, 'food')",
        "latitude > 0",
        "batch_line % 2 = 0",
        "device_id IS NOT NULL",
        "fee_amount IS NULL",
    ];
    if over == "entries" {
        all.extend([
            "direction = 'in'",
            "direction = 'out'",
            "direction = 'in'",
            "counterparty IS NOT NULL",
            "counterparty_customer <> customer",
        ]);
    } else {
        all.extend(["debtor_account = creditor_account", "debtor_account IS NOT NULL"]);
    }
    let one = |rng: &mut ChaCha8Rng| all.choose(rng).unwrap().to_string();
    match rng.random_range(0..6) {
        0 => format!("({}) AND ({})", one(rng), one(rng)),
        1 => format!("({}) OR ({})", one(rng), one(rng)),
        _ => one(rng),
    }
}

/// An aggregate over rows of a table.
pub fn aggregate(rng: &mut ChaCha8Rng, over: &str) -> (String, Kind) {
    let other = if over == "entries" { "counterparty" } else { "creditor_account" };
    let signed = if over == "entries" {
        "sum(CASE WHEN direction = 'in' THEN amount_base ELSE -amount_base END)"
    } else {
        "sum(CASE WHEN entry_type = 'refund' THEN -amount_base ELSE amount_base END)"
    };
    let (text, kind) = match rng.random_range(0..30) {
        0..=3 => ("count(*)".to_string(), Kind::Count),
        4 => ("count(memo)".into(), Kind::Count),
        5 => ("count(amount_base)".into(), Kind::Count),
        6 | 7 => (format!("count(DISTINCT {other})"), Kind::Count),
        8 => ("count(DISTINCT city)".into(), Kind::Count),
        9 => ("count(DISTINCT amount_base)".into(), Kind::Count),
        10..=12 => ("sum(amount_base)".into(), Kind::Amount),
        13 => (signed.into(), Kind::Amount),
        14 => ("sum(amount_base - fee_amount)".into(), Kind::Amount),
        15 => ("sum(batch_line)".into(), Kind::Count),
        16 => ("avg(amount_base)".into(), Kind::Amount),
        17 | 18 => ("min(amount_base)".into(), Kind::Amount),
        19 | 20 => ("max(amount_base)".into(), Kind::Amount),
        21 => (["min(latitude)", "max(latitude)"].choose(rng).unwrap().to_string(), Kind::Number),
        22 => (["min(event_time)", "max(local_time)"].choose(rng).unwrap().to_string(), Kind::Time),
        23 | 24 => (["first_value(memo)", "last_value(memo)"].choose(rng).unwrap().to_string(), Kind::Text),
        25 => (["first_value(city)", "last_value(city)"].choose(rng).unwrap().to_string(), Kind::Text),
        26 => (
            ["first_value(amount_base)", "last_value(amount_base)"].choose(rng).unwrap().to_string(),
            Kind::Amount,
        ),
        27 => (format!("top_share({other})"), Kind::Share),
        28 => ("top_share(city, amount_base)".into(), Kind::Share),
        _ => (["stddev(amount_base)", "avg(batch_line)"].choose(rng).unwrap().to_string(), Kind::Number),
    };
    (text, kind)
}

fn window_feature(rng: &mut ChaCha8Rng, number: usize, over: &str, unit: i64) -> Feature {
    let (call, kind) = aggregate(rng, over);
    let drifts = call.starts_with("stddev") || call == "avg(batch_line)";
    let letter = if drifts {
        'p'
    } else if kind == Kind::Time {
        'e'
    } else {
        'f'
    };
    let filter = if rng.random_bool(0.55) {
        format!(" FILTER (WHERE {})", row_condition(rng, over))
    } else {
        String::new()
    };
    Feature {
        name: format!("{letter}{number:02}"),
        sql: format!("{call}{filter} OVER {}", window(rng, unit)),
        kind,
    }
}

/// An expression over features that were drawn before.
fn derived(rng: &mut ChaCha8Rng, number: usize, features: &[Feature]) -> Option<Feature> {
    let counts: Vec<&Feature> = features.iter().filter(|f| f.kind == Kind::Count).collect();
    let amounts: Vec<&Feature> = features.iter().filter(|f| f.kind == Kind::Amount).collect();
    let (sql, kind) = if rng.random_bool(0.5) {
        (format!("{} / {}", counts.choose(rng)?.name, counts.choose(rng)?.name), Kind::Share)
    } else {
        (format!("{} - coalesce({}, 0)", amounts.choose(rng)?.name, amounts.choose(rng)?.name), Kind::Amount)
    };
    Some(Feature { name: format!("f{number:02}"), sql, kind })
}

fn feature_condition(rng: &mut ChaCha8Rng, features: &[Feature]) -> Option<String> {
    // What drifts in one of the answers must not decide whether a row hits.
    let usable: Vec<&Feature> = features.iter().filter(|f| !f.name.starts_with('p')).collect();
    let feature = usable.choose(rng)?;
    let name = &feature.name;
    let all = match feature.kind {
        Kind::Count => vec![
            format!("{name} >= 2"),
            format!("{name} = 1"),
            format!("NOT ({name} > 1)"),
            format!("coalesce({name}, 0) = 0"),
            format!("{name} < 4"),
        ],
        Kind::Amount => vec![
            format!("{name} >= $p"),
            format!("{name} <= amount_base"),
            format!("NOT ({name} = 10)"),
            format!("{name} > 2 * amount"),
            format!("amount_base >= 0.5 * {name}"),
        ],
        Kind::Number => vec![format!("{name} >= 0"), format!("{name} IS NULL")],
        Kind::Text => vec![
            format!("{name} = 'club' OR {name} = 'x'"),
            format!("{name} IS NOT NULL"),
            format!("{name} <> city"),
        ],
        Kind::Share => vec![format!("{name} >= 0.5"), format!("{name} < 1")],
        Kind::Time => vec![format!("{name} IS NOT NULL")],
        Kind::Flag => vec![name.clone(), format!("NOT {name}"), format!("coalesce({name}, true)")],
    };
    Some(all.choose(rng).unwrap().clone())
}

/// A condition over features, and sometimes over the row; or one that every row meets, so that all values are compared.
pub fn when(rng: &mut ChaCha8Rng, over: &str, features: &[Feature]) -> String {
    let mut atoms: Vec<String> = Vec::new();
    if rng.random_bool(0.6) {
        for _ in 0..rng.random_range(1..=2) {
            atoms.extend(feature_condition(rng, features));
        }
        if rng.random_bool(0.4) {
            atoms.push(row_condition(rng, over));
        }
    }
    let joined = |word: &str| atoms.iter().map(|a| format!("({a})")).collect::<Vec<_>>().join(word);
    match atoms.len() {
        0 => "amount >= 0".to_string(),
        _ if rng.random_bool(0.7) => joined(" AND "),
        _ => joined(" OR "),
    }
}

/// One indicator with windows.
pub fn indicator(rng: &mut ChaCha8Rng, number: usize, unit: i64) -> Indicator {
    let over = if rng.random_bool(0.75) { "entries" } else { "transactions" };
    let subject = if over == "entries" {
        *["account", "account", "account", "customer", "counterparty", "device", "merchant"]
            .choose(rng)
            .unwrap()
    } else {
        *["device", "merchant"].choose(rng).unwrap()
    };
    let about = match (over, subject) {
        ("entries", "account") if rng.random_bool(0.25) => Some("counterparty"),
        ("entries", "counterparty") if rng.random_bool(0.5) => Some("account"),
        _ => None,
    };
    let mut features: Vec<Feature> = Vec::new();
    for n in 0..rng.random_range(1..=6) {
        let feature = match rng.random_bool(0.15) {
            true => derived(rng, n, &features),
            false => None,
        };
        features.push(feature.unwrap_or_else(|| window_feature(rng, n, over, unit)));
    }
    let when = when(rng, over, &features);
    Indicator {
        id: format!("drawn-{number:02}"),
        over,
        subject,
        about,
        row_filter: rng.random_bool(0.3).then(|| row_condition(rng, over)),
        steps: None,
        features,
        param: when.contains("$p").then(|| *[0, 3, 10, 25].choose(rng).unwrap()),
        when,
        keyed: None,
    }
}

/// Kind of subject that an indicator's hits are about.
pub fn about_kind(indicator: &Indicator) -> &'static str {
    match indicator.about.unwrap_or(indicator.subject) {
        "counterparty" | "account" => "account",
        "device" => "device",
        "merchant" => "merchant",
        _ => "customer",
    }
}

/// A typology over some of the indicators, if any go together.
pub fn typology(
    rng: &mut ChaCha8Rng,
    number: usize,
    unit: i64,
    indicators: &[Indicator],
) -> Option<Typology> {
    let subject = about_kind(indicators.choose(rng)?);
    let fitting: Vec<&Indicator> = indicators.iter().filter(|i| about_kind(i) == subject).collect();
    let mut uses = Vec::new();
    let mut part = |rng: &mut ChaCha8Rng, corroborator: bool| {
        let indicator = fitting.choose(rng).unwrap();
        uses.push(indicator.id.clone());
        let mut part = vec![format!("indicator = \"{}\"", indicator.id)];
        if corroborator {
            part.push(format!("points = {}", [10, 15, 30].choose(rng).unwrap()));
        }
        if rng.random_bool(0.4) {
            part.push(format!("at_least = {}", rng.random_range(2..5)));
        }
        if rng.random_bool(0.15) {
            part.push("on_days = 2".into());
        }
        if rng.random_bool(0.3) {
            let all: &[&str] = match indicator.over {
                "entries" => &["account", "counterparty", "city", "\"date_trunc('hour', event_time)\""],
                _ => &["debtor_account", "city", "\"date_trunc('hour', event_time)\""],
            };
            part.push(format!("different = {{ {} = {} }}", all.choose(rng).unwrap(), rng.random_range(1..4)));
        }
        part
    };
    let gates: Vec<String> =
        (0..rng.random_range(1..=2)).map(|_| format!("{{ {} }}", part(rng, false).join(", "))).collect();
    let corroborators: Vec<String> = (0..rng.random_range(0..=2))
        .map(|_| format!("[[corroborator]]\n{}\n", part(rng, true).join("\n")))
        .collect();
    let points = if corroborators.is_empty() { 50 } else { *[50, 60, 65].choose(rng).unwrap() };
    let exclude = if rng.random_bool(0.25) {
        format!(
            "[[exclude]]\nwhen = \"{}\"\nwords = \"left out\"\n",
            ["memo = 'club'", "method = 'cash'"].choose(rng).unwrap()
        )
    } else {
        String::new()
    };
    let times = |rng: &mut ChaCha8Rng| length(unit, *[0, 1, 3, 10, 40].choose(rng).unwrap());
    let within = times(rng);
    // A corroborator gives at least 10, so 60 can be reached; 65 not always.
    let alert_at =
        if points == 65 && !corroborators.iter().any(|c| !c.contains("points = 10")) { 60 } else { points };
    Some(Typology {
        id: format!("typology-{number:02}"),
        subject,
        within: within.clone(),
        uses,
        body: format!(
            "gate = [{}]\nalert_at = {alert_at}\nopen_for = \"{}\"\nrevise_every = \"{}\"\n{}{exclude}",
            gates.join(", "),
            times(rng),
            times(rng),
            corroborators.concat(),
        ),
    })
}

impl Indicator {
    /// The text of its file.
    pub fn toml(&self) -> String {
        let mut text =
            format!("id = \"{}\"\n{HEAD}subject = \"{}\"\nover = \"{}\"\n", self.id, self.subject, self.over);
        if let Some(about) = self.about {
            text += &format!("about = \"{about}\"\n");
        }
        if let Some(filter) = &self.row_filter {
            text += &format!("where = \"{filter}\"\n");
        }
        text += &format!("when = \"{}\"\nexplain = \"a row of {{amount}}\"\n", self.when);
        if let Some(query) = &self.keyed {
            text += &query.front();
        } else {
            text += self.steps.as_deref().unwrap_or_default();
            text += "[features]\n";
            for feature in &self.features {
                text += &format!("{} = \"{}\"\n", feature.name, feature.sql);
            }
        }
        if let Some(param) = self.param {
            text += &format!("[params.p]\nvalue = {param}\nunit = \"EUR\"\nsource = \"test\"\n");
        }
        text
    }

    /// A feature that is a value of a step.
    pub fn step_feature(name: &str, sql: &str) -> Feature {
        Feature { name: name.into(), sql: sql.into(), kind: Kind::Number }
    }
}

impl Typology {
    /// The text of its file.
    pub fn toml(&self) -> String {
        format!(
            "id = \"{}\"\n{HEAD}fiu_keywords = []\nsummary = \"Money comes and goes.\"\nsubject = \"{}\"\nwithin = \"{}\"\n{}",
            self.id, self.subject, self.within, self.body
        )
    }
}

/// All files, as the loader takes them.
pub fn files(indicators: &[Indicator], typologies: &[Typology]) -> Vec<(PathBuf, String)> {
    let queries = indicators
        .iter()
        .filter_map(|i| Some((format!("sql/indicators/{}/query.sql", i.id), i.keyed.as_ref()?.sql.clone())));
    let indicators = indicators.iter().map(|i| match i.keyed {
        None => (format!("rules/indicators/{}.toml", i.id), i.toml()),
        Some(_) => (format!("sql/indicators/{}/indicator.toml", i.id), i.toml()),
    });
    let typologies =
        typologies.iter().map(|t| (format!("rules/typologies/test/{}/typology.toml", t.id), t.toml()));
    let lists = LISTS.iter().map(|(name, text)| (format!("rules/lists/{name}.csv"), text.to_string()));
    let groups =
        [("rules/mcc_groups.csv".to_string(), "group,mcc,description\nfood,5812,\"Eating\"\n".to_string())];
    let all = indicators.chain(queries).chain(typologies).chain(lists).chain(groups);
    all.map(|(path, text)| (PathBuf::from(path), text)).collect()
}

/// The files, and what the bank knows of accounts, put into the session.
pub fn loaded(indicators: &[Indicator], typologies: &[Typology], sql: &Sql) -> Result<RuleSet, String> {
    let column = |values: [&str; 4]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let accounts = RecordBatch::try_from_iter([
        ("account", column(["A0", "A1", "A1", "A2"])),
        ("status", column(["open", "open", "closed", "open"])),
        ("valid_from", column(["", "", "2026-06-01", "2026-06-02"])),
        ("valid_to", column(["", "2026-06-01", "", ""])),
    ]);
    sql.reference()
        .update(|reference| reference.add_rows(manumit_sql::reference::Table::Accounts, &accounts.unwrap()))
        .map_err(|error| error.to_string())?;
    load(&Sources::from_files(files(indicators, typologies)), sql).map_err(|faults| faults.to_string())
}

/// Indicators and typologies of one case.
pub fn draw(rng: &mut ChaCha8Rng, unit: i64) -> (Vec<Indicator>, Vec<Typology>) {
    let mut indicators: Vec<Indicator> =
        (0..rng.random_range(1..=5)).map(|n| indicator(rng, n, unit)).collect();
    if rng.random_bool(sequences::SHARE) {
        indicators.push(sequences::indicator(rng, indicators.len(), unit));
    }
    if rng.random_bool(queries::SHARE) {
        indicators.push(queries::indicator(rng, indicators.len(), unit, &indicators));
    }
    let count = if rng.random_bool(0.7) { rng.random_range(1..=3) } else { 0 };
    let typologies = (0..count).filter_map(|n| typology(rng, n, unit, &indicators)).collect();
    (indicators, typologies)
}
