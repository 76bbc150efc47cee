//! One Kafka transaction after another: messages of all sinks and the offsets read become visible together, or never.
//!
//! # Source
//! KIP-98 (exactly once delivery and transactional messaging), KIP-447 (offsets through the group's metadata).

use std::time::Duration;

use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::KafkaResult;
use rdkafka::producer::Producer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::kafka::insist;
use crate::outbox::Outbox;
use crate::{IoError, KafkaSettings};

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(20);

/// How long messages are waited for before the client is reminded of them.
const FLUSH: Duration = Duration::from_secs(5);

/// The one producer of a run whose writes are transactional.
pub struct Transactions(pub(crate) Outbox);

/// Who reads: offsets are committed for this group.
pub struct Group(pub(crate) ConsumerGroupMetadata);

/// An offset to go on from, with a note for whoever reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// The offset behind the last record read.
    pub next: i64,
}

impl Transactions {
    /// Opens the producer and ends what an earlier one of this id left open: from here on, that one is fenced.
    ///
    /// # Errors
    /// [`IoError`] when the settings cannot be used, or no broker answers.
    pub fn open(settings: &KafkaSettings, id: &str) -> Result<Transactions, IoError> {
        settings.check()?;
        let mut config = settings.producer();
        config.set("transactional.id", id);
        let all = Transactions(Outbox::open(&config, "the transactional producer cannot be made")?);
        insist("transactions cannot be begun", || all.0.producer.init_transactions(REQUEST))?;
        all.begin()?;
        Ok(all)
    }

    fn begin(&self) -> Result<(), IoError> {
        self.0.producer.begin_transaction().map_err(|e| IoError::kafka("a transaction cannot be begun", e))
    }

    /// Adds offsets with `note` to the transaction: they count when it is committed, unless others are added before.
    ///
    /// # Errors
    /// [`IoError::Fenced`] when another process has taken over; [`IoError`] when they cannot be added.
    pub fn announce(&self, group: &Group, offsets: &[Reached], note: &str) -> Result<(), IoError> {
        let Some(list) = list(offsets, note)? else { return Ok(()) };
        insist("offsets cannot be added to the transaction", || self.add(group, &list))
    }

    fn add(&self, group: &Group, list: &TopicPartitionList) -> KafkaResult<()> {
        self.0.producer.send_offsets_to_transaction(list, &group.0, REQUEST)
    }

    /// Commits all messages sent since the last commit, and these offsets with `note`.
    ///
    /// # Errors
    /// [`IoError`] when it cannot be committed: then none of it is visible, and the producer must not be used any more.
    /// [`IoError::Fenced`] when another process has taken over.
    pub fn commit(&self, group: &Group, offsets: &[Reached], note: &str) -> Result<(), IoError> {
        // Before messages are waited for: it wakes the thread that lets them go. Its sleep ends at a time of day, too, and after the
        // clock was set back nothing else would wake it.
        self.announce(group, offsets, note)?;
        let list = list(offsets, note)?;
        insist("messages are still on their way", || {
            let flushed = self.0.producer.flush(FLUSH);
            if let (Err(_), Some(list)) = (&flushed, &list) {
                self.add(group, list)?;
            }
            flushed
        })?;
        self.0.check("of a transaction")?;
        insist("the transaction cannot be committed", || self.0.producer.commit_transaction(REQUEST))?;
        self.begin()
    }
}

fn list(offsets: &[Reached], note: &str) -> Result<Option<TopicPartitionList>, IoError> {
    let mut list = TopicPartitionList::new();
    for Reached { topic, partition, next } in offsets {
        let mut element = list.add_partition(topic, *partition);
        element
            .set_offset(Offset::Offset(*next))
            .map_err(|e| IoError::kafka("an offset cannot be committed", e))?;
        element.set_metadata(note);
    }
    Ok((!offsets.is_empty()).then_some(list))
}
