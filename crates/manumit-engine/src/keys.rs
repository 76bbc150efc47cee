//! What a shard keeps of the keys of one keyspace: rows for windows of time, rows of steps, the latest rows.

mod room;

pub(crate) use room::Room;

use crate::index::Index;
use crate::keyspace::Keyspace;
use crate::latest;
use crate::parts::Parts;
use crate::prefetch::prefetch;
use crate::program::{FeatureProgram, IndicatorProgram};
use crate::ring::{FLAGS, Layout, Ring};
use crate::rows::Rows;
use crate::scan;
use crate::screen::Test;
use crate::sequence::{self, GaveUp, Match, Place, SequenceProgram};
use crate::steps::StepRows;
use crate::tail::Tail;
use crate::text::{self, Hasher, Numbers, Text};
use crate::window::{self, Accumulator, Cursor, SCAN_ROWS, Value};

/// One keyspace's keys.
pub(crate) struct Space {
    pub layout: Layout,
    /// Mask of the filters that windows of time use, and of those that steps use.
    timed: Vec<u64>,
    steps: Vec<u64>,
    /// Mask of all filters: a row that passes none is not kept.
    all: Vec<u64>,
    /// How many rows back from the end tests look.
    looked_at: Vec<u64>,
    index: Index,
    keys: Parts<Key>,
    free: Vec<u32>,
    sweep: Sweep,
    /// Words of the rings of all keys.
    held: usize,
    /// Bytes of what keys have beside those rings, and of names that are too long for their place.
    beside: usize,
    /// The key that is looked at next when room is needed.
    hand: usize,
    /// Rows of new keys that were not looked at.
    refused: u64,
}

/// One key: its rows, and what few keys have, in one cache line.
#[derive(Default)]
#[repr(align(64))]
struct Key {
    name: Text,
    ring: Ring,
    more: Option<Box<More>>,
}

/// What a key has beside rows for windows of time.
#[derive(Default)]
struct More {
    /// Bytes of all of it that are counted in [`Space::beside`].
    counted: usize,
    /// Per frame of the keyspace: where it began when it was last looked at.
    cursors: Box<[Cursor]>,
    /// Per feature; empty while the key is not hot.
    accumulators: Box<[Option<Box<Accumulator>>]>,
    /// Rows that can be steps of sequences.
    steps: Option<Box<StepRows>>,
    /// Per list of latest rows of the keyspace; empty while no row was kept in any.
    latest: Box<[Ring]>,
    /// Rows for windows of time that are older than those of the ring.
    tail: Option<Box<Tail>>,
}

impl More {
    /// Bytes of all of it, about.
    fn bytes(&self) -> usize {
        let running = self.accumulators.iter().flatten().map(|running| running.bytes()).sum::<usize>();
        let latest = self.latest.iter().map(|ring| size_of::<Ring>() + ring.held_words() * 8).sum::<usize>();
        size_of::<More>()
            + size_of_val(&*self.cursors)
            + size_of_val(&*self.accumulators)
            + running
            + latest
            + self.steps.as_ref().map_or(0, |steps| steps.bytes())
            + self.tail.as_ref().map_or(0, |tail| tail.bytes())
    }
}

/// The way through all keys that frees those of which nothing is left.
#[derive(Default)]
struct Sweep {
    /// The slot that is next.
    at: usize,
    /// Nothing expires before this time has passed; `None` when nothing is kept.
    due: Option<i64>,
    /// The same, of the keys that this way has passed.
    passed: Option<i64>,
    /// When this way began.
    began: i64,
}

/// Where a row of this step stands.
#[derive(Clone, Default)]
pub(crate) struct Inserted {
    slot: u32,
    /// Its number in the key's ring and among its rows of steps; where it is kept.
    own: Option<u64>,
    step: Option<u64>,
    /// Per list of latest rows; empty where it is kept in none.
    latest: Box<[Option<u64>]>,
}

/// What is known of the windows at one row, so that indicators which ask for the same ask the rows once.
///
/// # Invariants
/// What stands beside an older number than `row` is not known: nothing need be cleared from row to row.
pub(crate) struct Asked {
    row: u64,
    /// Per feature.
    values: Vec<(u64, Value)>,
    /// Per frame.
    bounds: Vec<(u64, (u64, u64))>,
    /// Per filter: which of the key's latest rows it lets through.
    marks: Vec<Marks>,
}

/// What is known of the key's latest rows at one row.
#[derive(Clone, Copy)]
struct Marks {
    row: u64,
    /// Those from this one on have been looked at.
    from: u64,
    let_through: u64,
}

impl Asked {
    pub(crate) fn new(program: &Keyspace) -> Asked {
        Asked {
            row: 0,
            values: vec![(0, Value::Null); program.features.len()],
            bounds: vec![(0, (0, 0)); program.frames.len()],
            marks: vec![Marks { row: 0, from: 0, let_through: 0 }; program.filters.len()],
        }
    }

    /// Which of the rows of `window`, as bits of the latest rows of the key at whose row this is, a filter lets through. Windows
    /// end with the last rows, so a longer one asks for what is before those that were looked at.
    fn marks(&mut self, ring: &Ring, filter: usize, layout: Layout, window: u64) -> u64 {
        if window == 0 {
            return 0;
        }
        let marks = &mut self.marks[filter];
        if marks.row != self.row {
            *marks = Marks { row: self.row, from: 64, let_through: 0 };
        }
        let from = u64::from(window.trailing_zeros());
        if from < marks.from {
            marks.let_through |= ring.marks(filter, layout, from..marks.from);
            marks.from = from;
        }
        marks.let_through & window
    }

    /// Nothing is known of the next row.
    pub(crate) fn next_row(&mut self) {
        self.row += 1;
    }
}

impl Key {
    /// Its rows for windows of time.
    fn rows(&self) -> Rows<'_> {
        if !self.ring.is_cut() {
            return Rows::from(&self.ring); // Most keys: what they have beside rows is not looked at.
        }
        Rows::new(&self.ring, self.more.as_ref().and_then(|more| more.tail.as_deref()))
    }

    /// Nothing is kept of it.
    fn is_empty(&self) -> bool {
        let more = self.more.as_ref().is_none_or(|more| {
            more.steps.is_none() && more.tail.is_none() && more.latest.iter().all(Ring::is_empty)
        });
        self.ring.is_empty() && more
    }

    /// Counts anew what it has beside its rows.
    fn recount(&mut self, beside: &mut usize) {
        if let Some(more) = &mut self.more {
            let bytes = more.bytes();
            let before = std::mem::replace(&mut more.counted, bytes);
            *beside = (*beside + more.counted).saturating_sub(before);
        }
    }

    /// Drops rows that no window, evidence or sequence reaches from `watermark_before` on.
    fn expire(&mut self, program: &Keyspace, layout: Layout, watermark_before: i64) {
        self.expire_ring(program, layout, watermark_before);
        let Some(more) = &mut self.more else { return };
        if let Some(steps) = &mut more.steps {
            steps.expire(watermark_before.saturating_sub(program.step_retention_micros), layout);
            if steps.is_empty() {
                more.steps = None;
            }
        }
        if self.ring.len() <= SCAN_ROWS
            && more.tail.is_none()
            && more.steps.is_none()
            && more.latest.is_empty()
            && more.accumulators.iter().all(Option::is_none)
        {
            self.more = None;
        }
    }

    fn expire_ring(&mut self, program: &Keyspace, layout: Layout, watermark_before: i64) {
        let horizon = watermark_before.saturating_sub(program.retention_micros);
        if self.first_to_go(layout).is_none_or(|time| time >= horizon) {
            return;
        }
        let Key { ring, more, .. } = self;
        let Some(more) = more else {
            ring.drop_before(ring.lower_bound_after(0, horizon, layout), layout);
            return;
        };
        let More { accumulators, tail, .. } = &mut **more;
        let kept = tail.as_ref().and_then(|tail| tail.kept_from(horizon));
        let first = kept.unwrap_or_else(|| ring.lower_bound_after(0, horizon, layout));
        let rows = Rows::new(ring, tail.as_deref());
        for (accumulator, feature) in accumulators.iter_mut().zip(&program.features) {
            window::leave_behind(accumulator, rows, layout, feature, first);
        }
        if let Some(old) = tail {
            old.drop_before(first);
            if old.is_empty() {
                *tail = None;
                ring.set_cut(false);
            }
        }
        ring.drop_before(first, layout);
    }

    /// Event time of what is dropped next: the first row, or the last one of the first block outside memory.
    fn first_to_go(&self, layout: Layout) -> Option<i64> {
        let tail = self.more.as_ref().filter(|_| self.ring.is_cut()).and_then(|more| more.tail.as_ref());
        match tail {
            Some(tail) => tail.first_to_go(),
            None => (!self.ring.is_empty()).then(|| self.ring.row(self.ring.first(), layout).time()),
        }
    }

    /// When something of it expires; `None` when nothing ever does.
    fn due(&self, program: &Keyspace, layout: Layout) -> Option<i64> {
        let ring = self.first_to_go(layout).map(|time| time.saturating_add(program.retention_micros));
        let steps = self.more.as_ref().and_then(|more| more.steps.as_ref()?.first_time(layout));
        let steps = steps.map(|time| time.saturating_add(program.step_retention_micros));
        ring.into_iter().chain(steps).min()
    }
}

/// Slot of the key that has no name and no rows.
const NOBODY: u32 = 0;

/// Slot of a row that is not looked at: its key is not known, and there is no room for new ones.
pub(crate) const REFUSED: u32 = u32::MAX;

impl Inserted {
    /// The row is not looked at.
    pub(crate) fn is_refused(&self) -> bool {
        self.slot == REFUSED
    }

    /// The row is not kept, and its key has no rows as far as is known.
    pub(crate) fn is_nobody(&self) -> bool {
        self.slot == NOBODY
    }
}

/// A row's filters have one of the mask.
fn passes(words: &[u64], mask: &[u64]) -> bool {
    match mask {
        // Of most keyspaces the filters fit one word.
        [mask] => words[FLAGS] & mask != 0,
        _ => words[FLAGS..].iter().zip(mask).any(|(word, mask)| word & mask != 0),
    }
}

impl Space {
    pub(crate) fn new(program: &Keyspace) -> Space {
        let layout = program.layout();
        let every: Vec<usize> = (0..program.filters.len()).collect();
        let mask = |filters: &[usize]| {
            let mut mask = vec![0; layout.values() - FLAGS];
            for (word, bit) in filters.iter().map(|&filter| layout.filter(filter)) {
                mask[word - FLAGS] |= bit;
            }
            mask
        };
        let mut keys = Parts::default();
        keys.push(Key::default());
        Space {
            layout,
            timed: mask(&program.timed),
            steps: mask(&program.step_filters),
            all: mask(&every),
            looked_at: program.looked_at.clone(),
            index: Index::default(),
            keys,
            free: Vec::new(),
            sweep: Sweep::default(),
            held: 0,
            beside: 0,
            hand: 0,
            refused: 0,
        }
    }

    /// First of the steps of a look-up, each to be made some keys ahead of the next.
    pub(crate) fn prefetch(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Second step.
    pub(crate) fn prefetch_key(&self, hash: u64) {
        if let Some(slot) = self.index.find(hash, |_| true) {
            prefetch(&self.keys[slot as usize]);
        }
    }

    /// Third step: the slot of a key. A key that has none gets one if its row, `words`, will be kept; else it has the rows
    /// of nobody, none. Where there is no room for new keys, no row of one is looked at: what it counts would be too little.
    pub(crate) fn slot(&mut self, hash: u64, name: &str, words: &[u64], full: bool) -> u32 {
        if let Some(slot) = self.find(hash, name) {
            self.keys[slot as usize].ring.prefetch(&self.looked_at, self.layout);
            return slot;
        }
        if full {
            self.refused += 1;
            return REFUSED;
        }
        if !passes(words, &self.all) {
            return NOBODY;
        }
        let key = Key { name: name.into(), ..Key::default() };
        self.beside += key.name.outside();
        let slot = match self.free.pop() {
            Some(slot) => {
                self.keys[slot as usize] = key;
                slot
            }
            None => self.keys.push(key),
        };
        self.index.insert(hash, slot);
        slot
    }

    fn find(&self, hash: u64, name: &str) -> Option<u32> {
        self.index.find(hash, |slot| self.keys[slot as usize].name.is(name))
    }

    /// Looks for the key of a row that had none when it was last looked for.
    pub(crate) fn find_again(&self, hash: u64, name: &str, inserted: &mut Inserted) {
        inserted.slot = self.find(hash, name).unwrap_or(NOBODY);
    }

    /// The rows of a key for windows of time, if there are any.
    pub(crate) fn rows_of(&self, hash: u64, name: &str) -> Option<Rows<'_>> {
        self.find(hash, name).map(|slot| self.keys[slot as usize].rows())
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
        let mut inserted = Inserted { slot, ..Inserted::default() };
        if inserted.is_refused() {
            return inserted;
        }
        let key = &mut self.keys[slot as usize];
        // What else it has grows with its rows.
        let mut grows = false;
        if passes(words, &self.timed) {
            // What has expired is looked for where it makes room; windows do not see it anyway.
            let before = key.ring.held_words();
            if key.ring.is_full(layout) {
                key.expire_ring(program, layout, watermark_before);
                grows = true;
            }
            inserted.own = Some(key.ring.end());
            key.ring.push(words);
            self.held = (self.held + key.ring.held_words()).saturating_sub(before);
        }
        if passes(words, &self.steps) {
            let filters = &program.step_filters;
            let steps = key.more.get_or_insert_default();
            let steps = steps.steps.get_or_insert_with(|| Box::new(StepRows::new(filters.len())));
            let before = steps.bytes();
            steps.expire(watermark_before.saturating_sub(program.step_retention_micros), layout);
            let horizon = (words[0] as i64).saturating_sub(program.step_retention_micros);
            let (number, missed) = steps.push(words, layout, filters, max_steps, horizon);
            inserted.step = Some(number);
            grows |= before != steps.bytes() || number == 0;
            *steps_dropped += u64::from(missed);
        }
        for (list, kept) in program.latest.iter().enumerate() {
            let (word, bit) = layout.filter(kept.filter);
            if words[word] & bit != 0 {
                let more = key.more.get_or_insert_default();
                if more.latest.is_empty() {
                    more.latest = program.latest.iter().map(|_| Ring::default()).collect();
                }
                if inserted.latest.is_empty() {
                    inserted.latest = vec![None; program.latest.len()].into();
                }
                let before = more.latest[list].held_words();
                inserted.latest[list] =
                    Some(latest::push(&mut more.latest[list], words, layout, kept.before));
                grows |= before != more.latest[list].held_words();
            }
        }
        if grows {
            key.recount(&mut self.beside);
        }
        if self.sweep.due.is_none() && self.sweep.at == 0 {
            self.sweep.due = Some((words[0] as i64).saturating_add(program.least_retention_micros()));
        }
        inserted
    }

    /// No window of time at a row of this key holds more rows than this.
    pub(crate) fn rows(&self, inserted: &Inserted) -> u64 {
        self.keys[inserted.slot as usize].rows().len()
    }

    /// A test holds at a row of `time`.
    pub(crate) fn passes(
        &mut self,
        program: &Keyspace,
        inserted: &Inserted,
        test: &Test,
        time: i64,
        asked: &mut Asked,
    ) -> bool {
        let (feature, least) = (test.feature, test.least_rows);
        let counted = least > 0 && program.features[feature].latest.is_none();
        (!counted || self.has_rows_in_window(program, inserted, feature, time, least, asked))
            && test.passes(self.feature(program, inserted, feature, time, asked))
    }

    /// The window of a feature at a row of `time` has so many rows, those that its filter leaves out included. Not
    /// asked of windows of rows.
    fn has_rows_in_window(
        &mut self,
        program: &Keyspace,
        inserted: &Inserted,
        feature: usize,
        time: i64,
        least: u64,
        asked: &mut Asked,
    ) -> bool {
        let frame = program.frame_of[feature];
        let known = asked.bounds[frame].0 == asked.row;
        if !known && !program.frames[frame].excludes_end {
            // The window ends with the last row, so one row tells.
            let rows = self.keys[inserted.slot as usize].rows();
            let lower = program.frames[frame].lower(time);
            return rows.len() >= least
                && (least == 0 || rows.time(rows.end() - least, self.layout) >= lower);
        }
        let (start, end) = self.bounds(program, inserted, feature, time, asked);
        end - start >= least
    }

    fn bounds(
        &mut self,
        program: &Keyspace,
        inserted: &Inserted,
        feature: usize,
        time: i64,
        asked: &mut Asked,
    ) -> (u64, u64) {
        let frame = program.frame_of[feature];
        if let (row, bounds) = asked.bounds[frame]
            && row == asked.row
        {
            return bounds;
        }
        let key = &mut self.keys[inserted.slot as usize];
        let is_hot = key.rows().len() > SCAN_ROWS;
        let Key { ring, more, .. } = key;
        let (mut cursor, mut tail) = (None, None);
        if is_hot {
            let more = more.get_or_insert_default();
            if more.cursors.is_empty() {
                more.cursors = vec![Cursor::default(); program.frames.len()].into();
            }
            cursor = Some(&mut more.cursors[frame]);
            tail = more.tail.as_deref();
        } else if let Some(more) = more
            && ring.is_cut()
        {
            tail = more.tail.as_deref();
        }
        let rows = Rows::new(ring, tail);
        let bounds = window::bounds(rows, self.layout, &program.frames[frame], time, cursor);
        asked.bounds[frame] = (asked.row, bounds);
        bounds
    }

    /// A window feature's value at a row of `time`, once all its peers are kept.
    pub(crate) fn feature(
        &mut self,
        program: &Keyspace,
        inserted: &Inserted,
        feature: usize,
        time: i64,
        asked: &mut Asked,
    ) -> Value {
        if let (row, value) = asked.values[feature]
            && row == asked.row
        {
            return value;
        }
        let value = match program.features[feature].latest {
            None => self.over_time(program, inserted, feature, time, asked),
            Some(list) => match inserted.latest.get(list).copied().flatten() {
                Some(own) => {
                    let rings = self.keys[inserted.slot as usize].more.as_ref().map(|more| &more.latest);
                    let ring = rings.and_then(|rings| rings.get(list));
                    let feature = &program.features[feature];
                    ring.map_or(Value::Null, |ring| latest::evaluate(ring, self.layout, feature, own))
                }
                None => Value::Null,
            },
        };
        asked.values[feature] = (asked.row, value);
        value
    }

    fn over_time(
        &mut self,
        program: &Keyspace,
        inserted: &Inserted,
        feature: usize,
        time: i64,
        asked: &mut Asked,
    ) -> Value {
        let window = self.bounds(program, inserted, feature, time, asked);
        let Key { ring, more, .. } = &mut self.keys[inserted.slot as usize];
        let (place, feature) = (feature, &program.features[feature]);
        let mut first = None;
        let (kept, tail) = match more {
            Some(more) => (more.accumulators.get_mut(place), more.tail.as_deref()),
            None => (None, None),
        };
        let (rows, kept) = (Rows::new(ring, tail), kept.unwrap_or(&mut first));
        if let Some(marks) = window::marked(ring, feature, window, inserted.own, kept) {
            let marks = asked.marks(ring, feature.filter, self.layout, marks);
            return scan::marked(ring, self.layout, feature, marks);
        }
        let value = window::over(rows, self.layout, feature, window, inserted.own, kept);
        if first.is_some() {
            let more = more.get_or_insert_default();
            more.accumulators = program.features.iter().map(|_| None).collect();
            more.accumulators[place] = first;
            self.keys[inserted.slot as usize].recount(&mut self.beside);
        }
        value
    }

    fn steps_of(&self, inserted: &Inserted) -> Option<&StepRows> {
        self.keys[inserted.slot as usize].more.as_ref()?.steps.as_deref()
    }

    /// The rows of a sequence that a row completes.
    ///
    /// # Errors
    /// [`GaveUp`] when more than `trials` rows would have to be looked at.
    pub(crate) fn find_sequence(
        &self,
        inserted: &Inserted,
        sequence: &SequenceProgram,
        trials: u64,
    ) -> Result<Option<Match>, GaveUp> {
        match (self.steps_of(inserted), inserted.step) {
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
        match (found, self.steps_of(inserted)) {
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
        let more = self.keys[inserted.slot as usize].more.as_ref();
        for feature in &indicator.features {
            let FeatureProgram::Window(w) = feature else { continue };
            let feature = &program.features[*w];
            let Some(list) = feature.latest else { continue };
            let Some(own) = inserted.latest.get(list).copied().flatten() else { continue };
            let Some(ring) = more.and_then(|more| more.latest.get(list)) else { continue };
            let rows = latest::counted(ring, self.layout, feature, own);
            seqs.extend(rows.map(|number| ring.row(number, self.layout).seq()));
        }
        seqs.sort_unstable();
        seqs.dedup();
        seqs
    }

    /// Adds the texts that its windows of rows hold in these arguments.
    pub(crate) fn add_texts(&self, arguments: &[usize], held: &mut Numbers) {
        if arguments.is_empty() {
            return;
        }
        for more in (0..self.keys.len()).filter_map(|slot| self.keys[slot].more.as_ref()) {
            for ring in &more.latest {
                for number in ring.first()..ring.end() {
                    let row = ring.row(number, self.layout);
                    arguments.iter().filter_map(|&argument| row.argument(argument)).for_each(|text| {
                        held.add(text as usize);
                    });
                }
            }
        }
    }

    /// Frees keys whose rows have all expired: the next `count` keys of a way through all of them, so that no step waits
    /// for all. No way begins before something may have expired.
    pub(crate) fn sweep(&mut self, program: &Keyspace, hasher: &Hasher, watermark_before: i64, count: usize) {
        if self.sweep.at == 0 {
            if self.sweep.due.is_none_or(|due| due >= watermark_before) {
                return;
            }
            self.sweep = Sweep { began: watermark_before, ..Sweep::default() };
        }
        let end = (self.sweep.at + count).min(self.keys.len());
        for slot in self.sweep.at..end {
            if let Some(ahead) = self.keys.get(slot + 8) {
                ahead.ring.prefetch_first();
            }
            let key = &mut self.keys[slot];
            if key.is_empty() {
                continue; // It is free.
            }
            let before = key.ring.held_words();
            let counted = key.more.as_ref().map_or(0, |more| more.counted);
            key.expire(program, self.layout, watermark_before);
            match key.more {
                Some(_) => key.recount(&mut self.beside),
                None => self.beside = self.beside.saturating_sub(counted),
            }
            let (is_empty, after) = (key.is_empty(), key.ring.held_words());
            self.held = (self.held + if is_empty { 0 } else { after }).saturating_sub(before);
            if is_empty {
                let hash = text::hash(hasher, self.keys[slot].name.as_str());
                self.index.remove(hash, slot as u32);
                self.free.push(slot as u32);
                let gone = std::mem::take(&mut self.keys[slot]);
                let counted = gone.name.outside() + gone.more.map_or(0, |more| more.counted);
                self.beside = self.beside.saturating_sub(counted);
            } else {
                let due = self.keys[slot].due(program, self.layout);
                self.sweep.passed = self.sweep.passed.into_iter().chain(due).min();
            }
        }
        self.sweep.at = end;
        if end >= self.keys.len() {
            // Rows that came behind the way's back are not older than its beginning.
            let came = self.sweep.began.saturating_add(program.least_retention_micros());
            let due = self.sweep.passed.map_or(came, |passed| passed.min(came));
            self.sweep = Sweep { due: Some(due), ..Sweep::default() };
        }
    }
}
