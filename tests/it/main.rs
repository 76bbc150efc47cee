//! Tests that cross crates.

mod published_schemas;
