//! What typologies and queries remember, written down: part of a [`crate::Snapshot`].
//!
//! Keyed windows are not in it: they follow from rows, and are made of rows again. What typologies have seen and opened
//! does not, as an alert may be older than any row that is kept.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::EngineError;

/// State of all typologies.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SavedTypologies {
    /// By typology, in the order of the rule set; subjects by name.
    pub(crate) subjects: Vec<Vec<SavedSubject>>,
    /// Rows of hits by indicator: an Arrow stream in base64.
    pub(crate) rows: BTreeMap<usize, String>,
    /// Steps taken, which decides when subjects are forgotten.
    pub(crate) steps: u64,
}

/// One subject of a typology.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedSubject {
    pub name: String,
    /// By part.
    pub hits: Vec<Vec<SavedHit>>,
    pub open: Option<SavedOpen>,
}

/// One hit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedHit {
    pub time: i64,
    pub seq: u64,
    pub key: String,
    /// Its row among the saved rows of the part's indicator.
    pub row: usize,
    pub utc_offset_minutes: Option<i32>,
    pub counted: Option<Vec<u64>>,
    pub different: Vec<Option<String>>,
    pub exclusions: Vec<Option<bool>>,
}

/// An open alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedOpen {
    pub id: String,
    pub revision: u32,
    pub opened: (i64, Option<i32>),
    pub revised_at: i64,
    pub score: u32,
    pub parts: Vec<usize>,
    pub suppressed_since_last: u64,
    pub suppressed_since_opened: u64,
    /// Time and transaction of the hit that opened it; snapshots of earlier versions do not tell.
    #[serde(default)]
    pub opening: Option<(i64, String)>,
}

/// A hit that queries may read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedRecent {
    pub time: i64,
    pub indicator: usize,
    pub subject: String,
    pub tx_id: Option<String>,
}

/// What keyed queries remember beside rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SavedKeyed {
    pub(crate) recent: Vec<SavedRecent>,
    pub(crate) floor: i64,
}

/// Rows of hits on their way into a snapshot: each once, though several typologies keep it.
#[derive(Default)]
pub(crate) struct RowsOut {
    batches: Vec<Arc<RecordBatch>>,
    places: HashMap<(*const RecordBatch, usize), usize>,
    of_batch: HashMap<*const RecordBatch, usize>,
    rows: Vec<(usize, usize)>,
}

impl RowsOut {
    /// The number that the row has in the snapshot.
    pub(crate) fn number(&mut self, batch: &Arc<RecordBatch>, row: usize) -> usize {
        let pointer = Arc::as_ptr(batch);
        if let Some(&number) = self.places.get(&(pointer, row)) {
            return number;
        }
        let at = *self.of_batch.entry(pointer).or_insert_with(|| {
            // Held here, so that no other batch can come to lie at its address.
            self.batches.push(batch.clone());
            self.batches.len() - 1
        });
        self.rows.push((at, row));
        self.places.insert((pointer, row), self.rows.len() - 1);
        self.rows.len() - 1
    }

    /// All rows, as text.
    pub(crate) fn finish(self) -> Result<String, EngineError> {
        let batches: Vec<&RecordBatch> = self.batches.iter().map(AsRef::as_ref).collect();
        let Some(first) = batches.first() else { return Ok(String::new()) };
        let rows = interleave_record_batch(&batches, &self.rows)?;
        let mut writer = StreamWriter::try_new(Vec::new(), &first.schema())?;
        writer.write(&rows)?;
        Ok(STANDARD.encode(writer.into_inner()?))
    }
}

/// Reads what [`RowsOut::finish`] wrote.
pub(crate) fn rows_in(text: &str) -> Result<Option<Arc<RecordBatch>>, EngineError> {
    if text.is_empty() {
        return Ok(None);
    }
    let damaged = |why: String| EngineError::Snapshot { why: format!("rows of hits cannot be read: {why}") };
    let bytes = STANDARD.decode(text).map_err(|e| damaged(e.to_string()))?;
    let mut reader = StreamReader::try_new(bytes.as_slice(), None)?;
    reader.next().transpose().map(|rows| rows.map(Arc::new)).map_err(|e| damaged(e.to_string()))
}
