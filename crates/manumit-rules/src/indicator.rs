//! Indicator files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Value};
use manumit_model::{Diagnostics, nearest, schema};
use manumit_sql::Sql;
use toml::de::DeValue;

use crate::document::{Fields, File, Text, items, parse, text_of};
use crate::expression::{Canonical, Param, Scope, comparison};
use crate::features::{self, Written};
use crate::ir::{
    Comparison, Conjunct, Feature, FeatureKind, Indicator, Keyed, Metadata, Sequence, StepValue, Table,
    Template,
};
use crate::{keyed, metadata, print, query, retired, segments, sequence, template};

/// Subject kinds and the column that holds their key.
pub(crate) const SUBJECTS: [(&str, &str); 14] = [
    ("account", "account"),
    ("customer", "customer"),
    ("counterparty", "counterparty"),
    ("counterparty_customer", "counterparty_customer"),
    ("group", "customer_group"),
    ("counterparty_group", "counterparty_group"),
    ("device", "device_id"),
    ("merchant", "merchant_id"),
    ("terminal", "terminal_id"),
    ("card", "card_id"),
    ("branch", "branch_id"),
    ("ip", "ip"),
    ("city", "city"),
    ("session", "session_id"),
];

/// The subject kind of a column: the account on the other side is an account, too.
fn kind_of(column: &str) -> String {
    match column {
        "counterparty" | "account" => "account".into(),
        "counterparty_customer" | "customer" => "customer".into(),
        "counterparty_group" | "customer_group" => "group".into(),
        other => SUBJECTS.iter().find(|(_, c)| *c == other).map_or(other, |(kind, _)| kind).to_string(),
    }
}

/// The table with every column nullable, as rules see it.
pub(crate) fn schema_of(table: Table) -> SchemaRef {
    let full = match table {
        Table::Transactions => schema::transactions(),
        Table::Entries => schema::entries(),
    };
    let fields: Vec<_> =
        full.fields().iter().map(|f| Arc::new(f.as_ref().clone().with_nullable(true))).collect();
    Arc::new(Schema::new(fields))
}

/// Whose parts are read from where: from TOML fields, or from a query.
pub(crate) struct Parts {
    pub row_filter: Option<Canonical>,
    pub sequence: Option<Sequence>,
    pub keyed: Option<Keyed>,
    pub features: Vec<Feature>,
    pub condition: Canonical,
}

/// What a file holds.
pub(crate) enum Read {
    Runs(Box<Indicator>),
    Retired(Box<retired::Read>),
}

/// Reads an indicator file; `query` is the `query.sql` beside it.
pub(crate) fn read(
    file: &File,
    expected_id: &str,
    query: Option<&File>,
    sql: &Sql,
    faults: &mut Diagnostics,
) -> Option<Read> {
    let document = parse(file, faults)?;
    let mut fields = Fields::new(file, document.get_ref(), document.span(), "an indicator");
    let meta = metadata::read(&mut fields, expected_id, faults);
    if let Some(retired) = retired::read(&mut fields, "indicator", &meta, faults) {
        return Some(Read::Retired(Box::new(retired)));
    }
    let indicator = body(&mut fields, meta, query, sql, faults);
    fields.finish(faults);
    indicator.map(|indicator| Read::Runs(Box::new(indicator)))
}

/// Reads all but the metadata: used by indicators, and by typologies whose gate is a query.
pub(crate) fn body(
    fields: &mut Fields<'_>,
    meta: Metadata,
    query_file: Option<&File>,
    sql: &Sql,
    faults: &mut Diagnostics,
) -> Option<Indicator> {
    let params = metadata::params(fields, faults);
    let mut bound: BTreeMap<String, Param> =
        params.iter().map(|(name, (_, param))| (name.clone(), param.clone())).collect();
    let over = match fields.word("over", &["entries", "transactions"], faults).as_deref() {
        Some("transactions") => Table::Transactions,
        _ => Table::Entries,
    };
    let subject = fields.needed("subject", "\"account\"", faults);
    let schema = schema_of(over);
    segments::bind(&mut bound, sql, over, &schema, faults);
    let key = match fields.text("key", faults) {
        Some(text) => column(&text, &schema, over, faults).filter(|key| {
            let fits = subject.as_ref().is_none_or(|subject| kind_of(key) == subject.value);
            if !fits {
                let message = format!("`{key}` holds a {}", kind_of(key));
                let fault = text.fault("R007", message, "not the subject");
                faults.push(fault.help(format!("set subject = \"{}\", or another key", kind_of(key))));
            }
            fits
        }),
        None => subject.as_ref().and_then(|subject| key_column(subject, over, &schema, faults)),
    };
    let front = keyed::front(fields, faults);
    let about = fields.text("about", faults);
    let about = about.map(|text| column(&text, &schema, over, faults));
    let needs = fields.texts("needs", None, faults);
    let needs = needs.iter().filter_map(|text| column(text, &schema, over, faults)).collect();
    let (features, steps) = (Vec::new(), Vec::new());
    let mut scope = Scope { sql, table: over, schema: schema.clone(), features, steps, params: &bound };
    let mut columns = BTreeSet::new();
    let mut used = BTreeSet::new();
    let parts = match (query_file, front) {
        (Some(query), Some(front)) => {
            for name in ["where", "about"] {
                if let Some(value) = fields.value(name) {
                    let fault =
                        fields.file.fault("R019", format!("`{name}` is not for queries answered at ticks"));
                    faults.push(fault.at(value.span(), "delete this").help("say it in query.sql"));
                }
            }
            key.as_deref().and_then(|key| {
                keyed::read(query, front, key, fields, &mut scope, &mut columns, &mut used, faults)
            })
        }
        (None, Some(_)) => {
            let fault = fields.file.fault("R025", "`lookback`, `every` and `hits_of` belong to a query");
            faults.push(fault.help(
                "write query.sql beside this file, or delete them: windows have their length behind OVER",
            ));
            None
        }
        (Some(query), None) => {
            let parts = key
                .as_deref()
                .and_then(|key| query::read(query, key, &mut scope, &mut columns, &mut used, faults));
            for name in ["where", "when", "features", "step"] {
                if let Some(value) = fields.value(name) {
                    let fault = fields.file.fault("R019", format!("`{name}` stands in query.sql already"));
                    faults.push(fault.at(value.span(), "delete this"));
                }
            }
            parts
        }
        (None, None) => written(fields, &mut scope, &mut columns, &mut used, faults),
    };
    let explain = match fields.needed("explain", "\"{n} payments within 30 days\"", faults) {
        Some(text) if parts.is_some() => template::read(&text, &scope, &mut columns, &mut used, faults),
        _ => Template::default(),
    };
    if parts.is_some() {
        for (name, (place, _)) in params.iter().filter(|(name, _)| !used.contains(*name)) {
            let fault = place.fault("R017", format!("the parameter `{name}` is used nowhere"), "unused");
            faults.push(fault.help(format!("use it as ${name} in a condition, or delete it")));
        }
    }
    let (parts, key, subject) = (parts?, key?, subject?);
    let about = match about {
        Some(column) => column?,
        None => key.clone(),
    };
    let mut indicator = assemble(meta, subject.value, key, over, about, parts, explain, columns, &bound);
    indicator.needs = needs;
    Some(indicator)
}

fn key_column(subject: &Text, over: Table, schema: &SchemaRef, faults: &mut Diagnostics) -> Option<String> {
    let kinds = SUBJECTS.iter().map(|(kind, _)| *kind);
    match SUBJECTS.iter().find(|(kind, _)| *kind == subject.value) {
        Some((_, column)) if schema.index_of(column).is_ok() => Some((*column).to_string()),
        Some((kind, _)) => {
            let message = format!("`{}` has no `{kind}`: a payment has two sides", over.name());
            faults.push(subject.fault("R007", message, "here").help("use over = \"entries\""));
            None
        }
        None => {
            let fault =
                subject.fault("R007", format!("`{}` is no subject", subject.value), "unknown subject");
            let all: Vec<&str> = kinds.collect();
            faults.push(match nearest(&subject.value, all.iter().copied()) {
                Some(near) => fault.help(format!("did you mean `{near}`?")),
                None => fault.help(format!("the subjects are {}", all.join(", "))),
            });
            None
        }
    }
}

/// A text that must name a column of the table.
pub(crate) fn column(
    text: &Text,
    schema: &SchemaRef,
    over: Table,
    faults: &mut Diagnostics,
) -> Option<String> {
    if schema.index_of(&text.value).is_ok() {
        return Some(text.value.clone());
    }
    let message = format!("`{}` is no column of `{}`", text.value, over.name());
    let fault = text.fault("R011", message, "unknown column");
    let known = schema.fields().iter().map(|f| f.name().as_str());
    faults.push(match nearest(&text.value, known) {
        Some(near) => fault.help(format!("did you mean `{near}`?")),
        None => fault.help(format!("see `manumit schema {} --markdown`", over.name())),
    });
    None
}

fn written(
    fields: &mut Fields<'_>,
    scope: &mut Scope<'_>,
    columns: &mut BTreeSet<String>,
    used: &mut BTreeSet<String>,
    faults: &mut Diagnostics,
) -> Option<Parts> {
    let before = faults.0.len();
    let row_filter = fields.text("where", faults).and_then(|text| scope.condition(&text, faults));
    let sequence = sequence::read(fields, scope, columns, used, faults);
    // With faults in its steps, what features and `when` say about them cannot be judged.
    let Ok(mut sequence) = sequence else {
        let _ = (fields.value("features"), fields.value("when"));
        return None;
    };
    let steps = sequence.as_ref().map_or(&[][..], |sequence| &sequence.steps);
    let mut list = Vec::new();
    if let Some((table, _)) = fields.table("features", faults) {
        for (name, value) in items(table, fields.file) {
            let Some(written) = feature_text(fields.file, name, value, faults) else { continue };
            if let Some(feature) = sequence::feature(&written, steps, scope, columns, used, faults) {
                list.extend(feature);
                continue;
            }
            if let Some(feature) = features::read(&written, scope, columns, used, faults) {
                list.push(feature);
            } else {
                // Known all the same, so that one fault is told once and not wherever the name is used.
                let mut known: Vec<_> = scope.schema.fields().iter().cloned().collect();
                let name = written.name.value.clone();
                known.push(Arc::new(arrow::datatypes::Field::new(
                    &name,
                    arrow::datatypes::DataType::Null,
                    true,
                )));
                scope.schema = Arc::new(Schema::new(known));
                scope.features.push(name);
            }
        }
    }
    if let Some(sequence) = &mut sequence {
        for feature in &list {
            if let FeatureKind::Step(StepValue { step, value: None }) = feature.kind
                && let Some(step) = sequence.steps.get_mut(step).filter(|step| step.is_anchor())
            {
                step.counted = true;
            }
        }
    }
    // A sequence says in its steps what it looks for.
    let condition = match (fields.text("when", faults), &sequence) {
        (Some(text), _) => Some(text),
        (None, Some(_)) => Some(Text::whole_of(fields.file, "true")),
        (None, None) => fields.needed("when", "\"direction = 'in' AND senders >= $min_senders\"", faults),
    };
    let condition = condition.and_then(|text| scope.condition(&text, faults));
    for canonical in condition.iter().chain(&row_filter) {
        used.extend(canonical.params.iter().cloned());
    }
    (faults.0.len() == before).then_some(())?;
    Some(Parts { row_filter, sequence, keyed: None, features: list, condition: condition? })
}

fn feature_text(
    file: &File,
    name: Text,
    value: &toml::Spanned<DeValue<'_>>,
    faults: &mut Diagnostics,
) -> Option<Written> {
    if let Some(sql) = text_of(file, value) {
        return Some(Written { name, sql, unit: None, label: None });
    }
    let DeValue::Table(table) = value.get_ref() else {
        let fault = file.fault("R003", format!("the feature `{}` must be a text", name.value));
        faults.push(fault.at(value.span(), "here").help("write for example \"count(*) OVER 30 days\""));
        return None;
    };
    let mut block = Fields::new(file, table, value.span(), "a feature");
    let sql = block.needed("sql", "\"count(*) OVER 30 days\"", faults);
    let unit = block.text("unit", faults).map(|t| t.value);
    let label = block.text("label", faults).map(|t| t.value);
    block.finish(faults);
    Some(Written { name, sql: sql?, unit, label })
}

#[expect(clippy::too_many_arguments, reason = "everything an indicator is made of, each of another type")]
fn assemble(
    meta: Metadata,
    subject: String,
    key: String,
    over: Table,
    about: String,
    parts: Parts,
    explain: Template,
    mut columns: BTreeSet<String>,
    params: &BTreeMap<String, Param>,
) -> Indicator {
    let Parts { row_filter, sequence, keyed, features, condition } = parts;
    columns.extend(condition.columns.iter().cloned());
    columns.extend(row_filter.iter().flat_map(|f| f.columns.iter().cloned()));
    let names: BTreeSet<&str> = features.iter().map(|f| f.name.as_str()).collect();
    let mut sides = Vec::new();
    split(&condition.expr, &condition.original, &mut sides);
    let conjuncts: Vec<Conjunct> = sides
        .into_iter()
        .map(|(expr, original)| Conjunct {
            text: original.to_string(),
            sql: expr.to_string(),
            uses_feature: uses(expr, &names),
            comparison: compared(expr, original, &features, params),
        })
        .collect();
    let row: Vec<String> =
        conjuncts.iter().filter(|c| !c.uses_feature).map(|c| format!("({})", c.sql)).collect();
    let mut indicator = Indicator {
        about_subject: kind_of(&about),
        subject,
        key,
        over,
        about,
        row_filter: row_filter.map(|f| f.sql),
        sequence,
        keyed,
        features,
        condition: condition.sql,
        row_condition: (!row.is_empty()).then(|| row.join(" AND ")),
        conjuncts,
        explain,
        needs: Vec::new(),
        unmet: Vec::new(),
        columns: columns.into_iter().collect(),
        sql: String::new(),
        meta,
    };
    indicator.sql = print::query(&indicator);
    indicator
}

/// Top-level AND parts, canonical and original side by side: rewriting keeps the shape of AND and parentheses.
fn split<'e>(expr: &'e Expr, original: &'e Expr, out: &mut Vec<(&'e Expr, &'e Expr)>) {
    match (expr, original) {
        (
            Expr::BinaryOp { left, op: BinaryOperator::And, right },
            Expr::BinaryOp { left: original_left, right: original_right, .. },
        ) => {
            split(left, original_left, out);
            split(right, original_right, out);
        }
        (Expr::Nested(inner), Expr::Nested(original)) => match inner.as_ref() {
            Expr::BinaryOp { op: BinaryOperator::And, .. } => split(inner, original, out),
            _ => out.push((expr, original.as_ref())),
        },
        _ => out.push((expr, original)),
    }
}

/// Names of an expression that are in `names`.
fn uses(expr: &Expr, names: &BTreeSet<&str>) -> bool {
    use std::ops::ControlFlow;
    let found = datafusion::sql::sqlparser::ast::visit_expressions(expr, |e| match e {
        Expr::Identifier(ident) if names.contains(ident.value.as_str()) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

fn any_identifier(expr: &Expr) -> bool {
    use std::ops::ControlFlow;
    let found = datafusion::sql::sqlparser::ast::visit_expressions(expr, |e| match e {
        Expr::Identifier(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

fn compared(
    expr: &Expr,
    original: &Expr,
    features: &[Feature],
    params: &BTreeMap<String, Param>,
) -> Option<Comparison> {
    let unnest = |e: &'_ Expr| -> Expr {
        match e {
            Expr::Nested(inner) => inner.as_ref().clone(),
            other => other.clone(),
        }
    };
    let (expr, original) = (unnest(expr), unnest(original));
    let (Expr::BinaryOp { left, op, right }, Expr::BinaryOp { left: left_text, right: right_text, .. }) =
        (&expr, &original)
    else {
        return None;
    };
    if !comparison(op) {
        return None;
    }
    let flipped = !any_identifier(left) && any_identifier(right);
    let operator = match (op, flipped) {
        (BinaryOperator::Gt, true) => "<".to_string(),
        (BinaryOperator::Lt, true) => ">".to_string(),
        (BinaryOperator::GtEq, true) => "<=".to_string(),
        (BinaryOperator::LtEq, true) => ">=".to_string(),
        _ => op.to_string(),
    };
    let (measured, threshold, measured_text, threshold_text) =
        if flipped { (right, left, right_text, left_text) } else { (left, right, left_text, right_text) };
    let placeholder = |e: &Expr| match e {
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => params.get(name.trim_start_matches('$')),
            _ => None,
        },
        _ => None,
    };
    let param = placeholder(threshold_text);
    let feature = features.iter().find(|f| f.name == measured_text.to_string());
    let mut sources: Vec<String> = Vec::new();
    let _: std::ops::ControlFlow<()> = datafusion::sql::sqlparser::ast::visit_expressions(&original, |e| {
        if let Some(param) = placeholder(e)
            && !sources.contains(&param.source)
        {
            sources.push(param.source.clone());
        }
        std::ops::ControlFlow::Continue(())
    });
    let label = feature.and_then(|f| f.label.clone());
    Some(Comparison {
        name: label.unwrap_or_else(|| measured_text.to_string()),
        measured: measured.to_string(),
        operator,
        threshold: threshold.to_string(),
        words: param.filter(|param| !param.segments.is_empty()).map(|param| param.words.clone()),
        unit: feature.and_then(|f| f.unit.clone()).or_else(|| param.map(|p| p.unit.clone())),
        source: (!sources.is_empty()).then(|| sources.join("; ")),
    })
}
