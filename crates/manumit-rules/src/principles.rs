//! What no author may do, however careful: a person's protected attributes open no suspicion, and neither does a country alone.
//!
//! Sources: the official texts name gender, age and nationality, and most small payments abroad support families (FATF 2018; FINCEN-2020;
//! AUSTRAC-2022). Both may weigh, as corroborators; a gate asks for conduct. Attributes are off until somebody answers for them.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Statement, Value,
    visit_expressions,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use manumit_model::{Diagnostic, Diagnostics};

use crate::document::{Fields, File, parse};
use crate::ir::{Indicator, Metadata, Part, Typology};
use crate::sources::Sources;

/// Where attributes are switched on.
const PATH: &str = "rules/protected.toml";

/// Names that tell an attribute, the attribute, and its words.
const ATTRIBUTES: [(&str, &str); 10] = [
    ("nationality", "nationality"),
    ("country_of_birth", "nationality"),
    ("ethnicity", "ethnicity"),
    ("religion", "religion"),
    ("gender", "gender"),
    ("sex", "gender"),
    ("marital_status", "marital status"),
    ("born_on", "age"),
    ("minor", "age"),
    ("age_years", "age"),
];

/// Kinds of exploitation whose typologies may ask for age: they protect children.
const OF_CHILDREN: [&str; 2] = ["ocse", "sextortion"];

/// What says nothing of conduct: payments of any size and number go to every country.
const PLAIN: [&str; 22] = [
    "direction",
    "entry_type",
    "method",
    "channel",
    "amount",
    "amount_base",
    "currency",
    "event_time",
    "local_time",
    "account",
    "customer",
    "counterparty",
    "counterparty_customer",
    "debtor_account",
    "creditor_account",
    "debtor_customer",
    "creditor_customer",
    "tx_id",
    "feed",
    "status",
    "booking_date",
    "card_id",
];

/// Attributes that the project allows. That somebody says why is asked for; the reason is for readers of the file.
pub(crate) fn allowed(sources: &Sources, faults: &mut Diagnostics) -> BTreeSet<String> {
    let path = Path::new(PATH);
    let mut allowed = BTreeSet::new();
    let Some(text) = sources.get(path) else { return allowed };
    let file = File { path: path.to_path_buf(), text: text.clone() };
    let Some(document) = parse(&file, faults) else { return allowed };
    let mut fields =
        Fields::new(&file, document.get_ref(), document.span(), "a file of protected attributes");
    for (table, span) in fields.tables("allow", faults) {
        let mut block = Fields::new(&file, table, span, "an allowance");
        let words: BTreeSet<&str> = ATTRIBUTES.iter().map(|(_, attribute)| *attribute).collect();
        let words: Vec<&str> = words.into_iter().collect();
        block.needed("attribute", "\"nationality\"", faults);
        let attribute = block.word("attribute", &words, faults);
        let because = block.needed("because", "\"who decided it, on which legal ground\"", faults);
        block.finish(faults);
        allowed.extend(attribute.filter(|_| because.is_some()));
    }
    fields.finish(faults);
    allowed
}

/// Checks a typology of these indicators. `own_gate`: the indicator that its query is.
pub(crate) fn check(
    typology: &Typology,
    indicators: &[Indicator],
    own_gate: Option<&Indicator>,
    allowed: &BTreeSet<String>,
    file: &File,
    faults: &mut Diagnostics,
) {
    let of = |part: &Part| indicators.get(part.indicator).or(own_gate);
    for indicator in typology.gate.iter().filter_map(of) {
        let names = Names::of(indicator);
        for (name, attribute) in protected(&names, indicator, &typology.meta) {
            let id = &indicator.meta.id;
            let message = format!(
                "the gate `{id}` asks for {attribute} (`{name}`): who a person is opens no suspicion"
            );
            faults.push(at(file, id, "R030", message, "a gate").help(
                "ask for conduct; in [[exclude]] attributes may be used freely, and as a corroborator where the project allows it (rules/README.md)",
            ));
        }
        if rests_on_country(&names, indicator) {
            let id = &indicator.meta.id;
            let message = format!(
                "the gate `{id}` rests on a country alone: most payments to any country support families"
            );
            faults.push(at(file, id, "R031", message, "a gate").help(
                "make it a corroborator, or ask beside it for conduct: what the payment says, who is paid by whom, when, what else was bought",
            ));
        }
    }
    for indicator in typology.corroborators.iter().filter_map(of) {
        for (name, attribute) in protected(&Names::of(indicator), indicator, &typology.meta) {
            if allowed.contains(attribute) {
                continue;
            }
            let id = &indicator.meta.id;
            let message = format!("the corroborator `{id}` asks for {attribute} (`{name}`), which is off");
            faults.push(at(file, id, "R030", message, "a corroborator").help(format!(
                "delete it, or let somebody answer for it in {PATH}: [[allow]] with attribute = \"{attribute}\" and because = \"…\""
            )));
        }
    }
}

fn at(file: &File, id: &str, code: &'static str, message: String, label: &str) -> Diagnostic {
    let quoted = format!("\"{id}\"");
    // The first place is the typology's own id where its gate is the query beside it.
    let span = file.text.find(&quoted).map_or(0..0, |start| start..start + quoted.len());
    file.fault(code, message).at(span, label)
}

/// Protected attributes that the indicator asks for, by the names it uses; age is none in a typology that protects children.
fn protected(names: &Names, indicator: &Indicator, typology: &Metadata) -> Vec<(String, &'static str)> {
    let of_children = typology.exploitation.iter().any(|kind| OF_CHILDREN.contains(&kind.as_str()));
    // A feature's name is the author's word; what it is made of is looked at by itself.
    let own = |name: &&String| indicator.features.iter().any(|feature| feature.name == **name);
    let found = names.names.iter().filter(|name| !own(name)).filter_map(|name| {
        let last = name.rsplit("__").next().unwrap_or(name);
        let (_, attribute) = ATTRIBUTES.iter().find(|(known, _)| *known == last)?;
        (*attribute != "age" || !of_children).then(|| (last.to_string(), *attribute))
    });
    let mut seen = BTreeSet::new();
    found.filter(|(_, attribute)| seen.insert(*attribute)).collect()
}

/// The indicator chooses rows by country, and asks nothing else but sums, numbers and who is paid.
fn rests_on_country(found: &Names, indicator: &Indicator) -> bool {
    let features: BTreeSet<&str> = indicator.features.iter().map(|feature| feature.name.as_str()).collect();
    let plain = |name: &String| {
        name.contains("country") || PLAIN.contains(&name.as_str()) || features.contains(name.as_str())
    };
    found.chooses_country && found.functions.is_empty() && found.names.iter().all(plain)
}

/// What an indicator's expressions name.
#[derive(Default)]
struct Names {
    /// Columns, features and look-ups.
    names: BTreeSet<String>,
    /// Functions that look at more than a value: terms in texts, groups of merchants, distances.
    functions: BTreeSet<String>,
    /// A country is held against a list, or against certain countries.
    chooses_country: bool,
}

impl Names {
    fn of(indicator: &Indicator) -> Names {
        let mut names = Names::default();
        for text in indicator.expressions() {
            let parsed = Parser::new(&GenericDialect {}).try_with_sql(text).and_then(|mut p| p.parse_expr());
            if let Ok(expr) = parsed {
                names.chooses_country |= chooses_country(&expr);
                let _: ControlFlow<()> = visit_expressions(&expr, |e| names.see(e));
            }
        }
        if let Some(keyed) = &indicator.keyed {
            let parsed: Vec<Statement> =
                Parser::parse_sql(&GenericDialect {}, &keyed.query).unwrap_or_default();
            let _: ControlFlow<()> = visit_expressions(&parsed, |e| {
                names.chooses_country |= chooses_country(e);
                names.see(e)
            });
        }
        names
    }

    fn see(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(ident) => {
                self.names.insert(ident.value.to_lowercase());
            }
            Expr::CompoundIdentifier(parts) => {
                self.names.extend(parts.last().map(|part| part.value.to_lowercase()));
            }
            Expr::Function(function) => {
                let name = function.name.to_string().to_lowercase();
                match name.as_str() {
                    "in_list" if first_argument(function).is_some_and(is_country) => {}
                    "in_list" | "mentions" | "mentions_phone" | "term_found" | "in_mcc_group"
                    | "distance_km" | "is_night" | "related" | "relation" | "authority" => {
                        self.functions.insert(name);
                    }
                    _ if name.contains("__") || name == "age_years" => {
                        self.names.insert(name);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Rows of which it holds are of certain countries. Where another reason would do as well, the country is not what chooses.
fn chooses_country(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            chooses_country(left) || chooses_country(right)
        }
        Expr::BinaryOp { left, op: BinaryOperator::Or, right } => {
            chooses_country(left) && chooses_country(right)
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
            (is_country(left) && is_text(right)) || (is_text(left) && is_country(right))
        }
        Expr::InList { expr, list, negated: false } => is_country(expr) && list.iter().any(is_text),
        Expr::Function(function) => {
            let name = function.name.to_string().to_lowercase();
            name == "in_list" && first_argument(function).is_some_and(is_country)
        }
        Expr::Nested(inner) => chooses_country(inner),
        _ => false,
    }
}

fn first_argument(function: &Function) -> Option<&Expr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    match list.args.first() {
        Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(first))) => Some(first),
        _ => None,
    }
}

/// A column or look-up that holds a country.
fn is_country(expr: &Expr) -> bool {
    match expr {
        Expr::Identifier(ident) => ident.value.to_lowercase().contains("country"),
        Expr::CompoundIdentifier(parts) => {
            parts.last().is_some_and(|part| part.value.to_lowercase().contains("country"))
        }
        Expr::Function(function) => function.name.to_string().to_lowercase().contains("country"),
        Expr::Nested(inner) => is_country(inner),
        _ => false,
    }
}

fn is_text(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if matches!(value.value, Value::SingleQuotedString(_)))
}
