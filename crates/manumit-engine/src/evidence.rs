//! The transactions that alerts may still have to show, by number.
//!
//! They are kept whole, for as long as the longest look-back, so they soon are the most of what a run holds. Beyond a bound the oldest go
//! to a [`Store`] in blocks, compressed, and are read back when an alert or a query asks for them. Where there is no store they
//! are forgotten, and alerts that would have shown them say so.

use std::collections::VecDeque;
use std::io::Cursor;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};

use crate::EngineError;
use crate::order::{bytes_of, times_of};
use crate::tail::{Place, StateUse, Store};

/// Rows of a batch that is worth its overhead.
const ROWS_A_BATCH: usize = 4096;

/// Rows of a block at most: what is read for one of them.
const BLOCK_ROWS: usize = 1024;

/// Rows of forgotten parts that are remembered as one.
const FORGOTTEN_ROWS: u32 = 1 << 16;

/// Blocks that were read last and stay in memory.
const RECENT_BLOCKS: usize = 16;

/// What the log may hold in memory, and where the rest goes.
pub(crate) struct Bound {
    pub bytes: usize,
    /// `None`: nowhere.
    pub store: Option<Arc<dyn Store>>,
    /// As which shard the log is known to the store.
    pub shard: usize,
}

/// Released transactions, numbered from 0 in the order of release. Older ones than any evidence reaches are dropped.
///
/// # Invariants
/// Rows of `away` come before those of `here`; there are no gaps.
pub(crate) struct TransactionLog {
    away: VecDeque<Block>,
    here: VecDeque<Part>,
    here_bytes: usize,
    next: u64,
    bound: Option<Bound>,
    /// Bytes of blocks in the store.
    outside: u64,
    /// Rows that were forgotten, and the number of the first one that was not.
    forgotten: u64,
    forgotten_to: u64,
    /// Blocks read last, by number of their first row.
    recent: Mutex<VecDeque<(u64, RecordBatch)>>,
    /// What went wrong first where it could not be said.
    failed: Mutex<Option<String>>,
}

/// Rows in memory, of one step: no event time is in two parts.
struct Part {
    first: u64,
    last_time: i64,
    bytes: usize,
    rows: RecordBatch,
}

/// Rows elsewhere.
struct Block {
    first: u64,
    rows: u32,
    /// Event times of the first row and of the last.
    from: i64,
    to: i64,
    /// `None`: forgotten.
    place: Option<Place>,
}

impl Part {
    fn end(&self) -> u64 {
        self.first + self.rows.num_rows() as u64
    }
}

impl Block {
    fn end(&self) -> u64 {
        self.first + u64::from(self.rows)
    }
}

impl TransactionLog {
    /// An empty log; without a bound all of it stays in memory.
    pub(crate) fn new(bound: Option<Bound>) -> TransactionLog {
        TransactionLog {
            away: VecDeque::new(),
            here: VecDeque::new(),
            here_bytes: 0,
            next: 0,
            bound,
            outside: 0,
            forgotten: 0,
            forgotten_to: 0,
            recent: Mutex::default(),
            failed: Mutex::default(),
        }
    }

    /// Numbers begin here.
    pub(crate) fn start_at(&mut self, first: u64) {
        self.next = first;
    }

    /// Number of the next row.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// What it takes, in memory and in the store.
    pub(crate) fn weigh(&self, state: &mut StateUse) {
        state.transactions = self.here_bytes as u64;
        state.transactions_outside = self.outside;
        state.transactions_forgotten = self.forgotten;
    }

    /// How many of these numbers are of rows that were forgotten.
    pub(crate) fn forgotten_of(&self, seqs: &[u64]) -> usize {
        seqs.iter().filter(|&&seq| seq < self.forgotten_to).count()
    }

    /// # Errors
    /// [`EngineError::State`] when a block could not be read where that could not be said.
    pub(crate) fn sound(&self) -> Result<(), EngineError> {
        match &*self.failed.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(why) => Err(EngineError::State { why: why.clone() }),
            None => Ok(()),
        }
    }

    /// A time and the number of the first transaction at or after it: `time`, or later if nothing that old is known, or a
    /// little earlier where rows were forgotten and their times with them.
    pub(crate) fn since(&self, time: i64) -> (i64, u64) {
        let oldest = match (self.away.front(), self.here.front()) {
            (Some(block), _) => Some(block.from),
            (None, Some(part)) => first_time(&part.rows),
            (None, None) => None,
        };
        let time = oldest.map_or(time, |oldest| oldest.max(time));
        let block = self.away.get(self.away.partition_point(|block| block.to < time));
        match block.filter(|block| block.place.is_none()) {
            Some(block) => (block.from.min(time), block.first),
            None => (time, self.first_at(time)),
        }
    }

    /// Appends rows and gives the number of the first.
    pub(crate) fn append(&mut self, rows: RecordBatch, last_time: i64) -> u64 {
        let first = self.next;
        self.next += rows.num_rows() as u64;
        let bytes = bytes_of(&rows);
        self.here_bytes += bytes;
        self.here.push_back(Part { first, last_time, bytes, rows });
        first
    }

    /// Numbers rows that are not kept, and gives the number of the first.
    pub(crate) fn pass(&mut self, rows: usize) -> u64 {
        let first = self.next;
        self.next += rows as u64;
        first
    }

    /// Drops parts that end before `time`.
    pub(crate) fn drop_before(&mut self, time: i64) {
        while let Some(block) = self.away.pop_front_if(|block| block.to < time) {
            if let (Some(place), Some(Bound { store: Some(store), shard, .. })) = (block.place, &self.bound) {
                store.release(*shard, place);
                self.outside -= u64::from(place.len);
            }
        }
        if self.away.is_empty() {
            while let Some(part) = self.here.pop_front_if(|part| part.last_time < time) {
                self.here_bytes -= part.bytes;
            }
        }
    }

    /// Lets the oldest rows go when what is here takes more than it may. Rows at or after `needed_from` are never forgotten: queries
    /// are answered from them.
    ///
    /// # Errors
    /// [`EngineError::State`] when they cannot be written.
    pub(crate) fn make_room(&mut self, needed_from: i64) -> Result<(), EngineError> {
        let Some(bound) = &self.bound else { return Ok(()) };
        if self.here_bytes <= bound.bytes {
            return Ok(());
        }
        // A little more than needed, so that this is not for every step.
        let wanted = bound.bytes - bound.bytes / 8;
        match bound.store.clone() {
            Some(store) => {
                let shard = bound.shard;
                while self.here_bytes > wanted && !self.here.is_empty() {
                    self.move_out(&*store, shard)?;
                }
            }
            None => {
                while self.here_bytes > wanted
                    && let Some(part) = self.here.pop_front_if(|part| part.last_time < needed_from)
                {
                    self.forget(&part);
                }
            }
        }
        Ok(())
    }

    /// Writes the oldest parts, as many as make a block.
    fn move_out(&mut self, store: &dyn Store, shard: usize) -> Result<(), EngineError> {
        let (mut parts, mut rows, mut first) = (Vec::new(), 0, None);
        while rows < BLOCK_ROWS
            && let Some(part) = self.here.pop_front()
        {
            self.here_bytes -= part.bytes;
            rows += part.rows.num_rows();
            first.get_or_insert(part.first);
            parts.push(part.rows);
        }
        let (Some(mut first), Some(schema)) = (first, parts.first().map(RecordBatch::schema)) else {
            return Ok(());
        };
        let whole = concat_batches(&schema, &parts)?;
        for start in (0..whole.num_rows()).step_by(BLOCK_ROWS) {
            let rows = whole.slice(start, BLOCK_ROWS.min(whole.num_rows() - start));
            let times = times_of(&rows)?;
            let (Some(&from), Some(&to)) = (times.first(), times.last()) else { continue };
            let place = store.put(shard, &encode(&rows)?).map_err(|why| EngineError::State { why })?;
            self.outside += u64::from(place.len);
            let rows = rows.num_rows() as u32;
            self.away.push_back(Block { first, rows, from, to, place: Some(place) });
            first += u64::from(rows);
        }
        Ok(())
    }

    fn forget(&mut self, part: &Part) {
        let rows = part.rows.num_rows() as u32;
        self.here_bytes -= part.bytes;
        self.forgotten += u64::from(rows);
        self.forgotten_to = part.end();
        let from = first_time(&part.rows).unwrap_or(part.last_time);
        match self.away.back_mut().filter(|last| last.rows < FORGOTTEN_ROWS) {
            Some(last) => (last.rows, last.to) = (last.rows + rows, part.last_time),
            None => {
                let place = None;
                self.away.push_back(Block { first: part.first, rows, from, to: part.last_time, place });
            }
        }
    }

    /// Number of the first transaction at or after `time`; rows that were dropped are before any time that is asked for.
    pub(crate) fn first_at(&self, time: i64) -> u64 {
        if let Some(block) = self.away.get(self.away.partition_point(|block| block.to < time)) {
            if time <= block.from || block.place.is_none() {
                return block.first;
            }
            let times = self.read(block).and_then(|rows| times_of(&rows));
            return match times {
                Ok(times) => block.first + times.partition_point(|&t| t < time) as u64,
                Err(error) => {
                    let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                    failed.get_or_insert(error.to_string());
                    block.first
                }
            };
        }
        let part = self.here.partition_point(|part| part.last_time < time);
        let Some(part) = self.here.get(part) else { return self.next };
        let before = times_of(&part.rows).map_or(0, |times| times.partition_point(|&t| t < time));
        part.first + before as u64
    }

    /// Some columns of the transactions with these numbers, which ascend; numbers no longer here are left out. `schema` is
    /// that of the columns. In batches that a processor's cache holds, none of them much smaller but the last.
    ///
    /// # Errors
    /// [`EngineError`] when a block cannot be read.
    pub(crate) fn columns_of(
        &self,
        seqs: &[u64],
        columns: &[usize],
        schema: &SchemaRef,
    ) -> Result<Vec<RecordBatch>, EngineError> {
        let mut whole = Vec::new();
        let mut parts = Vec::new();
        let mut waiting = 0;
        self.each_part(seqs, Some(columns), |part, here, _| {
            waiting += here.len();
            parts.push(take_record_batch(part, here)?);
            if waiting >= ROWS_A_BATCH {
                waiting = 0;
                whole.push(concat_batches(schema, &std::mem::take(&mut parts))?);
            }
            Ok(())
        })?;
        if !parts.is_empty() {
            whole.push(concat_batches(schema, &parts)?);
        }
        Ok(whole)
    }

    /// The transactions with these numbers, which ascend; numbers no longer here are left out.
    ///
    /// # Errors
    /// [`EngineError`] when a block cannot be read.
    pub(crate) fn find(
        &self,
        seqs: &[u64],
        schema: &SchemaRef,
    ) -> Result<(Vec<u64>, RecordBatch), EngineError> {
        let mut found = Vec::with_capacity(seqs.len());
        let mut batches = Vec::new();
        self.each_part(seqs, None, |part, rows, here| {
            batches.push(take_record_batch(part, rows)?);
            found.extend_from_slice(here);
            Ok(())
        })?;
        Ok((found, concat_batches(schema, &batches)?))
    }

    /// Every part with some of these numbers, all of it or some columns, the places of them in it, and themselves.
    fn each_part(
        &self,
        seqs: &[u64],
        columns: Option<&[usize]>,
        mut visit: impl FnMut(&RecordBatch, &UInt32Array, &[u64]) -> Result<(), ArrowError>,
    ) -> Result<(), EngineError> {
        let Some(&least) = seqs.first() else { return Ok(()) };
        let mut rest = seqs;
        let mut take = |first: u64, end: u64| {
            rest = &rest[rest.partition_point(|&seq| seq < first)..];
            let here = &rest[..rest.partition_point(|&seq| seq < end)];
            rest = &rest[here.len()..];
            let rows = UInt32Array::from_iter_values(here.iter().map(|&seq| (seq - first) as u32));
            (here, rows, rest.is_empty())
        };
        for block in self.away.range(self.away.partition_point(|block| block.end() <= least)..) {
            let (here, rows, done) = take(block.first, block.end());
            if !here.is_empty() && block.place.is_some() {
                let part = match columns {
                    Some(columns) => self.fetch(block, Some(columns))?,
                    None => self.read(block)?,
                };
                visit(&part, &rows, here)?;
            }
            if done {
                return Ok(());
            }
        }
        for part in self.here.range(self.here.partition_point(|part| part.end() <= least)..) {
            let (here, rows, done) = take(part.first, part.end());
            if !here.is_empty() {
                match columns {
                    Some(columns) => visit(&part.rows.project(columns)?, &rows, here)?,
                    None => visit(&part.rows, &rows, here)?,
                }
            }
            if done {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A block's rows, which stay in memory until others were read.
    fn read(&self, block: &Block) -> Result<RecordBatch, EngineError> {
        let recent = || self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, rows)) = recent().iter().find(|(first, _)| *first == block.first) {
            return Ok(rows.clone());
        }
        let rows = self.fetch(block, None)?;
        let mut recent = recent();
        if recent.len() == RECENT_BLOCKS {
            recent.pop_front();
        }
        recent.push_back((block.first, rows.clone()));
        Ok(rows)
    }

    fn fetch(&self, block: &Block, columns: Option<&[usize]>) -> Result<RecordBatch, EngineError> {
        let lost = |why: &str| EngineError::State { why: why.into() };
        let Some(Bound { store: Some(store), shard, .. }) = &self.bound else {
            return Err(lost("there is no store for transactions"));
        };
        let place = block.place.ok_or_else(|| lost("the transactions were forgotten"))?;
        let bytes = store.get(*shard, place).map_err(|why| EngineError::State { why })?;
        let mut reader = StreamReader::try_new(Cursor::new(bytes), columns.map(<[usize]>::to_vec))?;
        match reader.next().transpose()? {
            Some(rows) if rows.num_rows() == block.rows as usize => Ok(rows),
            _ => Err(lost("a block of transactions on disk is not what was written")),
        }
    }
}

fn first_time(rows: &RecordBatch) -> Option<i64> {
    let times = rows.column_by_name("event_time")?;
    times.as_primitive_opt::<TimestampMicrosecondType>()?.values().first().copied()
}

/// One batch as an Arrow stream, each buffer compressed.
fn encode(rows: &RecordBatch) -> Result<Vec<u8>, EngineError> {
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &rows.schema(), options)?;
    writer.write(rows)?;
    Ok(writer.into_inner()?)
}

#[cfg(test)]
mod tests {
    use arrow::array::{StringArray, TimestampMicrosecondArray};

    use super::*;

    /// Blocks in a list, with how many were read.
    #[derive(Debug, Default)]
    struct Memory {
        blocks: Mutex<Vec<Option<Vec<u8>>>>,
        damaged: bool,
    }

    impl Store for Memory {
        fn put(&self, shard: usize, block: &[u8]) -> Result<Place, String> {
            assert_eq!(shard, 3);
            let mut blocks = self.blocks.lock().unwrap();
            blocks.push(Some(block.to_vec()));
            Ok(Place { segment: 0, offset: blocks.len() as u32 - 1, len: block.len() as u32 })
        }

        fn get(&self, _: usize, place: Place) -> Result<Vec<u8>, String> {
            if self.damaged {
                return Err("the disk is gone".into());
            }
            self.blocks.lock().unwrap()[place.offset as usize].clone().ok_or("released".into())
        }

        fn release(&self, _: usize, place: Place) {
            assert!(self.blocks.lock().unwrap()[place.offset as usize].take().is_some(), "released twice");
        }
    }

    fn rows(times: &[i64], first: u64) -> RecordBatch {
        let ids = StringArray::from_iter_values((first..).take(times.len()).map(|n| format!("tx-{n}")));
        let times = TimestampMicrosecondArray::from_iter_values(times.iter().copied()).with_timezone("UTC");
        RecordBatch::try_from_iter([("event_time", Arc::new(times) as _), ("tx_id", Arc::new(ids) as _)])
            .unwrap()
    }

    fn bounded(bytes: usize, store: Option<Arc<Memory>>) -> TransactionLog {
        let store = store.map(|store| store as Arc<dyn Store>);
        TransactionLog::new(Some(Bound { bytes, store, shard: 3 }))
    }

    /// Steps of up to two thousand rows; times stand still now and then, but never from step to step.
    fn fill(logs: &mut [&mut TransactionLog], steps: usize, needed_from: i64) -> Vec<i64> {
        let (mut all, mut now) = (Vec::new(), 0);
        for step in 0..steps {
            let count = [1, 700, 40, 2_000, 3][step % 5];
            let times: Vec<i64> = (0..count).map(|n| now + n / 3).collect();
            now = times.last().map_or(now, |last| last + 1);
            for log in logs.iter_mut() {
                let first = log.append(rows(&times, all.len() as u64), now - 1);
                assert_eq!(first, all.len() as u64);
                log.make_room(needed_from).unwrap();
            }
            all.extend(times);
        }
        all
    }

    #[test]
    fn what_lies_elsewhere_is_found_like_what_is_here_and_goes_when_it_is_dropped() {
        let store = Arc::new(Memory::default());
        let (mut plain, mut small) = (TransactionLog::new(None), bounded(40_000, Some(store.clone())));
        let times = fill(&mut [&mut plain, &mut small], 23, 0);
        assert!(small.here_bytes <= 40_000 && small.away.len() > 8, "{} blocks", small.away.len());
        for old in [0, times[times.len() / 3], times[times.len() / 2] + 1] {
            plain.drop_before(old);
            small.drop_before(old);
            let schema = rows(&[0], 0).schema();
            let seqs: Vec<u64> = (0..times.len() as u64).filter(|n| n % 7 == 0 || n % 1000 < 3).collect();
            // What was dropped may be found here or there, and nobody asks for it.
            let seqs: Vec<u64> = seqs.into_iter().filter(|&n| times[n as usize] >= old).collect();
            assert_eq!(plain.find(&seqs, &schema).unwrap(), small.find(&seqs, &schema).unwrap());
            assert_eq!(plain.find(&seqs, &schema).unwrap().0, seqs);
            let narrow = Arc::new(schema.project(&[1]).unwrap());
            let of = |log: &TransactionLog| {
                let parts = log.columns_of(&seqs, &[1], &narrow).unwrap();
                concat_batches(&narrow, &parts).unwrap()
            };
            assert_eq!(of(&plain), of(&small));
            for time in (old..times[times.len() - 1] + 5).step_by(11) {
                let wanted = times.partition_point(|&t| t < time) as u64;
                assert_eq!((plain.first_at(time), small.first_at(time)), (wanted, wanted), "{time}");
                assert_eq!(small.since(time), (time, wanted));
            }
        }
        let mut state = StateUse::default();
        small.weigh(&mut state);
        let there = store.blocks.lock().unwrap().iter().flatten().map(Vec::len).sum::<usize>();
        assert!(state.transactions_outside > 0 && state.transactions_outside == there as u64);
        small.drop_before(i64::MAX);
        small.weigh(&mut state);
        assert_eq!((state.transactions, state.transactions_outside), (0, 0));
        assert!(store.blocks.lock().unwrap().iter().all(Option::is_none));
        assert!(small.sound().is_ok());
    }

    #[test]
    fn without_a_store_the_oldest_are_forgotten_and_counted_but_none_that_queries_need() {
        let mut log = bounded(20_000, None);
        let times = fill(&mut [&mut log], 40, i64::MAX);
        assert!(log.here_bytes <= 20_000 + 100_000, "{}", log.here_bytes);
        let forgotten = log.forgotten;
        assert!(forgotten > times.len() as u64 / 2 && forgotten == log.forgotten_to);
        let schema = rows(&[0], 0).schema();
        let (found, _) = log.find(&(0..times.len() as u64).collect::<Vec<_>>(), &schema).unwrap();
        assert_eq!(found, (forgotten..times.len() as u64).collect::<Vec<_>>());
        assert_eq!(log.forgotten_of(&[0, forgotten - 1, forgotten]), 2);
        // Where a restart begins to read is known to the row, whatever was forgotten.
        for time in 0..times[times.len() - 1] {
            let (from, first) = log.since(time);
            assert!(from <= time);
            assert_eq!(first, times.partition_point(|&t| t < from) as u64, "{time}");
        }
        let mut needed = bounded(20_000, None);
        fill(&mut [&mut needed], 40, 0);
        assert_eq!(needed.forgotten, 0);
    }

    #[test]
    fn a_block_that_cannot_be_read_is_told_and_gives_no_rows() {
        let store = Arc::new(Memory { damaged: true, ..Memory::default() });
        let mut log = bounded(0, Some(store));
        let times = fill(&mut [&mut log], 4, 0);
        let error = log.find(&[5], &rows(&[0], 0).schema()).unwrap_err().to_string();
        assert!(error.contains("the disk is gone"), "{error}");
        log.first_at(times[300]);
        assert!(log.sound().unwrap_err().to_string().contains("the disk is gone"));
    }
}
