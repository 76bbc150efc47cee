//! What was read and what became of it: every record is accounted for, by feed and partition.
//!
//! ```text
//!  brought + read + further = filtered + dead letters + duplicates + late + evaluated + waiting
//! ```
//! `read` counts records. A record of a feed with `unnest` may give several outcomes: those beyond the first are `further`. A
//! record of which some items are good and some not is one dead letter, and its good items go on. Each number is counted where it comes about (records by the
//! reader, rows released by the engine's order, alerts by the sinks), so that the sums are a check and no definition.
//!
//! # Invariants
//! - `L1` the sums hold for every partition at every commit and at the end; a run that delivers exactly once commits nothing
//!   otherwise.
//! - `L2` alerts raised = published + suppressed.
//! - `L3` what a checkpoint holds is the ledger of exactly the records that its offsets are behind.

use std::collections::BTreeMap;

use manumit_engine::{Engine, PartitionId};
use manumit_model::DeadLetter;
use serde::{Deserialize, Serialize};

use crate::duplicates::CONFLICT;

mod days;

pub use days::{AlertLine, Folder, Line, PartitionLine, What};

/// What happened to the records of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Rows that waited when counting began.
    pub brought: u64,
    /// Records read.
    pub read: u64,
    /// Outcomes of records beyond their first: a record with a list gives several rows.
    pub further: u64,
    /// Records that the feed's mapping left out.
    pub filtered: u64,
    /// Dead letters by reason; those of conflicting ids are among them.
    pub dead_letters: BTreeMap<String, u64>,
    /// Rows dropped because the same ones came before.
    pub duplicates: u64,
    /// Rows behind their partition's watermark.
    pub late: u64,
    /// Rows evaluated.
    pub evaluated: u64,
    /// Rows that wait for the watermark.
    pub waiting: u64,
}

impl Counts {
    /// All that came.
    pub fn came(&self) -> u64 {
        self.brought + self.read + self.further
    }

    /// All that has gone somewhere, or waits.
    pub fn went(&self) -> u64 {
        let dead: u64 = self.dead_letters.values().sum();
        self.filtered + dead + self.duplicates + self.late + self.evaluated + self.waiting
    }

    /// Whether nothing is missing and nothing is twice.
    pub fn balances(&self) -> bool {
        self.came() == self.went()
    }

    /// Records whose id came before with other content.
    pub fn conflicts(&self) -> u64 {
        self.dead_letters.get(CONFLICT).copied().unwrap_or(0)
    }

    /// What was counted since `before`, for which that is the beginning.
    fn since(&self, before: &Counts) -> Counts {
        let dead = self.dead_letters.iter().filter_map(|(reason, count)| {
            let count = count.saturating_sub(before.dead_letters.get(reason).copied().unwrap_or(0));
            (count > 0).then(|| (reason.clone(), count))
        });
        Counts {
            brought: before.waiting + self.brought.saturating_sub(before.brought),
            read: self.read.saturating_sub(before.read),
            further: self.further.saturating_sub(before.further),
            filtered: self.filtered.saturating_sub(before.filtered),
            dead_letters: dead.collect(),
            duplicates: self.duplicates.saturating_sub(before.duplicates),
            late: self.late.saturating_sub(before.late),
            evaluated: self.evaluated.saturating_sub(before.evaluated),
            waiting: self.waiting,
        }
    }

    /// Both sides of the sum in words.
    fn words(&self) -> String {
        let dead: u64 = self.dead_letters.values().sum();
        format!(
            "{} came ({} brought, {} read, {} further), but {} are accounted for ({} filtered, {dead} dead letters, {} duplicates, \
             {} late, {} evaluated, {} waiting)",
            self.came(),
            self.brought,
            self.read,
            self.further,
            self.went(),
            self.filtered,
            self.duplicates,
            self.late,
            self.evaluated,
            self.waiting
        )
    }
}

/// One partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The feed.
    pub feed: String,
    /// Topic; for files the feed's name.
    pub source: String,
    /// Partition; 0 for files.
    pub partition: i32,
    /// The offset behind the last record read; 0 for files.
    pub next_offset: i64,
    /// Event time that the partition has passed, microseconds UTC.
    #[serde(default)]
    pub watermark_micros: Option<i64>,
    /// Since the ledger began.
    #[serde(flatten)]
    pub counts: Counts,
    /// The counts when the day began.
    #[serde(default)]
    before_today: Counts,
    /// Evaluated before this run began.
    #[serde(skip)]
    evaluated_before: u64,
    /// How the engine knows it; several when it was taken away and came back.
    #[serde(skip)]
    ids: Vec<PartitionId>,
}

/// What became of alerts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AlertCounts {
    /// Times a typology held for a subject.
    pub raised: u64,
    /// Of them published: opened or revised.
    pub published: u64,
    /// Of them suppressed: the alert was open, and there was nothing stronger to say yet.
    pub suppressed: u64,
    /// Gate hits that an exclusion silenced before anything was raised.
    pub excluded: u64,
}

impl AlertCounts {
    fn since(&self, before: &AlertCounts) -> AlertCounts {
        AlertCounts {
            raised: self.raised.saturating_sub(before.raised),
            published: self.published.saturating_sub(before.published),
            suppressed: self.suppressed.saturating_sub(before.suppressed),
            excluded: self.excluded.saturating_sub(before.excluded),
        }
    }

    /// Whether every alert raised is published or suppressed.
    pub fn balances(&self) -> bool {
        self.raised == self.published + self.suppressed
    }
}

/// A sum that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the ledger does not balance: {0}. Records were lost or counted twice: this is a bug, or the checkpoint was changed; please \
     report it. Nothing is committed from here on. To go on, put the folder of checkpoints aside: the next run makes its state \
     from the archive and begins a new ledger"
)]
pub struct Violation(pub String);

/// The account of a run, or, with checkpoints, of all runs since the ledger began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// When it began, RFC 3339 UTC.
    pub began: String,
    /// The day that is counted, UTC, by the clock.
    day: String,
    /// By feed and partition, in the order in which they were first read.
    pub accounts: Vec<Account>,
    /// Alerts.
    pub alerts: AlertCounts,
    alerts_before_today: AlertCounts,
    /// Alerts before this run began.
    #[serde(skip)]
    alerts_before: AlertCounts,
}

/// What a batch of records came to.
#[derive(Debug, Default)]
pub struct Taken<'a> {
    /// Records.
    pub read: u64,
    /// Outcomes beyond one a record.
    pub further: u64,
    /// Records left out.
    pub filtered: u64,
    /// Rows dropped.
    pub duplicates: u64,
    /// Rows that were late.
    pub late: u64,
    /// Records set aside.
    pub dead_letters: &'a [DeadLetter],
    /// The offset behind them; 0 for files.
    pub next_offset: i64,
}

impl Account {
    /// What there is to tell of its partition, with these counts of it.
    fn line(&self, counts: Counts) -> PartitionLine {
        PartitionLine {
            feed: self.feed.clone(),
            source: self.source.clone(),
            partition: self.partition,
            next_offset: self.next_offset,
            watermark: self.watermark_micros.and_then(moment),
            lag: None,
            conflicts: counts.conflicts(),
            balances: counts.balances(),
            counts,
        }
    }
}

impl Ledger {
    /// An empty one that begins now.
    pub fn new(now: chrono::DateTime<chrono::Utc>) -> Ledger {
        Ledger {
            began: now.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            day: day(now),
            ..Ledger::default()
        }
    }

    /// One that an earlier run put away.
    pub fn taken_up(mut self) -> Ledger {
        for account in &mut self.accounts {
            account.evaluated_before = account.counts.evaluated;
        }
        self.alerts_before = self.alerts;
        self
    }

    /// The account of a partition that the engine knows as `id`; what waits in a new one was brought.
    pub fn open(
        &mut self,
        feed: &str,
        source: &str,
        partition: i32,
        id: PartitionId,
        engine: &Engine,
    ) -> usize {
        let is = |a: &Account| a.source == source && a.partition == partition && a.feed == feed;
        let index = self.accounts.iter().position(is).unwrap_or_else(|| {
            let waiting = engine.progress(id).map_or(0, |progress| progress.waiting_rows as u64);
            self.accounts.push(Account {
                feed: feed.into(),
                source: source.into(),
                partition,
                counts: Counts { brought: waiting, waiting, ..Counts::default() },
                ..Account::default()
            });
            self.accounts.len() - 1
        });
        let ids = &mut self.accounts[index].ids;
        if !ids.contains(&id) {
            ids.push(id);
        }
        index
    }

    /// Counts a batch of the account at `index`.
    pub fn take(&mut self, index: usize, taken: &Taken<'_>) {
        let Some(account) = self.accounts.get_mut(index) else { return };
        let counts = &mut account.counts;
        counts.read += taken.read;
        counts.further += taken.further;
        counts.filtered += taken.filtered;
        counts.duplicates += taken.duplicates;
        counts.late += taken.late;
        for letter in taken.dead_letters {
            match counts.dead_letters.get_mut(&letter.reason) {
                Some(count) => *count += 1,
                None => {
                    counts.dead_letters.insert(letter.reason.clone(), 1);
                }
            }
        }
        account.next_offset = account.next_offset.max(taken.next_offset);
    }

    /// Asks the engine what was released and what waits, and holds the sums against each other. `evaluated`: what the steps of
    /// this run said they evaluated; `alerts`: those of this run.
    ///
    /// # Errors
    /// [`Violation`] names the first sum that does not hold.
    pub fn settle(&mut self, engine: &Engine, evaluated: u64, alerts: AlertCounts) -> Result<(), Violation> {
        let before = self.alerts_before;
        self.alerts = AlertCounts {
            raised: before.raised + alerts.raised,
            published: before.published + alerts.published,
            suppressed: before.suppressed + alerts.suppressed,
            excluded: before.excluded + alerts.excluded,
        };
        let mut released = 0;
        for account in &mut self.accounts {
            let mut waiting = 0;
            let mut of_account = 0;
            for progress in account.ids.iter().filter_map(|&id| engine.progress(id)) {
                of_account += progress.released;
                waiting += progress.waiting_rows as u64;
                let reached = progress.watermark;
                account.watermark_micros = (reached > i64::MIN && reached < i64::MAX).then_some(reached);
            }
            account.counts.evaluated = account.evaluated_before + of_account;
            account.counts.waiting = waiting;
            released += of_account;
        }
        self.check(released, evaluated)
    }

    fn check(&self, released: u64, evaluated: u64) -> Result<(), Violation> {
        if let Some(account) = self.accounts.iter().find(|account| !account.counts.balances()) {
            let Account { feed, source, partition, counts, .. } = account;
            return Err(Violation(format!(
                "feed `{feed}`, `{source}` partition {partition}: {}",
                counts.words()
            )));
        }
        if released != evaluated {
            return Err(Violation(format!(
                "{released} rows were released in order, but {evaluated} were evaluated"
            )));
        }
        if !self.alerts.balances() {
            let AlertCounts { raised, published, suppressed, .. } = self.alerts;
            return Err(Violation(format!(
                "{raised} alerts were raised, but {published} were published and {suppressed} suppressed"
            )));
        }
        Ok(())
    }

    /// The lines of the day's file.
    fn lines(&self, now: &str) -> Vec<Line> {
        let of = |what| Line { day: self.day.clone(), run: self.began.clone(), written_at: now.into(), what };
        let today = |account: &Account| account.line(account.counts.since(&account.before_today));
        let mut lines: Vec<Line> =
            self.accounts.iter().map(|account| of(What::Partition(today(account)))).collect();
        let alerts = self.alerts.since(&self.alerts_before_today);
        lines.push(of(What::Alerts(AlertLine { counts: alerts, balances: alerts.balances() })));
        lines
    }

    /// Partitions with all that was counted since the ledger began.
    pub fn partitions(&self) -> Vec<PartitionLine> {
        self.accounts.iter().map(|account| account.line(account.counts.clone())).collect()
    }

    /// Another day begins.
    fn turn(&mut self, day: String) {
        self.day = day;
        for account in &mut self.accounts {
            account.before_today = account.counts.clone();
        }
        self.alerts_before_today = self.alerts;
    }
}

fn day(now: chrono::DateTime<chrono::Utc>) -> String {
    now.format("%Y-%m-%d").to_string()
}

fn moment(micros: i64) -> Option<String> {
    let time = chrono::DateTime::from_timestamp_micros(micros)?;
    Some(time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn at(text: &str) -> chrono::DateTime<chrono::Utc> {
        text.parse().unwrap()
    }

    pub(super) fn ledger() -> Ledger {
        let counts = Counts {
            brought: 2,
            read: 10,
            further: 1,
            filtered: 1,
            dead_letters: [("not_json".to_string(), 2), (CONFLICT.to_string(), 1)].into(),
            duplicates: 1,
            late: 1,
            evaluated: 4,
            waiting: 3,
        };
        let account = Account {
            feed: "bank".into(),
            source: "payments".into(),
            partition: 3,
            counts,
            ..Account::default()
        };
        let alerts = AlertCounts { raised: 5, published: 3, suppressed: 2, excluded: 1 };
        Ledger { accounts: vec![account], alerts, ..Ledger::new(at("2026-03-31T23:59:00Z")) }
    }

    /// Every number of a sum is one that can be wrong.
    #[test]
    fn a_sum_that_does_not_hold_names_feed_partition_and_numbers() {
        assert_eq!(ledger().check(4, 4), Ok(()));
        let changes: [fn(&mut Counts); 9] = [
            |counts| counts.brought += 1,
            |counts| counts.read += 1,
            |counts| counts.further += 1,
            |counts| counts.filtered += 1,
            |counts| *counts.dead_letters.entry("not_json".into()).or_default() += 1,
            |counts| counts.duplicates += 1,
            |counts| counts.late += 1,
            |counts| counts.evaluated += 1,
            |counts| counts.waiting += 1,
        ];
        for change in changes {
            let mut wrong = ledger();
            change(&mut wrong.accounts[0].counts);
            let words = wrong.check(4, 4).unwrap_err().to_string();
            assert!(words.contains("feed `bank`, `payments` partition 3") && words.contains("14"), "{words}");
        }
        assert!(ledger().check(4, 5).is_err());
        let mut wrong = ledger();
        wrong.alerts.suppressed += 1;
        assert!(wrong.check(4, 4).unwrap_err().to_string().contains("5 alerts were raised"));
    }

    #[test]
    fn a_ledger_is_the_same_when_it_is_read_back() {
        let text = serde_json::to_string(&ledger()).unwrap();
        assert_eq!(serde_json::from_str::<Ledger>(&text).unwrap(), ledger());
    }
}
