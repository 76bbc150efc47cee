//! Backtests: unchanged typology files over past transactions.
//!
//! DataFusion reads, casts, filters and, where needed, sorts the files ([`history`]); the rows go through the very engine
//! that runs live ([`run`]); what it found is counted as it comes ([`findings`]), compared with another version of the
//! rules ([`compare`]) and with labels ([`labels`]), and written as JSON and as one HTML page ([`report`]). What an
//! indicator's own SQL finds over the whole history ([`batch`]) can be held against what the engine found ([`check`]).
//!
//! A history gives the same hits and alerts as the stream did: results depend on event time alone, and rows that were
//! late then are left out unless they are asked for.

use std::path::PathBuf;

pub mod batch;
pub mod check;
pub mod compare;
pub mod findings;
mod footers;
pub mod history;
pub mod labels;
pub mod report;
mod run;

pub use run::{Setup, Watch, nothing_in_period, read_period, run};

/// Why there is no backtest.
#[derive(Debug, thiserror::Error)]
pub enum BacktestError {
    /// A file cannot be read.
    #[error("{file}: {why}")]
    Unreadable {
        /// The file or folder.
        file: PathBuf,
        /// Why not.
        why: String,
    },
    /// Files that must not be read as if nothing were wrong.
    #[error("the data are damaged:{}", .0.iter().map(|bad| format!("\n  {bad}")).collect::<String>())]
    Damaged(Vec<manumit_archive::BadFile>),
    /// The archive cannot be read.
    #[error(transparent)]
    Archive(#[from] manumit_archive::ArchiveError),
    /// Parquet and CSV in one history.
    #[error("the data are partly CSV and partly Parquet; give files of one kind")]
    Mixed,
    /// A column that every transaction must have is missing.
    #[error(
        "{file}: there is no column `{column}`{near}; a history has the columns of `manumit schema transactions --markdown`. Map other files with a feed: --feed NAME"
    )]
    NoColumn {
        /// The first file.
        file: PathBuf,
        /// The missing column.
        column: String,
        /// A column of the file with a similar name, in words.
        near: String,
    },
    /// Labels cannot be used.
    #[error(transparent)]
    Labels(#[from] manumit_evaluate::EvaluateError),
    /// No row of the period can be used.
    #[error("no transaction lies in the period: the data {0}")]
    Empty(String),
    /// DataFusion could not read the data.
    #[error("{}", .0.strip_backtrace())]
    DataFusion(#[from] datafusion::error::DataFusionError),
    /// The engine stopped.
    #[error(transparent)]
    Engine(#[from] manumit_engine::EngineError),
    /// Manumit's functions could not be registered.
    #[error(transparent)]
    Sql(#[from] manumit_sql::SqlError),
    /// Rows could not be rearranged.
    #[error("rows could not be rearranged: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// A result could not be written.
    #[error("{path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A result could not be put into words: a bug.
    #[error("the report could not be written: {0}")]
    Report(String),
}
