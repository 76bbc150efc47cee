//! Making room: rows that are older than an age leave memory, a few keys at a time.

use std::sync::Arc;

use super::{Key, Space};
use crate::ring::Layout;
use crate::tail::{Shelf, StateUse, Tail};

/// What one shard's rows may take, and how old they have to be to go.
///
/// The hand goes round all keys of all keyspaces and moves out what is older than `age`. Walking past keys that give nothing
/// is what it costs, so the age follows from what ways round give: it is halved after one that gave less than a quarter of
/// what rows may take, and grows after one that gave more than all of it. After some that gave next to nothing it rests until
/// more has come: keys with few rows stay, and squeezing the others would only have them read back at once. So the bound
/// is a soft one, and [`StateUse::memory`] tells how well it holds.
#[derive(Debug)]
pub(crate) struct Room {
    pub shelf: Arc<Shelf>,
    /// Words that rings and blocks read back may take.
    words: usize,
    age: i64,
    longest: i64,
    /// The keyspace where the hand is.
    space: usize,
    /// Words that this way round has given so far.
    gave: usize,
    /// Words that must be held before the hand moves again: more than `words` when it could not make room.
    next: usize,
}

/// Keys that the hand passes before it is asked again whether there is room.
const KEYS_AT_ONCE: usize = 256;

/// Ways round that give next to nothing, each at half the age of the one before, until the hand rests.
const IN_VAIN: u32 = 3;

impl Room {
    /// `retention`: rows are never older than this, microseconds.
    pub(crate) fn new(shelf: Arc<Shelf>, bytes: usize, retention: i64) -> Room {
        let words = bytes / 8;
        Room { shelf, words, age: retention / 2, longest: retention, space: 0, gave: 0, next: words }
    }

    fn held(&self, spaces: &[Space]) -> usize {
        spaces.iter().map(|space| space.held).sum::<usize>() + self.shelf.read_words()
    }

    /// Moves rows out until those that stay take less than they may, if they take more. `now`: no row is younger.
    pub(crate) fn make(&mut self, spaces: &mut [Space], now: i64) {
        if self.held(spaces) <= self.next {
            return;
        }
        // A little more than needed, so that the hand is not asked for at every chunk.
        let wanted = self.words - self.words / 16;
        let mut in_vain = 0;
        loop {
            let held = self.held(spaces);
            if held <= wanted {
                self.next = self.words;
                return;
            }
            let Some(space) = spaces.get_mut(self.space) else { return };
            // Blocks that were read go when they take much: until then their keys are likely to ask again.
            let forgets = self.shelf.read_words() > self.words / 8;
            space.move_out(KEYS_AT_ONCE, now.saturating_sub(self.age), &self.shelf, forgets);
            let ended = space.hand == 0;
            self.gave += held.saturating_sub(self.held(spaces));
            if !ended {
                continue;
            }
            self.space = (self.space + 1) % spaces.len();
            if self.space > 0 {
                continue;
            }
            let gave = std::mem::take(&mut self.gave);
            if gave < self.words / 4 {
                self.age /= 2;
            } else if gave > self.words {
                self.age = (self.age + self.age / 4 + 1).min(self.longest);
            }
            in_vain = if gave < (self.words / 16).max(1) { in_vain + 1 } else { 0 };
            if in_vain == IN_VAIN {
                self.next = self.held(spaces) + self.words / 4;
                return;
            }
        }
    }
}

impl Space {
    /// Moves rows before `cutoff` out of the next `count` keys, and `forgets` what was read back of their rows. After the
    /// last key the hand stands at the first.
    fn move_out(&mut self, count: usize, cutoff: i64, shelf: &Arc<Shelf>, forgets: bool) {
        let (layout, start) = (self.layout, self.hand);
        let end = (start + count).min(self.keys.len());
        for slot in start..end {
            if let Some(ahead) = self.keys.get(slot + 8) {
                ahead.ring.prefetch_first();
            }
            let key = &mut self.keys[slot];
            let before = key.ring.held_words();
            if forgets && let Some(tail) = key.more.as_mut().and_then(|more| more.tail.as_mut()) {
                tail.forget();
            }
            key.move_out(cutoff, layout, shelf);
            key.recount(&mut self.beside);
            self.held = (self.held + key.ring.held_words()).saturating_sub(before);
        }
        self.hand = if end == self.keys.len() { 0 } else { end };
    }

    /// What its rows take in memory, and how many keys have some.
    pub(crate) fn state_use(&self) -> StateUse {
        let keys = (self.keys.len() - 1 - self.free.len()) as u64;
        let (memory, beside) = (self.held as u64 * 8, self.beside as u64);
        StateUse { memory, keys, beside, refused: self.refused, ..StateUse::default() }
    }
}

impl Key {
    fn move_out(&mut self, cutoff: i64, layout: Layout, shelf: &Arc<Shelf>) {
        let Key { ring, more, .. } = self;
        if ring.is_empty() || ring.row(ring.first(), layout).time() >= cutoff {
            return;
        }
        let old = Tail::worth_moving(ring.lower_bound(cutoff, layout) - ring.first(), ring.len());
        if old == 0 {
            return;
        }
        let first = ring.first();
        let more = more.get_or_insert_default();
        let tail = more.tail.get_or_insert_with(|| Box::new(Tail::new(shelf.clone(), first)));
        ring.set_cut(true);
        tail.append(&ring.first_words(old, layout), layout);
        ring.drop_before(first + old, layout);
        ring.fit(layout);
    }
}
