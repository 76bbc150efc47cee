//! What is known of a condition, as bits by row, and columns of few different texts.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, StringArray};
use datafusion::arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};

/// A column of few different texts: what is asked of a text alone is asked of each once, not of each row.
pub(super) struct Coded {
    pub(super) texts: ArrayRef,
    /// By row, place among the texts.
    pub(super) codes: Vec<u8>,
}

/// Different texts at most. Beside codes, methods, categories, countries and cities of most banks are no more.
pub(super) const FEW_TEXTS: usize = 128;

/// In a smaller batch rows are asked as they are.
pub(super) const CODED_ROWS: usize = 256;

impl Coded {
    pub(super) fn of(array: &StringArray) -> Option<Coded> {
        let mut places: hashbrown::HashMap<&str, u8> = hashbrown::HashMap::new();
        let (mut texts, mut nobody): (Vec<Option<&str>>, Option<u8>) = (Vec::new(), None);
        let mut codes = Vec::with_capacity(array.len());
        for row in 0..array.len() {
            let text = array.is_valid(row).then(|| array.value(row));
            let known = match text {
                None => nobody,
                Some(text) => places.get(text).copied(),
            };
            codes.push(match known {
                Some(code) => code,
                None if texts.len() == FEW_TEXTS => return None,
                None => {
                    let code = texts.len() as u8;
                    match text {
                        None => nobody = Some(code),
                        Some(text) => {
                            places.insert(text, code);
                        }
                    }
                    texts.push(text);
                    code
                }
            });
        }
        Some(Coded { texts: Arc::new(StringArray::from(texts)), codes })
    }

    /// What is said of the texts, of the rows.
    pub(super) fn spread(&self, said: &Truth) -> Truth {
        let bit = |words: &[u64], at: usize| words[at / 64] >> (at % 64) & 1;
        let of_text: Vec<(u64, u64)> =
            (0..self.texts.len()).map(|at| (bit(&said.holds, at), bit(&said.fails, at))).collect();
        let words = self.codes.len().div_ceil(64);
        let (mut holds, mut fails) = (Vec::with_capacity(words), Vec::with_capacity(words));
        for codes in self.codes.chunks(64) {
            let (mut held, mut failed) = (0, 0);
            for (row, &code) in codes.iter().enumerate() {
                let (holds, fails) = of_text[usize::from(code)];
                held |= holds << row;
                failed |= fails << row;
            }
            holds.push(held);
            fails.push(failed);
        }
        Truth { holds, fails, done: None }
    }
}

/// Rows at which a condition holds, and those at which it does not; at others it is NULL, or not worked out.
#[derive(Clone)]
pub(super) struct Truth {
    pub(super) holds: Vec<u64>,
    pub(super) fails: Vec<u64>,
    /// Rows that are worked out; `None`: all.
    pub(super) done: Option<Vec<u64>>,
}

impl Truth {
    pub(super) fn covers(&self, rows: &[u64]) -> bool {
        self.done.as_ref().is_none_or(|done| rows.iter().zip(done).all(|(rows, done)| rows & !done == 0))
    }

    pub(super) fn of(array: &BooleanArray) -> Truth {
        let values = words(array.values());
        match array.nulls() {
            None => {
                let fails = words(&!array.values());
                Truth { holds: values, fails, done: None }
            }
            Some(nulls) => {
                let known = words(nulls.inner());
                let holds = values.iter().zip(&known).map(|(value, known)| value & known).collect();
                let fails = values.iter().zip(&known).map(|(value, known)| !value & known).collect();
                Truth { holds, fails, done: None }
            }
        }
    }

    pub(super) fn to_array(&self, rows: usize) -> ArrayRef {
        let known: Vec<u64> =
            self.holds.iter().zip(&self.fails).map(|(holds, fails)| holds | fails).collect();
        let nulls = NullBuffer::new(buffer(known, rows));
        let nulls = (nulls.null_count() > 0).then_some(nulls);
        Arc::new(BooleanArray::new(buffer(self.holds.clone(), rows), nulls))
    }
}

/// Bits of rows as words, without those beyond the last row.
pub(super) fn words(bits: &BooleanBuffer) -> Vec<u64> {
    bits.bit_chunks().iter_padded().take(bits.len().div_ceil(64)).collect()
}

pub(super) fn buffer(words: Vec<u64>, rows: usize) -> BooleanBuffer {
    BooleanBuffer::new(Buffer::from_vec(words), 0, rows)
}

pub(super) fn count(words: &[u64]) -> usize {
    words.iter().map(|word| word.count_ones() as usize).sum()
}

pub(super) fn or(bits: &mut [u64], more: &[u64]) {
    bits.iter_mut().zip(more).for_each(|(bits, more)| *bits |= more);
}

/// Bits that stand one after another in `packed`, to the places of the bits that are set in `places`.
pub(super) fn spread(packed: &[u64], places: &[u64]) -> Vec<u64> {
    let mut next = 0;
    let mut out = Vec::with_capacity(places.len());
    for &places in places {
        let (mut left, mut word) = (places, 0);
        while left != 0 {
            let bit = packed[next / 64] >> (next % 64) & 1;
            word |= bit << left.trailing_zeros();
            left &= left - 1;
            next += 1;
        }
        out.push(word);
    }
    out
}
