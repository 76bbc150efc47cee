//! Ballista's execution of a task, told in the log: which part of which stage an executor worked on, rows and time.

use std::fmt::{Debug, Display, Formatter};
use std::sync::Arc;
use std::time::Instant;

use ballista_core::JobId;
use ballista_core::serde::protobuf::{
    RuntimeStatsReport, ShuffleWritePartition, TaskColumnStats, WindowStateReport,
};
use ballista_executor::execution_engine::{DefaultExecutionEngine, ExecutionEngine, QueryStageExecutor};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::prelude::SessionConfig;

use crate::connections::Connections;

/// Ballista's engine, with a line in the log for each task that is done.
pub(crate) struct Logged {
    executor: String,
    engine: DefaultExecutionEngine,
}

impl Logged {
    pub(crate) fn new(executor: &str) -> Logged {
        let engine = DefaultExecutionEngine::with_client_pool(Arc::new(Connections::default()));
        Logged { executor: executor.to_string(), engine }
    }
}

impl ExecutionEngine for Logged {
    fn create_query_stage_exec(
        &self,
        job_id: JobId,
        stage_id: usize,
        task_id: usize,
        global_output_partition_ids: Vec<usize>,
        plan: Arc<dyn ExecutionPlan>,
        work_dir: &str,
        config: &SessionConfig,
    ) -> Result<Arc<dyn QueryStageExecutor>> {
        let job = job_id.to_string();
        let inner = self.engine.create_query_stage_exec(
            job_id,
            stage_id,
            task_id,
            global_output_partition_ids,
            plan,
            work_dir,
            config,
        )?;
        Ok(Arc::new(LoggedTask { executor: self.executor.clone(), job, stage: stage_id, inner }))
    }
}

struct LoggedTask {
    executor: String,
    job: String,
    stage: usize,
    inner: Arc<dyn QueryStageExecutor>,
}

impl Debug for LoggedTask {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        Debug::fmt(&self.inner, f)
    }
}

impl Display for LoggedTask {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        Display::fmt(&self.inner, f)
    }
}

#[async_trait::async_trait]
impl QueryStageExecutor for LoggedTask {
    async fn execute_query_stage(
        &self,
        task_id: usize,
        context: Arc<TaskContext>,
    ) -> Result<Vec<ShuffleWritePartition>> {
        let began = Instant::now();
        let written = self.inner.execute_query_stage(task_id, context).await;
        let (executor, job, stage) = (&self.executor, &self.job, self.stage);
        let millis = began.elapsed().as_millis() as u64;
        match &written {
            Ok(parts) => {
                let rows: u64 = parts.iter().map(|part| part.num_rows).sum();
                tracing::info!(executor, job, stage, task = task_id, rows, millis, "task done");
            }
            // The words of an error may quote values: they go to the client only.
            Err(_) => tracing::warn!(executor, job, stage, task = task_id, millis, "task failed"),
        }
        written
    }

    fn collect_plan_metrics(&self) -> Vec<MetricsSet> {
        self.inner.collect_plan_metrics()
    }

    fn collect_runtime_stats_reports(&self) -> Vec<RuntimeStatsReport> {
        self.inner.collect_runtime_stats_reports()
    }

    fn collect_window_state_reports(&self) -> Result<Vec<WindowStateReport>> {
        self.inner.collect_window_state_reports()
    }

    fn collect_column_stats(&self) -> Vec<TaskColumnStats> {
        self.inner.collect_column_stats()
    }
}
