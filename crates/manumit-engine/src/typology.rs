//! Typologies: windows over hits, per subject. A gate and weighted indicators give a score; one alert is open per
//! (typology, subject), which new evidence revises and suppression keeps quiet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int32Type;
use hashbrown::{HashMap, HashSet};
use manumit_model::alert::Change;
use manumit_rules::ir::{Part, RuleSet, Typology};
use uuid::Uuid;

use crate::EngineError;
use crate::rescreen::Whom;
use crate::saved::{RowsOut, SavedHit, SavedOpen, SavedSubject, SavedTypologies, rows_in};
use crate::shard::HitBatch;

/// Namespace of alert ids (a random UUID, fixed for good: another one would give every alert another id).
const NAMESPACE: Uuid = Uuid::from_u128(0x8d1f_6f0c_53b7_4c55_9a3e_2b60_7d7a_11c4);

const DAY_MICROS: i64 = 86_400_000_000;

/// A hit as a typology keeps it.
#[derive(Clone)]
pub(crate) struct Hit {
    pub time: i64,
    pub seq: u64,
    /// Key of the keyspace: differs from the subject when the indicator is about another column.
    pub key: Arc<str>,
    /// The hit's row: columns, then features.
    pub rows: Arc<RecordBatch>,
    pub row: usize,
    pub utc_offset_minutes: Option<i32>,
    /// Numbers of the transactions that the hit counted, where it names them; see [`HitBatch::counted`].
    counted: Option<Arc<[u64]>>,
    /// Values of the part's `different` expressions.
    different: Vec<Option<String>>,
    /// Per exclusion: it does not hold, or is not known (`None`). Empty for corroborators.
    pub exclusions: Vec<Option<bool>>,
}

/// A part of a typology that holds.
pub(crate) struct Held {
    /// Position among gate parts, then corroborators.
    pub part: usize,
    pub hits: u64,
    pub days: u64,
    /// Hits of each key, by key.
    pub keys: Vec<KeyHits>,
}

/// The hits of one key within the window.
pub(crate) struct KeyHits {
    pub latest: Hit,
    /// Of all hits, ascending.
    pub times: Vec<i64>,
    /// Numbers of the transactions of all hits, and of those that they name as counted.
    pub seqs: Vec<u64>,
    /// Of all hits: time and transaction id.
    pub held_at: Vec<(i64, String)>,
}

impl Held {
    /// The latest hit of all keys.
    pub fn latest(&self) -> Option<&Hit> {
        self.keys.iter().map(|key| &key.latest).max_by_key(|hit| (hit.time, hit.seq))
    }
}

/// An alert to be opened or revised.
pub(crate) struct Raise {
    pub typology: usize,
    pub subject: String,
    pub time: i64,
    pub change: Change,
    pub revision: u32,
    pub id: Uuid,
    pub score: u32,
    pub opened: (i64, Option<i32>),
    pub held: Vec<Held>,
    pub suppressed_since_last: u64,
    pub suppressed_since_opened: u64,
    /// Time and transaction of the hit that opened it.
    pub opening: Option<(i64, String)>,
}

struct Open {
    id: Uuid,
    revision: u32,
    opened: (i64, Option<i32>),
    revised_at: i64,
    score: u32,
    parts: BTreeSet<usize>,
    suppressed_since_last: u64,
    suppressed_since_opened: u64,
    opening: Option<(i64, String)>,
}

/// Id of the alert that opens at this time, over the gate's hit of this transaction: content, not position, so that a replay gives
/// the same.
pub fn alert_id(typology: &str, version: u32, subject: &str, time: i64, tx_id: &str) -> Uuid {
    let opening = format!("{typology}\u{1f}{version}\u{1f}{subject}\u{1f}{time}\u{1f}{tx_id}");
    Uuid::new_v5(&NAMESPACE, opening.as_bytes())
}

/// The only hits that may count, per indicator in the order of [`RuleSet::indicators`]: event time in microseconds, key,
/// transaction id.
pub type OnlyHits = Vec<HashSet<(i64, String, String)>>;

impl Hit {
    fn saved(&self, rows: &mut RowsOut) -> SavedHit {
        SavedHit {
            time: self.time,
            seq: self.seq,
            key: self.key.to_string(),
            row: rows.number(&self.rows, self.row),
            utc_offset_minutes: self.utc_offset_minutes,
            counted: self.counted.as_ref().map(|seqs| seqs.to_vec()),
            different: self.different.clone(),
            exclusions: self.exclusions.clone(),
        }
    }

    /// `None` when its row is not among `rows`.
    fn restored(saved: &SavedHit, rows: Option<&Arc<RecordBatch>>) -> Option<Hit> {
        let rows = rows.filter(|rows| saved.row < rows.num_rows())?;
        Some(Hit {
            time: saved.time,
            seq: saved.seq,
            key: saved.key.as_str().into(),
            rows: rows.clone(),
            row: saved.row,
            utc_offset_minutes: saved.utc_offset_minutes,
            counted: saved.counted.as_ref().map(|seqs| seqs.as_slice().into()),
            different: saved.different.clone(),
            exclusions: saved.exclusions.clone(),
        })
    }
}

impl Open {
    fn saved(&self) -> SavedOpen {
        SavedOpen {
            id: self.id.to_string(),
            revision: self.revision,
            opened: self.opened,
            revised_at: self.revised_at,
            score: self.score,
            parts: self.parts.iter().copied().collect(),
            suppressed_since_last: self.suppressed_since_last,
            suppressed_since_opened: self.suppressed_since_opened,
            opening: self.opening.clone(),
        }
    }

    /// `None` when its id is none.
    fn restored(saved: &SavedOpen) -> Option<Open> {
        Some(Open {
            id: Uuid::parse_str(&saved.id).ok()?,
            revision: saved.revision,
            opened: saved.opened,
            revised_at: saved.revised_at,
            score: saved.score,
            parts: saved.parts.iter().copied().collect(),
            suppressed_since_last: saved.suppressed_since_last,
            suppressed_since_opened: saved.suppressed_since_opened,
            opening: saved.opening.clone(),
        })
    }
}

#[derive(Default)]
struct Subject {
    /// By part.
    hits: Vec<VecDeque<Hit>>,
    open: Option<Open>,
}

/// What one step brought.
#[derive(Default)]
pub(crate) struct Outcome {
    pub raised: Vec<Raise>,
    /// Times a typology held for a subject, published or not.
    pub held: u64,
    /// Times a typology held again without being published.
    pub suppressed: u64,
    /// Gate hits that an exclusion silenced.
    pub excluded: u64,
}

/// State of all typologies over all subjects.
pub(crate) struct Typologies {
    rules: Arc<RuleSet>,
    subjects: Vec<HashMap<Box<str>, Subject>>,
    steps: u64,
    /// Hits that are remembered: as many as when last counted, and those that came since.
    hits: usize,
    only: Option<Arc<OnlyHits>>,
}

/// Bytes of a hit that a typology remembers, with its row, about; and of a subject.
const HIT_BYTES: usize = 400;
const SUBJECT_BYTES: usize = 300;

/// Parts of a typology: gate parts, then corroborators.
pub(crate) fn parts(typology: &Typology) -> impl Iterator<Item = &Part> {
    typology.gate.iter().chain(&typology.corroborators)
}

impl Typologies {
    pub(crate) fn new(rules: Arc<RuleSet>, only: Option<Arc<OnlyHits>>) -> Typologies {
        let subjects = rules.typologies.iter().map(|_| HashMap::new()).collect();
        Typologies { rules, subjects, steps: 0, hits: 0, only }
    }

    /// Takes all hits of one step.
    pub(crate) fn step(&mut self, hits: &[HitBatch], watermark: i64) -> Outcome {
        let mut outcome = Outcome::default();
        for (index, typology) in self.rules.typologies.iter().enumerate() {
            let only = self.only.as_deref();
            self.hits += take_hits(&mut self.subjects[index], index, typology, hits, only, &mut outcome);
        }
        // Of one time: by typology and subject, which are stable names.
        outcome
            .raised
            .sort_by(|a, b| (a.time, a.typology, &a.subject).cmp(&(b.time, b.typology, &b.subject)));
        self.steps += 1;
        if self.steps.is_multiple_of(64) {
            self.forget(watermark);
        }
        outcome
    }

    /// All subjects, hits and open alerts.
    pub(crate) fn saved(&self) -> Result<SavedTypologies, EngineError> {
        let mut rows: BTreeMap<usize, RowsOut> = BTreeMap::new();
        let mut all = Vec::with_capacity(self.subjects.len());
        for (subjects, typology) in self.subjects.iter().zip(&self.rules.typologies) {
            let indicators: Vec<usize> = parts(typology).map(|part| part.indicator).collect();
            let mut names: Vec<&str> = subjects.keys().map(AsRef::as_ref).collect();
            names.sort_unstable();
            let mut saved = Vec::with_capacity(names.len());
            for name in names {
                let Some(subject) = subjects.get(name) else { continue };
                let hits = subject.hits.iter().zip(&indicators).map(|(hits, indicator)| {
                    let out = rows.entry(*indicator).or_default();
                    hits.iter().map(|hit| hit.saved(out)).collect()
                });
                let hits = hits.collect();
                saved.push(SavedSubject {
                    name: name.into(),
                    hits,
                    open: subject.open.as_ref().map(Open::saved),
                });
            }
            all.push(saved);
        }
        let rows = rows.into_iter().map(|(indicator, out)| Ok((indicator, out.finish()?)));
        Ok(SavedTypologies {
            subjects: all,
            rows: rows.collect::<Result<_, EngineError>>()?,
            steps: self.steps,
        })
    }

    /// Puts back what [`Typologies::saved`] gave.
    pub(crate) fn restore(&mut self, saved: &SavedTypologies) -> Result<(), EngineError> {
        let damaged = |why: &str| EngineError::Snapshot { why: why.into() };
        if saved.subjects.len() != self.subjects.len() {
            return Err(damaged("it has other typologies"));
        }
        let mut rows = BTreeMap::new();
        for (indicator, text) in &saved.rows {
            rows.insert(*indicator, rows_in(text)?);
        }
        for ((subjects, typology), all) in
            self.subjects.iter_mut().zip(&self.rules.typologies).zip(&saved.subjects)
        {
            let indicators: Vec<usize> = parts(typology).map(|part| part.indicator).collect();
            for subject in all {
                if subject.hits.len() != indicators.len() {
                    return Err(damaged("a typology has other parts"));
                }
                let mut hits = Vec::with_capacity(indicators.len());
                for (list, indicator) in subject.hits.iter().zip(&indicators) {
                    let rows = rows.get(indicator).and_then(Option::as_ref);
                    let restored = list.iter().map(|hit| Hit::restored(hit, rows));
                    let restored: Option<VecDeque<Hit>> = restored.collect();
                    hits.push(restored.ok_or_else(|| damaged("a hit has no row"))?);
                }
                let open = subject
                    .open
                    .as_ref()
                    .map(|open| Open::restored(open).ok_or_else(|| damaged("the id of an alert is none")));
                let open = open.transpose()?;
                subjects.insert(subject.name.as_str().into(), Subject { hits, open });
            }
        }
        self.steps = saved.steps;
        self.hits =
            self.subjects.iter().flat_map(HashMap::values).flat_map(|s| &s.hits).map(VecDeque::len).sum();
        Ok(())
    }

    /// Bytes that hits and open alerts take, about.
    pub(crate) fn bytes(&self) -> u64 {
        (self.hits * HIT_BYTES + self.subjects.iter().map(HashMap::len).sum::<usize>() * SUBJECT_BYTES) as u64
    }

    /// Of all subjects these alerts are open, and no others.
    ///
    /// # Errors
    /// [`EngineError::Snapshot`] when the id of one is none.
    pub(crate) fn take_over(&mut self, open: BTreeMap<Whom, SavedOpen>) -> Result<(), EngineError> {
        for subject in self.subjects.iter_mut().flat_map(HashMap::values_mut) {
            subject.open = None;
        }
        for ((index, name), saved) in open {
            let (Some(subjects), Some(typology)) =
                (self.subjects.get_mut(index), self.rules.typologies.get(index))
            else {
                return Err(EngineError::Snapshot { why: "it has other typologies".into() });
            };
            let Some(open) = Open::restored(&saved) else {
                return Err(EngineError::Snapshot { why: "the id of an alert is none".into() });
            };
            let hits = || parts(typology).map(|_| VecDeque::new()).collect();
            let subject =
                subjects.entry(name.into_boxed_str()).or_insert_with(|| Subject { hits: hits(), open: None });
            subject.open = Some(open);
        }
        Ok(())
    }

    /// Forgets hits that have left all windows, and subjects that have none left and no open alert.
    fn forget(&mut self, watermark: i64) {
        self.hits = 0;
        for (subjects, typology) in self.subjects.iter_mut().zip(&self.rules.typologies) {
            let oldest = watermark.saturating_sub(typology.within_micros);
            subjects.retain(|_, subject| {
                for hits in &mut subject.hits {
                    while hits.pop_front_if(|hit| hit.time < oldest).is_some() {}
                    hits.shrink_to(2 * hits.len());
                    self.hits += hits.len();
                }
                let open = subject
                    .open
                    .as_ref()
                    .is_some_and(|open| open.opened.0.saturating_add(typology.open_for_micros) >= watermark);
                open || subject.hits.iter().any(|hits| !hits.is_empty())
            });
        }
    }
}

/// Gives how many hits were kept.
fn take_hits(
    subjects: &mut HashMap<Box<str>, Subject>,
    index: usize,
    typology: &Typology,
    batches: &[HitBatch],
    only: Option<&OnlyHits>,
    outcome: &mut Outcome,
) -> usize {
    let members: Vec<&Part> = parts(typology).collect();
    let mut kept = 0;
    // (subject, time, part, seq, key, batch, row): an order that does not depend on shards.
    let mut order: Vec<(&str, i64, usize, u64, &str, usize, usize)> = Vec::new();
    for (b, batch) in batches.iter().enumerate() {
        for (p, _) in members.iter().enumerate().filter(|(_, part)| part.indicator == batch.indicator) {
            for row in 0..batch.times.len() {
                let (about, key) = (batch.about.value(row), batch.keys.value(row));
                if !only.is_none_or(|only| counts(only, batch, row)) {
                    continue;
                }
                order.push((about, batch.times[row], p, batch.seqs[row], key, b, row));
            }
        }
    }
    order.sort();
    for peers in order.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let (name, time) = (peers[0].0, peers[0].1);
        let subject = match subjects.get_mut(name) {
            Some(subject) => subject,
            None => subjects.entry(name.into()).or_insert_with(|| Subject {
                hits: members.iter().map(|_| VecDeque::new()).collect(),
                open: None,
            }),
        };
        let mut fresh: Vec<usize> = Vec::new();
        for &(_, _, part, _, _, b, row) in peers {
            let gate = part < typology.gate.len();
            match hit(&batches[b], index, part, gate, row) {
                Some(hit) => {
                    subject.hits[part].push_back(hit);
                    fresh.push(part);
                }
                None => outcome.excluded += 1,
            }
        }
        if !fresh.is_empty() {
            let now = Now { name, time, fresh: &fresh };
            evaluate(subject, index, typology, &members, &now, outcome);
            kept += fresh.len();
        }
    }
    kept
}

fn counts(only: &OnlyHits, batch: &HitBatch, row: usize) -> bool {
    let hit = (batch.times[row], batch.keys.value(row).to_string(), tx_id_of(&batch.rows, row));
    only.get(batch.indicator).is_some_and(|hits| hits.contains(&hit))
}

/// The hit as it is kept; `None` when an exclusion holds on its row.
fn hit(batch: &HitBatch, typology: usize, part: usize, gate: bool, row: usize) -> Option<Hit> {
    let mut exclusions = Vec::new();
    if gate && let Some((_, arrays)) = batch.exclusions.iter().find(|(t, _)| *t == typology) {
        for array in arrays {
            let holds = array.is_valid(row).then(|| array.value(row));
            if holds == Some(true) {
                return None;
            }
            exclusions.push(holds);
        }
    }
    let different = batch.different.iter().find(|(t, p, _)| (*t, *p) == (typology, part));
    let different = different.map_or(Vec::new(), |(_, _, arrays)| {
        arrays.iter().map(|a| a.is_valid(row).then(|| a.value(row).to_string())).collect()
    });
    let offset = batch.rows.column_by_name("utc_offset_minutes").and_then(|column| {
        let offsets = column.as_primitive_opt::<Int32Type>()?;
        offsets.is_valid(row).then(|| offsets.value(row))
    });
    Some(Hit {
        time: batch.times[row],
        seq: batch.seqs[row],
        key: batch.keys.value(row).into(),
        rows: batch.rows.clone(),
        row,
        utc_offset_minutes: offset,
        counted: batch.counted.get(row).cloned(),
        different,
        exclusions,
    })
}

/// A time at which parts of a typology hit for a subject.
struct Now<'a> {
    name: &'a str,
    time: i64,
    /// The parts that hit.
    fresh: &'a [usize],
}

fn evaluate(
    subject: &mut Subject,
    index: usize,
    typology: &Typology,
    members: &[&Part],
    now: &Now<'_>,
    outcome: &mut Outcome,
) {
    let Now { name, time, fresh } = *now;
    let oldest = time.saturating_sub(typology.within_micros);
    for hits in &mut subject.hits {
        while hits.front().is_some_and(|hit| hit.time < oldest) {
            hits.pop_front();
        }
    }
    let held: Vec<usize> = (0..members.len()).filter(|&p| holds(members[p], &subject.hits[p])).collect();
    // What is raised must say why now: a part that does not hold is no evidence, and an alert would name nothing of this time.
    let new = fresh.iter().any(|p| held.contains(p));
    if !new || !(0..typology.gate.len()).all(|p| held.contains(&p)) {
        return;
    }
    let score = typology.gate_points + held.iter().map(|&p| members[p].points).sum::<u32>();
    if score < typology.alert_at {
        return;
    }
    let Some(latest_gate) = subject.hits[..typology.gate.len()]
        .iter()
        .filter_map(|hits| hits.back())
        .max_by_key(|hit| (hit.time, hit.seq))
    else {
        return;
    };
    outcome.held += 1;
    let parts_held: BTreeSet<usize> = held.iter().copied().collect();
    let still_open =
        subject.open.take().filter(|open| time <= open.opened.0.saturating_add(typology.open_for_micros));
    let open = match still_open {
        Some(mut open) => {
            let stronger = score > open.score || !parts_held.is_subset(&open.parts);
            if !stronger && time < open.revised_at.saturating_add(typology.revise_every_micros) {
                open.suppressed_since_last += 1;
                open.suppressed_since_opened += 1;
                outcome.suppressed += 1;
                subject.open = Some(open);
                return;
            }
            open.revision += 1;
            open
        }
        None => {
            // Not the gate's time: where an alert is open for less than hits count, a corroborator may open another one over the
            // same gate. At one time only one opens.
            let tx_id = tx_id_of(&latest_gate.rows, latest_gate.row);
            Open {
                id: alert_id(&typology.meta.id, typology.meta.version, name, time, &tx_id),
                revision: 1,
                opened: (time, latest_gate.utc_offset_minutes),
                revised_at: time,
                score,
                parts: BTreeSet::new(),
                suppressed_since_last: 0,
                suppressed_since_opened: 0,
                opening: Some((latest_gate.time, tx_id)),
            }
        }
    };
    outcome.raised.push(Raise {
        typology: index,
        subject: name.to_string(),
        time,
        change: if open.revision == 1 { Change::Opened } else { Change::Revised },
        revision: open.revision,
        id: open.id,
        score,
        opened: open.opened,
        held: held.iter().map(|&p| held_part(p, &subject.hits[p])).collect(),
        suppressed_since_last: open.suppressed_since_last,
        suppressed_since_opened: open.suppressed_since_opened,
        opening: open.opening.clone(),
    });
    let parts = open.parts.union(&parts_held).copied().collect();
    subject.open = Some(Open {
        revised_at: time,
        score: score.max(open.score),
        parts,
        suppressed_since_last: 0,
        ..open
    });
}

/// Transaction id of a hit's row.
pub(crate) fn tx_id_of(rows: &RecordBatch, row: usize) -> String {
    let ids = rows.column_by_name("tx_id").and_then(|c| c.as_string_opt::<i32>());
    ids.map_or(String::new(), |ids| ids.value(row).to_string())
}

fn holds(part: &Part, hits: &VecDeque<Hit>) -> bool {
    if hits.is_empty() || (hits.len() as u64) < part.at_least {
        return false;
    }
    if part.on_days > 1 && days(hits) < part.on_days {
        return false;
    }
    part.different.iter().enumerate().all(|(d, different)| {
        let values: BTreeSet<&str> = hits.iter().filter_map(|hit| hit.different.get(d)?.as_deref()).collect();
        values.len() as u64 >= different.at_least
    })
}

/// Different days with a hit, UTC.
fn days(hits: &VecDeque<Hit>) -> u64 {
    hits.iter().map(|hit| hit.time.div_euclid(DAY_MICROS)).collect::<BTreeSet<_>>().len() as u64
}

fn held_part(part: usize, hits: &VecDeque<Hit>) -> Held {
    let mut by_key: BTreeMap<&str, Vec<&Hit>> = BTreeMap::new();
    for hit in hits {
        by_key.entry(&hit.key).or_default().push(hit);
    }
    let keys = by_key.into_values().filter_map(|hits| {
        let latest = (*hits.last()?).clone();
        let times = hits.iter().map(|hit| hit.time).collect();
        let named =
            |hit: &'_ Hit| hit.counted.iter().flat_map(|seqs| seqs.iter().copied()).collect::<Vec<_>>();
        let mut seqs: Vec<u64> =
            hits.iter().flat_map(|hit| [hit.seq].into_iter().chain(named(hit))).collect();
        seqs.sort_unstable();
        seqs.dedup();
        let held_at = hits.iter().map(|hit| (hit.time, tx_id_of(&hit.rows, hit.row))).collect();
        Some(KeyHits { latest, times, seqs, held_at })
    });
    Held { part, hits: hits.len() as u64, days: days(hits), keys: keys.collect() }
}
