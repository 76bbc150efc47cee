//! Ordered rows in, hits and alert changes out.
//!
//! ```text
//!  rows of each partition ─► order ─► entries ─► row expressions ─► keyed windows ─► hits ─► typologies ─► alerts
//!                              │ late            (masks, arguments)  (a shard a key range)     │
//!                              ▼                                            ▲───── evidence ───┘
//! ```
//!
//! The engine is a value, not a service: it asks no clock, touches no disk or network and logs nothing; what memory has no
//! room for goes through [`Store`]. After
//! *order* the whole path is a deterministic function of the ordered rows.
//!
//! # Invariants
//! - `C1` every row pushed ends as exactly one of evaluated or late.
//! - `W1` a watermark never goes back.
//! - `W2` a feature's value at a row depends only on its key's rows in `[t − W, t]`, peers included; of a window of rows
//!   only on the row and so many before it. What a sequence finds depends only on its key's rows in its length.
//! - `B1` results do not depend on how rows are cut into batches; `B2` nor on how partitions interleave;
//!   `B3` nor on the number of threads.
//! - `R1` a run that is taken up again goes on as if it had not stopped; see [`Snapshot`].
//! - `E1` all evidence lies in its window and exists in the input.

mod alerts;
mod asked;
mod basis;
mod bits;
mod candidates;
pub mod documents;
mod engine;
pub mod entries;
mod evidence;
mod index;
mod keyed;
mod keyed_program;
mod keys;
mod keyspace;
mod latest;
mod measure;
mod older;
pub mod order;
mod parts;
pub mod plan;
mod prefetch;
mod prepare;
mod program;
mod rescreen;
pub mod ring;
mod rows;
mod saved;
mod scan;
mod screen;
mod sequence;
mod shard;
mod snapshot;
mod steps;
mod table;
mod tail;
mod text;
mod typology;
mod values;
pub mod window;
mod workers;

pub use engine::StateLimit;
pub use engine::{Engine, Fault, Hits, Options, Step};
pub use older::{Older, OlderRows};
pub use order::{LateRows, Orderer, PartitionId, Progress};
pub use rescreen::{Screening, Strongest};
pub use rows::Rows;
pub use snapshot::{Resume, SavedPartition, Snapshot};
pub use tail::{Place, StateUse, Store};
pub use typology::{OnlyHits, alert_id};

/// Why the engine cannot be built or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A rule's expression does not compile; the loader should have refused it.
    #[error("a rule's expression does not compile: {0}")]
    Sql(#[from] manumit_sql::SqlError),
    /// A column that the engine needs is not in the rows: a feed must always give it.
    #[error("there is no column `{column}`")]
    NoSuchColumn {
        /// The column's name.
        column: String,
    },
    /// More distinct filters or arguments over one key than a row's mask holds.
    #[error(
        "the rules keyed by `{key}` use more than 256 different filters or 256 different arguments; split the rule set over two runs"
    )]
    TooManyExpressions {
        /// The key column.
        key: String,
    },
    /// Arrow refused an operation on well-formed rows.
    #[error("rows could not be rearranged")]
    Arrow(#[from] arrow::error::ArrowError),
    /// An alert could not be written as JSON.
    #[error("an alert cannot be written as JSON: {0}")]
    Alert(#[from] serde_json::Error),
    /// A run cannot be taken up from this snapshot.
    #[error("the run cannot be taken up again from the snapshot: {why}")]
    Snapshot {
        /// What is wrong.
        why: String,
    },
    /// Rows that memory has no room for could not be written or read.
    #[error("rows of windows on disk: {why}")]
    State {
        /// What failed, and the mend.
        why: String,
    },
    /// A worker thread ended early: a bug in this program, please report it.
    #[error("a worker thread ended early; this is a bug in Manumit, please report it")]
    WorkerLost,
}
