//! Apache DataFusion Ballista with Manumit's functions: a scheduler, executors and a client, built on Ballista's
//! libraries.
//!
//! ```text
//!  client ── logical plan ──► scheduler ── stages, tasks ──► executors ◄── shuffles ──► executors
//!    ▲                                                           │
//!    └───────────────────────── result partitions ───────────────┘
//! ```
//!
//! Ballista's own binaries know none of Manumit's functions, and functions like `in_list` look into reference tables:
//! every process loads the project's lists and tables, and says by a digest which ones it has.
//!
//! Ballista has no authentication and these processes speak no TLS: they belong on a private network, and listen on
//! the loopback interface unless told otherwise.

use datafusion::error::DataFusionError;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::prelude::SessionConfig;
use manumit_sql::Sql;

mod client;
mod connections;
mod executor;
mod filters;
mod flat;
mod joins;
mod scheduler;
mod status;
mod tasks;
mod windows;

pub use client::{Cluster, executors};
pub use executor::{ExecutorOptions, execute};
pub use scheduler::{SchedulerOptions, schedule};
pub use status::{ExecutorStatus, JobStatus, StageStatus, TaskStatus};

/// Why a cluster cannot be started or asked.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// An address that cannot be used.
    #[error("`{given}` is no address of a scheduler: {why}")]
    Address {
        /// As given.
        given: String,
        /// Why not, and how to write it.
        why: String,
    },
    /// Nobody answers, or not as a scheduler does.
    #[error(
        "the scheduler at {url} does not answer: {why}. Is it running? `manumit cluster start` starts one"
    )]
    Unreachable {
        /// Where.
        url: String,
        /// What was seen.
        why: String,
    },
    /// A scheduler without executors.
    #[error(
        "the scheduler at {0} has no executors: start some with `manumit cluster executor --scheduler {0}`"
    )]
    NoExecutors(String),
    /// Processes that would give different answers.
    #[error(
        "executor {executor} has other lists or reference tables than this command ({theirs}, here {ours}): start the \
         cluster again with the same --project and configuration"
    )]
    OtherReference {
        /// Which.
        executor: String,
        /// Its digest.
        theirs: String,
        /// Ours.
        ours: String,
    },
    /// A port that is taken, a folder that cannot be written.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Ballista stopped.
    #[error("Ballista: {0}")]
    Ballista(String),
    /// DataFusion refused a plan.
    #[error("{}", .0.strip_backtrace())]
    DataFusion(#[from] DataFusionError),
    /// Manumit's functions could not be registered.
    #[error(transparent)]
    Sql(#[from] manumit_sql::SqlError),
}

/// A session as scheduler and executors have it: Ballista's, with Manumit's functions, with window filters turned into
/// arguments, and with window functions that know one direction, because a physical plan loses all else on its way to
/// an executor.
fn session_state(sql: &Sql, config: SessionConfig) -> Result<SessionState, DataFusionError> {
    use ballista_core::extension::{
        ballista_aggregate_functions, ballista_scalar_functions, ballista_window_functions,
    };
    let mut rules = ballista_core::optimizer::ballista_default_optimizer_rules();
    // A plan comes with what its sender found to be common, named `__common_expr_1` and so on. Finding more here would give
    // the same names again to other expressions, and columns are found by name.
    rules.retain(|rule| rule.name() != "common_sub_expression_eliminate");
    rules.push(std::sync::Arc::new(filters::WindowFilters));
    let mut physical = PhysicalOptimizer::new().rules;
    physical.insert(0, std::sync::Arc::new(joins::OuterJoinsByHash));
    let mut state = SessionStateBuilder::new()
        .with_default_features()
        .with_config(manumit_sql::with_meaning(config))
        .with_optimizer_rules(rules)
        .with_physical_optimizer_rules(physical)
        .with_scalar_functions(ballista_scalar_functions())
        .with_aggregate_functions(ballista_aggregate_functions())
        .with_window_functions(windows::sendable(ballista_window_functions()))
        .build();
    sql.register_functions(&mut state).map_err(|e| DataFusionError::External(Box::new(e)))?;
    Ok(state)
}
