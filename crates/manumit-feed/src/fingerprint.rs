//! What tells whether two rows are the same transaction: 128 bits of the id, 64 of the content.
//!
//! Content is what the feed sent: all canonical columns but the id, the place where the row came from, and those that
//! reference tables fill in ([`crate::enrich::ADDED`]), as a table may have changed between a record and its copy. An
//! absent column is one of NULLs, so a row gives the same numbers before enrichment, after it, and out of the archive.
//!
//! # Source
//! Folded multiplication as in wyhash (Wang Yi, 2019): a product of 64-bit words, its halves put together.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use manumit_model::schema::TRANSACTIONS;

use crate::enrich::ADDED;

/// Columns that are no content: the id itself, and where the row was read.
const APART: [&str; 5] = ["tx_id", "feed", "source", "source_partition", "source_offset"];

/// Digits of pi, as far as they are odd.
const KEYS: [u64; 4] =
    [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7345, 0xa409_3822_299f_31d1, 0x082e_fa98_ec4e_6c89];

/// The numbers of a list of rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprints {
    /// Of each row's id. Two ids are taken for one with a chance of about 2^-128 times the pairs there are.
    pub ids: Vec<[u64; 2]>,
    /// Of each row's content. Another content under the same id is taken for the same with a chance of 2^-64.
    pub contents: Vec<u64>,
}

impl Fingerprints {
    /// Of canonical rows; a column that holds another type than its own counts as absent.
    pub fn of(rows: &RecordBatch) -> Fingerprints {
        let ids = match rows.column_by_name("tx_id").and_then(|c| c.as_string_opt::<i32>()) {
            Some(ids) => (0..ids.len())
                .map(|row| {
                    let id = ids.value(row).as_bytes();
                    [text(id, KEYS[0]), text(id, KEYS[3])]
                })
                .collect(),
            None => vec![[0; 2]; rows.num_rows()],
        };
        let mut contents = vec![KEYS[1]; rows.num_rows()];
        for (number, column) in TRANSACTIONS.iter().enumerate() {
            if APART.contains(&column.name) || ADDED.contains(&column.name) {
                continue;
            }
            if let Some(array) = rows.column_by_name(column.name) {
                let key = KEYS[2].wrapping_add((number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1;
                add(array.as_ref(), key, &mut contents);
            }
        }
        Fingerprints { ids, contents }
    }
}

/// Takes a column in; NULL changes nothing, and `key` tells columns apart.
fn add(array: &dyn Array, key: u64, contents: &mut [u64]) {
    fn each(array: &dyn Array, contents: &mut [u64], mut one: impl FnMut(usize, u64) -> u64) {
        match array.nulls().filter(|_| array.null_count() > 0) {
            None => contents.iter_mut().enumerate().for_each(|(row, content)| *content = one(row, *content)),
            Some(nulls) => {
                for row in nulls.valid_indices() {
                    contents[row] = one(row, contents[row]);
                }
            }
        }
    }
    match array.data_type() {
        DataType::Utf8 => {
            let values = array.as_string::<i32>();
            each(array, contents, |row, content| text(values.value(row).as_bytes(), content ^ key));
        }
        DataType::Timestamp(..) => {
            let Some(values) = array.as_primitive_opt::<TimestampMicrosecondType>() else { return };
            each(array, contents, |row, content| fold(content ^ values.value(row) as u64, key));
        }
        DataType::Decimal128(..) => {
            let values = array.as_primitive::<Decimal128Type>();
            each(array, contents, |row, content| {
                let value = values.value(row);
                fold(fold(content ^ value as u64, key) ^ (value >> 64) as u64, key)
            });
        }
        DataType::Int32 => {
            let values = array.as_primitive::<Int32Type>();
            each(array, contents, |row, content| fold(content ^ values.value(row) as u64, key));
        }
        DataType::Int64 => {
            let values = array.as_primitive::<Int64Type>();
            each(array, contents, |row, content| fold(content ^ values.value(row) as u64, key));
        }
        DataType::Date32 => {
            let values = array.as_primitive::<Date32Type>();
            each(array, contents, |row, content| fold(content ^ values.value(row) as u64, key));
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            // Zero has two signs and is one value.
            each(array, contents, |row, content| fold(content ^ (values.value(row) + 0.0).to_bits(), key));
        }
        DataType::Boolean => {
            let values = array.as_boolean();
            each(array, contents, |row, content| fold(content ^ (1 + u64::from(values.value(row))), key));
        }
        _ => {}
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Up to eight bytes as a number, the first one lowest. Read as halves that may overlap, where a copy would be a call.
fn word(part: &[u8]) -> u64 {
    if let Some(all) = part.first_chunk::<8>() {
        return u64::from_le_bytes(*all);
    }
    let last = part.len().saturating_sub(1);
    match (part.first_chunk::<4>(), part.last_chunk::<4>()) {
        (Some(first), Some(end)) => {
            let (first, end) = (u64::from(u32::from_le_bytes(*first)), u64::from(u32::from_le_bytes(*end)));
            first | end << (8 * (part.len() - 4))
        }
        _ if part.is_empty() => 0,
        _ => {
            let at = |place: usize| u64::from(part[place]) << (8 * place);
            at(0) | at(part.len() / 2) | at(last)
        }
    }
}

fn text(bytes: &[u8], seed: u64) -> u64 {
    // The length keeps texts apart that end in zeros.
    let mut state = seed ^ (bytes.len() as u64).wrapping_mul(KEYS[1]);
    let mut parts = bytes.chunks_exact(16);
    for part in &mut parts {
        state = fold(word(&part[..8]) ^ KEYS[2], word(&part[8..]) ^ state);
    }
    let rest = parts.remainder();
    let (low, high) = rest.split_at(rest.len().min(8));
    state = fold(word(low) ^ KEYS[1], word(high) ^ state);
    fold(state ^ KEYS[0], KEYS[3])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, new_null_array};
    use arrow::datatypes::{Field, Schema};

    use super::*;

    #[test]
    fn a_word_is_its_bytes_whatever_their_number() {
        for len in 0..=8 {
            let bytes: Vec<u8> = (1..=len).map(|n| (n * 31) ^ 0x80).collect();
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(&bytes);
            assert_eq!(word(&bytes), u64::from_le_bytes(whole), "{bytes:?}");
        }
    }

    fn rows(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, c)| (name, c, true)))
            .unwrap()
    }

    fn texts(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    #[test]
    fn a_million_ids_that_look_alike_have_a_million_numbers() {
        let halves: [HashSet<u64>; 2] = [0, 3]
            .map(|key| (0..1_000_000).map(|n| text(format!("T{n:08}").as_bytes(), KEYS[key])).collect());
        assert_eq!(halves.map(|half| half.len()), [1_000_000; 2]);
    }

    #[test]
    fn a_changed_bit_of_a_text_changes_about_half_of_its_number() {
        let (mut changed, mut tries) = (0, 0);
        for length in 1..40 {
            let bytes: Vec<u8> = (0..length).map(|n| (n * 37 + 11) as u8).collect();
            let before = text(&bytes, KEYS[0]);
            for bit in 0..length * 8 {
                let mut other = bytes.clone();
                other[bit / 8] ^= 1 << (bit % 8);
                changed += (before ^ text(&other, KEYS[0])).count_ones();
                tries += 1;
            }
        }
        let mean = f64::from(changed) / f64::from(tries);
        assert!((30.0..34.0).contains(&mean), "{mean}");
    }

    #[test]
    fn only_what_was_sent_is_content() {
        let plain =
            rows(vec![("tx_id", texts(&[Some("a"), Some("b")])), ("memo", texts(&[Some("x"), None]))]);
        let numbers = Fingerprints::of(&plain);
        assert_ne!(numbers.contents[0], numbers.contents[1]);
        let elsewhere = rows(vec![
            ("tx_id", texts(&[Some("a"), Some("b")])),
            ("memo", texts(&[Some("x"), None])),
            ("source", texts(&[Some("other"), Some("file")])),
            ("source_offset", Arc::new(Int64Array::from(vec![7, 8]))),
            ("debtor_customer", texts(&[Some("c"), None])),
            ("channel", new_null_array(&DataType::Utf8, 2)),
        ]);
        assert_eq!(Fingerprints::of(&elsewhere), numbers);
        // The same text in another column, and a value where there was none.
        for name in ["debtor_name", "creditor_name"] {
            let moved =
                rows(vec![("tx_id", texts(&[Some("a"), Some("b")])), (name, texts(&[Some("x"), None]))]);
            let moved = Fingerprints::of(&moved);
            assert_eq!(moved.ids, numbers.ids);
            assert!(moved.contents[0] != numbers.contents[0] && moved.contents[1] == numbers.contents[1]);
        }
    }

    #[test]
    fn every_kind_of_column_counts() {
        for column in TRANSACTIONS.iter().filter(|c| !APART.contains(&c.name) && !ADDED.contains(&c.name)) {
            let kind = column.kind.data_type();
            let text = if kind == DataType::Date32 { "2026-03-01" } else { "1" };
            let values: ArrayRef = match &kind {
                DataType::Timestamp(..) => {
                    arrow::compute::cast(&Int64Array::from(vec![Some(1), None]), &kind).unwrap()
                }
                DataType::Float64 => Arc::new(Float64Array::from(vec![Some(1.0), None])),
                _ => arrow::compute::cast(&texts(&[Some(text), None]), &kind).unwrap(),
            };
            assert!(values.is_valid(0), "{}", column.name);
            let field = Field::new(column.name, kind, true);
            let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![values]).unwrap();
            let numbers = Fingerprints::of(&batch).contents;
            assert_ne!(numbers[0], numbers[1], "{}", column.name);
        }
    }
}
