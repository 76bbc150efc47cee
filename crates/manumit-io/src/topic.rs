//! A whole topic from its beginning, without a consumer group: how reference tables are read.
//!
//! What is held of it is bounded whatever it holds: messages come in pieces, of a long one only its beginning is kept, and a batch that cannot
//! be unfolded is stepped over, record by record.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, DefaultConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::bell::Rings;
use crate::{IoError, KafkaSettings, folded};

/// Bytes of a message that are kept at most.
pub const LONGEST_MESSAGE: usize = 1 << 20;

/// Bytes of messages that [`TopicReader::poll`] gives, and one message more.
pub const PIECE_BYTES: usize = 4 << 20;

/// One message of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMessage {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Payload; empty for a tombstone. Of one longer than [`LONGEST_MESSAGE`] only the beginning.
    pub payload: Vec<u8>,
    /// Bytes of the whole payload; `None` where its batch could not be unfolded.
    pub bytes: Option<u64>,
}

/// Reads all partitions of a topic from their beginning, and then what comes.
pub struct TopicReader {
    consumer: Rings<DefaultConsumerContext>,
    settings: KafkaSettings,
    topic: String,
    /// Behind what was read of each partition.
    next: BTreeMap<i32, i64>,
    /// Partitions whose present end was not reached yet.
    open: BTreeSet<i32>,
}

impl TopicReader {
    /// Finds the topic's partitions.
    ///
    /// # Errors
    /// [`IoError`] when no broker answers or there is no such topic.
    pub fn open(settings: &KafkaSettings, topic: &str) -> Result<TopicReader, IoError> {
        settings.check()?;
        let fault = |e| IoError::kafka(format!("the topic `{topic}` cannot be read"), e);
        let consumer: BaseConsumer = settings.reader().create().map_err(fault)?;
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(20)).map_err(fault)?;
        let partitions = metadata.topics().first().map_or(&[][..], |t| t.partitions());
        if partitions.is_empty() {
            return Err(IoError::Setting {
                name: format!("kafka:{topic}"),
                message: "names a topic that does not exist; create it, or check the name".into(),
            });
        }
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition_offset(topic, partition.id(), Offset::Beginning).map_err(fault)?;
        }
        let open = partitions.iter().map(|partition| partition.id()).collect();
        consumer.assign(&list).map_err(fault)?;
        Ok(TopicReader {
            consumer: Rings::new(consumer),
            settings: settings.clone(),
            topic: topic.to_string(),
            next: BTreeMap::new(),
            open,
        })
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The next piece of what there was up to the present end of all partitions, each in the order of its offsets; `None` when all
    /// of it was given.
    ///
    /// # Errors
    /// [`IoError::Kafka`] when the topic cannot be read within a minute without any progress.
    pub fn to_end(&mut self) -> Result<Option<Vec<TopicMessage>>, IoError> {
        let began = Instant::now();
        while !self.open.is_empty() {
            let messages = self.poll(Duration::from_millis(500))?;
            if !messages.is_empty() {
                return Ok(Some(messages));
            }
            if began.elapsed() > Duration::from_secs(60) && !self.open.is_empty() {
                return Err(IoError::Delivery {
                    topic: self.topic.clone(),
                    message: "nothing came for a minute, and its end was not reached".into(),
                });
            }
        }
        Ok(None)
    }

    /// What came since; waits up to `timeout` for the first message, and then takes what is there, up to [`PIECE_BYTES`].
    ///
    /// # Errors
    /// [`IoError::Kafka`] for what does not go away by itself.
    pub fn poll(&mut self, timeout: Duration) -> Result<Vec<TopicMessage>, IoError> {
        let mut messages = Vec::new();
        let (mut wait, mut bytes) = (timeout, 0);
        while messages.len() < 50_000 && bytes < PIECE_BYTES {
            match self.consumer.next(wait) {
                None => break,
                Some(Ok(message)) => {
                    let payload = message.payload().unwrap_or_default();
                    let kept = &payload[..payload.len().min(LONGEST_MESSAGE)];
                    bytes += kept.len();
                    self.next.insert(message.partition(), message.offset() + 1);
                    messages.push(TopicMessage {
                        partition: message.partition(),
                        offset: message.offset(),
                        payload: kept.to_vec(),
                        bytes: Some(payload.len() as u64),
                    });
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.open.remove(&partition);
                }
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(code) if crate::kafka::passing(code) => break,
                    Some(code) if folded::refused(code) => {
                        messages.extend(self.step_over()?);
                        break;
                    }
                    _ => return Err(IoError::kafka(format!("reading `{}` stopped", self.topic), error)),
                },
            }
            wait = Duration::ZERO;
        }
        Ok(messages)
    }

    /// As for the topics of feeds: the partition that is stuck at a batch that cannot be unfolded goes on behind the next record, which is
    /// given without content.
    fn step_over(&mut self) -> Result<Option<TopicMessage>, IoError> {
        let topic = self.topic.clone();
        let fault = |e| {
            IoError::kafka(format!("`{topic}` cannot be read on behind a batch that cannot be unfolded"), e)
        };
        let partitions = self.consumer.assignment().map_err(fault)?;
        for partition in partitions.elements().iter().map(|element| element.partition()) {
            let Ok((low, high)) = self.consumer.fetch_watermarks(&topic, partition, Duration::from_secs(10))
            else {
                continue;
            };
            let at = self.next.get(&partition).copied().unwrap_or(low).max(low);
            if at >= high || !folded::is_stuck(&self.settings, LONGEST_MESSAGE, (&topic, partition), at)? {
                continue;
            }
            self.consumer
                .seek(&topic, partition, Offset::Offset(at + 1), Duration::from_secs(20))
                .map_err(fault)?;
            tracing::warn!(
                topic,
                partition,
                offset = at,
                "a record stands in a batch that cannot be unfolded"
            );
            self.next.insert(partition, at + 1);
            return Ok(Some(TopicMessage { partition, offset: at, payload: Vec::new(), bytes: None }));
        }
        Ok(None)
    }
}
