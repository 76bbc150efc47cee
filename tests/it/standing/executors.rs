//! A scheduler and two executors of Apache DataFusion Ballista, and sessions whose queries run there.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use datafusion::physical_plan::collect;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use manumit_cluster::{Cluster, ExecutorOptions, SchedulerOptions, execute, executors, schedule};
use manumit_sql::Sql;
use parquet::arrow::ArrowWriter;
use tokio::runtime::Runtime;

/// The cluster; it ends with this value.
pub struct Executors {
    runtime: Runtime,
    scheduler: String,
    sql: Sql,
    /// Lists and tables as files.
    reference: Vec<(&'static str, PathBuf)>,
    idle: Mutex<Vec<Cluster>>,
    /// Names of those that have worked.
    workers: Mutex<BTreeSet<String>>,
}

/// Writes rows to a file that was not there before: schedulers remember what they know of files.
pub fn write(path: &Path, rows: &RecordBatch) {
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), rows.schema(), None).unwrap();
    writer.write(rows).unwrap();
    writer.close().unwrap();
}

/// Writes lists and tables to a folder.
pub fn write_reference(folder: &Path, sql: &Sql) -> Vec<(&'static str, PathBuf)> {
    std::fs::create_dir_all(folder).unwrap();
    let all = sql.reference().get().batches().unwrap().into_iter();
    all.map(|(name, rows)| {
        let path = folder.join(format!("{name}.parquet"));
        write(&path, &rows);
        (name, path)
    })
    .collect()
}

fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

impl Executors {
    /// Starts the cluster; all rules that are asked about look into the lists and tables of `sql`.
    pub fn start(folder: &Path, sql: Sql) -> Executors {
        let runtime = Runtime::new().unwrap();
        let listen = free_address();
        let scheduler = format!("http://{listen}");
        let functions = sql.clone();
        runtime.spawn(async move {
            let options = SchedulerOptions { listen, advertise: None };
            schedule(&options, &functions, std::future::pending()).await.unwrap();
        });
        for name in ["one", "two"] {
            let options = ExecutorOptions {
                name: name.into(),
                listen: free_address(),
                task_port: free_address().port(),
                advertise: None,
                scheduler: scheduler.clone(),
                cores: 1,
                work_dir: folder.join(name),
                memory_share: 0.1,
            };
            let functions = sql.clone();
            runtime.spawn(async move { execute(&options, &functions).await.unwrap() });
        }
        let began = Instant::now();
        while runtime.block_on(executors(&scheduler)).map_or(0, |all| all.len()) < 2 {
            assert!(began.elapsed() < Duration::from_secs(60), "the cluster did not come up");
            std::thread::sleep(Duration::from_millis(50));
        }
        let reference = write_reference(&folder.join("reference"), &sql);
        let (idle, workers) = (Mutex::default(), Mutex::default());
        Executors { runtime, scheduler, sql, reference, idle, workers }
    }

    /// The answers to several lists of queries over tables, which are files: all that a list gives, or why there is none.
    pub fn answers(
        &self,
        tables: &[(&str, PathBuf)],
        questions: &[Vec<String>],
    ) -> Result<Vec<Result<Vec<RecordBatch>, String>>, String> {
        let known = self.idle.lock().unwrap().pop();
        self.runtime.block_on(async {
            let cluster = match known {
                Some(cluster) => cluster,
                None => {
                    let connected = Cluster::connect(&self.scheduler, &self.sql).await;
                    let cluster = connected.map_err(|e| e.to_string())?;
                    register(cluster.session(), &self.reference).await?;
                    cluster
                }
            };
            register(cluster.session(), tables).await?;
            let mut all = Vec::new();
            for queries in questions {
                all.push(self.answer(&cluster, queries).await);
            }
            self.idle.lock().unwrap().push(cluster);
            Ok(all)
        })
    }

    async fn answer(&self, cluster: &Cluster, queries: &[String]) -> Result<Vec<RecordBatch>, String> {
        let mut answer = Vec::new();
        for query in queries {
            answer.extend(self.ask(cluster, query).await.map_err(|e| format!("{e}\n{query}"))?);
        }
        Ok(answer)
    }

    async fn ask(&self, cluster: &Cluster, query: &str) -> Result<Vec<RecordBatch>, String> {
        let session = cluster.session();
        let plan = session.sql(query).await.map_err(|e| e.to_string())?;
        let plan = plan.create_physical_plan().await.map_err(|e| e.to_string())?;
        let answer = collect(plan.clone(), session.task_ctx()).await.map_err(|e| e.to_string())?;
        // Until both have been seen at work.
        if self.workers.lock().unwrap().len() < 2 {
            let status = cluster.status(&plan).await.map_err(|e| e.to_string())?;
            let tasks = status.into_iter().flat_map(|job| job.stages).flat_map(|stage| stage.tasks);
            self.workers.lock().unwrap().extend(tasks.map(|task| task.executor));
        }
        Ok(answer)
    }

    /// Who has worked.
    pub fn workers(&self) -> Vec<String> {
        self.workers.lock().unwrap().iter().cloned().collect()
    }
}

async fn register(session: &SessionContext, tables: &[(&str, PathBuf)]) -> Result<(), String> {
    for (name, path) in tables {
        session.deregister_table(*name).map_err(|e| e.to_string())?;
        let path = path.display().to_string();
        session
            .register_parquet(*name, path, ParquetReadOptions::default())
            .await
            .map_err(|e| e.to_string())?;
    }
    Ok(())
}
