//! All rows of one key as one: the oldest outside memory, the others in a ring.

use std::ops::Range;

use crate::ring::{Layout, Ring, Row};
use crate::tail::Tail;

/// A key's rows, by number and in the order of time.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    ring: &'a Ring,
    tail: Option<&'a Tail>,
}

impl<'a> From<&'a Ring> for Rows<'a> {
    fn from(ring: &'a Ring) -> Rows<'a> {
        Rows { ring, tail: None }
    }
}

impl<'a> Rows<'a> {
    /// `tail`: the rows before those of the ring.
    pub(crate) fn new(ring: &'a Ring, tail: Option<&'a Tail>) -> Rows<'a> {
        Rows { ring, tail }
    }

    /// Number of the first row.
    pub fn first(self) -> u64 {
        self.tail.map_or(self.ring.first(), Tail::first)
    }

    /// Number one past the last row.
    pub fn end(self) -> u64 {
        self.ring.end()
    }

    /// Rows there are.
    pub fn len(self) -> u64 {
        self.end() - self.first()
    }

    /// There are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The row numbered `number`, which must be there.
    #[inline]
    pub fn row(self, number: u64, layout: Layout) -> Row<'a> {
        match self.tail {
            Some(tail) if number < self.ring.first() => tail.row(number, layout),
            _ => self.ring.row(number, layout),
        }
    }

    /// Event time of the row numbered `number`, which must be there.
    #[inline]
    pub fn time(self, number: u64, layout: Layout) -> i64 {
        match self.tail {
            Some(tail) if number < self.ring.first() => tail.row(number, layout).time(),
            _ => self.ring.time(number, layout),
        }
    }

    /// Shows the rows of these numbers, one after another.
    pub fn each(self, rows: Range<u64>, layout: Layout, mut show: impl FnMut(u64, Row<'_>)) {
        let mut from = rows.start;
        if from >= rows.end {
            return;
        }
        if let Some(tail) = self.tail
            && from < self.ring.first()
        {
            let to = rows.end.min(self.ring.first());
            tail.each(from..to, layout, &mut show);
            from = to;
        }
        for number in from..rows.end {
            show(number, self.ring.row(number, layout));
        }
    }

    /// The tail, if a search for `time` may end there.
    fn tail_at(self, time: i64, layout: Layout) -> Option<&'a Tail> {
        let first = |ring: &Ring| ring.row(ring.first(), layout).time();
        self.tail.filter(|_| self.ring.is_empty() || first(self.ring) >= time)
    }

    /// Number of the first row at or after `time`.
    pub fn lower_bound(self, time: i64, layout: Layout) -> u64 {
        let tail = self.tail_at(time, layout);
        tail.and_then(|tail| tail.lower_bound(time, layout))
            .unwrap_or_else(|| self.ring.lower_bound(time, layout))
    }

    /// The same, when it is likely to be near the last row.
    pub fn lower_bound_from_end(self, time: i64, layout: Layout) -> u64 {
        match self.tail_at(time, layout) {
            None => self.ring.lower_bound_from_end(time, layout),
            Some(_) => self.lower_bound(time, layout),
        }
    }

    /// The same, when it is likely to be near `from`, and not before it.
    pub fn lower_bound_after(self, from: u64, time: i64, layout: Layout) -> u64 {
        match self.tail {
            Some(_) if from < self.ring.first() => self.lower_bound(time, layout).max(from),
            _ => self.ring.lower_bound_after(from, time, layout),
        }
    }
}
