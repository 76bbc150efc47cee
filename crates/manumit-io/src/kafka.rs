//! Kafka: a consumer with its own poll loop, and a producer.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use manumit_model::Records;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::BaseRecord;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::bell::Rings;
use crate::outbox::{Outbox, in_words, is_of_the_clock};
use crate::{Group, IoError, KafkaSettings, Reached, Transactions, folded};

/// What a poll brought, in order.
#[derive(Debug)]
pub enum Event {
    /// Records of one partition, in the order of offsets.
    Records(Records),
    /// This process now reads the partition.
    Assigned {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
    },
    /// This process no longer reads the partition.
    Revoked {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
    },
    /// All that the partition held so far has been read.
    End {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
    },
    /// Something that librdkafka goes on trying to mend (a broker away).
    Trouble(String),
}

/// Where a group had come to in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The partition, and the offset to go on from.
    pub reached: Reached,
    /// The offset was committed; otherwise nothing was read yet.
    pub committed: bool,
    /// What was noted with it.
    pub note: String,
}

struct Context {
    rebalances: Sender<Event>,
}

impl ClientContext for Context {
    /// The end of a partition is news for [`KafkaSource::poll`], not an error.
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            tracing::warn!(%error, reason, "Kafka client");
        }
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, _consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(list) = rebalance {
            for element in list.elements() {
                let (topic, partition) = (element.topic().to_string(), element.partition());
                // The receiver lives as long as the consumer.
                let _ = self.rebalances.send(Event::Revoked { topic, partition });
            }
        }
    }

    fn post_rebalance(&self, _consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            for element in list.elements() {
                let (topic, partition) = (element.topic().to_string(), element.partition());
                let _ = self.rebalances.send(Event::Assigned { topic, partition });
            }
        }
    }
}

/// Records of several topics, as one member of a consumer group. Offsets are committed by the caller only.
pub struct KafkaSource {
    consumer: Rings<Context>,
    rebalances: Receiver<Event>,
    settings: KafkaSettings,
    max_record_bytes: usize,
    /// Where partitions were told to go on: at their assignment, or behind a record that cannot be unfolded. The client's own position
    /// knows only what was read.
    told: BTreeMap<(String, i32), i64>,
}

/// Broker errors that go away by themselves, or that librdkafka retries.
pub(crate) fn passing(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as E;
    matches!(
        code,
        E::BrokerTransportFailure
            | E::AllBrokersDown
            | E::OperationTimedOut
            | E::Resolve
            | E::NotCoordinator
            | E::CoordinatorLoadInProgress
            | E::CoordinatorNotAvailable
            | E::LeaderNotAvailable
            | E::NotLeaderForPartition
            | E::RequestTimedOut
            | E::NetworkException
            | E::UnknownTopicOrPartition
            | E::UnknownTopic
            | E::UnknownPartition
    )
}

/// Bytes of messages that a poll gives, and one message more.
pub const POLL_BYTES: usize = 2 << 20;

/// How long an answer may take that only tells how things are.
const ASKING: Duration = Duration::from_secs(1);

/// How long a broker may take, retries included.
const PATIENCE: Duration = Duration::from_secs(120);

/// Tries again while that may help.
pub(crate) fn insist<T>(what: &str, mut deed: impl FnMut() -> KafkaResult<T>) -> Result<T, IoError> {
    let began = Instant::now();
    loop {
        let error = match deed() {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let again = match &error {
            KafkaError::Transaction(error) if error.is_fatal() => {
                return Err(IoError::Fenced { why: error.to_string() });
            }
            KafkaError::Transaction(error) => error.is_retriable() && !error.txn_requires_abort(),
            other => other.rdkafka_error_code().is_some_and(passing),
        };
        if is_of_the_clock(&error) {
            let (topic, message) = ("of a transaction".into(), format!("{what}: {}", in_words(&error)));
            return Err(IoError::Delivery { topic, message });
        }
        if !again || began.elapsed() > PATIENCE {
            return Err(IoError::kafka(what, error));
        }
        tracing::warn!(%error, what, "trying again");
        std::thread::sleep(Duration::from_millis(200));
    }
}

impl KafkaSource {
    /// Joins the group and subscribes to the topics.
    ///
    /// # Errors
    /// [`IoError::Setting`] for settings that cannot be used, [`IoError::Kafka`] when the client cannot be made.
    pub fn open(
        settings: &KafkaSettings,
        topics: &[String],
        max_record_bytes: usize,
    ) -> Result<KafkaSource, IoError> {
        let source = KafkaSource::make(settings, max_record_bytes)?;
        let others = source.others_in_group();
        if others > 0 {
            tracing::warn!(
                others,
                "the consumer group has members already: partitions are shared with them, and what is counted here is of this run's share only. \
                 If that is not meant, end them, or give this run another `[kafka] group`; one that was killed a moment ago still counts"
            );
        }
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        let subscribed = source.consumer.subscribe(&names);
        subscribed.map_err(|e| IoError::kafka("the topics cannot be subscribed to", e))?;
        Ok(source)
    }

    /// Members of the consumer group; 0 when nobody tells.
    fn others_in_group(&self) -> usize {
        let group = if self.settings.group.is_empty() { "manumit" } else { &self.settings.group };
        let groups = self.consumer.fetch_group_list(Some(group), Duration::from_secs(5));
        groups.map_or(0, |groups| groups.groups().iter().map(|group| group.members().len()).sum())
    }

    fn make(settings: &KafkaSettings, max_record_bytes: usize) -> Result<KafkaSource, IoError> {
        settings.check()?;
        let (sender, rebalances) = channel();
        let consumer: BaseConsumer<Context> = settings
            .consumer(max_record_bytes)
            .create_with_context(Context { rebalances: sender })
            .map_err(|e| IoError::kafka("the consumer cannot be made", e))?;
        let (settings, told) = (settings.clone(), BTreeMap::new());
        Ok(KafkaSource { consumer: Rings::new(consumer), rebalances, settings, max_record_bytes, told })
    }

    /// Makes a consumer that reads all partitions of the topics by itself, and asks where its group had come to. Nothing is
    /// read before [`KafkaSource::assign`]. No rebalance takes a partition away: who may read is settled by the fence of the
    /// producer ([`Transactions::open`]), which must have been opened before.
    ///
    /// # Errors
    /// As [`KafkaSource::open`]; [`IoError::Setting`] when a topic does not exist.
    pub fn alone(
        settings: &KafkaSettings,
        topics: &[String],
        max_record_bytes: usize,
    ) -> Result<(KafkaSource, Vec<Standing>), IoError> {
        let source = KafkaSource::make(settings, max_record_bytes)?;
        let mut list = TopicPartitionList::new();
        for topic in topics {
            let count = source.partitions(topic)?;
            if count == 0 {
                return Err(IoError::Setting {
                    name: "topics".into(),
                    message: format!("name `{topic}`, which does not exist; make it before the run"),
                });
            }
            list.add_partition_range(topic, 0, count as i32 - 1);
        }
        let committed = insist("the group's offsets cannot be read", || {
            source.consumer.committed_offsets(list.clone(), Duration::from_secs(20))
        })?;
        let standing = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| Standing {
            reached: Reached {
                topic: element.topic().to_string(),
                partition: element.partition(),
                next: match element.offset() {
                    Offset::Offset(next) => next,
                    _ => 0,
                },
            },
            committed: matches!(element.offset(), Offset::Offset(_)),
            note: element.metadata().to_string(),
        };
        let standings = committed.elements().iter().map(standing).collect();
        Ok((source, standings))
    }

    /// Begins to read: from the offsets that were committed, otherwise from the beginning.
    ///
    /// # Errors
    /// [`IoError::Kafka`] when the client refuses.
    pub fn assign(&mut self, standings: &[Standing]) -> Result<(), IoError> {
        let fault = |e| IoError::kafka("partitions cannot be assigned", e);
        let mut list = TopicPartitionList::new();
        for Standing { reached, committed, .. } in standings {
            if *committed {
                self.told.insert((reached.topic.clone(), reached.partition), reached.next);
            }
            let offset = if *committed { Offset::Offset(reached.next) } else { Offset::Beginning };
            list.add_partition_offset(&reached.topic, reached.partition, offset).map_err(fault)?;
        }
        self.consumer.assign(&list).map_err(fault)
    }

    /// For whom a transaction commits offsets.
    pub fn group(&self) -> Option<Group> {
        self.consumer.group_metadata().map(Group)
    }

    /// Partitions of a topic; 0 when the topic does not exist.
    ///
    /// # Errors
    /// [`IoError::Kafka`] when no broker answers.
    pub fn partitions(&self, topic: &str) -> Result<usize, IoError> {
        let metadata = self
            .consumer
            .fetch_metadata(Some(topic), Duration::from_secs(20))
            .map_err(|e| IoError::kafka(format!("no broker tells about topic `{topic}`"), e))?;
        Ok(metadata.topics().first().map_or(0, |t| t.partitions().len()))
    }

    /// Waits up to `timeout` for the first event and then takes what is there, up to `most` messages or [`POLL_BYTES`].
    ///
    /// # Errors
    /// [`IoError::Kafka`] for what does not go away by itself: authentication, authorisation, fencing.
    pub fn poll(&mut self, timeout: Duration, most: usize) -> Result<Vec<Event>, IoError> {
        let mut events: Vec<Event> = Vec::new();
        let mut open: BTreeMap<(String, i32), Records> = BTreeMap::new();
        let deadline = Instant::now() + timeout;
        let (mut messages, mut bytes) = (0, 0);
        loop {
            let wait = if messages == 0 && events.is_empty() {
                deadline.saturating_duration_since(Instant::now())
            } else {
                Duration::ZERO
            };
            let polled = self.consumer.next(wait);
            // Rebalances happen inside polls: what was read before belongs before them.
            while let Ok(event) = self.rebalances.try_recv() {
                events.extend(std::mem::take(&mut open).into_values().map(Event::Records));
                if let Event::Assigned { topic, partition } = &event {
                    self.told.remove(&(topic.clone(), *partition));
                }
                events.push(event);
            }
            match polled {
                None => break,
                Some(Ok(message)) => {
                    let key = (message.topic().to_string(), message.partition());
                    let records = open.entry(key).or_insert_with(|| {
                        Records::new(message.topic().into(), message.partition(), crate::kafka::now())
                    });
                    // Where the topic does not tell, the clock: one for one, as places are shared with the records.
                    let written = message.timestamp().to_millis().filter(|&millis| millis >= 0);
                    let written =
                        written.map_or(records.polled_at_micros, |millis| millis.saturating_mul(1_000));
                    records.written_at_micros.push(written);
                    let payload = message.payload().unwrap_or_default();
                    if payload.len() > self.max_record_bytes {
                        records.oversized.push((records.len(), payload.len() as u64));
                        records.push(message.offset(), &payload[..self.max_record_bytes]);
                    } else {
                        records.push(message.offset(), payload);
                    }
                    messages += 1;
                    bytes += payload.len();
                    if messages >= most || bytes >= POLL_BYTES {
                        break;
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    // The error does not name the topic: ask which partitions stand at their end.
                    events.extend(std::mem::take(&mut open).into_values().map(Event::Records));
                    events.extend(self.ends(partition));
                }
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(code) if passing(code) => {
                        events.push(Event::Trouble(error.to_string()));
                        break;
                    }
                    Some(code) if folded::refused(code) => {
                        // What was read before it belongs before it.
                        events.extend(std::mem::take(&mut open).into_values().map(Event::Records));
                        events.push(match self.step_over()? {
                            Some(records) => Event::Records(records),
                            None => Event::Trouble(error.to_string()),
                        });
                        break;
                    }
                    _ => return Err(IoError::kafka("reading stopped", error)),
                },
            }
        }
        events.extend(open.into_values().map(Event::Records));
        Ok(events)
    }

    /// Finds the partition that is stuck at a batch that cannot be unfolded, lets it go on behind the next record, and gives that one, as
    /// a record without content. Its neighbours in the batch follow one by one: where the batch ends is not told.
    fn step_over(&mut self) -> Result<Option<Records>, IoError> {
        let fault = |e| IoError::kafka("a partition cannot go on behind a batch that cannot be unfolded", e);
        let assigned = self.consumer.assignment().map_err(fault)?;
        let position = self.consumer.position().map_err(fault)?;
        let mut all: Vec<(String, i32)> =
            assigned.elements().iter().map(|e| (e.topic().to_string(), e.partition())).collect();
        // Mostly it is the one that was stuck before.
        all.sort_by_key(|key| !self.told.contains_key(key));
        for (topic, partition) in all {
            let Ok((low, high)) = self.consumer.fetch_watermarks(&topic, partition, Duration::from_secs(10))
            else {
                continue;
            };
            let read = position.find_partition(&topic, partition).map(|element| element.offset());
            let at = match self.reached(&topic, partition, read) {
                Some(Offset::Offset(at)) => at,
                _ => self.committed(&topic, partition).unwrap_or(low),
            };
            let at = at.max(low);
            if at >= high
                || !folded::is_stuck(&self.settings, self.max_record_bytes, (&topic, partition), at)?
            {
                continue;
            }
            let seek = self.consumer.seek(&topic, partition, Offset::Offset(at + 1), Duration::from_secs(20));
            seek.map_err(fault)?;
            tracing::warn!(
                topic,
                partition,
                offset = at,
                "a record stands in a batch that cannot be unfolded"
            );
            let mut records = Records::new(topic.as_str().into(), partition, now());
            records.written_at_micros.push(records.polled_at_micros);
            records.unreadable.push(0);
            records.push(at, &[]);
            self.told.insert((topic, partition), at + 1);
            return Ok(Some(records));
        }
        Ok(None)
    }

    /// Where the client stands in a partition: behind what was read, or where it was told to go on, whatever is later.
    fn reached(&self, topic: &str, partition: i32, read: Option<Offset>) -> Option<Offset> {
        let told = self.told.get(&(topic.to_string(), partition));
        match (read, told) {
            (Some(Offset::Offset(read)), Some(told)) => Some(Offset::Offset(read.max(*told))),
            (_, Some(told)) => Some(Offset::Offset(*told)),
            (read, None) => read,
        }
    }

    fn ends(&self, partition: i32) -> Vec<Event> {
        let Ok(position) = self.consumer.position() else { return Vec::new() };
        let elements = position.elements();
        let mut ours = elements.iter().filter(|e| e.partition() == partition);
        let mut ends = Vec::new();
        // Only one can be meant: no broker is asked, whose answer waits behind what it is asked for already, half a second each.
        if let (Some(only), None) = (ours.next(), ours.next()) {
            ends.push(Event::End { topic: only.topic().to_string(), partition });
            return ends;
        }
        for element in elements.iter().filter(|e| e.partition() == partition) {
            let topic = element.topic();
            let at = self.reached(topic, partition, Some(element.offset()));
            if self.has_no_more(topic, partition, at, Duration::from_secs(10)) {
                ends.push(Event::End { topic: topic.to_string(), partition });
            }
        }
        ends
    }

    /// The broker answers, and has nothing that was not read.
    pub fn is_at_end(&self, topic: &str, partition: i32) -> bool {
        let Ok(position) = self.consumer.position() else { return false };
        let read = position.find_partition(topic, partition).map(|element| element.offset());
        self.has_no_more(topic, partition, self.reached(topic, partition, read), ASKING)
    }

    /// The broker answers within `patience`, and has nothing behind the place that a partition was read to.
    fn has_no_more(&self, topic: &str, partition: i32, at: Option<Offset>, patience: Duration) -> bool {
        match self.consumer.fetch_watermarks(topic, partition, patience) {
            Ok((low, high)) => match at {
                Some(Offset::Offset(offset)) => offset >= high,
                _ => low == high || self.committed_at_end(topic, partition, high),
            },
            Err(_) => false,
        }
    }

    /// Nothing was read yet, but the group had read everything before.
    fn committed_at_end(&self, topic: &str, partition: i32, high: i64) -> bool {
        self.committed(topic, partition).is_some_and(|next| next >= high)
    }

    /// What the group has committed of a partition, as far as a broker tells.
    fn committed(&self, topic: &str, partition: i32) -> Option<i64> {
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let list = self.consumer.committed_offsets(list, Duration::from_secs(10)).ok()?;
        list.elements().iter().find_map(|element| match element.offset() {
            Offset::Offset(next) => Some(next),
            _ => None,
        })
    }

    /// Reads no more of a partition until [`KafkaSource::resume`].
    ///
    /// # Errors
    /// [`IoError::Kafka`] when the partition is not ours.
    pub fn pause(&self, topic: &str, partition: i32) -> Result<(), IoError> {
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        self.consumer.pause(&list).map_err(|e| IoError::kafka(format!("`{topic}` cannot be paused"), e))
    }

    /// Goes on with a paused partition.
    ///
    /// # Errors
    /// [`IoError::Kafka`] when the partition is not ours.
    pub fn resume(&self, topic: &str, partition: i32) -> Result<(), IoError> {
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        self.consumer.resume(&list).map_err(|e| IoError::kafka(format!("`{topic}` cannot be resumed"), e))
    }

    /// Commits, for each partition, the offset to go on from.
    ///
    /// # Errors
    /// [`IoError::Kafka`] when the group refuses it, for instance after a rebalance.
    pub fn commit(&self, offsets: &[(String, i32, i64)]) -> Result<(), IoError> {
        let mut list = TopicPartitionList::new();
        for (topic, partition, offset) in offsets {
            list.add_partition_offset(topic, *partition, Offset::Offset(*offset))
                .map_err(|e| IoError::kafka("an offset cannot be committed", e))?;
        }
        if offsets.is_empty() {
            return Ok(());
        }
        self.consumer
            .commit(&list, CommitMode::Sync)
            .map_err(|e| IoError::kafka("offsets cannot be committed", e))
    }

    /// Messages not yet read, by topic and partition, as far as the client knows.
    pub fn lags(&self) -> BTreeMap<(String, i32), u64> {
        let Ok(position) = self.consumer.position() else { return BTreeMap::new() };
        position
            .elements()
            .iter()
            .filter_map(|element| {
                let (topic, partition) = (element.topic(), element.partition());
                match self.reached(topic, partition, Some(element.offset())) {
                    Some(Offset::Offset(at)) => Some((topic.to_string(), partition, at)),
                    _ => None,
                }
            })
            // Where no broker answers, nobody waits for as many answers as there are partitions.
            .map_while(|(topic, partition, at)| {
                let (_, high) = self.consumer.fetch_watermarks(&topic, partition, ASKING).ok()?;
                Some(((topic, partition), u64::try_from(high - at).unwrap_or(0)))
            })
            .collect()
    }
}

fn now() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
}

/// Writes to one topic, through an idempotent producer of its own or the transactional one of the run.
pub struct KafkaWriter {
    outbox: Outbox,
    topic: String,
}

impl KafkaWriter {
    /// Opens a producer: acknowledged by all replicas, retried without duplicates.
    ///
    /// # Errors
    /// [`IoError`] when the settings cannot be used.
    pub fn open(settings: &KafkaSettings, topic: &str) -> Result<KafkaWriter, IoError> {
        settings.check()?;
        let what = format!("the producer for `{topic}` cannot be made");
        Ok(KafkaWriter { outbox: Outbox::open(&settings.producer(), &what)?, topic: topic.to_string() })
    }

    /// Writes within the transactions of a run: what is sent is seen when they are committed.
    pub fn within(transactions: &Transactions, topic: &str) -> KafkaWriter {
        KafkaWriter { outbox: transactions.0.clone(), topic: topic.to_string() }
    }

    /// Longest payload in bytes that the producer takes: `message.max.bytes` without room for the key.
    pub fn limit(&self) -> usize {
        self.outbox.limit
    }

    fn check(&self) -> Result<(), IoError> {
        self.outbox.check(&self.topic)
    }

    /// Sends one message; waits while the queue is full.
    ///
    /// # Errors
    /// [`IoError`] when the message is refused, or an earlier one could not be delivered.
    pub fn send(&self, key: &str, payload: &[u8], partition: Option<i32>) -> Result<(), IoError> {
        self.check()?;
        let mut record = BaseRecord::to(&self.topic).key(key).payload(payload);
        if let Some(partition) = partition {
            record = record.partition(partition);
        }
        loop {
            match self.outbox.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.outbox.producer.rest();
                }
                Err((error, _)) => return Err(self.outbox.refused(&self.topic, error)),
            }
        }
    }

    /// Waits until all messages are delivered.
    ///
    /// # Errors
    /// [`IoError`] when one could not be delivered.
    pub fn flush(&self) -> Result<(), IoError> {
        self.outbox.producer.flush(Duration::from_secs(300)).map_err(|e| {
            self.outbox.fault(format!("messages for `{}` are still on their way", self.topic), e)
        })?;
        self.check()
    }
}

/// Creates topics; those that exist stay as they are.
///
/// # Errors
/// [`IoError::Kafka`] when the cluster refuses.
pub fn create_topics(settings: &KafkaSettings, topics: &[(&str, i32)]) -> Result<(), IoError> {
    let admin: AdminClient<rdkafka::client::DefaultClientContext> =
        settings.base().create().map_err(|e| IoError::kafka("the admin client cannot be made", e))?;
    let new: Vec<NewTopic<'_>> =
        topics.iter().map(|(name, count)| NewTopic::new(name, *count, TopicReplication::Fixed(1))).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| IoError::file("tokio runtime", e))?;
    let results = runtime
        .block_on(
            admin.create_topics(&new, &AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)))),
        )
        .map_err(|e| IoError::kafka("topics cannot be created", e))?;
    for result in results {
        if let Err((topic, code)) = result
            && code != RDKafkaErrorCode::TopicAlreadyExists
        {
            let error = KafkaError::AdminOp(code);
            return Err(IoError::kafka(format!("topic `{topic}` cannot be created"), error));
        }
    }
    Ok(())
}
