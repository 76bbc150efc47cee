//! Ordered rows in, hits and alert changes out.
//!
//! ```text
//!  rows of each partition ──► order ──► entries ──► keyed windows ──► hits ──► typologies ──► alerts
//!                              │ late
//!                              ▼
//! ```
//!
//! The engine is a value, not a service: it asks no clock, touches no disk or network and logs nothing. Of the
//! line above, *order*, *entries* and the windows of one key are built.
//!
//! # Invariants
//! - `C1` every row pushed ends as exactly one of released or late.
//! - `W1` a watermark never goes back.
//! - `W2` a feature's value at a row depends only on its key's rows in `[t − W, t]`, peers included.
//! - `B1` results do not depend on how rows are cut into batches; `B2` nor on how partitions interleave.

pub mod entries;
pub mod order;
pub mod ring;
pub mod window;

pub use order::{LateRows, Orderer, PartitionId, Progress};

/// Why the engine cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A column that the engine needs is not in the rows: a feed must always give it.
    #[error("there is no column `{column}`")]
    NoSuchColumn {
        /// The column's name.
        column: String,
    },
    /// Arrow refused an operation on well-formed rows.
    #[error("rows could not be rearranged")]
    Arrow(#[from] arrow::error::ArrowError),
}
