//! Tests that cross crates.

mod feed_mapping;
mod keyed_sql;
mod oracle;
mod pack_equals_batch;
mod published_schemas;
mod rule_files;
mod stream_equals_batch;
mod window_contract;
mod window_oracle;
