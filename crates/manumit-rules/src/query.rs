//! The SQL form of an indicator, lowered to the same parts as the TOML form.
//!
//! `SELECT … FROM (SELECT *, windows AS names FROM entries WHERE rows) WHERE condition`, or the same with WITH.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Interval, NamedWindowExpr, Query, Select, SelectItem, SetExpr, Spanned as _, Statement,
    TableFactor, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowSpec, WindowType,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Span;
use manumit_model::Diagnostics;

use crate::document::{File, Text};
use crate::expression::Scope;
use crate::features::{add, aggregate, duration, result_type, rolling, rows, usable};
use crate::frame::{Frame, row_order};
use crate::indicator::{Parts, schema_of};
use crate::ir::{FeatureKind, Table};

/// Reads `query.sql`; `key` is the subject's column.
pub(crate) fn read(
    file: &File,
    key: &str,
    scope: &mut Scope<'_>,
    columns: &mut BTreeSet<String>,
    used: &mut BTreeSet<String>,
    faults: &mut Diagnostics,
) -> Option<Parts> {
    let text = Text::whole(file);
    let statements = match Parser::parse_sql(&GenericDialect {}, &text.value) {
        Ok(statements) => statements,
        Err(error) => {
            let words = error.to_string().replace("sql parser error: ", "");
            faults.push(
                place_of(&text, &words)
                    .unwrap_or_else(|| file.fault("R010", format!("this is not SQL: {words}"))),
            );
            return None;
        }
    };
    let mut reader = Reader { text: &text, key, scope, columns, used, faults };
    let [Statement::Query(query)] = statements.as_slice() else {
        let fault = file.fault("R020", "query.sql holds one SELECT and nothing else");
        reader.faults.push(fault.help("see «The same as SQL» in rules/README.md"));
        return None;
    };
    reader.query(query)
}

/// The parser names the place at the end of its message: `… at Line: 3, Column: 7`.
pub(crate) fn place_of(text: &Text, words: &str) -> Option<manumit_model::Diagnostic> {
    let (message, place) = words.rsplit_once(" at Line: ")?;
    let (line, column) = place.split_once(", Column: ")?;
    let start = datafusion::sql::sqlparser::tokenizer::Location {
        line: line.trim().parse().ok()?,
        column: column.trim().parse().ok()?,
    };
    let end = datafusion::sql::sqlparser::tokenizer::Location { line: start.line, column: start.column + 1 };
    Some(text.fault_at(Span { start, end }, "R010", "this is not SQL", message))
}

struct Reader<'r, 's> {
    text: &'r Text,
    key: &'r str,
    scope: &'r mut Scope<'s>,
    columns: &'r mut BTreeSet<String>,
    used: &'r mut BTreeSet<String>,
    faults: &'r mut Diagnostics,
}

impl Reader<'_, '_> {
    fn refuse(&mut self, span: Span, what: &str) {
        let message = format!("{what} cannot be answered row by row");
        let fault = self.text.fault_at(span, "R020", message, "not part of the window form");
        self.faults.push(fault.help(
            "to have it answered at ticks instead, say how far it looks back and how often: lookback = \"30 days\" and every = \"1 day\" beside the query; see «Any SQL» in rules/README.md",
        ));
    }

    fn query(&mut self, query: &Query) -> Option<Parts> {
        let outer = self.select(query)?;
        let [from] = outer.from.as_slice() else {
            self.refuse(outer.span(), "a SELECT from several tables");
            return None;
        };
        if let Some(join) = from.joins.first() {
            self.refuse(join.span(), "a join");
            return None;
        }
        let inner: &Query = match (&from.relation, &query.with) {
            (TableFactor::Derived { subquery, .. }, None) => subquery,
            (TableFactor::Table { name, .. }, Some(with)) if with.cte_tables.len() == 1 => {
                let cte = &with.cte_tables[0];
                if !cte.alias.name.value.eq_ignore_ascii_case(&name.to_string()) {
                    self.refuse(name.span(), "a table other than the one that WITH names");
                    return None;
                }
                &cte.query
            }
            (relation, _) => {
                self.refuse(relation.span(), "a SELECT without an inner SELECT");
                return None;
            }
        };
        let inner = self.select(inner)?;
        let row_filter = self.inner_from(inner)?;
        let mut features = Vec::new();
        let windows: BTreeMap<String, &NamedWindowExpr> =
            inner.named_window.iter().map(|w| (w.0.value.to_lowercase(), &w.1)).collect();
        let before = self.faults.0.len();
        for item in &inner.projection {
            if let SelectItem::ExprWithAlias { expr, alias } = item
                && let Some(feature) = self.feature(expr, alias, Some(&windows))
            {
                features.push(feature);
            }
        }
        if self.faults.0.len() > before {
            return None;
        }
        let Some(selection) = &outer.selection else {
            self.refuse(outer.span(), "a query without an outer WHERE");
            return None;
        };
        let condition = self.scope.canonical(selection.clone(), self.text, self.faults)?;
        let condition = self.scope.must_be_boolean(condition, self.text, self.faults)?;
        self.used.extend(condition.params.iter().cloned());
        for item in &outer.projection {
            if let SelectItem::ExprWithAlias { expr, alias } = item
                && !matches!(expr, Expr::Identifier(_))
                && let Some(feature) = self.feature(expr, alias, None)
            {
                features.push(feature);
            }
        }
        Some(Parts { row_filter, sequence: None, keyed: None, features, condition })
    }

    /// A plain SELECT: what the window form has no word for is refused.
    fn select<'q>(&mut self, query: &'q Query) -> Option<&'q Select> {
        let SetExpr::Select(select) = query.body.as_ref() else {
            self.refuse(query.span(), "UNION and the like");
            return None;
        };
        let grouped = !matches!(&select.group_by, datafusion::sql::sqlparser::ast::GroupByExpr::Expressions(e, m) if e.is_empty() && m.is_empty());
        let what = if grouped {
            Some("GROUP BY")
        } else if select.distinct.is_some() {
            Some("DISTINCT")
        } else if select.having.is_some() {
            Some("HAVING")
        } else if query.order_by.is_some() {
            Some("ORDER BY around the whole query")
        } else if query.limit_clause.is_some() || query.fetch.is_some() {
            Some("LIMIT")
        } else if select.qualify.is_some() {
            Some("QUALIFY")
        } else {
            None
        };
        match what {
            Some(what) => {
                self.refuse(query.span(), what);
                None
            }
            None => Some(select),
        }
    }

    /// The table and the row filter of the inner SELECT.
    #[expect(clippy::option_option, reason = "outer: refused or not; inner: there is a filter or not")]
    fn inner_from(&mut self, inner: &Select) -> Option<Option<crate::expression::Canonical>> {
        let table = match inner.from.as_slice() {
            [from] if from.joins.is_empty() => match &from.relation {
                TableFactor::Table { name, .. } => Some((name.to_string().to_lowercase(), name.span())),
                _ => None,
            },
            _ => None,
        };
        match table {
            Some((name, _)) if name == "entries" => self.scope.table = Table::Entries,
            Some((name, _)) if name == "transactions" => self.scope.table = Table::Transactions,
            Some((name, span)) => {
                self.refuse(span, &format!("a SELECT from `{name}`"));
                return None;
            }
            None => {
                self.refuse(inner.span(), "an inner SELECT from anything but `entries` or `transactions`");
                return None;
            }
        }
        self.scope.schema = schema_of(self.scope.table);
        let Some(selection) = &inner.selection else { return Some(None) };
        let filter = self.scope.canonical(selection.clone(), self.text, self.faults)?;
        let filter = self.scope.must_be_boolean(filter, self.text, self.faults)?;
        self.used.extend(filter.params.iter().cloned());
        Some(Some(filter))
    }

    fn feature(
        &mut self,
        expr: &Expr,
        alias: &Ident,
        windows: Option<&BTreeMap<String, &NamedWindowExpr>>,
    ) -> Option<crate::ir::Feature> {
        let name = alias.value.to_lowercase();
        if self.scope.schema.index_of(&name).is_ok() || !usable(&name) {
            let message = format!("`{name}` is already a column, or a word of SQL");
            let fault = self.text.fault_at(alias.span, "R016", message, "taken");
            self.faults.push(fault.help("give the feature another name"));
            return None;
        }
        if let (Expr::Function(function), Some(windows)) = (expr, windows)
            && let Some(over) = &function.over
        {
            let spec = match over {
                WindowType::WindowSpec(spec) => spec,
                WindowType::NamedWindow(window) => match windows.get(&window.value.to_lowercase()) {
                    Some(NamedWindowExpr::WindowSpec(spec)) => spec,
                    _ => {
                        let message = format!("there is no window `{}`", window.value);
                        let fault = self.text.fault_at(window.span, "R011", message, "unknown window");
                        self.faults.push(fault.help("define it behind the inner FROM: WINDOW w AS (…)"));
                        return None;
                    }
                },
            };
            let frame = self.window(spec, function.name.span())?;
            let mut call = function.clone();
            call.over = None;
            let aggregate =
                aggregate(call, frame, self.text, self.scope, self.columns, self.used, self.faults)?;
            let data_type = result_type(&aggregate, self.text, self.faults)?;
            return Some(add(self.scope, name, data_type, FeatureKind::Window(aggregate), None, None));
        }
        let canonical = self.scope.canonical(expr.clone(), self.text, self.faults)?;
        self.columns.extend(canonical.columns);
        self.used.extend(canonical.params);
        Some(add(self.scope, name, canonical.data_type, FeatureKind::Derived(canonical.sql), None, None))
    }

    /// A window that has a form that streams can keep.
    fn window(&mut self, spec: &WindowSpec, span: Span) -> Option<Frame> {
        let partition = match spec.partition_by.as_slice() {
            [Expr::Identifier(ident)] => ident.value.to_lowercase(),
            _ => String::new(),
        };
        if partition != self.key {
            let message = format!("the window must be PARTITION BY {}, the subject's column", self.key);
            self.faults.push(self.text.fault_at(span, "R020", message, "window of this aggregate"));
            return None;
        }
        let order: Vec<String> = spec.order_by.iter().map(|o| o.to_string().to_lowercase()).collect();
        let order = order.join(", ");
        let ordered = order == "event_time";
        if let Some(frame) = spec.window_frame.as_ref().filter(|frame| frame.units == WindowFrameUnits::Rows)
        {
            // Rows of one time have an order of their own; who names it, names it in full.
            let full = order == row_order(self.scope.table).to_lowercase();
            let Some((count, excludes_row)) = counted_rows(frame).filter(|_| ordered || full) else {
                return self.not_kept(span);
            };
            return Some(Frame { excludes_row, ..rows(Some(count), &self.text.at(span), self.faults)? });
        }
        let bounds = spec.window_frame.as_ref().and_then(|frame| {
            let excludes_end = match &frame.end_bound {
                Some(WindowFrameBound::CurrentRow) => false,
                // The next instant below: event time has microseconds.
                Some(WindowFrameBound::Preceding(Some(bound))) => match bound.as_ref() {
                    Expr::Interval(interval) if micros(&length(interval)) => true,
                    _ => return None,
                },
                _ => return None,
            };
            match (&frame.units, &frame.start_bound) {
                (WindowFrameUnits::Range, WindowFrameBound::Preceding(Some(bound))) => match bound.as_ref() {
                    Expr::Interval(interval) => Some((length(interval), excludes_end)),
                    _ => None,
                },
                _ => None,
            }
        });
        let Some((words, excludes_end)) = bounds.filter(|_| ordered) else { return self.not_kept(span) };
        let mut text = self.text.clone();
        text.value = words;
        let micros = duration(&text, self.faults)?;
        Some(Frame { excludes_end, ..rolling(micros, &text, self.faults)? })
    }

    fn not_kept(&mut self, span: Span) -> Option<Frame> {
        let message = "the window must be ORDER BY event_time, RANGE BETWEEN INTERVAL '…' PRECEDING AND CURRENT ROW or ROWS BETWEEN n PRECEDING AND CURRENT ROW";
        let fault = self.text.fault_at(span, "R020", message, "window of this aggregate");
        self.faults.push(fault.help("for windows of other kinds see rules/WINDOWS.md"));
        None
    }
}

/// `ROWS BETWEEN 9 PRECEDING AND CURRENT ROW` or `BETWEEN 10 PRECEDING AND 1 PRECEDING`: ten rows, with or without the
/// row itself.
fn counted_rows(frame: &WindowFrame) -> Option<(u32, bool)> {
    let preceding = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::Preceding(Some(number)) => number.to_string().parse::<u32>().ok(),
        WindowFrameBound::CurrentRow => Some(0),
        _ => None,
    };
    let first = preceding(&frame.start_bound)?;
    match frame.end_bound.as_ref().and_then(preceding)? {
        0 => Some((first.checked_add(1)?, false)),
        1 if first > 0 => Some((first, true)),
        _ => None,
    }
}

/// An interval in one unit, as `duration` reads it.
fn length(interval: &Interval) -> String {
    let number = interval.value.to_string();
    let number = number.trim_matches('\'');
    match &interval.leading_field {
        Some(field) => format!("{number} {}", field.to_string().to_lowercase()),
        None => number.to_string(),
    }
}

fn micros(words: &str) -> bool {
    ["1 microsecond", "1 microseconds"].contains(&words.trim().to_lowercase().as_str())
}
