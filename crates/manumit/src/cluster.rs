//! `manumit cluster`: a Ballista scheduler and executors that know this project's functions, lists and tables.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use manumit_cluster::{ExecutorOptions, SchedulerOptions, execute, executors, schedule};
use manumit_sql::Sql;

use crate::config::Config;
use crate::project::Project;
use crate::reference::load_reference;

/// Longest time for a cluster to come up, and for a process of it to go.
const UP: Duration = Duration::from_secs(120);
const DOWN: Duration = Duration::from_secs(15);

/// How often processes are looked after.
const LOOK: Duration = Duration::from_millis(100);

/// Share of the memory that executors may take together before they spill.
const MEMORY_SHARE: f64 = 0.7;

/// What to run.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Start a scheduler and executors on this machine, until stopped
    Start(StartArgs),
    /// Run a scheduler only
    Scheduler(SchedulerArgs),
    /// Run an executor only
    Executor(ExecutorArgs),
}

/// A whole cluster on this machine.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// Executors
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub executors: u16,
    /// Port of the scheduler; the executors take the ports after it, two each. 0: any that are free
    #[arg(long, default_value_t = 50050)]
    pub port: u16,
    /// Folder for shuffles and spills [default: a temporary folder that goes away]
    #[arg(long)]
    pub work_dir: Option<PathBuf>,
}

/// A scheduler.
#[derive(Debug, Args)]
pub struct SchedulerArgs {
    /// Where clients and executors find it. It asks nobody who they are: keep it on a private network
    #[arg(long, default_value = "127.0.0.1:50050")]
    pub listen: SocketAddr,
    /// Host name that executors reach it by, when it listens on all interfaces
    #[arg(long)]
    pub advertise: Option<String>,
    /// End with the process that started it
    #[arg(long, hide = true)]
    pub until_stdin_ends: bool,
}

/// An executor.
#[derive(Debug, Args)]
pub struct ExecutorArgs {
    /// The scheduler, such as http://127.0.0.1:50050
    #[arg(long)]
    pub scheduler: String,
    /// Where results and shuffles are fetched from it. It asks nobody who they are: keep it on a private network
    #[arg(long, default_value = "127.0.0.1:50051")]
    pub listen: SocketAddr,
    /// Port on which tasks come in [default: the next one]
    #[arg(long)]
    pub task_port: Option<u16>,
    /// Host name that others reach it by, when it listens on all interfaces
    #[arg(long)]
    pub advertise: Option<String>,
    /// Name in reports and logs [default: executor-PORT]
    #[arg(long)]
    pub name: Option<String>,
    /// Partitions worked on at a time [default: one a core]
    #[arg(long)]
    pub cores: Option<usize>,
    /// Folder for shuffles and spills [default: a temporary folder that goes away]
    #[arg(long)]
    pub work_dir: Option<PathBuf>,
    /// Share of the memory that may be taken before it spills, above 0 and up to 1
    #[arg(long, default_value_t = MEMORY_SHARE)]
    pub memory_share: f64,
    /// End with the process that started it
    #[arg(long, hide = true)]
    pub until_stdin_ends: bool,
}

/// Runs until stopped. `common`: the arguments that name project and configuration, for processes that are started.
///
/// # Errors
/// When rules or tables cannot be loaded, a port is taken, or a process ends early.
pub fn cluster(
    folder: &Path,
    config: &Config,
    common: &[String],
    command: &ClusterCommand,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = match command {
        ClusterCommand::Start(args) => {
            // Faults of the project are told once, here, and before anything is started.
            functions(folder, config)?;
            runtime.block_on(start(args, common))
        }
        ClusterCommand::Scheduler(args) => {
            let sql = functions(folder, config)?;
            let options = SchedulerOptions { listen: args.listen, advertise: args.advertise.clone() };
            if args.listen.ip().is_unspecified() && args.advertise.is_none() {
                bail!(
                    "--listen {}: say with --advertise HOST how executors reach the scheduler",
                    args.listen
                );
            }
            tracing::info!(listen = %args.listen, reference = sql.reference().get().digest(), "scheduler started");
            runtime
                .block_on(async { schedule(&options, &sql, stopped(args.until_stdin_ends)).await })
                .map_err(Into::into)
        }
        ClusterCommand::Executor(args) => run_executor(&runtime, args, functions(folder, config)?),
    };
    runtime.shutdown_background();
    done
}

/// Manumit's functions, with the lists of the project and the tables of the configuration.
fn functions(folder: &Path, config: &Config) -> anyhow::Result<Sql> {
    let sql = Sql::new();
    Project::at(folder).rules(&sql)?;
    load_reference(config, &sql)?;
    Ok(sql)
}

fn run_executor(runtime: &tokio::runtime::Runtime, args: &ExecutorArgs, sql: Sql) -> anyhow::Result<()> {
    if !(args.memory_share > 0.0 && args.memory_share <= 1.0) {
        bail!("--memory-share {}: a share is above 0 and at most 1, such as 0.5", args.memory_share);
    }
    let task_port = match args.task_port {
        Some(port) => port,
        None => args.listen.port().checked_add(1).context("--listen: the port after it does not exist")?,
    };
    let work_dir = WorkDir::new(args.work_dir.as_deref(), "executor");
    let name = args.name.clone().unwrap_or_else(|| format!("executor-{}", args.listen.port()));
    let cores = args.cores.unwrap_or_else(cores);
    tracing::info!(executor = name, listen = %args.listen, cores, reference = sql.reference().get().digest(), "executor started");
    let options = ExecutorOptions {
        name,
        listen: args.listen,
        task_port,
        advertise: args.advertise.clone(),
        scheduler: args.scheduler.clone(),
        cores,
        work_dir: work_dir.path.clone(),
        memory_share: args.memory_share,
    };
    runtime.block_on(async {
        if !args.until_stdin_ends {
            // It sees to signals itself, and tells the scheduler that it goes.
            return execute(&options, &sql).await.map_err(Into::into);
        }
        tokio::select! {
            done = execute(&options, &sql) => done.map_err(Into::into),
            () = stdin_ended() => Ok(()),
        }
    })
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A folder; a temporary one goes away.
struct WorkDir {
    path: PathBuf,
    temporary: bool,
}

impl WorkDir {
    fn new(given: Option<&Path>, what: &str) -> WorkDir {
        match given {
            Some(path) => WorkDir { path: path.to_path_buf(), temporary: false },
            None => WorkDir {
                path: std::env::temp_dir().join(format!("manumit-{what}-{}", std::process::id())),
                temporary: true,
            },
        }
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if self.temporary {
            // Left behind, it only takes room.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Ready at SIGINT or SIGTERM, or when the process that holds the other end of standard input is gone.
async fn stopped(with_stdin: bool) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    let stdin = async {
        if with_stdin {
            stdin_ended().await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = stdin => {}
    }
}

async fn stdin_ended() {
    let (sender, ended) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        drop(sender);
    });
    // The sender sends nothing: that it is gone is the message.
    let _ = ended.await;
}

/// A process of the cluster. It ends when its standard input does, whatever becomes of this process.
struct Member {
    name: String,
    child: Child,
}

impl Member {
    fn spawn(name: &str, common: &[String], arguments: &[String]) -> anyhow::Result<Member> {
        let program = std::env::current_exe().context("this program cannot be found to start it again")?;
        let child = Command::new(program)
            .arg("cluster")
            .args(arguments)
            .arg("--until-stdin-ends")
            .args(common)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        Ok(Member { name: name.to_string(), child })
    }

    /// How it ended, when it did.
    fn ended(&mut self) -> anyhow::Result<Option<String>> {
        let status = self.child.try_wait()?;
        Ok(status.map(|status| format!("{} ended early ({status}); see above for what it said", self.name)))
    }
}

/// The processes, the scheduler first; they end with it.
#[derive(Default)]
struct Members(Vec<Member>);

impl Members {
    /// All must be there.
    fn complete(&mut self) -> anyhow::Result<()> {
        for member in &mut self.0 {
            if let Some(how) = member.ended()? {
                bail!(how);
            }
        }
        Ok(())
    }

    /// The work of an executor that is gone is done by the others, as long as there is one.
    fn enough(&mut self) -> anyhow::Result<()> {
        let mut gone = None;
        for (number, member) in self.0.iter_mut().enumerate() {
            match member.ended()? {
                Some(how) if number == 0 => bail!(how),
                Some(how) => gone = Some((number, how)),
                None => {}
            }
        }
        if let Some((number, how)) = gone {
            if self.0.len() == 2 {
                bail!(how);
            }
            eprintln!("{how}; the others go on");
            self.0.remove(number);
        }
        Ok(())
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        // Executors before their scheduler.
        for member in self.0.iter_mut().rev() {
            drop(member.child.stdin.take());
        }
        let began = Instant::now();
        for member in self.0.iter_mut().rev() {
            while matches!(member.child.try_wait(), Ok(None)) {
                if began.elapsed() > DOWN {
                    let _ = member.child.kill();
                    let _ = member.child.wait();
                    break;
                }
                std::thread::sleep(LOOK);
            }
        }
    }
}

async fn start(args: &StartArgs, common: &[String]) -> anyhow::Result<()> {
    let stop = stopped(false);
    tokio::pin!(stop);
    let ports = ports(args.port, 1 + 2 * usize::from(args.executors))?;
    let address = |port: u16| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let url = format!("http://{}", address(ports[0]));
    let work_dir = WorkDir::new(args.work_dir.as_deref(), "cluster");
    let mut members = Members::default();
    let listen = ["scheduler".to_string(), "--listen".into(), address(ports[0]).to_string()];
    members.0.push(Member::spawn("the scheduler", common, &listen)?);
    let began = Instant::now();
    let wanted = usize::from(args.executors);
    // Executors come when their scheduler answers.
    loop {
        members.complete()?;
        match executors(&url).await.map(|all| all.len()) {
            Ok(count) if count >= wanted => break,
            Ok(_) if members.0.len() == 1 => {
                for number in 1..=wanted {
                    let name = format!("executor-{number}");
                    let folder = work_dir.path.join(&name);
                    let arguments = [
                        "executor".to_string(),
                        format!("--name={name}"),
                        format!("--scheduler={url}"),
                        format!("--listen={}", address(ports[2 * number - 1])),
                        format!("--task-port={}", ports[2 * number]),
                        format!("--cores={}", (cores() / wanted).max(1)),
                        format!("--memory-share={}", MEMORY_SHARE / wanted as f64),
                        format!("--work-dir={}", folder.display()),
                    ];
                    members.0.push(Member::spawn(&name, common, &arguments)?);
                }
            }
            _ => {}
        }
        if began.elapsed() > UP {
            bail!("the cluster did not come up within {} seconds", UP.as_secs());
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = &mut stop => return Ok(()),
        }
    }
    println!("scheduler   {url}  pid {}", members.0[0].child.id());
    for (number, member) in members.0.iter().enumerate().skip(1) {
        println!("{}  {}  pid {}", member.name, address(ports[2 * number - 1]), member.child.id());
    }
    println!("ready: manumit backtest --cluster {url} --data …    (Ctrl-C stops the cluster)");
    loop {
        members.enough()?;
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = &mut stop => return Ok(()),
        }
    }
}

/// `count` ports from `first` on, or free ones for 0.
fn ports(first: u16, count: usize) -> anyhow::Result<Vec<u16>> {
    if first > 0 {
        let ports: Vec<u16> = (first..=u16::MAX).take(count).collect();
        if ports.len() < count {
            bail!("--port {first}: {count} ports are needed from there on; take a lower one");
        }
        return Ok(ports);
    }
    // All are held until all are found, so that no two are the same.
    let free = (0..count).map(|_| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let free = free.collect::<std::io::Result<Vec<_>>>().context("no free ports")?;
    Ok(free.iter().map(|held| held.local_addr().map(|a| a.port())).collect::<std::io::Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_follow_the_first_or_are_all_different() {
        assert_eq!(ports(50050, 5).unwrap(), [50050, 50051, 50052, 50053, 50054]);
        assert!(ports(65534, 5).unwrap_err().to_string().contains("take a lower one"));
        let mut free = ports(0, 9).unwrap();
        free.sort_unstable();
        free.dedup();
        assert_eq!(free.len(), 9);
    }
}
