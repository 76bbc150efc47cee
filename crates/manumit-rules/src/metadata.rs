//! What every rule must say about itself.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use manumit_model::Diagnostics;
use toml::de::DeValue;

use crate::document::{Fields, Text, check_word, items};
use crate::expression::Param;
use crate::ir::Metadata;
use crate::{retired, segments};

/// Kinds of exploitation.
pub(crate) const EXPLOITATION: [&str; 8] = [
    "any",
    "sexual",
    "labour",
    "domestic_servitude",
    "forced_criminality",
    "ocse",
    "sextortion",
    "smuggling",
];
pub(crate) const STATUS: [&str; 5] = ["draft", "experimental", "stable", "deprecated", retired::STATUS];
const SEVERITY: [&str; 3] = ["low", "medium", "high"];

/// Reads the metadata. `expected_id`: the name of the file or folder, which the id must equal.
pub(crate) fn read(fields: &mut Fields<'_>, expected_id: &str, faults: &mut Diagnostics) -> Metadata {
    let id = fields.needed("id", &format!("\"{expected_id}\""), faults);
    let mut meta = Metadata { file: fields.file.path.clone(), ..Metadata::default() };
    if let Some(id) = id {
        let kebab = id.value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !kebab {
            let message = format!("`{}` is no id", id.value);
            faults.push(id.fault("R006", message, "here").help("use small letters, digits and -"));
        } else if id.value != expected_id {
            let message = format!("the id `{}` differs from the file's name `{expected_id}`", id.value);
            let fault = id.fault("R006", message, "here");
            faults.push(fault.help(format!("write id = \"{expected_id}\", or rename the file")));
        }
        meta.id = id.value;
    }
    if fields.value("version").is_none() {
        fields.needed("version", "1", faults);
    }
    if let Some(version) = fields.integer("version", faults) {
        if version == 0 {
            let place = fields.value("version").map_or(0..0, |value| value.span());
            let fault = fields.file.fault("R003", "versions begin with 1").at(place, "here");
            faults.push(fault.help("write version = 1, and raise it by one with every change of meaning"));
        }
        meta.version = u32::try_from(version).unwrap_or(u32::MAX);
    }
    meta.title =
        fields.needed("title", "\"What it looks for, in a line\"", faults).map_or(String::new(), |t| t.value);
    for (key, words, example) in
        [("status", &STATUS[..], "\"draft\""), ("severity", &SEVERITY[..], "\"medium\"")]
    {
        if fields.needed(key, example, faults).is_some()
            && let Some(word) = fields.word(key, words, faults)
        {
            if key == "status" { meta.status = word } else { meta.severity = word }
        }
    }
    for text in fields.texts("exploitation", Some("[\"sexual\"]"), faults) {
        meta.exploitation.extend(check_word(&text, "exploitation", &EXPLOITATION, faults));
    }
    let texts = |list: Vec<Text>| list.into_iter().map(|t| t.value).collect();
    meta.references = texts(fields.texts("references", Some("[\"FINTRAC-2021-28\"]"), faults));
    meta.false_positives = texts(fields.texts("false_positives", Some("[\"people who …\"]"), faults));
    meta
}

/// Reads `[params.…]` blocks.
pub(crate) fn params(fields: &mut Fields<'_>, faults: &mut Diagnostics) -> BTreeMap<String, (Text, Param)> {
    let mut params = BTreeMap::new();
    let Some((table, _)) = fields.table("params", faults) else { return params };
    for (name, value) in items(table, fields.file) {
        let DeValue::Table(block) = value.get_ref() else {
            let message = format!("the parameter `{}` has no unit and source", name.value);
            let fault = fields.file.fault("R017", message).at(value.span(), "only a value");
            faults.push(fault.help(format!(
                "write a block: [params.{}] with value = …, unit = \"…\", source = \"…\"",
                name.value
            )));
            continue;
        };
        let mut block = Fields::new(fields.file, block, value.span(), "a parameter");
        let literal = value_of(&mut block, &format!("`{}`", name.value), faults);
        let unit = block.needed("unit", "\"accounts\"", faults);
        let source = block.needed("source", "\"FINTRAC-2021-28\"", faults);
        let segments = segments::read(&mut block, literal.as_ref(), faults);
        block.finish(faults);
        // Without unit or source it is refused above, but its users need not be told that it is unknown.
        if let Some(literal) = literal {
            let text = |given: Option<Text>| given.map_or(String::new(), |text| text.value);
            let words = literal.to_string();
            let (unit, source, columns) = (text(unit), text(source), BTreeSet::new());
            let param = Param { literal, words, unit, source, segments, columns };
            params.insert(name.value.clone(), (name, param));
        }
    }
    params
}

/// The field `value` of a block; `what` it is, for messages.
pub(crate) fn value_of(block: &mut Fields<'_>, what: &str, faults: &mut Diagnostics) -> Option<Expr> {
    let Some(value) = block.value("value") else {
        block.needed("value", "8", faults);
        return None;
    };
    let literal = literal(value.get_ref());
    if literal.is_none() {
        let message = format!("{what} must be a number, text, true/false or date");
        faults.push(block.file.fault("R017", message).at(value.span(), "here"));
    }
    literal
}

/// A parameter's value as SQL: numbers exactly as written.
fn literal(value: &DeValue<'_>) -> Option<Expr> {
    let sql = match value {
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().replace('_', ""),
        DeValue::Float(number) => {
            let text = number.as_str().replace('_', "");
            if text.contains(['e', 'E']) || text.contains("inf") || text.contains("nan") {
                return None;
            }
            text
        }
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::String(text) => format!("'{}'", text.replace('\'', "''")),
        DeValue::Datetime(date) if date.date.is_some() && date.time.is_none() => format!("DATE '{date}'"),
        _ => return None,
    };
    Parser::new(&GenericDialect {}).try_with_sql(&sql).and_then(|mut parser| parser.parse_expr()).ok()
}
