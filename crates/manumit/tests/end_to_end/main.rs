//! The program itself, as its users start it: a bank nobody here knows, from files and through a real Apache Kafka.

// A test fails by panicking; the lints that forbid it are meant for the product.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod alert_log;
mod archive;
mod bad_input;
mod baselines;
mod bombs;
mod clock;
mod cluster;
mod coverage;
mod exactly_once;
mod faults;
mod feed_check;
mod files_exactly_once;
mod groups;
mod hour;
mod kafka;
mod labelled_sets;
mod ledger;
mod lists;
mod look_back;
mod nordbank;
mod object_store;
mod program;
mod reference_memory;
mod repeats;
mod several_feeds;
mod show;
mod state;
mod storms;
mod verify_alert;
