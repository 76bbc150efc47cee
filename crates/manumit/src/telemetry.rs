//! Metrics, health, logs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::routing::get;
use manumit_engine::{StateUse, Step};
use manumit_model::DeadLetter;
use prometheus::{Encoder, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::status::Status;

/// Prometheus metrics of one process. Labels are feeds, reasons, rules: never subjects.
pub struct Metrics {
    registry: Registry,
    /// Records read, by feed.
    pub read: IntCounterVec,
    /// Transactions mapped, by feed.
    pub transactions: IntCounterVec,
    /// Records filtered, by feed.
    pub filtered: IntCounterVec,
    /// Files without a column that their feed's SELECT reads, by feed.
    pub files_lacking: IntCounterVec,
    /// Rows dropped because the same came before, by feed.
    pub duplicates: IntCounterVec,
    /// Transactions remembered to tell duplicates.
    pub remembered: IntGauge,
    dead_letters: IntCounterVec,
    /// Late rows, by feed.
    pub late: IntCounterVec,
    evaluated: IntCounter,
    hits: IntCounter,
    alerts: IntCounterVec,
    suppressed: IntCounter,
    excluded: IntCounter,
    faults: IntCounter,
    steps_dropped: IntCounter,
    sequences_given_up: IntCounter,
    /// Event time that the engine has passed, seconds since 1970-01-01 UTC.
    pub watermark: IntGauge,
    /// Rows that wait for the watermark.
    pub waiting: IntGauge,
    state: IntGaugeVec,
    state_keys: IntGauge,
    state_moved: IntGauge,
    state_read: IntGauge,
    state_refused: IntGauge,
    state_forgotten: IntGauge,
    memory: IntGaugeVec,
    reference_refused: IntGauge,
    /// Bytes of the process that are in memory.
    pub resident: IntGauge,
    /// Bytes that it may take; 0 when that is not bounded.
    pub limit: IntGauge,
    /// Kafka messages not yet read.
    pub lag: IntGauge,
    /// Transactions without an amount in the base currency, by feed and currency.
    pub unpriced: IntCounterVec,
    trouble: Mutex<Option<String>>,
    ledger_violations: IntCounter,
    ledger: IntGaugeVec,
    /// New versions of lists that were taken.
    pub lists_taken: IntCounter,
    /// New versions of lists that were refused.
    pub lists_refused: IntCounter,
    /// Stays: what was lost or counted twice does not mend itself.
    violation: Mutex<Option<String>>,
    status: Mutex<Status>,
}

impl Metrics {
    /// All metrics at zero.
    ///
    /// # Errors
    /// Only when two metrics had the same name.
    pub fn new() -> Result<Arc<Metrics>, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::new(format!("manumit_{name}_total"), help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let by = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let counter = IntCounterVec::new(Opts::new(format!("manumit_{name}_total"), help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(format!("manumit_{name}"), help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        Ok(Arc::new(Metrics {
            read: by("records_read", "Records read", &["feed"])?,
            transactions: by("transactions", "Transactions mapped", &["feed"])?,
            filtered: by("records_filtered", "Records left out by the feed's WHERE", &["feed"])?,
            files_lacking: by(
                "files_lacking_columns",
                "Files without a column that the feed's SELECT reads",
                &["feed"],
            )?,
            duplicates: by("duplicates", "Rows dropped because the same came before", &["feed"])?,
            remembered: gauge("duplicates_remembered", "Transactions remembered to tell duplicates")?,
            dead_letters: by("dead_letters", "Records set aside", &["feed", "stage", "reason"])?,
            unpriced: by(
                "transactions_without_rate",
                "Transactions without an amount in the base currency",
                &["feed", "currency"],
            )?,
            late: by("late_rows", "Rows behind their partition's watermark", &["feed"])?,
            evaluated: counter("rows_evaluated", "Transactions evaluated")?,
            hits: counter("hits", "Hits of indicators")?,
            alerts: by("alerts", "Alerts published", &["typology", "change"])?,
            suppressed: counter("alerts_suppressed", "Times an open alert held again unpublished")?,
            excluded: counter("gate_hits_excluded", "Gate hits silenced by an exclusion")?,
            faults: counter("expression_faults", "Rows on which an expression of a rule failed")?,
            steps_dropped: counter(
                "sequence_rows_dropped",
                "Rows of steps dropped because a key has too many",
            )?,
            sequences_given_up: counter(
                "sequences_given_up",
                "Rows at which a sequence was not found because there are too many ways to look at",
            )?,
            watermark: gauge("watermark_seconds", "Event time that has been passed, Unix seconds")?,
            waiting: gauge("rows_waiting", "Rows that wait for the watermark")?,
            state: IntGaugeVec::new(
                Opts::new(
                    "manumit_state_bytes",
                    "Bytes of rows of time windows, and on disk of transactions, too",
                ),
                &["where"],
            )
            .and_then(|gauge| registry.register(Box::new(gauge.clone())).map(|()| gauge))?,
            state_keys: gauge("state_keys", "Keys that have rows of time windows")?,
            state_moved: gauge("state_rows_moved", "Rows moved out of memory so far")?,
            state_read: gauge("state_blocks_read", "Blocks of such rows read back so far")?,
            state_refused: gauge(
                "state_rows_refused",
                "Rows of new keys that were not looked at so far, as memory was full",
            )?,
            state_forgotten: gauge(
                "state_transactions_forgotten",
                "Transactions that alerts can no longer show so far, as memory was full",
            )?,
            memory: IntGaugeVec::new(
                Opts::new(
                    "manumit_memory_bytes",
                    "Bytes in memory that grow with the bank, by what they are",
                ),
                &["part"],
            )
            .and_then(|gauge| registry.register(Box::new(gauge.clone())).map(|()| gauge))?,
            reference_refused: gauge(
                "reference_rows_refused",
                "Rows of reference topics that were refused so far, as memory for them was full",
            )?,
            resident: gauge("memory_resident_bytes", "Bytes of the process that are in memory")?,
            limit: gauge("memory_limit_bytes", "Bytes that the process may take; 0 when no limit is given")?,
            lag: gauge("kafka_lag", "Kafka messages not yet read")?,
            trouble: Mutex::new(None),
            ledger_violations: counter("ledger_violations", "Times a sum of the ledger did not hold")?,
            ledger: IntGaugeVec::new(
                Opts::new("manumit_ledger_records", "What became of records since the ledger began"),
                &["feed", "source", "partition", "outcome"],
            )
            .and_then(|gauge| registry.register(Box::new(gauge.clone())).map(|()| gauge))?,
            lists_taken: counter("lists_taken", "New versions of lists that were taken while running")?,
            lists_refused: counter(
                "lists_refused",
                "New versions of lists that were refused, as they are faulty",
            )?,
            violation: Mutex::new(None),
            status: Mutex::new(Status::default()),
            registry,
        }))
    }

    /// Counts a dead letter.
    pub fn dead_letter(&self, letter: &DeadLetter) {
        self.dead_letters
            .with_label_values(&[letter.feed.as_str(), letter.stage.as_str(), letter.reason.as_str()])
            .inc();
    }

    /// Counts what a step found.
    pub fn step(&self, step: &Step) {
        self.evaluated.inc_by(step.evaluated);
        self.hits.inc_by(step.hit_count);
        self.suppressed.inc_by(step.suppressed);
        self.excluded.inc_by(step.excluded);
        self.faults.inc_by(step.faults.len() as u64);
        self.steps_dropped.inc_by(step.steps_dropped);
        self.sequences_given_up.inc_by(step.sequences_given_up);
        for alert in &step.alerts {
            let change = if alert.revision == 1 { "opened" } else { "revised" };
            self.alerts.with_label_values(&[alert.typology.id.as_str(), change]).inc();
        }
    }

    /// Shows how much state lies where; `duplicates`, `waiting`: bytes of what is remembered and of what waits for its order.
    pub fn state(&self, state: StateUse, duplicates: u64, waiting: u64) {
        for (place, bytes) in [("memory", state.memory), ("disk", state.outside + state.transactions_outside)]
        {
            self.state.with_label_values(&[place]).set(bytes as i64);
        }
        let keys = state.of_keys() - state.memory - state.texts - state.beside;
        for (part, bytes) in [
            ("rows", state.memory),
            ("keys", keys),
            ("texts", state.texts),
            ("counts", state.beside),
            ("transactions", state.transactions),
            ("hits", state.hits),
            ("duplicates", duplicates),
            ("waiting", waiting),
        ] {
            self.memory.with_label_values(&[part]).set(bytes as i64);
        }
        self.state_forgotten.set(state.transactions_forgotten as i64);
        self.state_keys.set(state.keys as i64);
        self.state_moved.set(state.rows_moved as i64);
        self.state_read.set(state.blocks_read as i64);
        self.state_refused.set(state.refused as i64);
    }

    /// Shows what reference tables take, and how many rows had no room.
    pub fn reference(&self, bytes: u64, refused: u64) {
        self.memory.with_label_values(&["reference"]).set(bytes as i64);
        self.reference_refused.set(refused as i64);
    }

    /// Says what a source is in trouble with; `None` when it is well again.
    pub fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// A sum of the ledger does not hold.
    pub fn violation(&self, violation: &str) {
        self.ledger_violations.inc();
        *self.violation.lock().unwrap_or_else(PoisonError::into_inner) = Some(violation.into());
    }

    /// Shows the ledger, and what else there is to tell.
    pub fn set_status(&self, status: Status) {
        for line in &status.partitions {
            let (partition, counts) = (line.partition.to_string(), &line.counts);
            let dead = counts.dead_letters.values().sum();
            for (outcome, count) in [
                ("brought", counts.brought),
                ("read", counts.read),
                ("further", counts.further),
                ("filtered", counts.filtered),
                ("dead", dead),
                ("duplicate", counts.duplicates),
                ("late", counts.late),
                ("evaluated", counts.evaluated),
                ("waiting", counts.waiting),
            ] {
                let labels = [line.feed.as_str(), line.source.as_str(), partition.as_str(), outcome];
                self.ledger.with_label_values(&labels).set(count as i64);
            }
        }
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// What `manumit status` shows.
    pub fn status(&self) -> Status {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        status.trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        status.violation = self.violation.lock().unwrap_or_else(PoisonError::into_inner).clone();
        status
    }

    /// The metrics in Prometheus' text format.
    pub fn text(&self) -> String {
        let mut out = Vec::new();
        // Writing into memory does not fail.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Health as JSON: `ok`, or what the trouble is.
    pub fn health(&self) -> (bool, serde_json::Value) {
        let violation = self.violation.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let trouble = violation.or(trouble);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let status = if trouble.is_some() { "trouble" } else { "ok" };
        let health = serde_json::json!({
            "status": status,
            "trouble": trouble,
            "watermark_unix_seconds": self.watermark.get(),
            "rows_waiting": self.waiting.get(),
            "kafka_lag": self.lag.get(),
            "time_unix_seconds": now,
        });
        (trouble.is_none(), health)
    }
}

/// Serves `/metrics`, `/health` and `/status` until the process ends.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(listen: &str, metrics: Arc<Metrics>) -> std::io::Result<std::net::SocketAddr> {
    let listener = tokio::net::TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let for_health = metrics.clone();
    let health = move || async move {
        let (well, body) = for_health.health();
        let code =
            if well { axum::http::StatusCode::OK } else { axum::http::StatusCode::SERVICE_UNAVAILABLE };
        (code, axum::Json(body))
    };
    let for_status = metrics.clone();
    let status = move || async move { axum::Json(for_status.status()) };
    let text = move || async move {
        ([(axum::http::header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.text())
    };
    let router = Router::new()
        .route("/metrics", get(text))
        .route("/health", get(health))
        .route("/status", get(status));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "metrics are no longer served");
        }
    });
    Ok(address)
}

/// Structured logs on standard error: readable on a terminal, JSON otherwise; `RUST_LOG` chooses what.
pub fn init_logs(terminal: bool) {
    // Plans that Ballista and DataFusion write at `info` hold the values of rules.
    let quiet = if terminal {
        "warn,manumit_cluster=info"
    } else {
        "info,ballista=warn,ballista_core=warn,ballista_scheduler=warn,ballista_executor=warn,datafusion=warn"
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(quiet));
    // A line that cannot be written, as the disk of the log is full, is lost: told on standard error it would end the process.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    // A second call (in tests) changes nothing.
    let _ = if terminal { builder.compact().try_init() } else { builder.json().try_init() };
}
