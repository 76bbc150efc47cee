//! Rows of one key that can be steps of sequences: a ring of their own, with a list of row numbers for each step's
//! filter, so that a search looks at no row of another kind.

use std::collections::VecDeque;
use std::ops::Range;

use crate::ring::{Layout, Ring, Row};

/// One key's rows of steps, of all sequences of the keyspace.
pub(crate) struct StepRows {
    ring: Ring,
    /// Per step filter of the keyspace: numbers of the rows that pass it, ascending.
    lists: Vec<VecDeque<u64>>,
}

impl StepRows {
    /// No rows; `lists` is the number of different step filters.
    pub(crate) fn new(lists: usize) -> StepRows {
        StepRows { ring: Ring::default(), lists: vec![VecDeque::new(); lists] }
    }

    /// Appends a row that passes the filters `bits`, in the order of the lists, says it does. Gives its number, and
    /// whether an older row that a sequence might still have used had to go: of more than `most` rows the oldest is
    /// dropped, and is missed when it is not older than `horizon`.
    pub(crate) fn push(
        &mut self,
        words: &[u64],
        layout: Layout,
        bits: &[usize],
        most: usize,
        horizon: i64,
    ) -> (u64, bool) {
        let number = self.ring.end();
        self.ring.push(words);
        let row = self.ring.row(number, layout);
        for (list, &bit) in self.lists.iter_mut().zip(bits) {
            if row.has(bit) {
                list.push_back(number);
            }
        }
        let first = self.ring.first();
        if number - first < most as u64 {
            return (number, false);
        }
        let missed = self.ring.row(first, layout).time() >= horizon;
        self.drop_before(first + 1, layout);
        (number, missed)
    }

    /// Drops rows older than `horizon`.
    pub(crate) fn expire(&mut self, horizon: i64, layout: Layout) {
        if !self.ring.is_empty() && self.ring.row(self.ring.first(), layout).time() < horizon {
            self.drop_before(self.ring.lower_bound(horizon, layout), layout);
        }
    }

    /// Time of the oldest row.
    pub(crate) fn first_time(&self, layout: Layout) -> Option<i64> {
        (!self.ring.is_empty()).then(|| self.ring.row(self.ring.first(), layout).time())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Bytes that they take.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<StepRows>()
            + self.ring.held_words() * 8
            + self.lists.iter().map(|list| size_of_val(list) + list.capacity() * 8).sum::<usize>()
    }

    /// The row numbered `number`, which must be here.
    pub(crate) fn row(&self, number: u64, layout: Layout) -> Row<'_> {
        self.ring.row(number, layout)
    }

    /// Numbers of the rows of a list.
    pub(crate) fn list(&self, list: usize) -> &VecDeque<u64> {
        &self.lists[list]
    }

    /// Places in a list of the rows whose times lie in `times`.
    pub(crate) fn places(&self, list: usize, times: Range<i64>, layout: Layout) -> Range<usize> {
        let list = &self.lists[list];
        let from = list.partition_point(|&number| self.ring.row(number, layout).time() < times.start);
        let end = list.partition_point(|&number| self.ring.row(number, layout).time() < times.end);
        from..end.max(from)
    }

    fn drop_before(&mut self, first: u64, layout: Layout) {
        for list in &mut self.lists {
            while list.front().is_some_and(|&number| number < first) {
                list.pop_front();
            }
            if list.is_empty() && list.capacity() > 1024 {
                list.shrink_to_fit();
            }
        }
        self.ring.drop_before(first, layout);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout { filters: 4, arguments: 0 };

    fn push(rows: &mut StepRows, time: i64, mask: u64, most: usize, horizon: i64) -> (u64, bool) {
        let filters: Vec<usize> = (0..4).filter(|bit| mask >> bit & 1 == 1).collect();
        rows.push(&LAYOUT.row(time, time as u64, &filters, &[]), LAYOUT, &[0, 3], most, horizon)
    }

    #[test]
    fn lists_hold_the_rows_of_their_filter_and_forget_them_with_the_ring() {
        let mut rows = StepRows::new(2);
        for (time, mask) in [(10, 0b1), (20, 0b1000), (20, 0b1001), (30, 0b1)] {
            push(&mut rows, time, mask, 100, 0);
        }
        assert_eq!(rows.list(0), &[0, 2, 3]);
        assert_eq!(rows.list(1), &[1, 2]);
        assert_eq!(rows.places(0, 10..30, LAYOUT), 0..2);
        assert_eq!(rows.places(0, 11..20, LAYOUT), 1..1);
        rows.expire(20, LAYOUT);
        assert_eq!(rows.list(0), &[2, 3]);
        rows.expire(31, LAYOUT);
        assert!(rows.is_empty() && rows.list(0).is_empty() && rows.list(1).is_empty());
    }

    #[test]
    fn beyond_the_bound_the_oldest_row_goes_and_is_missed_unless_it_was_out_of_reach() {
        let mut rows = StepRows::new(2);
        assert_eq!(push(&mut rows, 10, 1, 2, 0), (0, false));
        assert_eq!(push(&mut rows, 20, 1, 2, 0), (1, false));
        assert_eq!(push(&mut rows, 30, 1, 2, 20), (2, false));
        assert_eq!(push(&mut rows, 40, 1, 2, 20), (3, true));
        assert_eq!(rows.list(0), &[2, 3]);
    }
}
