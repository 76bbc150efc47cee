//! What the loop does about topics: partitions that are silent or far ahead, and offsets where delivery is at least once.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::Loop;
use crate::limits::ORDER;
use crate::pipeline::{Pipeline, Request};

/// How long to wait for an answer before a broker is asked again whether a partition is at its end.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A partition may have so much waiting, however many there are: what a poll brings of it.
const LEAST_WAITING: usize = 2 << 20;

/// Whether a partition is to be paused (`Some(true)`), to go on (`Some(false)`), or left as it is. `ahead`: others hold the watermark
/// back; `waiting`: bytes of its rows, of which it may have `share`.
fn to_pause(paused: bool, ahead: bool, waiting: usize, share: usize) -> Option<bool> {
    match paused {
        false => (ahead && waiting > share).then_some(true),
        true => (!ahead || waiting < share / 2).then_some(false),
    }
}

impl Loop<'_> {
    /// A partition that has been at its end for long holds nothing back, if the broker says so: what cannot be reached is
    /// not idle, and its rows must not be late when it comes back.
    pub(super) fn idle(&mut self, after: Duration, pipeline: &Pipeline) -> anyhow::Result<()> {
        let Some(requests) = &pipeline.requests else { return Ok(()) };
        for ((topic, partition), open) in &mut self.partitions {
            let quiet = open.at_end.is_some_and(|since| since.elapsed() >= after);
            if !quiet || open.idle || open.asked.is_some_and(|asked| asked.elapsed() < ASK_AGAIN) {
                continue;
            }
            open.asked = Some(Instant::now());
            requests.send(Request::Ask(topic.clone(), *partition)).context("the Kafka reader ended")?;
        }
        Ok(())
    }

    /// Pauses partitions that are far ahead of the watermark, so that memory never pays for skew. Never those that hold it back: their
    /// rows wait for more of their own, as long as their feed's `lateness`, and nothing would move on without them.
    pub(super) fn hold_back(&mut self, pipeline: &Pipeline) -> anyhow::Result<()> {
        let Some(requests) = &pipeline.requests else { return Ok(()) };
        let share = (ORDER as usize / self.partitions.len().max(1)).max(LEAST_WAITING);
        if self.engine.waiting_bytes() < share && !self.partitions.values().any(|p| p.paused) {
            return Ok(());
        }
        let watermark = self.engine.watermark();
        for ((topic, partition), open) in &mut self.partitions {
            let Some(progress) = self.engine.progress(open.id) else { continue };
            let ahead = progress.watermark > watermark;
            let Some(paused) = to_pause(open.paused, ahead, progress.waiting_bytes, share) else { continue };
            let request = if paused { Request::Pause } else { Request::Resume };
            open.paused = paused;
            requests.send(request(topic.clone(), *partition)).context("the Kafka reader ended")?;
        }
        Ok(())
    }

    /// The offset up to which a partition's rows are archived for good; no bound where there is no archive.
    fn archived_to(&self, topic: &str, partition: i32) -> i64 {
        match (&self.archive, &self.archived) {
            (Some(archive), _) => archive.committed(topic, partition).unwrap_or(0),
            (None, Some(finished)) => {
                finished.committed.get(&(topic.to_string(), partition)).copied().unwrap_or(0)
            }
            (None, None) => i64::MAX,
        }
    }

    /// Commits up to the oldest row that still waits, or is not archived: what was released is written and flushed before.
    /// Waits for the answer only when `wait`: the reader may itself be waiting for room in the queue.
    pub(super) fn commit(&mut self, pipeline: &Pipeline, wait: bool) -> anyhow::Result<()> {
        let Some(requests) = &pipeline.requests else { return Ok(()) };
        self.outputs.flush()?;
        let mut offsets = Vec::new();
        for ((topic, partition), open) in &self.partitions {
            let waiting = self.engine.progress(open.id).and_then(|p| p.oldest_waiting_offset);
            let next = waiting.unwrap_or(open.next_offset).min(self.archived_to(topic, *partition));
            if next > 0 {
                offsets.push((topic.clone(), *partition, next));
            }
        }
        let (answer, answered) = channel();
        requests.send(Request::Commit(offsets, answer)).context("the Kafka reader ended")?;
        if !wait {
            return Ok(());
        }
        match answered.recv_timeout(Duration::from_secs(30)) {
            Ok(Ok(())) => {}
            // After a rebalance another member owns the partition; it reads on from the last commit.
            Ok(Err(error)) => tracing::warn!(%error, "offsets were not committed"),
            Err(_) => tracing::warn!("offsets were not committed: the reader did not answer"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_is_far_ahead_waits_and_one_that_holds_the_others_back_never_does() {
        assert_eq!(to_pause(false, true, 101, 100), Some(true));
        assert_eq!(to_pause(false, true, 100, 100), None);
        assert_eq!(to_pause(true, true, 60, 100), None);
        assert_eq!(to_pause(true, true, 49, 100), Some(false));
        // However many of its rows wait for its own `lateness`: more of it is all that can set them free.
        assert_eq!(to_pause(false, false, 1_000_000, 100), None);
        assert_eq!(to_pause(true, false, 1_000_000, 100), Some(false));
    }
}
