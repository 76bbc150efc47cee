//! What a shard keeps of the keys of one keyspace: rows for windows of time, rows of steps, the latest rows.

use hashbrown::HashTable;

use crate::latest;
use crate::program::{FeatureProgram, IndicatorProgram, Keyspace};
use crate::ring::{Layout, Ring};
use crate::sequence::{self, GaveUp, Match, Place, SequenceProgram};
use crate::steps::StepRows;
use crate::window::{self, Accumulator, Value};

/// One keyspace's keys.
pub(crate) struct Space {
    pub layout: Layout,
    /// Mask of the filters that windows of time use, and of those that steps use.
    timed: Vec<u64>,
    steps: Vec<u64>,
    pub table: HashTable<u32>,
    pub keys: Keys,
    pub free: Vec<u32>,
}

/// One key: its rows, and accumulators where it is hot.
#[derive(Default)]
pub(crate) struct Key {
    pub name: Box<str>,
    pub ring: Ring,
    /// Per feature; empty while none has any, as of most keys.
    accumulators: Box<[Option<Box<Accumulator>>]>,
    /// Rows that can be steps of sequences.
    steps: Option<Box<StepRows>>,
    /// Per list of latest rows of the keyspace.
    latest: Box<[Ring]>,
}

/// Keys by slot, in parts of one size: a list that grows moves none of them, and memory never holds it twice.
#[derive(Default)]
pub(crate) struct Keys(Vec<Vec<Key>>);

/// Keys of a part.
const PART_KEYS: usize = 4096;

impl Keys {
    /// Slots in use or free.
    pub(crate) fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * PART_KEYS + last.len())
    }

    /// Adds a key, and gives its slot.
    pub(crate) fn push(&mut self, key: Key) -> u32 {
        let slot = self.len();
        match self.0.last_mut().filter(|last| last.len() < PART_KEYS) {
            Some(last) => last.push(key),
            None => {
                let mut part = Vec::with_capacity(PART_KEYS);
                part.push(key);
                self.0.push(part);
            }
        }
        slot as u32
    }
}

impl std::ops::Index<usize> for Keys {
    type Output = Key;

    fn index(&self, slot: usize) -> &Key {
        &self.0[slot / PART_KEYS][slot % PART_KEYS]
    }
}

impl std::ops::IndexMut<usize> for Keys {
    fn index_mut(&mut self, slot: usize) -> &mut Key {
        &mut self.0[slot / PART_KEYS][slot % PART_KEYS]
    }
}

/// Where a row of this step stands.
pub(crate) struct Inserted {
    slot: u32,
    /// Its number in the key's ring, among its rows of steps, and per list of latest rows; where it is kept.
    own: Option<u64>,
    step: Option<u64>,
    latest: Vec<Option<u64>>,
}

impl Key {
    pub(crate) fn new(name: &str, program: &Keyspace) -> Key {
        Key {
            name: name.into(),
            latest: program.latest.iter().map(|_| Ring::default()).collect(),
            ..Key::default()
        }
    }

    /// Nothing is kept of it.
    pub(crate) fn is_empty(&self) -> bool {
        self.ring.is_empty() && self.steps.is_none() && self.latest.iter().all(Ring::is_empty)
    }

    /// Drops rows that no window, evidence or sequence reaches from `watermark_before` on.
    pub(crate) fn expire(&mut self, program: &Keyspace, layout: Layout, watermark_before: i64) {
        self.expire_ring(program, layout, watermark_before.saturating_sub(program.retention_micros));
        if let Some(steps) = &mut self.steps {
            steps.expire(watermark_before.saturating_sub(program.step_retention_micros), layout);
            if steps.is_empty() {
                self.steps = None;
            }
        }
    }

    fn expire_ring(&mut self, program: &Keyspace, layout: Layout, horizon: i64) {
        if self.ring.is_empty() || self.ring.row(self.ring.first(), layout).time() >= horizon {
            return;
        }
        let first = self.ring.lower_bound(horizon, layout);
        for (accumulator, feature) in self.accumulators.iter_mut().zip(&program.features) {
            window::leave_behind(accumulator, &self.ring, layout, feature, first);
        }
        if self.accumulators.iter().all(Option::is_none) {
            self.accumulators = Box::default();
        }
        self.ring.drop_before(first, layout);
    }
}

impl Inserted {
    /// A row that is not kept.
    pub(crate) fn nowhere(slot: u32, program: &Keyspace) -> Inserted {
        Inserted { slot, own: None, step: None, latest: vec![None; program.latest.len()] }
    }
}

impl Space {
    pub(crate) fn new(program: &Keyspace) -> Space {
        let words = program.filters.len().div_ceil(64);
        let mask = |bits: &[usize]| {
            let mut mask = vec![0; words];
            for &bit in bits {
                mask[bit / 64] |= 1 << (bit % 64);
            }
            mask
        };
        Space {
            layout: Layout { filters: program.filters.len(), arguments: program.arguments.len() },
            timed: mask(&program.timed),
            steps: mask(&program.step_filters),
            table: HashTable::new(),
            keys: Keys::default(),
            free: Vec::new(),
        }
    }

    /// Puts a row into those of its key's rings that its filters want it in; of more than `max_steps` rows of steps the
    /// oldest is dropped, and counted in `steps_dropped` when a sequence might still have used it.
    pub(crate) fn keep(
        &mut self,
        program: &Keyspace,
        slot: u32,
        words: &[u64],
        watermark_before: i64,
        max_steps: usize,
        steps_dropped: &mut u64,
    ) -> Inserted {
        let layout = self.layout;
        let key = &mut self.keys[slot as usize];
        let passes = |mask: &[u64]| words[2..].iter().zip(mask).any(|(word, mask)| word & mask != 0);
        let mut inserted = Inserted::nowhere(slot, program);
        if passes(&self.timed) {
            key.expire_ring(program, layout, watermark_before.saturating_sub(program.retention_micros));
            inserted.own = Some(key.ring.end(layout));
            key.ring.push(words);
        }
        if passes(&self.steps) {
            let filters = &program.step_filters;
            let steps = key.steps.get_or_insert_with(|| Box::new(StepRows::new(filters.len())));
            steps.expire(watermark_before.saturating_sub(program.step_retention_micros), layout);
            let horizon = (words[0] as i64).saturating_sub(program.step_retention_micros);
            let (number, missed) = steps.push(words, layout, filters, max_steps, horizon);
            inserted.step = Some(number);
            *steps_dropped += u64::from(missed);
        }
        let rings = key.latest.iter_mut().zip(&program.latest);
        for (own, (ring, kept)) in inserted.latest.iter_mut().zip(rings) {
            if words[2 + kept.filter / 64] >> (kept.filter % 64) & 1 == 1 {
                *own = Some(latest::push(ring, words, layout, kept.before));
            }
        }
        inserted
    }

    /// A window feature's value at a row of `time`, once all its peers are kept.
    pub(crate) fn feature(
        &mut self,
        program: &Keyspace,
        inserted: &Inserted,
        feature: usize,
        time: i64,
    ) -> Value {
        let key = &mut self.keys[inserted.slot as usize];
        let (place, feature) = (feature, &program.features[feature]);
        match feature.latest {
            None => {
                let mut first = None;
                let accumulator = key.accumulators.get_mut(place).unwrap_or(&mut first);
                let value =
                    window::evaluate(&key.ring, self.layout, feature, time, inserted.own, accumulator);
                if first.is_some() {
                    key.accumulators = program.features.iter().map(|_| None).collect();
                    key.accumulators[place] = first;
                }
                value
            }
            Some(list) => match inserted.latest[list] {
                Some(own) => latest::evaluate(&key.latest[list], self.layout, feature, own),
                None => Value::Null,
            },
        }
    }

    /// The rows of a sequence that a row completes.
    ///
    /// # Errors
    /// [`GaveUp`] when more than `trials` rows would have to be looked at.
    pub(crate) fn find(
        &self,
        inserted: &Inserted,
        sequence: &SequenceProgram,
        trials: u64,
    ) -> Result<Option<Match>, GaveUp> {
        match (self.keys[inserted.slot as usize].steps.as_deref(), inserted.step) {
            (Some(rows), Some(own)) => sequence::search(sequence, rows, self.layout, own, trials),
            _ => Ok(None),
        }
    }

    /// A value of a step of the sequence that was found at a row.
    pub(crate) fn step_value(
        &self,
        inserted: &Inserted,
        found: Option<&Match>,
        step: usize,
        place: Option<Place>,
    ) -> Value {
        match (found, self.keys[inserted.slot as usize].steps.as_deref()) {
            (Some(found), Some(rows)) => found.value(step, place, rows, self.layout),
            _ => Value::Null,
        }
    }

    /// Numbers of the transactions that a sequence and windows of rows counted at a row, each once, ascending.
    pub(crate) fn counted(
        &self,
        program: &Keyspace,
        inserted: &Inserted,
        indicator: &IndicatorProgram,
        found: Option<Match>,
    ) -> Vec<u64> {
        let mut seqs = found.map_or(Vec::new(), |found| found.seqs);
        let key = &self.keys[inserted.slot as usize];
        for feature in &indicator.features {
            let FeatureProgram::Window(w) = feature else { continue };
            let feature = &program.features[*w];
            let Some(list) = feature.latest else { continue };
            let Some(own) = inserted.latest[list] else { continue };
            let rows = latest::counted(&key.latest[list], self.layout, feature, own);
            seqs.extend(rows.map(|number| key.latest[list].row(number, self.layout).seq()));
        }
        seqs.sort_unstable();
        seqs.dedup();
        seqs
    }
}
