//! Files and Kafka: where records come from, and where alerts, dead letters and late rows go.
//!
//! The only user of rdkafka. Everything here is synchronous: the caller owns the threads.

mod bell;
mod files;
mod folded;
mod kafka;
mod outbox;
mod settings;
mod sink;
mod topic;
mod transaction;

pub use files::{BATCH_BYTES, FilePlace, FileSource, Framing, ends_of, list_files};
pub use kafka::{Event, KafkaSource, KafkaWriter, POLL_BYTES, Standing, create_topics};
pub use settings::{CLIENT_BYTES, KafkaSettings, READER_BYTES, SEND_BYTES};
pub use sink::{Commits, Sink, SinkTarget};
pub use topic::{PIECE_BYTES, TopicMessage, TopicReader};
pub use transaction::{Group, Reached, Transactions};

/// Why a source or sink cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IoError {
    /// A path that names nothing.
    #[error("there is no file or folder `{path}`; check the path, or put a pattern between quotes")]
    NoSuchPath {
        /// The path as it was given.
        path: String,
    },
    /// A file that cannot be read or written.
    #[error("`{path}`: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A Kafka setting that cannot be used.
    #[error("the Kafka setting `{name}` {message}")]
    Setting {
        /// Its name.
        name: String,
        /// What is wrong with it, and the mend.
        message: String,
    },
    /// A sink names a topic, but no brokers are configured.
    #[error("`kafka:{topic}` needs brokers: set `[kafka] brokers` or MANUMIT_KAFKA_BROKERS")]
    NoBrokers {
        /// The topic.
        topic: String,
    },
    /// Kafka refused something for good.
    #[error("Kafka: {what}: {source}")]
    Kafka {
        /// What was tried.
        what: String,
        /// What librdkafka says.
        source: rdkafka::error::KafkaError,
    },
    /// A file that somebody else writes to.
    #[error(
        "`{path}` is being written by another run, or is named for another output of this one, too; end that run, or name another file"
    )]
    InUse {
        /// The file.
        path: String,
    },
    /// Another process writes in this one's place.
    #[error(
        "another process with the same `[kafka] group` has taken over, or the broker gave this one up ({why}); what was not committed is done by that one"
    )]
    Fenced {
        /// What librdkafka says.
        why: String,
    },
    /// A message could not be delivered.
    #[error("a message for topic `{topic}` could not be delivered: {message}")]
    Delivery {
        /// The topic.
        topic: String,
        /// What librdkafka says.
        message: String,
    },
}

impl IoError {
    pub(crate) fn file(path: impl AsRef<std::path::Path>, source: std::io::Error) -> IoError {
        IoError::File { path: path.as_ref().display().to_string(), source }
    }

    pub(crate) fn kafka(what: impl Into<String>, source: rdkafka::error::KafkaError) -> IoError {
        IoError::Kafka { what: what.into(), source }
    }
}
