//! Putting a run away and taking it up again, so that it goes on as if it had never stopped.
//!
//! ```text
//!  snapshot ─► { watermark, partitions, typologies, numbers }          written beside the archive
//!  archive  ─► rows in [rows_from, watermark) ─► replay ─► windows      as they were
//!           ─► rows from the watermark on      ─► wait                   as they waited
//! ```
//!
//! # Invariants
//! - `R1` an engine that was resumed finds what the one that was put away would have found, with the same alert ids and
//!   revisions. Windows, sequences and look-backs are functions of rows; what is no such function is in the snapshot.

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::saved::{SavedKeyed, SavedTypologies};
use crate::{EngineError, PartitionId};

/// A source partition as the watermark knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedPartition {
    /// Its feed.
    pub feed: String,
    /// Highest event time read, microseconds UTC.
    pub highest: Option<i64>,
    /// The engine's watermark when the partition joined or woke, microseconds UTC.
    pub floor: i64,
    /// It held nothing back.
    pub idle: bool,
}

/// What is to be known of a run, beside its rows, to take it up again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The rules that ran.
    pub rule_set_hash: String,
    /// Canonical columns of the rows.
    pub columns: Vec<String>,
    /// Every row before it was evaluated, no other; microseconds UTC.
    pub watermark: i64,
    /// By [`PartitionId`].
    pub partitions: Vec<SavedPartition>,
    /// Rows of this event time and later make the windows; microseconds UTC.
    pub rows_from: i64,
    /// Number of the first of them.
    pub first: u64,
    /// Number of the next row that is evaluated: there were `next - first` of them.
    pub next: u64,
    /// What typologies remember.
    pub typologies: SavedTypologies,
    /// What queries remember.
    pub keyed: SavedKeyed,
}

impl Snapshot {
    /// Alerts that are open.
    pub fn open_alerts(&self) -> usize {
        self.typologies.subjects.iter().flatten().filter(|subject| subject.open.is_some()).count()
    }
}

/// How an engine is taken up.
#[derive(Debug, Clone, PartialEq)]
pub enum Resume {
    /// As it was put away, under the same rules.
    Exactly(Box<Snapshot>),
    /// From rows alone, because the rules changed or no snapshot is left: typologies see the hits of the rows again, and say
    /// nothing. Alerts that were opened before the rows begin are not known.
    FromRows {
        /// Rows before it are taken for evaluated, microseconds UTC.
        watermark: i64,
        /// By [`PartitionId`].
        partitions: Vec<SavedPartition>,
    },
}

impl Engine {
    /// Everything that does not follow from rows. All rows below the watermark must have been evaluated: call it after
    /// [`Engine::step`].
    ///
    /// # Errors
    /// When rows of hits cannot be written down.
    pub fn snapshot(&self) -> Result<Snapshot, EngineError> {
        let watermark = self.watermark();
        let back = self.rows_micros();
        let (rows_from, first) = if back == i64::MAX {
            (i64::MIN, 0)
        } else {
            // What the log has dropped no window counts any more.
            let wanted = watermark.saturating_sub(back);
            self.log().since(wanted)
        };
        Ok(Snapshot {
            rule_set_hash: self.rules().hash.clone(),
            columns: self.schema().fields().iter().map(|field| field.name().clone()).collect(),
            watermark,
            partitions: self.orderer().saved(),
            rows_from,
            first,
            next: self.log().next(),
            typologies: self.typologies().saved()?,
            keyed: self.keyed().saved(),
        })
    }

    /// The snapshot is one of these rules, over these columns.
    pub fn fits(&self, snapshot: &Snapshot) -> bool {
        snapshot.rule_set_hash == self.rules().hash
            && snapshot.columns.iter().eq(self.schema().fields().iter().map(|field| field.name()))
    }

    /// From which event time on [`Engine::replay`] wants rows, microseconds UTC.
    pub fn rows_from(&self, resume: &Resume) -> i64 {
        match resume {
            Resume::Exactly(snapshot) => snapshot.rows_from,
            Resume::FromRows { watermark, .. } => match self.lookback_micros() {
                i64::MAX => i64::MIN,
                back => watermark.saturating_sub(back),
            },
        }
    }

    /// Begins to take up a run; to be called once, before any row. Then come [`Engine::replay`] with all rows of
    /// [`Engine::rows_from`] up to the watermark, [`Engine::resumed`], and [`Engine::wait`] with the rest.
    ///
    /// # Errors
    /// [`EngineError::Snapshot`] when it is one of other rules or columns.
    pub fn resume(&mut self, resume: &Resume) -> Result<(), EngineError> {
        let first = match resume {
            Resume::Exactly(snapshot) if !self.fits(snapshot) => {
                return Err(EngineError::Snapshot { why: "it belongs to other rules or columns".into() });
            }
            Resume::Exactly(snapshot) => snapshot.first,
            Resume::FromRows { .. } => 0,
        };
        self.log_mut().start_at(first);
        Ok(())
    }

    /// Takes rows that were evaluated before, ordered as the engine orders them, and says nothing about them.
    ///
    /// # Errors
    /// As [`Engine::step`].
    pub fn replay(&mut self, resume: &Resume, rows: &RecordBatch) -> Result<(), EngineError> {
        self.relive(rows, matches!(resume, Resume::FromRows { .. }))
    }

    /// All rows were replayed: what does not follow from them is put in its place.
    ///
    /// # Errors
    /// [`EngineError::Snapshot`] when these are not the rows that the snapshot was made over, or it is damaged.
    pub fn resumed(&mut self, resume: &Resume) -> Result<(), EngineError> {
        match resume {
            Resume::Exactly(snapshot) => {
                if self.log().next() != snapshot.next {
                    let (wanted, found) =
                        (snapshot.next - snapshot.first, self.log().next().saturating_sub(snapshot.first));
                    return Err(EngineError::Snapshot {
                        why: format!("it was made over {wanted} rows, of which {found} are there"),
                    });
                }
                self.orderer_mut().restore(&snapshot.partitions, snapshot.watermark);
                self.typologies_mut().restore(&snapshot.typologies)?;
                self.keyed_mut().restore(&snapshot.keyed, snapshot.watermark);
                Ok(())
            }
            Resume::FromRows { watermark, partitions } => self.caught_up(partitions, *watermark),
        }
    }

    /// Takes rows that were evaluated after the snapshot was made, in order, and says nothing about them: after
    /// [`Engine::resumed`], when an older snapshot is all there is.
    ///
    /// # Errors
    /// As [`Engine::step`].
    pub fn catch_up(&mut self, rows: &RecordBatch) -> Result<(), EngineError> {
        self.relive(rows, true)
    }

    /// All rows up to `watermark` were taken.
    ///
    /// # Errors
    /// As [`Engine::step`].
    pub fn caught_up(&mut self, partitions: &[SavedPartition], watermark: i64) -> Result<(), EngineError> {
        self.pass_ticks(watermark)?;
        self.orderer_mut().restore(partitions, watermark);
        Ok(())
    }

    /// Takes rows of a partition that had been read, found in time and not been evaluated.
    ///
    /// # Errors
    /// [`EngineError`] when a column that every feed must give is missing.
    pub fn wait(&mut self, id: PartitionId, rows: &RecordBatch) -> Result<(), EngineError> {
        self.orderer_mut().wait(id, rows)
    }
}
