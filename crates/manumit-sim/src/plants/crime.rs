//! Crimes that people are forced to commit.

use crate::plants::Kind;

/// What is planted.
pub(crate) const KINDS: &[Kind] = &[];
