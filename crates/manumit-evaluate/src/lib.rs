//! How well alerts meet what is known: planted networks, or what analysts decided.
//!
//! ```text
//!  alerts.jsonl ─────────────┐
//!  truth.csv (cases, who is  ├─► measure ─► JSON, one HTML page
//!  innocent), dispositions ──┘
//! ```
//!
//! `rules/EVALUATE.md` says what each figure means. Nothing here opens a file or asks a clock.

mod alerts;
mod measure;
mod page;
mod truth;

pub use alerts::{Raised, raised};
pub use measure::{Band, CaseFound, DispositionsUsed, Evaluation, Mistaken, OfTypology, Scope, evaluate};
pub use page::STYLE;
pub use truth::{Case, Dispositions, Truth, Verdict, dispositions};

/// What cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// A line of a file, and the mend.
    #[error("{file}, line {line}: {why}")]
    Line {
        /// The file, as the user named it.
        file: String,
        /// From 1.
        line: u64,
        /// What is wrong, and the mend.
        why: String,
    },
    /// A file as a whole.
    #[error("{file}: {why}")]
    File {
        /// The file, as the user named it.
        file: String,
        /// What is wrong, and the mend.
        why: String,
    },
    /// The report does not fit its page: a bug.
    #[error("the report could not be written: {0}")]
    Report(String),
}
