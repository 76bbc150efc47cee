//! Whether a query may be answered for some keys at a time: every row of its answer must follow from rows of one key.
//!
//! The question is put to DataFusion's optimized plan, where sub-queries are joins already. Each operator is looked at
//! once, from the tables up: which of its columns hold the key of the row that they came from.

use std::collections::BTreeSet;

use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::common::{DFSchema, JoinType};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    BinaryExpr, Distinct, Expr, Join, LogicalPlan, Operator, WindowFunctionDefinition,
};

/// Why not, and the way out.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub message: String,
    pub help: String,
    /// A word of the query near which the reason stands.
    pub near: &'static str,
}

/// Whose rows an operator gives.
#[derive(Debug, PartialEq, Eq)]
enum Rows {
    /// Rows of reference tables or constants: the same for every key.
    Shared,
    /// Rows of one key each, which stands in these columns.
    Keyed(BTreeSet<usize>),
}

/// The key of one table.
pub(crate) struct TableKey<'a> {
    pub table: &'a str,
    pub column: &'a str,
}

/// Looks the plan through; gives the columns of its answer that hold the key.
pub(crate) fn check(
    written: &LogicalPlan,
    optimized: &LogicalPlan,
    keys: &[TableKey<'_>],
) -> Result<BTreeSet<usize>, Refusal> {
    let key = keys.first().map_or("", |key| key.column);
    timeless(written)?;
    match (Checker { keys, key }).rows(optimized)? {
        Rows::Keyed(columns) if !columns.is_empty() => Ok(columns),
        Rows::Keyed(_) => Err(Refusal {
            message: format!("the answer does not give `{key}`"),
            help: format!("SELECT {key}, … so that each row of the answer is about somebody"),
            near: "select",
        }),
        Rows::Shared => Err(Refusal {
            message: "the query reads no transactions".into(),
            help: "SELECT … FROM entries".into(),
            near: "from",
        }),
    }
}

/// Nothing in it may depend on the clock or on chance: a replay must give the same answer.
fn timeless(plan: &LogicalPlan) -> Result<(), Refusal> {
    // By name: look-ups in reference tables are volatile to DataFusion, too, since tables may be loaded anew.
    const CHANGING: [&str; 9] = [
        "now",
        "current_timestamp",
        "current_date",
        "current_time",
        "today",
        "localtimestamp",
        "random",
        "rand",
        "uuid",
    ];
    let mut found = None;
    let _ = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|e| {
                if let Expr::ScalarFunction(call) = e
                    && CHANGING.contains(&call.name())
                {
                    found = Some(call.name().to_string());
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    match found {
        None => Ok(()),
        Some(name) => Err(Refusal {
            message: format!("`{name}` gives another answer each time it is asked"),
            help: "compare event times with each other: the rows end at the tick, so max(event_time) is close to it"
                .into(),
            near: "select",
        }),
    }
}

struct Checker<'a> {
    keys: &'a [TableKey<'a>],
    key: &'a str,
}

impl Checker<'_> {
    fn refuse<T>(&self, message: String, help: String, near: &'static str) -> Result<T, Refusal> {
        Err(Refusal { message, help, near })
    }

    /// A sub-query that is left in an expression has no outer row, so it may read shared rows only.
    fn subqueries(&self, plan: &LogicalPlan) -> Result<(), Refusal> {
        let mut refusal = None;
        let walked: Result<_, DataFusionError> = plan.apply_expressions(|expr| {
            expr.apply(|e| {
                let inner = match e {
                    Expr::ScalarSubquery(subquery) => subquery,
                    Expr::Exists(exists) => &exists.subquery,
                    Expr::InSubquery(inside) => &inside.subquery,
                    _ => return Ok(TreeNodeRecursion::Continue),
                };
                refusal = match self.rows(&inner.subquery) {
                    Ok(Rows::Shared) => return Ok(TreeNodeRecursion::Continue),
                    Ok(Rows::Keyed(_)) => Some(self.across("a sub-query")),
                    Err(refusal) => Some(refusal),
                };
                Ok(TreeNodeRecursion::Stop)
            })
        });
        match (refusal, walked) {
            (Some(refusal), _) => Err(refusal),
            (None, Ok(_)) => Ok(()),
            (None, Err(error)) => {
                self.refuse(error.strip_backtrace(), "write the query anew".into(), "select")
            }
        }
    }

    fn across(&self, what: &str) -> Refusal {
        Refusal {
            message: format!("{what} looks across every `{}`", self.key),
            help: format!(
                "add a condition such as inner.{0} = outer.{0}: only rows of the keys touched since the last tick are there",
                self.key
            ),
            near: "select",
        }
    }

    fn rows(&self, plan: &LogicalPlan) -> Result<Rows, Refusal> {
        self.subqueries(plan)?;
        match plan {
            LogicalPlan::TableScan(scan) => {
                let name = scan.table_name.table();
                Ok(match self.keys.iter().find(|key| key.table == name) {
                    None => Rows::Shared,
                    Some(key) => Rows::Keyed(
                        scan.projected_schema.index_of_column_by_name(None, key.column).into_iter().collect(),
                    ),
                })
            }
            LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => Ok(Rows::Shared),
            LogicalPlan::Projection(projection) => {
                let input = projection.input.schema();
                self.kept(self.rows(&projection.input)?, projection.expr.iter().map(|e| place(e, input)))
            }
            LogicalPlan::Filter(filter) => self.rows(&filter.input),
            LogicalPlan::SubqueryAlias(alias) => self.rows(&alias.input),
            LogicalPlan::Subquery(subquery) => self.rows(&subquery.subquery),
            LogicalPlan::Repartition(repartition) => self.rows(&repartition.input),
            LogicalPlan::Unnest(unnest) => {
                let input = unnest.input.schema();
                let names = unnest
                    .schema
                    .iter()
                    .map(|(qualifier, field)| input.index_of_column_by_name(qualifier, field.name()));
                self.kept(self.rows(&unnest.input)?, names)
            }
            LogicalPlan::Sort(sort) => match sort.fetch {
                None => self.rows(&sort.input),
                Some(_) => self.limited(),
            },
            LogicalPlan::Limit(limit) => match self.rows(&limit.input)? {
                Rows::Shared => Ok(Rows::Shared),
                Rows::Keyed(_) => self.limited(),
            },
            LogicalPlan::Distinct(distinct) => self.distinct(distinct),
            LogicalPlan::Aggregate(aggregate) => {
                let input = aggregate.input.schema();
                let rows = self.rows(&aggregate.input)?;
                let sets = aggregate.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_)));
                match self.kept(rows, aggregate.group_expr.iter().map(|e| place(e, input)))? {
                    Rows::Keyed(keys) if keys.is_empty() || sets => self.refuse(
                        format!("an aggregate goes over every `{}`", self.key),
                        format!(
                            "GROUP BY {}, …: only rows of the keys touched since the last tick are there, so a sum over \
                             all would mean nothing",
                            self.key
                        ),
                        "group by",
                    ),
                    rows => Ok(rows),
                }
            }
            LogicalPlan::Window(window) => {
                let input = window.input.schema();
                let rows = self.rows(&window.input)?;
                if let Rows::Keyed(keys) = &rows {
                    for expr in &window.window_expr {
                        self.window(expr, input, keys)?;
                    }
                }
                Ok(rows)
            }
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Union(union) => {
                let mut common: Option<BTreeSet<usize>> = None;
                let mut shared = false;
                for input in &union.inputs {
                    match self.rows(input)? {
                        Rows::Shared => shared = true,
                        Rows::Keyed(keys) => {
                            common = Some(common.map_or(keys.clone(), |so_far| &so_far & &keys));
                        }
                    }
                }
                match common {
                    None => Ok(Rows::Shared),
                    Some(_) if shared => self.refuse(
                        "a UNION mixes rows of transactions with rows of reference tables".into(),
                        "join the reference table instead".into(),
                        "union",
                    ),
                    Some(keys) => Ok(Rows::Keyed(keys)),
                }
            }
            LogicalPlan::RecursiveQuery(_) => self.refuse(
                "a recursive query has no bound".into(),
                "write the steps as a sequence ([[step]] blocks), or as so many joins".into(),
                "recursive",
            ),
            other => self.refuse(
                format!("`{}` is not for typologies", first_word(other)),
                "write one SELECT".into(),
                "select",
            ),
        }
    }

    /// Columns of the output that are key columns of the input.
    fn kept(&self, rows: Rows, places: impl Iterator<Item = Option<usize>>) -> Result<Rows, Refusal> {
        let Rows::Keyed(keys) = rows else { return Ok(Rows::Shared) };
        let kept = places.enumerate().filter(|(_, place)| place.is_some_and(|p| keys.contains(&p)));
        Ok(Rows::Keyed(kept.map(|(at, _)| at).collect()))
    }

    fn limited<T>(&self) -> Result<T, Refusal> {
        self.refuse(
            format!("LIMIT takes the first rows of every `{}` together", self.key),
            format!(
                "number the rows of each: QUALIFY row_number() OVER (PARTITION BY {} ORDER BY event_time, tx_id) <= 3",
                self.key
            ),
            "limit",
        )
    }

    fn distinct(&self, distinct: &Distinct) -> Result<Rows, Refusal> {
        let rows = match distinct {
            Distinct::All(input) => self.rows(input)?,
            Distinct::On(on) => {
                let input = on.input.schema();
                let rows = self.rows(&on.input)?;
                if let Rows::Keyed(keys) = &rows
                    && !on.on_expr.iter().any(|e| place(e, input).is_some_and(|p| keys.contains(&p)))
                {
                    return self.distinct_without_key();
                }
                let outputs = on.select_expr.iter().map(|e| place(e, input));
                self.kept(rows, outputs)?
            }
        };
        match rows {
            Rows::Keyed(keys) if keys.is_empty() => self.distinct_without_key(),
            rows => Ok(rows),
        }
    }

    fn distinct_without_key<T>(&self) -> Result<T, Refusal> {
        self.refuse(
            format!("DISTINCT throws rows of different `{}` together", self.key),
            format!("SELECT DISTINCT {}, …", self.key),
            "distinct",
        )
    }

    fn window(&self, expr: &Expr, input: &DFSchema, keys: &BTreeSet<usize>) -> Result<(), Refusal> {
        let Expr::WindowFunction(window) = unaliased(expr) else { return Ok(()) };
        if window.params.partition_by.iter().any(|e| place(e, input).is_some_and(|p| keys.contains(&p))) {
            return Ok(());
        }
        let name = match &window.fun {
            WindowFunctionDefinition::AggregateUDF(f) => f.name().to_string(),
            WindowFunctionDefinition::WindowUDF(f) => f.name().to_string(),
        };
        self.refuse(
            format!("`{name}` OVER (…) goes over every `{}`", self.key),
            format!("PARTITION BY {}, …", self.key),
            "over",
        )
    }

    fn join(&self, join: &Join) -> Result<Rows, Refusal> {
        use JoinType::{
            Full, Inner, Left, LeftAnti, LeftMark, LeftSemi, Right, RightAnti, RightMark, RightSemi,
        };
        let (left, right) = (self.rows(&join.left)?, self.rows(&join.right)?);
        let offset = join.left.schema().fields().len();
        let shift = |keys: BTreeSet<usize>| -> BTreeSet<usize> { keys.iter().map(|k| k + offset).collect() };
        let outer = |what: &str| {
            self.refuse(
                format!("{what} keeps rows that belong to no `{}`", self.key),
                "begin with the transactions, and LEFT JOIN what is looked up".into(),
                "join",
            )
        };
        match (left, right) {
            (Rows::Shared, Rows::Shared) => Ok(Rows::Shared),
            (Rows::Keyed(keys), Rows::Shared) => match join.join_type {
                Inner | Left | LeftSemi | LeftAnti | LeftMark => Ok(Rows::Keyed(keys)),
                Right | Full | RightSemi | RightAnti | RightMark => outer("this join with a reference table"),
            },
            (Rows::Shared, Rows::Keyed(keys)) => match join.join_type {
                Inner | Right => Ok(Rows::Keyed(shift(keys))),
                RightSemi | RightAnti | RightMark => Ok(Rows::Keyed(keys)),
                Left | Full | LeftSemi | LeftAnti | LeftMark => outer("this join with a reference table"),
            },
            (Rows::Keyed(left), Rows::Keyed(right)) => {
                if !self.joined_by_key(join, &left, &right) {
                    return Err(Refusal { near: "join", ..self.across("a join") });
                }
                match join.join_type {
                    Inner => Ok(Rows::Keyed(&left | &shift(right))),
                    Left | LeftSemi | LeftAnti | LeftMark => Ok(Rows::Keyed(left)),
                    Right => Ok(Rows::Keyed(shift(right))),
                    RightSemi | RightAnti | RightMark => Ok(Rows::Keyed(right)),
                    Full => outer("a FULL JOIN"),
                }
            }
        }
    }

    fn joined_by_key(&self, join: &Join, left: &BTreeSet<usize>, right: &BTreeSet<usize>) -> bool {
        let (l, r) = (join.left.schema(), join.right.schema());
        let both = |a: &Expr, b: &Expr| {
            place(a, l).is_some_and(|p| left.contains(&p)) && place(b, r).is_some_and(|p| right.contains(&p))
        };
        join.on.iter().any(|(a, b)| both(a, b))
            || join.filter.iter().flat_map(split_conjunction).any(|e| match e {
                Expr::BinaryExpr(BinaryExpr { left: a, op: Operator::Eq, right: b }) => {
                    both(a, b) || both(b, a)
                }
                _ => false,
            })
    }
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

/// Position of the column that the expression is, if it is one.
fn place(expr: &Expr, schema: &DFSchema) -> Option<usize> {
    match unaliased(expr) {
        Expr::Column(column) => schema.maybe_index_of_column(column),
        _ => None,
    }
}

fn first_word(plan: &LogicalPlan) -> String {
    plan.display().to_string().split([' ', ':']).next().unwrap_or("").to_string()
}
