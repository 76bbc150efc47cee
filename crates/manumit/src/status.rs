//! `manumit status`: how a run is doing, from itself, or from what the last one left.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::ledger::{AlertLine, Folder, PartitionLine, What};

/// What `/status` gives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub program: String,
    /// `true`: a run told it; `false`: it is what a run that is gone wrote last.
    pub running: bool,
    /// When this was written, RFC 3339 UTC.
    pub written_at: String,
    /// Since when is counted, RFC 3339 UTC; of a ledger file: which day.
    pub since: String,
    /// What keeps the run from going on for now.
    pub trouble: Option<String>,
    /// A sum of the ledger that does not hold.
    pub violation: Option<String>,
    /// Event time that all partitions have passed, RFC 3339 UTC.
    pub watermark: Option<String>,
    /// Messages not yet read, of all partitions; `null` when not known.
    pub lag: Option<u64>,
    /// By feed and partition.
    pub partitions: Vec<PartitionLine>,
    /// Alerts of all feeds.
    pub alerts: Option<AlertLine>,
    /// The last checkpoint, of a run that makes them.
    pub checkpoint: Option<LastCheckpoint>,
}

/// The last checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastCheckpoint {
    /// Its number.
    pub number: u64,
    /// When it was committed, RFC 3339 UTC; `null` when an earlier run did.
    pub at: Option<String>,
}

/// Arguments of `manumit status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Where the run serves its state [default: `[server] listen` of the configuration]
    #[arg(long)]
    listen: Option<String>,
    /// Folder of daily ledger files [default: `[ledger] folder` of the configuration]
    #[arg(long, value_name = "DIR")]
    ledger: Option<PathBuf>,
    /// JSON in place of a table
    #[arg(long)]
    json: bool,
}

/// Asks the run, or reads what the last one wrote. Also says whether all is well: no trouble, and all sums hold.
///
/// # Errors
/// When no run answers and none has left anything.
pub fn status(config: &Config, args: &StatusArgs) -> anyhow::Result<(String, bool)> {
    let listen = args.listen.as_ref().or(config.server.listen.as_ref());
    let folder = args.ledger.as_ref().or(config.ledger.folder.as_ref());
    let asked = listen.map(|listen| ask(listen).with_context(|| format!("no run answers at {listen}")));
    let (status, note) = match (asked, folder) {
        (Some(Ok(status)), _) => (status, None),
        (asked, Some(folder)) => {
            let why = match asked {
                Some(Err(error)) => format!("{error:#}"),
                _ => "no address to ask is known (`[server] listen`)".into(),
            };
            match left(folder)? {
                Some(status) => (status, Some(why)),
                None => bail!(
                    "{why}, and there is no ledger in `{}`: start `manumit run` with --listen, or name the folder of a run that \
                     wrote one",
                    folder.display()
                ),
            }
        }
        (Some(Err(error)), None) => {
            return Err(error.context(
                "nothing runs here: start `manumit run` with --listen and this address; with `[ledger] folder` the last state of \
                 a run that has ended can be seen, too",
            ));
        }
        (None, None) => bail!(
            "nobody can be asked: set `[server] listen` (as `manumit run` has it), or `[ledger] folder` for the state that the \
             last run left"
        ),
    };
    let sums = status.partitions.iter().all(|line| line.balances)
        && status.alerts.is_none_or(|alerts| alerts.balances);
    let well = sums && status.trouble.is_none() && status.violation.is_none();
    if args.json {
        return Ok((serde_json::to_string_pretty(&status)?, well));
    }
    Ok((table(&status, note.as_deref()), well))
}

/// A request over plain HTTP, as small as it can be.
fn ask(listen: &str) -> anyhow::Result<Status> {
    let mut last = anyhow!("`{listen}` is no address; write for example 127.0.0.1:9464");
    for address in listen.to_socket_addrs().context("it is no address; write for example 127.0.0.1:9464")? {
        // What is listened on everywhere answers here.
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        match get(SocketAddr::new(ip, address.port()), listen) {
            Ok(body) => return serde_json::from_str(&body).context("what answers there is no manumit run"),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

fn get(address: SocketAddr, host: &str) -> std::io::Result<String> {
    let wait = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&address, wait)?;
    stream.set_read_timeout(Some(wait))?;
    stream.set_write_timeout(Some(wait))?;
    // HTTP/1.0: the answer ends with the connection.
    write!(stream, "GET /status HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_string()))
}

/// What a run that is gone wrote last.
fn left(folder: &std::path::Path) -> anyhow::Result<Option<Status>> {
    let Some(lines) = Folder::last(folder)? else { return Ok(None) };
    let mut status = Status { program: env!("CARGO_PKG_VERSION").into(), ..Status::default() };
    for line in lines {
        status.written_at = line.written_at;
        status.since = line.day;
        match line.what {
            What::Partition(line) => status.partitions.push(line),
            What::Alerts(line) => status.alerts = Some(line),
        }
    }
    Ok(Some(status))
}

fn table(status: &Status, note: Option<&str>) -> String {
    let mut out = String::new();
    let _ = match note {
        Some(why) => writeln!(
            out,
            "not running ({why})\nthe last ledger: day {}, written {}",
            status.since, status.written_at
        ),
        None => writeln!(
            out,
            "running, manumit {}; counted since {}, state of {}",
            status.program, status.since, status.written_at
        ),
    };
    if let Some(trouble) = &status.trouble {
        let _ = writeln!(out, "TROUBLE: {trouble}");
    }
    if let Some(violation) = &status.violation {
        let _ = writeln!(out, "VIOLATION: {violation}");
    }
    if let Some(watermark) = &status.watermark {
        let _ = writeln!(out, "watermark {watermark}");
    }
    let mut table = Table::new();
    table.load_preset(UTF8_BORDERS_ONLY).set_header([
        "feed",
        "source",
        "next",
        "lag",
        "watermark",
        "brought",
        "read",
        "further",
        "evaluated",
        "late",
        "duplicates",
        "conflicts",
        "dead",
        "filtered",
        "waiting",
        "sum",
    ]);
    for line in &status.partitions {
        let counts = &line.counts;
        let dead: u64 = counts.dead_letters.values().sum();
        table.add_row([
            line.feed.clone(),
            format!("{}:{}", line.source, line.partition),
            line.next_offset.to_string(),
            line.lag.map_or_else(|| "-".into(), |lag| lag.to_string()),
            line.watermark.clone().unwrap_or_else(|| "-".into()),
            counts.brought.to_string(),
            counts.read.to_string(),
            counts.further.to_string(),
            counts.evaluated.to_string(),
            counts.late.to_string(),
            counts.duplicates.to_string(),
            line.conflicts.to_string(),
            dead.to_string(),
            counts.filtered.to_string(),
            counts.waiting.to_string(),
            if line.balances { "ok" } else { "WRONG" }.into(),
        ]);
    }
    let _ = writeln!(out, "{table}");
    for line in status.partitions.iter().filter(|line| !line.counts.dead_letters.is_empty()) {
        let reasons: Vec<String> =
            line.counts.dead_letters.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let _ = writeln!(
            out,
            "dead letters of {} ({}:{}): {}",
            line.feed,
            line.source,
            line.partition,
            reasons.join(", ")
        );
    }
    if let Some(AlertLine { counts, balances }) = &status.alerts {
        let _ = writeln!(
            out,
            "alerts: {} raised = {} published + {} suppressed ({}); {} hits of gates silenced by an exclusion",
            counts.raised,
            counts.published,
            counts.suppressed,
            if *balances { "ok" } else { "WRONG" },
            counts.excluded
        );
    }
    let _ = match &status.checkpoint {
        Some(LastCheckpoint { number, at: Some(at) }) => write!(out, "last checkpoint {number}, {at}"),
        Some(LastCheckpoint { number, at: None }) => {
            write!(out, "last checkpoint {number}, of an earlier run")
        }
        None => write!(out, "no checkpoints"),
    };
    out
}
