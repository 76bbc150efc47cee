//! Numbers found by hash: which slot a key has, which number a text has.
//!
//! An open-addressed table of `hash, number` in one word each, so that a look-up costs one cache line, growing asks
//! nothing of what is numbered, and the line can be fetched ahead of its use.
//!
//! # Source
//! Linear probing with backward-shift deletion: Knuth, «The Art of Computer Programming», volume 3, 6.4, algorithm R.

use crate::prefetch::prefetch;

/// Numbers by hash. Several may have one hash: whoever asks compares what they stand for.
///
/// # Invariants
/// The length is a power of two, and a quarter of the places is empty at least, so that every search ends.
#[derive(Default)]
pub(crate) struct Index {
    /// The hash's lower half above the number plus one; 0 is empty.
    places: Vec<u64>,
    used: usize,
}

impl Index {
    fn place_of(&self, hash: u64) -> usize {
        hash as u32 as usize & (self.places.len() - 1)
    }

    /// Fetches what a search for this hash will look at first.
    pub(crate) fn prefetch(&self, hash: u64) {
        if !self.places.is_empty() {
            prefetch(&self.places[self.place_of(hash)]);
        }
    }

    /// The number with this hash for which `is` holds.
    pub(crate) fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        if self.places.is_empty() {
            return None;
        }
        let mut place = self.place_of(hash);
        loop {
            let found = self.places[place];
            if found == 0 {
                return None;
            }
            if (found >> 32) as u32 == hash as u32 && is(found as u32 - 1) {
                return Some(found as u32 - 1);
            }
            place = (place + 1) & (self.places.len() - 1);
        }
    }

    /// Adds a number, which must not be there.
    pub(crate) fn insert(&mut self, hash: u64, number: u32) {
        if (self.used + 1) * 4 > self.places.len() * 3 {
            let grown = vec![0; (self.places.len() * 2).max(64)];
            for known in std::mem::replace(&mut self.places, grown) {
                if known != 0 {
                    self.put(known);
                }
            }
        }
        self.put(u64::from(hash as u32) << 32 | (u64::from(number) + 1));
        self.used += 1;
    }

    fn put(&mut self, word: u64) {
        let mut place = self.place_of(word >> 32);
        while self.places[place] != 0 {
            place = (place + 1) & (self.places.len() - 1);
        }
        self.places[place] = word;
    }

    /// Bytes of the table.
    pub(crate) fn bytes(&self) -> usize {
        self.places.capacity() * 8
    }

    /// Takes a number out.
    pub(crate) fn remove(&mut self, hash: u64, number: u32) {
        let word = u64::from(hash as u32) << 32 | (u64::from(number) + 1);
        if self.places.is_empty() {
            return;
        }
        let last = self.places.len() - 1;
        let mut hole = self.place_of(hash);
        while self.places[hole] != word {
            if self.places[hole] == 0 {
                return;
            }
            hole = (hole + 1) & last;
        }
        // What was put behind the hole because its own place was taken moves up, or no search would find it.
        let mut next = hole;
        loop {
            next = (next + 1) & last;
            let found = self.places[next];
            if found == 0 {
                break;
            }
            let own = self.place_of(found >> 32);
            if (next.wrapping_sub(own) & last) >= (next.wrapping_sub(hole) & last) {
                self.places[hole] = found;
                hole = next;
            }
        }
        self.places[hole] = 0;
        self.used -= 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few hashes, so that many numbers share one and searches go over the end of the table.
        #[test]
        fn what_was_put_in_and_not_taken_out_is_found(
            changes in prop::collection::vec((prop::bool::weighted(0.6), 0_u64..80, 0_u32..500), 1..600),
        ) {
            let mut index = Index::default();
            let mut known = std::collections::BTreeMap::new();
            for (add, hash, number) in changes {
                let hash = (hash * 7) | (hash << 40);
                if add && !known.contains_key(&number) {
                    index.insert(hash, number);
                    known.insert(number, hash);
                } else if let Some(hash) = known.remove(&number) {
                    index.remove(hash, number);
                }
                for (&number, &hash) in &known {
                    prop_assert_eq!(index.find(hash, |n| n == number), Some(number));
                }
                prop_assert_eq!(index.used, known.len());
            }
        }
    }
}
