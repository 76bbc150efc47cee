//! Cases of typologies: small stories in transactions, and the alerts that must come of them.
//!
//! ```text
//!  cases.toml ─► read ─► story (rows, facts) ─► the engine, four ways ─┐
//!                                            └► SQL over all rows ─────┴► judged against what is wanted
//!  rules ─► mutate ─► each change of one number or comparison: do the cases notice?
//! ```
//!
//! The format is that of `rules/CASES.md`. Nothing here opens a file or asks a clock.

mod batch;
mod judge;
mod mutate;
mod pool;
mod read;
mod report;
mod story;
mod table;
mod ways;
mod world;

pub use judge::{Outcome, Tried};
pub use mutate::{Change, Mutation, mutate};
pub use read::{Case, Suite, Wanted, suites};
pub use report::{junit, text};
pub use world::{Tester, TryError, try_all};
