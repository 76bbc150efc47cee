//! Batches that cannot be unfolded: damaged ones, and bombs.
//!
//! librdkafka unfolds a compressed batch as a whole, in memory. One that it cannot unfold, or that would give more than
//! `receive.message.max.bytes`, it asks for again and again, and it does not tell of which partition it is. So each partition that is not at
//! its end is asked once more by a client of its own, and the one that is stuck goes on behind the record.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::kafka::passing;
use crate::{IoError, KafkaSettings};

/// How long a partition is asked.
const PATIENCE: Duration = Duration::from_secs(30);

/// What librdkafka says of a batch that it cannot unfold, or whose compression it does not know.
pub(crate) fn refused(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::BadCompression | RDKafkaErrorCode::BadMessage | RDKafkaErrorCode::NotImplemented
    )
}

/// The record at this offset stands in a batch that cannot be unfolded.
///
/// # Errors
/// [`IoError::Kafka`] when the client cannot be made, or is refused for another reason.
pub(crate) fn is_stuck(
    settings: &KafkaSettings,
    max_record_bytes: usize,
    (topic, partition): (&str, i32),
    offset: i64,
) -> Result<bool, IoError> {
    let fault = |error| IoError::kafka(format!("a record of `{topic}` cannot be looked at"), error);
    let consumer: BaseConsumer = settings.consumer(max_record_bytes).create().map_err(fault)?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset)).map_err(fault)?;
    consumer.assign(&list).map_err(fault)?;
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        match consumer.poll(Duration::from_millis(200)) {
            None => {}
            Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => return Ok(false),
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(code) if refused(code) => return Ok(true),
                Some(code) if passing(code) => {}
                _ => return Err(fault(error)),
            },
        }
    }
    Ok(false)
}
