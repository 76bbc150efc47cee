//! `agg(x) FILTER (WHERE c) OVER w` as `agg(CASE WHEN c THEN x END) OVER w`.
//!
//! The protobuf form of a physical window expression (datafusion-proto 55, `PhysicalWindowExprNode`) has no place for a
//! filter: it is left out without an error, and an executor would count rows that the rule does not mean. So no plan with
//! such a filter leaves the scheduler. The two forms mean the same for aggregates that leave NULL out; for `earliest_by`
//! and `latest_by`, which count NULL values but no row without a time, the time takes the condition.

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::expr::{Alias, WindowFunction};
use datafusion::logical_expr::{Expr, LogicalPlan, Window, lit, when};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// Aggregates whose value does not change by rows with a NULL as first argument.
const LEAVE_NULL_OUT: [&str; 10] =
    ["count", "sum", "avg", "min", "max", "stddev", "stddev_pop", "var", "var_pop", "top_share"];

/// Aggregates that leave out rows with a NULL as second argument.
const LEAVE_TIMELESS_OUT: [&str; 2] = ["earliest_by", "latest_by"];

/// The rule; it goes last, and changes no name and no type.
#[derive(Debug)]
pub(crate) struct WindowFilters;

impl OptimizerRule for WindowFilters {
    fn name(&self) -> &str {
        "window_filters_into_arguments"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Window(Window { window_expr, input, schema }) = plan else {
            return Ok(Transformed::no(plan));
        };
        if !window_expr.iter().any(filtered) {
            return Ok(Transformed::no(LogicalPlan::Window(Window { window_expr, input, schema })));
        }
        let window_expr = window_expr.into_iter().map(without_filter).collect::<Result<Vec<_>>>()?;
        Ok(Transformed::yes(LogicalPlan::Window(Window::try_new_with_schema(window_expr, input, schema)?)))
    }
}

fn filtered(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => filtered(&alias.expr),
        Expr::WindowFunction(window) => window.params.filter.is_some(),
        _ => false,
    }
}

fn without_filter(expr: Expr) -> Result<Expr> {
    if !filtered(&expr) {
        return Ok(expr);
    }
    let name = expr.schema_name().to_string();
    match expr {
        Expr::Alias(alias) => {
            let window = match *alias.expr {
                Expr::WindowFunction(window) => moved(*window)?,
                other => other,
            };
            Ok(Expr::Alias(Alias { expr: Box::new(window), ..alias }))
        }
        Expr::WindowFunction(window) => Ok(moved(*window)?.alias(name)),
        other => Ok(other),
    }
}

fn moved(mut window: WindowFunction) -> Result<Expr> {
    let Some(filter) = window.params.filter.take() else {
        return Ok(Expr::WindowFunction(Box::new(window)));
    };
    let name = window.fun.name().to_string();
    let arguments = &mut window.params.args;
    let place = if LEAVE_NULL_OUT.contains(&name.as_str()) {
        0
    } else if LEAVE_TIMELESS_OUT.contains(&name.as_str()) {
        1
    } else {
        return plan_err!(
            "`{name}(…) FILTER (WHERE …) OVER (…)` cannot be sent to a cluster: use CASE in its argument"
        );
    };
    if place == 0 && arguments.is_empty() {
        arguments.push(lit(1_i64));
    }
    let Some(argument) = arguments.get_mut(place) else {
        return plan_err!("`{name}` has too few arguments");
    };
    *argument = when(*filter, argument.clone()).end()?;
    Ok(Expr::WindowFunction(Box::new(window)))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::prelude::{SessionConfig, SessionContext};
    use manumit_sql::Sql;

    /// Every aggregate a rule may use, filtered, over rows with NULLs, peers and a filter that is not known.
    const QUERY: &str = "
        SELECT id, count(*) FILTER (WHERE good) OVER w AS a, count(x) FILTER (WHERE good) OVER w AS b,
          count(DISTINCT x) FILTER (WHERE good) OVER w AS c, sum(x) FILTER (WHERE good) OVER w AS d,
          avg(x) FILTER (WHERE good) OVER w AS e, min(x) FILTER (WHERE good) OVER w AS f,
          max(x) FILTER (WHERE good) OVER w AS g, top_share(x) FILTER (WHERE good) OVER w AS h,
          top_share(id, x) FILTER (WHERE good) OVER w AS i, earliest_by(x, at, id) FILTER (WHERE good) OVER w AS j,
          latest_by(x, at, id) FILTER (WHERE good) OVER w AS k, count(*) OVER w AS l
        FROM (SELECT id, k, x, good, arrow_cast(t * 1000000, 'Timestamp(Microsecond, Some(\"UTC\"))') AS at FROM (VALUES
          ('a', 'p', 1, 10.00, true), ('b', 'p', 2, NULL, true), ('c', 'p', 2, 7.00, false), ('d', 'p', 3, 7.00, NULL),
          ('e', 'p', 5, 3.00, true), ('f', 'p', 6, NULL, true), ('g', 'q', 1, 2.00, false), ('h', 'q', 9, 3.00, true)
        ) AS v(id, k, t, x, good))
        WINDOW w AS (PARTITION BY k ORDER BY at RANGE BETWEEN INTERVAL '2 seconds' PRECEDING AND CURRENT ROW)
        ORDER BY id";

    async fn answer(context: &SessionContext) -> String {
        let rows = context.sql(QUERY).await.unwrap().collect().await.unwrap();
        pretty_format_batches(&rows).unwrap().to_string()
    }

    #[tokio::test]
    async fn an_aggregate_over_a_case_counts_what_the_filtered_one_counts() {
        let sql = Sql::new();
        let plain = answer(sql.session()).await;
        let state = crate::session_state(&sql, SessionConfig::new()).unwrap();
        let context = SessionContext::new_with_state(state);
        let plan =
            context.sql(QUERY).await.unwrap().into_optimized_plan().unwrap().display_indent().to_string();
        assert!(plan.contains("CASE WHEN"), "{plan}");
        let rows = answer(&context).await;
        assert_eq!(rows, plain);
        assert!(rows.contains("| e  | 1 |"), "{rows}");
    }

    #[tokio::test]
    async fn a_filter_that_cannot_be_moved_is_refused() {
        let state = crate::session_state(&Sql::new(), SessionConfig::new()).unwrap();
        let query =
            "SELECT array_agg(x) FILTER (WHERE x > 1) OVER (ORDER BY x) FROM (VALUES (1), (2)) AS t(x)";
        let refused = SessionContext::new_with_state(state).sql(query).await.unwrap().collect().await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("array_agg") && refused.contains("CASE"), "{refused}");
    }
}
