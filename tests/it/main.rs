//! Tests that cross crates.

mod published_schemas;
mod stream_equals_batch;
mod window_oracle;
