//! Smuggling of people.

use crate::plants::Kind;

/// What is planted.
pub(crate) const KINDS: &[Kind] = &[];
