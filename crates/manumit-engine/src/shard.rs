//! One shard: the keyed state of a range of keys, and the hits of their rows.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, StringArray, UInt32Array,
};
use arrow::compute::{cast, filter_record_batch, take};
use arrow::datatypes::DataType;

use crate::EngineError;
use crate::keys::{Inserted, Key, Space};
use crate::prepare::{self, Prepared, PreparedKeyspace, PreparedTable};
use crate::program::{FeatureProgram, IndicatorProgram, Program};
use crate::sequence::GaveUp;
use crate::values::{Interner, to_array};
use crate::window::Value;

/// State of all keys of this shard.
pub(crate) struct Shard {
    program: Arc<Program>,
    hasher: foldhash::quality::RandomState,
    index: u64,
    shards: u64,
    limits: Limits,
    only_keys: Option<Arc<Vec<HashSet<String>>>>,
    interner: Interner,
    spaces: Vec<Space>,
    /// Where the sweep of idle keys goes on.
    sweep: (usize, usize),
    /// One row on its way into a ring.
    scratch: Vec<u64>,
}

/// What bounds the work and the state of sequences.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Rows of steps kept of a key.
    pub rows: usize,
    /// Rows looked at in the search at one row.
    pub trials: u64,
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
}

impl Shard {
    pub(crate) fn new(
        program: Arc<Program>,
        hasher: foldhash::quality::RandomState,
        index: usize,
        shards: usize,
        limits: Limits,
        only_keys: Option<Arc<Vec<HashSet<String>>>>,
    ) -> Shard {
        let spaces = program.keyspaces.iter().map(Space::new).collect();
        Shard {
            program,
            hasher,
            index: index as u64,
            shards: shards as u64,
            limits,
            only_keys,
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
        let rows: usize =
            step.iter().flat_map(|prepared| &prepared.tables).map(|table| table.times.len()).sum();
        self.sweep(watermark_before, rows);
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
        // Per indicator: candidate rows, and per window feature of the keyspace its values at those rows.
        let mut rows: Vec<Vec<u32>> = vec![Vec::new(); space_program.indicators.len()];
        let mut values: Vec<Vec<Vec<Value>>> = space_program
            .indicators
            .iter()
            .map(|&i| vec![Vec::new(); program.indicators[i].features.len()])
            .collect();
        // Per indicator and candidate: what its sequence and windows of rows counted.
        let mut counted: Vec<Vec<Vec<u64>>> = vec![Vec::new(); space_program.indicators.len()];
        let mut slots: Vec<Inserted> = Vec::new();
        let trials = self.limits.trials;
        let mut cache: Vec<Option<Value>> = vec![None; space_program.features.len()];
        let all_only_keys = self.only_keys.clone();
        let mut start = 0;
        while start < mine.len() {
            let time = table.times[mine[start] as usize];
            let mut end = start;
            slots.clear();
            // All rows of this time go in before any is evaluated: peers count.
            while end < mine.len() && table.times[mine[end] as usize] == time {
                let row = mine[end] as usize;
                slots.push(self.insert(prepared, row, time, table.seqs[row], watermark_before, output));
                end += 1;
            }
            let space = &mut self.spaces[prepared.keyspace];
            for (position, inserted) in (start..end).zip(&slots) {
                let row = mine[position] as usize;
                cache.fill(None);
                for (n, &indicator) in space_program.indicators.iter().enumerate() {
                    let only_keys = all_only_keys.as_ref().and_then(|all| all.get(indicator));
                    if !prepared.candidates[n].value(row)
                        || !only_keys.is_none_or(|only| only.contains(prepared.keys.value(row)))
                    {
                        continue;
                    }
                    let indicator = &program.indicators[indicator];
                    let mut found = None;
                    if let Some(sequence) = &indicator.sequence {
                        found = space.find(inserted, sequence, trials).unwrap_or_else(|GaveUp| {
                            output.given_up += 1;
                            None
                        });
                        if found.is_none() {
                            continue;
                        }
                    }
                    rows[n].push(row as u32);
                    for (f, feature) in indicator.features.iter().enumerate() {
                        let value = match feature {
                            FeatureProgram::Derived(_) | FeatureProgram::Answer => continue,
                            FeatureProgram::Step { step, place } => {
                                space.step_value(inserted, found.as_ref(), *step, *place)
                            }
                            FeatureProgram::Window(w) => *cache[*w]
                                .get_or_insert_with(|| space.feature(space_program, inserted, *w, time)),
                        };
                        values[n][f].push(value);
                    }
                    if indicator.names_what_it_counted {
                        counted[n].push(space.counted(space_program, inserted, indicator, found));
                    }
                }
            }
            start = end;
        }
        for (n, &indicator) in space_program.indicators.iter().enumerate() {
            if !rows[n].is_empty() {
                let found =
                    self.condition(&program, indicator, table, &rows[n], &values[n], &mut output.faults)?;
                if let Some((mut hits, kept)) = found {
                    let seqs = kept.into_iter().filter_map(|row| counted[n].get_mut(row).map(std::mem::take));
                    hits.counted = seqs.map(Arc::from).collect();
                    output.hits.push(hits);
                }
            }
        }
        Ok(())
    }

    /// Puts a row into its key's rings, where filters want it.
    fn insert(
        &mut self,
        prepared: &PreparedKeyspace,
        row: usize,
        time: i64,
        seq: u64,
        watermark_before: i64,
        output: &mut ShardOutput,
    ) -> Inserted {
        let program = &self.program.keyspaces[prepared.keyspace];
        let space = &mut self.spaces[prepared.keyspace];
        let (layout, hash, name) = (space.layout, prepared.hashes[row], prepared.keys.value(row));
        let keys = &mut space.keys;
        let hasher = &self.hasher;
        let found = space.table.find(hash, |&slot| &*keys[slot as usize].name == name).copied();
        let slot = match found {
            Some(slot) => slot,
            None => {
                let key = Key::new(name, program);
                let slot = match space.free.pop() {
                    Some(slot) => {
                        keys[slot as usize] = key;
                        slot
                    }
                    None => keys.push(key),
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
            return Inserted::nowhere(slot, program);
        }
        for (a, (argument, column)) in program.arguments.iter().zip(&prepared.arguments).enumerate() {
            let wanted = argument.used_by.iter().any(|&bit| words[2 + bit / 64] >> (bit % 64) & 1 == 1);
            match wanted.then(|| column.bits(row, &mut self.interner)).flatten() {
                Some(bits) => words[layout.values() + a] = bits,
                None => {
                    let (word, bit) = layout.null(a);
                    words[word] |= bit;
                }
            }
        }
        let most = self.limits.rows;
        space.keep(program, slot, words, watermark_before, most, &mut output.steps_dropped)
    }

    /// Evaluates the condition on all candidate rows at once; gives also which of them hit.
    fn condition(
        &self,
        program: &Program,
        index: usize,
        table: &PreparedTable,
        rows: &[u32],
        values: &[Vec<Value>],
        faults: &mut Vec<(u64, String)>,
    ) -> Result<Option<(HitBatch, Vec<usize>)>, EngineError> {
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
                FeatureProgram::Window(_) | FeatureProgram::Step { .. } => {
                    to_array(&values[f], &data_type, &self.interner)?
                }
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
        let batch = hit_batch(
            index,
            indicator,
            hits,
            kept.iter().map(|&k| table.times[rows[k] as usize]).collect(),
            kept.iter().map(|&k| seqs[k]).collect(),
            faults,
        )?;
        Ok(Some((batch, kept)))
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
            if feature.latest.is_some() {
                continue; // Its hits name what they counted.
            }
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

    /// Frees keys whose rows have all expired: a slice of the keys at each step, so that no step waits for all. A step of
    /// many rows looks at as many keys: it may have brought as many, and a history comes in few large steps.
    fn sweep(&mut self, watermark_before: i64, rows: usize) {
        let Some(space) = self.spaces.get_mut(self.sweep.0) else {
            self.sweep = (0, 0);
            return;
        };
        let program = &self.program.keyspaces[self.sweep.0];
        let end = (self.sweep.1 + rows.max(2048)).min(space.keys.len());
        for slot in self.sweep.1..end {
            let key = &mut space.keys[slot];
            if key.name.is_empty() && key.is_empty() {
                continue;
            }
            key.expire(program, space.layout, watermark_before);
            if key.is_empty() {
                let hash = self.hasher.hash_one_name(&key.name);
                if let Ok(entry) = space.table.find_entry(hash, |&s| s as usize == slot) {
                    entry.remove();
                    space.free.push(slot as u32);
                    space.keys[slot] = Key::default();
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
        counted: Vec::new(),
    })
}
