//! Screening again what was evaluated before, because lists changed since.
//!
//! ```text
//!  rows ─► engine with the lists as they were ─► the strongest that was said about each subject
//!       ─► engine with the lists as they are  ─► what is stronger than that: told, marked, and gone on with
//! ```
//! Both see the same rows from the same beginning, so what differs is owed to the lists. Alerts that are open stay open, under their
//! own ids; what past rows show of their subjects is a revision of them.

use std::collections::{BTreeMap, BTreeSet};

use manumit_model::Alert;
use manumit_model::alert::{Change, ListVersion, Rescreened};
use manumit_rules::ir::{RuleSet, Typology};

use crate::EngineError;
use crate::engine::{Engine, Step};
use crate::saved::SavedOpen;
use crate::shard::HitBatch;
use crate::snapshot::Snapshot;
use crate::typology::{Held, Raise, alert_id, tx_id_of};

/// A typology's place in the rule set, and the name of a subject.
pub(crate) type Whom = (usize, String);

/// What was said about a subject: the highest score, and all parts that ever held together with the others.
#[derive(Debug, Clone, Default)]
struct Said {
    score: u32,
    parts: BTreeSet<usize>,
}

impl Said {
    fn add(&mut self, score: u32, parts: &BTreeSet<usize>) {
        self.score = self.score.max(score);
        self.parts.extend(parts);
    }

    fn covers(&self, score: u32, parts: &BTreeSet<usize>) -> bool {
        score <= self.score && parts.is_subset(&self.parts)
    }
}

/// The strongest that was said about each subject of each typology.
#[derive(Debug, Clone, Default)]
pub struct Strongest(BTreeMap<Whom, Said>);

/// How an engine screens rows again that it takes as evaluated before.
pub struct Screening {
    strongest: Strongest,
    against: Option<Against>,
}

struct Against {
    before: Strongest,
    /// Alerts that are open.
    open: BTreeMap<Whom, SavedOpen>,
    lists: Vec<ListVersion>,
    found: BTreeMap<Whom, (SavedOpen, Alert)>,
}

impl Screening {
    /// With the lists as they were: nothing is told.
    pub fn before() -> Screening {
        Screening { strongest: Strongest::default(), against: None }
    }

    /// With the lists as they are. `snapshot`: the run that is taken up; `lists`: those that changed.
    pub fn against(before: Strongest, snapshot: &Snapshot, lists: Vec<ListVersion>) -> Screening {
        let open = snapshot.typologies.subjects.iter().enumerate().flat_map(|(typology, subjects)| {
            subjects
                .iter()
                .filter_map(move |subject| Some(((typology, subject.name.clone()), subject.open.clone()?)))
        });
        let against = Against { before, open: open.collect(), lists, found: BTreeMap::new() };
        Screening { strongest: Strongest::default(), against: Some(against) }
    }

    /// Of what typologies raise what is to be told, the last of each subject, as it is told.
    fn wanted(&mut self, raised: Vec<Raise>, rules: &RuleSet) -> Vec<Raise> {
        let mut wanted: BTreeMap<Whom, Raise> = BTreeMap::new();
        for raise in raised {
            let parts: BTreeSet<usize> = raise.held.iter().map(|held| held.part).collect();
            let whom = (raise.typology, raise.subject.clone());
            self.strongest.0.entry(whom.clone()).or_default().add(raise.score, &parts);
            let Some(against) = &self.against else { continue };
            if against.before.0.get(&whom).is_some_and(|said| said.covers(raise.score, &parts)) {
                continue;
            }
            let typology = &rules.typologies[raise.typology];
            let open = against.open.get(&whom).filter(|open| {
                let until = open.opened.0.saturating_add(typology.open_for_micros);
                (open.opened.0..=until).contains(&raise.time)
            });
            let told = match open {
                Some(open) if is_told(open, raise.score, &parts) => continue,
                Some(open) => revised(raise, open),
                None => opened(raise, typology),
            };
            wanted.extend(told.map(|told| (whom, told)));
        }
        wanted.into_values().collect()
    }

    fn keep(&mut self, raised: Vec<Raise>, alerts: Vec<Alert>) -> Result<(), EngineError> {
        let Some(against) = &mut self.against else { return Ok(()) };
        for (raise, mut alert) in raised.into_iter().zip(alerts) {
            alert.rescreened = Some(Rescreened { lists: against.lists.clone() });
            let whom = (raise.typology, raise.subject.clone());
            let mut parts: BTreeSet<usize> = raise.held.iter().map(|held| held.part).collect();
            let mut score = raise.score;
            let id = raise.id.to_string();
            if let Some(open) = against.open.get(&whom).filter(|open| open.id == id) {
                parts.extend(&open.parts);
                score = score.max(open.score);
            }
            let open = SavedOpen {
                id,
                revision: raise.revision,
                opened: raise.opened,
                revised_at: raise.time,
                score,
                parts: parts.into_iter().collect(),
                suppressed_since_last: 0,
                suppressed_since_opened: raise.suppressed_since_opened,
                opening: raise.opening,
            };
            against.found.insert(whom, (open, alert.sealed()?));
        }
        Ok(())
    }
}

fn is_told(open: &SavedOpen, score: u32, parts: &BTreeSet<usize>) -> bool {
    score <= open.score && parts.iter().all(|part| open.parts.contains(part))
}

/// As a revision of the alert that is open.
fn revised(raise: Raise, open: &SavedOpen) -> Option<Raise> {
    Some(Raise {
        change: Change::Revised,
        revision: open.revision + 1,
        id: open.id.parse().ok()?,
        opened: open.opened,
        suppressed_since_last: open.suppressed_since_last,
        suppressed_since_opened: open.suppressed_since_opened,
        opening: open.opening.clone(),
        ..raise
    })
}

/// As an alert of its own, whatever it would have been a revision of had the list been known in time.
fn opened(raise: Raise, typology: &Typology) -> Option<Raise> {
    let gate = raise.held.iter().filter(|held| held.part < typology.gate.len()).filter_map(Held::latest);
    let gate = gate.max_by_key(|hit| (hit.time, hit.seq))?;
    let tx_id = tx_id_of(&gate.rows, gate.row);
    let (opening, offset) = ((gate.time, tx_id.clone()), gate.utc_offset_minutes);
    Some(Raise {
        change: Change::Opened,
        revision: 1,
        id: alert_id(&typology.meta.id, typology.meta.version, &raise.subject, raise.time, &tx_id),
        opened: (raise.time, offset),
        suppressed_since_last: 0,
        suppressed_since_opened: 0,
        opening: Some(opening),
        ..raise
    })
}

impl Engine {
    /// Screens the rows that are replayed from here on. To be called after [`Engine::add_partition`] and before
    /// [`Engine::resume`] with [`crate::Resume::FromRows`].
    pub fn screen(&mut self, screening: Screening) {
        *self.screening_mut() = Some(screening);
    }

    /// What was said of the rows, with the lists as they were.
    pub fn screened(&mut self) -> Strongest {
        self.screening_mut().take().map(|screening| screening.strongest).unwrap_or_default()
    }

    /// All rows were replayed with the lists as they are: gives the alerts that are owed to the lists, and goes on with them and
    /// with those that were open.
    ///
    /// # Errors
    /// [`EngineError::Snapshot`] when what was open cannot be read.
    pub fn rescreened(&mut self) -> Result<Step, EngineError> {
        let Some(Against { mut open, found, .. }) = self.screening_mut().take().and_then(|s| s.against)
        else {
            return Ok(Step::default());
        };
        let watermark = self.watermark();
        let mut alerts = Vec::with_capacity(found.len());
        for (whom, (told, alert)) in found {
            let open_for = self.rules().typologies[whom.0].open_for_micros;
            let still = told.opened.0.saturating_add(open_for) >= watermark;
            match open.get_mut(&whom) {
                Some(open) if open.id == told.id => *open = told,
                Some(_) => {}
                None if still => {
                    open.insert(whom, told);
                }
                None => {}
            }
            alerts.push(alert);
        }
        self.typologies_mut().take_over(open)?;
        // Of one time by typology and subject, as elsewhere: the map gave them by these.
        alerts.sort_by(|a: &Alert, b| a.raised_at.utc.cmp(&b.raised_at.utc));
        Ok(Step { raised: alerts.len() as u64, alerts, ..Step::default() })
    }

    /// Typologies see hits of rows that were evaluated before. What they raise is known to have been told, but where lists changed.
    pub(crate) fn see_again(&mut self, hits: &[HitBatch], time: i64) -> Result<(), EngineError> {
        let outcome = self.typologies_mut().step(hits, time);
        let Some(mut screening) = self.screening_mut().take() else { return Ok(()) };
        let wanted = screening.wanted(outcome.raised, self.rules());
        let alerts = self.build_alerts(&wanted, &mut Vec::new())?;
        screening.keep(wanted, alerts)?;
        *self.screening_mut() = Some(screening);
        Ok(())
    }
}
