//! One shard: the keyed state of a range of keys, and the hits of their rows.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use crate::EngineError;
use crate::candidates::Candidates;
use crate::engine::StateLimit;
use crate::keys::{Asked, Inserted, REFUSED, Room, Space};
use crate::keyspace::{ageless_texts, texts_micros};
use crate::prepare::{self, Prepared, PreparedKeyspace, Rows};
use crate::program::{FeatureProgram, IndicatorProgram, Program};
use crate::sequence::GaveUp;
use crate::table::TableRows;
use crate::tail::{Shelf, StateUse};
use crate::text::{self, Hasher, Interner, Numbers};
use crate::window::SCAN_ROWS;

/// State of all keys of this shard.
pub(crate) struct Shard {
    program: Arc<Program>,
    hasher: Hasher,
    index: usize,
    shards: usize,
    limits: Limits,
    only_keys: Option<Arc<Vec<HashSet<String>>>>,
    interner: Interner,
    /// How long the number of a text may be in use.
    texts_micros: i64,
    /// Per keyspace: arguments whose texts windows of rows hold, however old.
    ageless: Vec<Vec<usize>>,
    /// Texts from which on it is looked which of those are held still.
    look_at: usize,
    spaces: Vec<Space>,
    /// The keyspace whose idle keys were looked at last.
    sweep: usize,
    block: Block,
    /// Per keyspace and indicator of it: empty between chunks.
    found: Vec<Vec<Candidates>>,
    /// What its rows may take, if that is bounded.
    room: Option<Room>,
    /// Bytes of state from which on new keys are refused.
    most: u64,
    /// They take as much.
    full: bool,
}

/// Rows on their way into rings, some at once.
#[derive(Default)]
struct Block {
    /// As rings keep them.
    images: Vec<u64>,
    /// Slots of their keys.
    slots: Vec<u32>,
    /// Texts of some of them that are to be numbered: the row among these, and which of the keyspace's texts.
    texts: Vec<(u32, u32)>,
    /// Where those of one time stand.
    kept: Vec<Inserted>,
}

/// Rows of a block, if no more of them share one time: enough for waits to overlap, few enough for the nearest cache.
const BLOCK_ROWS: usize = 32;

/// So many texts need no looking after.
const FEW_TEXTS: usize = 1 << 14;

/// A row that is looked at.
struct At {
    /// Among the rows of the prepared keyspace.
    at: usize,
    /// Among those kept of its time.
    kept: usize,
    time: i64,
}

/// What bounds work and state.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Rows of steps of sequences kept of a key.
    pub rows: usize,
    /// Rows looked at in the search for a sequence at one row.
    pub trials: u64,
    /// Bytes of state, of all shards and what they share.
    pub most: Option<usize>,
    /// Bytes of it that are no shard's.
    pub others: Arc<AtomicU64>,
}

/// Rows of one indicator that hit, with what typologies need of them.
pub(crate) struct HitBatch {
    pub indicator: usize,
    /// Columns, then features.
    pub rows: Arc<RecordBatch>,
    pub times: Vec<i64>,
    pub seqs: Vec<u64>,
    pub about: StringArray,
    pub keys: StringArray,
    /// Per typology that it gates: for each exclusion whether it holds (NULL: not known).
    pub exclusions: Vec<(usize, Vec<BooleanArray>)>,
    /// Per (typology, part): values counted as different.
    pub different: Vec<(usize, usize, Vec<StringArray>)>,
    /// Per row: numbers of the transactions of its sequence's steps and of its windows of rows, which are not kept
    /// until an alert asks for them. Empty when the indicator has neither.
    pub counted: Vec<Arc<[u64]>>,
}

/// Asks for the rows that an indicator counted for a key at its hits.
#[derive(Debug, Clone)]
pub(crate) struct EvidenceRequest {
    pub indicator: usize,
    pub key: String,
    /// Of the hits, ascending.
    pub times: Vec<i64>,
}

/// What a shard made of one step.
#[derive(Default)]
pub(crate) struct ShardOutput {
    pub hits: Vec<HitBatch>,
    /// Numbers of transactions on which an expression failed, with its words.
    pub faults: Vec<(u64, String)>,
    /// Rows of steps dropped that a sequence might still have used.
    pub steps_dropped: u64,
    /// Rows at which the search for a sequence was given up.
    pub given_up: u64,
    /// What the state takes.
    pub state: StateUse,
    /// And that of each keyspace in memory.
    pub spaces: Vec<StateUse>,
}

impl ShardOutput {
    /// Adds what another shard made of it.
    pub(crate) fn append(&mut self, other: ShardOutput) {
        self.hits.extend(other.hits);
        self.faults.extend(other.faults);
        self.steps_dropped += other.steps_dropped;
        self.given_up += other.given_up;
        self.state.add(other.state);
        self.spaces.resize_with(self.spaces.len().max(other.spaces.len()), StateUse::default);
        self.spaces.iter_mut().zip(other.spaces).for_each(|(space, more)| space.add(more));
    }
}

impl Shard {
    pub(crate) fn new(
        program: Arc<Program>,
        hasher: Hasher,
        index: usize,
        shards: usize,
        limits: Limits,
        only_keys: Option<Arc<Vec<HashSet<String>>>>,
        state: Option<&StateLimit>,
    ) -> Shard {
        let retention = program.keyspaces.iter().map(|space| space.retention_micros).max().unwrap_or(0);
        let room = state.map(|limit| {
            let shelf = Arc::new(Shelf::new(limit.store.clone(), index));
            Room::new(shelf, limit.memory / shards.max(1), retention)
        });
        let spaces = program.keyspaces.iter().map(Space::new).collect();
        let texts_micros = texts_micros(&program.tables, &program.keyspaces);
        let ageless = ageless_texts(&program.tables, &program.keyspaces);
        let candidates = |&i: &usize| Candidates::new(program.indicators[i].features.len());
        let found =
            program.keyspaces.iter().map(|space| space.indicators.iter().map(candidates).collect()).collect();
        let most = limits.most.map_or(u64::MAX, |most| (most / shards.max(1)) as u64);
        Shard {
            program,
            hasher,
            index,
            shards,
            limits,
            only_keys,
            interner: Interner::default(),
            texts_micros,
            ageless,
            look_at: FEW_TEXTS,
            spaces,
            sweep: 0,
            block: Block::default(),
            found,
            room,
            most,
            full: false,
        }
    }

    /// Takes a chunk's rows. `watermark_before` is the time all rows of the step are at or after: what no window and
    /// no evidence can reach back to from there is dropped.
    pub(crate) fn process(
        &mut self,
        chunk: &Prepared,
        watermark_before: i64,
        output: &mut ShardOutput,
    ) -> Result<(), EngineError> {
        for table in &chunk.tables {
            for space in &table.keyspaces {
                let others = self.limits.others.load(Ordering::Relaxed) / self.shards.max(1) as u64;
                self.full = self.state_use().of_keys() + others >= self.most;
                self.keyspace(&table.rows, space, watermark_before, output)?;
                if let Some(room) = &mut self.room {
                    let now = table.rows.last_time();
                    room.make(&mut self.spaces, now);
                }
                self.sound()?;
            }
        }
        Ok(())
    }

    fn keyspace(
        &mut self,
        table: &TableRows,
        prepared: &PreparedKeyspace,
        watermark_before: i64,
        output: &mut ShardOutput,
    ) -> Result<(), EngineError> {
        let program = self.program.clone();
        let space_program = &program.keyspaces[prepared.keyspace];
        let mine = &prepared.rows.shards[self.index];
        let mut found = std::mem::take(&mut self.found[prepared.keyspace]);
        let mut asked = Asked::new(space_program);
        let time = |at: usize| table.time(prepared.rows.places[mine[at] as usize]);
        let mut start = 0;
        while start < mine.len() {
            let mut end = (start + BLOCK_ROWS).min(mine.len());
            while end < mine.len() && time(end) == time(end - 1) {
                end += 1;
            }
            self.locate(prepared, &mine[start..end]);
            let mut from = start;
            while from < end {
                let now = time(from);
                let mut to = from;
                self.block.kept.clear();
                // All rows of this time go in before any is evaluated: peers count.
                while to < end && time(to) == now {
                    let inserted = self.keep(prepared, to - start, watermark_before, output);
                    self.block.kept.push(inserted);
                    to += 1;
                }
                for (kept, &at) in mine[from..to].iter().enumerate() {
                    let at = at as usize;
                    if self.block.kept[kept].is_refused() {
                        continue;
                    }
                    asked.next_row();
                    self.find_again(prepared, at, kept);
                    let row = At { at, kept, time: now };
                    self.examine(&program, prepared, &row, &mut asked, &mut found, output);
                }
                from = to;
            }
            start = end;
        }
        for (found, &indicator) in found.iter_mut().zip(&space_program.indicators) {
            if !found.places.is_empty() {
                let rules = &program.indicators[indicator];
                let hits = found.take_hits(indicator, rules, table, &self.interner, &mut output.faults)?;
                output.hits.extend(hits);
            }
        }
        self.found[prepared.keyspace] = found;
        Ok(())
    }

    /// Finds the keys of some rows and numbers their texts. The memory that this needs is asked for before it is looked
    /// at, for some rows at once: waiting for one row after another is most of what a row would cost.
    fn locate(&mut self, prepared: &PreparedKeyspace, rows: &[u32]) {
        self.block.images.clear();
        self.block.slots.clear();
        for rows in rows.chunks(BLOCK_ROWS) {
            self.locate_some(prepared, rows);
        }
    }

    fn locate_some(&mut self, prepared: &PreparedKeyspace, rows: &[u32]) {
        let Block { images, slots, texts, .. } = &mut self.block;
        let space = &mut self.spaces[prepared.keyspace];
        let (stride, first) = (space.layout.stride(), images.len());
        let Rows { places, hashes, images: all, .. } = &prepared.rows;
        texts.clear();
        for (row, &at) in rows.iter().enumerate() {
            let at = at as usize;
            let image = &all[at * stride..(at + 1) * stride];
            space.prefetch(hashes[at]);
            for (nth, text) in prepared.texts.iter().enumerate() {
                if text.is_known(image) {
                    self.interner.prefetch(image[text.word]);
                    texts.push((row as u32, nth as u32));
                }
            }
            images.extend_from_slice(image);
        }
        let images = &mut images[first..];
        for &at in rows {
            space.prefetch_key(hashes[at as usize]);
        }
        for &(row, nth) in texts.iter() {
            self.interner.prefetch_text(images[row as usize * stride + prepared.texts[nth as usize].word]);
        }
        let first_slot = slots.len();
        for (row, &at) in rows.iter().enumerate() {
            let at = at as usize;
            let image = &images[row * stride..(row + 1) * stride];
            slots.push(space.slot(hashes[at], prepared.key(places[at]), image, self.full));
        }
        for &(row, nth) in texts.iter() {
            let row = row as usize;
            if slots[first_slot + row] == REFUSED {
                continue; // Nobody will look at its texts.
            }
            let text = &prepared.texts[nth as usize];
            let word = &mut images[row * stride + text.word];
            let (place, time) = (places[rows[row] as usize], prepared.rows.time(rows[row], stride));
            *word = u64::from(self.interner.intern(*word, text.text(place), time));
        }
    }

    /// Puts a row of the block into its key's rings.
    fn keep(
        &mut self,
        prepared: &PreparedKeyspace,
        row: usize,
        watermark_before: i64,
        output: &mut ShardOutput,
    ) -> Inserted {
        let space = &mut self.spaces[prepared.keyspace];
        let stride = space.layout.stride();
        space.keep(
            &self.program.keyspaces[prepared.keyspace],
            self.block.slots[row],
            &self.block.images[row * stride..(row + 1) * stride],
            watermark_before,
            self.limits.rows,
            &mut output.steps_dropped,
        )
    }

    /// A row that is not kept may have a key only since a row of its time, or of a time shortly before, was kept.
    fn find_again(&mut self, prepared: &PreparedKeyspace, at: usize, kept: usize) {
        let inserted = &mut self.block.kept[kept];
        if inserted.is_nobody() {
            let name = prepared.key(prepared.rows.places[at]);
            self.spaces[prepared.keyspace].find_again(prepared.rows.hashes[at], name, inserted);
        }
    }

    /// Adds a row to the candidates of those indicators that its features do not rule out.
    fn examine(
        &mut self,
        program: &Program,
        prepared: &PreparedKeyspace,
        row: &At,
        asked: &mut Asked,
        found: &mut [Candidates],
        output: &mut ShardOutput,
    ) {
        let space_program = &program.keyspaces[prepared.keyspace];
        let space = &mut self.spaces[prepared.keyspace];
        let inserted = &self.block.kept[row.kept];
        let place = prepared.rows.places[row.at];
        let rows = space.rows(inserted).min(SCAN_ROWS);
        for (group, &possible) in space_program.possible[rows as usize].iter().enumerate() {
            let mut left = prepared.candidates(row.at, group) & possible;
            'indicators: while left != 0 {
                let n = group * 64 + left.trailing_zeros() as usize;
                left &= left - 1;
                let index = space_program.indicators[n];
                let only_keys = self.only_keys.as_ref().and_then(|all| all.get(index));
                if !only_keys.is_none_or(|only| only.contains(prepared.key(place))) {
                    continue;
                }
                let indicator = &program.indicators[index];
                let mut sequence = None;
                if let Some(wanted) = &indicator.sequence {
                    sequence =
                        space.find_sequence(inserted, wanted, self.limits.trials).unwrap_or_else(|GaveUp| {
                            output.given_up += 1;
                            None
                        });
                    if sequence.is_none() {
                        continue;
                    }
                }
                for test in &indicator.screen.tests {
                    if !space.passes(space_program, inserted, test, row.time, asked) {
                        continue 'indicators;
                    }
                }
                let found = &mut found[n];
                found.places.push(place);
                for (feature, values) in indicator.features.iter().zip(&mut found.values) {
                    values.push(match feature {
                        FeatureProgram::Derived(_) | FeatureProgram::Answer => continue,
                        FeatureProgram::Step { step, place } => {
                            space.step_value(inserted, sequence.as_ref(), *step, *place)
                        }
                        FeatureProgram::Window(w) => {
                            space.feature(space_program, inserted, *w, row.time, asked)
                        }
                    });
                }
                if indicator.names_what_it_counted {
                    found.counted.push(space.counted(space_program, inserted, indicator, sequence));
                }
            }
        }
    }

    /// Numbers of the transactions that an indicator's features counted at its hits.
    pub(crate) fn evidence(&self, request: &EvidenceRequest) -> Vec<u64> {
        let program = &self.program;
        let indicator = &program.indicators[request.indicator];
        let Some(space) = self.spaces.get(indicator.keyspace) else {
            return Vec::new();
        };
        let hash = text::hash(&self.hasher, &request.key);
        if text::shard_of(hash, self.shards) != self.index {
            return Vec::new();
        }
        let Some(rows) = space.rows_of(hash, &request.key) else {
            return Vec::new();
        };
        let mut seqs = roaring::RoaringTreemap::new();
        for feature in &indicator.features {
            let FeatureProgram::Window(w) = feature else { continue };
            let feature = &program.keyspaces[indicator.keyspace].features[*w];
            if feature.latest.is_some() {
                continue; // Its hits name what they counted.
            }
            // Windows of later hits begin and end later: no row is looked at twice.
            let mut seen = rows.first();
            for &time in &request.times {
                let first = rows.lower_bound(feature.frame.lower(time), space.layout);
                let end = rows.lower_bound(feature.frame.upper(time), space.layout);
                rows.each(first.max(seen)..end, space.layout, |_, row| {
                    if row.has(feature.filter) {
                        seqs.insert(row.seq());
                    }
                });
                seen = seen.max(end);
            }
        }
        seqs.into_iter().collect()
    }

    /// # Errors
    /// [`EngineError::State`] when rows outside memory could not be written or read.
    pub(crate) fn sound(&self) -> Result<(), EngineError> {
        self.room.as_ref().map_or(Ok(()), |room| room.shelf.sound())
    }

    /// Says what the state takes.
    pub(crate) fn weigh(&self, output: &mut ShardOutput) {
        output.spaces = self.spaces.iter().map(Space::state_use).collect();
        output.state = self.state_use();
    }

    fn state_use(&self) -> StateUse {
        let mut all = self.room.as_ref().map_or(StateUse::default(), |room| room.shelf.state_use());
        self.spaces.iter().for_each(|space| all.add(space.state_use()));
        all.texts = self.interner.bytes() as u64;
        all
    }

    /// Frees keys whose rows have all expired: a slice of the keys of one keyspace at each step. A step of many rows looks
    /// at as many keys: it may have brought as many, and a history comes in few large steps.
    pub(crate) fn sweep(&mut self, watermark_before: i64, rows: usize) {
        self.sweep = (self.sweep + 1) % self.spaces.len().max(1);
        if let (Some(space), Some(program)) =
            (self.spaces.get_mut(self.sweep), self.program.keyspaces.get(self.sweep))
        {
            space.sweep(program, &self.hasher, watermark_before, rows.max(2048));
        }
        // A row may bring several new texts.
        let oldest = watermark_before.saturating_sub(self.texts_micros);
        if self.ageless.iter().all(Vec::is_empty) {
            self.interner.sweep(&self.hasher, oldest, 2 * rows.max(2048));
        } else if self.interner.known() >= self.look_at {
            // Which texts they hold only the rows tell, all of them: so when there are twice as many as the last time.
            let mut held = Numbers::default();
            for (space, arguments) in self.spaces.iter().zip(&self.ageless) {
                space.add_texts(arguments, &mut held);
            }
            self.interner.keep_only(&self.hasher, oldest, &held);
            self.look_at = FEW_TEXTS.max(2 * self.interner.known());
        }
    }
}

pub(crate) fn hit_batch(
    index: usize,
    indicator: &IndicatorProgram,
    hits: RecordBatch,
    times: Vec<i64>,
    seqs: Vec<u64>,
    faults: &mut Vec<(u64, String)>,
) -> Result<HitBatch, EngineError> {
    let text = |array: &ArrayRef| -> Result<StringArray, EngineError> {
        Ok(cast(array, &DataType::Utf8)?.as_string::<i32>().clone())
    };
    let mut exclusions = Vec::new();
    for (typology, compiled) in &indicator.exclusions {
        let mut arrays = Vec::new();
        for expression in compiled {
            arrays.push(prepare::evaluate(expression, &hits, &seqs, faults)?.as_boolean().clone());
        }
        exclusions.push((*typology, arrays));
    }
    let mut different = Vec::new();
    for (typology, part, compiled) in &indicator.different {
        let mut arrays = Vec::new();
        for expression in compiled {
            arrays.push(text(&prepare::evaluate(expression, &hits, &seqs, faults)?)?);
        }
        different.push((*typology, *part, arrays));
    }
    Ok(HitBatch {
        indicator: index,
        about: text(hits.column(indicator.about))?,
        keys: text(hits.column(indicator.key))?,
        rows: Arc::new(hits),
        times,
        seqs,
        exclusions,
        different,
        counted: Vec::new(),
    })
}
