//! Text of `rules/` and `sql/` to a compiled [`RuleSet`], or to diagnostics that name place and mend.

pub mod ir;

pub use ir::RuleSet;
