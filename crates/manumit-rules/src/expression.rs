//! Authors' SQL expressions to canonical SQL: names checked, parameters bound, look-ups rewritten, types inferred.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Query,
    Spanned as _, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use manumit_model::{Diagnostics, nearest};
use manumit_sql::Sql;
use manumit_sql::reference::{
    ACCOUNT_COLUMNS, BASELINE_COLUMNS, BUSINESS_COLUMNS, CUSTOMER_COLUMNS, PEER_COLUMNS, TIMED,
};

use crate::document::Text;
use crate::ir::Table;
use crate::segments::Segment;

/// Names that stand for reference tables in expressions.
pub(crate) const TABLES: [&str; 8] = [
    "account",
    "customer",
    "business",
    "counterparty_account",
    "counterparty_customer",
    "counterparty_business",
    "baseline",
    "peers",
];

/// A parameter, bound.
#[derive(Debug, Clone)]
pub(crate) struct Param {
    /// Its value; with segments a CASE over the row.
    pub literal: Expr,
    /// Its value in words, with those of its segments.
    pub words: String,
    pub unit: String,
    pub source: String,
    pub segments: Vec<Segment>,
    /// Columns that its segments look at.
    pub columns: BTreeSet<String>,
}

/// What names an expression may use.
pub(crate) struct Scope<'a> {
    pub sql: &'a Sql,
    pub table: Table,
    /// Columns of the table, then features known so far.
    pub schema: SchemaRef,
    pub features: Vec<String>,
    /// Steps of a sequence known so far.
    pub steps: Vec<String>,
    pub params: &'a BTreeMap<String, Param>,
}

/// An expression ready to be run.
#[derive(Debug, Clone)]
pub(crate) struct Canonical {
    pub expr: Expr,
    /// As the author wrote it.
    pub original: Expr,
    pub sql: String,
    pub data_type: DataType,
    pub columns: BTreeSet<String>,
    pub features: BTreeSet<String>,
    pub params: BTreeSet<String>,
}

/// Aggregates that features may use, for hints.
pub(crate) const AGGREGATES: [&str; 10] =
    ["count", "sum", "avg", "min", "max", "stddev", "first_value", "last_value", "top_share", "stddev_samp"];

/// Parses one expression.
pub(crate) fn parse(text: &Text, faults: &mut Diagnostics) -> Option<Expr> {
    let parsed = Parser::new(&GenericDialect {}).try_with_sql(&text.value).and_then(|mut parser| {
        let expr = parser.parse_expr()?;
        match parser.peek_token().token {
            Token::EOF => Ok((expr, None)),
            _ => Ok((expr, Some(parser.peek_token()))),
        }
    });
    match parsed {
        Ok((expr, None)) => Some(expr),
        Ok((_, Some(token))) => {
            let message = format!("`{}` is not expected here", token.token);
            let fault =
                text.fault_at(token.span, "R010", message, "the expression should have ended before this");
            faults.push(fault.help("join conditions with AND or OR, and close every parenthesis"));
            None
        }
        Err(error) => {
            let words = error.to_string().replace("sql parser error: ", "");
            faults.push(
                text.fault("R010", "this is not a SQL expression", words)
                    .help("texts stand between single quotes, parameters begin with $"),
            );
            None
        }
    }
}

impl Scope<'_> {
    /// Reads the text of an expression.
    pub(crate) fn read(&self, text: &Text, faults: &mut Diagnostics) -> Option<Canonical> {
        let expr = parse(text, faults)?;
        self.canonical(expr, text, faults)
    }

    /// Reads a condition: its type must be true/false.
    pub(crate) fn condition(&self, text: &Text, faults: &mut Diagnostics) -> Option<Canonical> {
        let canonical = self.read(text, faults)?;
        self.must_be_boolean(canonical, text, faults)
    }

    pub(crate) fn must_be_boolean(
        &self,
        canonical: Canonical,
        text: &Text,
        faults: &mut Diagnostics,
    ) -> Option<Canonical> {
        if matches!(canonical.data_type, DataType::Boolean | DataType::Null) {
            return Some(canonical);
        }
        let label = format!("this gives {}", words(&canonical.data_type));
        let fault =
            text.fault_at(canonical.original.span(), "R013", "a condition must be true or false", label);
        faults.push(fault.help("compare it with something, for example `… >= $least`"));
        None
    }

    /// Checks and rewrites an expression that was parsed from `text`.
    pub(crate) fn canonical(&self, expr: Expr, text: &Text, faults: &mut Diagnostics) -> Option<Canonical> {
        let original = expr.clone();
        let mut expr = expr;
        let before = faults.0.len();
        let mut rewrite = Rewrite {
            scope: self,
            text,
            faults,
            columns: BTreeSet::new(),
            features: BTreeSet::new(),
            params: BTreeSet::new(),
        };
        let _ = expr.visit(&mut rewrite);
        let Rewrite { columns, features, params, faults, .. } = rewrite;
        if faults.0.len() > before {
            return None;
        }
        let sql = expr.to_string();
        match self.sql.compile(&self.schema, &sql) {
            Ok(compiled) => Some(Canonical {
                expr,
                original,
                sql,
                data_type: compiled.data_type,
                columns,
                features,
                params,
            }),
            Err(error) => {
                let words = plain(&error.to_string());
                let fault =
                    text.fault_at(original.span(), "R012", "this expression does not fit together", words);
                faults.push(
                    fault.help("compare like with like: texts between quotes, amounts and counts as numbers"),
                );
                None
            }
        }
    }

    fn type_of(&self, expr: &Expr) -> Option<DataType> {
        self.sql.compile(&self.schema, &expr.to_string()).ok().map(|compiled| compiled.data_type)
    }
}

/// DataFusion's message without its own prefixes.
pub(crate) fn plain(message: &str) -> String {
    let line = message.lines().next().unwrap_or("");
    let mut rest = line;
    for prefix in
        ["Error during planning: ", "Schema error: ", "This feature is not implemented: ", "type_coercion\n"]
    {
        rest = rest.strip_prefix(prefix).unwrap_or(rest);
    }
    rest.replace("datafusion.public.", "")
}

/// A type in an author's words.
pub(crate) fn words(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Boolean => "true/false",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "a text",
        DataType::Decimal128(..) | DataType::Decimal256(..) => "an amount or decimal number",
        DataType::Date32 | DataType::Date64 => "a date",
        DataType::Timestamp(..) => "a time",
        DataType::Interval(_) | DataType::Duration(_) => "a length of time",
        t if t.is_numeric() => "a number",
        _ => "a value of another kind",
    }
}

struct Rewrite<'s, 'a> {
    scope: &'s Scope<'a>,
    text: &'s Text,
    faults: &'s mut Diagnostics,
    columns: BTreeSet<String>,
    features: BTreeSet<String>,
    params: BTreeSet<String>,
}

impl VisitorMut for Rewrite<'_, '_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let fault = self.text.fault_at(
            query.span(),
            "R014",
            "a query inside an expression cannot run on a stream yet",
            "sub-query",
        );
        self.faults
            .push(fault.help("say it with a feature, a list (`in_list`) or a reference table (`account.…`)"));
        ControlFlow::Break(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(ident) => self.identifier(ident),
            Expr::CompoundIdentifier(parts) => {
                if let Some(lookup) = self.reference(&parts.clone()) {
                    *expr = lookup;
                }
            }
            Expr::Value(value) => {
                if let Value::Placeholder(name) = &value.value {
                    let (name, span) = (name.trim_start_matches('$').to_string(), value.span);
                    match self.scope.params.get(&name) {
                        Some(param) => {
                            *expr = param.literal.clone();
                            self.columns.extend(param.columns.iter().cloned());
                            self.params.insert(name);
                        }
                        None => {
                            let message = format!("there is no parameter `${name}`");
                            let fault = self.text.fault_at(span, "R011", message, "unknown parameter");
                            let known = self.scope.params.keys().map(String::as_str);
                            self.faults.push(match nearest(&name, known) {
                                Some(near) => fault.help(format!("did you mean `${near}`?")),
                                None => fault
                                    .help(format!("add a block [params.{name}] with value, unit and source")),
                            });
                        }
                    }
                }
            }
            Expr::BinaryOp { left, op, right } => {
                if *op == BinaryOperator::Divide {
                    self.divide(left, right);
                } else if comparison(op) {
                    self.compare(left, right);
                }
            }
            Expr::Function(function) => self.function(function),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// The operator compares two values.
pub(crate) fn comparison(op: &BinaryOperator) -> bool {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Gt | GtEq | Lt | LtEq)
}

impl Rewrite<'_, '_> {
    fn identifier(&mut self, ident: &mut Ident) {
        if ident.quote_style.is_none() {
            ident.value = ident.value.to_lowercase();
        }
        let name = ident.value.clone();
        if self.scope.features.contains(&name) {
            self.features.insert(name);
        } else if self.scope.schema.index_of(&name).is_ok() {
            self.columns.insert(name);
        } else {
            let message =
                format!("`{name}` is neither a column of `{}` nor a feature", self.scope.table.name());
            let fault = self.text.fault_at(ident.span, "R011", message, "unknown name");
            let schema = self.scope.schema.clone();
            let known = schema.fields().iter().map(|f| f.name().as_str());
            self.faults.push(match nearest(&name, known) {
                Some(near) => fault.help(format!("did you mean `{near}`?")),
                None if self.scope.params.contains_key(&name) => {
                    fault.help(format!("it is a parameter: write `${name}`"))
                }
                None => fault.help(format!(
                    "see `manumit schema {} --markdown` for the columns; texts stand between single quotes",
                    self.scope.table.name()
                )),
            });
        }
    }

    /// `account.opened_on` → `account__opened_on(account, event_time)`; `peers.inflow_p99` looks up the customer's group first.
    fn reference(&mut self, parts: &[Ident]) -> Option<Expr> {
        let [table, column] = parts else {
            self.unknown_reference(&parts[0], "write it as table.column");
            return None;
        };
        let (side, name) = (table.value.to_lowercase(), column.value.to_lowercase());
        let (prefix, columns, key) = match side.as_str() {
            "account" => ("account", ACCOUNT_COLUMNS, "account"),
            "customer" => ("customer", CUSTOMER_COLUMNS, "customer"),
            "business" => ("business", BUSINESS_COLUMNS, "customer"),
            "counterparty_business" => ("business", BUSINESS_COLUMNS, "counterparty_customer"),
            "counterparty_account" => ("account", ACCOUNT_COLUMNS, "counterparty"),
            "counterparty_customer" => ("customer", CUSTOMER_COLUMNS, "counterparty_customer"),
            "baseline" => ("baseline", BASELINE_COLUMNS, "customer"),
            "peers" => ("peer", PEER_COLUMNS, "customer"),
            step if self.scope.steps.iter().any(|known| known == step) => {
                let help = format!(
                    "give it a name under [features], for example x = \"{step}.{name}\", and use x; in a later step's `when` compare it with a value of that step"
                );
                let message = format!("`{step}.{name}` is a value of another row");
                self.faults.push(self.text.fault_at(table.span, "R024", message, "a step's row").help(help));
                return None;
            }
            _ => {
                let known = TABLES.into_iter().chain(self.scope.steps.iter().map(String::as_str));
                let near = nearest(&side, known).unwrap_or("account");
                self.unknown_reference(table, &format!("did you mean `{near}.{name}`?"));
                return None;
            }
        };
        if self.scope.table != Table::Entries {
            self.unknown_reference(
                table,
                "rules over `transactions` see two accounts; use over = \"entries\"",
            );
            return None;
        }
        if !columns.iter().any(|(known, _)| *known == name) {
            let message = format!("the reference table of `{side}` has no column `{name}`");
            let fault = self.text.fault_at(column.span, "R011", message, "unknown column");
            let known: Vec<&str> = columns.iter().map(|(n, _)| *n).collect();
            self.faults.push(match nearest(&name, known.iter().copied()) {
                Some(near) => fault.help(format!("did you mean `{side}.{near}`?")),
                None => fault.help(format!("its columns are {}", known.join(", "))),
            });
            return None;
        }
        self.columns.extend([key.to_string(), "event_time".to_string()]);
        let call = match prefix {
            // Who has no past of its own is compared with its segment.
            "peer" => format!(
                "peer__{name}(coalesce(baseline__peer_group({key}, event_time), customer__segment({key}, event_time)), event_time)"
            ),
            _ => format!("{prefix}__{name}({key}, event_time)"),
        };
        Parser::new(&GenericDialect {}).try_with_sql(&call).and_then(|mut p| p.parse_expr()).ok()
    }

    fn unknown_reference(&mut self, ident: &Ident, help: &str) {
        let or_step = if self.scope.steps.is_empty() { "" } else { " and no step" };
        let message = format!("`{}` is no reference table{or_step} that can be used here", ident.value);
        self.faults.push(self.text.fault_at(ident.span, "R011", message, "unknown table").help(help));
    }

    /// `a / b` is NULL when `b` is 0; two counts divide exactly, not to a whole number.
    fn divide(&self, left: &mut Box<Expr>, right: &mut Box<Expr>) {
        let integer = |e: &Expr| self.scope.type_of(e).is_some_and(|t| t.is_integer());
        if integer(left) && integer(right) {
            make_exact(left);
        }
        if !matches!(right.as_ref(), Expr::Value(_)) {
            replace(right, |e| format!("nullif({e}, 0)"));
        }
    }

    /// A text is not compared with a number: DataFusion would turn one into the other without a word.
    fn compare(&mut self, left: &Expr, right: &Expr) {
        let (Some(a), Some(b)) = (self.scope.type_of(left), self.scope.type_of(right)) else { return };
        let text = |t: &DataType| matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        let other = |t: &DataType| t.is_numeric() || *t == DataType::Boolean;
        if (text(&a) && other(&b)) || (other(&a) && text(&b)) {
            let message = format!("{} is compared with {}", words(&a), words(&b));
            let label = format!("`{left}` is {}, `{right}` is {}", words(&a), words(&b));
            let params = &self.scope.params;
            let param = params.iter().find(|(_, p)| [left, right].contains(&&p.literal));
            // A parameter's value stands elsewhere: it has no place in this text.
            let span = match param {
                Some((_, p)) if p.literal == *left => right.span(),
                Some(_) => left.span(),
                None => left.span().union(&right.span()),
            };
            let span = if span.start.line == 0 { right.span() } else { span };
            let fault = self.text.fault_at(span, "R012", message, label);
            self.faults.push(match param {
                Some((name, p)) => {
                    fault.help(format!("see `value` of [params.{name}], which is {}", p.words))
                }
                None => fault.help("texts stand between single quotes, numbers do not"),
            });
        }
    }

    fn function(&mut self, function: &mut Function) {
        let name = function.name.to_string().to_lowercase();
        let span = function.name.span();
        if function.over.is_some() || function.filter.is_some() || AGGREGATES.contains(&name.as_str()) {
            let message = format!("`{name}` over many rows must be a feature of its own");
            let fault = self.text.fault_at(span, "R014", message, "aggregate inside an expression");
            self.faults.push(fault.help(format!(
                "write it under [features], for example `n = \"{name}(…) OVER 30 days\"`, and use `n` here"
            )));
            return;
        }
        let state = self.scope.sql.session().state();
        let known: Vec<&str> = state.scalar_functions().keys().map(String::as_str).collect();
        // `coalesce` and its like are functions, too; what the planner knows by itself is left to it.
        if !known.contains(&name.as_str()) && !["extract", "position", "overlay"].contains(&name.as_str()) {
            let message = format!("there is no function `{name}`");
            let fault = self.text.fault_at(span, "R011", message, "unknown function");
            let mut known = known;
            known.sort_unstable();
            self.faults.push(match nearest(&name, known) {
                Some(near) => fault.help(format!("did you mean `{near}`?")),
                None => fault.help("see rules/README.md for the functions that rules may use"),
            });
            return;
        }
        match name.as_str() {
            "in_list" | "mentions" | "term_found" => {
                let reference = self.scope.sql.reference().get();
                let (values, terms) = (reference.list_names(), reference.term_list_names());
                let in_list = name == "in_list";
                let (what, known, others) = if in_list {
                    ("list of values", values, terms)
                } else {
                    ("list of terms", terms, values)
                };
                let of_other_kind = if in_list {
                    "it is a list of terms: write `mentions(memo, '…')`"
                } else {
                    "it is a list of values: write `in_list(x, '…')`, or give its file the header of terms (rules/LISTS.md)"
                };
                self.named(function, what, "rules/lists/<name>.csv", &known, Some((&others, of_other_kind)));
                if let FunctionArguments::List(list) = &mut function.args
                    && list.args.len() == 2
                {
                    let time = Expr::Identifier(Ident::new("event_time"));
                    list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(time)));
                    self.columns.insert("event_time".into());
                }
            }
            "in_mcc_group" => {
                let groups = self.scope.sql.reference().get().mcc_group_names();
                self.named(
                    function,
                    "group of merchant category codes",
                    "rules/mcc_groups.csv",
                    &groups,
                    None,
                );
            }
            timed => {
                if let Some((_, arguments)) = TIMED.iter().find(|(name, _)| *name == timed) {
                    self.timed(function, timed, *arguments);
                }
            }
        }
    }

    /// A function that asks as of the row's time. What it asks about is written down for alerts, so it must be a column.
    fn timed(&mut self, function: &mut Function, name: &str, arguments: usize) {
        let span = function.name.span();
        let FunctionArguments::List(list) = &mut function.args else { return };
        let plain = |at: usize, argument: &FunctionArg| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(_))) => {
                !(name == "contact_since" && at == 1)
            }
            FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) => {
                name == "contact_since" && at == 1 && matches!(value.value, Value::SingleQuotedString(_))
            }
            _ => false,
        };
        if list.args.len() != arguments || !list.args.iter().enumerate().all(|(at, one)| plain(at, one)) {
            let wanted = match name {
                "contact_since" => "contact_since(customer, 'phone')",
                "device_since" => "device_since(customer, device_id)",
                "authority" => "authority(counterparty_customer, account)",
                "authorised_accounts" => "authorised_accounts(customer)",
                "relation" => "relation(customer, counterparty_customer)",
                "related" => "related(customer, counterparty_customer)",
                _ => "group_of(customer)",
            };
            let message = format!("`{name}` is not asked like this");
            let fault = self.text.fault_at(span, "R012", message, "here");
            self.faults.push(
                fault.help(format!("write for example {wanted}: columns, and the kind between quotes")),
            );
            return;
        }
        let time = Expr::Identifier(Ident::new("event_time"));
        list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(time)));
        self.columns.insert("event_time".into());
    }

    /// The second argument must be the name of something that is loaded; `others` are names of another kind, and what to do then.
    fn named(
        &mut self,
        function: &Function,
        what: &str,
        place: &str,
        known: &[String],
        others: Option<(&[String], &str)>,
    ) {
        let FunctionArguments::List(list) = &function.args else { return };
        let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))) = list.args.get(1) else {
            return;
        };
        let Value::SingleQuotedString(name) = &value.value else { return };
        if known.contains(name) {
            return;
        }
        let message = format!("there is no {what} `{name}`");
        let fault = self.text.fault_at(value.span, "R011", message, "unknown name");
        let other = others.filter(|(names, _)| names.contains(name));
        self.faults.push(match (other, nearest(name, known.iter().map(String::as_str))) {
            (Some((_, help)), _) => fault.help(help),
            (None, Some(near)) => fault.help(format!("did you mean `{near}`?")),
            (None, None) => fault.help(format!("it would be read from {place}")),
        });
    }
}

/// Makes a whole number a decimal, so that dividing it keeps what is behind the point: in plain SQL two whole numbers
/// divide to a whole number.
pub fn make_exact(dividend: &mut Expr) {
    replace(dividend, |e| format!("CAST({e} AS DECIMAL(24, 6))"));
}

pub(crate) fn replace(expr: &mut Expr, text: impl Fn(&Expr) -> String) {
    let text = text(expr);
    if let Ok(new) = Parser::new(&GenericDialect {}).try_with_sql(&text).and_then(|mut p| p.parse_expr()) {
        *expr = new;
    }
}
