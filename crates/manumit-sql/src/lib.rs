//! The only place that configures DataFusion: how SQL is read, what its types mean, which functions there are.
//!
//! Literals with a point are exact decimals, never floats; text is `Utf8`; the session's time zone is UTC.
//! Reference tables (accounts, customers, lists, …) are looked up by functions, as they were at the time of a row.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{AggregateUDF, ColumnarValue};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_plan::PhysicalExpr;
use datafusion::prelude::{SessionConfig, SessionContext};

mod extreme;
mod functions;
mod lookup;
mod mentions;
mod planned;
pub mod reference;
mod share;
mod tables;
mod terms;
mod together;

pub use planned::Planned;
pub use reference::{Reference, ReferenceError, SharedReference};
pub use together::{Together, Work};

/// Why a query or an expression gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// DataFusion refused the query or could not run it; the text is DataFusion's own.
    #[error("{}", .0.strip_backtrace())]
    DataFusion(#[from] DataFusionError),
}

/// A configured session.
#[derive(Clone)]
pub struct Sql {
    session: SessionContext,
    reference: SharedReference,
}

impl Default for Sql {
    fn default() -> Self {
        Sql::new()
    }
}

/// An expression over the columns of one schema, ready to be evaluated on batches of that schema.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// Type of its values.
    pub data_type: DataType,
    /// Columns it reads, each once, by name.
    pub columns: Vec<String>,
    expression: Arc<dyn PhysicalExpr>,
}

impl Compiled {
    /// Its value at each row of `batch`, which has the schema it was compiled for.
    ///
    /// # Errors
    /// [`SqlError`] when a row makes it fail: an overflow, a cast.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, SqlError> {
        Ok(self.expression.evaluate(batch)?.into_array(batch.num_rows())?)
    }

    /// For a Boolean expression: the rows at which it holds. NULL does not hold.
    ///
    /// # Errors
    /// As [`Compiled::evaluate`].
    pub fn holds(&self, batch: &RecordBatch) -> Result<BooleanArray, SqlError> {
        if let ColumnarValue::Scalar(ScalarValue::Boolean(value)) = self.expression.evaluate(batch)? {
            return Ok(BooleanArray::from(vec![value == Some(true); batch.num_rows()]));
        }
        let array = self.evaluate(batch)?;
        let values = array.as_boolean();
        Ok(match values.nulls() {
            None => values.clone(),
            Some(nulls) => BooleanArray::new(values.values() & nulls.inner(), None),
        })
    }
}

/// What SQL means here: literals with a point are exact decimals, text is `Utf8`, also in files.
pub fn with_meaning(mut config: SessionConfig) -> SessionConfig {
    config.options_mut().sql_parser.parse_float_as_decimal = true;
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    config.options_mut().execution.parquet.schema_force_view_types = false;
    config
}

fn aggregates() -> [AggregateUDF; 3] {
    [share::top_share(), extreme::earliest_by(), extreme::latest_by()]
}

impl Sql {
    /// A session with Manumit's settings: one partition, so that the order of rows is kept.
    pub fn new() -> Sql {
        Sql::over(SharedReference::default(), 1)
    }

    /// A session whose queries are shared by so many threads: rows come in no order but that of an ORDER BY.
    pub fn on_threads(threads: usize) -> Sql {
        Sql::over(SharedReference::default(), threads)
    }

    /// The same over reference tables that other sessions share.
    fn over(reference: SharedReference, threads: usize) -> Sql {
        let config = with_meaning(SessionConfig::new().with_target_partitions(threads.max(1)));
        let session = SessionContext::new_with_config(config);
        for function in functions::all(&reference) {
            session.register_udf(function);
        }
        for aggregate in aggregates() {
            session.register_udaf(aggregate);
        }
        Sql { session, reference }
    }

    /// Makes Manumit's functions, over this session's reference tables, known to another session or process.
    ///
    /// # Errors
    /// [`SqlError`] when the registry takes no functions.
    pub fn register_functions(&self, registry: &mut dyn FunctionRegistry) -> Result<(), SqlError> {
        for function in functions::all(&self.reference) {
            registry.register_udf(Arc::new(function))?;
        }
        for aggregate in aggregates() {
            registry.register_udaf(Arc::new(aggregate))?;
        }
        Ok(())
    }

    /// The session itself.
    pub fn session(&self) -> &SessionContext {
        &self.session
    }

    /// The reference tables that this session's functions look into.
    pub fn reference(&self) -> &SharedReference {
        &self.reference
    }

    /// Makes `rows` a table of this session.
    ///
    /// # Errors
    /// [`SqlError`] when the name is taken.
    pub fn register(&self, name: &str, rows: RecordBatch) -> Result<(), SqlError> {
        self.session.register_batch(name, rows)?;
        Ok(())
    }

    /// Runs a query to its end.
    ///
    /// # Errors
    /// [`SqlError`] when the query does not plan, or fails while running.
    pub async fn query(&self, sql: &str) -> Result<Vec<RecordBatch>, SqlError> {
        Ok(self.session.sql(sql).await?.collect().await?)
    }

    /// Reads one expression over the columns of `schema`: names are resolved, types coerced, constants folded.
    ///
    /// # Errors
    /// [`SqlError`] when it does not parse, name known columns and functions, or type.
    pub fn compile(&self, schema: &SchemaRef, expression: &str) -> Result<Compiled, SqlError> {
        let columns = DFSchema::try_from(schema.as_ref().clone())?;
        let logical = self.session.parse_sql_expr(expression, &columns)?;
        let context = SimplifyContext::builder().with_schema(Arc::new(columns.clone())).build();
        let simplifier = ExprSimplifier::new(context);
        // Some functions (coalesce) exist only until they are simplified into CASE.
        let logical = simplifier.simplify(simplifier.coerce(logical, &columns)?)?;
        let physical = self.session.create_physical_expr(logical, &columns)?;
        let mut used: Vec<String> = datafusion::physical_expr::utils::collect_columns(&physical)
            .into_iter()
            .map(|column| column.name().to_string())
            .collect();
        used.sort();
        Ok(Compiled { data_type: physical.data_type(schema)?, columns: used, expression: physical })
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, StringArray};
    use datafusion::arrow::datatypes::{Field, Schema};

    use super::*;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("n", DataType::Int64, true),
            Field::new("word", DataType::Utf8, true),
        ]))
    }

    fn batch() -> RecordBatch {
        RecordBatch::try_new(
            schema(),
            vec![
                Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])),
                Arc::new(StringArray::from(vec![Some("a"), Some("b"), None])),
            ],
        )
        .unwrap()
    }

    #[test]
    fn an_unknown_condition_does_not_hold() {
        let sql = Sql::new();
        let condition = sql.compile(&schema(), "n >= 1 AND word <> 'z'").unwrap();
        assert_eq!(condition.columns, ["n", "word"]);
        let held: Vec<bool> = condition.holds(&batch()).unwrap().values().iter().collect();
        assert_eq!(held, [true, false, false]);
    }

    #[test]
    fn a_literal_with_a_point_is_an_exact_decimal() {
        let compiled = Sql::new().compile(&schema(), "0.1 + 0.2 = 0.3").unwrap();
        assert_eq!(compiled.holds(&batch()).unwrap().true_count(), 3);
    }

    #[test]
    fn functions_that_are_shorthand_for_others_run() {
        let compiled = Sql::new().compile(&schema(), "coalesce(n, 7) >= 3").unwrap();
        assert_eq!(compiled.holds(&batch()).unwrap().true_count(), 2);
    }

    #[test]
    fn an_unknown_column_is_refused_by_name() {
        let error = Sql::new().compile(&schema(), "amont > 3").unwrap_err();
        assert!(error.to_string().contains("amont"), "{error}");
    }
}
