//! Who is in the cluster and who did what, as JSON: `/manumit/executors` and `/manumit/jobs/{id}` of the scheduler.

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use ballista_core::JobId;
use ballista_core::serde::protobuf::task_status::Status;
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::state::execution_stage::ExecutionStage;
use ballista_scheduler::state::execution_stage::TaskInfo;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::ClusterError;
use crate::client::host_and_port;

/// An executor of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutorStatus {
    /// Name.
    pub name: String,
    /// Digest of its lists and reference tables.
    pub reference: String,
    /// `host:port` where results are fetched.
    pub address: String,
    /// Partitions it works on at a time.
    pub cores: usize,
}

/// What was done for one query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStatus {
    /// Ballista's id of the job.
    pub job: String,
    /// Ordered by number.
    pub stages: Vec<StageStatus>,
}

/// One stage of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageStatus {
    /// Number.
    pub stage: usize,
    /// Tasks that are done.
    pub tasks: Vec<TaskStatus>,
}

/// One task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStatus {
    /// Name of the executor that did it.
    pub executor: String,
    /// Rows it gave.
    pub rows: u64,
    /// Milliseconds it took.
    pub millis: u64,
}

/// Ballista's id of an executor: its name, and what its functions look into.
pub(crate) fn full_name(name: &str, reference: &str) -> String {
    format!("{name}.{reference}")
}

fn split_name(full: &str) -> (String, String) {
    let (name, reference) = full.rsplit_once('.').unwrap_or((full, ""));
    (name.to_string(), reference.to_string())
}

/// The pages. They show names, counts and times; no plan, no value.
pub(crate) fn routes(cluster: &BallistaCluster) -> Router {
    let (members, jobs) = (cluster.cluster_state(), cluster.job_state());
    let executors = move || {
        let members = members.clone();
        async move {
            let mut all: Vec<ExecutorStatus> = Vec::new();
            for executor in members.registered_executor_metadata().await {
                let (name, reference) = split_name(&executor.id);
                let address = format!("{}:{}", executor.host, executor.port);
                all.push(ExecutorStatus {
                    name,
                    reference,
                    address,
                    cores: executor.specification.vcores as usize,
                });
            }
            all.sort_by(|a, b| a.name.cmp(&b.name));
            Json(all)
        }
    };
    let job = move |Path(id): Path<String>| {
        let jobs = jobs.clone();
        async move {
            match jobs.get_execution_graph(&JobId::from(id.clone())).await {
                Ok(Some(graph)) => Ok(Json(JobStatus { job: id, stages: stages(graph.stages()) })),
                _ => Err(StatusCode::NOT_FOUND),
            }
        }
    };
    Router::new().route("/manumit/executors", get(executors)).route("/manumit/jobs/{id}", get(job))
}

fn stages(all: &HashMap<usize, ExecutionStage>) -> Vec<StageStatus> {
    let mut stages: Vec<StageStatus> = all
        .iter()
        .filter_map(|(&stage, state)| {
            let infos = match state {
                ExecutionStage::Running(running) => &running.task_infos,
                ExecutionStage::Successful(done) => &done.task_infos,
                _ => return None,
            };
            Some(StageStatus { stage, tasks: infos.iter().filter_map(task).collect() })
        })
        .collect();
    stages.sort_by_key(|stage| stage.stage);
    stages
}

fn task(info: &TaskInfo) -> Option<TaskStatus> {
    let Status::Successful(done) = &info.task_status else { return None };
    Some(TaskStatus {
        executor: split_name(&done.executor_id).0,
        rows: done.partitions.iter().map(|part| part.num_rows).sum(),
        millis: info.end_exec_time.saturating_sub(info.start_exec_time) as u64,
    })
}

/// Longest time that a page may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Fetches one of the pages; `None` when what it is about is not known.
pub(crate) async fn fetch<T: for<'a> Deserialize<'a>>(
    url: &str,
    path: &str,
) -> Result<Option<T>, ClusterError> {
    let (host, port) = host_and_port(url)?;
    let unreachable = |why: String| ClusterError::Unreachable { url: url.to_string(), why };
    // HTTP/1.0: the answer ends where the connection ends.
    let asked = async {
        let mut stream = TcpStream::connect((host.as_str(), port)).await?;
        let request =
            format!("GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\nAccept: application/json\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<String, std::io::Error>(answer)
    };
    let answer = match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(unreachable(error.to_string())),
        Err(_) => return Err(unreachable(format!("nothing came within {} seconds", PATIENCE.as_secs()))),
    };
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let first = head.lines().next().unwrap_or_default();
    if first.contains(" 404 ") {
        return Ok(None);
    }
    if !first.contains(" 200 ") {
        return Err(unreachable(format!("it answered `{first}` to {path}")));
    }
    serde_json::from_str(body)
        .map(Some)
        .map_err(|e| unreachable(format!("its answer to {path} is not understood: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_points() {
        assert_eq!(split_name(&full_name("host.example", "0a1b")), ("host.example".into(), "0a1b".into()));
        assert_eq!(split_name("plain"), ("plain".into(), String::new()));
    }
}
