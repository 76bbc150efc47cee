//! Aggregate arguments as 64 bits, and feature values back as Arrow columns.
//!
//! Amounts, integers, days, instants and flags are kept as integers; text is interned per shard, so that equal
//! text is an equal number; degrees are kept as their IEEE bits. Nothing is rounded.

use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, PrimitiveArray,
    StringArray, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use hashbrown::HashTable;

use crate::window::Value;

/// Text of one shard, numbered.
#[derive(Default)]
pub(crate) struct Interner {
    hasher: foldhash::quality::RandomState,
    table: HashTable<u32>,
    texts: Vec<Box<str>>,
}

impl Interner {
    pub(crate) fn intern(&mut self, text: &str) -> u32 {
        let hash = self.hasher.hash_one(text);
        let texts = &mut self.texts;
        let hasher = &self.hasher;
        let entry = self.table.entry(
            hash,
            |&i| &*texts[i as usize] == text,
            |&i| hasher.hash_one(&*texts[i as usize]),
        );
        match entry {
            hashbrown::hash_table::Entry::Occupied(entry) => *entry.get(),
            hashbrown::hash_table::Entry::Vacant(entry) => {
                let number = texts.len() as u32;
                entry.insert(number);
                texts.push(text.into());
                number
            }
        }
    }

    pub(crate) fn text(&self, number: u64) -> &str {
        self.texts.get(number as usize).map_or("", |t| t)
    }
}

/// Half of an integer of 128 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    High,
    Low,
}

/// An integer of 128 bits from its halves.
pub(crate) fn whole(high: u64, low: u64) -> i128 {
    (i128::from(high as i64) << 64) | i128::from(low)
}

/// One argument of all rows of a batch.
pub(crate) enum ArgumentColumn {
    /// Integers at the type's own scale.
    Integer(Int64Array),
    /// Decimals wider than 64 bits are checked at each row.
    Decimal(Decimal128Array),
    /// One half of decimals that need 128 bits: nothing is lost, whatever their size.
    Half(Decimal128Array, Half),
    /// Degrees and other floats.
    Float(Float64Array),
    /// Text, interned by the shard that keeps the row.
    Text(StringArray),
}

impl ArgumentColumn {
    /// Types whose values fit 64 bits; others are turned into text.
    pub(crate) fn new(array: &ArrayRef) -> Result<Self, arrow::error::ArrowError> {
        Ok(match array.data_type() {
            DataType::Decimal128(_, _) => {
                ArgumentColumn::Decimal(array.as_primitive::<Decimal128Type>().clone())
            }
            DataType::Float32 | DataType::Float64 => {
                ArgumentColumn::Float(cast(array, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
            }
            DataType::Boolean
            | DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32
            | DataType::Date64 => {
                ArgumentColumn::Integer(cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
            }
            DataType::Date32 => {
                let days = cast(array, &DataType::Int32)?;
                ArgumentColumn::Integer(cast(&days, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
            }
            DataType::Timestamp(_, _) => {
                let micros = cast(array, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
                let micros: PrimitiveArray<Int64Type> =
                    micros.as_primitive::<TimestampMicrosecondType>().reinterpret_cast();
                ArgumentColumn::Integer(micros)
            }
            _ => ArgumentColumn::Text(cast(array, &DataType::Utf8)?.as_string::<i32>().clone()),
        })
    }

    /// One half of each decimal.
    pub(crate) fn half(array: &ArrayRef, half: Half) -> Self {
        ArgumentColumn::Half(array.as_primitive::<Decimal128Type>().clone(), half)
    }

    /// The 64 bits of the value at `row`; `None` when NULL or too large for exact arithmetic.
    pub(crate) fn bits(&self, row: usize, interner: &mut Interner) -> Option<u64> {
        match self {
            ArgumentColumn::Integer(a) => a.is_valid(row).then(|| a.value(row) as u64),
            ArgumentColumn::Decimal(a) => {
                if a.is_valid(row) {
                    i64::try_from(a.value(row)).ok().map(|v| v as u64)
                } else {
                    None
                }
            }
            ArgumentColumn::Half(a, half) => a.is_valid(row).then(|| match half {
                Half::High => (a.value(row) >> 64) as u64,
                Half::Low => a.value(row) as u64,
            }),
            ArgumentColumn::Float(a) => a.is_valid(row).then(|| (a.value(row) + 0.0).to_bits()),
            ArgumentColumn::Text(a) => a.is_valid(row).then(|| u64::from(interner.intern(a.value(row)))),
        }
    }
}

/// Turns one feature's values into the Arrow array of its type.
pub(crate) fn to_array(
    values: &[Value],
    data_type: &DataType,
    interner: &Interner,
) -> Result<ArrayRef, arrow::error::ArrowError> {
    let integer = |v: &Value| match v {
        Value::Null => None,
        Value::Integer(i) => Some(*i),
        Value::Bits(b) => Some(i128::from(*b as i64)),
        Value::Float(f) => Some(*f as i128),
    };
    let long = |v: &Value| integer(v).and_then(|i| i64::try_from(i).ok());
    Ok(match data_type {
        DataType::Decimal128(precision, scale) => Arc::new(
            values
                .iter()
                .map(integer)
                .collect::<Decimal128Array>()
                .with_precision_and_scale(*precision, *scale)?,
        ),
        DataType::Float32 | DataType::Float64 => {
            let floats: Float64Array = values
                .iter()
                .map(|v| match v {
                    Value::Null => None,
                    Value::Float(f) => Some(*f),
                    Value::Bits(b) => Some(f64::from_bits(*b)),
                    Value::Integer(i) => Some(*i as f64),
                })
                .collect();
            cast(&(Arc::new(floats) as ArrayRef), data_type)?
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let texts: StringArray = values
                .iter()
                .map(|v| match v {
                    Value::Bits(b) => Some(interner.text(*b)),
                    _ => None,
                })
                .collect();
            cast(&(Arc::new(texts) as ArrayRef), data_type)?
        }
        DataType::Boolean => {
            Arc::new(values.iter().map(|v| long(v).map(|i| i != 0)).collect::<BooleanArray>())
        }
        DataType::Date32 => {
            let days: Int64Array = values.iter().map(long).collect();
            cast(&cast(&days, &DataType::Int32)?, &DataType::Date32)?
        }
        DataType::Timestamp(_, _) => {
            let micros: Int64Array = values.iter().map(long).collect();
            let micros = cast(&micros, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))?;
            cast(&micros, data_type)?
        }
        DataType::Null => new_null_array(data_type, values.len()),
        _ => cast(&(Arc::new(values.iter().map(long).collect::<Int64Array>()) as ArrayRef), data_type)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_a_decimal_give_it_back_whatever_its_size() {
        let values = [
            0,
            1,
            -1,
            i128::from(i64::MAX) + 1,
            i128::from(i64::MIN) - 1,
            10_i128.pow(38) - 1,
            1 - 10_i128.pow(38),
        ];
        let array: ArrayRef =
            Arc::new(Decimal128Array::from(values.to_vec()).with_precision_and_scale(38, 4).unwrap());
        let mut interner = Interner::default();
        for (row, &value) in values.iter().enumerate() {
            let mut bits = |half| ArgumentColumn::half(&array, half).bits(row, &mut interner).unwrap();
            assert_eq!(whole(bits(Half::High), bits(Half::Low)), value);
        }
    }
}
