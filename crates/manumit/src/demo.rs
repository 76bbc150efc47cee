//! `manumit demo`: a simulated bank through the same loop as `run`, and how much of what was planted is found.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use comfy_table::{Table, presets};
use manumit_feed::Future;
use manumit_io::{KafkaSettings, KafkaWriter, create_topics};
use manumit_model::Alert;
use manumit_sim::{Bank, Options, Planted};
use manumit_sql::Sql;

use crate::config::Config;
use crate::outputs::{Outputs, Totals};
use crate::pipeline::Input;
use crate::progress::Meter;
use crate::project::Project;
use crate::reference::load_files;
use crate::run::{Job, run};
use crate::telemetry::Metrics;

/// Partitions of the demo feed's topic.
const PARTITIONS: i32 = 4;

/// The configuration that is written beside the bank's tables: their paths are from there.
const CONFIG: &str = r#"# Tables of the simulated bank: manumit run --config FOLDER/manumit.toml --feed demo --from FOLDER/demo-bank.jsonl
[reference]
accounts = "accounts.csv"
customers = "customers.csv"
fx_rates = "fx_rates.csv"
contacts = "contacts.csv"
devices = "devices.csv"
"#;

/// What the demo does.
pub struct Demo {
    /// The bank.
    pub options: Options,
    /// Where files go; a temporary folder, taken away at the end, when none.
    pub folder: Option<PathBuf>,
    /// Send the feed through these brokers.
    pub kafka: Option<KafkaSettings>,
    /// Worker threads; 0 means one a core.
    pub threads: usize,
    /// Show progress.
    pub terminal: bool,
}

/// What the demo found.
pub struct Outcome {
    /// The bank after its last day.
    pub bank: Bank,
    /// Last revision of every alert, in the order opened.
    pub alerts: Vec<Alert>,
    /// Counts.
    pub totals: Totals,
    /// Seconds of evaluation.
    pub seconds: f64,
}

/// A folder that goes away with the value.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // What cannot be taken away stays: it is in the system's temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Simulates, runs, and gathers what was found.
///
/// # Errors
/// When files cannot be written, or a run fails.
pub fn demo(demo: &Demo, stop: &Arc<AtomicBool>) -> anyhow::Result<Outcome> {
    let (folder, _temporary) = match &demo.folder {
        Some(folder) => (folder.clone(), None),
        None => {
            let name = format!("manumit-demo-{}-{}", std::process::id(), demo.threads);
            let folder = std::env::temp_dir().join(name);
            (folder.clone(), Some(Temporary(folder)))
        }
    };
    std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let mut bank = Bank::new(&demo.options);
    let topic = match &demo.kafka {
        None => None,
        Some(settings) => {
            // A topic of its own: a demo run before would be read, too.
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            Some((settings, format!("demo-bank-{}", now.map_or(0, |d| d.as_secs()))))
        }
    };
    let sending = topic.as_ref().map(|(settings, topic)| (*settings, topic.as_str()));
    let feed_file = live(&mut bank, Some(&folder), sending, None)?;
    // The tables as whoever keeps the folder would name them. The machine's environment is not asked.
    let mut config = Config::read(Some(&folder.join("manumit.toml")), &folder, [])
        .map_err(|fault| anyhow::anyhow!("{fault}"))?;
    config.threads = demo.threads;
    config.output.alerts = folder.join("alerts.jsonl").display().to_string();
    config.output.dead_letters = folder.join("dead-letters.jsonl").display().to_string();
    config.output.late = folder.join("late.jsonl").display().to_string();
    let project = Project::built_in();
    let sql = Sql::new();
    let rules = Arc::new(project.rules(&sql)?);
    let reference = load_files(&config, &sql)?;
    // The bank's days are simulated, whatever the day is.
    let mut feed = project.feed("demo", &sql, &[])?.with_future(Some(Future::Off));
    let input = match topic {
        None => Input::Files(vec![(0, vec![feed_file.display().to_string()])]),
        Some((settings, topic)) => {
            feed = feed.with_topics(vec![topic]);
            Input::Kafka { settings: settings.clone(), until_end: true, source: None }
        }
    };
    let mut outputs = Outputs::open(&config.output, None, true)?;
    outputs.kept = Some(Vec::new());
    let metrics = Metrics::new()?;
    let mut meter = Meter::new(demo.terminal);
    let job = Job {
        config,
        sql,
        rules,
        feeds: Arc::new(vec![feed]),
        input,
        reference,
        archive: None,
        exact: None,
        lists: Arc::default(),
        watch: None,
    };
    let totals = run(job, &mut outputs, &metrics, &mut meter, stop)?.totals;
    let mut latest: BTreeMap<String, usize> = BTreeMap::new();
    let mut alerts: Vec<Alert> = Vec::new();
    for alert in outputs.kept.unwrap_or_default() {
        match latest.get(&alert.alert_id) {
            Some(&place) => alerts[place] = alert,
            None => {
                latest.insert(alert.alert_id.clone(), alerts.len());
                alerts.push(alert);
            }
        }
    }
    Ok(Outcome { bank, alerts, totals, seconds: meter.seconds })
}

/// Lets the bank live, day by day: its feed goes to the folder, together with the tables beside it, and to a topic, at most so many
/// records a second. Back comes the feed's file.
///
/// # Errors
/// When a file cannot be written or the brokers refuse.
pub fn live(
    bank: &mut Bank,
    folder: Option<&Path>,
    kafka: Option<(&KafkaSettings, &str)>,
    rate: Option<u32>,
) -> anyhow::Result<PathBuf> {
    let path = folder.unwrap_or(Path::new("")).join("demo-bank.jsonl");
    let mut file = match folder {
        None => None,
        Some(folder) => {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("{} cannot be made", folder.display()))?;
            let file = std::fs::File::create(&path);
            Some(std::io::BufWriter::new(
                file.with_context(|| format!("{} cannot be written", path.display()))?,
            ))
        }
    };
    let writer = match kafka {
        None => None,
        Some((settings, topic)) => {
            create_topics(settings, &[(topic, PARTITIONS)])?;
            Some(KafkaWriter::open(settings, topic)?)
        }
    };
    let began = Instant::now();
    let mut line = Vec::new();
    while let Some(day) = bank.day() {
        for transaction in day {
            line.clear();
            transaction.write_json(&mut line)?;
            if let Some(file) = &mut file {
                file.write_all(&line)?;
            }
            if let Some(writer) = &writer {
                writer.send(transaction.key(), line.trim_ascii_end(), None)?;
            }
            if let Some(rate) = rate {
                let due = Duration::from_secs_f64(transaction.number as f64 / f64::from(rate.max(1)));
                std::thread::sleep(due.saturating_sub(began.elapsed()));
            }
        }
    }
    if let Some(file) = &mut file {
        file.flush()?;
    }
    if let Some(writer) = &writer {
        writer.flush()?;
    }
    if let Some(folder) = folder {
        for (name, text) in [
            ("accounts.csv", bank.accounts_csv()),
            ("customers.csv", bank.customers_csv()),
            ("fx_rates.csv", bank.fx_rates_csv()),
            ("manumit.toml", CONFIG.to_string()),
            ("contacts.csv", bank.contacts_csv()),
            ("devices.csv", bank.devices_csv()),
            ("truth.csv", bank.truth_csv()),
            ("truth_transactions.csv", bank.truth_transactions_csv()),
        ] {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
        }
    }
    Ok(path)
}

/// The table of alerts: what was planted, found, and raised by mistake. An alert is right when its subject is in a
/// planted network, be it of another typology: the account that collects from blackmailed payers may well be drained
/// as a controlled account is.
pub fn table(outcome: &Outcome) -> String {
    let planted = outcome.bank.planted();
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY);
    table.set_header([
        "typology",
        "planted",
        "found",
        "recall",
        "alerts",
        "on its networks",
        "on other networks",
        "on look-alikes",
        "on others",
        "precision",
    ]);
    let mut names: BTreeSet<&str> = planted.iter().map(|p| p.typology).collect();
    names.extend(outcome.alerts.iter().map(|a| a.typology.id.as_str()));
    let share = |part: usize, whole: usize| match (part * 100).checked_div(whole) {
        Some(share) => format!("{share} %"),
        None => "–".into(),
    };
    let members = |innocent: bool| -> BTreeSet<&str> {
        let wanted = planted.iter().filter(|p| p.variant.innocent() == innocent);
        wanted.flat_map(|p| &p.members).map(String::as_str).collect()
    };
    let (networks, look_alikes) = (members(false), members(true));
    for name in names {
        let raised: BTreeSet<&str> =
            outcome.alerts.iter().filter(|a| a.typology.id == name).map(|a| a.subject.key.as_str()).collect();
        let own: Vec<&Planted> =
            planted.iter().filter(|p| !p.variant.innocent() && p.typology == name).collect();
        let is_found = |p: &&&Planted| p.members.iter().any(|member| raised.contains(member.as_str()));
        let found = own.iter().filter(is_found).count();
        let of_own = |subject: &&&str| own.iter().any(|p| p.members.contains(**subject));
        let on_own = raised.iter().filter(of_own).count();
        let right = networks.intersection(&raised).count();
        let innocent =
            look_alikes.intersection(&raised).filter(|subject| !networks.contains(*subject)).count();
        table.add_row([
            name.to_string(),
            own.len().to_string(),
            found.to_string(),
            share(found, own.len()),
            raised.len().to_string(),
            on_own.to_string(),
            (right - on_own).to_string(),
            innocent.to_string(),
            (raised.len() - right - innocent).to_string(),
            share(right, raised.len()),
        ]);
    }
    table.to_string()
}

/// The alert to show in full: a wage sweep that was planted, otherwise the strongest of a planted network.
pub fn example(outcome: &Outcome) -> Option<&Alert> {
    let planted: BTreeSet<(&str, &str)> = outcome
        .bank
        .planted()
        .iter()
        .filter(|p| !p.variant.innocent())
        .map(|p| (p.typology, p.subject.as_str()))
        .collect();
    let right = |a: &&Alert| planted.contains(&(a.typology.id.as_str(), a.subject.key.as_str()));
    let wage = outcome.alerts.iter().filter(right).find(|a| a.typology.id == "wage-sweep-to-controller");
    wage.or_else(|| outcome.alerts.iter().filter(right).max_by_key(|a| a.score)).or(outcome.alerts.first())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The built-in pack over a small bank: what was planted is found, whatever the number of threads.
    #[test]
    fn nineteen_of_twenty_planted_networks_are_found_and_threads_change_nothing() {
        let run = |threads: usize| {
            let options = Options {
                seed: 5,
                customers: 240,
                days: 90,
                networks: 1,
                stealthy: 0,
                look_alikes: 5,
                typologies: Vec::new(),
            };
            let settings = Demo { options, folder: None, kafka: None, threads, terminal: false };
            demo(&settings, &Arc::new(AtomicBool::new(false))).unwrap()
        };
        let outcome = run(1);
        assert_eq!(outcome.totals.evaluated, outcome.bank.count());
        assert_eq!((outcome.totals.late, outcome.totals.faults), (0, 0));
        let plain = || outcome.bank.planted().iter().filter(|p| !p.variant.innocent());
        let found = |plant: &&Planted| {
            let about =
                |a: &&Alert| a.typology.id == plant.typology && plant.members.contains(&a.subject.key);
            outcome.alerts.iter().any(|a| about(&a))
        };
        let missed: Vec<&str> = plain().filter(|plant| !found(plant)).map(|plant| plant.typology).collect();
        // One network each of so many: one or two happen to be smaller than their rule asks for.
        assert!(missed.len() * 20 <= plain().count(), "not found: {missed:?} of {}", plain().count());
        // All but the folder of the run, which stands in the transactions' source.
        let told = |outcome: &Outcome| -> Vec<(String, u32, String, Vec<String>)> {
            let ids = |a: &Alert| a.transactions.iter().map(|t| t.tx_id.clone()).collect();
            let alerts = outcome.alerts.iter();
            alerts.map(|a| (a.alert_id.clone(), a.revision, a.explanation.clone(), ids(a))).collect()
        };
        assert_eq!(told(&run(2)), told(&outcome));
    }
}
