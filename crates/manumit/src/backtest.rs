//! `manumit backtest`: unchanged typology files over past transactions.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, bail};
use chrono::NaiveDate;
use clap::Args;
use manumit_backtest::Setup;
use manumit_backtest::compare::overlaps;
use manumit_backtest::history::{History, Period};
use manumit_backtest::labels::Labels;
use manumit_backtest::report::{Against, Report, report, segments};
use manumit_cluster::Cluster;
use manumit_feed::Enricher;
use manumit_rules::ir::RuleSet;
use manumit_sql::Sql;

use crate::budget;
use crate::config::Config;
use crate::mapped::map_files;
use crate::passes::{Outcome, Pass};
use crate::project::Project;
use crate::reference::load_reference;

/// What to backtest.
#[derive(Debug, Args)]
pub struct BacktestArgs {
    /// Typology or indicator; may be given several times [default: all]
    #[arg(long, value_name = "ID")]
    pub typology: Vec<String>,
    /// First day that counts (UTC); earlier transactions only fill the windows [default: the first there is]
    #[arg(long, value_name = "DATE")]
    pub from: Option<NaiveDate>,
    /// Last day that counts (UTC) [default: the last there is]
    #[arg(long, value_name = "DATE")]
    pub to: Option<NaiveDate>,
    /// An archive, or Parquet or CSV files or folders with canonical columns; with --feed, files of that feed
    #[arg(long, num_args = 1.., required = true)]
    pub data: Vec<PathBuf>,
    /// Map the data with this feed first: a name under sql/feeds/ or a file
    #[arg(long)]
    pub feed: Option<String>,
    /// Another version of the rules to compare with: a project folder, or a git revision of this one
    #[arg(long, value_name = "RULES_REV")]
    pub against: Option<String>,
    /// Known cases, the CSV of `manumit evaluate --truth`: subject, and if wanted case, typology, label and others
    #[arg(long)]
    pub labels: Option<PathBuf>,
    /// Column of transactions to compare alert rates by; may be given several times
    #[arg(long, value_name = "COLUMN", default_values_t = [String::from("feed")])]
    pub segment: Vec<String>,
    /// Folder for report.html and report.json
    #[arg(long, default_value = "backtest")]
    pub out: PathBuf,
    /// Write every hit with its values here, one JSON object a line
    #[arg(long)]
    pub hits: Option<PathBuf>,
    /// Write every alert in full here, one JSON object a line
    #[arg(long)]
    pub alerts: Option<PathBuf>,
    /// Do not name parties and transactions in alerts: memory holds the windows only [default for more than 10 million
    /// transactions, unless --alerts is given]
    #[arg(long)]
    pub without_evidence: bool,
    /// Take also what came late when it was live
    #[arg(long)]
    pub with_late: bool,
    /// Go on without files that are damaged or foreign, and say which
    #[arg(long)]
    pub skip_bad_files: bool,
    /// Ask DataFusion for each indicator's own SQL as well, and compare hit for hit; code 2 where they differ
    #[arg(long)]
    pub verify: bool,
    /// Find the hits on a cluster, such as http://127.0.0.1:50050, and compare; see `manumit cluster start`
    #[arg(long, value_name = "URL")]
    pub cluster: Option<String>,
    /// Worker threads [default: one a core]
    #[arg(long)]
    pub threads: Option<usize>,
}

/// Rows up to which alerts name parties and transactions without being asked.
const EVIDENCE_ROWS: u64 = 10_000_000;

/// Runs the backtest, writes the report, and gives it.
///
/// # Errors
/// When rules, data or labels cannot be used, or the report cannot be written.
pub fn backtest(
    folder: &Path,
    config: &Config,
    args: &BacktestArgs,
    stop: &Arc<AtomicBool>,
    runtime: &tokio::runtime::Runtime,
) -> anyhow::Result<Report> {
    // What can be refused is refused before anything takes long.
    let (rules, sql) = rules_of(&Project::at(folder), config, &args.typology)?;
    let labels = args.labels.as_deref().map(Labels::read).transpose()?;
    let other = match &args.against {
        None => None,
        Some(name) => Some(other_rules(folder, name, config, &args.typology)?),
    };
    std::fs::create_dir_all(&args.out).with_context(|| format!("{} cannot be made", args.out.display()))?;
    let threads = args.threads.unwrap_or_else(|| config.worker_threads());
    let mut mapped = None;
    let mut notes = Vec::new();
    let data = match &args.feed {
        None => {
            // Only a feed knows what its records mean.
            let raw = |path: &&PathBuf| {
                let kind = path.extension().map(|kind| kind.to_string_lossy().to_lowercase());
                path.is_file() && matches!(kind.as_deref(), Some("jsonl" | "ndjson" | "json" | "txt" | "tsv"))
            };
            if let Some(path) = args.data.iter().find(raw) {
                bail!(
                    "{} holds records of a bank, not canonical columns: give --feed NAME, the feed that maps them (`manumit feed new` \
                     begins one)",
                    path.display()
                );
            }
            args.data.clone()
        }
        Some(feed) => {
            let paths: Vec<String> = args.data.iter().map(|path| path.display().to_string()).collect();
            let feed = Project::at(folder).feed(feed, &sql, &paths)?.with_future(config.future()?);
            let enricher = Enricher::new(&config.base_currency, sql.reference().clone());
            // Beside the report, where there is room: it goes away with the guard.
            let scratch = Scratch(args.out.join(format!(".mapped-{}", std::process::id())));
            std::fs::create_dir_all(&scratch.0)?;
            let file = scratch.0.join("history.parquet");
            let horizon = config.duplicates.horizon_micros()?;
            notes = map_files(feed, &paths, &enricher, threads, horizon, &file, stop)?.words();
            mapped = Some(scratch);
            vec![file]
        }
    };
    let mut history = runtime.block_on(History::open_with(&data, args.with_late, args.skip_bad_files))?;
    history.notes.iter().for_each(|note| eprintln!("{note}"));
    history.notes.extend(notes);
    if mapped.is_some() {
        history.files = args.data.clone();
    }
    // Evidence holds the rows of the longest window in memory. Of a long history it is worked out when it is asked for.
    let rows = runtime.block_on(history.rows_in_files())?;
    let evidence = !args.without_evidence && (args.alerts.is_some() || rows <= EVIDENCE_ROWS);
    if !evidence && !args.without_evidence {
        let note = format!(
            "alerts name no parties and transactions, as the history has {rows} rows; with --alerts FILE they do, which needs \
             memory for all transactions of the longest window"
        );
        eprintln!("{note}");
        history.notes.push(note);
    }
    let history = Arc::new(history);
    for column in &args.segment {
        if !history.columns.contains(column) {
            let near = manumit_model::nearest(column, history.columns.iter().map(String::as_str));
            let near = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            bail!("--segment {column}: the data have no such column{near}");
        }
    }
    let period = Period::days(args.from, args.to);
    let mut setup = Setup {
        rules,
        sql,
        base_currency: config.base_currency.clone(),
        threads,
        period,
        keep_transactions: evidence,
        hits: args.hits.clone(),
        alerts: args.alerts.clone(),
        only_keys: None,
        state: budget::limit(&config.state, threads)?,
        most_state: Some(budget::most(&config.state)?),
        most_transactions: Some(budget::most_transactions(&config.state)?),
    };
    // Keys and rows that go between a cluster and this process, and hits that are compared.
    let scratch = Scratch(args.out.join(format!(".compared-{}", std::process::id())));
    if args.verify || args.cluster.is_some() {
        std::fs::create_dir_all(&scratch.0)?;
    }
    let one_pass = |setup: &Setup, name: &str| -> anyhow::Result<(Outcome, Option<Cluster>)> {
        let passing = Pass { runtime, history: &history, setup, stop, name, scratch: &scratch.0 };
        match &args.cluster {
            None => Ok((passing.here(args.verify)?, None)),
            Some(url) => {
                let cluster = runtime.block_on(Cluster::connect(url, &setup.sql))?;
                Ok((passing.on(&cluster)?, Some(cluster)))
            }
        }
    };
    let (Outcome { findings, checked, cluster: used }, cluster) = one_pass(&setup, "backtest")?;
    let mut against = None;
    if let Some((name, other, sql)) = other {
        setup = Setup { rules: other, sql, hits: None, alerts: None, ..setup };
        let old = one_pass(&setup, &name)?.0.findings;
        against = Some(Against {
            name,
            rule_set_hash: old.rules.clone(),
            alerts: old.alerts.len(),
            overlaps: overlaps(&findings, &old),
        });
    }
    let mut by_segment = Vec::new();
    let (session, folder) = match &cluster {
        Some(cluster) => (cluster.session(), Some(scratch.0.as_path())),
        None => (history.session(), None),
    };
    for column in &args.segment {
        by_segment.extend(runtime.block_on(segments(session, folder, &history, &period, &findings, column))?);
    }
    let quality = labels.map_or(Vec::new(), |labels| labels.quality(&findings));
    drop(mapped);
    drop(scratch);
    let mut report = report(&history, &period, &findings, by_segment, quality, against);
    (report.checked, report.cluster) = (checked, used);
    for (name, text) in [("report.json", report.json()?), ("report.html", report.html()?)] {
        let path = args.out.join(name);
        std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(report)
}

/// A folder that goes away.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind, it only takes room.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Rules of a project, those asked for only, in a session of their own: lists and reference tables belong to it.
fn rules_of(project: &Project, config: &Config, ids: &[String]) -> anyhow::Result<(Arc<RuleSet>, Sql)> {
    let sql = Sql::new();
    let mut rules = project.rules(&sql)?;
    load_reference(config, &sql)?;
    if !ids.is_empty() {
        rules = match rules.only(ids) {
            Ok(chosen) => chosen,
            Err(unknown) => bail!("{}", rules.absent(&unknown)),
        };
    }
    Ok((Arc::new(rules), sql))
}

/// The rules of another folder, or of a git revision of this project.
fn other_rules(
    folder: &Path,
    name: &str,
    config: &Config,
    ids: &[String],
) -> anyhow::Result<(String, Arc<RuleSet>, Sql)> {
    let kept: Option<PathBuf>;
    let project = if Path::new(name).is_dir() {
        kept = None;
        Project::at(Path::new(name))
    } else {
        let checkout = std::env::temp_dir().join(format!("manumit-rules-{}", std::process::id()));
        checkout_rules(folder, name, &checkout)?;
        let project = Project::at(&checkout);
        kept = Some(checkout);
        project
    };
    // A typology that one version only has is compared with nothing.
    let loaded = rules_of(&project, config, &[]).map(|(rules, sql)| {
        let known: Vec<String> = ids
            .iter()
            .filter(|id| {
                rules.typologies.iter().any(|t| t.meta.id == **id)
                    || rules.indicators.iter().any(|i| i.meta.id == **id)
            })
            .cloned()
            .collect();
        let rules = if ids.is_empty() { Ok((*rules).clone()) } else { rules.only(&known) };
        (rules.unwrap_or_default(), sql)
    });
    if let Some(checkout) = kept {
        // Left behind, it only takes room.
        let _ = std::fs::remove_dir_all(checkout);
    }
    let (rules, sql) = loaded.with_context(|| format!("the rules of {name}"))?;
    Ok((name.to_string(), Arc::new(rules), sql))
}

/// Writes `rules/` and `sql/` of a revision to a folder, by the `git` that the project is kept with.
fn checkout_rules(folder: &Path, revision: &str, to: &Path) -> anyhow::Result<()> {
    let git = |arguments: &[&str]| -> anyhow::Result<Vec<u8>> {
        let output = Command::new("git")
            .arg("-C")
            .arg(folder)
            .args(arguments)
            .output()
            .context("`git` cannot be started; give a folder with the other rules")?;
        if !output.status.success() {
            bail!(
                "--against {revision}: neither a folder nor a git revision of {}: {}",
                folder.display(),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(output.stdout)
    };
    let commit = git(&["rev-parse", "--verify", "--end-of-options", &format!("{revision}^{{commit}}")])?;
    let commit = String::from_utf8_lossy(&commit).trim().to_string();
    let list = git(&["ls-tree", "-r", "--name-only", "-z", &commit, "rules", "sql"])?;
    for name in String::from_utf8_lossy(&list).split('\0').filter(|name| !name.is_empty()) {
        let text = git(&["show", &format!("{commit}:./{name}")])?;
        let path = to.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, text)?;
    }
    if !to.is_dir() {
        bail!("--against {revision}: that revision has neither rules/ nor sql/");
    }
    Ok(())
}

/// What is printed at the end.
pub fn words(report: &Report, out: &Path) -> String {
    use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};
    let mut table = Table::new();
    table.load_preset(UTF8_BORDERS_ONLY);
    let mut header = vec!["typology", "alerts", "urgent", "subjects"];
    if report.against.is_some() {
        header.extend(["same", "gained", "lost"]);
    }
    if !report.quality.is_empty() {
        header.extend(["precision", "recall"]);
    }
    let width = header.len();
    table.set_header(header);
    for typology in &report.typologies {
        let mut row = vec![
            typology.id.clone(),
            typology.alerts.to_string(),
            typology.urgent.to_string(),
            typology.subjects.to_string(),
        ];
        if let Some(against) = &report.against {
            match against.overlaps.iter().find(|o| o.typology == typology.id) {
                Some(o) => row.extend([o.same, o.gained, o.lost].map(|n| n.to_string())),
                None => row.extend(["", "", ""].map(String::from)),
            }
        }
        if let Some(quality) = report.quality.iter().find(|q| q.typology == typology.id) {
            let percent = |share: Option<f64>| share.map_or("–".into(), |s| format!("{:.1} %", s * 100.0));
            row.extend([percent(quality.precision), percent(quality.recall)]);
        }
        table.add_row(row);
    }
    for column in 1..width {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut more = String::new();
    if let Some(checked) = &report.checked {
        for indicator in &checked.indicators {
            more.push_str(&format!("\n{}", indicator.words(checked.by)));
        }
    }
    if let Some(cluster) = &report.cluster {
        more.push_str(&format!(
            "\ncluster {}: {} queries, {} stages, {} tasks in {:.1} s; {} transactions of {} keys replayed here",
            cluster.scheduler,
            cluster.jobs,
            cluster.stages,
            cluster.tasks,
            cluster.seconds,
            cluster.fetched,
            cluster.keys
        ));
        for executor in &cluster.executors {
            more.push_str(&format!(
                "\n  {} ({}, {} cores): {} tasks, {} rows, {:.1} s",
                executor.name,
                executor.address,
                executor.cores,
                executor.tasks,
                executor.rows,
                executor.seconds
            ));
        }
    }
    format!(
        "{table}{more}\n{} alerts about {} subjects; {} transactions from {} to {} in {:.1} s ({:.0}/s)\nreport: {}",
        report.alerts,
        report.subjects,
        report.rows,
        report.from,
        report.to,
        report.seconds,
        report.rows as f64 / report.seconds.max(0.001),
        out.join("report.html").display()
    )
}
