//! Parquet files as batches.

use std::fs::File;
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
    /// Rows cannot be read.
    #[error("rows cannot be read: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
}

/// The Arrow schema of a Parquet file.
///
/// # Errors
/// [`ParquetError`] when it cannot be opened or is none.
pub fn parquet_schema(path: &Path) -> Result<SchemaRef, ParquetError> {
    Ok(ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.schema().clone())
}

/// The rows of a Parquet file, `rows` at a time, in the order of the file.
///
/// # Errors
/// [`ParquetError`] when it cannot be opened or is none; each batch may fail by itself.
pub fn parquet_batches(
    path: &Path,
    rows: usize,
) -> Result<impl Iterator<Item = Result<RecordBatch, ParquetError>> + Send, ParquetError> {
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.with_batch_size(rows).build()?;
    Ok(reader.map(|batch| batch.map_err(ParquetError::from)))
}
