//! Waiting for a consumer by a clock that nobody sets.
//!
//! librdkafka waits until a time of day. When the clock is set back by an hour meanwhile, a wait of 100 ms takes an hour, unless
//! something comes. So it is never let wait here: it rings when it has something.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::KafkaResult;
use rdkafka::message::BorrowedMessage;

/// Rung from other threads.
#[derive(Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    /// Ends a wait, or the next one.
    pub(crate) fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.heard.notify_all();
    }

    /// Waits until it rings, `most` at most; says whether it rang since the last time.
    pub(crate) fn wait(&self, most: Duration) -> bool {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.heard.wait_timeout_while(rung, most, |rung| !*rung);
        std::mem::take(&mut *waited.unwrap_or_else(PoisonError::into_inner).0)
    }
}

/// A consumer that is waited for by its bell.
pub(crate) struct Rings<C: ConsumerContext + 'static> {
    consumer: BaseConsumer<C>,
    bell: Arc<Bell>,
}

impl<C: ConsumerContext + 'static> std::ops::Deref for Rings<C> {
    type Target = BaseConsumer<C>;

    fn deref(&self) -> &BaseConsumer<C> {
        &self.consumer
    }
}

impl<C: ConsumerContext + 'static> Rings<C> {
    pub(crate) fn new(mut consumer: BaseConsumer<C>) -> Rings<C> {
        let bell = Arc::new(Bell::default());
        let rings = bell.clone();
        consumer.set_nonempty_callback(move || rings.ring());
        Rings { consumer, bell }
    }

    /// What comes next; waits up to `most` for it.
    pub(crate) fn next(&self, most: Duration) -> Option<KafkaResult<BorrowedMessage<'_>>> {
        let deadline = Instant::now() + most;
        loop {
            let polled = self.consumer.poll(Duration::ZERO);
            let left = deadline.saturating_duration_since(Instant::now());
            if polled.is_some() || left.is_zero() {
                return polled;
            }
            // A poll may have taken what rang and was no message, as rebalances are: whoever asked looks after them.
            if !self.bell.wait(left) {
                return self.consumer.poll(Duration::ZERO);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bell_that_rang_before_is_heard_once() {
        let bell = Bell::default();
        bell.ring();
        assert!(bell.wait(Duration::from_secs(60)));
        assert!(!bell.wait(Duration::from_millis(1)));
    }

    #[test]
    fn a_bell_ends_the_wait_of_another_thread() {
        let bell = Arc::new(Bell::default());
        let other = bell.clone();
        let waits = std::thread::spawn(move || other.wait(Duration::from_secs(60)));
        bell.ring();
        assert!(waits.join().unwrap());
    }
}
