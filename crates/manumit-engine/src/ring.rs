//! The rows of one key, in time order, in one flat buffer; and how they are read.
//!
//! A row is `time, number, flags, arguments`. Time and each argument are 64 bits; the number has 44, and the flags go on
//! in the same word as far as they fit. A flag is a filter that holds, or an argument that is NULL. Aggregates are derived
//! from rows and never stored here, so a key's state is its rows and nothing else.

use std::ops::Range;

use crate::prefetch::prefetch_word;

/// Shape of a keyspace's rows.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Filters, each a flag of every row.
    pub filters: usize,
    /// Arguments kept of each row.
    pub arguments: usize,
}

/// Bits of a row's number: 17 million million transactions, which is fifty years of ten thousand a second.
pub(crate) const NUMBER_BITS: usize = 44;

/// The word of a row where its number stands, and its flags begin.
pub(crate) const FLAGS: usize = 1;

impl Layout {
    /// Words of a row.
    pub fn stride(self) -> usize {
        self.values() + self.arguments
    }

    /// Word, and bit in it, of a filter.
    pub fn filter(self, filter: usize) -> (usize, u64) {
        let at = NUMBER_BITS + filter;
        (FLAGS + at / 64, 1 << (at % 64))
    }

    /// Word, and bit in it, of the flag that says that an argument is NULL.
    pub fn null(self, argument: usize) -> (usize, u64) {
        self.filter(self.filters + argument)
    }

    /// The word of the first argument.
    pub fn values(self) -> usize {
        FLAGS + (NUMBER_BITS + self.filters + self.arguments).div_ceil(64)
    }

    /// A row for a ring, of which these filters hold.
    pub fn row(self, time: i64, number: u64, filters: &[usize], arguments: &[Option<u64>]) -> Vec<u64> {
        let mut words = vec![0; self.stride()];
        words[0] = time as u64;
        words[FLAGS] = number & ((1 << NUMBER_BITS) - 1);
        let nulls = (0..self.arguments).filter(|&a| arguments.get(a).copied().flatten().is_none());
        for (word, bit) in filters.iter().map(|&f| self.filter(f)).chain(nulls.map(|a| self.null(a))) {
            words[word] |= bit;
        }
        for (word, argument) in words[self.values()..].iter_mut().zip(arguments) {
            *word = argument.unwrap_or(0);
        }
        words
    }
}

/// One key's rows, in a buffer that is used round.
///
/// # Invariants
/// Rows are ordered by time; `first` counts all rows ever dropped, so that a row's number never changes. A row never
/// stands partly at the end and partly at the beginning of the buffer, as its length is a multiple of the stride. One key
/// has no more than 2³² words.
#[derive(Debug, Default)]
pub struct Ring {
    words: Box<[u64]>,
    /// Word where the first row begins.
    head: u32,
    /// Rows.
    len: u32,
    /// Number of the first row still here, and [`CUT`].
    first: u64,
}

/// Bit of a ring's first number that says that older rows of its key lie outside memory: a key has no byte to spare for it,
/// and must not be looked up elsewhere to know.
const CUT: u64 = 1 << 63;

/// A view of one row.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    words: &'a [u64],
    layout: Layout,
}

/// A row of no filter, for when there is none to show.
static NOTHING: [u64; 1024] = [0; 1024];

impl<'a> Row<'a> {
    /// One of rows that stand one after another, which must be among them.
    pub(crate) fn nth(words: &'a [u64], number: u64, layout: Layout) -> Row<'a> {
        let at = number as usize * layout.stride();
        Row { words: &words[at..at + layout.stride()], layout }
    }

    /// A row that no filter lets through.
    pub(crate) fn nothing(layout: Layout) -> Row<'a> {
        Row { words: &NOTHING[..layout.stride().min(NOTHING.len())], layout }
    }
}

impl Row<'_> {
    /// Event time, microseconds UTC.
    pub fn time(&self) -> i64 {
        self.words[0] as i64
    }
    /// Number of its transaction.
    pub fn seq(&self) -> u64 {
        self.words[FLAGS] & ((1 << NUMBER_BITS) - 1)
    }
    /// The filter with this bit holds.
    pub fn has(&self, bit: usize) -> bool {
        let (word, bit) = self.layout.filter(bit);
        self.words[word] & bit != 0
    }
    /// The argument's 64 bits, or `None` when it is NULL.
    pub fn argument(&self, index: usize) -> Option<u64> {
        let (word, bit) = self.layout.null(index);
        (self.words[word] & bit == 0).then(|| self.words[self.layout.values() + index])
    }
}

/// An argument in some rows; see [`Ring::arguments`].
pub(crate) struct Arguments<'a> {
    ring: &'a Ring,
    marks: u64,
    /// Rows before the first that could be marked.
    before: usize,
    stride: usize,
    null: (usize, u64),
    value: usize,
}

impl Iterator for Arguments<'_> {
    type Item = u64;

    #[inline(always)]
    fn next(&mut self) -> Option<u64> {
        while self.marks != 0 {
            let place = self.marks.trailing_zeros() as usize;
            self.marks &= self.marks - 1;
            let row = self.ring.at(self.before + place, self.stride);
            let (word, bit) = self.null;
            if self.ring.words[row + word] & bit == 0 {
                return Some(self.ring.words[row + self.value]);
            }
        }
        None
    }
}

impl Ring {
    /// Number one past the last row.
    pub fn end(&self) -> u64 {
        self.first() + u64::from(self.len)
    }

    /// Number of the first row still here.
    pub fn first(&self) -> u64 {
        self.first & !CUT
    }

    /// Older rows lie elsewhere.
    pub(crate) fn is_cut(&self) -> bool {
        self.first & CUT != 0
    }

    /// Says whether older rows lie elsewhere.
    pub(crate) fn set_cut(&mut self, cut: bool) {
        self.first = self.first() | if cut { CUT } else { 0 };
    }

    /// Rows that are here.
    pub fn len(&self) -> u64 {
        u64::from(self.len)
    }

    /// No rows are here.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The next row makes the buffer grow.
    pub fn is_full(&self, layout: Layout) -> bool {
        (self.len as usize + 1) * layout.stride() > self.words.len()
    }

    /// Word where the row at a place begins, counted from the first one here.
    fn at(&self, place: usize, stride: usize) -> usize {
        let at = self.head as usize + place * stride;
        if at >= self.words.len() { at - self.words.len() } else { at }
    }

    /// Appends a row; `row` has the layout's stride.
    pub fn push(&mut self, row: &[u64]) {
        let (len, stride) = (self.len as usize, row.len());
        if (len + 1) * stride > self.words.len() {
            // By a third, not to the double: rows are most of what an engine holds.
            self.resize(len + if len < 2 { len + 1 } else { (len / 3).max(2) }, stride);
        }
        let at = self.at(len, stride);
        self.words[at..at + stride].copy_from_slice(row);
        self.len += 1;
    }

    /// A buffer for so many rows; those that are here must fit.
    fn resize(&mut self, rows: usize, stride: usize) {
        let mut words = Vec::with_capacity(rows * stride);
        let used = self.len as usize * stride;
        let head = self.head as usize;
        let before_end = used.min(self.words.len() - head);
        words.extend_from_slice(&self.words[head..head + before_end]);
        words.extend_from_slice(&self.words[..used - before_end]);
        words.resize(rows * stride, 0);
        self.words = words.into_boxed_slice();
        self.head = 0;
    }

    /// Number of the first of the latest 64 rows, of those that are here.
    pub(crate) fn first_marked(&self) -> u64 {
        self.end().saturating_sub(64).max(self.first())
    }

    /// Which of the rows from [`Ring::first_marked`] on a filter lets through: bit `n` is the n-th of them. Only those in `places`
    /// are looked at.
    pub(crate) fn marks(&self, filter: usize, layout: Layout, places: Range<u64>) -> u64 {
        let ((word, bit), stride) = (layout.filter(filter), layout.stride());
        let shift = bit.trailing_zeros();
        let before = self.first_marked() - self.first();
        let places = places.start..places.end.min(u64::from(self.len) - before);
        if places.is_empty() {
            return 0;
        }
        let mut at = self.at((before + places.start) as usize, stride) + word;
        let mut marks = 0;
        for place in places {
            marks |= (self.words[at] >> shift & 1) << place;
            at += stride;
            if at >= self.words.len() {
                at -= self.words.len();
            }
        }
        marks
    }

    /// What an argument is in the marked rows, oldest first, where it is not NULL.
    pub(crate) fn arguments(&self, marks: u64, argument: usize, layout: Layout) -> Arguments<'_> {
        let (null, value) = (layout.null(argument), layout.values() + argument);
        let before = (self.first_marked() - self.first()) as usize;
        Arguments { ring: self, marks, before, stride: layout.stride(), null, value }
    }

    /// The rows from [`Ring::first_marked`] on that are marked, oldest first.
    pub(crate) fn marked(&self, mut marks: u64, layout: Layout) -> impl Iterator<Item = Row<'_>> {
        let (stride, before) = (layout.stride(), (self.first_marked() - self.first()) as usize);
        std::iter::from_fn(move || {
            let place = (marks != 0).then(|| marks.trailing_zeros() as usize)?;
            marks &= marks - 1;
            let at = self.at(before + place, stride);
            Some(Row { words: &self.words[at..at + stride], layout })
        })
    }

    /// The row numbered `number`, which must be here.
    pub fn row(&self, number: u64, layout: Layout) -> Row<'_> {
        let stride = layout.stride();
        let at = self.at((number - self.first()) as usize, stride);
        Row { words: &self.words[at..at + stride], layout }
    }

    /// Words of the buffer.
    pub(crate) fn held_words(&self) -> usize {
        self.words.len()
    }

    /// The first rows, one after another.
    pub(crate) fn first_words(&self, rows: u64, layout: Layout) -> Vec<u64> {
        let (used, head) = (rows as usize * layout.stride(), self.head as usize);
        let before_end = used.min(self.words.len() - head);
        [&self.words[head..head + before_end], &self.words[..used - before_end]].concat()
    }

    /// Gives back what the rows do not need.
    pub(crate) fn fit(&mut self, layout: Layout) {
        self.resize(self.len as usize, layout.stride());
    }

    /// Fetches the place where the next row goes, the row before it, and those that will be so many rows back from the
    /// end when it is there; `back` ascends from 1 at least.
    pub(crate) fn prefetch(&self, back: &[u64], layout: Layout) {
        let (len, stride) = (self.len as usize, layout.stride());
        let end = self.head as usize + len * stride;
        let row = |before_end: usize| {
            let at = end - before_end * stride;
            prefetch_word(&self.words, if at >= self.words.len() { at - self.words.len() } else { at });
        };
        row(0);
        if len == 0 {
            return;
        }
        row(1);
        for &back in back {
            // The row that comes is the first of them.
            let before_end = back as usize - 1;
            if before_end > len {
                break;
            }
            row(before_end);
        }
    }

    /// Fetches the first row.
    pub(crate) fn prefetch_first(&self) {
        prefetch_word(&self.words, self.head as usize);
    }

    /// Event time of the row numbered `number`, which must be here.
    pub(crate) fn time(&self, number: u64, layout: Layout) -> i64 {
        self.time_at((number - self.first()) as usize, layout.stride())
    }

    /// Event time of the row at a place, counted from the first one here.
    fn time_at(&self, place: usize, stride: usize) -> i64 {
        self.words[self.at(place, stride)] as i64
    }

    /// Number of the first row at or after `time`.
    pub fn lower_bound(&self, time: i64, layout: Layout) -> u64 {
        self.first() + self.search(0, self.len as usize, time, layout.stride())
    }

    /// The same, when it is likely to be near the last row.
    pub fn lower_bound_from_end(&self, time: i64, layout: Layout) -> u64 {
        let stride = layout.stride();
        let (mut high, mut width) = (self.len as usize, 1);
        // All rows from `high` on are at or after `time`.
        while high > 0 {
            let low = high.saturating_sub(width);
            if self.time_at(low, stride) < time {
                return self.first() + self.search(low + 1, high, time, stride);
            }
            (high, width) = (low, width * 2);
        }
        self.first()
    }

    /// The same, when it is likely to be near `from`, and not before it.
    pub fn lower_bound_after(&self, from: u64, time: i64, layout: Layout) -> u64 {
        let (stride, first, len) = (layout.stride(), self.first(), self.len as usize);
        let (mut low, mut width) = (from.saturating_sub(first) as usize, 1);
        // All rows before `low` are before `time`.
        while low < len {
            let high = (low + width).min(len) - 1;
            if self.time_at(high, stride) >= time {
                return first + self.search(low, high, time, stride);
            }
            (low, width) = (high + 1, width * 2);
        }
        self.end()
    }

    /// Place of the first row in `[low, high)` at or after `time`; `high` when there is none.
    fn search(&self, mut low: usize, mut high: usize, time: i64, stride: usize) -> u64 {
        while low < high {
            let middle = low + (high - low) / 2;
            if self.time_at(middle, stride) < time {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low as u64
    }

    /// Drops all rows before row `number`.
    pub fn drop_before(&mut self, number: u64, layout: Layout) {
        let number = number.min(self.end());
        if number <= self.first() {
            return;
        }
        let (dropped, stride) = ((number - self.first()) as usize, layout.stride());
        self.head = self.at(dropped, stride) as u32;
        self.len -= dropped as u32;
        self.first = number | (self.first & CUT);
        let used = self.len as usize * stride;
        if self.len == 0 {
            self.head = 0;
            if self.words.len() > 64 {
                self.words = Box::default();
            }
        } else if used * 4 < self.words.len() {
            // Rows are most of what an engine holds: what a key needs no more is given back.
            self.resize(self.len as usize * 2, stride);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LAYOUT: Layout = Layout { filters: 2, arguments: 1 };

    #[test]
    fn rows_keep_their_numbers_when_older_ones_are_dropped() {
        let mut ring = Ring::default();
        for i in 0..1000_u64 {
            ring.push(&LAYOUT.row(i as i64 * 10, i, &[0], &[Some(i)]));
        }
        ring.drop_before(700, LAYOUT);
        assert_eq!(ring.first(), 700);
        assert_eq!(ring.end(), 1000);
        assert_eq!(ring.row(700, LAYOUT).seq(), 700);
        assert_eq!(ring.row(999, LAYOUT).argument(0), Some(999));
        assert_eq!(ring.lower_bound(7005, LAYOUT), 701);
    }

    proptest! {
        /// Rows come and go; what is there is what was put in, wherever the buffer is cut.
        #[test]
        fn rows_are_found_by_number_and_by_time_wherever_the_buffer_begins(
            changes in prop::collection::vec((0_u64..4, 0_u64..3, prop::bool::weighted(0.3), 0_u64..9), 1..300),
        ) {
            let (mut ring, mut plain, mut now) = (Ring::default(), std::collections::VecDeque::new(), 0);
            for (gap, peers, drops, dropped) in changes {
                now += gap;
                for _ in 0..=peers {
                    plain.push_back((ring.end(), now));
                    ring.push(&LAYOUT.row(now as i64, ring.end(), &[0], &[Some(now * 3)]));
                }
                if drops {
                    ring.drop_before(ring.first() + dropped, LAYOUT);
                    plain.drain(..(dropped as usize).min(plain.len()));
                }
                prop_assert_eq!(ring.len() as usize, plain.len());
                for &(number, time) in &plain {
                    let row = ring.row(number, LAYOUT);
                    prop_assert_eq!((row.seq(), row.time() as u64, row.argument(0)), (number, time, Some(time * 3)));
                }
                for back in 0..8 {
                    let time = now as i64 + 1 - back;
                    let wanted = plain.iter().find(|row| row.1 as i64 >= time).map_or(ring.end(), |row| row.0);
                    prop_assert_eq!(ring.lower_bound(time, LAYOUT), wanted);
                    prop_assert_eq!(ring.lower_bound_from_end(time, LAYOUT), wanted);
                    for from in [ring.first(), wanted.saturating_sub(5), wanted] {
                        prop_assert_eq!(ring.lower_bound_after(from, time, LAYOUT), wanted);
                    }
                }
            }
        }
    }

    #[test]
    fn more_flags_than_fit_beside_the_number_have_words_of_their_own() {
        let few = Layout { filters: 16, arguments: 4 };
        assert_eq!((few.values(), few.stride()), (2, 6));
        let many = Layout { filters: 60, arguments: 70 };
        let mut arguments = vec![Some(9); 70];
        arguments[67] = None;
        let mut ring = Ring::default();
        ring.push(&many.row(-5, 77, &[3, 59], &arguments));
        let row = ring.row(0, many);
        assert_eq!((many.values(), row.time(), row.seq()), (4, -5, 77));
        assert_eq!((0..60).filter(|&bit| row.has(bit)).collect::<Vec<_>>(), [3, 59]);
        assert_eq!((row.argument(66), row.argument(67), row.argument(69)), (Some(9), None, Some(9)));
    }

    #[test]
    fn a_null_argument_is_not_a_value() {
        let mut ring = Ring::default();
        ring.push(&LAYOUT.row(0, 0, &[0], &[None]));
        assert_eq!(ring.row(0, LAYOUT).argument(0), None);
        assert!(ring.row(0, LAYOUT).has(0));
        assert!(!ring.row(0, LAYOUT).has(1));
    }
}
