//! A key's oldest rows, outside memory.
//!
//! In a window that moves forward old rows are needed when they leave it, in the order of time, and when a key that was
//! quiet moves again. Until then they lie in blocks in a [`Store`], and memory knows of each block its place, its times and
//! the numbers of its rows. A block that is asked for is read once and stays until [`Tail::forget`].
//!
//! Blocks are not put into an embedded database: each is written once, read by its place, and dies when its rows expire,
//! so that a tree of keys would only be kept in order to be rewritten.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use integer_encoding::VarInt as _;

use crate::EngineError;
use crate::ring::{FLAGS, Layout, NUMBER_BITS, Row};

/// Where blocks of rows lie that memory has no room for. Each shard has a number, and the transactions kept for alerts that behind the last
/// shard's. Blocks of one number are put and released by one thread at a time, and may be read by several at once.
pub trait Store: Send + Sync + fmt::Debug {
    /// Keeps a block.
    ///
    /// # Errors
    /// In words for an operator: what failed, and the mend. The engine stops.
    fn put(&self, shard: usize, block: &[u8]) -> Result<Place, String>;

    /// Gives a block back as it was put.
    ///
    /// # Errors
    /// As for `put`; also when the block is not what was put.
    fn get(&self, shard: usize, place: Place) -> Result<Vec<u8>, String>;

    /// The block is not needed any more.
    fn release(&self, shard: usize, place: Place);
}

/// Where a block lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which segment of the shard.
    pub segment: u32,
    /// Where it begins there.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
}

/// How much state lies where, bytes unless something else is said. What is in memory is measured where that is cheap, and reckoned otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct StateUse {
    /// Bytes of rows of time windows in memory, with the slack of their buffers.
    pub memory: u64,
    /// Bytes of such rows outside memory.
    pub outside: u64,
    /// Keys that have rows.
    pub keys: u64,
    /// Rows moved out so far.
    pub rows_moved: u64,
    /// Blocks read back so far.
    pub blocks_read: u64,
    /// Rows so far that were not looked at, as their keys had no rows yet and there was no room for new keys.
    pub refused: u64,
    /// Values that windows count as different, in memory.
    pub texts: u64,
    /// Rows of sequences and of windows of rows, running counts of busy keys and long names of keys, in memory.
    pub beside: u64,
    /// Transactions kept for alerts and queries, in memory.
    pub transactions: u64,
    /// Such transactions outside memory.
    pub transactions_outside: u64,
    /// Such transactions (rows) that were forgotten so far, as there was no room and nothing outside memory to put them in.
    pub transactions_forgotten: u64,
    /// Hits that typologies remember, open alerts, and the keys of queries that are asked at ticks.
    pub hits: u64,
}

/// Bytes that a key takes beside its rows, with its place in the index, about.
const KEY_BYTES: u64 = 100;

impl StateUse {
    /// Bytes of memory that all of it takes.
    pub fn bytes(&self) -> u64 {
        self.of_keys() + self.transactions + self.hits
    }

    /// Bytes of memory that keys take, with their rows and what is worked out of them.
    pub fn of_keys(&self) -> u64 {
        self.memory + self.keys * KEY_BYTES + self.texts + self.beside
    }

    /// Adds that of another shard.
    pub(crate) fn add(&mut self, other: StateUse) {
        self.memory += other.memory;
        self.outside += other.outside;
        self.keys += other.keys;
        self.rows_moved += other.rows_moved;
        self.blocks_read += other.blocks_read;
        self.refused += other.refused;
        self.texts += other.texts;
        self.beside += other.beside;
        self.transactions += other.transactions;
        self.transactions_outside += other.transactions_outside;
        self.transactions_forgotten += other.transactions_forgotten;
        self.hits += other.hits;
    }
}

/// Rows of a block at most: what a hot key reads at once when its rows leave a window.
const BLOCK_ROWS: usize = 256;

/// Fewer old rows of a key than this stay until all are old; a last block with fewer is written anew with the next rows.
const LEAST_ROWS: u64 = 32;

/// Fewer rows than this never go: what memory has to know of them takes as much as they do.
const FEWEST_ROWS: u64 = 6;

/// One shard's side of a store.
#[derive(Debug)]
pub(crate) struct Shelf {
    store: Arc<dyn Store>,
    shard: usize,
    /// Words of blocks that were read and not forgotten.
    read_words: AtomicU64,
    outside: AtomicU64,
    rows_moved: AtomicU64,
    blocks_read: AtomicU64,
    /// What went wrong first. Rows that cannot be read count as rows of no filter until the engine stops.
    failed: Mutex<Option<String>>,
}

impl Shelf {
    pub(crate) fn new(store: Arc<dyn Store>, shard: usize) -> Shelf {
        Shelf {
            store,
            shard,
            read_words: AtomicU64::new(0),
            outside: AtomicU64::new(0),
            rows_moved: AtomicU64::new(0),
            blocks_read: AtomicU64::new(0),
            failed: Mutex::new(None),
        }
    }

    /// Words of blocks that were read back and are in memory.
    pub(crate) fn read_words(&self) -> usize {
        self.read_words.load(Ordering::Relaxed) as usize
    }

    /// What lies here, and what was done.
    pub(crate) fn state_use(&self) -> StateUse {
        StateUse {
            memory: self.read_words.load(Ordering::Relaxed) * 8,
            outside: self.outside.load(Ordering::Relaxed),
            rows_moved: self.rows_moved.load(Ordering::Relaxed),
            blocks_read: self.blocks_read.load(Ordering::Relaxed),
            ..StateUse::default()
        }
    }

    /// # Errors
    /// [`EngineError::State`] when a block could not be written or read since the beginning.
    pub(crate) fn sound(&self) -> Result<(), EngineError> {
        match &*self.failed.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(why) => Err(EngineError::State { why: why.clone() }),
            None => Ok(()),
        }
    }

    fn fail(&self, why: String) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
    }

    fn put(&self, words: &[u64], layout: Layout) -> Option<Place> {
        match self.store.put(self.shard, &encode(words, layout)) {
            Ok(place) => {
                self.outside.fetch_add(u64::from(place.len), Ordering::Relaxed);
                Some(place)
            }
            Err(why) => {
                self.fail(why);
                None
            }
        }
    }

    fn get(&self, block: &Block, layout: Layout) -> Box<[u64]> {
        self.blocks_read.fetch_add(1, Ordering::Relaxed);
        let read = self.store.get(self.shard, block.place).and_then(|bytes| {
            decode(&bytes, block.rows as usize, layout)
                .ok_or_else(|| "a block of rows on disk is not what was written".into())
        });
        read.unwrap_or_else(|why| {
            self.fail(why);
            vec![0; block.rows as usize * layout.stride()].into()
        })
    }

    fn release(&self, place: Place) {
        self.store.release(self.shard, place);
        self.outside.fetch_sub(u64::from(place.len), Ordering::Relaxed);
    }
}

/// Some rows of a key, one after another.
struct Block {
    first: u64,
    rows: u32,
    /// Event times of the first row and of the last.
    from: i64,
    to: i64,
    place: Place,
    read: OnceCell<Box<[u64]>>,
}

impl Block {
    fn end(&self) -> u64 {
        self.first + u64::from(self.rows)
    }
}

/// The rows of a key that lie outside memory: all before those of its ring.
///
/// # Invariants
/// Blocks are in the order of their rows, without gaps; `first` lies in the first of them.
pub(crate) struct Tail {
    shelf: Arc<Shelf>,
    blocks: VecDeque<Block>,
    first: u64,
}

impl Tail {
    /// Nothing yet; the next row is numbered `first`.
    pub(crate) fn new(shelf: Arc<Shelf>, first: u64) -> Tail {
        Tail { shelf, blocks: VecDeque::new(), first }
    }

    /// Number of the first row here.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Bytes of memory that it takes to know of them, but for blocks that were read.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Tail>() + self.blocks.capacity() * size_of::<Block>()
    }

    /// Before this time, and no sooner, something here is dropped.
    pub(crate) fn first_to_go(&self) -> Option<i64> {
        self.blocks.front().map(|block| block.to)
    }

    /// Of rows older than a limit, of which a ring has `old` out of `all`, how many are worth moving.
    pub(crate) fn worth_moving(old: u64, all: u64) -> u64 {
        if old < FEWEST_ROWS || (old < LEAST_ROWS && old < all) { 0 } else { old }
    }

    /// Takes a key's next rows. On failure they are lost to it, and [`Shelf::sound`] says so.
    pub(crate) fn append(&mut self, words: &[u64], layout: Layout) {
        let stride = layout.stride();
        self.shelf.rows_moved.fetch_add((words.len() / stride) as u64, Ordering::Relaxed);
        let small = |block: &mut Block| u64::from(block.rows) < LEAST_ROWS;
        match self.blocks.pop_back_if(small) {
            None => self.write(words, self.blocks.back().map_or(self.first, Block::end), layout),
            Some(last) => {
                let before = self.take(&last, layout);
                self.shelf.release(last.place);
                self.write(&[&before, words].concat(), last.first, layout);
            }
        }
    }

    fn write(&mut self, words: &[u64], mut first: u64, layout: Layout) {
        let stride = layout.stride();
        self.blocks.reserve_exact(words.len().div_ceil(BLOCK_ROWS * stride));
        for words in words.chunks(BLOCK_ROWS * stride) {
            let rows = words.len() / stride;
            if let Some(place) = self.shelf.put(words, layout) {
                let (from, to) = (words[0] as i64, words[words.len() - stride] as i64);
                let read = OnceCell::new();
                self.blocks.push_back(Block { first, rows: rows as u32, from, to, place, read });
            }
            first += rows as u64;
        }
    }

    /// The words of a block that goes.
    fn take(&self, block: &Block, layout: Layout) -> Box<[u64]> {
        match block.read.get() {
            Some(words) => {
                self.shelf.read_words.fetch_sub(words.len() as u64, Ordering::Relaxed);
                words.clone()
            }
            None => self.shelf.get(block, layout),
        }
    }

    fn words<'a>(&'a self, block: &'a Block, layout: Layout) -> &'a [u64] {
        block.read.get_or_init(|| {
            let words = self.shelf.get(block, layout);
            self.shelf.read_words.fetch_add(words.len() as u64, Ordering::Relaxed);
            words
        })
    }

    /// The row numbered `number`, which must be here.
    pub(crate) fn row(&self, number: u64, layout: Layout) -> Row<'_> {
        let at = self.blocks.partition_point(|block| block.end() <= number);
        match self.blocks.get(at) {
            Some(block) => Row::nth(self.words(block, layout), number.saturating_sub(block.first), layout),
            // Only after a failure to write, which ends the engine.
            None => Row::nothing(layout),
        }
    }

    /// Shows rows one after another. Blocks that are needed as a whole are not kept.
    pub(crate) fn each(&self, rows: Range<u64>, layout: Layout, mut show: impl FnMut(u64, Row<'_>)) {
        let at = self.blocks.partition_point(|block| block.end() <= rows.start);
        for block in self.blocks.range(at..).take_while(|block| block.first < rows.end) {
            let (from, to) = (rows.start.max(block.first), rows.end.min(block.end()));
            let whole;
            let words = if block.read.get().is_none() && to - from == u64::from(block.rows) {
                whole = self.shelf.get(block, layout);
                &whole
            } else {
                self.words(block, layout)
            };
            for number in from..to {
                show(number, Row::nth(words, number - block.first, layout));
            }
        }
    }

    /// Number of the first row here at or after `time`; `None` when all are before it.
    pub(crate) fn lower_bound(&self, time: i64, layout: Layout) -> Option<u64> {
        let at = self.blocks.partition_point(|block| block.to < time);
        let block = self.blocks.get(at)?;
        if block.from >= time {
            return Some(block.first.max(self.first));
        }
        let words = self.words(block, layout);
        let (mut low, mut high) = (0, u64::from(block.rows));
        while low < high {
            let middle = low + (high - low) / 2;
            if Row::nth(words, middle, layout).time() < time { low = middle + 1 } else { high = middle }
        }
        Some((block.first + low).max(self.first))
    }

    /// Number of the first row that stays when all blocks go whose rows are all before `time`.
    pub(crate) fn kept_from(&self, time: i64) -> Option<u64> {
        self.blocks.iter().find(|block| block.to >= time).map(|block| block.first.max(self.first))
    }

    /// Drops blocks whose rows are all numbered below `number`.
    pub(crate) fn drop_before(&mut self, number: u64) {
        while let Some(block) = self.blocks.pop_front_if(|block| block.end() <= number) {
            if let Some(words) = block.read.get() {
                self.shelf.read_words.fetch_sub(words.len() as u64, Ordering::Relaxed);
            }
            self.shelf.release(block.place);
        }
        self.first = self.first.max(number);
    }

    /// Gives back the memory of blocks that were read.
    pub(crate) fn forget(&mut self) {
        for words in self.blocks.iter_mut().filter_map(|block| block.read.take()) {
            self.shelf.read_words.fetch_sub(words.len() as u64, Ordering::Relaxed);
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.drop_before(u64::MAX);
    }
}

/// Rows as bytes: column by column what changed since the row before, small numbers in few bytes. Times and numbers
/// ascend, flags repeat, and amounts are short; a third of the words' size is usual.
fn encode(words: &[u64], layout: Layout) -> Vec<u8> {
    let stride = layout.stride();
    let mut bytes = Vec::with_capacity(words.len() * 4);
    let mut number = [0; 10];
    for column in 0..stride {
        let mut before = 0_u64;
        for row in words.chunks_exact(stride) {
            let word = turned(row[column], column);
            let len = match column {
                0 | FLAGS => (word.wrapping_sub(before) as i64).encode_var(&mut number),
                _ if column < layout.values() => (word ^ before).encode_var(&mut number),
                _ => (word.wrapping_sub(before) as i64).encode_var(&mut number),
            };
            bytes.extend_from_slice(&number[..len]);
            before = word;
        }
    }
    bytes
}

/// The other way; `None` when these are no bytes of so many rows.
fn decode(mut bytes: &[u8], rows: usize, layout: Layout) -> Option<Box<[u64]>> {
    let stride = layout.stride();
    let mut words = vec![0; rows * stride];
    for column in 0..stride {
        let mut before = 0_u64;
        for row in words.chunks_exact_mut(stride) {
            let len = match column {
                _ if (FLAGS + 1..layout.values()).contains(&column) => {
                    let (changed, len) = u64::decode_var(bytes)?;
                    before ^= changed;
                    len
                }
                _ => {
                    let (change, len) = i64::decode_var(bytes)?;
                    before = before.wrapping_add(change as u64);
                    len
                }
            };
            bytes = &bytes[len..];
            row[column] = returned(before, column);
        }
    }
    bytes.is_empty().then(|| words.into())
}

/// In the word of number and flags the number goes up, so that what changes little stands high.
fn turned(word: u64, column: usize) -> u64 {
    if column == FLAGS { word.rotate_left(64 - NUMBER_BITS as u32) } else { word }
}

fn returned(word: u64, column: usize) -> u64 {
    if column == FLAGS { word.rotate_right(64 - NUMBER_BITS as u32) } else { word }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ring::Ring;
    use crate::rows::Rows;

    const LAYOUT: Layout = Layout { filters: 70, arguments: 2 };

    /// Blocks in a list; `breaks` makes all reads fail.
    #[derive(Debug, Default)]
    struct Memory {
        blocks: Mutex<Vec<Option<Vec<u8>>>>,
        breaks: bool,
    }

    impl Store for Memory {
        fn put(&self, _: usize, block: &[u8]) -> Result<Place, String> {
            let mut blocks = self.blocks.lock().unwrap();
            blocks.push(Some(block.to_vec()));
            Ok(Place { segment: 0, offset: blocks.len() as u32 - 1, len: block.len() as u32 })
        }

        fn get(&self, _: usize, place: Place) -> Result<Vec<u8>, String> {
            match self.breaks {
                true => Err("the disk is gone".into()),
                false => self.blocks.lock().unwrap()[place.offset as usize].clone().ok_or("released".into()),
            }
        }

        fn release(&self, _: usize, place: Place) {
            assert!(self.blocks.lock().unwrap()[place.offset as usize].take().is_some(), "released twice");
        }
    }

    fn shelf(store: &Arc<Memory>) -> Arc<Shelf> {
        Arc::new(Shelf::new(store.clone(), 0))
    }

    fn row(time: i64, number: u64) -> Vec<u64> {
        let filters: Vec<usize> =
            (0..70).filter(|bit| (number * 7 + bit).is_multiple_of(5)).map(|b| b as usize).collect();
        LAYOUT.row(
            time,
            number,
            &filters,
            &[Some(number * 0x9e37_79b9_7f4a_7c15), (!number.is_multiple_of(3)).then_some(number)],
        )
    }

    proptest! {
        /// Rows come, move out and are dropped; what is there is what was put in, wherever it lies, and nothing is left at
        /// the end.
        #[test]
        fn rows_outside_memory_are_found_by_number_and_by_time_like_those_inside(
            changes in prop::collection::vec((0_i64..4, 1_u64..60, prop::option::weighted(0.4, 0_u64..90), 0_u64..40, any::<bool>()), 1..40),
        ) {
            let store = Arc::new(Memory::default());
            let (mut ring, mut tail) = (Ring::default(), Tail::new(shelf(&store), 0));
            let (mut plain, mut now) = (VecDeque::new(), 0);
            for (gap, count, moved, dropped, forgets) in changes {
                now += gap;
                for n in 0..count {
                    now += i64::from(n % 3 == 2);
                    plain.push_back((ring.end(), now));
                    ring.push(&row(now, ring.end()));
                }
                if let Some(moved) = moved {
                    let moved = moved.min(ring.len());
                    if moved > 0 {
                        tail.append(&ring.first_words(moved, LAYOUT), LAYOUT);
                        ring.drop_before(ring.first() + moved, LAYOUT);
                        ring.fit(LAYOUT);
                    }
                }
                if forgets {
                    tail.forget();
                }
                // Only whole blocks are dropped, as when they expire.
                if let Some(kept) = tail.kept_from(now - dropped as i64 * 3) {
                    tail.drop_before(kept);
                    plain.retain(|row| row.0 >= kept);
                }
                let outside = (!tail.is_empty()).then_some(&tail);
                let rows = Rows::new(&ring, outside);
                prop_assert_eq!((rows.first(), rows.end()), (plain.front().map_or(ring.end(), |r| r.0), ring.end()));
                let mut shown = Vec::new();
                rows.each(rows.first()..rows.end(), LAYOUT, |number, row| shown.push((number, row.time())));
                prop_assert_eq!(&shown, &plain.iter().copied().collect::<Vec<_>>());
                for &(number, time) in plain.iter().step_by(7) {
                    let (found, wanted) = (rows.row(number, LAYOUT), row(time, number));
                    let wanted = Row::nth(&wanted, 0, LAYOUT);
                    prop_assert_eq!((found.time(), found.seq()), (time, number));
                    prop_assert_eq!((found.argument(0), found.argument(1)), (wanted.argument(0), wanted.argument(1)));
                    prop_assert!((0..70).all(|bit| found.has(bit) == wanted.has(bit)));
                }
                for back in 0..12 {
                    let time = now + 1 - back * 5;
                    let wanted = plain.iter().find(|row| row.1 >= time).map_or(ring.end(), |row| row.0);
                    prop_assert_eq!(rows.lower_bound(time, LAYOUT), wanted);
                    prop_assert_eq!(rows.lower_bound_from_end(time, LAYOUT), wanted);
                    for from in [rows.first(), wanted.saturating_sub(5).max(rows.first()), wanted] {
                        prop_assert_eq!(rows.lower_bound_after(from, time, LAYOUT), wanted);
                    }
                }
            }
            let shelf = tail.shelf.clone();
            drop(tail);
            prop_assert!(store.blocks.lock().unwrap().iter().all(Option::is_none));
            prop_assert_eq!((shelf.read_words(), shelf.state_use().outside), (0, 0));
        }
    }

    #[test]
    fn a_store_that_fails_is_told_and_its_rows_count_for_nothing() {
        let store = Arc::new(Memory { breaks: true, ..Memory::default() });
        let shelf = shelf(&store);
        let mut tail = Tail::new(shelf.clone(), 0);
        tail.append(&(0..40).flat_map(|n| row(n, n as u64)).collect::<Vec<_>>(), LAYOUT);
        assert!(shelf.sound().is_ok());
        assert!((0..70).all(|bit| !tail.row(7, LAYOUT).has(bit)));
        assert!(shelf.sound().unwrap_err().to_string().contains("the disk is gone"));
    }
}
