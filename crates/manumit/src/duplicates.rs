//! Transactions that came before: dropped when they are the same, set aside when they contradict.
//!
//! Of every transaction of the last stretch of event time (the horizon) the set keeps 128 bits of its id, 64 of its content,
//! its time and where it stood. How long is told by the clock of the partition that brought it: the highest event time admitted
//! from there. So within a partition the answer follows from the order read alone, not from batches or threads.
//!
//! # Invariants
//! - `D1` of records with one feed and id within the horizon exactly one goes on: the first one read.
//! - `D2` what is thrown away, and when, changes no answer: an entry behind the horizon counts as none.
//! - `D3` the horizon is never shorter than the feed's `lateness`, so a copy that comes behind it is late and not evaluated.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use manumit_feed::{Feed, Fingerprints};
use manumit_model::{DeadLetter, Position, Records, Stage};

/// Reason of dead letters.
pub const CONFLICT: &str = "conflicting_id";

/// Entries below which nothing is looked for that can be thrown away.
const LEAST: usize = if cfg!(test) { 32 } else { 1 << 16 };

/// 128 bits that are as good as random.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Id([u64; 2]);

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0[0]);
    }
}

/// Gives back what it is given: the ids are hashes.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// 48 bytes with its id, and one of the table's.
#[derive(Clone, Copy)]
struct Entry {
    content: u64,
    time: i64,
    offset: i64,
    /// Index into [`Known::places`].
    place: u32,
}

/// A topic's partition or a file.
struct Place {
    source: Arc<str>,
    partition: i32,
    /// Index into [`Known::clocks`].
    clock: usize,
}

/// A topic or file, and the partition.
type Name<'a> = (&'a str, i32);

/// What one feed sent.
struct Known {
    entries: HashMap<Id, Entry, BuildHasherDefault<AsIs>>,
    /// With so many entries it is time to throw some away.
    full: usize,
    horizon: i64,
    places: Vec<Place>,
    /// Highest event time admitted, by partition as the loop names it.
    clocks: Vec<i64>,
    by_name: HashMap<(String, i32), usize>,
}

/// Transactions of all feeds within the horizon.
pub struct Duplicates {
    /// By number of the feed; empty when switched off.
    feeds: Vec<Known>,
}

/// A row whose id came before with other content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Its place in the batch.
    pub row: usize,
    /// Where the version stood that counts.
    pub original: Position,
}

/// What was found among the rows of a batch.
#[derive(Debug, Default, PartialEq)]
pub struct Judged {
    /// Which rows go on; `None`: all of them.
    pub keep: Option<BooleanArray>,
    /// Rows that are the same as one before.
    pub duplicates: u64,
    /// Rows that contradict one before.
    pub conflicts: Vec<Conflict>,
}

impl Duplicates {
    /// Nothing is known yet. `horizon`: microseconds of event time; `None` switches it off.
    pub fn new(feeds: &[Feed], horizon: Option<i64>) -> Duplicates {
        let of =
            |horizon: i64| feeds.iter().map(|feed| Known::new(horizon.max(feed.lateness_micros()))).collect();
        Duplicates { feeds: horizon.map_or_else(Vec::new, of) }
    }

    /// Whether anything is looked at.
    pub fn is_on(&self) -> bool {
        !self.feeds.is_empty()
    }

    /// The horizon of a feed, microseconds; `None` when switched off.
    pub fn horizon(&self, feed: usize) -> Option<i64> {
        self.feeds.get(feed).map(|known| known.horizon)
    }

    /// Entries kept.
    pub fn len(&self) -> usize {
        self.feeds.iter().map(|known| known.entries.len()).sum()
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        self.feeds.iter().map(|known| known.entries.capacity() * (size_of::<(Id, Entry)>() + 1) * 8 / 7).sum()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Judges rows of one source (a topic's partition, or a file) in the order read, and remembers those that go on. `name` is
    /// the partition as the loop counts it: all files of a feed are one.
    pub fn judge(
        &mut self,
        feed: usize,
        name: (&str, i32),
        rows: &RecordBatch,
        numbers: &Fingerprints,
    ) -> Judged {
        let mut judged = Judged::default();
        let (Some(known), Some(columns)) = (self.feeds.get_mut(feed), Columns::of(rows)) else {
            return judged;
        };
        if rows.num_rows() == 0 {
            return judged;
        }
        let clock = known.clock(name);
        let place = known.place(columns.source(0), columns.partitions.value(0), clock);
        let mut dropped: Vec<usize> = Vec::new();
        for row in 0..rows.num_rows() {
            let entry = Entry {
                content: numbers.contents[row],
                time: columns.times.value(row),
                offset: columns.offsets.value(row),
                place,
            };
            match known.take(Id(numbers.ids[row]), entry, clock) {
                None => continue,
                Some(before) if before.content == entry.content => judged.duplicates += 1,
                Some(before) => {
                    let original = known.position(&before);
                    judged.conflicts.push(Conflict { row, original });
                }
            }
            dropped.push(row);
        }
        if !dropped.is_empty() {
            let mut keep = vec![true; rows.num_rows()];
            dropped.into_iter().for_each(|row| keep[row] = false);
            judged.keep = Some(BooleanArray::from(keep));
        }
        judged
    }

    /// How far a partition had come, from an earlier run.
    pub fn reached(&mut self, feed: usize, name: (&str, i32), highest: i64) {
        if let Some(known) = self.feeds.get_mut(feed) {
            let clock = known.clock(name);
            known.clocks[clock] = known.clocks[clock].max(highest);
        }
    }

    /// Remembers rows of one feed that an earlier run admitted, of any partitions that [`Duplicates::reached`] named. `all`: the
    /// partition as the loop counts it, where it is not that which rows name: all files of a feed are one.
    pub fn remember(&mut self, feed: usize, all: Option<(&str, i32)>, rows: &RecordBatch) {
        let (Some(known), Some(columns)) = (self.feeds.get_mut(feed), Columns::of(rows)) else { return };
        let numbers = Fingerprints::of(rows);
        let mut last: Option<(Name<'_>, (usize, u32))> = None;
        for row in 0..rows.num_rows() {
            let name = (columns.source(row), columns.partitions.value(row));
            let (clock, place) = match last {
                Some((known, place)) if known == name => place,
                _ => {
                    let clock = known.clock(all.unwrap_or(name));
                    (clock, known.place(name.0, name.1, clock))
                }
            };
            last = Some((name, (clock, place)));
            let entry = Entry {
                content: numbers.contents[row],
                time: columns.times.value(row),
                offset: columns.offsets.value(row),
                place,
            };
            known.take(Id(numbers.ids[row]), entry, clock);
        }
    }
}

impl Known {
    fn new(horizon: i64) -> Known {
        Known {
            entries: HashMap::default(),
            full: LEAST,
            horizon,
            places: Vec::new(),
            clocks: Vec::new(),
            by_name: HashMap::new(),
        }
    }

    fn clock(&mut self, (source, partition): (&str, i32)) -> usize {
        // Few partitions, and asked once a batch; a text is made for the first one only.
        let clocks = &mut self.clocks;
        match self.by_name.get(&(source.to_string(), partition)) {
            Some(&clock) => clock,
            None => {
                clocks.push(i64::MIN);
                self.by_name.insert((source.to_string(), partition), clocks.len() - 1);
                clocks.len() - 1
            }
        }
    }

    fn place(&mut self, source: &str, partition: i32, clock: usize) -> u32 {
        // The latest is asked for again and again.
        let is =
            |place: &Place| &*place.source == source && place.partition == partition && place.clock == clock;
        let found = self.places.iter().rposition(is);
        let place = found.unwrap_or_else(|| {
            self.places.push(Place { source: source.into(), partition, clock });
            self.places.len() - 1
        });
        u32::try_from(place).unwrap_or(u32::MAX)
    }

    fn position(&self, entry: &Entry) -> Position {
        let place = self.places.get(entry.place as usize);
        Position {
            source: place.map_or_else(|| "".into(), |place| place.source.clone()),
            partition: place.map_or(0, |place| place.partition),
            offset: entry.offset,
        }
    }

    /// The entry that came before, or none, and then this one is remembered.
    fn take(&mut self, id: Id, entry: Entry, clock: usize) -> Option<Entry> {
        if self.entries.len() >= self.full {
            self.forget();
        }
        let horizon = self.horizon;
        let behind = |entry: &Entry, places: &[Place], clocks: &[i64]| {
            let clock = places.get(entry.place as usize).and_then(|place| clocks.get(place.clock));
            clock.is_some_and(|clock| entry.time < clock.saturating_sub(horizon))
        };
        match self.entries.entry(id) {
            Slot::Occupied(mut slot) => {
                if !behind(slot.get(), &self.places, &self.clocks) {
                    return Some(*slot.get());
                }
                slot.insert(entry);
            }
            Slot::Vacant(slot) => {
                slot.insert(entry);
            }
        }
        self.clocks[clock] = self.clocks[clock].max(entry.time);
        None
    }

    /// Throws away what is behind the horizon. As often as the set has doubled since the last time: a constant cost a row.
    fn forget(&mut self) {
        let (places, clocks, horizon) = (&self.places, &self.clocks, self.horizon);
        self.entries.retain(|_, entry| {
            places.get(entry.place as usize).is_none_or(|place| {
                entry.time >= clocks.get(place.clock).map_or(i64::MIN, |clock| clock.saturating_sub(horizon))
            })
        });
        self.full = (2 * self.entries.len()).max(LEAST);
        self.entries.shrink_to(self.full);
    }
}

/// The columns that tell when and where a row was read.
struct Columns<'a> {
    times: &'a arrow::array::PrimitiveArray<TimestampMicrosecondType>,
    sources: &'a arrow::array::StringArray,
    partitions: &'a arrow::array::PrimitiveArray<Int32Type>,
    offsets: &'a arrow::array::PrimitiveArray<Int64Type>,
}

impl<'a> Columns<'a> {
    fn of(rows: &'a RecordBatch) -> Option<Columns<'a>> {
        Some(Columns {
            times: rows.column_by_name("event_time")?.as_primitive_opt()?,
            sources: rows.column_by_name("source")?.as_string_opt()?,
            partitions: rows.column_by_name("source_partition")?.as_primitive_opt()?,
            offsets: rows.column_by_name("source_offset")?.as_primitive_opt()?,
        })
    }

    fn source(&self, row: usize) -> &'a str {
        if self.sources.is_valid(row) { self.sources.value(row) } else { "" }
    }
}

/// A record whose id came before with other content, in words for those who send it.
pub fn letter(feed: &str, rows: &RecordBatch, conflict: &Conflict, records: Option<&Records>) -> DeadLetter {
    let row = conflict.row;
    let id = rows.column_by_name("tx_id").and_then(|c| c.as_string_opt::<i32>());
    let id = id.filter(|ids| ids.is_valid(row)).map_or("", |ids| ids.value(row));
    let columns = Columns::of(rows);
    let position = Position {
        source: columns.as_ref().map_or("", |columns| columns.source(row)).into(),
        partition: columns.as_ref().map_or(0, |columns| columns.partitions.value(row)),
        offset: columns.as_ref().map_or(0, |columns| columns.offsets.value(row)),
    };
    let original = &conflict.original;
    let message = format!(
        "this `tx_id` was sent before with other content: first at {original}, which counts, now at {position}. A change of a \
         transaction is a row with a `tx_id` of its own that names the first one as `original_tx_id`; where the bank uses \
         ids again, make them differ in the feed's SELECT, for instance by putting the day before them"
    );
    let letter = DeadLetter::new(feed, position.clone(), Stage::Validate, CONFLICT, message)
        .with_field("tx_id", Some(id))
        .with_original(original.clone());
    let record =
        records.and_then(|records| Some((records, records.offsets.binary_search(&position.offset).ok()?)));
    match record {
        Some((records, index)) => letter.with_raw(records.get(index)),
        // Of a document's part, or a Parquet row: the row as it was mapped.
        None => {
            let row = serde_json::Value::Object(manumit_model::row::json(rows, row, &[]));
            letter.with_raw(row.to_string().as_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray};
    use rand::seq::SliceRandom as _;
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const HORIZON: i64 = 500;

    #[derive(Debug, Clone)]
    struct Row {
        id: String,
        memo: String,
        time: i64,
        partition: i32,
        offset: i64,
    }

    fn batch(rows: &[Row]) -> RecordBatch {
        let text = |of: fn(&Row) -> &str| {
            Arc::new(rows.iter().map(|r| Some(of(r))).collect::<StringArray>()) as ArrayRef
        };
        let times =
            TimestampMicrosecondArray::from_iter_values(rows.iter().map(|r| r.time)).with_timezone("UTC");
        let columns: [(&str, ArrayRef); 6] = [
            ("tx_id", text(|row| &row.id)),
            ("event_time", Arc::new(times)),
            ("memo", text(|row| &row.memo)),
            ("source", text(|_| "topic")),
            ("source_partition", Arc::new(rows.iter().map(|r| Some(r.partition)).collect::<Int32Array>())),
            ("source_offset", Arc::new(rows.iter().map(|r| Some(r.offset)).collect::<Int64Array>())),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn one_feed() -> Duplicates {
        Duplicates { feeds: vec![Known::new(HORIZON)] }
    }

    /// What becomes of a row: `None` when it goes on, else whether it is the same, and where the first one stood.
    type Answer = Option<(bool, i32, i64)>;

    /// Every row held against all rows before it.
    fn modelled(rows: &[Row]) -> Vec<Answer> {
        let mut admitted: Vec<&Row> = Vec::new();
        let mut answers = Vec::new();
        for row in rows {
            let clock =
                |partition| admitted.iter().filter(|r| r.partition == partition).map(|r| r.time).max();
            let before = admitted.iter().rev().find(|r| r.id == row.id);
            let before = before.filter(|r| r.time >= clock(r.partition).unwrap() - HORIZON);
            answers.push(before.map(|r| (r.memo == row.memo && r.time == row.time, r.partition, r.offset)));
            if before.is_none() {
                admitted.push(row);
            }
        }
        answers
    }

    fn judged(duplicates: &mut Duplicates, rows: &[Row]) -> Vec<Answer> {
        let batch = batch(rows);
        let judged = duplicates.judge(0, ("topic", rows[0].partition), &batch, &Fingerprints::of(&batch));
        let mut answers: Vec<Answer> = (0..rows.len())
            .map(|row| {
                let goes_on = judged.keep.as_ref().is_none_or(|keep| keep.value(row));
                (!goes_on).then_some((true, -1, -1))
            })
            .collect();
        for Conflict { row, original } in &judged.conflicts {
            answers[*row] = Some((false, original.partition, original.offset));
        }
        let same = answers.iter().flatten().filter(|answer| answer.0).count();
        assert_eq!(same as u64, judged.duplicates);
        answers
    }

    /// Rows of three partitions as they might come: ids again soon and late, the same and changed, times that go back and forth.
    fn random_rows(rng: &mut ChaCha8Rng, count: usize) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        let mut time = 10_000;
        for offset in 0..count as i64 {
            time += rng.random_range(0..12);
            let mut row = Row {
                id: format!("T{offset}"),
                memo: String::new(),
                time: time - rng.random_range(0..40) * i64::from(rng.random_bool(0.2)),
                partition: rng.random_range(0..3),
                offset,
            };
            if offset > 0 && rng.random_bool(0.3) {
                let back = rng.random_range(1..=offset.min(300)) as usize;
                let before = rows[offset as usize - back].clone();
                row = Row { offset, ..before };
                match rng.random_range(0..6) {
                    0 => row.memo.push('x'),
                    1 => row.time = time,
                    2 => row.partition = rng.random_range(0..3),
                    _ => {}
                }
            }
            rows.push(row);
        }
        rows
    }

    /// Rows one after another, cut into batches of one partition each and otherwise at random.
    fn in_batches(
        rng: &mut ChaCha8Rng,
        rows: &[Row],
        duplicates: &mut Duplicates,
        longest: usize,
    ) -> Vec<Answer> {
        let mut answers = Vec::new();
        for stretch in rows.chunk_by(|a, b| a.partition == b.partition) {
            let mut rest = stretch;
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rng.random_range(1..=longest.min(rest.len())));
                answers.extend(judged(duplicates, now));
                rest = later;
            }
        }
        answers
    }

    fn told(answers: Vec<Answer>) -> Vec<Answer> {
        // Of the same one only that it is the same is told.
        answers
            .into_iter()
            .map(|a| a.map(|(same, p, o)| if same { (true, -1, -1) } else { (same, p, o) }))
            .collect()
    }

    #[test]
    fn the_first_within_the_horizon_goes_on_however_batches_are_cut() {
        for seed in 0..40 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut rows = random_rows(&mut rng, 1_500);
            if seed % 2 == 0 {
                // Long batches of one partition.
                rows.iter_mut().for_each(|row| row.partition = (row.offset / 100 % 3) as i32);
            }
            let wanted = told(modelled(&rows));
            let kinds = |same| wanted.iter().flatten().filter(|a| a.0 == same).count();
            assert!(kinds(true) > 20 && kinds(false) > 20, "{} {}", kinds(true), kinds(false));
            for longest in [1, 7, 1_000] {
                let mut duplicates = one_feed();
                assert_eq!(
                    in_batches(&mut rng, &rows, &mut duplicates, longest),
                    wanted,
                    "seed {seed}, {longest}"
                );
                assert!(duplicates.len() < 700, "{} are kept of {}", duplicates.len(), rows.len());
            }
        }
    }

    #[test]
    fn a_set_made_again_from_what_went_on_answers_as_the_one_before() {
        for seed in 0..20 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let rows = random_rows(&mut rng, 1_500);
            let wanted = told(modelled(&rows));
            let half = 700 + seed as usize;
            let mut kept: Vec<Row> =
                (0..half).filter(|&row| wanted[row].is_none()).map(|row| rows[row].clone()).collect();
            let mut duplicates = one_feed();
            for partition in 0..3 {
                let highest = kept.iter().filter(|r| r.partition == partition).map(|r| r.time).max().unwrap();
                duplicates.reached(0, ("topic", partition), highest);
                // What is behind the horizon the archive is not asked for.
                kept.retain(|r| r.partition != partition || r.time >= highest - HORIZON);
            }
            kept.shuffle(&mut rng);
            duplicates.remember(0, None, &batch(&kept));
            assert_eq!(
                in_batches(&mut rng, &rows[half..], &mut duplicates, 9),
                wanted[half..],
                "seed {seed}"
            );
        }
    }

    #[test]
    fn a_conflict_is_told_with_both_places_and_the_record() {
        let row =
            |memo: &str, offset| Row { id: "T1".into(), memo: memo.into(), time: 5, partition: 2, offset };
        let mut duplicates = one_feed();
        assert_eq!(judged(&mut duplicates, &[row("a", 3)]), [None]);
        let rows = batch(&[row("b", 9)]);
        let judged = duplicates.judge(0, ("topic", 2), &rows, &Fingerprints::of(&rows));
        let mut records = Records::new("topic".into(), 2, 0);
        records.push(8, b"{}");
        records.push(9, b"{\"id\":\"T1\"}");
        let letter = letter("bank", &rows, &judged.conflicts[0], Some(&records));
        assert_eq!((letter.reason.as_str(), letter.raw.as_deref()), (CONFLICT, Some("{\"id\":\"T1\"}")));
        assert_eq!(letter.original.unwrap().to_string(), "topic:2:3");
        assert!(
            letter.message.contains("topic:2:3") && letter.message.contains("topic:2:9"),
            "{}",
            letter.message
        );
    }

    #[test]
    fn switched_off_all_rows_go_on() {
        let mut duplicates = Duplicates { feeds: Vec::new() };
        let row = Row { id: "T".into(), memo: "m".into(), time: 1, partition: 0, offset: 0 };
        assert_eq!(judged(&mut duplicates, &[row.clone(), row]), [None, None]);
    }
}
