//! What tests of several crates share: a real Apache Kafka.

pub mod kafka;
