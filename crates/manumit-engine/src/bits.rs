//! Bits of columns into bits of rows: what is worked out filter by filter is asked for row by row.
//!
//! # Source
//! Transposing a square of bits by halves: Warren, «Hacker's Delight», 2nd edition 2012, section 7-3.

use arrow::buffer::BooleanBuffer;

/// Words that hold so many bits; at least one.
pub(crate) fn words_of(bits: usize) -> usize {
    bits.div_ceil(64).max(1)
}

/// Each row's bits as words, row after row: bit `from + n` of a row is that of column `n`, and those before `from` are 0.
/// All columns have `rows` rows, and `from` is less than 64.
pub(crate) fn by_row(columns: &[BooleanBuffer], from: usize, rows: usize) -> Vec<u64> {
    let width = words_of(from + columns.len());
    let mut out = vec![0; rows * width];
    let mut left = columns;
    for word in 0..width {
        let before = if word == 0 { from } else { 0 };
        let (group, others) = left.split_at(left.len().min(64 - before));
        left = others;
        let columns: Vec<Vec<u64>> =
            group.iter().map(|column| column.bit_chunks().iter_padded().collect()).collect();
        for first in (0..rows).step_by(64) {
            let mut square = [0_u64; 64];
            for (line, column) in square[before..].iter_mut().zip(&columns) {
                *line = column.get(first / 64).copied().unwrap_or(0);
            }
            transpose(&mut square);
            let lines = (rows - first).min(64);
            for (row, line) in square[..lines].iter().enumerate() {
                out[(first + row) * width + word] = *line;
            }
        }
    }
    out
}

/// Bit `i` of word `j` and bit `j` of word `i` change places.
fn transpose(square: &mut [u64; 64]) {
    let (mut half, mut mask) = (32, u64::from(u32::MAX));
    while half > 0 {
        let mut at = 0;
        while at < 64 {
            let swapped = ((square[at] >> half) ^ square[at + half]) & mask;
            square[at] ^= swapped << half;
            square[at + half] ^= swapped;
            at = (at + half + 1) & !half;
        }
        half /= 2;
        mask ^= mask << half;
    }
}

/// 64 bits from bit `from` on; those beyond the last word are 0.
pub(crate) fn word_from(words: &[u64], from: usize) -> u64 {
    let (word, shift) = (from / 64, from % 64);
    let low = words.get(word).map_or(0, |low| low >> shift);
    match words.get(word + 1) {
        Some(high) if shift > 0 => low | high << (64 - shift),
        _ => low,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_row_has_the_bits_that_the_columns_have(
            width in 1_usize..140, rows in 0_usize..200, skipped in 0_usize..9, seed in any::<u64>(), from in 0_usize..200,
            first in 0_usize..64,
        ) {
            let set = |column: usize, row: usize| {
                (seed ^ (column as u64 * 131 + row as u64)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 63 == 1
            };
            // A slice begins in the middle of a byte.
            let columns: Vec<BooleanBuffer> = (0..width)
                .map(|c| BooleanBuffer::collect_bool(rows + skipped, |r| r >= skipped && set(c, r - skipped)))
                .map(|buffer| buffer.slice(skipped, rows))
                .collect();
            let all = by_row(&columns, first, rows);
            let words = words_of(first + width);
            for row in 0..rows {
                let found = word_from(&all[row * words..(row + 1) * words], from);
                let wanted = (0..width).filter(|&c| set(c, row)).map(|c| first + c).filter(|bit| (from..from + 64).contains(bit));
                prop_assert_eq!(found, wanted.fold(0_u64, |bits, bit| bits | 1 << (bit - from)));
            }
        }
    }
}
