//! A query over named tables, planned once and answered as often as their rows change.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::MemTable;
use datafusion::common::tree_node::Transformed;
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{LogicalPlan, TableScan};
use datafusion::physical_plan::collect;

use crate::{Sql, SqlError};

/// A query, planned.
#[derive(Clone)]
pub struct Planned {
    sql: Sql,
    /// As written: before any rule of the optimizer.
    pub written: LogicalPlan,
    /// As it is run: sub-queries are joins, constants are folded.
    pub optimized: LogicalPlan,
    tables: BTreeMap<String, SchemaRef>,
}

impl std::fmt::Debug for Planned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.optimized.display_indent())
    }
}

impl Sql {
    /// A session with the same functions and reference tables, where no table is registered.
    pub fn scratch(&self) -> Sql {
        Sql::over(self.reference.clone(), 1)
    }

    /// Plans a query over tables of these names and columns, which hold nothing yet.
    ///
    /// # Errors
    /// [`SqlError`] when it does not parse, name known tables, columns and functions, or type.
    pub fn plan(&self, query: &str, tables: &[(&str, SchemaRef)]) -> Result<Planned, SqlError> {
        let sql = self.scratch();
        for (name, schema) in tables {
            let empty = MemTable::try_new(schema.clone(), vec![vec![]])?;
            sql.session.register_table(*name, Arc::new(empty))?;
        }
        let (query, session) = (query.to_string(), sql.session.clone());
        let written = on_own_runtime(async move { session.state().create_logical_plan(&query).await })?;
        let optimized = sql.session.state().optimize(&written)?;
        let tables = tables.iter().map(|(name, schema)| ((*name).to_string(), schema.clone())).collect();
        Ok(Planned { sql, written, optimized, tables })
    }
}

impl Planned {
    /// Columns of the answer.
    pub fn schema(&self) -> SchemaRef {
        Arc::new(self.written.schema().as_arrow().clone())
    }

    /// The answer over these rows, batch after batch; a table that is not given is empty.
    ///
    /// # Errors
    /// [`SqlError`] when a row makes it fail: an overflow, a cast.
    pub fn answer(&self, rows: &BTreeMap<&str, Vec<RecordBatch>>) -> Result<Vec<RecordBatch>, SqlError> {
        let mut sources = BTreeMap::new();
        for (name, schema) in &self.tables {
            let batches = rows.get(name.as_str()).cloned().unwrap_or_default();
            sources.insert(
                name.as_str(),
                provider_as_source(Arc::new(MemTable::try_new(schema.clone(), vec![batches])?)),
            );
        }
        let plan = self
            .optimized
            .clone()
            .transform_up_with_subqueries(|plan| {
                let LogicalPlan::TableScan(scan) = plan else { return Ok(Transformed::no(plan)) };
                let Some(source) = sources.get(scan.table_name.table()) else {
                    return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
                };
                let scan = TableScan { source: source.clone(), ..scan };
                Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
            })?
            .data;
        let state = self.sql.session.state();
        let batches = on_own_runtime(async move {
            let physical = state.query_planner().create_physical_plan(&plan, &state).await?;
            collect(physical, state.task_ctx()).await
        })?;
        let schema = self.schema();
        batches.iter().map(|batch| fitted(batch, &schema)).collect()
    }
}

/// The answer in the types that were planned. The optimizer may widen a decimal: it turns a sum beside `count(DISTINCT …)`
/// into a sum of sums, and takes the two types for equal.
fn fitted(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, SqlError> {
    let columns = batch.columns().iter().zip(schema.fields());
    // What does not fit fails as any overflow does; it is not made NULL.
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let columns = columns.map(|(column, field)| cast_with_options(column, field.data_type(), &strict));
    let columns = columns.collect::<Result<_, _>>();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let fitted =
        columns.and_then(|columns| RecordBatch::try_new_with_options(schema.clone(), columns, &options));
    fitted.map_err(|error| DataFusionError::from(error).into())
}

/// Runs DataFusion's futures on a thread of their own: callers may stand in a runtime or in none.
fn on_own_runtime<T: Send>(
    work: impl Future<Output = Result<T, DataFusionError>> + Send,
) -> Result<T, DataFusionError> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build()?;
            runtime.block_on(work)
        });
        thread.join().unwrap_or_else(|_| Err(DataFusionError::Execution("the query ended early".into())))
    })
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, Decimal128Array, Int64Array};
    use datafusion::arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn numbers(values: &[i64]) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(values.to_vec()))]).unwrap()
    }

    #[test]
    fn a_query_planned_once_answers_over_other_rows() {
        let schema = numbers(&[]).schema();
        let query = "SELECT sum(n) AS s FROM t WHERE n > (SELECT min(n) FROM u)";
        let planned = Sql::new().plan(query, &[("t", schema.clone()), ("u", schema)]).unwrap();
        for (rows, wanted) in [(&[1, 2, 3][..], 5), (&[10, 20], 20)] {
            let rows = BTreeMap::from([("t", vec![numbers(rows)]), ("u", vec![numbers(rows)])]);
            let answer = planned.answer(&rows).unwrap();
            let table = datafusion::arrow::util::pretty::pretty_format_batches(&answer).unwrap().to_string();
            assert!(table.contains(&format!("| {wanted} ")), "{table}");
        }
    }

    #[test]
    fn an_answer_has_the_types_that_were_planned() {
        let amounts = Decimal128Array::from(vec![10, 10, 7]).with_precision_and_scale(20, 4).unwrap();
        let rows = RecordBatch::try_from_iter_with_nullable([("x", Arc::new(amounts) as ArrayRef, true)]);
        let rows = rows.unwrap();
        let query = "SELECT sum(x) AS total, count(DISTINCT x) AS different, max(x) AS most FROM t";
        let planned = Sql::new().plan(query, &[("t", rows.schema())]).unwrap();
        let answer = planned.answer(&BTreeMap::from([("t", vec![rows])])).unwrap();
        assert!(!answer.is_empty() && answer.iter().all(|batch| batch.schema() == planned.schema()));
        let table = datafusion::arrow::util::pretty::pretty_format_batches(&answer).unwrap().to_string();
        assert!(table.contains("| 0.0027 | 2         | 0.0010 |"), "{table}");
    }

    #[test]
    fn an_unknown_table_is_refused_by_name() {
        let error = Sql::new().plan("SELECT 1 FROM entris", &[]).unwrap_err();
        assert!(error.to_string().contains("entris"), "{error}");
    }
}
