//! The only place that configures DataFusion: how SQL is read, and what its types mean.
//!
//! Literals with a point are exact decimals, never floats; text is `Utf8`; the session's time zone is UTC.

use datafusion::arrow::array::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::prelude::{SessionConfig, SessionContext};

/// Why a query gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// DataFusion refused the query or could not run it; the source says why.
    #[error("the query could not be planned or run")]
    DataFusion(#[from] DataFusionError),
}

/// A configured session.
#[derive(Clone)]
pub struct Sql {
    session: SessionContext,
}

impl Default for Sql {
    fn default() -> Self {
        Sql::new()
    }
}

impl Sql {
    /// A session with Manumit's settings: one partition, so that the order of rows is kept.
    pub fn new() -> Sql {
        let mut config = SessionConfig::new().with_target_partitions(1);
        config.options_mut().sql_parser.parse_float_as_decimal = true;
        config.options_mut().sql_parser.map_string_types_to_utf8view = false;
        Sql { session: SessionContext::new_with_config(config) }
    }

    /// The session itself.
    pub fn session(&self) -> &SessionContext {
        &self.session
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
}
