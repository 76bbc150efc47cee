//! An engine put away and taken up again: what it finds afterwards must be what it would have found.

use std::sync::Arc;

use manumit_engine::{Engine, Options, PartitionId, Resume, Snapshot};
use manumit_rules::ir::RuleSet;
use manumit_sql::Sql;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::rows::{COLUMNS, Partition, Row, batch};

/// Threads that a run is taken up with, at most.
pub const MOST_THREADS: usize = 3;

/// A run as its checkpoint and its archive know it.
pub struct Run<'a> {
    pub rules: &'a Arc<RuleSet>,
    pub sql: &'a Sql,
    pub partitions: &'a [Partition],
    /// Rows that were read and not late.
    pub on_time: Vec<&'a Row>,
    /// Partitions that have ended.
    pub ended: Vec<bool>,
}

impl Run<'_> {
    /// Another engine in the place of `old`, made of what was written down and of rows; of any number of threads.
    pub fn restarted(&self, old: Engine, options: &Options, rng: &mut ChaCha8Rng) -> Result<Engine, String> {
        let words = |e: manumit_engine::EngineError| e.to_string();
        let text = serde_json::to_string(&old.snapshot().map_err(words)?).unwrap();
        drop(old);
        let snapshot: Snapshot = serde_json::from_str(&text).map_err(|e| e.to_string())?;
        let watermark = snapshot.watermark;
        let columns: Vec<String> = COLUMNS.map(String::from).into();
        let options = Options { threads: rng.random_range(1..=MOST_THREADS), ..options.clone() };
        let mut engine = Engine::new(self.rules.clone(), self.sql, &columns, options).map_err(words)?;
        for partition in self.partitions {
            engine.add_partition(partition.feed, partition.lateness_micros);
        }
        if !engine.fits(&snapshot) {
            return Err("the snapshot is said to be one of other rules".into());
        }
        let resume = Resume::Exactly(Box::new(snapshot));
        engine.resume(&resume).map_err(words)?;
        let from = engine.rows_from(&resume);
        let mut rows: Vec<&Row> = self.on_time.iter().copied().filter(|row| row.time >= from).collect();
        rows.sort_by_key(|row| (row.time, self.partitions[row.partition].feed, row.id));
        let mut evaluated = &rows[..rows.partition_point(|row| row.time < watermark)];
        while !evaluated.is_empty() {
            let mut end = rng.random_range(1..=evaluated.len());
            while end < evaluated.len() && evaluated[end].time == evaluated[end - 1].time {
                end += 1;
            }
            engine.replay(&resume, &batch(self.partitions, &evaluated[..end])).map_err(words)?;
            evaluated = &evaluated[end..];
        }
        engine.resumed(&resume).map_err(words)?;
        for (index, &ended) in self.ended.iter().enumerate() {
            let waiting: Vec<&Row> = self
                .on_time
                .iter()
                .copied()
                .filter(|r| r.time >= watermark && r.partition == index)
                .collect();
            engine.wait(PartitionId(index), &batch(self.partitions, &waiting)).map_err(words)?;
            if ended {
                engine.end(PartitionId(index));
            }
        }
        Ok(engine)
    }
}
