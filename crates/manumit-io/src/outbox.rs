//! A producer, and what becomes of its messages.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};

use crate::IoError;
use crate::bell::Bell;

/// librdkafka's default of `message.max.bytes`; brokers take a little more by default.
const MESSAGE_MAX_BYTES: usize = 1_000_000;

/// Room in a message for key, headers and framing.
const MESSAGE_OVERHEAD: usize = 4_096;

/// How long what became of messages may wait to be looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A while that nobody notices.
const MOMENT: Duration = Duration::from_millis(1);

/// How long after the end of a transaction its reason may come.
const UNTIL_TOLD: Duration = Duration::from_secs(5);

/// Batches of messages that are looked at each time.
const LOOK_AT: usize = 64;

#[derive(Clone)]
pub(crate) struct Deliveries(Arc<Mutex<Option<String>>>);

impl Deliveries {
    /// The first failure since it was asked last.
    pub(crate) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            // Thrown away when its transaction had failed: why that is, the transaction tells.
            if let Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight) =
                error.rdkafka_error_code()
            {
                return;
            }
            let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| in_words(error));
        }
    }
}

/// The error, and what to do about it where that is not plain.
pub(crate) fn in_words(error: &KafkaError) -> String {
    let why = if is_of_the_clock(error) {
        ": most likely the clock of this machine is too far ahead of the broker's (the topic's message.timestamp.after.max.ms, an hour by \
         default); set the clock right, then start the run again: it goes on where it was"
    } else {
        ""
    };
    format!("{error}{why}")
}

/// The broker finds that a message is dated too far from its own time. It says so as of any record that it refuses; of ours, which
/// have keys, nothing else is to be refused.
pub(crate) fn is_of_the_clock(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{InvalidRecord, InvalidTimestamp};
    let said = error.to_string().to_lowercase();
    matches!(error.rdkafka_error_code(), Some(InvalidTimestamp | InvalidRecord))
        || said.contains("timestamp")
        || said.contains("validate record")
}

/// A producer, what became of its messages, and how long they may be.
#[derive(Clone)]
pub(crate) struct Outbox {
    pub(crate) producer: Arc<Looked>,
    failed: Deliveries,
    pub(crate) limit: usize,
}

impl Outbox {
    pub(crate) fn open(config: &ClientConfig, what: &str) -> Result<Outbox, IoError> {
        let failed = Deliveries(Arc::new(Mutex::new(None)));
        let producer = config.create_with_context(failed.clone()).map_err(|e| IoError::kafka(what, e))?;
        let producer = Looked::after(producer).map_err(|e| IoError::file("a thread for the producer", e))?;
        let most = config.get("message.max.bytes").and_then(|text| text.parse().ok());
        let limit = most.unwrap_or(MESSAGE_MAX_BYTES).saturating_sub(MESSAGE_OVERHEAD);
        Ok(Outbox { producer: Arc::new(producer), failed, limit })
    }

    /// Whether all is well with what was sent so far.
    pub(crate) fn check(&self, topic: &str) -> Result<(), IoError> {
        self.fenced()?;
        match self.failed.take() {
            Some(message) => Err(IoError::Delivery { topic: topic.to_string(), message }),
            None => Ok(()),
        }
    }

    /// What `error` means for `what`: a producer that was fenced says no more than «fatal error» to whoever asks later.
    pub(crate) fn fault(&self, what: String, error: KafkaError) -> IoError {
        self.fenced().err().unwrap_or_else(|| IoError::kafka(what, error))
    }

    /// What `error` means for a message to `topic` that was not taken. Once a message of a transaction is refused, librdkafka takes no
    /// more of them and says only that; why that one was refused is told when it is looked at.
    pub(crate) fn refused(&self, topic: &str, error: KafkaError) -> IoError {
        let failed = matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::State));
        let asked = Instant::now();
        while failed && asked.elapsed() < UNTIL_TOLD {
            if let Err(why) = self.check(topic) {
                return why;
            }
            self.producer.rest();
        }
        self.fault(format!("a message for `{topic}`"), error)
    }

    fn fenced(&self) -> Result<(), IoError> {
        match self.producer.client().fatal_error() {
            Some((_, why)) => Err(IoError::Fenced { why }),
            None => Ok(()),
        }
    }
}

/// A producer with a thread that looks what became of its messages. The thread never waits within librdkafka, whose waits end
/// at a time of day: after the clock was set back, it could not be told to end.
pub(crate) struct Looked {
    producer: Arc<BaseProducer<Deliveries>>,
    end: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

impl Looked {
    fn after(producer: BaseProducer<Deliveries>) -> std::io::Result<Looked> {
        let (producer, end) = (Arc::new(producer), Arc::new(Bell::default()));
        let (looked_at, ends) = (producer.clone(), end.clone());
        let thread = std::thread::Builder::new().name("deliveries".into()).spawn(move || {
            while !ends.wait(LOOK_EVERY) {
                look(&looked_at);
            }
        })?;
        Ok(Looked { producer, end, thread: Some(thread) })
    }

    /// Looks what became of messages, and lets a moment pass.
    pub(crate) fn rest(&self) {
        look(&self.producer);
        std::thread::sleep(MOMENT);
    }

    /// Waits until all messages are delivered, or have failed, `most` at most.
    pub(crate) fn flush(&self, most: Duration) -> KafkaResult<()> {
        let began = Instant::now();
        loop {
            let flushed = self.producer.flush(Duration::ZERO);
            if flushed.is_ok() || began.elapsed() >= most {
                return flushed;
            }
            self.rest();
        }
    }
}

fn look(producer: &BaseProducer<Deliveries>) {
    (0..LOOK_AT).for_each(|_| producer.poll(Duration::ZERO));
}

impl Deref for Looked {
    type Target = BaseProducer<Deliveries>;

    fn deref(&self) -> &BaseProducer<Deliveries> {
        &self.producer
    }
}

impl Drop for Looked {
    fn drop(&mut self) {
        self.end.ring();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has ended as well.
            let _ = thread.join();
        }
    }
}
