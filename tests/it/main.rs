//! Tests that cross crates.

mod published_schemas;
mod window_oracle;
