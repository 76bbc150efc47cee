//! From rows that passed an indicator's cheap tests to its hits: the condition where it is not decided yet, over all rows
//! of a chunk at once, and the columns of those rows only that hit.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter;
use arrow::datatypes::SchemaRef;

use crate::EngineError;
use crate::prepare;
use crate::program::{FeatureProgram, IndicatorProgram};
use crate::shard::{HitBatch, hit_batch};
use crate::table::{Place, Places, TableRows};
use crate::text::Interner;
use crate::values::to_array;
use crate::window::Value;

/// Rows of one indicator in a chunk.
pub(crate) struct Candidates {
    pub places: Vec<Place>,
    /// By feature: values of windows and steps at these rows.
    pub values: Vec<Vec<Value>>,
    /// By row: numbers of the transactions that its sequence and windows of rows counted, where hits name them.
    pub counted: Vec<Vec<u64>>,
}

impl Candidates {
    pub(crate) fn new(features: usize) -> Candidates {
        Candidates { places: Vec::new(), values: vec![Vec::new(); features], counted: Vec::new() }
    }

    /// Takes out those that hit; none is left, but the room that they took, which the next chunk needs again.
    ///
    /// # Errors
    /// [`EngineError`] when Arrow refuses an operation on well-formed rows.
    pub(crate) fn take_hits(
        &mut self,
        index: usize,
        indicator: &IndicatorProgram,
        rows: &TableRows,
        interner: &Interner,
        faults: &mut Vec<(u64, String)>,
    ) -> Result<Option<HitBatch>, EngineError> {
        let hits = self.hits(index, indicator, rows, interner, faults);
        self.places.clear();
        self.values.iter_mut().for_each(Vec::clear);
        self.counted.clear();
        hits
    }

    fn hits(
        &mut self,
        index: usize,
        indicator: &IndicatorProgram,
        rows: &TableRows,
        interner: &Interner,
        faults: &mut Vec<(u64, String)>,
    ) -> Result<Option<HitBatch>, EngineError> {
        let about = indicator.columns[indicator.about];
        let is_known = |place: &Place| rows.sides[place.side()].batch.column(about).is_valid(place.row());
        let known = BooleanBuffer::collect_bool(self.places.len(), |row| is_known(&self.places[row]));
        // Derived features that the condition has needed, at all rows.
        let mut derived: Vec<Option<ArrayRef>> = vec![None; indicator.features.len()];
        let held = if indicator.screen.decides {
            known
        } else {
            &known & &self.condition(indicator, rows, interner, &mut derived, faults)?
        };
        if held.count_set_bits() == 0 {
            return Ok(None);
        }
        if held.count_set_bits() < self.places.len() {
            let kept = |row: usize| held.value(row);
            retain(&mut self.places, kept);
            self.values.iter_mut().for_each(|values| retain(values, kept));
            retain(&mut self.counted, kept);
            let mask = arrow::array::BooleanArray::new(held.clone(), None);
            for array in derived.iter_mut().flatten() {
                *array = filter(array.as_ref(), &mask)?;
            }
        }
        let seqs: Vec<u64> = self.places.iter().map(|&place| rows.seq(place)).collect();
        let at = Places::new(self.places.iter().copied());
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(indicator.schema.fields().len());
        for &column in &indicator.columns {
            columns.push(rows.collect(column, &at)?);
        }
        for (f, feature) in indicator.features.iter().enumerate() {
            let array = match (feature, derived[f].take()) {
                (_, Some(known)) => known,
                (FeatureProgram::Derived(expression), None) => {
                    let so_far = batch_of(&indicator.schema, &columns, seqs.len())?;
                    prepare::evaluate(expression, &so_far, &seqs, faults)?
                }
                _ => self.feature(f, feature, &indicator.schema, columns.len(), interner)?,
            };
            columns.push(array);
        }
        let batch = batch_of(&indicator.schema, &columns, seqs.len())?;
        let times = self.places.iter().map(|&place| rows.time(place)).collect();
        let mut hits = hit_batch(index, indicator, batch, times, seqs, faults)?;
        hits.counted = self.counted.drain(..).map(Arc::from).collect();
        Ok(Some(hits))
    }

    /// Where the condition holds. Fills in those derived features that it needs.
    fn condition(
        &self,
        indicator: &IndicatorProgram,
        rows: &TableRows,
        interner: &Interner,
        derived: &mut [Option<ArrayRef>],
        faults: &mut Vec<(u64, String)>,
    ) -> Result<BooleanBuffer, EngineError> {
        let thin = &indicator.thin;
        let seqs: Vec<u64> = self.places.iter().map(|&place| rows.seq(place)).collect();
        let at = Places::new(self.places.iter().copied());
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(thin.places.len());
        for &place in &thin.places {
            let array = match place.checked_sub(indicator.columns.len()) {
                None => rows.collect(indicator.columns[place], &at)?,
                Some(f) => match thin.derived.iter().find(|(feature, _)| *feature == f) {
                    Some((_, expression)) => {
                        let so_far = batch_of(&thin.schema, &columns, seqs.len())?;
                        let array = prepare::evaluate(expression, &so_far, &seqs, faults)?;
                        derived[f] = Some(array.clone());
                        array
                    }
                    None => self.feature(f, &indicator.features[f], &thin.schema, columns.len(), interner)?,
                },
            };
            columns.push(array);
        }
        let batch = batch_of(&thin.schema, &columns, seqs.len())?;
        let held = prepare::evaluate(&thin.condition, &batch, &seqs, faults)?;
        Ok(prepare::holds(held.as_boolean()))
    }

    /// A feature that is not derived, as a column of `schema`.
    fn feature(
        &self,
        f: usize,
        feature: &FeatureProgram,
        schema: &SchemaRef,
        column: usize,
        interner: &Interner,
    ) -> Result<ArrayRef, EngineError> {
        let data_type = schema.field(column).data_type();
        Ok(match feature {
            FeatureProgram::Window(_) | FeatureProgram::Step { .. } => {
                to_array(&self.values[f], data_type, interner)?
            }
            // Answered at ticks, and never at rows.
            FeatureProgram::Answer | FeatureProgram::Derived(_) => {
                new_null_array(data_type, self.places.len())
            }
        })
    }
}

fn retain<T>(items: &mut Vec<T>, kept: impl Fn(usize) -> bool) {
    let mut row = 0;
    items.retain(|_| {
        row += 1;
        kept(row - 1)
    });
}

/// The columns so far as a batch of the first columns of `schema`.
fn batch_of(
    schema: &SchemaRef,
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
