//! Explanations: sentences with holes such as `{inflow:amount}`.

use std::collections::BTreeSet;

use manumit_model::{Diagnostics, nearest};

use crate::document::Text;
use crate::expression::Scope;
use crate::ir::{Format, Piece, Template};

const FORMATS: [(&str, Format); 5] = [
    ("amount", Format::Amount),
    ("percent", Format::Percent),
    ("date", Format::Date),
    ("count", Format::Count),
    ("text", Format::Text),
];

/// Reads a template; holes name features, columns or parameters of the scope.
pub(crate) fn read(
    text: &Text,
    scope: &Scope<'_>,
    columns: &mut BTreeSet<String>,
    used: &mut BTreeSet<String>,
    faults: &mut Diagnostics,
) -> Template {
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(open) = text.value[at..].find('{').map(|o| at + o) {
        if open > at {
            pieces.push(Piece::Text(text.value[at..open].to_string()));
        }
        let Some(close) = text.value[open..].find('}').map(|c| open + c) else {
            let fault =
                text.part(open..text.value.len()).fault("R018", "this hole is not closed", "no `}` follows");
            faults.push(fault);
            return Template(pieces);
        };
        if let Some(piece) = hole(&text.part(open + 1..close), scope, columns, used, faults) {
            pieces.push(piece);
        }
        at = close + 1;
    }
    if at < text.value.len() {
        pieces.push(Piece::Text(text.value[at..].to_string()));
    }
    Template(pieces)
}

fn hole(
    text: &Text,
    scope: &Scope<'_>,
    columns: &mut BTreeSet<String>,
    used: &mut BTreeSet<String>,
    faults: &mut Diagnostics,
) -> Option<Piece> {
    let (name, format) = match text.value.split_once(':') {
        None => (text.value.trim(), Format::Auto),
        Some((name, format)) => match FORMATS.iter().find(|(word, _)| *word == format.trim()) {
            Some((_, format)) => (name.trim(), *format),
            None => {
                let message = format!("`{}` is no format", format.trim());
                faults.push(
                    text.fault("R018", message, "here")
                        .help("the formats are amount, percent, date, count, text"),
                );
                return None;
            }
        },
    };
    if scope.features.iter().any(|f| f == name) {
        return Some(Piece::Value { name: name.into(), sql: name.into(), format });
    }
    if scope.schema.index_of(name).is_ok() {
        columns.insert(name.into());
        return Some(Piece::Value { name: name.into(), sql: name.into(), format });
    }
    if let Some(param) = scope.params.get(name) {
        used.insert(name.into());
        columns.extend(param.columns.iter().cloned());
        return Some(Piece::Value { name: name.into(), sql: param.literal.to_string(), format });
    }
    let message = format!("`{name}` is no feature, column or parameter");
    let fault = text.fault("R011", message, "unknown name");
    let schema = scope.schema.clone();
    let known =
        scope.params.keys().map(String::as_str).chain(schema.fields().iter().map(|f| f.name().as_str()));
    faults.push(match nearest(name, known) {
        Some(near) => fault.help(format!("did you mean `{{{near}}}`?")),
        None => fault.help("a hole holds one name, such as {inflow:amount}"),
    });
    None
}
