//! One shard: the keyed state of a range of keys, and the hits of their rows.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, StringArray, UInt32Array,
};
use arrow::compute::{cast, filter_record_batch, take};
use arrow::datatypes::DataType;
use hashbrown::HashTable;

use crate::EngineError;
use crate::prepare::{self, Prepared, PreparedKeyspace, PreparedTable};
use crate::program::{FeatureProgram, IndicatorProgram, Program};
use crate::ring::{Layout, Ring};
use crate::values::{Interner, to_array};
use crate::window::{self, Accumulator, Value, WindowFeature};

/// State of all keys of this shard.
pub(crate) struct Shard {
    program: Arc<Program>,
    hasher: foldhash::quality::RandomState,
    index: u64,
    shards: u64,
    interner: Interner,
    spaces: Vec<Space>,
    /// Where the sweep of idle keys goes on.
    sweep: (usize, usize),
    /// One row on its way into a ring.
    scratch: Vec<u64>,
}

/// One keyspace's keys.
struct Space {
    layout: Layout,
    table: HashTable<u32>,
    keys: Vec<Key>,
    free: Vec<u32>,
}

/// One key: its rows, and accumulators where it is hot.
struct Key {
    name: Box<str>,
    ring: Ring,
    accumulators: Vec<Option<Box<Accumulator>>>,
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
}

impl Shard {
    pub(crate) fn new(
        program: Arc<Program>,
        hasher: foldhash::quality::RandomState,
        index: usize,
        shards: usize,
    ) -> Shard {
        let spaces = program
            .keyspaces
            .iter()
            .map(|space| Space {
                layout: Layout {
                    mask_words: space.filters.len().div_ceil(64),
                    arguments: space.arguments.len(),
                },
                table: HashTable::new(),
                keys: Vec::new(),
                free: Vec::new(),
            })
            .collect();
        Shard {
            program,
            hasher,
            index: index as u64,
            shards: shards as u64,
            interner: Interner::default(),
            spaces,
            sweep: (0, 0),
            scratch: Vec::new(),
        }
    }

    /// The key of this hash belongs to this shard.
    fn owns(&self, hash: u64) -> bool {
        (hash >> 32) % self.shards == self.index
    }

    /// Takes one step's rows. `watermark_before` is the time all rows of the step are at or after: what no window and
    /// no evidence can reach back to from there is dropped.
    pub(crate) fn process(
        &mut self,
        step: &[Prepared],
        watermark_before: i64,
    ) -> Result<ShardOutput, EngineError> {
        let mut output = ShardOutput::default();
        for prepared in step {
            for table in &prepared.tables {
                for space in &table.keyspaces {
                    self.keyspace(table, space, watermark_before, &mut output)?;
                }
            }
        }
        self.sweep(watermark_before);
        Ok(output)
    }

    fn keyspace(
        &mut self,
        table: &PreparedTable,
        prepared: &PreparedKeyspace,
        watermark_before: i64,
        output: &mut ShardOutput,
    ) -> Result<(), EngineError> {
        let program = self.program.clone();
        let space_program = &program.keyspaces[prepared.keyspace];
        let mine: Vec<u32> = prepared
            .relevant
            .iter()
            .copied()
            .filter(|&row| self.owns(prepared.hashes[row as usize]))
            .collect();
        let horizon = watermark_before.saturating_sub(space_program.retention_micros);
        // Per indicator: candidate rows, and per window feature of the keyspace its values at those rows.
        let mut rows: Vec<Vec<u32>> = vec![Vec::new(); space_program.indicators.len()];
        let mut values: Vec<Vec<Vec<Value>>> = space_program
            .indicators
            .iter()
            .map(|&i| vec![Vec::new(); program.indicators[i].features.len()])
            .collect();
        let mut slots: Vec<(u32, Option<u64>)> = Vec::new();
        let mut cache: Vec<Option<Value>> = vec![None; space_program.features.len()];
        let mut start = 0;
        while start < mine.len() {
            let time = table.times[mine[start] as usize];
            let mut end = start;
            slots.clear();
            // All rows of this time go in before any is evaluated: peers count.
            while end < mine.len() && table.times[mine[end] as usize] == time {
                let row = mine[end] as usize;
                slots.push(self.insert(prepared, row, time, table.seqs[row], horizon));
                end += 1;
            }
            for (position, &(slot, own)) in (start..end).zip(&slots) {
                let row = mine[position] as usize;
                cache.fill(None);
                for (n, &indicator) in space_program.indicators.iter().enumerate() {
                    if !prepared.candidates[n].value(row) {
                        continue;
                    }
                    rows[n].push(row as u32);
                    for (f, feature) in program.indicators[indicator].features.iter().enumerate() {
                        let FeatureProgram::Window(w) = feature else { continue };
                        let value = match cache[*w] {
                            Some(value) => value,
                            None => self.feature(prepared.keyspace, slot, *w, time, own),
                        };
                        cache[*w] = Some(value);
                        values[n][f].push(value);
                    }
                }
            }
            start = end;
        }
        for (n, &indicator) in space_program.indicators.iter().enumerate() {
            if !rows[n].is_empty() {
                let hits =
                    self.condition(&program, indicator, table, &rows[n], &values[n], &mut output.faults)?;
                output.hits.extend(hits);
            }
        }
        Ok(())
    }

    /// Puts a row into its key's ring (when any filter wants it); gives the key's slot and the row's number in the ring.
    fn insert(
        &mut self,
        prepared: &PreparedKeyspace,
        row: usize,
        time: i64,
        seq: u64,
        horizon: i64,
    ) -> (u32, Option<u64>) {
        let program = &self.program.keyspaces[prepared.keyspace];
        let space = &mut self.spaces[prepared.keyspace];
        let (layout, hash, name) = (space.layout, prepared.hashes[row], prepared.keys.value(row));
        let keys = &mut space.keys;
        let hasher = &self.hasher;
        let found = space.table.find(hash, |&slot| &*keys[slot as usize].name == name).copied();
        let slot = match found {
            Some(slot) => slot,
            None => {
                let accumulators = (0..program.features.len()).map(|_| None).collect();
                let key = Key { name: name.into(), ring: Ring::default(), accumulators };
                let slot = match space.free.pop() {
                    Some(slot) => {
                        keys[slot as usize] = key;
                        slot
                    }
                    None => {
                        keys.push(key);
                        keys.len() as u32 - 1
                    }
                };
                space.table.insert_unique(hash, slot, |&s| hasher.hash_one_name(&keys[s as usize].name));
                slot
            }
        };
        let words = &mut self.scratch;
        words.clear();
        words.resize(layout.stride(), 0);
        words[0] = time as u64;
        words[1] = seq;
        let mut any = false;
        for (bit, filter) in prepared.filters.iter().enumerate() {
            if filter.value(row) {
                words[2 + bit / 64] |= 1 << (bit % 64);
                any = true;
            }
        }
        if !any {
            return (slot, None);
        }
        let nulls = 2 + layout.mask_words;
        for (a, (argument, column)) in program.arguments.iter().zip(&prepared.arguments).enumerate() {
            let wanted = argument.used_by.iter().any(|&bit| words[2 + bit / 64] >> (bit % 64) & 1 == 1);
            match wanted.then(|| column.bits(row, &mut self.interner)).flatten() {
                Some(bits) => words[nulls + 1 + a] = bits,
                None => words[nulls] |= 1 << a,
            }
        }
        let key = &mut keys[slot as usize];
        if !key.ring.is_empty() && key.ring.row(key.ring.first(), layout).time() < horizon {
            expire(key, layout, &program.features, horizon);
        }
        let number = key.ring.end(layout);
        key.ring.push(words);
        (slot, Some(number))
    }

    fn feature(&mut self, keyspace: usize, slot: u32, feature: usize, time: i64, own: Option<u64>) -> Value {
        let program = &self.program.keyspaces[keyspace].features[feature];
        let space = &mut self.spaces[keyspace];
        let key = &mut space.keys[slot as usize];
        window::evaluate(&key.ring, space.layout, program, time, own, &mut key.accumulators[feature])
    }

    /// Evaluates the condition on all candidate rows at once.
    fn condition(
        &self,
        program: &Program,
        index: usize,
        table: &PreparedTable,
        rows: &[u32],
        values: &[Vec<Value>],
        faults: &mut Vec<(u64, String)>,
    ) -> Result<Option<HitBatch>, EngineError> {
        let indicator = &program.indicators[index];
        let indices = UInt32Array::from(rows.to_vec());
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(indicator.schema.fields().len());
        for &column in &indicator.columns {
            columns.push(take(table.batch.column(column).as_ref(), &indices, None)?);
        }
        let seqs: Vec<u64> = rows.iter().map(|&row| table.seqs[row as usize]).collect();
        for (f, feature) in indicator.features.iter().enumerate() {
            let data_type = indicator.schema.field(columns.len()).data_type().clone();
            let array = match feature {
                FeatureProgram::Window(_) => to_array(&values[f], &data_type, &self.interner)?,
                // Answered at ticks, and never at rows.
                FeatureProgram::Answer => arrow::array::new_null_array(&data_type, rows.len()),
                FeatureProgram::Derived(expression) => {
                    let so_far = batch_of(&indicator.schema, &columns, rows.len())?;
                    prepare::evaluate(expression, &so_far, &seqs, faults)?
                }
            };
            columns.push(array);
        }
        let batch = batch_of(&indicator.schema, &columns, rows.len())?;
        let held = prepare::evaluate(&indicator.condition, &batch, &seqs, faults)?;
        let held = held.as_boolean();
        let about = cast(batch.column(indicator.about), &DataType::Utf8)?;
        let mask: BooleanArray = (0..rows.len())
            .map(|row| Some(held.is_valid(row) && held.value(row) && about.is_valid(row)))
            .collect();
        if mask.true_count() == 0 {
            return Ok(None);
        }
        let hits = filter_record_batch(&batch, &mask)?;
        let kept: Vec<usize> = mask.values().set_indices().collect();
        hit_batch(
            index,
            indicator,
            hits,
            kept.iter().map(|&k| table.times[rows[k] as usize]).collect(),
            kept.iter().map(|&k| seqs[k]).collect(),
            faults,
        )
        .map(Some)
    }

    /// Numbers of the transactions that an indicator's features counted at its hits.
    pub(crate) fn evidence(&self, request: &EvidenceRequest) -> Vec<u64> {
        let program = &self.program;
        let indicator = &program.indicators[request.indicator];
        let Some(space) = self.spaces.get(indicator.keyspace) else {
            return Vec::new();
        };
        let hash = self.hasher.hash_one_name(&request.key);
        if !self.owns(hash) {
            return Vec::new();
        }
        let Some(&slot) = space.table.find(hash, |&s| *space.keys[s as usize].name == *request.key) else {
            return Vec::new();
        };
        let ring = &space.keys[slot as usize].ring;
        let mut seqs = roaring::RoaringTreemap::new();
        for feature in &indicator.features {
            let FeatureProgram::Window(w) = feature else { continue };
            let feature = &program.keyspaces[indicator.keyspace].features[*w];
            // Windows of later hits begin and end later: no row is looked at twice.
            let mut seen = ring.first();
            for &time in &request.times {
                let first = ring.lower_bound(feature.frame.lower(time), space.layout);
                let end = ring.lower_bound(feature.frame.upper(time), space.layout);
                for number in first.max(seen)..end {
                    let row = ring.row(number, space.layout);
                    if row.has(feature.filter) {
                        seqs.insert(row.seq());
                    }
                }
                seen = seen.max(end);
            }
        }
        seqs.into_iter().collect()
    }

    /// Frees keys whose rows have all expired: a slice of the keys at each step, so that no step waits for all.
    fn sweep(&mut self, watermark_before: i64) {
        let Some(space) = self.spaces.get_mut(self.sweep.0) else {
            self.sweep = (0, 0);
            return;
        };
        let program = &self.program.keyspaces[self.sweep.0];
        let horizon = watermark_before.saturating_sub(program.retention_micros);
        let end = (self.sweep.1 + 2048).min(space.keys.len());
        for slot in self.sweep.1..end {
            let key = &mut space.keys[slot];
            if key.name.is_empty() && key.ring.is_empty() {
                continue;
            }
            expire(key, space.layout, &program.features, horizon);
            if key.ring.is_empty() {
                let hash = self.hasher.hash_one_name(&key.name);
                if let Ok(entry) = space.table.find_entry(hash, |&s| s as usize == slot) {
                    entry.remove();
                    space.free.push(slot as u32);
                    space.keys[slot] =
                        Key { name: "".into(), ring: Ring::default(), accumulators: Vec::new() };
                }
            }
        }
        self.sweep = if end >= space.keys.len() { (self.sweep.0 + 1, 0) } else { (self.sweep.0, end) };
    }
}

/// The same hash for a key's text wherever it comes from.
trait HashName {
    fn hash_one_name(&self, name: &str) -> u64;
}

impl HashName for foldhash::quality::RandomState {
    fn hash_one_name(&self, name: &str) -> u64 {
        std::hash::BuildHasher::hash_one(self, name)
    }
}

fn expire(key: &mut Key, layout: Layout, features: &[WindowFeature], horizon: i64) {
    let first = key.ring.lower_bound(horizon, layout);
    for (accumulator, feature) in key.accumulators.iter_mut().zip(features) {
        window::leave_behind(accumulator, &key.ring, layout, feature, first);
    }
    key.ring.drop_before(first, layout);
}

fn batch_of(
    schema: &arrow::datatypes::SchemaRef,
    columns: &[ArrayRef],
    rows: usize,
) -> Result<RecordBatch, arrow::error::ArrowError> {
    let schema = if columns.len() == schema.fields().len() {
        schema.clone()
    } else {
        Arc::new(schema.project(&(0..columns.len()).collect::<Vec<_>>())?)
    };
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns.to_vec(), &options)
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
    })
}
