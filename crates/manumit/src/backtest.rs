//! `manumit backtest`: unchanged typology files over past transactions.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use chrono::NaiveDate;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use manumit_backtest::compare::overlaps;
use manumit_backtest::findings::Findings;
use manumit_backtest::history::{History, Period};
use manumit_backtest::labels::Labels;
use manumit_backtest::report::{Against, Report, report, segments};
use manumit_backtest::{Setup, Watch, run};
use manumit_feed::Enricher;
use manumit_rules::ir::RuleSet;
use manumit_sql::Sql;

use crate::config::Config;
use crate::mapped::map_files;
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
    /// Parquet or CSV files or folders with canonical columns; with --feed, files of that feed
    #[arg(long, num_args = 1.., required = true)]
    pub data: Vec<PathBuf>,
    /// Map the data with this feed first: a name under sql/feeds/ or a file
    #[arg(long)]
    pub feed: Option<String>,
    /// Another version of the rules to compare with: a project folder, or a git revision of this one
    #[arg(long, value_name = "RULES_REV")]
    pub against: Option<String>,
    /// Known cases: a CSV with the columns subject, typology, label
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
    /// Do not name parties and transactions in alerts: memory holds the windows only
    #[arg(long)]
    pub without_evidence: bool,
    /// Take also what came late when it was live
    #[arg(long)]
    pub with_late: bool,
    /// Worker threads [default: one a core]
    #[arg(long)]
    pub threads: Option<usize>,
}

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
        None => args.data.clone(),
        Some(feed) => {
            let paths: Vec<String> = args.data.iter().map(|path| path.display().to_string()).collect();
            let feed = Project::at(folder).feed(feed, &sql, &paths)?;
            let enricher = Enricher::new(&config.base_currency, sql.reference().clone());
            // Beside the report, where there is room: it goes away with the guard.
            let scratch = Scratch(args.out.join(format!(".mapped-{}", std::process::id())));
            std::fs::create_dir_all(&scratch.0)?;
            let file = scratch.0.join("history.parquet");
            notes = map_files(feed, &paths, &enricher, threads, &file, stop)?.words();
            mapped = Some(scratch);
            vec![file]
        }
    };
    let mut history = runtime.block_on(History::open(&data, args.with_late))?;
    history.notes.extend(notes);
    if mapped.is_some() {
        history.files = args.data.clone();
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
        keep_transactions: !args.without_evidence,
        hits: args.hits.clone(),
        alerts: args.alerts.clone(),
    };
    let findings = pass(runtime, &history, &setup, stop, "backtest")?;
    let mut against = None;
    if let Some((name, other, sql)) = other {
        setup = Setup { rules: other, sql, hits: None, alerts: None, ..setup };
        let old = pass(runtime, &history, &setup, stop, &name)?;
        against = Some(Against {
            name,
            rule_set_hash: old.rules.clone(),
            alerts: old.alerts.len(),
            overlaps: overlaps(&findings, &old),
        });
    }
    let mut by_segment = Vec::new();
    for column in &args.segment {
        by_segment.extend(runtime.block_on(segments(&history, &period, &findings, column))?);
    }
    let quality = labels.map_or(Vec::new(), |labels| labels.quality(&findings));
    drop(mapped);
    let report = report(&history, &period, &findings, by_segment, quality, against);
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

fn pass(
    runtime: &tokio::runtime::Runtime,
    history: &Arc<History>,
    setup: &Setup,
    stop: &Arc<AtomicBool>,
    name: &str,
) -> anyhow::Result<Findings> {
    let mut bar = Bar::new(name, stop.clone());
    let findings = run(runtime, history, setup, &mut bar)?;
    bar.finish();
    if stop.load(Ordering::Relaxed) {
        bail!("stopped; no report was written");
    }
    Ok(findings)
}

/// Rules of a project, those asked for only, in a session of their own: lists and reference tables belong to it.
fn rules_of(project: &Project, config: &Config, ids: &[String]) -> anyhow::Result<(Arc<RuleSet>, Sql)> {
    let sql = Sql::new();
    let mut rules = project.rules(&sql)?;
    load_reference(config, &sql)?;
    if !ids.is_empty() {
        let known: Vec<&str> = rules
            .typologies
            .iter()
            .map(|t| t.meta.id.as_str())
            .chain(rules.indicators.iter().map(|i| i.meta.id.as_str()))
            .collect();
        rules = match rules.only(ids) {
            Ok(rules) => rules,
            Err(unknown) => {
                let near = manumit_model::nearest(&unknown, known.iter().copied());
                let help =
                    near.map_or("see `manumit explain`".into(), |near| format!("did you mean `{near}`?"));
                bail!("there is no typology or indicator `{unknown}`; {help}")
            }
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

/// A bar on a terminal, lines every ten seconds otherwise.
struct Bar {
    bar: Option<ProgressBar>,
    name: String,
    began: Instant,
    shown: Instant,
    stop: Arc<AtomicBool>,
}

impl Bar {
    fn new(name: &str, stop: Arc<AtomicBool>) -> Bar {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let style = ProgressStyle::with_template(
                "{prefix} [{elapsed_precise}] {bar:30} {percent:>3} %  {msg}  {eta} left",
            );
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(name.to_string());
            bar
        });
        let now = Instant::now();
        Bar { bar, name: name.to_string(), began: now, shown: now, stop }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Watch for Bar {
    fn tick(&mut self, done: u64, rows: u64, alerts: u64) {
        let every = Duration::from_millis(if self.bar.is_some() { 200 } else { 10_000 });
        if self.shown.elapsed() < every {
            return;
        }
        self.shown = Instant::now();
        let rate = done as f64 / self.began.elapsed().as_secs_f64().max(0.001);
        let percent = done * 100 / rows.max(1);
        match &self.bar {
            Some(bar) => {
                bar.set_length(rows);
                bar.set_position(done);
                bar.set_message(format!("{done} of {rows} transactions, {rate:.0}/s, {alerts} alerts"));
            }
            None => eprintln!(
                "{}: {percent} %, {done} of {rows} transactions, {rate:.0}/s, {alerts} alerts",
                self.name
            ),
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
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
    format!(
        "{table}\n{} alerts about {} subjects; {} transactions from {} to {} in {:.1} s ({:.0}/s)\nreport: {}",
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
