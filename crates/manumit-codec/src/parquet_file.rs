//! Parquet files as batches.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

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

/// The rows of a Parquet file, `rows` at a time, in the order of the file.
///
/// # Errors
/// [`ParquetError`] when it cannot be opened or is none; each batch may fail by itself.
pub fn parquet_batches(
    path: &Path,
    rows: usize,
) -> Result<impl Iterator<Item = Result<RecordBatch, ParquetError>> + Send, ParquetError> {
    let mut reader = Some(guarded(|| {
        let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
        Ok(builder.with_batch_size(rows).build()?)
    })?);
    Ok(std::iter::from_fn(move || {
        // What state it would be in after a failure nobody knows.
        let mut open = reader.take()?;
        match guarded(|| open.next().transpose().map_err(ParquetError::from)) {
            Ok(Some(batch)) => {
                reader = Some(open);
                Some(Ok(batch))
            }
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        }
    }))
}
