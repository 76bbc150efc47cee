//! Keyed SQL: any SELECT, answered at ticks of event time over the rows of the keys that were touched since the last one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Query, Spanned as _,
    Statement, Value, VisitMut as _, VisitorMut, WindowType,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Location, Span};
use manumit_model::{Diagnostics, nearest};
use manumit_sql::{Planned, Sql, SqlError};
use toml::de::DeValue;

use crate::document::{Fields, File, Text, items};
use crate::expression::{Param, Scope, plain, replace, words};
use crate::features::{add, duration};
use crate::indicator::{Parts, schema_of};
use crate::ir::{Feature, FeatureKind, Keyed, Table};
use crate::keyable::{self, Refusal, TableKey};
use crate::query::place_of;
use crate::segments;

/// Longest time that a query may look back: as windows.
const MAX_LOOKBACK_MICROS: i64 = 400 * 86_400_000_000;

/// Shortest time between two ticks: at each one the query is run.
const MIN_EVERY_MICROS: i64 = 60_000_000;

/// What `lookback`, `every`, `hits_of` and the rest say.
pub(crate) struct Front {
    lookback: Option<Text>,
    every: Option<Text>,
    hits_of: Vec<Text>,
    when: Option<Text>,
}

/// The front matter of keyed SQL, when there is any of it.
pub(crate) fn front(fields: &mut Fields<'_>, faults: &mut Diagnostics) -> Option<Front> {
    let front = Front {
        lookback: fields.text("lookback", faults),
        every: fields.text("every", faults),
        hits_of: fields.texts("hits_of", None, faults),
        when: None,
    };
    (front.lookback.is_some() || front.every.is_some() || !front.hits_of.is_empty()).then_some(front)
}

/// The tables that a query may read, by name: rows of the subject's keys first.
pub fn tables(over: Table) -> Vec<(&'static str, SchemaRef)> {
    let mut all = vec![(over.name(), schema_of(over)), ("hits", hits_schema())];
    all.extend(manumit_sql::reference::tables());
    all
}

/// Columns of the table `hits`.
pub fn hits_schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    Arc::new(Schema::new(vec![
        text("indicator"),
        text("subject"),
        Field::new("event_time", manumit_model::schema::instant_type(), true),
        text("tx_id"),
    ]))
}

/// Plans a bound query over its tables.
///
/// # Errors
/// [`SqlError`] when it does not plan, which [`read`] has refused.
pub fn plan(sql: &Sql, over: Table, query: &str) -> Result<Planned, SqlError> {
    sql.plan(query, &tables(over))
}

/// Reads `query.sql` whose answer is asked for at ticks.
#[expect(clippy::too_many_arguments, reason = "everything a query is read with, each of another type")]
pub(crate) fn read(
    file: &File,
    mut front: Front,
    key: &str,
    fields: &mut Fields<'_>,
    scope: &mut Scope<'_>,
    columns: &mut BTreeSet<String>,
    used: &mut BTreeSet<String>,
    faults: &mut Diagnostics,
) -> Option<Parts> {
    let before = faults.0.len();
    front.when = fields.text("when", faults);
    let lookback_micros = length(front.lookback.as_ref(), "lookback", "30 days", fields, faults);
    let every_micros = length(front.every.as_ref(), "every", "1 day", fields, faults);
    if let (Some(lookback), Some(every), Some(text)) = (lookback_micros, every_micros, &front.lookback) {
        if lookback > MAX_LOOKBACK_MICROS {
            let fault = text.fault("R025", "a query looks back 400 days at most", "here");
            faults.push(fault.help("every row of that time is kept; longer histories are for a backtest"));
        } else if lookback < every {
            let fault = text.fault("R025", "`lookback` is shorter than `every`", "here");
            faults.push(
                fault.help("rows between two ticks would never be looked at: make it as long at least"),
            );
        }
    }
    if let (Some(every), Some(text)) = (every_micros, &front.every)
        && every < MIN_EVERY_MICROS
    {
        let fault = text.fault("R025", "`every` is shorter than a minute", "here");
        faults.push(fault.help("the query runs once at each tick; windows (OVER …) answer at every row"));
    }
    let text = Text::whole(file);
    let query = bound(&text, file, scope.params, used, faults)?;
    let planned = match plan(scope.sql, scope.table, &query) {
        Ok(planned) => planned,
        Err(error) => {
            faults.push(not_planned(&text, scope.table, &error));
            return None;
        }
    };
    let (table, hits) = (scope.table.name(), "hits");
    let keys = [TableKey { table, column: key }, TableKey { table: hits, column: "subject" }];
    let found = match keyable::check(&planned.written, &planned.optimized, &keys) {
        Ok(found) => found,
        Err(Refusal { message, help, near }) => {
            let at = file.text.to_lowercase().find(near).map_or(0..0, |at| at..at + near.len());
            let fault = file.fault("R026", format!("this cannot be answered key by key: {message}"));
            faults.push(fault.at(at, "because of this").help(help));
            return None;
        }
    };
    let read = columns_read(&planned.optimized, table);
    let reads_hits = columns_read(&planned.optimized, hits).is_some();
    match (reads_hits, front.hits_of.is_empty()) {
        (true, true) => {
            let fault = fields.file.fault("R025", "the query reads `hits`, but of which indicators?");
            faults.push(fault.help("add hits_of = [\"many-senders\"] with the ids of the indicators"));
        }
        (false, false) => {
            let fault = front.hits_of[0].fault("R025", "the query does not read `hits`", "not needed");
            faults.push(fault.help("delete `hits_of`"));
        }
        _ => {}
    }
    columns.extend(read.unwrap_or_default());
    let labels = labels(fields, faults);
    let features = features(&planned, &found, key, &text, &labels, scope, faults);
    for (name, place) in labels.iter().filter_map(|(name, label)| {
        (!features.iter().any(|f| f.name == *name)).then_some((name, &label.place))
    }) {
        let message = format!("the query gives no column `{name}`");
        let fault = place.fault("R011", message, "unknown column");
        let known: Vec<&str> = features.iter().map(|f| f.name.as_str()).collect();
        faults.push(match nearest(name, known.iter().copied()) {
            Some(near) => fault.help(format!("did you mean `{near}`?")),
            None => fault.help(format!("it gives {}", known.join(", "))),
        });
    }
    let condition = front.when.unwrap_or_else(|| Text::whole_of(fields.file, "true"));
    let condition = scope.condition(&condition, faults)?;
    used.extend(condition.params.iter().cloned());
    (faults.0.len() == before).then_some(())?;
    let keyed = Keyed {
        query,
        plan: planned.optimized.display_indent().to_string(),
        lookback_micros: lookback_micros?,
        every_micros: every_micros?,
        hits_of: front.hits_of.into_iter().map(|text| text.value).collect(),
    };
    Some(Parts { row_filter: None, sequence: None, keyed: Some(keyed), features, condition })
}

fn length(
    text: Option<&Text>,
    name: &'static str,
    example: &str,
    fields: &mut Fields<'_>,
    faults: &mut Diagnostics,
) -> Option<i64> {
    match text {
        Some(text) => duration(text, faults),
        None => {
            fields.needed(name, &format!("\"{example}\""), faults);
            None
        }
    }
}

/// The query with its parameters in place, as one line of canonical SQL.
fn bound(
    text: &Text,
    file: &File,
    params: &BTreeMap<String, Param>,
    used: &mut BTreeSet<String>,
    faults: &mut Diagnostics,
) -> Option<String> {
    let mut statements = match Parser::parse_sql(&GenericDialect {}, &text.value) {
        Ok(statements) => statements,
        Err(error) => {
            let words = error.to_string().replace("sql parser error: ", "");
            let fault = place_of(text, &words);
            faults.push(fault.unwrap_or_else(|| file.fault("R010", format!("this is not SQL: {words}"))));
            return None;
        }
    };
    let [Statement::Query(query)] = statements.as_mut_slice() else {
        let fault = file.fault("R020", "query.sql holds one SELECT and nothing else");
        faults.push(fault.help("delete what is not part of it"));
        return None;
    };
    let before = faults.0.len();
    let _ = query.visit(&mut Binder { text, params, used, faults });
    (faults.0.len() == before).then(|| query.to_string())
}

struct Binder<'b> {
    text: &'b Text,
    params: &'b BTreeMap<String, Param>,
    used: &'b mut BTreeSet<String>,
    faults: &'b mut Diagnostics,
}

impl VisitorMut for Binder<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if query.limit_clause.is_some() || query.fetch.is_some() {
            let fault = self.text.fault_at(
                query.span(),
                "R026",
                "this cannot be answered key by key: LIMIT takes the first rows of all keys together",
                "this query has a LIMIT",
            );
            self.faults.push(fault.help(
                "number the rows of each key: QUALIFY row_number() OVER (PARTITION BY account ORDER BY event_time, tx_id) <= 3",
            ));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Value(value) => {
                let Value::Placeholder(name) = &value.value else { return ControlFlow::Continue(()) };
                let (name, span) = (name.trim_start_matches('$').to_string(), value.span);
                if let Some(param) = self.params.get(&name) {
                    if !param.segments.is_empty() {
                        self.faults.push(segments::refuse(self.text, &name, span));
                    }
                    *expr = param.literal.clone();
                    self.used.insert(name);
                } else {
                    let message = format!("there is no parameter `${name}`");
                    let fault = self.text.fault_at(span, "R011", message, "unknown parameter");
                    self.faults.push(match nearest(&name, self.params.keys().map(String::as_str)) {
                        Some(near) => fault.help(format!("did you mean `${near}`?")),
                        None => {
                            fault.help(format!("add a block [params.{name}] with value, unit and source"))
                        }
                    });
                }
            }
            // As in rules: a division by zero is NULL, and two counts divide exactly.
            Expr::BinaryOp { left, op: BinaryOperator::Divide, right } => {
                replace(left, |e| format!("(1.000000 * {e})"));
                if !matches!(right.as_ref(), Expr::Value(_)) {
                    replace(right, |e| format!("nullif({e}, 0)"));
                }
            }
            Expr::Function(function) => {
                let name = function.name.to_string().to_lowercase();
                if ["in_list", "mentions", "term_found"].contains(&name.as_str())
                    && let FunctionArguments::List(list) = &mut function.args
                    && list.args.len() == 2
                {
                    let time = Expr::Identifier(Ident::new("event_time"));
                    list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(time)));
                }
                self.ordered(&name, function);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

impl Binder<'_> {
    /// What depends on the order of rows must order rows of the very same time, too: else each run may answer otherwise.
    fn ordered(&mut self, name: &str, function: &datafusion::sql::sqlparser::ast::Function) {
        const BY_ORDER: [&str; 7] =
            ["row_number", "lag", "lead", "first_value", "last_value", "nth_value", "ntile"];
        let Some(WindowType::WindowSpec(spec)) = &function.over else { return };
        let mentions = |wanted: &str| {
            spec.order_by.iter().any(|order| {
                let text = order.expr.to_string().to_lowercase();
                text.rsplit('.').next() == Some(wanted)
            })
        };
        if BY_ORDER.contains(&name) && mentions("event_time") && !mentions("tx_id") {
            let message =
                format!("`{name}` depends on the order of rows, and rows of the same time have none");
            let fault = self.text.fault_at(function.name.span(), "R027", message, "here");
            self.faults.push(fault.help("write ORDER BY event_time, tx_id"));
        }
    }
}

/// DataFusion's refusal, with the place when the name that it complains about can be found.
fn not_planned(text: &Text, over: Table, error: &SqlError) -> manumit_model::Diagnostic {
    let words = plain(&error.to_string());
    let lower = words.to_lowercase();
    let name = |after: &str, until: &[char]| {
        let rest = &words[lower.find(after)? + after.len()..];
        let name = rest.trim_start_matches(['\'', '"', '`', ' ']).split(until).next()?;
        Some(name.rsplit('.').next().unwrap_or(name).to_string())
    };
    let (unknown, help) =
        if let Some(table) = name("table ", &['\'', '"', ' ']).filter(|_| lower.contains("not found")) {
            let known: Vec<&str> = tables(over).into_iter().map(|(name, _)| name).collect();
            let help = match nearest(&table, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if table == "transactions" || table == "entries" => format!(
                    "rows are found by their key in `{}`: set over = \"{table}\", or read `{}`",
                    over.name(),
                    over.name()
                ),
                None => format!("the tables are {}", known.join(", ")),
            };
            (Some(table), help)
        } else if let Some(column) = name("no field named ", &['\'', '"', ' ', '.', ',']) {
            let all: Vec<String> = tables(over)
                .into_iter()
                .flat_map(|(_, schema)| schema.fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>())
                .collect();
            let help = match nearest(&column, all.iter().map(String::as_str)) {
                Some(near) if near != column => format!("did you mean `{near}`?"),
                _ => format!("see `manumit schema {} --markdown` for the columns", over.name()),
            };
            (Some(column), help)
        } else {
            (None, "compare like with like, and GROUP BY what is neither counted nor summed".to_string())
        };
    let words = words.split(". Valid fields are").next().unwrap_or(&words).to_string();
    let at = unknown.and_then(|name| place_of_word(&text.value, &name));
    let fault = match at {
        Some(span) => text.fault_at(span, "R012", "this query does not fit together", words),
        None => text.file.fault("R012", format!("this query does not fit together: {words}")),
    };
    fault.help(help)
}

/// Where a word stands first.
fn place_of_word(text: &str, word: &str) -> Option<Span> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    for (number, line) in text.lines().enumerate() {
        let lower = line.to_lowercase();
        for (at, _) in lower.match_indices(&word.to_lowercase()) {
            let whole = !lower[..at].ends_with(part) && !lower[at + word.len()..].starts_with(part);
            if whole {
                let column = lower[..at].chars().count() as u64 + 1;
                let start = Location { line: number as u64 + 1, column };
                return Some(Span {
                    start,
                    end: Location { column: column + word.chars().count() as u64, ..start },
                });
            }
        }
    }
    None
}

/// Columns that the plan reads of a table; `None` when it does not read it.
fn columns_read(plan: &LogicalPlan, table: &str) -> Option<BTreeSet<String>> {
    let mut found: Option<BTreeSet<String>> = None;
    let _ = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && scan.table_name.table() == table
        {
            let names = found.get_or_insert_default();
            names.extend(scan.projected_schema.fields().iter().map(|f| f.name().clone()));
            for filter in &scan.filters {
                names.extend(filter.column_refs().into_iter().map(|c| c.name.clone()));
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found
}

struct Label {
    place: Text,
    unit: Option<String>,
    label: Option<String>,
}

/// `[features]` of keyed SQL: units and labels of the query's columns.
fn labels(fields: &mut Fields<'_>, faults: &mut Diagnostics) -> BTreeMap<String, Label> {
    let mut all = BTreeMap::new();
    let Some((table, _)) = fields.table("features", faults) else { return all };
    for (name, value) in items(table, fields.file) {
        let DeValue::Table(table) = value.get_ref() else {
            let message = format!("`{}` stands in query.sql already", name.value);
            let fault = fields.file.fault("R019", message).at(value.span(), "here");
            faults.push(
                fault.help(format!("only its words: {} = {{ unit = \"days\", label = \"…\" }}", name.value)),
            );
            continue;
        };
        let mut block = Fields::new(fields.file, table, value.span(), "a column of the query");
        let unit = block.text("unit", faults).map(|t| t.value);
        let label = block.text("label", faults).map(|t| t.value);
        block.finish(faults);
        all.insert(name.value.clone(), Label { place: name, unit, label });
    }
    all
}

/// The columns of the answer, all but the key.
fn features(
    planned: &Planned,
    found: &BTreeSet<usize>,
    key: &str,
    text: &Text,
    labels: &BTreeMap<String, Label>,
    scope: &mut Scope<'_>,
    faults: &mut Diagnostics,
) -> Vec<Feature> {
    let schema = planned.schema();
    if !schema.fields().iter().enumerate().any(|(at, field)| field.name() == key && found.contains(&at)) {
        let fault =
            text.file.fault("R026", format!("the answer gives the key under another name than `{key}`"));
        faults.push(fault.help(format!("SELECT … AS {key}")));
    }
    let mut features: Vec<Feature> = Vec::new();
    for field in schema.fields().iter().filter(|field| field.name() != key) {
        let name = field.name().to_lowercase();
        let place = place_of_word(&text.value, field.name());
        let mut refuse = |message: String, help: String| {
            let fault = match place {
                Some(span) => text.fault_at(span, "R016", message, "here"),
                None => text.file.fault("R016", message),
            };
            faults.push(fault.help(help));
        };
        if scope.schema.index_of(&name).is_ok() {
            let what = if scope.features.contains(&name) { "another column" } else { scope.table.name() };
            refuse(
                format!("`{name}` is a column of `{what}` already"),
                format!("give it a name of its own: … AS found_{name}"),
            );
            continue;
        }
        if !crate::features::usable(&name) || name != *field.name() {
            refuse(
                format!("`{}` cannot name a column of the answer", field.name()),
                "write … AS name, in small letters, digits and _".into(),
            );
            continue;
        }
        if !supported(field.data_type()) {
            refuse(
                format!("`{name}` is {}, which no alert can show", words(field.data_type())),
                "give numbers, texts, dates, times or true/false".into(),
            );
            continue;
        }
        let label = labels.get(&name);
        features.push(add(
            scope,
            name,
            field.data_type().clone(),
            FeatureKind::Answer,
            label.and_then(|l| l.unit.clone()),
            label.and_then(|l| l.label.clone()),
        ));
    }
    features
}

fn supported(data_type: &DataType) -> bool {
    data_type.is_numeric()
        || matches!(
            data_type,
            DataType::Utf8 | DataType::Boolean | DataType::Date32 | DataType::Timestamp(_, _)
        )
}
