//! The SELECT of a feed: checked, and each of its columns compiled by itself.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident,
    Query, Select, SelectItem, SetExpr, Spanned as _, Statement, Subscript, TableFactor, Value, VisitMut,
    VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Span;
use manumit_model::{Diagnostics, money, nearest, schema};
use manumit_rules::document::Text;
use manumit_sql::{Compiled, Sql};

/// Name of the column that holds the items of an unnested list.
const ITEM: &str = "__item";

/// One canonical column of the SELECT.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub column: &'static schema::Column,
    /// As the author wrote it.
    pub text: String,
    pub value: Compiled,
    /// Dotted path, when it is a raw field as it is.
    pub path: Option<String>,
}

/// The SELECT, ready to run.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    pub filter: Option<Compiled>,
    pub outputs: Vec<Output>,
    /// The list whose items each make a row.
    pub unnest: Option<Compiled>,
    /// Columns that the expressions read: those of the record, then the item.
    pub schema: SchemaRef,
}

impl Selection {
    /// Fields of the record that the expressions read, in the order of `raw`, without those that `but` names.
    pub(crate) fn reads(&self, raw: &SchemaRef, but: impl Fn(&str) -> bool) -> Vec<String> {
        let all = || {
            let outputs = self.outputs.iter().map(|output| &output.value);
            outputs.chain(&self.filter).chain(&self.unnest).flat_map(|value| &value.columns)
        };
        let names = raw.fields().iter().map(|field| field.name());
        names.filter(|name| !but(name) && all().any(|read| read == *name)).cloned().collect()
    }

    /// Columns that a canonical column is made of; those of the list where it is made of its items.
    pub(crate) fn columns_of(&self, name: &str) -> Vec<String> {
        let output = self.outputs.iter().find(|output| output.column.name == name);
        let mut columns = output.map_or(Vec::new(), |output| output.value.columns.clone());
        if let Some(list) = self.unnest.as_ref().filter(|_| columns.iter().any(|column| column == ITEM)) {
            columns.extend(list.columns.iter().cloned());
        }
        columns
    }
}

/// Reads the SELECT against the raw schema.
pub(crate) fn read(text: &Text, raw: &SchemaRef, sql: &Sql, faults: &mut Diagnostics) -> Option<Selection> {
    let statements = match Parser::parse_sql(&GenericDialect {}, &text.value) {
        Ok(statements) => statements,
        Err(error) => {
            let words = error.to_string().replace("sql parser error: ", "");
            faults.push(text.fault("D010", "this is not a SQL query", words));
            return None;
        }
    };
    let [Statement::Query(query)] = statements.as_slice() else {
        faults.push(text.fault("D010", "a feed file holds one SELECT and nothing else", "here"));
        return None;
    };
    let select = plain_select(query, text, faults)?.clone();
    let mut list = Rename { text, raw, faults, unnest: None };
    let mut items: Vec<(Expr, Expr, Ident)> = Vec::new();
    for item in select.projection {
        let (expr, name) = match item {
            SelectItem::ExprWithAlias { expr, alias } => (expr, alias),
            SelectItem::UnnamedExpr(expr) => match last_name(&expr) {
                Some(name) => (expr, name),
                None => {
                    let fault = list.text.fault_at(expr.span(), "D012", "this has no column name", "unnamed");
                    list.faults.push(fault.help("write `… AS amount`, or the canonical column it gives"));
                    continue;
                }
            },
            other => {
                let fault = list.text.fault_at(
                    other.span(),
                    "D011",
                    "`*` does not say which column is which",
                    "here",
                );
                list.faults.push(fault.help("name each column: `booked AS event_time`"));
                continue;
            }
        };
        let mut renamed = expr.clone();
        let _ = renamed.visit(&mut list);
        items.push((renamed, expr, name));
    }
    let mut condition = select.selection;
    let condition_span = condition.as_ref().map(|c| c.span());
    if let Some(condition) = &mut condition {
        let _ = condition.visit(&mut list);
    }
    let unnest = list.unnest.take();
    if !faults.is_empty() {
        return None;
    }
    let (unnest, schema) = match unnest {
        None => (None, raw.clone()),
        Some((expr, span)) => {
            let list = compile(sql, raw, &expr, span, text, faults)?;
            let DataType::List(item) = &list.data_type else {
                faults.push(text.fault_at(span, "D012", "`unnest` needs a list", "this is none"));
                return None;
            };
            let mut fields: Vec<_> = raw.fields().iter().cloned().collect();
            fields.push(Arc::new(Field::new(ITEM, item.data_type().clone(), true)));
            (Some(list), Arc::new(Schema::new(fields)) as SchemaRef)
        }
    };
    let filter = match (condition, condition_span) {
        (Some(condition), Some(span)) => {
            let compiled = compile(sql, &schema, &condition, span, text, faults)?;
            if compiled.data_type != DataType::Boolean {
                faults.push(text.fault_at(
                    span,
                    "D012",
                    "WHERE needs a condition",
                    "this is not true or false",
                ));
            }
            Some(compiled)
        }
        _ => None,
    };
    let outputs = outputs(items, &schema, sql, text, faults);
    faults.is_empty().then_some(Selection { filter, outputs, unnest, schema })
}

fn compile(
    sql: &Sql,
    schema: &SchemaRef,
    expr: &Expr,
    span: Span,
    text: &Text,
    faults: &mut Diagnostics,
) -> Option<Compiled> {
    let mut exact = expr.clone();
    let _ = exact.visit(&mut ExactDivision { sql, schema });
    match sql.compile(schema, &exact.to_string()) {
        Ok(compiled) => Some(compiled),
        Err(error) => {
            let words = error.to_string();
            let words = words.lines().next().unwrap_or("").replace("Error during planning: ", "");
            faults.push(text.fault_at(span, "D012", "this expression does not fit together", words));
            None
        }
    }
}

fn outputs(
    items: Vec<(Expr, Expr, Ident)>,
    schema: &SchemaRef,
    sql: &Sql,
    text: &Text,
    faults: &mut Diagnostics,
) -> Vec<Output> {
    let mut by_name: BTreeMap<String, Output> = BTreeMap::new();
    for (expr, written, name) in items {
        let Some(column) = schema::TRANSACTIONS.iter().find(|c| c.name == name.value.to_lowercase()) else {
            let message = format!("`{}` is no canonical column", name.value);
            let fault = text.fault_at(name.span, "D013", message, "unknown column");
            let known = schema::TRANSACTIONS.iter().map(|c| c.name);
            faults.push(match nearest(&name.value, known) {
                Some(near) => fault.help(format!("did you mean `{near}`?")),
                None => fault.help("see `manumit schema transactions --markdown` for the columns"),
            });
            continue;
        };
        if ["feed", "source", "source_partition", "source_offset", "amount_base"].contains(&column.name) {
            let message = format!("`{}` is filled in by Manumit", column.name);
            faults.push(text.fault_at(name.span, "D013", message, "leave this out"));
            continue;
        }
        let Some(value) = compile(sql, schema, &expr, written.span(), text, faults) else { continue };
        if column.kind == schema::Kind::Amount
            && matches!(value.data_type, DataType::Float16 | DataType::Float32 | DataType::Float64)
        {
            let message = format!("`{}` would be rounded: this is a float", column.name);
            let fault = text.fault_at(written.span(), "D014", message, "not exact");
            faults.push(
                fault.help("declare the raw field as \"decimal\" in [raw], and cast nothing to DOUBLE"),
            );
            continue;
        }
        if column.kind == schema::Kind::Amount {
            let mut casts = Casts { sql, schema, rounds: None };
            let _ = expr.clone().visit(&mut casts);
            if let Some((cast, scale)) = casts.rounds {
                let message = format!(
                    "`{}` would be rounded: `{cast}` keeps {scale} decimals of however many there are",
                    column.name
                );
                let fault = text.fault_at(written.span(), "D014", message, "not exact");
                faults.push(fault.help(
                    "leave the CAST away: a text such as 1234.56 is read exactly, and one with too many decimals is refused; \
                     for `1.234,56` write replace(replace(x, '.', ''), ',', '.')",
                ));
                continue;
            }
        }
        let output = Output { column, text: written.to_string(), path: path(&expr), value };
        if by_name.insert(column.name.to_string(), output).is_some() {
            let message = format!("`{}` is given twice", column.name);
            faults.push(text.fault_at(name.span, "D013", message, "the second time"));
        }
    }
    schema::TRANSACTIONS.iter().filter_map(|c| by_name.remove(c.name)).collect()
}

fn last_name(expr: &Expr) -> Option<Ident> {
    match expr {
        Expr::Identifier(ident) => Some(ident.clone()),
        Expr::CompoundIdentifier(parts) => parts.last().cloned(),
        _ => None,
    }
}

/// Dotted path of a raw field.
fn path(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) => Some(ident.value.clone()),
        Expr::CompoundIdentifier(parts) => {
            Some(parts.iter().map(|p| p.value.as_str()).collect::<Vec<_>>().join("."))
        }
        _ => None,
    }
}

/// The SELECT, when it is one that a stream can run record by record.
fn plain_select<'q>(query: &'q Query, text: &Text, faults: &mut Diagnostics) -> Option<&'q Select> {
    let mut refuse = |span: Span, what: &str| {
        let fault = text.fault_at(span, "D011", format!("{what} cannot be used in a feed"), "here");
        faults.push(fault.help("a feed maps record by record: SELECT expressions FROM raw WHERE condition"));
        None
    };
    let SetExpr::Select(select) = query.body.as_ref() else {
        return refuse(query.span(), "UNION and the like");
    };
    if query.with.is_some() {
        return refuse(query.span(), "WITH");
    }
    if query.order_by.is_some() {
        return refuse(query.span(), "ORDER BY");
    }
    if query.limit_clause.is_some() || query.fetch.is_some() {
        return refuse(query.span(), "LIMIT");
    }
    if select.distinct.is_some() {
        return refuse(select.span(), "DISTINCT");
    }
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(e, m) if e.is_empty() && m.is_empty());
    if grouped || select.having.is_some() {
        return refuse(select.span(), "GROUP BY");
    }
    match select.from.as_slice() {
        [from] if from.joins.is_empty() => match &from.relation {
            TableFactor::Table { name, .. } if name.to_string().eq_ignore_ascii_case("raw") => Some(select),
            TableFactor::Table { name, .. } => refuse(name.span(), &format!("the table `{name}`")),
            other => refuse(other.span(), "anything but the table `raw`"),
        },
        [from, ..] => refuse(from.span(), "a join"),
        [] => refuse(select.span(), "a SELECT without `FROM raw`"),
    }
}

/// `cents / 100` of whole numbers is exact, as in rules; in plain SQL it would drop the cents.
struct ExactDivision<'s> {
    sql: &'s Sql,
    schema: &'s SchemaRef,
}

impl VisitorMut for ExactDivision<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let integer =
            |e: &Expr| self.sql.compile(self.schema, &e.to_string()).is_ok_and(|c| c.data_type.is_integer());
        if let Expr::BinaryOp { left, op: BinaryOperator::Divide, right } = expr
            && integer(left)
            && integer(right)
        {
            manumit_rules::make_exact(left);
        }
        ControlFlow::Continue(())
    }
}

/// Looks for a cast that rounds: to fewer decimals than money may have, of something that may have more. A wrong amount would be
/// taken for right, as nobody could see any more that it had been longer.
struct Casts<'s> {
    sql: &'s Sql,
    schema: &'s SchemaRef,
    /// The first one found, and the decimals that it keeps.
    rounds: Option<(String, i8)>,
}

impl VisitorMut for Casts<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::Cast { expr: inner, .. } = &*expr else { return ControlFlow::Continue(()) };
        let type_of = |e: &Expr| self.sql.compile(self.schema, &e.to_string()).ok().map(|c| c.data_type);
        let scale = match type_of(expr) {
            Some(DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale)) => scale,
            Some(number) if number.is_integer() => 0,
            _ => return ControlFlow::Continue(()),
        };
        let whole = type_of(expr).is_some_and(|t| t.is_integer());
        let exact = match type_of(inner) {
            Some(DataType::Decimal128(_, has) | DataType::Decimal256(_, has)) => has <= scale,
            // A text with decimals is no whole number: the cast fails, and rounds nothing.
            Some(DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => whole,
            Some(other) => other.is_integer() || other == DataType::Null,
            None => true,
        };
        if scale < money::SCALE as i8 && !exact && self.rounds.is_none() {
            self.rounds = Some((expr.to_string(), scale));
        }
        ControlFlow::Continue(())
    }
}

/// Checks names, takes `raw.` away, and puts the item's column where a list is unnested.
struct Rename<'r> {
    text: &'r Text,
    raw: &'r SchemaRef,
    faults: &'r mut Diagnostics,
    unnest: Option<(Expr, Span)>,
}

const AGGREGATES: [&str; 9] =
    ["count", "sum", "avg", "min", "max", "stddev", "array_agg", "first_value", "last_value"];

impl VisitorMut for Rename<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::CompoundFieldAccess { root, access_chain } => {
                self.access(root, access_chain);
                // A name behind a point is no column of its own: `item.id` is `item['id']`.
                for access in access_chain {
                    if let AccessExpr::Dot(Expr::Identifier(name)) = access {
                        let value = Value::SingleQuotedString(name.value.clone()).with_span(name.span);
                        *access = AccessExpr::Subscript(Subscript::Index { index: Expr::Value(value) });
                    }
                }
            }
            Expr::CompoundIdentifier(parts)
                if parts.len() > 1 && parts[0].value.eq_ignore_ascii_case("raw") =>
            {
                parts.remove(0);
                if parts.len() == 1 {
                    *expr = Expr::Identifier(parts[0].clone());
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(ident) => self.field(std::slice::from_mut(ident)),
            Expr::CompoundIdentifier(parts) => self.field(parts),
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => {
                let fault =
                    self.text.fault_at(expr.span(), "D011", "a sub-query cannot be used in a feed", "here");
                self.faults.push(fault);
            }
            Expr::Function(function) => {
                let name = function.name.to_string().to_lowercase();
                if function.over.is_some() || AGGREGATES.contains(&name.as_str()) {
                    let message = format!("`{name}` over many records cannot be used in a feed");
                    let fault = self.text.fault_at(function.name.span(), "D011", message, "aggregate");
                    self.faults.push(fault.help("a feed maps record by record"));
                } else if name == "unnest" {
                    self.unnest(expr);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

impl Rename<'_> {
    /// `raw['debtor']['iban']`: the first subscript is the field.
    fn access(&mut self, root: &mut Expr, chain: &mut Vec<AccessExpr>) {
        let raw = matches!(root, Expr::Identifier(i) if i.value.eq_ignore_ascii_case("raw"));
        if !raw || self.raw.index_of("raw").is_ok() || chain.is_empty() {
            return;
        }
        if let AccessExpr::Subscript(Subscript::Index { index: Expr::Value(value) }) = &chain[0]
            && let Value::SingleQuotedString(name) = &value.value
        {
            *root = Expr::Identifier(Ident::with_quote_and_span('"', value.span, name.clone()));
            chain.remove(0);
        }
    }

    /// A raw field by path; names are those of the record, in its own case.
    fn field(&mut self, parts: &mut [Ident]) {
        if parts[0].value == ITEM {
            return;
        }
        let mut fields: Vec<Arc<Field>> = self.raw.fields().iter().cloned().collect();
        for part in parts {
            let Some(found) = find(&fields, part) else {
                let known: Vec<&str> =
                    fields.iter().map(|f| f.name().as_str()).filter(|n| !n.ends_with("__offset")).collect();
                let message = format!("the record has no field `{}`", part.value);
                let fault = self.text.fault_at(part.span, "D012", message, "not in [raw]");
                self.faults.push(match nearest(&part.value, known.iter().copied()) {
                    Some(near) => fault.help(format!("did you mean `{near}`?")),
                    None if known.is_empty() => fault.help("it is a single value, without fields"),
                    None => fault.help(format!(
                        "its fields are {}; texts stand between single quotes",
                        known.join(", ")
                    )),
                });
                return;
            };
            // Names keep the case of the record: unquoted ones would be read in small letters.
            part.value.clone_from(found.name());
            part.quote_style = Some('"');
            fields = match found.data_type() {
                DataType::Struct(inner) => inner.iter().cloned().collect(),
                _ => Vec::new(),
            };
        }
    }

    fn unnest(&mut self, expr: &mut Expr) {
        let Expr::Function(function) = &*expr else { return };
        let span = function.name.span();
        let argument = match &function.args {
            FunctionArguments::List(list) if list.args.len() == 1 => match &list.args[0] {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) => Some(argument.clone()),
                _ => None,
            },
            _ => None,
        };
        let Some(argument) = argument else {
            self.faults.push(self.text.fault_at(span, "D012", "`unnest` takes one list", "here"));
            return;
        };
        if self.unnest.as_ref().is_some_and(|(known, _)| known.to_string() != argument.to_string()) {
            self.faults.push(self.text.fault_at(
                span,
                "D011",
                "two lists cannot be unnested in one feed",
                "the second",
            ));
            return;
        }
        self.unnest = Some((argument, span));
        *expr = Expr::Identifier(Ident::with_quote('"', ITEM));
    }
}

fn find(fields: &[Arc<Field>], part: &Ident) -> Option<Arc<Field>> {
    let exact = fields.iter().find(|f| *f.name() == part.value);
    let any =
        || fields.iter().find(|f| part.quote_style.is_none() && f.name().eq_ignore_ascii_case(&part.value));
    exact.or_else(any).cloned()
}
