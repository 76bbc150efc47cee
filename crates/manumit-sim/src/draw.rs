//! Drawing from the seeded generator: one stream per idea, so that changing one leaves the others alone.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::calendar::HOUR;

/// The generator of one idea.
pub(crate) struct Draw(ChaCha8Rng);

/// Hours at which people shop, weight per hour of the day.
pub(crate) const SHOPPING: [u32; 24] =
    [0, 0, 0, 0, 0, 0, 1, 4, 8, 9, 10, 9, 8, 7, 7, 9, 12, 14, 12, 8, 3, 1, 0, 0];
/// Hours at which people eat out.
pub(crate) const MEALS: [u32; 24] =
    [1, 0, 0, 0, 0, 0, 1, 3, 4, 3, 4, 8, 16, 12, 5, 3, 3, 6, 12, 14, 10, 6, 3, 2];
/// Hours at which people travel.
pub(crate) const TRAVEL: [u32; 24] =
    [1, 1, 0, 0, 1, 4, 9, 12, 10, 6, 5, 5, 5, 5, 6, 8, 11, 11, 8, 5, 4, 3, 2, 2];
/// Hours at which people sit at their phone.
pub(crate) const AT_HOME: [u32; 24] =
    [2, 1, 0, 0, 0, 0, 1, 3, 4, 4, 5, 5, 6, 5, 5, 5, 6, 8, 9, 11, 12, 11, 7, 4];
/// Hours at which people go to a cash machine.
pub(crate) const CASH: [u32; 24] =
    [1, 1, 1, 0, 0, 1, 2, 4, 7, 9, 11, 11, 10, 8, 8, 9, 11, 11, 9, 6, 4, 3, 2, 2];
/// Hours of the evening and night, for services paid then.
pub(crate) const EVENING: [u32; 24] =
    [7, 5, 3, 2, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 1, 2, 2, 3, 6, 8, 10, 12, 13, 10];
/// Hours from 22:00 to 05:59.
pub(crate) const NIGHT: [u32; 24] =
    [10, 8, 6, 4, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 12];
/// Office hours.
pub(crate) const OFFICE: [u32; 24] =
    [0, 0, 0, 0, 0, 0, 0, 2, 8, 12, 12, 10, 7, 8, 10, 10, 8, 4, 1, 0, 0, 0, 0, 0];

impl Draw {
    /// The generator number `stream` of `seed`.
    pub(crate) fn new(seed: u64, stream: u64) -> Draw {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Draw(rng)
    }

    /// An integer from `low` to `high`, both included.
    pub(crate) fn int(&mut self, low: i64, high: i64) -> i64 {
        if low >= high { low } else { self.0.random_range(low..=high) }
    }

    /// An unsigned integer from `low` to `high`, both included.
    pub(crate) fn count(&mut self, low: u32, high: u32) -> u32 {
        if low >= high { low } else { self.0.random_range(low..=high) }
    }

    /// An index below `len` (0 for an empty list).
    pub(crate) fn index(&mut self, len: usize) -> usize {
        if len < 2 { 0 } else { self.0.random_range(0..len as u32) as usize }
    }

    /// True in `percent` of 100 cases.
    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.permille(percent * 10)
    }

    /// True in `permille` of 1000 cases.
    pub(crate) fn permille(&mut self, permille: u32) -> bool {
        self.0.random_range(0..1000) < permille
    }

    /// An integer from `low` to `high` with small values more likely than large ones.
    pub(crate) fn skewed(&mut self, low: i64, high: i64) -> i64 {
        let (a, b) = (self.int(0, 1000), self.int(0, 1000));
        low + (high - low) * a * b / 1_000_000
    }

    /// An amount in cents as a price tag shows it: skewed, and often ending in 9 or 0.
    pub(crate) fn price(&mut self, low: i64, high: i64) -> i64 {
        let amount = self.skewed(low, high);
        match self.int(0, 9) {
            0..=3 => amount - amount % 10 + 9,
            4 | 5 => amount - amount % 50 + 50,
            _ => amount.max(1),
        }
    }

    /// A time of day in seconds, the hour by `weights`.
    pub(crate) fn time(&mut self, weights: &[u32; 24]) -> i64 {
        let total: u32 = weights.iter().sum();
        let mut left = self.0.random_range(0..total.max(1));
        let mut hour = 0;
        for (at, &weight) in weights.iter().enumerate() {
            if left < weight {
                hour = at as i64;
                break;
            }
            left -= weight;
        }
        hour * HOUR + self.int(0, HOUR - 1)
    }

    /// A number that marks one transaction among all.
    pub(crate) fn mark(&mut self) -> u64 {
        self.0.random_range(1..=u64::MAX)
    }

    /// Shuffles in place.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        items.shuffle(&mut self.0);
    }

    /// `count` different numbers below `len`, in random order.
    pub(crate) fn choose(&mut self, len: usize, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..len).collect();
        self.shuffle(&mut all);
        all.truncate(count);
        all
    }
}
