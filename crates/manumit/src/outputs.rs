//! Sinks of a run, and what it counted.

use std::collections::BTreeMap;

use anyhow::Context as _;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use chrono::{DateTime, SecondsFormat};
use manumit_archive::Counts;
use manumit_engine::{Fault, LateRows, Step, documents};
use manumit_io::{Commits, KafkaSettings, Sink};
use manumit_model::{Alert, DeadLetter, LateRow, Position, Stage};
use manumit_rules::ir::RuleSet;

use crate::alert_log::{AlertLog, Head};
use crate::config::Output;
use crate::telemetry::Metrics;

/// What a run counted. `read = accepted-records + filtered + dead`, and every accepted row ends evaluated or late.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records read.
    pub read: u64,
    /// Transactions mapped from them.
    pub accepted: u64,
    /// Records that a feed's WHERE left out.
    pub filtered: u64,
    /// Dead letters by reason.
    pub dead: BTreeMap<String, u64>,
    /// Files without a column that their feed's SELECT reads.
    pub files_lacking: u64,
    /// Rows dropped because the same ones came before.
    pub duplicates: u64,
    /// Transactions without an amount in the base currency, by their currency: no rate was known.
    pub unpriced: BTreeMap<String, u64>,
    /// Rows behind their partition's watermark.
    pub late: u64,
    /// Rows evaluated.
    pub evaluated: u64,
    /// Hits of indicators.
    pub hits: u64,
    /// Times a typology held for a subject.
    pub raised: u64,
    /// Alert revisions given to the sink.
    pub published: u64,
    /// Alerts opened.
    pub opened: u64,
    /// Revisions of open alerts.
    pub revised: u64,
    /// Times an open alert held again without being published.
    pub suppressed: u64,
    /// Gate hits that an exclusion silenced.
    pub excluded: u64,
    /// Rows on which an expression of a rule failed.
    pub faults: u64,
    /// Rows of steps dropped because their key had too many, although a sequence might still have used them.
    pub steps_dropped: u64,
    /// Rows at which the search for a sequence was given up.
    pub sequences_given_up: u64,
    /// Rows that were not looked at, as their keys were new and memory was full.
    pub rows_refused: u64,
    /// Rows of reference topics that were refused, as memory for these tables was full.
    pub reference_refused: u64,
    /// What was archived, when it was.
    pub archived: Option<Counts>,
}

impl Totals {
    /// Adds what a later part of the same run brought.
    pub fn add(&mut self, later: Totals) {
        for (mine, theirs) in [
            (&mut self.read, later.read),
            (&mut self.accepted, later.accepted),
            (&mut self.filtered, later.filtered),
            (&mut self.files_lacking, later.files_lacking),
            (&mut self.duplicates, later.duplicates),
            (&mut self.late, later.late),
            (&mut self.evaluated, later.evaluated),
            (&mut self.hits, later.hits),
            (&mut self.raised, later.raised),
            (&mut self.published, later.published),
            (&mut self.opened, later.opened),
            (&mut self.revised, later.revised),
            (&mut self.suppressed, later.suppressed),
            (&mut self.excluded, later.excluded),
            (&mut self.faults, later.faults),
            (&mut self.steps_dropped, later.steps_dropped),
            (&mut self.sequences_given_up, later.sequences_given_up),
            (&mut self.rows_refused, later.rows_refused),
            (&mut self.reference_refused, later.reference_refused),
        ] {
            *mine += theirs;
        }
        for (mine, theirs) in [(&mut self.dead, later.dead), (&mut self.unpriced, later.unpriced)] {
            for (what, count) in theirs {
                *mine.entry(what).or_default() += count;
            }
        }
        self.archived = match (self.archived, later.archived) {
            (Some(mine), Some(theirs)) => Some(Counts {
                archived: mine.archived + theirs.archived,
                late: mine.late + theirs.late,
                known: mine.known + theirs.known,
                expired: mine.expired + theirs.expired,
            }),
            (mine, theirs) => theirs.or(mine),
        };
    }
}

/// Open sinks.
pub struct Outputs {
    alerts: Sink,
    /// Where alerts that cannot wait go as well.
    urgent: Option<Sink>,
    dead_letters: Sink,
    late: Sink,
    hits: Option<Sink>,
    log: Option<AlertLog>,
    /// Of alerts, dead letters, late rows, hits, urgent alerts, alert log, as configured.
    names: [Option<String>; 6],
    /// Alerts kept for the caller (the demo), when wanted.
    pub kept: Option<Vec<Alert>>,
}

impl Outputs {
    /// Opens all of them. Files of batch runs are written anew, those of services appended to.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn open(output: &Output, kafka: Option<&KafkaSettings>, anew: bool) -> anyhow::Result<Outputs> {
        let open = |what: &str, target: &str| -> anyhow::Result<Sink> {
            // A text cannot fail to name a target.
            let Ok(target) = target.parse();
            Sink::open(&target, kafka, anew).with_context(|| format!("the sink for {what}"))
        };
        Ok(Outputs {
            alerts: open("alerts", &output.alerts)?,
            urgent: output.urgent.as_deref().map(|target| open("urgent alerts", target)).transpose()?,
            dead_letters: open("dead letters", &output.dead_letters)?,
            late: open("late rows", &output.late)?,
            hits: output.hits.as_deref().map(|target| open("hits", target)).transpose()?,
            log: output.alert_log.as_deref().map(|path| AlertLog::open(path, None, None)).transpose()?,
            names: Outputs::names(output),
            kept: None,
        })
    }

    /// Opens sinks whose content follows commits; `lengths` of files by their names as configured.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn committed(
        output: &Output,
        commits: Commits<'_>,
        lengths: &BTreeMap<String, u64>,
    ) -> anyhow::Result<Outputs> {
        let open = |what: &str, target: &str| -> anyhow::Result<Sink> {
            // A text cannot fail to name a target.
            let Ok(parsed) = target.parse();
            Sink::committed(&parsed, commits, lengths.get(target).copied())
                .with_context(|| format!("the sink for {what}"))
        };
        Ok(Outputs {
            alerts: open("alerts", &output.alerts)?,
            urgent: output.urgent.as_deref().map(|target| open("urgent alerts", target)).transpose()?,
            dead_letters: open("dead letters", &output.dead_letters)?,
            late: open("late rows", &output.late)?,
            hits: output.hits.as_deref().map(|target| open("hits", target)).transpose()?,
            log: match &output.alert_log {
                None => None,
                Some(path) => {
                    let length = lengths.get(&path.display().to_string()).copied();
                    Some(AlertLog::open(path, Some(commits), length)?)
                }
            },
            names: Outputs::names(output),
            kept: None,
        })
    }

    fn names(output: &Output) -> [Option<String>; 6] {
        let Output { alerts, dead_letters, late, hits, urgent, .. } = output.clone();
        let log = output.alert_log.as_ref().map(|path| path.display().to_string());
        [Some(alerts), Some(dead_letters), Some(late), hits, urgent, log]
    }

    /// The alert log and where it has come to, if there is one.
    pub fn log(&self) -> Option<(&std::path::Path, &Head)> {
        self.log.as_ref().map(|log| (log.path(), log.head()))
    }

    /// Lengths of files when all is on disk, by their names as configured.
    ///
    /// # Errors
    /// When a sink fails.
    pub fn settled(&mut self) -> anyhow::Result<BTreeMap<String, u64>> {
        let mut lengths = BTreeMap::new();
        let [alerts, dead, late] = [&mut self.alerts, &mut self.dead_letters, &mut self.late].map(Some);
        let sinks = [alerts, dead, late, self.hits.as_mut(), self.urgent.as_mut()];
        let sinks = sinks.into_iter().chain([self.log.as_mut().map(AlertLog::sink)]);
        for (sink, name) in sinks.zip(&self.names) {
            if let (Some(sink), Some(name)) = (sink, name)
                && let Some(length) = sink.settled()?
            {
                lengths.insert(name.clone(), length);
            }
        }
        Ok(lengths)
    }

    /// Writes dead letters.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn dead_letters(
        &mut self,
        letters: &[DeadLetter],
        totals: &mut Totals,
        metrics: &Metrics,
    ) -> anyhow::Result<()> {
        for letter in letters {
            *totals.dead.entry(letter.reason.clone()).or_default() += 1;
            metrics.dead_letter(letter);
            self.dead_letter(letter)?;
        }
        Ok(())
    }

    /// Writes a message of a reference topic that could not be used; it is no record of a feed.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn reference_letter(&mut self, letter: &DeadLetter, metrics: &Metrics) -> anyhow::Result<()> {
        metrics.dead_letter(letter);
        self.dead_letter(letter)
    }

    /// A letter too long for its topic keeps the beginning of the record: it must never stop the stream.
    fn dead_letter(&mut self, letter: &DeadLetter) -> anyhow::Result<()> {
        let mut json = serde_json::to_vec(letter)?;
        if json.len() > self.dead_letters.limit() {
            let mut shorter = letter.clone();
            while json.len() > self.dead_letters.limit() && shorter.halve_raw() {
                json = serde_json::to_vec(&shorter)?;
            }
        }
        self.dead_letters.send(&letter.position.to_string(), &json)?;
        Ok(())
    }

    /// An alert too long for its topics lists fewer of its transactions, and says how many it left out.
    fn alert(&mut self, alert: &Alert) -> anyhow::Result<()> {
        let mut json = serde_json::to_vec(alert)?;
        let urgent = self.urgent.as_mut().filter(|_| alert.urgent);
        // Both get the same bytes: whoever has one of them has what the log says.
        let limit = urgent.as_ref().map_or(usize::MAX, |sink| sink.limit()).min(self.alerts.limit());
        if json.len() > limit {
            let mut shorter = alert.clone();
            while json.len() > limit && !shorter.transactions.is_empty() {
                let kept = shorter.transactions.len() / 2;
                shorter.transactions_omitted += (shorter.transactions.len() - kept) as u64;
                shorter.transactions.truncate(kept);
                shorter = shorter.sealed()?;
                json = serde_json::to_vec(&shorter)?;
            }
        }
        self.alerts.send(&alert.alert_id, &json)?;
        if let Some(urgent) = urgent {
            urgent.send(&alert.alert_id, &json)?;
        }
        match &mut self.log {
            Some(log) => log.add(alert, &json),
            None => Ok(()),
        }
    }

    /// Writes late rows.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn late(
        &mut self,
        feed: &str,
        late: &LateRows,
        totals: &mut Totals,
        metrics: &Metrics,
    ) -> anyhow::Result<()> {
        totals.late += late.rows.num_rows() as u64;
        metrics.late.with_label_values(&[feed]).inc_by(late.rows.num_rows() as u64);
        for (row, &watermark) in late.watermarks.iter().enumerate() {
            let late = late_row(feed, late, row, watermark);
            self.late.send(&late.tx_id, &serde_json::to_vec(&late)?)?;
        }
        Ok(())
    }

    /// Writes what a step found.
    ///
    /// # Errors
    /// When a sink fails.
    pub fn step(
        &mut self,
        rules: &RuleSet,
        step: Step,
        totals: &mut Totals,
        metrics: &Metrics,
    ) -> anyhow::Result<()> {
        totals.evaluated += step.evaluated;
        totals.hits += step.hit_count;
        totals.raised += step.raised;
        totals.suppressed += step.suppressed;
        totals.excluded += step.excluded;
        totals.faults += step.faults.len() as u64;
        totals.steps_dropped += step.steps_dropped;
        totals.sequences_given_up += step.sequences_given_up;
        totals.rows_refused += step.rows_refused;
        metrics.step(&step);
        for fault in &step.faults {
            let letter = fault_letter(fault);
            metrics.dead_letter(&letter);
            self.dead_letter(&letter)?;
        }
        if let Some(sink) = &mut self.hits {
            for hit in documents::documents(rules, &step.hits) {
                sink.send(&hit.subject, &serde_json::to_vec(&hit)?)?;
            }
        }
        for alert in step.alerts {
            if alert.revision == 1 {
                totals.opened += 1;
            } else {
                totals.revised += 1;
            }
            self.alert(&alert)?;
            totals.published += 1;
            if let Some(kept) = &mut self.kept {
                kept.push(alert);
            }
        }
        Ok(())
    }

    /// Waits until all is written and delivered.
    ///
    /// # Errors
    /// When a sink fails.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        let sinks = [&mut self.alerts, &mut self.dead_letters, &mut self.late];
        for sink in sinks.into_iter().chain(&mut self.hits).chain(&mut self.urgent) {
            sink.flush()?;
        }
        // A record without its alert would be a lie; an alert without its record is told when the log is verified.
        self.log.as_mut().map_or(Ok(()), |log| log.sink().flush())?;
        Ok(())
    }
}

/// A row whose rules could not all be evaluated: it was evaluated as if the value were unknown.
fn fault_letter(fault: &Fault) -> DeadLetter {
    let message = format!(
        "an expression of a rule failed on transaction {} and counted as unknown there: {}",
        fault.tx_id, fault.message
    );
    DeadLetter::new(&fault.feed, fault.position.clone(), Stage::Evaluate, "expression_failed", message)
}

fn late_row(feed: &str, late: &LateRows, row: usize, watermark: i64) -> LateRow {
    let rows = &late.rows;
    let text = |name: &str| {
        let column = rows.column_by_name(name).and_then(|c| c.as_string_opt::<i32>());
        column.filter(|c| c.is_valid(row)).map_or(String::new(), |c| c.value(row).to_string())
    };
    let time = rows
        .column_by_name("event_time")
        .and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>())
        .map_or(0, |times| times.value(row));
    let partition = rows.column_by_name("source_partition").and_then(|c| c.as_primitive_opt::<Int32Type>());
    let offset = rows.column_by_name("source_offset").and_then(|c| c.as_primitive_opt::<Int64Type>());
    let moment = |micros: i64| {
        DateTime::from_timestamp_micros(micros)
            .map_or_else(|| micros.to_string(), |t| t.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    };
    let late_by_seconds = watermark.saturating_sub(time) / 1_000_000;
    LateRow {
        feed: feed.to_string(),
        position: Position {
            source: text("source").into(),
            partition: partition.map_or(0, |p| p.value(row)),
            offset: offset.map_or(0, |o| o.value(row)),
        },
        tx_id: text("tx_id"),
        event_time: moment(time),
        watermark: moment(watermark),
        late_by_seconds,
        reason: format!(
            "the row came {late_by_seconds} s behind what its partition had already passed; raise `lateness` of the feed to wait longer"
        ),
        transaction: manumit_model::row::json(rows, row, &[]),
    }
}
