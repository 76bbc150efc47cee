//! Event-time order: watermarks per partition, late rows, and the release of rows in order.
//!
//! A partition's watermark is its highest event time so far less the feed's lateness; a row below it is late,
//! which does not depend on how partitions interleave. The engine's watermark is the least of those partitions
//! that are neither idle nor at their end; a partition that wakes begins at that watermark. Rows below it leave, ordered by (event time, feed, transaction id).
//! The feed is that of the row where rows have the column `feed`, and otherwise the partition's.
//!
//! # Source
//! Akidau et al., «The Dataflow Model», VLDB 2015: watermarks and allowed lateness.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, StringArray, UInt32Array,
    new_null_array,
};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{concat_batches, filter_record_batch, interleave_record_batch, take_record_batch};
use arrow::datatypes::{Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use manumit_model::schema;

use crate::EngineError;
use crate::snapshot::SavedPartition;

/// Handle of one source partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub usize);

/// Rows that came behind their own partition's watermark.
#[derive(Debug, Clone)]
pub struct LateRows {
    /// The rows, canonical columns.
    pub rows: RecordBatch,
    /// The partition's watermark when each row arrived, microseconds UTC.
    pub watermarks: Vec<i64>,
    /// Where each row stood among those pushed.
    pub places: Vec<usize>,
}

/// How far a partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Its watermark, microseconds UTC; `i64::MIN` before the first row.
    pub watermark: i64,
    /// Rows read but not yet released.
    pub waiting_rows: usize,
    /// Bytes that they take.
    pub waiting_bytes: usize,
    /// Rows that left in order, of those pushed.
    pub released: u64,
    /// Lowest source offset that is still waiting: what may be committed ends before it.
    pub oldest_waiting_offset: Option<i64>,
    /// It does not hold the engine's watermark back.
    pub idle: bool,
}

struct Partition {
    feed: Arc<str>,
    lateness_micros: i64,
    highest: Option<i64>,
    /// The engine's watermark when the partition joined or woke: what it slept through is late.
    floor: i64,
    idle: bool,
    ended: bool,
    released: u64,
}

/// Rows of one push, ordered, from `start` on not yet released.
struct Waiting {
    partition: usize,
    rows: RecordBatch,
    times: ScalarBuffer<i64>,
    start: usize,
    /// All of it stays in memory until its last row is released.
    bytes: usize,
}

impl Waiting {
    fn new(partition: usize, rows: RecordBatch, times: ScalarBuffer<i64>) -> Waiting {
        let bytes = bytes_of(&rows);
        Waiting { partition, rows, times, start: 0, bytes }
    }
}

/// Holds rows back until the watermark has passed them.
pub struct Orderer {
    partitions: Vec<Partition>,
    waiting: Vec<Waiting>,
    schema: SchemaRef,
    watermark: i64,
}

impl Orderer {
    /// An empty buffer. `columns`: the canonical columns that any feed gives; others are left out.
    pub fn new(columns: &[String]) -> Orderer {
        let fields: Vec<Arc<Field>> = schema::transactions()
            .fields()
            .iter()
            .filter(|f| columns.contains(f.name()))
            .map(|f| Arc::new(f.as_ref().clone().with_nullable(true)))
            .collect();
        Orderer {
            partitions: Vec::new(),
            waiting: Vec::new(),
            schema: Arc::new(Schema::new(fields)),
            watermark: i64::MIN,
        }
    }

    /// The columns of released rows.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Registers a source partition of a feed; the feed's lateness is in microseconds.
    pub fn add_partition(&mut self, feed: &str, lateness_micros: i64) -> PartitionId {
        self.partitions.push(Partition {
            feed: feed.into(),
            lateness_micros,
            highest: None,
            floor: self.watermark,
            idle: false,
            ended: false,
            released: 0,
        });
        PartitionId(self.partitions.len() - 1)
    }

    /// An idle partition does not hold the watermark back; its next row wakes it.
    pub fn set_idle(&mut self, id: PartitionId, idle: bool) {
        if let Some(partition) = self.partitions.get_mut(id.0) {
            partition.idle = idle;
        }
    }

    /// No more rows will come from this partition.
    pub fn end(&mut self, id: PartitionId) {
        if let Some(partition) = self.partitions.get_mut(id.0) {
            partition.ended = true;
        }
    }

    /// How far a partition is; `None` for one that was never registered.
    pub fn progress(&self, id: PartitionId) -> Option<Progress> {
        let partition = self.partitions.get(id.0)?;
        let (mut waiting_rows, mut waiting_bytes) = (0, 0);
        let mut oldest: Option<i64> = None;
        for waiting in self.waiting.iter().filter(|w| w.partition == id.0) {
            waiting_rows += waiting.rows.num_rows() - waiting.start;
            waiting_bytes += waiting.bytes;
            if let Some(offsets) = waiting.rows.column_by_name("source_offset") {
                let offsets = offsets.as_primitive::<Int64Type>();
                let least = (waiting.start..offsets.len())
                    .filter(|&r| offsets.is_valid(r))
                    .map(|r| offsets.value(r))
                    .min();
                oldest = oldest.into_iter().chain(least).min();
            }
        }
        Some(Progress {
            watermark: partition.watermark(),
            waiting_rows,
            waiting_bytes,
            released: partition.released,
            oldest_waiting_offset: oldest,
            idle: partition.idle || partition.ended,
        })
    }

    /// The partitions, as a snapshot keeps them.
    pub(crate) fn saved(&self) -> Vec<SavedPartition> {
        let saved = |partition: &Partition| SavedPartition {
            feed: partition.feed.to_string(),
            highest: partition.highest,
            // One that had ended joins anew when it goes on.
            floor: if partition.ended { self.watermark } else { partition.floor },
            idle: partition.idle,
        };
        self.partitions.iter().map(saved).collect()
    }

    /// Puts partitions that were registered in their order, and the watermark, back to what they were.
    pub(crate) fn restore(&mut self, partitions: &[SavedPartition], watermark: i64) {
        for (partition, saved) in self.partitions.iter_mut().zip(partitions) {
            partition.highest = saved.highest;
            partition.floor = saved.floor;
            partition.idle = saved.idle;
        }
        self.watermark = self.watermark.max(watermark);
    }

    /// Takes rows that were found to be in time before.
    pub(crate) fn wait(&mut self, id: PartitionId, rows: &RecordBatch) -> Result<(), EngineError> {
        let rows = self.widen(rows)?;
        if rows.num_rows() > 0 {
            let (rows, times) = sorted(rows)?;
            self.waiting.push(Waiting::new(id.0, rows, times));
        }
        Ok(())
    }

    /// Rows held back, over all partitions.
    pub fn waiting_rows(&self) -> usize {
        self.waiting.iter().map(|w| w.rows.num_rows() - w.start).sum()
    }

    /// Bytes that rows held back take, over all partitions.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting.iter().map(|w| w.bytes).sum()
    }

    /// The engine's watermark, microseconds UTC; `i64::MIN` before the first release.
    pub fn watermark(&self) -> i64 {
        self.watermark
    }

    /// Takes rows of one partition in the order they were read; gives back those that are late.
    ///
    /// # Errors
    /// [`EngineError`] when `tx_id` or `event_time` is missing.
    pub fn push(&mut self, id: PartitionId, rows: RecordBatch) -> Result<Option<LateRows>, EngineError> {
        let rows = self.widen(&rows)?;
        let Some(partition) = self.partitions.get_mut(id.0) else { return Ok(None) };
        let times = times_of(&rows)?;
        if partition.idle && !times.is_empty() {
            partition.idle = false;
            partition.floor = self.watermark;
        }
        let mut late = Vec::new();
        let mut marks = Vec::new();
        for &time in times.iter() {
            let mark = partition.watermark();
            late.push(time < mark);
            if time < mark {
                marks.push(mark);
            }
            partition.highest = Some(partition.highest.map_or(time, |h| h.max(time)));
        }
        let late_rows = if marks.is_empty() {
            None
        } else {
            let rows = filter_record_batch(&rows, &BooleanArray::from(late.clone()))?;
            let places = (0..late.len()).filter(|&row| late[row]).collect();
            Some(LateRows { rows, watermarks: marks, places })
        };
        let on_time = if late_rows.is_none() {
            rows
        } else {
            filter_record_batch(&rows, &late.iter().map(|l| Some(!l)).collect::<BooleanArray>())?
        };
        if on_time.num_rows() > 0 {
            let (rows, times) = sorted(on_time)?;
            self.waiting.push(Waiting::new(id.0, rows, times));
        }
        Ok(late_rows)
    }

    /// Rows below the watermark, in order, in batches between different event times.
    ///
    /// # Errors
    /// [`EngineError`] when rows cannot be rearranged.
    pub fn release(&mut self) -> Result<Vec<RecordBatch>, EngineError> {
        let now = self.partitions.iter().filter(|p| !p.idle && !p.ended).map(Partition::watermark).min();
        // All partitions idle or ended, or none there yet: what is here may leave, but the watermark goes no further than
        // what was seen, for a partition may still join.
        let target = match now {
            Some(mark) => mark,
            None => self
                .partitions
                .iter()
                .filter_map(|p| p.highest)
                .max()
                .map_or(i64::MIN, |h| h.saturating_add(1)),
        };
        self.watermark = self.watermark.max(target); // W1
        let mut parts: Vec<(usize, RecordBatch)> = Vec::new();
        for waiting in &mut self.waiting {
            let count = waiting.times[waiting.start..].partition_point(|&t| t < self.watermark);
            if count > 0 {
                parts.push((waiting.partition, waiting.rows.slice(waiting.start, count)));
                waiting.start += count;
                if let Some(partition) = self.partitions.get_mut(waiting.partition) {
                    partition.released += count as u64;
                }
            }
        }
        self.waiting.retain(|w| w.start < w.rows.num_rows());
        match parts.len() {
            0 | 1 => Ok(parts.into_iter().map(|(_, rows)| rows).collect()),
            _ => self.merge(parts),
        }
    }

    fn merge(&self, mut parts: Vec<(usize, RecordBatch)>) -> Result<Vec<RecordBatch>, EngineError> {
        let mut bounds = Vec::new();
        for (index, (partition, rows)) in parts.iter().enumerate() {
            let (times, ties) = (times_of(rows)?, Ties::of(rows)?);
            let key = |row: usize| {
                let (feed, id) = ties.key(row, &self.partitions[*partition].feed);
                (times[row], feed.to_string(), id.to_string())
            };
            bounds.push((key(0), key(times.len() - 1), index));
        }
        bounds.sort();
        if bounds.windows(2).all(|pair| pair[0].1 <= pair[1].0) {
            return self.parted(bounds.iter().map(|(_, _, index)| parts[*index].1.clone()));
        }
        let mut order: Vec<(i64, &str, &str, usize, usize)> = Vec::new();
        parts.sort_by_key(|(partition, _)| *partition);
        let times: Vec<ScalarBuffer<i64>> =
            parts.iter().map(|(_, rows)| times_of(rows)).collect::<Result<_, _>>()?;
        for (index, (partition, rows)) in parts.iter().enumerate() {
            let ties = Ties::of(rows)?;
            for (row, &time) in times[index].iter().enumerate() {
                let (feed, id) = ties.key(row, &self.partitions[*partition].feed);
                order.push((time, feed, id, index, row));
            }
        }
        order.sort_unstable();
        let indices: Vec<(usize, usize)> = order.iter().map(|o| (o.3, o.4)).collect();
        let batches: Vec<&RecordBatch> = parts.iter().map(|(_, rows)| rows).collect();
        Ok(vec![interleave_record_batch(&batches, &indices)?])
    }

    /// Batches one after another, cut between different event times: rows at the end of one that have the time of the
    /// next one's first are put together with those, and nothing else is moved.
    fn parted(&self, ordered: impl Iterator<Item = RecordBatch>) -> Result<Vec<RecordBatch>, EngineError> {
        let mut out: Vec<RecordBatch> = Vec::new();
        for rows in ordered {
            let times = times_of(&rows)?;
            let Some(first) = times.first() else { continue };
            let tied = match out.last() {
                Some(last) => {
                    let before = times_of(last)?;
                    before.len() - before.partition_point(|time| time < first)
                }
                None => 0,
            };
            if tied == 0 {
                out.push(rows);
                continue;
            }
            let more = times.partition_point(|time| time <= first);
            let Some(last) = out.pop() else { continue };
            let begins = last.num_rows() - tied;
            let both = [last.slice(begins, tied), rows.slice(0, more)];
            out.push(last.slice(0, begins));
            out.push(concat_batches(&self.schema, &both)?);
            out.push(rows.slice(more, rows.num_rows() - more));
            out.retain(|rows| rows.num_rows() > 0);
        }
        Ok(out)
    }

    /// The same columns for every feed: what this one does not send is NULL.
    pub(crate) fn widen(&self, rows: &RecordBatch) -> Result<RecordBatch, EngineError> {
        let columns = self
            .schema
            .fields()
            .iter()
            .map(|field| match rows.column_by_name(field.name()) {
                Some(array) => array.clone(),
                None => new_null_array(field.data_type(), rows.num_rows()),
            })
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

impl Partition {
    fn watermark(&self) -> i64 {
        self.highest.map_or(i64::MIN, |highest| highest.saturating_sub(self.lateness_micros)).max(self.floor)
    }
}

/// Event times of a batch.
///
/// # Errors
/// [`EngineError::NoSuchColumn`].
pub(crate) fn times_of(rows: &RecordBatch) -> Result<ScalarBuffer<i64>, EngineError> {
    match rows.column_by_name("event_time") {
        Some(array) => Ok(array.as_primitive::<TimestampMicrosecondType>().values().clone()),
        None => Err(EngineError::NoSuchColumn { column: "event_time".into() }),
    }
}

/// What these rows take of the buffers that they may share with others.
pub(crate) fn bytes_of(rows: &RecordBatch) -> usize {
    let size = |column: &ArrayRef| {
        column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
    };
    rows.columns().iter().map(size).sum()
}

/// What orders rows of one event time.
struct Ties<'a> {
    feeds: Option<&'a StringArray>,
    ids: &'a StringArray,
}

impl<'a> Ties<'a> {
    fn of(rows: &'a RecordBatch) -> Result<Ties<'a>, EngineError> {
        let texts = |name: &str| rows.column_by_name(name).map(|column| column.as_string::<i32>());
        let Some(ids) = texts("tx_id") else {
            return Err(EngineError::NoSuchColumn { column: "tx_id".into() });
        };
        Ok(Ties { feeds: texts("feed"), ids })
    }

    /// Feed and transaction id; `partition`: the feed of rows that name none.
    fn key<'b>(&self, row: usize, partition: &'b str) -> (&'b str, &'b str)
    where
        'a: 'b,
    {
        let feed = self.feeds.filter(|feeds| feeds.is_valid(row)).map(|feeds| feeds.value(row));
        (feed.unwrap_or(partition), self.ids.value(row))
    }
}

/// Rows of one partition ordered by (event time, feed, transaction id); untouched when they already are.
fn sorted(rows: RecordBatch) -> Result<(RecordBatch, ScalarBuffer<i64>), EngineError> {
    let times = times_of(&rows)?;
    let ties = Ties::of(&rows)?;
    let ordered = (1..times.len()).all(|i| {
        times[i - 1] < times[i] || (times[i - 1] == times[i] && ties.key(i - 1, "") <= ties.key(i, ""))
    });
    if ordered {
        return Ok((rows, times));
    }
    let mut order: Vec<u32> = (0..times.len() as u32).collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (a as usize, b as usize);
        times[a].cmp(&times[b]).then_with(|| ties.key(a, "").cmp(&ties.key(b, "")))
    });
    let times = order.iter().map(|&row| times[row as usize]).collect();
    Ok((take_record_batch(&rows, &UInt32Array::from(order))?, times))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, TimestampMicrosecondArray};

    use super::*;

    const COLUMNS: [&str; 3] = ["tx_id", "event_time", "source_offset"];

    fn orderer() -> Orderer {
        Orderer::new(&COLUMNS.map(String::from))
    }

    fn rows(list: &[(&str, i64)]) -> RecordBatch {
        let ids: StringArray = list.iter().map(|(id, _)| Some(*id)).collect();
        let times: TimestampMicrosecondArray = list.iter().map(|(_, time)| Some(*time)).collect();
        let offsets: Int64Array = (0..list.len() as i64).map(Some).collect();
        RecordBatch::try_from_iter([
            ("tx_id", Arc::new(ids) as _),
            ("event_time", Arc::new(times.with_timezone("UTC")) as _),
            ("source_offset", Arc::new(offsets) as _),
        ])
        .unwrap()
    }

    fn ids(batches: &[RecordBatch]) -> Vec<String> {
        let ids = |batch: &RecordBatch| {
            batch["tx_id"].as_string::<i32>().iter().flatten().map(String::from).collect()
        };
        batches.iter().flat_map(|batch| -> Vec<String> { ids(batch) }).collect()
    }

    #[test]
    fn a_row_at_the_watermark_is_on_time_and_one_below_is_late() {
        let mut orderer = orderer();
        let p = orderer.add_partition("bank", 10);
        let late = orderer.push(p, rows(&[("a", 100), ("at", 90), ("below", 89)])).unwrap().unwrap();
        assert_eq!(ids(&[late.rows]), ["below"]);
        assert_eq!(late.watermarks, [90]);
        assert_eq!(late.places, [2]);
        assert_eq!(ids(&orderer.release().unwrap()), Vec::<String>::new());
        orderer.end(p);
        assert_eq!(ids(&orderer.release().unwrap()), ["at", "a"]);
    }

    #[test]
    fn rows_of_one_time_leave_by_feed_then_transaction_id() {
        let mut orderer = orderer();
        let (b, a) = (orderer.add_partition("b", 0), orderer.add_partition("a", 0));
        orderer.push(b, rows(&[("1", 5), ("0", 5)])).unwrap();
        orderer.push(a, rows(&[("9", 5), ("8", 4)])).unwrap();
        orderer.end(b);
        orderer.end(a);
        // "8" is behind its partition's watermark of 5: late.
        assert_eq!(ids(&orderer.release().unwrap()), ["9", "0", "1"]);
    }

    #[test]
    fn rows_of_several_feeds_in_one_partition_leave_by_their_own_feed() {
        let with_feed = |list: &[(&str, &str)]| {
            let (ids, feeds): (Vec<_>, Vec<_>) = list.iter().map(|&(feed, id)| ((id, 5), feed)).unzip();
            let feeds = Arc::new(StringArray::from(feeds)) as _;
            let rows = rows(&ids);
            let columns = COLUMNS.map(|name| (name, rows[name].clone()));
            RecordBatch::try_from_iter(columns.into_iter().chain([("feed", feeds)])).unwrap()
        };
        let mut orderer = Orderer::new(&["tx_id", "event_time", "source_offset", "feed"].map(String::from));
        let p = orderer.add_partition("all", 0);
        orderer.push(p, with_feed(&[("b", "1"), ("a", "9")])).unwrap();
        orderer.push(p, with_feed(&[("a", "8"), ("c", "0")])).unwrap();
        orderer.end(p);
        assert_eq!(ids(&orderer.release().unwrap()), ["8", "9", "1", "0"]);
    }

    #[test]
    fn rows_of_one_time_are_never_in_two_batches() {
        let mut orderer = orderer();
        let p = orderer.add_partition("x", 0);
        for part in [&[("a", 1), ("b", 5)][..], &[("c", 5)], &[("d", 5), ("e", 6)], &[("f", 7)]] {
            orderer.push(p, rows(part)).unwrap();
        }
        orderer.end(p);
        let batches = orderer.release().unwrap();
        let all: Vec<Vec<String>> = batches.iter().map(|batch| ids(std::slice::from_ref(batch))).collect();
        assert_eq!(all, [&["a"][..], &["b", "c", "d"], &["e"], &["f"]]);
    }

    #[test]
    fn a_slow_partition_holds_the_watermark_unless_it_is_idle() {
        let mut orderer = orderer();
        let (fast, slow) = (orderer.add_partition("x", 0), orderer.add_partition("x", 0));
        orderer.push(fast, rows(&[("f1", 10), ("f2", 20)])).unwrap();
        orderer.push(slow, rows(&[("s1", 5)])).unwrap();
        assert_eq!(ids(&orderer.release().unwrap()), Vec::<String>::new());
        assert_eq!(orderer.watermark(), 5);
        orderer.set_idle(slow, true);
        assert_eq!(ids(&orderer.release().unwrap()), ["s1", "f1"]);
        assert_eq!(orderer.progress(fast).unwrap().oldest_waiting_offset, Some(1));
    }

    #[test]
    fn a_release_before_any_partition_joined_makes_nothing_late() {
        let mut orderer = orderer();
        assert!(orderer.release().unwrap().is_empty());
        let p = orderer.add_partition("x", 0);
        assert!(orderer.push(p, rows(&[("a", 5)])).unwrap().is_none());
        orderer.end(p);
        assert_eq!(ids(&orderer.release().unwrap()), ["a"]);
    }

    #[test]
    fn what_a_partition_sends_from_the_time_it_slept_through_is_late() {
        let mut orderer = orderer();
        let (fast, slow) = (orderer.add_partition("x", 0), orderer.add_partition("x", 0));
        orderer.push(fast, rows(&[("f1", 10), ("f2", 20)])).unwrap();
        orderer.set_idle(slow, true);
        assert_eq!(ids(&orderer.release().unwrap()), ["f1"]);
        let late = orderer.push(slow, rows(&[("s1", 3), ("s2", 20)])).unwrap().unwrap();
        assert_eq!(ids(&[late.rows]), ["s1"]);
        orderer.release().unwrap();
        assert_eq!(orderer.watermark(), 20);
        orderer.end(fast);
        orderer.end(slow);
        assert_eq!(ids(&orderer.release().unwrap()), ["f2", "s2"]);
    }

    /// Rows drawn from few times, so that ties are common, pushed in batches of different sizes.
    #[test]
    fn how_rows_are_cut_into_batches_changes_neither_order_nor_lateness() {
        let mut state = 7_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as i64
        };
        let names: Vec<String> = (0..300).map(|i| format!("t{i:03}")).collect();
        let list: Vec<(&str, i64)> =
            names.iter().enumerate().map(|(i, name)| (name.as_str(), i as i64 / 10 + next() % 12)).collect();
        let run = |size: usize| {
            let mut orderer = orderer();
            let p = orderer.add_partition("x", 6);
            let (mut released, mut late) = (Vec::new(), Vec::new());
            for part in list.chunks(size) {
                if let Some(rows) = orderer.push(p, rows(part)).unwrap() {
                    late.extend(ids(&[rows.rows]));
                }
                released.extend(ids(&orderer.release().unwrap()));
            }
            orderer.end(p);
            released.extend(ids(&orderer.release().unwrap()));
            (released, late)
        };
        let whole = run(list.len());
        assert!(!whole.1.is_empty(), "the data must hold late rows");
        assert_eq!(whole.0.len() + whole.1.len(), list.len());
        for size in [1, 7, 64] {
            assert_eq!(run(size), whole, "batches of {size}");
        }
    }
}
