//! Thresholds that differ by segment, such as country or kind of customer: `$name` stands for the value of the first segment that holds
//! at the row, and for the parameter's own value where none does.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use datafusion::sql::sqlparser::ast::{Expr, Value};
use manumit_model::Diagnostics;
use manumit_sql::Sql;

use crate::document::{Fields, Text};
use crate::expression::{Param, Scope, replace};
use crate::ir::Table;
use crate::metadata::value_of;

/// One segment of one parameter.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    /// Which rows are of it: a condition over the row and the reference tables.
    when: Text,
    /// The parameter's value there.
    literal: Expr,
    source: String,
}

/// Reads the `[[params.NAME.segment]]` blocks of a parameter whose own value is `base`.
pub(crate) fn read(block: &mut Fields<'_>, base: Option<&Expr>, faults: &mut Diagnostics) -> Vec<Segment> {
    let file = block.file;
    let mut segments = Vec::new();
    for (table, span) in block.tables("segment", faults) {
        let mut block = Fields::new(file, table, span, "a segment");
        let when = block.needed("when", "\"customer.segment = 'business'\"", faults);
        let source = block.needed("source", "\"judgement: firms have more payers\"", faults);
        let literal = value_of(&mut block, "a segment's `value`", faults);
        if let (Some(base), Some(literal)) = (base, &literal)
            && kind(base) != kind(literal)
        {
            let place = block.value("value").map_or(0..0, |value| value.span());
            let fault =
                file.fault("R017", "a segment's value must be of the same kind as the parameter's own");
            faults.push(fault.at(place, format!("the parameter is {}", kind(base))));
        }
        block.finish(faults);
        if let (Some(when), Some(literal), Some(source)) = (when, literal, source) {
            segments.push(Segment { when, literal, source: source.value });
        }
    }
    segments
}

fn kind(literal: &Expr) -> &'static str {
    match literal {
        Expr::Value(value) => match value.value {
            Value::Number(..) => "a number",
            Value::Boolean(_) => "true/false",
            _ => "a text",
        },
        _ => "a date",
    }
}

/// Puts a CASE over the row in place of the value of each parameter that has segments.
pub(crate) fn bind(
    params: &mut BTreeMap<String, Param>,
    sql: &Sql,
    table: Table,
    schema: &SchemaRef,
    faults: &mut Diagnostics,
) {
    let none = BTreeMap::new();
    let scope =
        Scope { sql, table, schema: schema.clone(), features: Vec::new(), steps: Vec::new(), params: &none };
    for param in params.values_mut().filter(|param| !param.segments.is_empty()) {
        let mut arms = String::new();
        let (mut words, mut sources) = (String::new(), String::new());
        for Segment { when, literal, source } in &param.segments {
            if let Some(condition) = scope.condition(when, faults) {
                arms += &format!(" WHEN {} THEN {literal}", condition.sql);
                param.columns.extend(condition.columns);
            }
            let when = when.value.split_whitespace().collect::<Vec<_>>().join(" ");
            words += &format!(", {literal} where {when}");
            sources += &format!("; where {when}: {source}");
        }
        param.words += &words;
        param.source += &sources;
        if !arms.is_empty() {
            replace(&mut param.literal, |own| format!("CASE{arms} ELSE {own} END"));
        }
    }
}

/// A query answered at ticks has no row whose segment could be asked for.
pub(crate) fn refuse(
    text: &Text,
    name: &str,
    span: datafusion::sql::sqlparser::tokenizer::Span,
) -> manumit_model::Diagnostic {
    let message =
        format!("`${name}` differs by segment, and a query that is answered at ticks has no row to ask");
    let fault = text.fault_at(span, "R017", message, "here");
    fault.help("write a parameter for each segment, and CASE in query.sql")
}
