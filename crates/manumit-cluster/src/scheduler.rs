//! The scheduler process: Ballista's, with Manumit's functions and a small status page in JSON on the same port.

use std::net::SocketAddr;
use std::sync::Arc;

use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpcServer;
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::{SchedulerConfig, TaskDistributionPolicy};
use ballista_scheduler::scheduler_process::create_scheduler;
use datafusion_proto::protobuf::PhysicalPlanNode;
use manumit_sql::Sql;

use crate::flat::FlatPlan;
use crate::status::routes;
use crate::{ClusterError, session_state};

/// How a scheduler runs.
#[derive(Debug, Clone)]
pub struct SchedulerOptions {
    /// Where clients and executors find it.
    pub listen: SocketAddr,
    /// Host name that executors reach it by, when it is not that of `listen`.
    pub advertise: Option<String>,
}

/// An executor that was not heard of for so many seconds is lost: its tasks are done again by others.
const LOST_AFTER_SECONDS: u64 = 30;

/// Runs a scheduler until `stopped` is ready.
///
/// # Errors
/// [`ClusterError`] when the port is taken.
pub async fn schedule(
    options: &SchedulerOptions,
    sql: &Sql,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ClusterError> {
    let sessions = sql.clone();
    let config = SchedulerConfig {
        bind_host: options.listen.ip().to_string(),
        bind_port: options.listen.port(),
        external_host: options.advertise.clone().unwrap_or_else(|| options.listen.ip().to_string()),
        // Work goes to all executors in turn, not to the first one until it is full.
        task_distribution: TaskDistributionPolicy::RoundRobin,
        executor_timeout_seconds: LOST_AFTER_SECONDS,
        expire_dead_executor_interval_seconds: 5,
        no_executors_grace_period_seconds: LOST_AFTER_SECONDS,
        override_session_builder: Some(Arc::new(move |config| session_state(&sessions, config))),
        ..SchedulerConfig::default()
    };
    let ballista = |e: ballista_core::error::BallistaError| ClusterError::Ballista(e.to_string());
    let cluster = BallistaCluster::new_from_config(&config).await.map_err(ballista)?;
    let most = (
        config.grpc_server_max_encoding_message_size as usize,
        config.grpc_server_max_decoding_message_size as usize,
    );
    let server = create_scheduler::<FlatPlan, PhysicalPlanNode>(cluster.clone(), Arc::new(config))
        .await
        .map_err(ballista)?;
    let grpc =
        SchedulerGrpcServer::new(server).max_encoding_message_size(most.0).max_decoding_message_size(most.1);
    let router = tonic::service::Routes::new(grpc).into_axum_router().merge(routes(&cluster));
    let io = |source| ClusterError::Io { what: format!("cannot listen on {}", options.listen), source };
    let listener = tokio::net::TcpListener::bind(options.listen).await.map_err(io)?;
    // Executors that name no host are reached where their connection comes from.
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::select! {
        served = async { axum::serve(listener, service).await } => served.map_err(io),
        () = stopped => Ok(()),
    }
}
