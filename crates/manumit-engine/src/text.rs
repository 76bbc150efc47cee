//! Text as state holds it: in place where it is short, and numbered where equality is all that counts.

use std::hash::BuildHasher;

use crate::index::Index;
use crate::parts::Parts;
use crate::prefetch::prefetch;

/// How texts are hashed, everywhere in an engine: keys are routed and found, values numbered by it.
pub(crate) type Hasher = foldhash::quality::RandomState;

/// The hash of a text.
pub(crate) fn hash(hasher: &Hasher, text: &str) -> u64 {
    hasher.hash_one(text)
}

/// Which of so many shards keeps the key with this hash. Not by the half of it that finds the key within the shard.
pub(crate) fn shard_of(hash: u64, shards: usize) -> usize {
    (((hash >> 32) * shards as u64) >> 32) as usize
}

/// A text; of up to 22 bytes, which most account numbers have, in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Text {
    Short { len: u8, bytes: [u8; SHORT] },
    Long(Box<str>),
}

const SHORT: usize = 22;

impl Default for Text {
    fn default() -> Self {
        Text::Short { len: 0, bytes: [0; SHORT] }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        if text.len() > SHORT {
            return Text::Long(text.into());
        }
        let mut bytes = [0; SHORT];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Text::Short { len: text.len() as u8, bytes }
    }
}

impl Text {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Text::Short { len, bytes } => &bytes[..usize::from(*len).min(SHORT)],
            Text::Long(text) => text.as_bytes(),
        }
    }

    /// Bytes that it takes elsewhere.
    pub(crate) fn outside(&self) -> usize {
        match self {
            Text::Short { .. } => 0,
            Text::Long(text) => text.len(),
        }
    }

    pub(crate) fn is(&self, text: &str) -> bool {
        equal(self.as_bytes(), text.as_bytes())
    }

    pub(crate) fn as_str(&self) -> &str {
        // Made from a str, so it is one.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

/// Two texts are the same. Of most lengths that account numbers have, two words that may overlap are all there is to
/// compare, which is less than the call of a function.
fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match (a.first_chunk::<8>(), a.last_chunk::<8>()) {
        (first, last) if first.is_some() && a.len() <= 16 => {
            first == b.first_chunk::<8>() && last == b.last_chunk::<8>()
        }
        _ => a == b,
    }
}

/// A text in half a cache line, so that looking at it never costs two.
#[repr(align(32))]
struct Entry {
    text: Text,
    /// Event time of the latest row that has it; [`FREE`] when its number has none.
    used: i64,
}

/// No text has the number.
const FREE: i64 = i64::MIN;

/// A set of numbers.
#[derive(Default)]
pub(crate) struct Numbers(Vec<u64>);

impl Numbers {
    pub(crate) fn add(&mut self, number: usize) {
        if self.0.len() <= number / 64 {
            self.0.resize(number / 64 + 1, 0);
        }
        self.0[number / 64] |= 1 << (number % 64);
    }

    fn has(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }
}

/// Texts of one shard, numbered: equal text is an equal number. A number is given to another text when the last row that has it
/// is out of all windows' reach.
#[derive(Default)]
pub(crate) struct Interner {
    index: Index,
    texts: Parts<Entry>,
    free: Vec<u32>,
    /// Bytes of texts that are too long for their place.
    long: usize,
    /// The number that is looked at next when room is made.
    hand: usize,
}

impl Interner {
    /// The number of a text with this hash, which a row of `time` has.
    pub(crate) fn intern(&mut self, hash: u64, text: &str, time: i64) -> u32 {
        let texts = &self.texts;
        if let Some(number) = self.index.find(hash, |number| texts[number as usize].text.is(text)) {
            let entry = &mut self.texts[number as usize];
            entry.used = entry.used.max(time);
            return number;
        }
        let entry = Entry { text: text.into(), used: time.max(FREE + 1) };
        self.long += entry.text.outside();
        let number = match self.free.pop() {
            Some(number) => {
                self.texts[number as usize] = entry;
                number
            }
            None => self.texts.push(entry),
        };
        self.index.insert(hash, number);
        number
    }

    /// Texts that have a number.
    pub(crate) fn known(&self) -> usize {
        self.texts.len() - self.free.len()
    }

    /// Forgets the texts that no row at or after `oldest` has, and no older one that is still looked at: of these `held` has the numbers.
    pub(crate) fn keep_only(&mut self, hasher: &Hasher, oldest: i64, held: &Numbers) {
        for number in 0..self.texts.len() {
            if !held.has(number) {
                self.forget(hasher, oldest, number);
            }
        }
    }

    /// Forgets the texts that no row at or after `oldest` has, of the next `count` numbers of a way round all of them.
    pub(crate) fn sweep(&mut self, hasher: &Hasher, oldest: i64, count: usize) {
        let end = (self.hand + count).min(self.texts.len());
        for number in self.hand..end {
            self.forget(hasher, oldest, number);
        }
        self.hand = if end == self.texts.len() { 0 } else { end };
    }

    fn forget(&mut self, hasher: &Hasher, oldest: i64, number: usize) {
        let entry = &mut self.texts[number];
        if entry.used == FREE || entry.used >= oldest {
            return;
        }
        self.index.remove(hash(hasher, entry.text.as_str()), number as u32);
        self.long -= entry.text.outside();
        *entry = Entry { text: Text::default(), used: FREE };
        self.free.push(number as u32);
    }

    /// Bytes that all of it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.texts.len() * size_of::<Entry>() + self.index.bytes() + self.free.capacity() * 4 + self.long
    }

    /// First of three steps of a look-up, each to be made some texts ahead of the next.
    pub(crate) fn prefetch(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Second step.
    pub(crate) fn prefetch_text(&self, hash: u64) {
        if let Some(number) = self.index.find(hash, |_| true) {
            prefetch(&self.texts[number as usize]);
        }
    }

    /// The text of a number; nothing for one that was not given.
    pub(crate) fn text(&self, number: u64) -> &str {
        self.texts.get(number as usize).map_or("", |entry| entry.text.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_all_lengths_keep_their_numbers_and_letters() {
        let hasher = Hasher::default();
        let mut interner = Interner::default();
        let texts: Vec<String> = (0..60).flat_map(|n| ["ä".repeat(n), "x".repeat(n)]).collect();
        let numbers: Vec<u32> = texts.iter().map(|t| interner.intern(hash(&hasher, t), t, 0)).collect();
        for (text, number) in texts.iter().zip(numbers) {
            assert_eq!(interner.intern(hash(&hasher, text), text, 0), number);
            assert_eq!(interner.text(u64::from(number)), text);
        }
        // "" came twice.
        assert_eq!(interner.texts.len(), texts.len() - 1);
        assert_eq!((size_of::<Text>(), size_of::<Entry>()), (24, 32));
    }

    #[test]
    fn what_no_row_in_reach_has_is_forgotten_and_its_number_given_again() {
        let hasher = Hasher::default();
        let mut interner = Interner::default();
        let name = |n: i64| format!("account number {n:08} of a bank");
        let mut most = 0;
        for n in 0..40_000_i64 {
            let (text, busy) = (name(n), name(n % 7));
            interner.intern(hash(&hasher, &text), &text, n);
            interner.intern(hash(&hasher, &busy), &busy, n);
            if n % 100 == 99 {
                interner.sweep(&hasher, n - 1_000, 300);
            }
            most = most.max(interner.bytes());
        }
        // A thousand are in reach, and no more than some are still to be found: not forty thousand.
        assert!(interner.texts.len() < 4_000, "{}", interner.texts.len());
        assert!(most < 4_000 * (32 + 16 + 4 + 31), "{most}");
        for n in (0..7).chain(39_000..40_000) {
            let text = name(n);
            let number = interner.intern(hash(&hasher, &text), &text, 40_000);
            assert_eq!(interner.text(u64::from(number)), text);
        }
        // The rest of the way it was on, and one from the beginning.
        (0..2).for_each(|_| interner.sweep(&hasher, 50_000, 10_000));
        assert_eq!((interner.free.len(), interner.long), (interner.texts.len(), 0));
    }

    #[test]
    fn what_is_held_is_kept_however_old_it_is() {
        let hasher = Hasher::default();
        let mut interner = Interner::default();
        let name = |n: i64| format!("account number {n:08} of a bank");
        let number = |interner: &mut Interner, n: i64| interner.intern(hash(&hasher, &name(n)), &name(n), n);
        let numbers: Vec<u32> = (0..1_000).map(|n| number(&mut interner, n)).collect();
        let mut held = Numbers::default();
        [3, 64, 500].iter().for_each(|n: &usize| held.add(numbers[*n] as usize));
        interner.keep_only(&hasher, 900, &held);
        assert_eq!(interner.known(), 3 + 100);
        for n in [3, 64, 500, 900, 999] {
            assert_eq!(interner.text(u64::from(numbers[n])), name(n as i64));
        }
        assert_eq!(interner.long, 103 * name(0).len());
        // The others' numbers are given again, and nothing grows.
        (1_000..1_897).for_each(|n| {
            number(&mut interner, n);
        });
        assert_eq!(interner.texts.len(), 1_000);
    }

    #[test]
    fn a_letter_more_or_another_one_anywhere_is_another_text() {
        for len in 0..40 {
            let text = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnop"[..len].to_string();
            let held = Text::from(text.as_str());
            assert!(held.is(&text) && !held.is(&format!("{text}x")));
            for at in 0..len {
                let mut other = text.clone().into_bytes();
                other[at] = b'#';
                assert!(!held.is(std::str::from_utf8(&other).unwrap()), "{len} {at}");
            }
        }
    }
}
