//! Window functions as an executor can be told of them.
//!
//! The protobuf form of a physical window expression (datafusion-proto 55, `PhysicalWindowExprNode`) leaves out two things
//! without an error. Where rows are sorted the other way round already, DataFusion evaluates `lag`, `lead` and `nth_value`
//! backwards and notes it in a flag: without the flag an executor would give the row after for the row before. So in this
//! session they cannot be evaluated backwards, and the rows are sorted once more. And `IGNORE NULLS` would be forgotten, so
//! it is refused.

use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::function::{
    ExpressionArgs, PartitionEvaluatorArgs, WindowFunctionSimplification, WindowUDFFieldArgs,
};
use datafusion::logical_expr::{
    Documentation, LimitEffect, PartitionEvaluator, ReversedUDWF, Signature, WindowUDF, WindowUDFImpl,
};
use datafusion::physical_expr::PhysicalExpr;

/// The functions, each so that nothing of it is lost.
pub(crate) fn sendable(functions: Vec<Arc<WindowUDF>>) -> Vec<Arc<WindowUDF>> {
    let sendable = |inner| Arc::new(WindowUDF::new_from_impl(Sendable { inner }));
    functions.into_iter().map(sendable).collect()
}

/// A window function that is never evaluated backwards by a flag, and knows no `IGNORE NULLS`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Sendable {
    inner: Arc<WindowUDF>,
}

impl WindowUDFImpl for Sendable {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn expressions(&self, args: ExpressionArgs<'_>) -> Vec<Arc<dyn PhysicalExpr>> {
        self.inner.expressions(args)
    }

    fn partition_evaluator(&self, args: PartitionEvaluatorArgs<'_>) -> Result<Box<dyn PartitionEvaluator>> {
        // Asked for when the plan is made, too.
        if args.ignore_nulls() {
            let name = self.name();
            return plan_err!(
                "`{name}(…) IGNORE NULLS` cannot be sent to a cluster: leave these rows out with WHERE … IS NOT NULL"
            );
        }
        self.inner.partition_evaluator_factory(args)
    }

    fn simplify(&self) -> Option<WindowFunctionSimplification> {
        self.inner.simplify()
    }

    fn field(&self, args: WindowUDFFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.field(args)
    }

    fn sort_options(&self) -> Option<SortOptions> {
        self.inner.sort_options()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn reverse_expr(&self) -> ReversedUDWF {
        match self.inner.reverse_expr() {
            // The function of the same name: only the flag tells the two apart.
            ReversedUDWF::Reversed(other) if other.name() == self.name() => ReversedUDWF::NotSupported,
            other => other,
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn limit_effect(&self, args: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        self.inner.inner().limit_effect(args)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::execution::SessionState;
    use datafusion::physical_plan::collect;
    use datafusion::prelude::{SessionConfig, SessionContext};
    use datafusion_proto::bytes::{physical_plan_from_bytes, physical_plan_to_bytes};
    use manumit_sql::Sql;

    const ROWS: &str = "(VALUES ('a', 'p', 1, 10), ('b', 'p', 2, 20), ('c', 'p', 3, 30), ('d', 'q', 1, 40), ('e', 'q', 2, 50)) \
                        AS v(id, k, t, x)";

    /// The rows of a query whose physical plan has been written and read again, sorted.
    async fn sent(state: SessionState, query: &str) -> datafusion::common::Result<String> {
        let context = SessionContext::new_with_state(state);
        let plan = context.sql(query).await?.create_physical_plan().await?;
        let bytes = physical_plan_to_bytes(plan)?;
        let plan = physical_plan_from_bytes(&bytes, &context.task_ctx())?;
        let rows = pretty_format_batches(&collect(plan, context.task_ctx()).await?)?.to_string();
        let mut lines: Vec<&str> = rows.lines().filter(|line| line.contains("| ")).collect();
        lines.sort_unstable();
        Ok(lines.join("\n"))
    }

    fn state() -> SessionState {
        crate::session_state(&Sql::new(), SessionConfig::new()).unwrap()
    }

    /// Both orders in one query: DataFusion sorts once and evaluates one of them backwards.
    #[tokio::test]
    async fn neighbours_are_those_of_the_order_that_was_asked_for() {
        let query = format!(
            "SELECT id, lag(x) OVER w AS before, lead(x) OVER w AS after, nth_value(x, 2) OVER w AS second, \
             first_value(x) OVER w AS first FROM {ROWS} WINDOW w AS (PARTITION BY k ORDER BY t) \
             QUALIFY row_number() OVER (PARTITION BY k ORDER BY t DESC) = 1"
        );
        let rows = sent(state(), &query).await.unwrap();
        let wanted = [
            "| c  | 20     |       | 20     | 10    |",
            "| e  | 40     |       | 50     | 40    |",
            "| id | before | after | second | first |",
        ];
        assert_eq!(rows, wanted.join("\n"));
    }

    #[tokio::test]
    async fn ignoring_nulls_is_refused() {
        let query =
            format!("SELECT lag(x) IGNORE NULLS OVER (PARTITION BY k ORDER BY t) AS before FROM {ROWS}");
        let refused = sent(state(), &query).await.unwrap_err().to_string();
        assert!(refused.contains("`lag(…) IGNORE NULLS`") && refused.contains("IS NOT NULL"), "{refused}");
    }
}
