//! Feeds: from a bank's records to canonical transactions.
//!
//! A feed file is front matter and one SELECT (see `sql/feeds/README.md`). [`Feed::map`] decodes, maps and validates a
//! list of records; what cannot be used comes back as dead letters with the reason. [`Enricher`] then fills what
//! reference tables know. Nothing here opens a file or asks a clock.
//!
//! Invariant `C1`: every record given to [`Feed::map`] ends as exactly one of mapped, filtered or dead letter.

mod absent;
mod canonical;
mod enrich;
mod fingerprint;
mod fit;
mod front;
mod guess;
mod infer;
mod map;
mod place;
mod report;
mod select;
mod validate;

pub use absent::Absent;
pub use enrich::Enricher;
pub use fingerprint::Fingerprints;
pub use front::{Format, Future};
pub use infer::{Sample, new_feed};
pub use map::{Feed, FeedError, Mapped};
pub use report::Report;
