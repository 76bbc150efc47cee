//! What a run is given: rules, logs of partitions, a schedule; all from one seed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use manumit_feed::Feed;
use manumit_rules::ir::RuleSet;
use manumit_sql::Sql;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::schedule::{self, Event, Restart};
use crate::standing::rows::{self, COLUMNS, Partition, Row, batch};
use crate::standing::rules;

/// Rule sets that runs choose from: to load one costs as much as to run it.
const RULE_SETS: u64 = 64;

/// A run to be.
#[derive(Debug, Clone)]
pub struct World {
    pub seed: u64,
    pub indicators: Vec<rules::Indicator>,
    pub typologies: Vec<rules::Typology>,
    pub partitions: Vec<Partition>,
    /// Of each partition its records; a record's offset is its place.
    pub logs: Vec<Vec<Row>>,
    /// Within which duplicates are told, microseconds.
    pub horizon: Option<i64>,
    /// Rows that the archive's writer holds in memory.
    pub buffer_rows: usize,
    /// How the first process begins.
    pub first: Restart,
    pub events: Vec<Event>,
}

/// Rules and feeds as the product has them.
pub struct Loaded {
    pub sql: Sql,
    pub rules: Arc<RuleSet>,
}

impl World {
    /// The run of a seed.
    pub fn draw(seed: u64) -> World {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let set = rng.random_range(0..RULE_SETS);
        let mut of_rules = ChaCha8Rng::seed_from_u64(0x51_0000 + set);
        let unit =
            [1, 1_000, 1_000_000, 60_000_000, 3_600_000_000, 3_600_000_000][of_rules.random_range(0..6)];
        let (indicators, typologies) = rule_set(&mut of_rules, unit, set);
        let start = rows::STARTS[[0, 1, 1, 2, 3][rng.random_range(0..5)]] * 1_000_000;
        let (mut partitions, drawn) = rows::draw(&mut rng, unit, start);
        // Lateness is the feed's.
        for p in 2..partitions.len() {
            partitions[p].lateness_micros = partitions[p % 2].lateness_micros;
        }
        let mut logs: Vec<Vec<Row>> = vec![Vec::new(); partitions.len()];
        let mixed = rng.random_bool(0.3);
        let copies = [0.0, 0.03, 0.15][rng.random_range(0..3)];
        let far = if rng.random_bool(0.1) { rng.random_range(0..drawn.len()) } else { usize::MAX };
        for (n, mut row) in drawn.into_iter().enumerate() {
            if n == far {
                row.time += 60 * unit;
            }
            let partition = row.partition;
            logs[partition].push(row);
            if rng.random_bool(copies) {
                let from = if mixed && partition >= 2 { partition - 2 } else { partition };
                let Some(mut copy) = logs[from].choose(&mut rng).cloned() else { continue };
                copy.partition = partition;
                if rng.random_bool(0.3) {
                    copy.amount += 5;
                }
                logs[partition].push(copy);
            }
        }
        let count = logs.iter().map(Vec::len).sum();
        let horizon = *[None, Some(0), Some(10 * unit), Some(1_000 * unit)].choose(&mut rng).unwrap();
        let buffer_rows = *[2, 40, 100_000].choose(&mut rng).unwrap();
        let first = Restart::draw(&mut rng);
        let events = schedule::draw(&mut rng, partitions.len(), count);
        World { seed, indicators, typologies, partitions, logs, horizon, buffer_rows, first, events }
    }

    /// A copy came in another partition than its original: which of them counts depends on which was read first.
    pub fn order_matters(&self) -> bool {
        let mut first: BTreeMap<u32, usize> = BTreeMap::new();
        self.logs
            .iter()
            .enumerate()
            .flat_map(|(p, log)| log.iter().map(move |row| (row.id, p)))
            .any(|(id, p)| *first.entry(id).or_insert(p) != p)
    }

    /// Topic, and partition within it.
    pub fn place(&self, partition: usize) -> (&'static str, i32) {
        (self.partitions[partition].feed, (partition / 2) as i32)
    }

    /// Records of a partition as the feed's mapping gives them.
    pub fn rows(&self, partition: usize, from: usize, to: usize) -> RecordBatch {
        let rows: Vec<&Row> = self.logs[partition][from..to].iter().collect();
        let (topic, number) = self.place(partition);
        let plain = batch(&self.partitions, &rows);
        let offsets: Int64Array = (from..to).map(|offset| Some(offset as i64)).collect();
        let mut columns: Vec<(&str, ArrayRef)> = Vec::new();
        for (name, column) in COLUMNS.iter().zip(plain.columns()) {
            columns.push((
                name,
                if *name == "source_offset" { Arc::new(offsets.clone()) } else { column.clone() },
            ));
        }
        columns.push(("source", Arc::new(StringArray::from(vec![topic; rows.len()]))));
        columns.push(("source_partition", Arc::new(Int32Array::from(vec![number; rows.len()]))));
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
            .unwrap()
    }

    /// The rules, loaded once a thread.
    pub fn loaded(&self) -> Result<Rc<Loaded>, String> {
        thread_local!(static KNOWN: RefCell<BTreeMap<String, Rc<Loaded>>> = RefCell::default());
        let files = rules::files(&self.indicators, &self.typologies);
        let text: String = files.iter().map(|(path, text)| format!("{}\n{text}", path.display())).collect();
        if let Some(known) = KNOWN.with_borrow(|known| known.get(&text).cloned()) {
            return Ok(known);
        }
        let sql = Sql::new();
        let rules = rules::loaded(&self.indicators, &self.typologies, &sql)
            .map_err(|faults| format!("the loader refuses a rule that was drawn:\n{faults}"))?;
        let loaded = Rc::new(Loaded { sql, rules: Arc::new(rules) });
        KNOWN.with_borrow_mut(|known| known.insert(text, loaded.clone()));
        Ok(loaded)
    }

    /// The feeds of the partitions, compiled once a thread.
    pub fn feeds(&self) -> Result<Rc<Vec<Feed>>, String> {
        type Key = Vec<(&'static str, i64)>;
        thread_local!(static KNOWN: RefCell<BTreeMap<Key, Rc<Vec<Feed>>>> = RefCell::default());
        let key: Key = self.partitions.iter().take(2).map(|p| (p.feed, p.lateness_micros)).collect();
        if let Some(known) = KNOWN.with_borrow(|known| known.get(&key).cloned()) {
            return Ok(known);
        }
        let load = |&(name, lateness): &(&str, i64)| {
            let text = format!(
                "---\nformat = \"jsonl\"\nlateness = \"{lateness} microseconds\"\ncurrency = \"EUR\"\ntopics = [\"{name}\"]\n\n\
                 [raw]\nid = \"text\"\nbooked = \"timestamp\"\namount = \"decimal\"\nby = \"text\"\n---\n\
                 SELECT id AS tx_id, booked AS event_time, amount, by AS debtor_account FROM raw\n"
            );
            Feed::load(name, Path::new("sql/feeds/drawn.sql"), text.into(), &Sql::new(), None)
                .map_err(|faults| faults.to_string())
        };
        let feeds = Rc::new(key.iter().map(load).collect::<Result<Vec<Feed>, String>>()?);
        KNOWN.with_borrow_mut(|known| known.insert(key, feeds.clone()));
        Ok(feeds)
    }
}

/// Rules of a set: one in four has a keyed query, which costs more than all others; nearly all have a typology.
fn rule_set(rng: &mut ChaCha8Rng, unit: i64, set: u64) -> (Vec<rules::Indicator>, Vec<rules::Typology>) {
    for _ in 0..20 {
        let (mut indicators, typologies) = rules::draw(rng, unit);
        if !set.is_multiple_of(4) {
            indicators.retain(|indicator| indicator.keyed.is_none());
        }
        let there = |id: &String| indicators.iter().any(|indicator| indicator.id == *id);
        let typologies: Vec<_> = typologies.into_iter().filter(|t| t.uses.iter().all(there)).collect();
        if (!typologies.is_empty() || set % 8 == 1)
            && (!set.is_multiple_of(4) || indicators.iter().any(|i| i.keyed.is_some()))
        {
            return (indicators, typologies);
        }
    }
    rules::draw(rng, unit)
}
