//! The side that asks: a session whose queries run on the cluster.

use std::sync::Arc;
use std::time::Duration;

use ballista::prelude::SessionContextExt as _;
use ballista_core::execution_plans::DistributedQueryExec;
use ballista_core::extension::SessionConfigExt as _;
use ballista_core::planner::BallistaQueryPlanner;
use datafusion::execution::SessionStateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use manumit_sql::Sql;

use crate::ClusterError;
use crate::flat::FlatPlan;
use crate::status::{ExecutorStatus, JobStatus, fetch};

/// Files are cut for reading from this size on.
const CUT_BYTES: usize = 1 << 20;

/// How often, and how long apart, the scheduler is asked about a job that is done.
const STATUS_TRIES: u32 = 40;
const STATUS_PAUSE: Duration = Duration::from_millis(50);

/// A cluster that answers queries.
pub struct Cluster {
    /// `http://host:port` of the scheduler.
    pub scheduler: String,
    /// Its executors, by name.
    pub executors: Vec<ExecutorStatus>,
    session: SessionContext,
}

impl Cluster {
    /// Connects to a scheduler, and sees that its executors look into the same reference data as `sql`.
    ///
    /// # Errors
    /// [`ClusterError`] when it does not answer, has no executors, or executors have other reference data.
    pub async fn connect(scheduler: &str, sql: &Sql) -> Result<Cluster, ClusterError> {
        let (host, port) = host_and_port(scheduler)?;
        let scheduler = format!("http://{host}:{port}");
        let executors = executors(&scheduler).await?;
        if executors.is_empty() {
            return Err(ClusterError::NoExecutors(scheduler));
        }
        let ours = sql.reference().get().digest();
        if let Some(other) = executors.iter().find(|executor| executor.reference != ours) {
            return Err(ClusterError::OtherReference {
                executor: other.name.clone(),
                theirs: other.reference.clone(),
                ours,
            });
        }
        // Two partitions a core, so that an executor that is done early has more to do.
        let partitions = executors.iter().map(|executor| executor.cores).sum::<usize>() * 2;
        // Planned once and for all: the adaptive planner of 55.0 goes on for ever, stage after stage, where joined inputs of a
        // sequence turn out to be empty.
        let config = SessionConfig::new_with_ballista()
            .set_str(ballista_core::config::BALLISTA_ADAPTIVE_PLANNER_ENABLED, "false")
            .with_target_partitions(partitions.max(2))
            .with_repartition_file_min_size(CUT_BYTES);
        let planner = BallistaQueryPlanner::<FlatPlan>::with_extension(
            scheduler.clone(),
            config.ballista_config(),
            config.ballista_logical_extension_codec(),
        );
        let config = config.with_ballista_query_planner(Arc::new(planner));
        let state = SessionStateBuilder::new()
            .with_default_features()
            .with_config(manumit_sql::with_meaning(config))
            .build();
        let mut session = SessionContext::remote_with_state(&scheduler, state).await?;
        sql.register_functions(&mut session)?;
        Ok(Cluster { scheduler, executors, session })
    }

    /// A session whose queries run on the cluster. Tables must be files that all its processes can read.
    pub fn session(&self) -> &SessionContext {
        &self.session
    }

    /// Who did what for a plan of [`Cluster::session`] that has been run; `None` when the answer needed no cluster, or the
    /// scheduler has forgotten it.
    ///
    /// # Errors
    /// [`ClusterError`] when the scheduler no longer answers.
    pub async fn status(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<Option<JobStatus>, ClusterError> {
        let job = plan.downcast_ref::<DistributedQueryExec<FlatPlan>>().and_then(|query| query.job_id());
        let Some(job) = job else { return Ok(None) };
        let path = format!("/manumit/jobs/{job}");
        // The result may be here a moment before the scheduler has put the job away.
        for _ in 0..STATUS_TRIES {
            if let Some(status) = fetch(&self.scheduler, &path).await? {
                return Ok(Some(status));
            }
            tokio::time::sleep(STATUS_PAUSE).await;
        }
        Ok(None)
    }
}

/// The executors that a scheduler has at this moment.
///
/// # Errors
/// [`ClusterError`] when it does not answer.
pub async fn executors(scheduler: &str) -> Result<Vec<ExecutorStatus>, ClusterError> {
    let found = fetch(scheduler, "/manumit/executors").await?;
    found.ok_or_else(|| ClusterError::Unreachable {
        url: scheduler.to_string(),
        why: "it is no scheduler of Manumit, but perhaps Ballista's own".into(),
    })
}

/// Host and port of `http://host:port`.
pub(crate) fn host_and_port(url: &str) -> Result<(String, u16), ClusterError> {
    let refused = |why: &str| ClusterError::Address { given: url.to_string(), why: why.to_string() };
    if url.starts_with("https://") {
        return Err(refused(
            "these processes speak no TLS; write http:// and keep them on a private network",
        ));
    }
    let rest = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    let wanted = "write it as http://127.0.0.1:50050";
    let (host, port) = rest.rsplit_once(':').ok_or_else(|| refused(wanted))?;
    let port = port.parse().map_err(|_| refused(wanted))?;
    if host.is_empty() || host.contains('/') {
        return Err(refused(wanted));
    }
    Ok((host.to_string(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_refused_in_words() {
        assert_eq!(host_and_port("http://127.0.0.1:50050/").unwrap(), ("127.0.0.1".into(), 50050));
        assert_eq!(host_and_port("scheduler:1").unwrap(), ("scheduler".into(), 1));
        for (url, words) in [("https://h:1", "TLS"), ("http://h", "127.0.0.1"), ("http://h:x", "127.0.0.1")] {
            assert!(host_and_port(url).unwrap_err().to_string().contains(words), "{url}");
        }
    }

    #[tokio::test]
    async fn a_scheduler_that_is_not_there_is_named_with_the_mend() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = executors(&format!("http://{free}")).await.unwrap_err().to_string();
        assert!(error.contains(&free.to_string()) && error.contains("manumit cluster start"), "{error}");
    }
}
