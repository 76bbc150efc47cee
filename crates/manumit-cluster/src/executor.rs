//! An executor process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ballista_core::registry::BallistaFunctionRegistry;
use ballista_core::utils::default_config_producer;
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use manumit_sql::Sql;

use crate::client::host_and_port;
use crate::status::full_name;
use crate::tasks::Logged;
use crate::{ClusterError, session_state};

/// Seconds that an executor waits for its scheduler to come up.
const PATIENCE_SECONDS: u16 = 60;

/// Seconds between two signs of life.
const HEARTBEAT_SECONDS: u64 = 5;

/// How an executor runs.
#[derive(Debug, Clone)]
pub struct ExecutorOptions {
    /// Name in reports and logs; different for each executor of a cluster.
    pub name: String,
    /// Where results and shuffles are fetched.
    pub listen: SocketAddr,
    /// Port of the same interface on which tasks come in.
    pub task_port: u16,
    /// Host name that scheduler, executors and clients reach it by, when it is not that of `listen`.
    pub advertise: Option<String>,
    /// `http://host:port`.
    pub scheduler: String,
    /// Partitions worked on at a time.
    pub cores: usize,
    /// Folder for shuffles and spills; what an executor leaves there it removes in the end.
    pub work_dir: PathBuf,
    /// Share of the memory (of the machine, or of the container) that operators may take before they spill.
    pub memory_share: f64,
}

/// Runs an executor until it is told to stop: by a signal, or by its scheduler.
///
/// # Errors
/// [`ClusterError`] when the scheduler does not come up, or a port or folder cannot be used.
pub async fn execute(options: &ExecutorOptions, sql: &Sql) -> Result<(), ClusterError> {
    let (scheduler_host, scheduler_port) = host_and_port(&options.scheduler)?;
    std::fs::create_dir_all(&options.work_dir).map_err(|source| ClusterError::Io {
        what: format!("the work folder {} cannot be made", options.work_dir.display()),
        source,
    })?;
    let state = session_state(sql, default_config_producer())?;
    // An executor that listens everywhere is reached where its connection comes from.
    let external_host = match &options.advertise {
        Some(host) => Some(host.clone()),
        None if options.listen.ip().is_unspecified() => None,
        None => Some(options.listen.ip().to_string()),
    };
    let config = ExecutorProcessConfig {
        executor_id: full_name(&options.name, &sql.reference().get().digest()),
        bind_host: options.listen.ip().to_string(),
        external_host,
        port: options.listen.port(),
        grpc_port: options.task_port,
        scheduler_host,
        scheduler_port,
        scheduler_connect_timeout_seconds: PATIENCE_SECONDS,
        vcores: options.cores.max(1),
        work_dir: Some(options.work_dir.display().to_string()),
        executor_heartbeat_interval_seconds: HEARTBEAT_SECONDS,
        memory_pool_fraction: options.memory_share,
        override_function_registry: Some(Arc::new(BallistaFunctionRegistry::from(&state))),
        override_execution_engine: Some(Arc::new(Logged::new(&options.name))),
        ..ExecutorProcessConfig::default()
    };
    start_executor_process(Arc::new(config)).await.map_err(|e| ClusterError::Ballista(e.to_string()))
}
