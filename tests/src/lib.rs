//! What tests of several crates share: a real Apache Kafka, and an S3-compatible server.

pub mod kafka;
pub mod proxy;
pub mod s3;
