//! Where a record was read, for feeds whose records say nothing by which they could be told apart.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use manumit_model::Position;

/// Names that a SELECT may use beside the record's own fields, and what they hold.
pub(crate) const PLACES: [(&str, DataType); 3] = [
    ("record_source", DataType::Utf8),
    ("record_partition", DataType::Int64),
    ("record_number", DataType::Int64),
];

/// Those of [`PLACES`] that a feed's SELECT names.
#[derive(Debug, Clone)]
pub(crate) struct Places(Vec<usize>);

impl Places {
    /// What a SELECT asks for; a field of that name in the record goes before.
    pub(crate) fn asked(select: &str, raw: &Schema) -> Option<Places> {
        let select = select.to_lowercase();
        let own = |name: &str| raw.fields().iter().any(|field| field.name().eq_ignore_ascii_case(name));
        let asked: Vec<usize> = (0..PLACES.len())
            .filter(|&place| select.contains(PLACES[place].0) && !own(PLACES[place].0))
            .collect();
        (!asked.is_empty()).then_some(Places(asked))
    }

    /// A column is one of these.
    pub(crate) fn gives(&self, name: &str) -> bool {
        self.0.iter().any(|&place| PLACES[place].0 == name)
    }

    /// The record's columns, then these.
    pub(crate) fn after(&self, raw: &SchemaRef) -> SchemaRef {
        let mut fields: Vec<_> = raw.fields().iter().cloned().collect();
        fields.extend(self.0.iter().map(|&place| {
            let (name, data_type) = &PLACES[place];
            Arc::new(Field::new(*name, data_type.clone(), true))
        }));
        Arc::new(Schema::new(fields))
    }

    /// Rows with these columns behind their own; `positions`: one a row.
    pub(crate) fn fill(
        &self,
        batch: RecordBatch,
        positions: impl Iterator<Item = Position>,
    ) -> Result<RecordBatch, ArrowError> {
        let positions: Vec<Position> = positions.collect();
        let mut columns = batch.columns().to_vec();
        columns.extend(self.0.iter().map(|&place| -> ArrayRef {
            match PLACES[place].0 {
                "record_source" => {
                    Arc::new(positions.iter().map(|p| Some(&*p.source)).collect::<StringArray>())
                }
                "record_partition" => {
                    Arc::new(Int64Array::from_iter_values(positions.iter().map(|p| i64::from(p.partition))))
                }
                _ => Arc::new(Int64Array::from_iter_values(positions.iter().map(|p| p.offset))),
            }
        }));
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(self.after(&batch.schema()), columns, &options)
    }
}
