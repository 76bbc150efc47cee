//! `manumit run`: from the command line to a run, its outputs and its end.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, bail};
use clap::Args;
use manumit_archive::Held;
use manumit_feed::Feed;
use manumit_rules::ir::RuleSet;
use manumit_sql::{Reference, Sql};

use crate::archive::Archiver;
use crate::checkpoint::start::{Asked, Exact};
use crate::checks;
use crate::config::Config;
use crate::limits;
use crate::lists::{Lists, Watch};
use crate::outputs::{Outputs, Totals};
use crate::pipeline::Input;
use crate::progress::{Meter, summary};
use crate::project::{Project, rules_of};
use crate::reference::load_files;
use crate::run::{Job, run};
use crate::telemetry::{Metrics, serve};

/// What `manumit run` is told beside the configuration.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Feed: a name under sql/feeds/ or a file; may be given several times [default: those of the configuration]
    #[arg(long)]
    feed: Vec<String>,
    /// Files, folders, patterns, or - for standard input; without it the feed's Kafka topics, or its paths
    #[arg(long, num_args = 1..)]
    from: Vec<String>,
    /// Where alerts go: - (standard output), a file, or kafka:TOPIC
    #[arg(long)]
    alerts: Option<String>,
    /// Where urgent alerts go as well, to wake somebody
    #[arg(long)]
    urgent: Option<String>,
    /// Where rejected records go
    #[arg(long)]
    dead_letters: Option<String>,
    /// Where late rows go
    #[arg(long)]
    late: Option<String>,
    /// Where every hit of every indicator goes, with its values [default: hits are only counted]
    #[arg(long)]
    hits: Option<String>,
    /// A record for every alert revision published, bound together by hashes, is added to this file: see
    /// `manumit verify-log`
    #[arg(long, value_name = "FILE")]
    alert_log: Option<PathBuf>,
    /// Keep accepted transactions here, as Parquet by event date, each once
    #[arg(long, value_name = "DIR")]
    archive: Option<PathBuf>,
    /// Write what was read and what became of it here, a file a day
    #[arg(long, value_name = "DIR")]
    ledger: Option<PathBuf>,
    /// Deliver exactly once, and go on from here after a stop of any kind; needs an archive
    #[arg(long, value_name = "DIR")]
    checkpoints: Option<PathBuf>,
    /// Forget what was read, and read all topics or files again; alerts are published again, too, and output files of a run over
    /// files are written anew
    #[arg(long)]
    from_beginning: bool,
    /// Take the newest checkpoint's word for where the group had come to: when Kafka has forgotten it
    #[arg(long, conflicts_with = "from_beginning")]
    from_checkpoint: bool,
    /// Worker threads [default: one a core]
    #[arg(long)]
    threads: Option<usize>,
    /// Read topics to their present end, then stop
    #[arg(long)]
    until_end: bool,
    /// Serve /metrics, /health and /status here, such as 127.0.0.1:9464
    #[arg(long)]
    listen: Option<String>,
}

/// Runs until its input ends or it is stopped, and again with new lists when they change.
///
/// # Errors
/// When the configuration, rules, feeds or tables have faults, or a source or sink fails.
pub fn service(root: &Path, mut config: Config, args: RunArgs) -> anyhow::Result<()> {
    let set = |place: &mut String, value: Option<String>| {
        if let Some(value) = value {
            *place = value;
        }
    };
    set(&mut config.output.alerts, args.alerts);
    set(&mut config.output.dead_letters, args.dead_letters);
    set(&mut config.output.late, args.late);
    config.output.urgent = args.urgent.or(config.output.urgent);
    config.output.hits = args.hits.or(config.output.hits);
    config.output.alert_log = args.alert_log.or(config.output.alert_log);
    config.archive.folder = args.archive.or(config.archive.folder);
    config.checkpoint.folder = args.checkpoints.or(config.checkpoint.folder);
    config.ledger.folder = args.ledger.or(config.ledger.folder);
    config.threads = args.threads.unwrap_or(config.threads);
    config.server.listen = args.listen.or(config.server.listen);
    let names = if args.feed.is_empty() { config.feeds.clone() } else { args.feed };
    if names.is_empty() {
        bail!("no feed is named: give --feed NAME, or `feeds = [\"NAME\"]` in manumit.toml");
    }
    let project = Project::at(root);
    if project.is_built_in() {
        note!("no rules/ or sql/ in {}: using the built-in pack", root.display());
    }
    let sql = Sql::new();
    let mut sources = project.sources()?;
    let rules = Arc::new(rules_of(&sources, &sql)?);
    let mut reference = load_files(&config, &sql)?;
    let mut feeds = Vec::new();
    for name in &names {
        feeds.push(project.feed(name, &sql, &args.from)?.with_future(config.future()?));
    }
    let feeds = Arc::new(feeds);
    let longest = crate::pipeline::longest_record(&feeds);
    limits::settle(&mut config, longest, reference.room.files())?;
    crate::budget::check(&rules, &config)?;
    let look_every = config.lists.every()?;
    let metrics = Metrics::new()?;
    let at_most =
        limits::parts(&config, longest, reference.room.files()).iter().map(|part| part.bytes).sum::<u64>();
    metrics.limit.set(config.limits.memory.as_deref().and_then(limits::bytes).unwrap_or(0) as i64);
    let (stop, signalled) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut meter = Meter::new(std::io::stderr().is_terminal());
    let mut asked = Asked { from_beginning: args.from_beginning, from_checkpoint: args.from_checkpoint };
    let mut totals: Option<Totals> = None;
    // Once, and again when a service makes way for new versions of lists.
    let head = loop {
        let input = checks::input(&feeds, &args.from, args.until_end, &config)?;
        let follows = matches!(input, Input::Kafka { until_end: false, .. });
        let begun = Begun::of(&config, &rules, &feeds, &input, asked)?;
        let Begun { exact, archive, mut outputs } = begun;
        if totals.is_none() {
            if let Some(listen) = &config.server.listen {
                let address = runtime
                    .block_on(serve(listen, metrics.clone()))
                    .with_context(|| format!("`{listen}` cannot be listened on"))?;
                note!("metrics on http://{address}/metrics, health on http://{address}/health");
            }
            runtime.spawn(on_signal(stop.clone(), signalled.clone()));
            if matches!(input, Input::Kafka { .. }) && exact.is_none() {
                tracing::warn!(
                    "delivery is at least once, and windows begin empty, as the run has no `[checkpoint] folder`; nothing keeps a second run of \
                     the same group from sharing its partitions (docker/DELIVERY.md)"
                );
            }
            tracing::info!(feeds = ?names, indicators = rules.indicators.len(), typologies = rules.typologies.len(), rule_set = %rules.hash, memory_at_most_mib = at_most >> 20, "started");
        }
        let watched = project.folder().zip(look_every).filter(|_| follows);
        let watch = watched.map(|(folder, every)| Watch::start(folder, &sources, &rules.hash, every));
        let job = Job {
            config: config.clone(),
            sql: sql.clone(),
            rules: rules.clone(),
            feeds: feeds.clone(),
            input,
            reference,
            archive,
            exact,
            lists: Arc::new(Lists::of(&sources)),
            watch: watch.transpose()?,
        };
        let ended = run(job, &mut outputs, &metrics, &mut meter, &stop)?;
        match &mut totals {
            Some(totals) => totals.add(ended.totals),
            None => totals = Some(ended.totals),
        }
        let head = outputs.log().map(|(path, head)| (path.to_path_buf(), head.records, head.hash.clone()));
        let Some(lists) = ended.lists else { break head };
        // The run has set it for its own threads; a signal since then still counts.
        stop.store(false, Ordering::Relaxed);
        if signalled.load(Ordering::Relaxed) {
            break head;
        }
        asked = Asked { from_beginning: false, from_checkpoint: false };
        sources = lists.within(&sources);
        sql.reference().update(|reference| *reference = Reference::default());
        lists.put_into(&sql).map_err(|faults| anyhow::anyhow!("{faults}"))?;
        reference = load_files(&config, &sql)?;
    };
    if let Some(totals) = &totals {
        note!("{}", summary(totals, meter.seconds));
    }
    if let Some((path, records, hash)) = head {
        note!("alert log {}: {records} records, the last one has the hash {hash}", path.display());
    }
    runtime.shutdown_background();
    Ok(())
}

/// What a run begins with, whether it is the first or taken up again.
struct Begun {
    exact: Option<Exact>,
    archive: Option<Archiver>,
    outputs: Outputs,
}

impl Begun {
    fn of(
        config: &Config,
        rules: &RuleSet,
        feeds: &[Feed],
        input: &Input,
        asked: Asked,
    ) -> anyhow::Result<Begun> {
        let anew = matches!(input, Input::Files(_));
        crate::checkpoint::delivery::check(config, !anew)?;
        let output = &config.output;
        let to_kafka = output.targets().any(|target| target.starts_with("kafka:"));
        let settings = config.kafka.settings();
        if to_kafka || matches!(input, Input::Kafka { .. }) {
            settings.check()?;
        }
        let plan = config.archive.plan()?;
        if let Some(plan) = &plan {
            crate::archive::lookback::check(rules, plan)?;
        }
        // Whoever holds the archive is not fenced by a second start. Copies are fetched before a writer begins.
        let held = plan.as_ref().map(|plan| Held::take(&plan.folder).context("the archive")).transpose()?;
        let exact = Exact::find(config, &settings, feeds, input, asked)?;
        let committed = exact.as_ref().map(Exact::committed).unwrap_or_default();
        let archive =
            plan.zip(held).map(|(plan, held)| Archiver::start(plan, held, &committed)).transpose()?;
        let outputs = match &exact {
            Some(exact) => Outputs::committed(&config.output, exact.commits(), &exact.lengths(config)?)?,
            None => Outputs::open(&config.output, to_kafka.then_some(&settings), anew)?,
        };
        Ok(Begun { exact, archive, outputs })
    }
}

/// Sets `stop` at the first SIGINT or SIGTERM; the second one ends the process at once.
pub async fn on_signal(stop: Arc<AtomicBool>, signalled: Arc<AtomicBool>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if signalled.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        stop.store(true, Ordering::Relaxed);
        note!("stopping: finishing what was read (once more to stop at once)");
    }
}
