//! What a run shows while it works: a bar on a terminal, log lines otherwise.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::DateTime;
use indicatif::{ProgressBar, ProgressStyle};
use manumit_archive::Counts;
use manumit_engine::Engine;

use crate::outputs::Totals;
use crate::pipeline::Progress;

/// Shows rate, watermark, lag, hits, alerts.
pub struct Meter {
    bar: Option<ProgressBar>,
    began: Instant,
    shown: Instant,
    /// Seconds from the first tick to the end.
    pub seconds: f64,
}

impl Meter {
    /// A bar when `terminal`, log lines every ten seconds otherwise.
    pub fn new(terminal: bool) -> Meter {
        let bar = terminal.then(|| {
            let bar = ProgressBar::new(0);
            let style =
                ProgressStyle::with_template("{spinner} [{elapsed_precise}] {bar:30} {percent:>3} %  {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        let now = Instant::now();
        Meter { bar, began: now, shown: now, seconds: 0.0 }
    }

    /// Called by the loop as often as it likes.
    pub fn tick(&mut self, totals: &Totals, engine: &Engine, progress: &Progress) {
        let every = if self.bar.is_some() { Duration::from_millis(200) } else { Duration::from_secs(10) };
        if self.shown.elapsed() < every {
            return;
        }
        self.shown = Instant::now();
        let rate = totals.evaluated as f64 / self.began.elapsed().as_secs_f64().max(0.001);
        let watermark = watermark(engine);
        let alerts = totals.opened + totals.revised;
        let lag = progress.lag.load(Ordering::Relaxed);
        match &self.bar {
            Some(bar) => {
                bar.set_length(progress.total.load(Ordering::Relaxed).max(1));
                bar.set_position(progress.read.load(Ordering::Relaxed));
                bar.set_message(format!(
                    "{} transactions, {rate:.0}/s, watermark {watermark}, lag {lag}, {} hits, {alerts} alerts",
                    totals.evaluated, totals.hits
                ));
            }
            None => tracing::info!(
                transactions = totals.evaluated,
                per_second = rate as u64,
                %watermark,
                waiting = engine.waiting_rows(),
                lag,
                hits = totals.hits,
                alerts,
                "running"
            ),
        }
    }

    /// Takes the bar away.
    pub fn finish(&mut self, _totals: &Totals, _engine: &Engine) {
        self.seconds = self.began.elapsed().as_secs_f64();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn watermark(engine: &Engine) -> String {
    match engine.watermark() {
        i64::MIN => "none yet".into(),
        i64::MAX => "the end".into(),
        micros => DateTime::from_timestamp_micros(micros)
            .map_or_else(|| "none".into(), |t| t.format("%Y-%m-%d %H:%M").to_string()),
    }
}

/// The account of a run: every record is in exactly one of these numbers.
pub fn summary(totals: &Totals, seconds: f64) -> String {
    use std::fmt::Write as _;
    let dead: u64 = totals.dead.values().sum();
    let rate = totals.evaluated as f64 / seconds.max(0.001);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{} records read: {} transactions accepted, {} records filtered, {dead} to dead letters",
        totals.read, totals.accepted, totals.filtered
    );
    for (reason, count) in &totals.dead {
        let _ = writeln!(out, "    {reason}: {count}");
    }
    if totals.files_lacking > 0 {
        let _ = writeln!(
            out,
            "{} files lack a column that their feed reads: the log says which, and `manumit feed check FEED FILE`",
            totals.files_lacking
        );
    }
    let _ = writeln!(out, "{} evaluated, {} late", totals.evaluated, totals.late);
    if totals.duplicates > 0 {
        let _ = writeln!(
            out,
            "{} duplicates dropped: the same transaction, by id and content, came before",
            totals.duplicates
        );
    }
    if let Some(Counts { archived, late, known, expired }) = totals.archived {
        let _ = writeln!(
            out,
            "{archived} archived ({late} of them late), {known} were in the archive already, {expired} older than its retention"
        );
    }
    for (currency, count) in &totals.unpriced {
        let _ = writeln!(
            out,
            "{count} transactions in {currency} have no amount in the base currency, so rules on amounts do not see \
             them: give a rate in the reference table fx_rates, or set base_currency"
        );
    }
    if totals.faults > 0 {
        let _ = writeln!(
            out,
            "{} expressions failed on a row and counted as unknown (see dead letters)",
            totals.faults
        );
    }
    if totals.steps_dropped > 0 {
        let _ = writeln!(
            out,
            "{} rows were forgotten because their account (or other subject) has too many rows for sequences: a sequence \
             that needs them is missed; shorten its `within` or narrow the conditions of its steps",
            totals.steps_dropped
        );
    }
    if totals.rows_refused > 0 {
        let _ = writeln!(
            out,
            "{} rows of accounts (or other subjects) without any before were not looked at because memory for windows was full: hits and \
             alerts may be missing; give more in [state], name a folder for older rows, or shorten windows (docker/STATE.md)",
            totals.rows_refused
        );
    }
    if totals.reference_refused > 0 {
        let _ = writeln!(
            out,
            "{} rows of reference topics were refused because memory for reference tables was full: what rules know of accounts and customers \
             lacks them; give more by `reference` in [limits] (docker/STATE.md)",
            totals.reference_refused
        );
    }
    if totals.sequences_given_up > 0 {
        let _ = writeln!(
            out,
            "{} rows were not looked at to the end because too many rows before them could be steps of a sequence: they \
             count as no hit; narrow the conditions of its steps",
            totals.sequences_given_up
        );
    }
    let _ = writeln!(
        out,
        "{} hits, {} alerts opened, {} revised, {} held back by a suppression, {} hits of gates silenced by an exclusion",
        totals.hits, totals.opened, totals.revised, totals.suppressed, totals.excluded
    );
    let _ = write!(out, "{seconds:.1} s, {rate:.0} transactions/s");
    out
}
