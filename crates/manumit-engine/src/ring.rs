//! The rows of one key, in time order, in one flat buffer; and how they are read.
//!
//! A row is `time, seq, flag words, arguments`, each 64 bits; a flag is a filter that holds, or an argument that is NULL. Aggregates are derived from rows and
//! never stored here, so a key's state is its rows and nothing else.

/// Shape of a keyspace's rows.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Filters, each a flag of every row.
    pub filters: usize,
    /// Arguments kept of each row.
    pub arguments: usize,
}

impl Layout {
    /// Words of a row.
    pub fn stride(self) -> usize {
        self.values() + self.arguments
    }

    /// Word, and bit in it, of the flag that says that an argument is NULL.
    pub fn null(self, argument: usize) -> (usize, u64) {
        let flag = self.filters + argument;
        (2 + flag / 64, 1 << (flag % 64))
    }

    /// The word of the first argument.
    pub fn values(self) -> usize {
        2 + (self.filters + self.arguments).div_ceil(64).max(1)
    }
}

/// One key's rows.
///
/// # Invariants
/// Rows are ordered by time; `first` counts all rows ever dropped, so that a row's number never changes.
#[derive(Debug, Default)]
pub struct Ring {
    words: Vec<u64>,
    /// Words before this one belong to dropped rows.
    head: usize,
    /// Number of the first row still here.
    first: u64,
}

/// A view of one row.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    words: &'a [u64],
    layout: Layout,
}

impl Row<'_> {
    /// Event time, microseconds UTC.
    pub fn time(&self) -> i64 {
        self.words[0] as i64
    }
    /// Number of its transaction.
    pub fn seq(&self) -> u64 {
        self.words[1]
    }
    /// The filter with this bit holds.
    pub fn has(&self, bit: usize) -> bool {
        self.words[2 + bit / 64] >> (bit % 64) & 1 == 1
    }
    /// The argument's 64 bits, or `None` when it is NULL.
    pub fn argument(&self, index: usize) -> Option<u64> {
        let (word, bit) = self.layout.null(index);
        (self.words[word] & bit == 0).then(|| self.words[self.layout.values() + index])
    }
}

impl Ring {
    /// Number one past the last row.
    pub fn end(&self, layout: Layout) -> u64 {
        self.first + ((self.words.len() - self.head) / layout.stride()) as u64
    }

    /// Number of the first row still here.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// No rows are here.
    pub fn is_empty(&self) -> bool {
        self.words.len() == self.head
    }

    /// Appends a row; `row` has the layout's stride.
    pub fn push(&mut self, row: &[u64]) {
        let needed = self.words.len() + row.len();
        if needed > self.words.capacity() {
            if self.head * 4 >= self.words.len().max(1) {
                // What has expired makes room.
                self.words.drain(..self.head);
                self.head = 0;
            } else {
                // By a third, not to the double: rows are most of what an engine holds.
                self.words.reserve_exact(row.len().max(self.words.len() / 3));
            }
        }
        self.words.extend_from_slice(row);
    }

    /// The row numbered `number`, which must be here.
    pub fn row(&self, number: u64, layout: Layout) -> Row<'_> {
        let stride = layout.stride();
        let at = self.head + (number - self.first) as usize * stride;
        Row { words: &self.words[at..at + stride], layout }
    }

    /// Number of the first row at or after `time`.
    pub fn lower_bound(&self, time: i64, layout: Layout) -> u64 {
        let (mut low, mut high) = (self.first, self.end(layout));
        while low < high {
            let middle = low + (high - low) / 2;
            if self.row(middle, layout).time() < time {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Drops all rows before row `number`.
    pub fn drop_before(&mut self, number: u64, layout: Layout) {
        if number <= self.first {
            return;
        }
        self.head += (number - self.first) as usize * layout.stride();
        self.first = number;
        if self.head == self.words.len() {
            self.words.clear();
            self.head = 0;
            if self.words.capacity() > 64 {
                self.words.shrink_to_fit();
            }
        } else if self.head * 2 > self.words.len() {
            // Half of the buffer is free: moving the rest costs no more than what was appended since the last move. Also
            // where that is little: most keys have few rows, and there are many keys.
            self.words.drain(..self.head);
            self.head = 0;
            if self.words.capacity() > 4 * self.words.len() {
                self.words.shrink_to(2 * self.words.len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout { filters: 2, arguments: 1 };

    #[test]
    fn rows_keep_their_numbers_when_older_ones_are_dropped() {
        let mut ring = Ring::default();
        for i in 0..1000_u64 {
            ring.push(&[i * 10, i, 1, i]);
        }
        ring.drop_before(700, LAYOUT);
        assert_eq!(ring.first(), 700);
        assert_eq!(ring.end(LAYOUT), 1000);
        assert_eq!(ring.row(700, LAYOUT).seq(), 700);
        assert_eq!(ring.row(999, LAYOUT).argument(0), Some(999));
        assert_eq!(ring.lower_bound(7005, LAYOUT), 701);
    }

    #[test]
    fn more_than_64_arguments_have_more_words_for_nulls() {
        let layout = Layout { filters: 60, arguments: 70 };
        let mut row = vec![0; layout.stride()];
        let (word, bit) = layout.null(67);
        row[word] |= bit;
        row[layout.values() + 66] = 9;
        let mut ring = Ring::default();
        ring.push(&row);
        assert_eq!((layout.stride(), ring.end(layout)), (75, 1));
        assert_eq!(ring.row(0, layout).argument(66), Some(9));
        assert_eq!(ring.row(0, layout).argument(67), None);
    }

    #[test]
    fn a_null_argument_is_not_a_value() {
        let mut ring = Ring::default();
        ring.push(&[0, 0, 0b101, 42]);
        assert_eq!(ring.row(0, LAYOUT).argument(0), None);
        assert!(ring.row(0, LAYOUT).has(0));
        assert!(!ring.row(0, LAYOUT).has(1));
    }
}
