//! A whole topic from its beginning, without a consumer group: how reference tables are read.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, DefaultConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::bell::Rings;
use crate::{IoError, KafkaSettings};

/// One message of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMessage {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Payload; empty for a tombstone.
    pub payload: Vec<u8>,
}

/// Reads all partitions of a topic from their beginning, and then what comes.
pub struct TopicReader {
    consumer: Rings<DefaultConsumerContext>,
    topic: String,
    /// Partitions whose present end was not reached yet.
    open: usize,
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
        let open = partitions.len();
        consumer.assign(&list).map_err(fault)?;
        Ok(TopicReader { consumer: Rings::new(consumer), topic: topic.to_string(), open })
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Everything up to the present end of all partitions, each in the order of its offsets.
    ///
    /// # Errors
    /// [`IoError::Kafka`] when the topic cannot be read within a minute without any progress.
    pub fn to_end(&mut self) -> Result<Vec<TopicMessage>, IoError> {
        let mut all = Vec::new();
        let mut progress = Instant::now();
        while self.open > 0 {
            let (before, open) = (all.len(), self.open);
            all.extend(self.poll(Duration::from_millis(500))?);
            if all.len() > before || self.open < open {
                progress = Instant::now();
            } else if progress.elapsed() > Duration::from_secs(60) {
                return Err(IoError::Delivery {
                    topic: self.topic.clone(),
                    message: "nothing came for a minute, and its end was not reached".into(),
                });
            }
        }
        Ok(all)
    }

    /// What came since; waits up to `timeout` for the first message.
    ///
    /// # Errors
    /// [`IoError::Kafka`] for what does not go away by itself.
    pub fn poll(&mut self, timeout: Duration) -> Result<Vec<TopicMessage>, IoError> {
        let mut messages = Vec::new();
        let mut wait = timeout;
        while messages.len() < 50_000 {
            match self.consumer.next(wait) {
                None => break,
                Some(Ok(message)) => messages.push(TopicMessage {
                    partition: message.partition(),
                    offset: message.offset(),
                    payload: message.payload().unwrap_or_default().to_vec(),
                }),
                Some(Err(KafkaError::PartitionEOF(_))) => self.open = self.open.saturating_sub(1),
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(code) if crate::kafka::passing(code) => break,
                    _ => return Err(IoError::kafka(format!("reading `{}` stopped", self.topic), error)),
                },
            }
            wait = Duration::ZERO;
        }
        Ok(messages)
    }
}
