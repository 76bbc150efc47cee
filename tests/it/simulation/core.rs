//! The glue of the product's main loop, without its sinks: records to rows, rows to the engine, steps to what is said.

use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
use manumit::duplicates::{self, Duplicates};
use manumit::ledger::AlertCounts;
use manumit_engine::{Engine, Options, PartitionId};
use manumit_feed::Fingerprints;
use manumit_model::{Alert, DeadLetter};

use super::world::{Loaded, World};
use crate::standing::answers::{Hit, hits};
use crate::standing::rows::COLUMNS;

/// What a run says to the world.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Said {
    pub hits: Vec<Hit>,
    pub alerts: Vec<Alert>,
    /// Partition and offset of late rows.
    pub late: Vec<(usize, i64)>,
    /// Of rows dropped, as the same had come before.
    pub duplicates: Vec<(usize, i64)>,
    /// Of rows set aside, and where the version stood that counts.
    pub conflicts: Vec<(usize, i64, String)>,
    pub evaluated: u64,
}

impl Said {
    /// What came later.
    pub fn append(&mut self, mut later: Said) {
        self.hits.append(&mut later.hits);
        self.alerts.append(&mut later.alerts);
        self.late.append(&mut later.late);
        self.duplicates.append(&mut later.duplicates);
        self.conflicts.append(&mut later.conflicts);
        self.evaluated += later.evaluated;
    }
}

/// An engine, and the set that tells duplicates.
pub struct Core {
    pub engine: Engine,
    pub duplicates: Duplicates,
    pub alerts: AlertCounts,
    pub evaluated: u64,
}

/// Records that were taken.
pub struct Taken {
    /// The rows that go on.
    pub rows: RecordBatch,
    /// Places of late ones among them.
    pub late: Vec<usize>,
    pub duplicates: u64,
    pub letters: Vec<DeadLetter>,
}

/// Canonical columns that all feeds give.
pub fn columns() -> Vec<String> {
    COLUMNS.iter().chain(&["source", "source_partition"]).map(|name| name.to_string()).collect()
}

impl Core {
    /// An engine without partitions, that knows nothing yet.
    pub fn new(world: &World, loaded: &Loaded, options: Options) -> Result<Core, String> {
        let engine = Engine::new(loaded.rules.clone(), &loaded.sql, &columns(), options)
            .map_err(|error| error.to_string())?;
        let duplicates = Duplicates::new(&world.feeds()?, world.horizon);
        Ok(Core { engine, duplicates, alerts: AlertCounts::default(), evaluated: 0 })
    }

    /// Takes records of a partition as one batch.
    pub fn deliver(
        &mut self,
        world: &World,
        partition: usize,
        (from, to): (usize, usize),
        said: &mut Said,
    ) -> Result<Taken, String> {
        let mut rows = world.rows(partition, from, to);
        let (topic, number) = world.place(partition);
        let offsets: Vec<i64> = (from as i64..to as i64).collect();
        let numbers = Fingerprints::of(&rows);
        let judged = self.duplicates.judge(partition % 2, (topic, number), &rows, &numbers);
        let mut letters = Vec::new();
        let mut kept = offsets.clone();
        if let Some(keep) = &judged.keep {
            for conflict in &judged.conflicts {
                said.conflicts.push((partition, offsets[conflict.row], conflict.original.to_string()));
                letters.push(duplicates::letter(topic, &rows, conflict, None));
            }
            let set_aside: Vec<usize> = judged.conflicts.iter().map(|conflict| conflict.row).collect();
            let dropped = (0..rows.num_rows()).filter(|&row| !keep.value(row) && !set_aside.contains(&row));
            said.duplicates.extend(dropped.map(|row| (partition, offsets[row])));
            kept = (0..rows.num_rows()).filter(|&row| keep.value(row)).map(|row| offsets[row]).collect();
            rows = filter_record_batch(&rows, keep).map_err(|error| error.to_string())?;
        }
        let late = self
            .engine
            .push(PartitionId(partition), rows.clone())
            .map_err(|error| error.to_string())?
            .map_or_else(Vec::new, |late| late.places);
        said.late.extend(late.iter().map(|&place| (partition, kept[place])));
        Ok(Taken { rows, late, duplicates: judged.duplicates, letters })
    }

    /// Evaluates what can be. `W1`: the watermark does not go back, and nothing is found before what was passed already.
    pub fn step(&mut self, loaded: &Loaded, said: &mut Said) -> Result<(), String> {
        let before = self.engine.watermark();
        let step = self.engine.step().map_err(|error| error.to_string())?;
        if !step.faults.is_empty() {
            return Err(format!("expressions failed: {:?}", step.faults));
        }
        if self.engine.watermark() < before {
            return Err(format!("the watermark went from {before} back to {}", self.engine.watermark()));
        }
        let known = said.hits.len();
        for found in step.hits {
            let key = &loaded.rules.indicators[found.indicator].key;
            hits(&loaded.rules, found.indicator, &found.rows, key, &mut said.hits);
        }
        if let Some(hit) = said.hits[known..].iter().find(|hit| hit.time < before) {
            return Err(format!("a hit behind the watermark {before}: {hit}"));
        }
        self.alerts.raised += step.raised;
        self.alerts.suppressed += step.suppressed;
        self.alerts.excluded += step.excluded;
        self.alerts.published += step.alerts.len() as u64;
        self.evaluated += step.evaluated;
        said.evaluated += step.evaluated;
        said.alerts.extend(step.alerts);
        Ok(())
    }
}
