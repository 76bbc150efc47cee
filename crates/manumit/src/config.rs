//! The configuration file, and the environment over it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use manumit_archive::Settings;
use manumit_feed::Future;
use manumit_io::KafkaSettings;
use manumit_model::{Diagnostic, nearest};
use manumit_sql::reference::Table;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::archive::Plan;

/// `manumit.toml`. Every key may be left out.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Feeds that `manumit run` reads when none are named: names under `sql/feeds/`.
    pub feeds: Vec<String>,
    /// ISO 4217 code that `amount_base` is in.
    pub base_currency: String,
    /// Worker threads; 0 means one a core.
    pub threads: usize,
    /// A Kafka partition that has been at its end this long holds nothing back: `30 seconds`.
    pub idle_after: String,
    /// How far ahead of its record a transaction may be dated: `1 day`, or `off`; what is behind that is a dead letter. A feed's own
    /// `future` goes first. Left out: 1 day after the time that Kafka has of the record, and no bound for files.
    pub future: Option<String>,
    /// Kafka.
    pub kafka: Kafka,
    /// Where results go.
    pub output: Output,
    /// Where accepted transactions are kept.
    pub archive: Archive,
    /// What makes delivery exact.
    pub checkpoint: Checkpoint,
    /// Reference tables.
    pub reference: Reference,
    /// Lists of values and terms (`rules/lists`).
    pub lists: Lists,
    /// Metrics and health over HTTP.
    pub server: Server,
    /// What the process may take.
    pub limits: Limits,
    /// What rules may keep.
    pub state: State,
    /// Transactions that come again.
    pub duplicates: Duplicates,
    /// What was read and what became of it, day by day.
    pub ledger: Ledger,
}

/// The account of every record, written by day. See `docker/DELIVERY.md`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ledger {
    /// Folder of `ledger-DAY.jsonl`, one line a feed and partition; no file is written when left out. One service has one folder.
    pub folder: Option<PathBuf>,
}

/// Transactions that come again: the same id and content is dropped and counted, the same id with other content goes to the
/// dead letters. See `sql/feeds/README.md`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Duplicates {
    /// How far back, in event time, transactions are remembered: `1 day`, at least the feed's `lateness`; `off`: not at all.
    pub horizon: String,
}

impl Default for Duplicates {
    fn default() -> Self {
        Duplicates { horizon: "1 day".into() }
    }
}

impl Duplicates {
    /// The horizon, microseconds; `None` when switched off.
    ///
    /// # Errors
    /// When it is no time.
    pub fn horizon_micros(&self) -> anyhow::Result<Option<i64>> {
        if self.horizon.trim() == "off" {
            return Ok(None);
        }
        let micros = duration(&self.horizon).and_then(|horizon| i64::try_from(horizon.as_micros()).ok());
        micros.map(Some).with_context(|| {
            format!("`[duplicates] horizon` is `{}`; write for example `1 day`, or `off`", self.horizon)
        })
    }
}

/// How to reach Kafka.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Kafka {
    /// `host:port,host:port`.
    pub brokers: String,
    /// Consumer group; `manumit` when left out.
    pub group: String,
    /// Further librdkafka properties, such as `security.protocol`. Secrets belong in the environment:
    /// `MANUMIT_KAFKA_PROPERTY_SASL_PASSWORD` sets `sasl.password`.
    pub properties: BTreeMap<String, String>,
}

/// Where results go: `-` (standard output), `kafka:TOPIC`, or a file of JSON lines.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Output {
    /// Alerts.
    pub alerts: String,
    /// Where urgent alerts go as well, for those who are woken by them; `alerts` holds them, too.
    pub urgent: Option<String>,
    /// Records that could not be used.
    pub dead_letters: String,
    /// Rows that came too late.
    pub late: String,
    /// Every hit of every indicator, for those who check rules; left out, hits are only counted.
    pub hits: Option<String>,
    /// A file with a record for every alert revision published, bound together by hashes: see `manumit verify-log`.
    pub alert_log: Option<PathBuf>,
    /// Transactions that an alert lists; the rest is counted.
    pub max_transactions: usize,
}

/// The archive of accepted transactions: Parquet by event date, each row once. See `sql/ARCHIVE.md`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Archive {
    /// Its folder; nothing is archived when left out. Only one process may write to it.
    pub folder: Option<PathBuf>,
    /// How long event dates are kept, counted back from the newest one: `1830 days`; for ever when left out.
    pub retention: Option<String>,
    /// How often it is committed: `10 seconds`. Kafka offsets are committed behind it, so a restart reads again that much.
    pub commit_every: String,
    /// Files of a date with fewer rows are merged, a few at a time as it is written, all of them by `manumit archive compact`.
    pub compact_below_rows: u64,
    /// Rows kept in memory at most, of all dates together.
    pub buffer_rows: usize,
    /// How far back memory holds the rows that keyed queries look at: `7 days`; what is older is read from the archive.
    pub lookback_in_memory: String,
}

/// Checkpoints: with them alerts, hits, dead letters, late rows and the offsets read are committed in one Kafka transaction,
/// and a run goes on where it was stopped, however that came. A run over files, with outputs to files, goes on in the same way.
/// See `docker/DELIVERY.md`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Checkpoint {
    /// Their folder; without it delivery from Kafka is at least once, and windows begin anew with each run. Needs `[archive]`.
    pub folder: Option<PathBuf>,
    /// How often: `5 seconds`. Readers with `read_committed` see alerts that much later; of output files, what is newer may be cut off.
    pub every: String,
    /// How many are kept.
    pub keep: usize,
    /// Where copies of checkpoints and of the archive go before anything is committed, to go on from when all local files are lost:
    /// `s3://BUCKET/PREFIX`, or a folder on another disk. One run a prefix. Not for runs over files.
    pub copy: Option<String>,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Checkpoint { folder: None, every: "5 seconds".into(), keep: 5, copy: None }
    }
}

impl Checkpoint {
    /// How often; `None` when that is no time.
    pub fn every(&self) -> Option<Duration> {
        duration(&self.every).filter(|every| !every.is_zero())
    }
}

/// Lists, which may change while a service runs: see `rules/LISTS.md`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lists {
    /// How often a service looks for a new version on disk: `10 seconds`; `off`: only at its start.
    pub reload: String,
}

impl Default for Lists {
    fn default() -> Self {
        Lists { reload: "10 seconds".into() }
    }
}

impl Lists {
    /// How often; `None` when switched off.
    ///
    /// # Errors
    /// When it is no time.
    pub fn every(&self) -> anyhow::Result<Option<Duration>> {
        if self.reload.trim() == "off" {
            return Ok(None);
        }
        let every = duration(&self.reload).filter(|every| !every.is_zero());
        every.map(Some).with_context(|| {
            format!("`[lists] reload` is `{}`; write for example `10 seconds`, or `off`", self.reload)
        })
    }
}

/// Reference tables: a file (CSV, JSON lines, Parquet), or `kafka:TOPIC` of JSON objects, read from its beginning
/// and followed while a service runs.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Reference {
    /// Accounts, key `account`.
    pub accounts: Option<PathBuf>,
    /// Customers, key `customer`.
    pub customers: Option<PathBuf>,
    /// Places, key `city`, `country`.
    pub places: Option<PathBuf>,
    /// Rates, key `currency`.
    pub fx_rates: Option<PathBuf>,
    /// Telephone numbers, e-mails, addresses and other identifiers of customers, key `customer`, `kind`, `value`.
    pub contacts: Option<PathBuf>,
    /// Devices that customers log in with, key `customer`, `device`.
    pub devices: Option<PathBuf>,
    /// Who may act on accounts of others, key `account`, `customer`.
    pub authorised_users: Option<PathBuf>,
    /// Households, guardians and other ties, key `customer`, `related`.
    pub relations: Option<PathBuf>,
    /// What businesses declared, key `customer`.
    pub business_facts: Option<PathBuf>,
    /// What each customer's own past was, key `customer`: `manumit baselines` works it out. See `sql/baselines/README.md`.
    pub baselines: Option<PathBuf>,
    /// What is usual among peers, key `peer_group`: `manumit baselines` works it out.
    pub peers: Option<PathBuf>,
}

impl Reference {
    /// Where each table comes from.
    pub fn tables(&self) -> [(Table, &Option<PathBuf>); 11] {
        [
            (Table::Accounts, &self.accounts),
            (Table::Customers, &self.customers),
            (Table::Places, &self.places),
            (Table::FxRates, &self.fx_rates),
            (Table::Contacts, &self.contacts),
            (Table::Devices, &self.devices),
            (Table::AuthorisedUsers, &self.authorised_users),
            (Table::Relations, &self.relations),
            (Table::BusinessFacts, &self.business_facts),
            (Table::Baselines, &self.baselines),
            (Table::Peers, &self.peers),
        ]
    }

    /// Tables that come from topics.
    pub fn topics(&self) -> impl Iterator<Item = (Table, &str)> {
        self.tables().into_iter().filter_map(|(table, path)| Some((table, topic_of(path.as_deref()?)?)))
    }

    /// Tables that come from files.
    pub fn files(&self) -> impl Iterator<Item = (Table, &Path)> {
        let paths = self.tables().into_iter().filter_map(|(table, path)| Some((table, path.as_deref()?)));
        paths.filter(|(_, path)| topic_of(path).is_none())
    }

    fn table(&mut self, table: Table) -> &mut Option<PathBuf> {
        match table {
            Table::Accounts => &mut self.accounts,
            Table::Customers => &mut self.customers,
            Table::Places => &mut self.places,
            Table::FxRates => &mut self.fx_rates,
            Table::Contacts => &mut self.contacts,
            Table::Devices => &mut self.devices,
            Table::AuthorisedUsers => &mut self.authorised_users,
            Table::Relations => &mut self.relations,
            Table::BusinessFacts => &mut self.business_facts,
            Table::Baselines => &mut self.baselines,
            Table::Peers => &mut self.peers,
        }
    }
}

/// Metrics and health.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Address of `/metrics` and `/health`, such as `127.0.0.1:9464`; nothing is served when left out.
    pub listen: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            feeds: Vec::new(),
            base_currency: "EUR".into(),
            threads: 0,
            idle_after: "30 seconds".into(),
            future: None,
            kafka: Kafka::default(),
            output: Output::default(),
            archive: Archive::default(),
            checkpoint: Checkpoint::default(),
            lists: Lists::default(),
            reference: Reference::default(),
            server: Server::default(),
            limits: Limits::default(),
            state: State::default(),
            duplicates: Duplicates::default(),
            ledger: Ledger::default(),
        }
    }
}

/// What the whole process may take. See `docker/STATE.md`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory of the process, as the system counts it: `4 GiB`. The state gets what the other parts leave: `manumit explain --memory` lists
    /// them. Left out, `[state] memory` and the others' bounds add up to what there is.
    pub memory: Option<String>,
    /// Memory for reference tables from topics, all together: `512 MiB`. When it is taken, rows of new keys are refused: dead letters, counted,
    /// and a data gap in alerts. As much again is taken while a table changes. Left out: an eighth of `memory`, or `1 GiB`. Tables from files
    /// take what they take.
    pub reference: Option<String>,
}

impl Limits {
    /// Bytes for reference tables from topics.
    ///
    /// # Errors
    /// When it is no size.
    pub fn reference_bytes(&self) -> anyhow::Result<u64> {
        match &self.reference {
            Some(text) => crate::limits::bytes(text).with_context(|| {
                format!("`reference` in [limits] is `{text}`; write for example reference = \"512 MiB\"")
            }),
            None => {
                Ok(self.memory.as_deref().and_then(crate::limits::bytes).map_or(1 << 30, |memory| memory / 8))
            }
        }
    }
}

/// What windows may keep in memory, where the rest goes, and what the bank expects. Without a folder a rule whose rows would
/// not fit is refused. See `docker/STATE.md`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// Memory for all state: rows that windows keep, keys, what is worked out of them, transactions that alerts may have to show, hits.
    /// The oldest go to the folder, if one is named. Left out: what `[limits] memory` leaves, or `16 GiB`.
    pub memory: Option<String>,
    /// Where rows go that memory has no room for: a folder on a local disk, which is emptied at the end and at the next start.
    pub folder: Option<PathBuf>,
    /// Transactions that a day brings.
    pub transactions_per_day: u64,
}

impl Default for State {
    fn default() -> Self {
        State { memory: None, folder: None, transactions_per_day: 100_000 }
    }
}

impl State {
    /// Memory for all state, as it is written.
    pub fn memory(&self) -> &str {
        self.memory.as_deref().unwrap_or("16 GiB")
    }

    /// The same in bytes; `None` when it is no size.
    pub fn bytes(&self) -> Option<u64> {
        crate::limits::bytes(self.memory())
    }
}

impl Output {
    /// Where documents go: all targets that are configured, the alert log aside.
    pub fn targets(&self) -> impl Iterator<Item = &String> {
        let Output { alerts, dead_letters, late, hits, urgent, .. } = self;
        [alerts, dead_letters, late].into_iter().chain(hits).chain(urgent)
    }
}

impl Default for Output {
    fn default() -> Self {
        Output {
            alerts: "-".into(),
            urgent: None,
            dead_letters: "dead-letters.jsonl".into(),
            late: "late.jsonl".into(),
            hits: None,
            alert_log: None,
            max_transactions: 500,
        }
    }
}

impl Default for Archive {
    fn default() -> Self {
        let Settings { compact_below_rows, buffer_rows, .. } = Settings::default();
        Archive {
            folder: None,
            retention: None,
            commit_every: "10 seconds".into(),
            compact_below_rows,
            buffer_rows,
            lookback_in_memory: "7 days".into(),
        }
    }
}

impl Archive {
    fn lookback_in_memory(&self) -> anyhow::Result<Duration> {
        duration(&self.lookback_in_memory).with_context(|| {
            format!(
                "`[archive] lookback_in_memory` is `{}`; write for example `7 days`",
                self.lookback_in_memory
            )
        })
    }

    /// How far back memory holds the rows of keyed queries, microseconds; `None` without an archive, and where that is
    /// no time.
    pub fn tail_micros(&self) -> Option<i64> {
        self.folder.as_ref()?;
        i64::try_from(self.lookback_in_memory().ok()?.as_micros()).ok()
    }

    /// How a run archives; `None` when it does not.
    ///
    /// # Errors
    /// Names the key that cannot be used, and the mend.
    pub fn plan(&self) -> anyhow::Result<Option<Plan>> {
        let commit_every =
            duration(&self.commit_every).filter(|every| !every.is_zero()).with_context(|| {
                format!("`[archive] commit_every` is `{}`; write for example `10 seconds`", self.commit_every)
            })?;
        let retention_days = match &self.retention {
            None => None,
            Some(text) => Some(days(text).with_context(|| {
                format!("`[archive] retention` is `{text}`; write for example `1830 days`")
            })?),
        };
        let settings = Settings {
            compact_below_rows: self.compact_below_rows,
            buffer_rows: self.buffer_rows,
            retention_days,
            ..Settings::default()
        };
        let lookback_in_memory = self.lookback_in_memory()?;
        Ok(self.folder.clone().map(|folder| Plan { folder, settings, commit_every, lookback_in_memory }))
    }
}

/// `10 seconds`, `5 minutes`, `1 hour`, `7 days`.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.trim().split_once(' ')?;
    let seconds = match unit.trim() {
        "second" | "seconds" => 1,
        "milliseconds" => return Some(Duration::from_millis(number.parse().ok()?)),
        "minute" | "minutes" => 60,
        "hour" | "hours" => 3600,
        "day" | "days" => 86_400,
        _ => return None,
    };
    Some(Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(seconds)?))
}

/// `1830 days`.
pub(crate) fn days(text: &str) -> Option<u32> {
    let (number, unit) = text.trim().split_once(' ')?;
    matches!(unit.trim(), "day" | "days").then(|| number.parse().ok())?
}

impl Kafka {
    /// The settings for the Kafka client.
    pub fn settings(&self) -> KafkaSettings {
        KafkaSettings {
            brokers: self.brokers.clone(),
            group: self.group.clone(),
            properties: self.properties.clone(),
        }
    }
}

/// The topic of `kafka:TOPIC`.
fn topic_of(path: &Path) -> Option<&str> {
    path.to_str()?.strip_prefix("kafka:")
}

/// A file beside the configuration, and no topic (`kafka:TOPIC`).
fn is_relative_file(path: &Path) -> bool {
    path.is_relative() && !path.to_string_lossy().starts_with("kafka:")
}

impl Config {
    /// Reads `path`, or `manumit.toml` in `project` when there is one, and lays the environment over it.
    ///
    /// # Errors
    /// One [`Diagnostic`] with place and mend.
    pub fn read(
        path: Option<&Path>,
        project: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config, Box<Diagnostic>> {
        let beside = project.join("manumit.toml");
        let path = match path {
            Some(path) => Some(path),
            None if beside.is_file() => Some(beside.as_path()),
            None => None,
        };
        let mut config = match path {
            None => Config::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    let fault = Diagnostic::new(
                        "C001",
                        format!("the configuration cannot be read: {error}"),
                        path,
                        "".into(),
                    );
                    Box::new(fault.help("check the path behind --config"))
                })?;
                let mut config = Config::parse(path, &text)?;
                // Paths in the file are meant from where the file is.
                let base = path.parent().unwrap_or(Path::new(""));
                let tables = &mut config.reference;
                for table in Table::ALL {
                    if let Some(file) = tables.table(table).as_mut().filter(|f| is_relative_file(f)) {
                        *file = base.join(&*file);
                    }
                }
                let state = &mut config.state.folder;
                let ledger = &mut config.ledger.folder;
                for folder in [&mut config.archive.folder, &mut config.checkpoint.folder, state, ledger] {
                    if let Some(folder) = folder.as_mut().filter(|f| is_relative_file(f)) {
                        *folder = base.join(&*folder);
                    }
                }
                config
            }
        };
        config.overlay(environment)?;
        if manumit_model::currency::minor_units(&config.base_currency).is_none() {
            let message = format!("`{}` is no ISO 4217 currency", config.base_currency);
            let file = path.unwrap_or(Path::new("manumit.toml"));
            return Err(Box::new(
                Diagnostic::new("C003", message, file, "".into()).help("set base_currency, for example EUR"),
            ));
        }
        Ok(config)
    }

    fn parse(path: &Path, text: &str) -> Result<Config, Box<Diagnostic>> {
        toml::from_str(text).map_err(|error| {
            let message = error.message().to_string();
            let fault =
                Diagnostic::new("C002", message.lines().next().unwrap_or("").to_string(), path, text.into());
            let fault = match error.span() {
                Some(span) => fault.at(span, "here"),
                None => fault,
            };
            // «unknown field `x`, expected one of `a`, `b`»: the nearest of what is expected.
            let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
            Box::new(match names.split_first() {
                Some((wrong, known)) if message.starts_with("unknown field") => {
                    match nearest(wrong, known.iter().copied()) {
                        Some(near) => fault.help(format!("did you mean `{near}`?")),
                        None => fault.help("see `manumit schema config` for all keys"),
                    }
                }
                _ => fault.help("see `manumit schema config` for all keys"),
            })
        })
    }

    /// `MANUMIT_KAFKA_BROKERS` is `[kafka] brokers`, and so on; `MANUMIT_KAFKA_PROPERTY_A_B` is the property `a.b`.
    fn overlay(
        &mut self,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), Box<Diagnostic>> {
        for (name, value) in environment {
            let Some(key) = name.strip_prefix("MANUMIT_") else { continue };
            let number = |value: &str| {
                value.parse::<usize>().map_err(|_| {
                    let message = format!("`{name}` must be a whole number");
                    Box::new(Diagnostic::new("C004", message, "environment", "".into()))
                })
            };
            match key {
                "FEEDS" => self.feeds = value.split(',').map(|f| f.trim().to_string()).collect(),
                "BASE_CURRENCY" => self.base_currency = value,
                "THREADS" => self.threads = number(&value)?,
                "IDLE_AFTER" => self.idle_after = value,
                "FUTURE" => self.future = Some(value),
                "KAFKA_BROKERS" => self.kafka.brokers = value,
                "KAFKA_GROUP" => self.kafka.group = value,
                "OUTPUT_ALERTS" => self.output.alerts = value,
                "OUTPUT_URGENT" => self.output.urgent = Some(value),
                "OUTPUT_DEAD_LETTERS" => self.output.dead_letters = value,
                "OUTPUT_LATE" => self.output.late = value,
                "OUTPUT_HITS" => self.output.hits = Some(value),
                "OUTPUT_ALERT_LOG" => self.output.alert_log = Some(value.into()),
                "OUTPUT_MAX_TRANSACTIONS" => self.output.max_transactions = number(&value)?,
                "CHECKPOINT_FOLDER" => self.checkpoint.folder = Some(value.into()),
                "CHECKPOINT_EVERY" => self.checkpoint.every = value,
                "CHECKPOINT_COPY" => self.checkpoint.copy = Some(value),
                "CHECKPOINT_KEEP" => self.checkpoint.keep = number(&value)?,
                "ARCHIVE_FOLDER" => self.archive.folder = Some(value.into()),
                "ARCHIVE_RETENTION" => self.archive.retention = Some(value),
                "ARCHIVE_COMMIT_EVERY" => self.archive.commit_every = value,
                "ARCHIVE_COMPACT_BELOW_ROWS" => self.archive.compact_below_rows = number(&value)? as u64,
                "ARCHIVE_BUFFER_ROWS" => self.archive.buffer_rows = number(&value)?,
                "ARCHIVE_LOOKBACK_IN_MEMORY" => self.archive.lookback_in_memory = value,
                "LISTS_RELOAD" => self.lists.reload = value,
                "DUPLICATES_HORIZON" => self.duplicates.horizon = value,
                "LEDGER_FOLDER" => self.ledger.folder = Some(value.into()),
                "LIMITS_MEMORY" => self.limits.memory = Some(value),
                "LIMITS_REFERENCE" => self.limits.reference = Some(value),
                "STATE_MEMORY" => self.state.memory = Some(value),
                "STATE_TRANSACTIONS_PER_DAY" => self.state.transactions_per_day = number(&value)? as u64,
                "STATE_FOLDER" => self.state.folder = Some(value.into()),
                "SERVER_LISTEN" => self.server.listen = Some(value),
                _ => {
                    let table = key.strip_prefix("REFERENCE_").map(str::to_lowercase);
                    if let Some(table) =
                        Table::ALL.into_iter().find(|known| table.as_deref() == Some(known.name()))
                    {
                        *self.reference.table(table) = Some(value.into());
                        continue;
                    }
                    if let Some(property) = key.strip_prefix("KAFKA_PROPERTY_") {
                        self.kafka.properties.insert(property.to_lowercase().replace('_', "."), value);
                    }
                }
            }
        }
        Ok(())
    }

    /// Worker threads to start.
    pub fn worker_threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }

    /// The bound on the future for feeds that have none of their own.
    ///
    /// # Errors
    /// When it is no time.
    pub fn future(&self) -> anyhow::Result<Option<Future>> {
        let Some(text) = &self.future else { return Ok(None) };
        if text.trim() == "off" {
            return Ok(Some(Future::Off));
        }
        let micros = duration(text).and_then(|ahead| i64::try_from(ahead.as_micros()).ok());
        let micros =
            micros.with_context(|| format!("`future` is `{text}`; write for example `1 day`, or `off`"))?;
        Ok(Some(Future::Micros(micros)))
    }

    /// [`Config::idle_after`] as a duration; `None` when it is none.
    pub fn idle(&self) -> Option<Duration> {
        duration(&self.idle_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_lies_over_the_file() {
        let environment = [
            ("MANUMIT_KAFKA_BROKERS", "b:9092"),
            ("MANUMIT_KAFKA_PROPERTY_SASL_PASSWORD", "s"),
            ("MANUMIT_THREADS", "3"),
            ("PATH", "/bin"),
        ];
        let environment = environment.map(|(k, v)| (k.to_string(), v.to_string()));
        let config = Config::read(None, Path::new("/nowhere"), environment).unwrap();
        assert_eq!(config.kafka.brokers, "b:9092");
        assert_eq!(config.kafka.properties["sasl.password"], "s");
        assert_eq!(config.worker_threads(), 3);
    }

    #[test]
    fn the_archive_lies_beside_the_file_and_its_times_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("manumit.toml");
        let write = |retention: &str| {
            let text = format!("[archive]\nfolder = \"past\"\nretention = \"{retention}\"\n");
            std::fs::write(&file, text).unwrap();
            Config::read(None, folder.path(), []).unwrap().archive.plan()
        };
        let plan = write("400 days").unwrap().unwrap();
        assert_eq!(plan.folder, folder.path().join("past"));
        assert_eq!(plan.settings.retention_days, Some(400));
        assert_eq!(plan.commit_every, Duration::from_secs(10));
        let fault = write("a year").unwrap_err().to_string();
        assert!(fault.contains("retention` is `a year`") && fault.contains("1830 days"), "{fault}");
        assert!(Config::default().archive.plan().unwrap().is_none());
    }

    #[test]
    fn the_horizon_of_duplicates_is_a_time_or_off() {
        let micros = |text: &str| Duplicates { horizon: text.into() }.horizon_micros();
        assert_eq!(micros("2 hours").unwrap(), Some(7_200_000_000));
        assert_eq!(micros("off").unwrap(), None);
        assert_eq!(Duplicates::default().horizon_micros().unwrap(), Some(86_400_000_000));
        let fault = micros("a day").unwrap_err().to_string();
        assert!(fault.contains("horizon` is `a day`") && fault.contains("`off`"), "{fault}");
    }

    #[test]
    fn the_bound_on_the_future_is_a_time_or_off_or_left_to_the_source() {
        let future =
            |text: Option<&str>| Config { future: text.map(String::from), ..Config::default() }.future();
        assert_eq!(future(None).unwrap(), None);
        assert_eq!(future(Some("off")).unwrap(), Some(Future::Off));
        assert_eq!(future(Some("2 hours")).unwrap(), Some(Future::Micros(7_200_000_000)));
        assert!(future(Some("soon")).unwrap_err().to_string().contains("`future` is `soon`"));
    }

    #[test]
    fn a_mistyped_key_is_shown_with_the_nearest_one() {
        let fault =
            Config::parse(Path::new("manumit.toml"), "[output]\nalert = \"-\"\n").unwrap_err().to_string();
        assert!(fault.contains("manumit.toml:2:1") && fault.contains("did you mean `alerts`?"), "{fault}");
    }
}
