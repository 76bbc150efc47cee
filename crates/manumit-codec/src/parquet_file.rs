//! Parquet files as batches.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

/// Why a Parquet file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ParquetError {
    /// The file cannot be opened.
    #[error("cannot open the file")]
    Open(#[from] std::io::Error),
    /// It is no Parquet file, or a damaged one.
    #[error("not a readable Parquet file: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// The reader gave up in the middle, as it does on some damaged files.
    #[error("the file is damaged; write it anew, or take it out")]
    Damaged,
    /// Rows cannot be read.
    #[error("rows cannot be read: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
}

/// The reader takes some things on a file's word and panics where they are not so: no reason to stop everything.
fn guarded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or(Err(ParquetError::Damaged))
}

/// The Arrow schema of a Parquet file.
///
/// # Errors
/// [`ParquetError`] when it cannot be opened or is none.
pub fn parquet_schema(path: &Path) -> Result<SchemaRef, ParquetError> {
    guarded(|| Ok(ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.schema().clone()))
}

/// Bytes of text in one batch, where it has more rows than one. A dictionary lets a file of a megabyte say a long text millions of times.
const TEXT: usize = 16 << 20;

/// The rows of a Parquet file, at most `rows` at a time, in the order of the file; fewer where their texts are long.
///
/// # Errors
/// [`ParquetError`] when it cannot be opened or is none; each batch may fail by itself.
pub fn parquet_batches(
    path: &Path,
    rows: usize,
) -> Result<impl Iterator<Item = Result<RecordBatch, ParquetError>> + Send, ParquetError> {
    let (schema, reader) = guarded(|| {
        let plain = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
        let schema = plain.schema().clone();
        // Texts are read as views of where they stand in the file's pages, and written out a part at a time.
        let views = Schema::new(schema.fields().iter().map(viewed).collect::<Fields>());
        let options = ArrowReaderOptions::new().with_schema(Arc::new(views));
        // A type that cannot be read so is read as it is.
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(File::open(path)?, options);
        Ok((schema, builder.unwrap_or(plain).with_batch_size(rows).build()?))
    })?;
    let mut reader = Some(reader);
    let mut rest: Option<RecordBatch> = None;
    Ok(std::iter::from_fn(move || {
        let batch = match rest.take() {
            Some(batch) => batch,
            None => {
                // What state it would be in after a failure nobody knows.
                let mut open = reader.take()?;
                match guarded(|| open.next().transpose().map_err(ParquetError::from)) {
                    Ok(Some(batch)) => {
                        reader = Some(open);
                        batch
                    }
                    Ok(None) => return None,
                    Err(error) => return Some(Err(error)),
                }
            }
        };
        let mut count = batch.num_rows();
        while count > 1 && text_of(batch.slice(0, count).columns()) > TEXT {
            count /= 2;
        }
        if count < batch.num_rows() {
            rest = Some(batch.slice(count, batch.num_rows() - count));
        }
        Some(guarded(|| written_out(&batch.slice(0, count), &schema)))
    }))
}

/// The same field with its texts as views.
fn viewed(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::List(item) => DataType::List(viewed(item)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(viewed).collect()),
        _ => return field.clone(),
    };
    Arc::new(Field::clone(field).with_data_type(data_type))
}

/// Bytes that the texts of these columns have when they are written out.
fn text_of(columns: &[ArrayRef]) -> usize {
    let of = |column: &ArrayRef| match column.data_type() {
        // The lower half of a view is the length.
        DataType::Utf8View => column.as_string_view().views().iter().map(|view| *view as u32 as usize).sum(),
        DataType::Struct(_) => text_of(column.as_struct().columns()),
        DataType::List(_) => {
            let lists = column.as_list::<i32>();
            let offsets = lists.value_offsets();
            let (from, to) = (offsets[0] as usize, offsets[lists.len()] as usize);
            text_of(&[lists.values().slice(from, to - from)])
        }
        _ => 0,
    };
    columns.iter().map(of).sum()
}

/// Rows with the columns that the file says it has.
fn written_out(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ParquetError> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns: Result<Vec<ArrayRef>, _> =
        columns.map(|(column, field)| cast(column, field.data_type())).collect();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns?, &options)?)
}
