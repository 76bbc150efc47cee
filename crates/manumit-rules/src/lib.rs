//! Rules: text of `rules/` and `sql/` to a compiled [`ir::RuleSet`], or diagnostics that name place and mend.
//!
//! The syntax is that of `rules/README.md`; [`ir`] is the seam to the engine.

pub mod document;
mod explain;
mod expression;
mod features;
mod indicator;
pub mod ir;
mod load;
mod metadata;
mod print;
mod query;
mod sources;
mod template;
mod typology;

pub use explain::{explain, sql_of};
pub use features::duration;
pub use load::load;
pub use sources::Sources;
