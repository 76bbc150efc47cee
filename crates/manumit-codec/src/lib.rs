//! Bytes to Arrow: records of a feed's format become rows of its raw shape, and each bad record a fault.
//!
//! A [`Decoder`] is the seam for further formats. JSON lines and documents, and CSV are here; Parquet files are read
//! as batches by [`parquet_batches`].

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use manumit_model::Records;

mod csv;
mod json;
mod parquet_file;
mod scan;
mod shape;
mod strict;
mod typed;

pub use csv::{Csv, names as csv_names, split as split_csv};
pub use json::Json;
pub use parquet_file::{ParquetError, parquet_batches, parquet_schema};
pub use scan::JsonDocument;
pub use shape::{RawField, RawType, offset_column, raw_schema};
pub use typed::{TimeZone, left_out};

/// What became of a list of records.
#[derive(Debug)]
pub struct Decoded {
    /// One row a good record, in order; columns of [`Decoder::schema`].
    pub batch: RecordBatch,
    /// For each row the index of the record it came from.
    pub rows: Vec<usize>,
    /// Bad records; at most one fault a record.
    pub faults: Vec<RecordFault>,
    /// The records themselves, when the decoder split what it was given (documents into their elements); indices
    /// refer to these.
    pub split: Option<Records>,
}

/// Why a record cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordFault {
    /// Index of the record.
    pub record: usize,
    /// Stable reason, a metric label.
    pub reason: &'static str,
    /// Dotted path of the field at fault.
    pub field: Option<String>,
    /// What stands there.
    pub value: Option<String>,
    /// One sentence: expected, found, mend.
    pub message: String,
}

/// What to say of bytes that are not UTF-8, and how to mend it.
pub(crate) fn not_utf8(what: &str, bytes: &[u8]) -> String {
    let from = std::str::from_utf8(bytes).err().map_or(0, |error| error.valid_up_to()) + 1;
    format!(
        "the {what} is not UTF-8 from byte {from} on; convert what is sent, for instance with `iconv -f latin1 -t utf8` \
         (`-f windows-1252` where a Windows program wrote it)"
    )
}

/// A format: undecoded records to rows.
pub trait Decoder: Send + Sync {
    /// Columns of the rows.
    fn schema(&self) -> &SchemaRef;

    /// Decodes the records; a bad one never spoils its neighbours.
    ///
    /// # Errors
    /// [`arrow::error::ArrowError`] only when Arrow fails on well-formed data, such as more than 2 GiB of text.
    fn decode(&self, records: &Records) -> Result<Decoded, arrow::error::ArrowError>;
}
