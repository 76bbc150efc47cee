//! Windows of rows: the latest rows of a key that pass an indicator's `where`, however old they are.

use crate::ring::{Layout, Ring};
use crate::scan;
use crate::window::{Value, WindowFeature};

/// Rows that a keyspace keeps for windows of rows over one `where`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LatestRows {
    /// Bit of the mask that says which rows are kept.
    pub filter: usize,
    /// Rows kept before the one that is looked at.
    pub before: u64,
}

/// Appends a row and gives its number. Of the rows before its time only so many are kept as windows of its peers reach.
pub(crate) fn push(ring: &mut Ring, words: &[u64], layout: Layout, before: u64) -> u64 {
    let number = ring.end();
    let begins_a_time = match number.checked_sub(1).filter(|&last| last >= ring.first()) {
        Some(last) => ring.row(last, layout).time() as u64 != words[0],
        None => true,
    };
    if begins_a_time {
        ring.drop_before(number.saturating_sub(before), layout);
    }
    ring.push(words);
    number
}

/// Numbers of the rows that a feature counts at row `own`.
pub(crate) fn counted<'a>(
    ring: &'a Ring,
    layout: Layout,
    feature: &'a WindowFeature,
    own: u64,
) -> impl Iterator<Item = u64> + 'a {
    let (before, with_row) = feature.frame.rows().unwrap_or((0, false));
    let first = own.saturating_sub(before).max(ring.first());
    (first..own + u64::from(with_row)).filter(move |&number| ring.row(number, layout).has(feature.filter))
}

/// The feature's value at row `own`.
pub(crate) fn evaluate(ring: &Ring, layout: Layout, feature: &WindowFeature, own: u64) -> Value {
    scan::value(ring.into(), layout, feature, counted(ring, layout, feature, own))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout { filters: 1, arguments: 0 };

    #[test]
    fn peers_of_the_row_do_not_push_out_what_its_window_reaches() {
        let mut ring = Ring::default();
        for time in [1, 2, 3, 9, 9, 9, 9] {
            push(&mut ring, &LAYOUT.row(time, 0, &[0], &[]), LAYOUT, 2);
        }
        // The first row at 9 is number 3, and two rows before it are there.
        assert_eq!(ring.first(), 1);
        push(&mut ring, &LAYOUT.row(10, 0, &[0], &[]), LAYOUT, 2);
        assert_eq!((ring.first(), ring.end()), (5, 8));
    }
}
