//! Sequences: at a row that can be the last step's, the search for the rows of the other steps.
//!
//! The search goes back in time, latest rows first, and takes a row back when the steps before it cannot be filled: it
//! finds the same rows as the SQL of the rule, which orders all ways to fill the steps and takes the first.
//! What depends on several steps (comparisons, numbers of rows, steps that must not be there) is looked at as soon as
//! the last row that it depends on is chosen.

use std::collections::VecDeque;
use std::ops::Range;

use manumit_rules::ir::{Operator, Quantity};

use crate::ring::{Layout, Row};
use crate::steps::StepRows;
use crate::values::whole;
use crate::window::Value;

/// Rows of repeated steps that one hit names as evidence, the latest ones.
const MAX_EVIDENCE: usize = 1_000;

/// A sequence with its expressions resolved to places of a row.
#[derive(Debug, Clone)]
pub(crate) struct SequenceProgram {
    pub within_micros: i64,
    pub steps: Vec<StepProgram>,
    /// The steps that must be there, in their order.
    pub anchors: Vec<usize>,
    /// By place among the anchors: what can be decided once that anchor's row and those of later ones are chosen.
    pub checks: Vec<Vec<Check>>,
}

/// One step.
#[derive(Debug, Clone)]
pub(crate) struct StepProgram {
    /// The keyspace's list of rows that pass its filter.
    pub list: usize,
    pub compared: Vec<Compared>,
    pub within_micros: Option<i64>,
    pub quantity: Quantity,
    pub counted: bool,
}

/// `own operator other`, the latter on the row of an earlier anchor.
#[derive(Debug, Clone)]
pub(crate) struct Compared {
    pub own: Place,
    pub operator: Operator,
    pub step: usize,
    pub other: Place,
}

/// Where a value stands among a row's arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// An integer, or interned text: equal when its bits are.
    Integer(usize),
    Float(usize),
    /// High and low half of a decimal.
    Decimal(usize, usize),
}

/// What must be so of rows between two anchors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// The anchor at this place among the anchors has as many rows as it needs.
    Count(usize),
    /// The step has no row between the anchors at these places.
    Not(usize, usize, usize),
}

impl SequenceProgram {
    /// Puts the steps together.
    pub(crate) fn new(within_micros: i64, steps: Vec<StepProgram>) -> SequenceProgram {
        let is_anchor = |step: &StepProgram| matches!(step.quantity, Quantity::AtLeast(_));
        let anchors: Vec<usize> = (0..steps.len()).filter(|&i| is_anchor(&steps[i])).collect();
        let mut checks = vec![Vec::new(); anchors.len()];
        let place = |step: usize| anchors.iter().position(|&a| a == step).unwrap_or(0);
        for (i, step) in steps.iter().enumerate() {
            let earliest = step.compared.iter().map(|c| place(c.step)).min();
            let after = anchors.partition_point(|&a| a < i);
            let check = match step.quantity {
                Quantity::AtLeast(_) if step.counted => Check::Count(after),
                Quantity::Not => Check::Not(i, after.saturating_sub(1), after),
                _ => continue,
            };
            let before = after.saturating_sub(1);
            checks[earliest.map_or(before, |earliest| earliest.min(before))].push(check);
        }
        SequenceProgram { within_micros, steps, anchors, checks }
    }
}

/// The rows that fill a sequence's steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Match {
    /// By step: its row; `None` for an optional step that is not there, and for steps with `not`.
    rows: Vec<Option<u64>>,
    /// By step: how many rows it has, where that is counted.
    counts: Vec<u64>,
    /// Numbers of the transactions of all these rows.
    pub seqs: Vec<u64>,
}

impl Match {
    /// A value of a step's row; `None` asks for the number of its rows.
    pub(crate) fn value(&self, step: usize, place: Option<Place>, rows: &StepRows, layout: Layout) -> Value {
        let row = self.rows[step].map(|number| rows.row(number, layout));
        match (place, row) {
            (None, row) => Value::Integer(match self.counts[step] {
                0 => i128::from(row.is_some()),
                count => i128::from(count),
            }),
            (Some(_), None) => Value::Null,
            (Some(Place::Integer(a) | Place::Float(a)), Some(row)) => {
                row.argument(a).map_or(Value::Null, Value::Bits)
            }
            (Some(Place::Decimal(high, low)), Some(row)) => {
                decimal(row, high, low).map_or(Value::Null, Value::Integer)
            }
        }
    }
}

/// More rows were looked at than may be for one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GaveUp;

/// Finds the rows that complete the sequence at row `own`, which passes the last step's filter. At most `trials` rows
/// are looked at.
///
/// # Errors
/// [`GaveUp`] when that is not enough: whether there is such a way is then not known.
pub(crate) fn search(
    program: &SequenceProgram,
    rows: &StepRows,
    layout: Layout,
    own: u64,
    trials: u64,
) -> Result<Option<Match>, GaveUp> {
    let last = program.anchors.len() - 1;
    let steps = program.steps.len();
    let end = rows.row(own, layout).time();
    let mut search =
        Search { program, rows, layout, end, chosen: vec![None; steps], counts: vec![0; steps], trials };
    search.chosen[program.anchors[last]] = Some(own);
    if !search.fill(last)? {
        return Ok(None);
    }
    search.fill_optional()?;
    let seqs = search.evidence()?;
    Ok(Some(Match { rows: search.chosen, counts: search.counts, seqs }))
}

struct Search<'a> {
    program: &'a SequenceProgram,
    rows: &'a StepRows,
    layout: Layout,
    /// Time of the row that completes the sequence.
    end: i64,
    chosen: Vec<Option<u64>>,
    counts: Vec<u64>,
    trials: u64,
}

impl<'a> Search<'a> {
    fn row(&self, number: u64) -> Row<'a> {
        self.rows.row(number, self.layout)
    }

    fn list(&self, step: usize) -> &'a VecDeque<u64> {
        self.rows.list(self.program.steps[step].list)
    }

    /// Time of the row chosen for the anchor at a place among the anchors.
    fn time(&self, place: usize) -> i64 {
        self.chosen[self.program.anchors[place]].map_or(self.end, |number| self.row(number).time())
    }

    fn spend(&mut self) -> Result<(), GaveUp> {
        self.trials = self.trials.checked_sub(1).ok_or(GaveUp)?;
        Ok(())
    }

    /// Chooses rows for all anchors before `place`, whose own row is chosen; false when there is no way.
    fn fill(&mut self, place: usize) -> Result<bool, GaveUp> {
        let Some(before) = place.checked_sub(1) else { return Ok(true) };
        let program = self.program;
        let (step, next) = (program.anchors[before], program.anchors[place]);
        let next_time = self.time(place);
        let mut from = self.end.saturating_sub(program.within_micros);
        if let Some(within) = program.steps[next].within_micros {
            from = from.max(next_time.saturating_sub(within));
        }
        for at in self.rows.places(program.steps[step].list, from..next_time, self.layout).rev() {
            self.spend()?;
            let number = self.list(step)[at];
            if !self.later_fit(place, step, number) {
                continue;
            }
            self.chosen[step] = Some(number);
            if self.checked(before)? && self.fill(before)? {
                return Ok(true);
            }
        }
        self.chosen[step] = None;
        Ok(false)
    }

    /// The rows chosen for the anchors from `place` on compare well with this row for `step`.
    fn later_fit(&self, place: usize, step: usize, number: u64) -> bool {
        self.program.anchors[place..].iter().all(|&later| {
            let compared = self.program.steps[later].compared.iter().filter(|c| c.step == step);
            self.chosen[later]
                .is_none_or(|own| compared.into_iter().all(|c| holds(c, self.row(own), self.row(number))))
        })
    }

    /// What can be decided now that the anchor at `place` is chosen is as it must be.
    fn checked(&mut self, place: usize) -> Result<bool, GaveUp> {
        for &check in &self.program.checks[place] {
            let good = match check {
                Check::Count(anchor) => {
                    let step = self.program.anchors[anchor];
                    self.counts[step] = self.count(step, self.repetitions(anchor))?;
                    matches!(self.program.steps[step].quantity, Quantity::AtLeast(n) if self.counts[step] >= n)
                }
                Check::Not(step, before, after) => {
                    self.fitting(step, self.between(before, after), 1)?.is_empty()
                }
            };
            if !good {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Times in which an anchor's rows are counted.
    fn repetitions(&self, anchor: usize) -> Range<i64> {
        let end = self.time(anchor);
        let from = match anchor.checked_sub(1) {
            Some(before) => self.time(before).saturating_add(1),
            None => {
                let first = &self.program.steps[self.program.anchors[0]];
                end.saturating_sub(first.within_micros.unwrap_or(self.program.within_micros))
            }
        };
        from..end.saturating_add(1)
    }

    /// Times between two anchors, their own left out.
    fn between(&self, before: usize, after: usize) -> Range<i64> {
        self.time(before).saturating_add(1)..self.time(after)
    }

    /// Rows of a step in these times that compare well with the rows chosen, the latest first, `most` at most.
    fn fitting(&mut self, step: usize, times: Range<i64>, most: usize) -> Result<Vec<u64>, GaveUp> {
        let program = &self.program.steps[step];
        let mut found = Vec::new();
        for at in self.rows.places(program.list, times, self.layout).rev() {
            self.spend()?;
            let number = self.list(step)[at];
            let good = program.compared.iter().all(|c| {
                self.chosen[c.step].is_some_and(|other| holds(c, self.row(number), self.row(other)))
            });
            if good {
                found.push(number);
                if found.len() >= most {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// How many rows of a step in these times compare well with the rows chosen.
    fn count(&mut self, step: usize, times: Range<i64>) -> Result<u64, GaveUp> {
        let program = &self.program.steps[step];
        if program.compared.is_empty() {
            return Ok(self.rows.places(program.list, times, self.layout).len() as u64);
        }
        Ok(self.fitting(step, times, usize::MAX)?.len() as u64)
    }

    fn fill_optional(&mut self) -> Result<(), GaveUp> {
        for step in 0..self.program.steps.len() {
            if self.program.steps[step].quantity == Quantity::Optional {
                let after = self.program.anchors.partition_point(|&a| a < step);
                let times = self.between(after.saturating_sub(1), after);
                self.chosen[step] = self.fitting(step, times, 1)?.first().copied();
            }
        }
        Ok(())
    }

    /// Numbers of the transactions of all rows that were chosen or counted. What was counted is looked at once more, at
    /// no cost to the search.
    fn evidence(&mut self) -> Result<Vec<u64>, GaveUp> {
        self.trials = u64::MAX;
        let mut seqs: Vec<u64> = self.chosen.iter().flatten().map(|&number| self.row(number).seq()).collect();
        for (anchor, &step) in self.program.anchors.iter().enumerate() {
            if self.program.steps[step].counted {
                let counted = self.fitting(step, self.repetitions(anchor), MAX_EVIDENCE)?;
                seqs.extend(counted.into_iter().map(|number| self.row(number).seq()));
            }
        }
        seqs.sort_unstable();
        seqs.dedup();
        Ok(seqs)
    }
}

fn decimal(row: Row<'_>, high: usize, low: usize) -> Option<i128> {
    Some(whole(row.argument(high)?, row.argument(low)?))
}

/// NULL on a side does not hold.
fn holds(compared: &Compared, own: Row<'_>, other: Row<'_>) -> bool {
    let integer = |row: Row<'_>, place: Place| match place {
        Place::Integer(a) => row.argument(a).map(|bits| i128::from(bits as i64)),
        Place::Decimal(high, low) => decimal(row, high, low),
        Place::Float(_) => None,
    };
    let order = match (compared.own, compared.other) {
        (Place::Float(a), Place::Float(b)) => {
            let (a, b) = (own.argument(a), other.argument(b));
            a.zip(b).map(|(a, b)| f64::from_bits(a).total_cmp(&f64::from_bits(b)))
        }
        (a, b) => integer(own, a).zip(integer(other, b)).map(|(a, b)| a.cmp(&b)),
    };
    order.is_some_and(|order| compared.operator.holds(order))
}
