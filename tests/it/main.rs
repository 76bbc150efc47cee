//! Tests that cross crates.

mod coverage;
mod evidence_on_disk;
mod feed_mapping;
mod feed_sets;
mod groups_oracle;
mod keyed_archive;
mod keyed_sql;
mod oracle;
mod pack_cases;
mod pack_equals_batch;
mod published_schemas;
mod rule_files;
mod sequences_equal_batch;
mod shared_plan;
mod simulation;
mod sql_files;
mod standing;
mod state_full;
mod stream_equals_batch;
mod window_contract;
mod window_oracle;
