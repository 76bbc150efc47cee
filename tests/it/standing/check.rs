//! What must hold of one case.

use std::ops::AddAssign;
use std::sync::Arc;

use manumit_model::Alert;
use manumit_rules::ir::RuleSet;
use manumit_sql::Sql;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Case;
use super::answers::{Hit, answer, difference, has_window_sql, hit_rows, plain_sql};
use super::rows::{self, Partition, Row, STARTS};
use super::stream::{Feeding, Outcome, stream};
use super::{rules, ticks};
use crate::oracle::{add_tables, alerts_of, opened, queries, reference_tables, remove_tables, row_id};

const DAY: i64 = 86_400_000_000;

/// How much was compared, so that a run that compares nothing fails.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    pub hits: usize,
    /// Those of keyed queries.
    pub at_ticks: usize,
    pub opened: usize,
    pub revised: usize,
    pub late: usize,
    /// Indicators that only the plain answer could be held against.
    pub plain_only: usize,
    /// Cases whose rows were moved in time.
    pub shifted: usize,
    /// Cases with a key of so many rows that accumulators follow its windows.
    pub hot: usize,
}

impl AddAssign<&Seen> for Seen {
    fn add_assign(&mut self, other: &Seen) {
        self.hits += other.hits;
        self.at_ticks += other.at_ticks;
        self.opened += other.opened;
        self.revised += other.revised;
        self.late += other.late;
        self.plain_only += other.plain_only;
        self.shifted += other.shifted;
        self.hot += other.hot;
    }
}

struct Checker<'c> {
    case: &'c Case,
    sql: Sql,
    rules: Arc<RuleSet>,
    /// Ways of cutting and mixing are drawn anew for each case, and equally for an equal case.
    rng: ChaCha8Rng,
}

/// Everything that must hold of a case; in words what does not.
pub fn check(case: &Case) -> Result<Seen, String> {
    let sql = Sql::new();
    let rules = rules::loaded(&case.indicators, &case.typologies, &sql)
        .map_err(|faults| format!("the loader refuses a rule that was drawn:\n{faults}"))?;
    let mut checker =
        Checker { case, sql, rules: Arc::new(rules), rng: ChaCha8Rng::seed_from_u64(case.seed ^ 0x5eed) };
    checker.all()
}

impl Checker<'_> {
    fn all(&mut self) -> Result<Seen, String> {
        let case = self.case;
        let mut seen = Seen::default();
        let ours = self.run(&case.partitions, &case.rows, 1, Feeding::Whole)?;
        let accepted = self.lateness(&ours, &mut seen)?;
        self.batch(&ours, &accepted, &mut seen)?;
        self.cuts(&ours)?;
        self.strangers(&ours)?;
        self.moved(&ours, &mut seen)?;
        self.prefix(&ours, &accepted)?;
        seen.hits = ours.hits.len();
        let keyed = |hit: &&Hit| self.rules.indicators[hit.indicator].keyed.is_some();
        seen.at_ticks = ours.hits.iter().filter(keyed).count();
        seen.opened = ours.alerts.iter().filter(|a| a.revision == 1).count();
        seen.revised = ours.alerts.len() - seen.opened;
        seen.hot = usize::from(case.rows.iter().filter(|row| row.debtor == Some(0)).count() > 80);
        Ok(seen)
    }

    fn run(
        &mut self,
        partitions: &[Partition],
        rows: &[Row],
        threads: usize,
        feeding: Feeding,
    ) -> Result<Outcome, String> {
        stream(&self.rules, &self.sql, partitions, rows, threads, feeding, &mut self.rng)
    }

    /// Late rows are those that the definition names; all others are evaluated once. Gives the latter.
    fn lateness(&self, ours: &Outcome, seen: &mut Seen) -> Result<Vec<Row>, String> {
        let is_late = rows::late(&self.case.partitions, &self.case.rows);
        let mut wanted: Vec<String> = self
            .case
            .rows
            .iter()
            .zip(&is_late)
            .filter(|(_, late)| **late)
            .map(|(row, _)| format!("t{:06}", row.id))
            .collect();
        wanted.sort();
        if ours.late != wanted {
            return Err(format!("late rows: {:?}, by the definition {wanted:?}", ours.late));
        }
        let accepted: Vec<Row> = self
            .case
            .rows
            .iter()
            .zip(&is_late)
            .filter(|(_, late)| !**late)
            .map(|(row, _)| row.clone())
            .collect();
        if ours.evaluated != accepted.len() as u64 {
            return Err(format!("{} rows evaluated, {} were on time", ours.evaluated, accepted.len()));
        }
        seen.late = wanted.len();
        Ok(accepted)
    }

    /// The same hits and alerts as DataFusion finds over all rows at once.
    fn batch(&mut self, ours: &Outcome, accepted: &[Row], seen: &mut Seen) -> Result<(), String> {
        let rows: Vec<&Row> = accepted.iter().collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|e| e.to_string())?;
        add_tables(&self.sql, &rows::batch(&self.case.partitions, &rows));
        reference_tables(&self.sql);
        let result = runtime.block_on(self.answers(ours, seen));
        remove_tables(&self.sql);
        let wanted = result?;
        let found = opened(&ours.alerts);
        if found != wanted {
            return Err(format!("alerts opened: {found:?}\nby SQL over all hits: {wanted:?}"));
        }
        Ok(())
    }

    async fn answers(&self, ours: &Outcome, seen: &mut Seen) -> Result<Vec<crate::oracle::Opened>, String> {
        let mut hitting = Vec::new();
        for (index, indicator) in self.rules.indicators.iter().enumerate() {
            let mine: Vec<Hit> = ours.hits.iter().filter(|h| h.indicator == index).cloned().collect();
            let told = |what: &str, theirs: &[Hit], leave_out: &[char]| {
                difference(&self.rules, &mine, theirs, leave_out)
                    .map_or(Ok(()), |d| Err(format!("{what}: {d}")))
            };
            if indicator.keyed.is_some() {
                let mut theirs = Vec::new();
                for query in queries(&self.rules, index, &self.sql).await {
                    theirs.extend(answer(&self.rules, &self.sql, index, &query).await?);
                }
                told("the stream against its own SQL at each tick", &theirs, &[])?;
                let theirs = ticks::plain(&self.rules, &self.sql, index).await?;
                told("the stream against the definition of ticks", &theirs, &[])?;
                hitting.push(hit_rows(&self.sql, index, &mine));
                continue;
            }
            let windows = has_window_sql(indicator);
            if windows {
                let theirs = answer(&self.rules, &self.sql, index, &indicator.sql).await?;
                told("the stream against its own SQL", &theirs, &['p'])?;
            } else {
                seen.plain_only += 1;
            }
            let query = plain_sql(indicator);
            if indicator.sequence.is_none() {
                let theirs = answer(&self.rules, &self.sql, index, &query).await?;
                told("the stream against the plain definition", &theirs, &[])?;
            }
            let query = if windows { &indicator.sql } else { &query };
            hitting.push(format!("SELECT {} FROM ({query})", row_id(indicator.over)));
        }
        Ok(alerts_of(&self.rules, &self.sql, &hitting).await)
    }

    /// `B1`, `B2`, `B3`: batches, interleaving of partitions and threads change nothing.
    fn cuts(&mut self, ours: &Outcome) -> Result<(), String> {
        let case = self.case;
        for feeding in [Feeding::Cut, Feeding::Cut, Feeding::Restarted, Feeding::OneByOne] {
            let threads = self.rng.random_range(1..=4);
            let again = self.run(&case.partitions, &case.rows, threads, feeding)?;
            same(&self.rules, &format!("{threads} threads, fed {feeding:?}"), &again, ours)?;
        }
        Ok(())
    }

    /// Rows of other keys, in a partition of their own, change nothing.
    fn strangers(&mut self, ours: &Outcome) -> Result<(), String> {
        let mut partitions = self.case.partitions.clone();
        // As late as any row can be.
        partitions.push(Partition { feed: "bank", lateness_micros: 1000 * DAY });
        let mut rows = self.case.rows.clone();
        rows.extend(rows::unrelated(&mut self.rng, &self.case.rows, partitions.len() - 1));
        let mut again = self.run(&partitions, &rows, 2, Feeding::Whole)?;
        let ours_alone = |key: &str| !key.starts_with('U');
        again.evaluated = ours.evaluated;
        again.hits.retain(|hit| ours_alone(&hit.subject));
        again.alerts.retain(|alert| ours_alone(&alert.subject.key));
        same(&self.rules, "with rows of other keys added", &again, ours)
    }

    /// All rows moved by whole weeks: the same hits, moved. Not where local days or months, or lists that hold from some
    /// day on, make a difference.
    fn moved(&mut self, ours: &Outcome, seen: &mut Seen) -> Result<(), String> {
        let case = self.case;
        let files = rules::files(&case.indicators, &[]);
        let text: String = files.into_iter().map(|(_, text)| text).collect();
        let summer = case.rows.iter().all(|row| (row.time / 1_000_000 - STARTS[0]).abs() < 14 * 86_400);
        if text.contains("calendar month")
            || text.contains("'gifts'")
            || text.contains("accounts l")
            || !summer
        {
            return Ok(());
        }
        seen.shifted = 1;
        let by = 7 * DAY * self.rng.random_range(1..4);
        let moved: Vec<Row> =
            case.rows.iter().map(|row| Row { time: row.time + by, ..row.clone() }).collect();
        let mut again = self.run(&case.partitions, &moved, 1, Feeding::Whole)?;
        again.hits.iter_mut().for_each(|hit| hit.time -= by);
        if let Some(told) = difference(&self.rules, &again.hits, &ours.hits, &['e']) {
            return Err(format!("moved by {} days: {told}", by / DAY));
        }
        let back: Vec<_> =
            opened(&again.alerts).into_iter().map(|(t, s, at, score)| (t, s, at - by, score)).collect();
        if back != opened(&ours.alerts) {
            return Err(format!(
                "moved by {} days: alerts {back:?}\nunmoved {:?}",
                by / DAY,
                opened(&ours.alerts)
            ));
        }
        Ok(())
    }

    /// What is found up to some time does not depend on what comes after.
    fn prefix(&mut self, ours: &Outcome, accepted: &[Row]) -> Result<(), String> {
        if accepted.is_empty() {
            return Ok(());
        }
        let until = accepted[self.rng.random_range(0..accepted.len())].time;
        // On time before, on time now: rows that are left out can only have made others late.
        let rows: Vec<Row> = accepted.iter().filter(|row| row.time <= until).cloned().collect();
        let mut again = self.run(&self.case.partitions, &rows, 1, Feeding::Whole)?;
        // The ticks after the last row are asked, too, when there are no more rows.
        again.hits.retain(|hit| hit.time <= until);
        again.alerts.retain(|alert| raised(alert) <= until);
        let mut wanted = ours.clone();
        wanted.hits.retain(|hit| hit.time <= until);
        wanted.alerts.retain(|alert| raised(alert) <= until);
        wanted.late.clear();
        wanted.evaluated = rows.len() as u64;
        same(&self.rules, &format!("rows after {until} left out"), &again, &wanted)
    }
}

fn raised(alert: &Alert) -> i64 {
    chrono::DateTime::parse_from_rfc3339(&alert.raised_at.utc).map_or(i64::MAX, |t| t.timestamp_micros())
}

fn same(rules: &RuleSet, how: &str, again: &Outcome, ours: &Outcome) -> Result<(), String> {
    if let Some(told) = difference(rules, &again.hits, &ours.hits, &[]) {
        return Err(format!("{how}: {told}"));
    }
    if again.late != ours.late || again.evaluated != ours.evaluated {
        return Err(format!(
            "{how}: late {:?}, {} evaluated; at first late {:?}, {} evaluated",
            again.late, again.evaluated, ours.late, ours.evaluated
        ));
    }
    if again.alerts != ours.alerts {
        let told = again.alerts.iter().zip(&ours.alerts).find(|(a, b)| a != b);
        return Err(format!(
            "{how}: {} alerts, at first {}; the first that differs: {told:#?}",
            again.alerts.len(),
            ours.alerts.len()
        ));
    }
    Ok(())
}
