//! Aggregate arguments as 64 bits, and feature values back as Arrow columns.
//!
//! Amounts, integers, days, instants and flags are kept as integers; text is interned per shard, so that equal
//! text is an equal number; degrees are kept as their IEEE bits. Nothing is rounded.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, PrimitiveArray,
    StringArray, new_null_array,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};

use crate::text::{self, Hasher, Interner};
use crate::window::Value;

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

/// One argument of all rows of a batch, as the 64 bits that a ring keeps.
pub(crate) struct Bits {
    values: Values,
    /// Rows that have a value that can be kept: not NULL, nor too large for exact arithmetic.
    pub known: BooleanBuffer,
}

enum Values {
    Numbers(Vec<u64>),
    /// Numbered by the shard that keeps the row; until then a text is its hash.
    Texts(StringArray),
}

impl Bits {
    /// Types whose values fit 64 bits; others are turned into text.
    pub(crate) fn new(array: &ArrayRef) -> Result<Self, arrow::error::ArrowError> {
        let integers = |array: &PrimitiveArray<Int64Type>| array.values().iter().map(|v| *v as u64).collect();
        let mut known = match array.nulls() {
            Some(nulls) => nulls.inner().clone(),
            None => BooleanBuffer::new_set(array.len()),
        };
        let values = match array.data_type() {
            DataType::Null => {
                known = BooleanBuffer::new_unset(array.len());
                Values::Numbers(vec![0; array.len()])
            }
            DataType::Decimal128(_, _) => {
                let values = array.as_primitive::<Decimal128Type>().values();
                if values.iter().any(|v| i64::try_from(*v).is_err()) {
                    let fits =
                        BooleanBuffer::collect_bool(values.len(), |row| i64::try_from(values[row]).is_ok());
                    known = &known & &fits;
                }
                Values::Numbers(values.iter().map(|v| *v as u64).collect())
            }
            DataType::Float32 | DataType::Float64 => {
                let floats = cast(array, &DataType::Float64)?;
                // 0 and -0 are one value.
                let bits = floats.as_primitive::<Float64Type>().values().iter().map(|v| (v + 0.0).to_bits());
                Values::Numbers(bits.collect())
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
                let numbers = cast(array, &DataType::Int64)?;
                Values::Numbers(integers(numbers.as_primitive()))
            }
            DataType::Date32 => {
                let days = cast(&cast(array, &DataType::Int32)?, &DataType::Int64)?;
                Values::Numbers(integers(days.as_primitive()))
            }
            DataType::Timestamp(_, _) => {
                let micros = cast(array, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
                Values::Numbers(integers(
                    &micros.as_primitive::<TimestampMicrosecondType>().reinterpret_cast(),
                ))
            }
            _ => {
                let texts = cast(array, &DataType::Utf8)?;
                if let Some(nulls) = texts.nulls() {
                    known = &known & nulls.inner();
                }
                Values::Texts(texts.as_string::<i32>().clone())
            }
        };
        Ok(Bits { values, known })
    }

    /// One half of each decimal.
    pub(crate) fn half(array: &ArrayRef, half: Half) -> Self {
        let values = array.as_primitive::<Decimal128Type>().values().iter();
        let values = match half {
            Half::High => values.map(|v| (v >> 64) as u64).collect(),
            Half::Low => values.map(|v| *v as u64).collect(),
        };
        let known = array.nulls().map_or_else(|| BooleanBuffer::new_set(array.len()), |n| n.inner().clone());
        Bits { values: Values::Numbers(values), known }
    }

    /// The bits at a row that is known.
    pub(crate) fn at(&self, row: usize, hasher: &Hasher) -> u64 {
        match &self.values {
            Values::Numbers(values) => values[row],
            Values::Texts(texts) => text::hash(hasher, texts.value(row)),
        }
    }

    /// The texts, if that is what they are.
    pub(crate) fn texts(&self) -> Option<&StringArray> {
        match &self.values {
            Values::Numbers(_) => None,
            Values::Texts(texts) => Some(texts),
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
    fn what_exact_arithmetic_cannot_hold_is_not_known() {
        let values = vec![Some(5), None, Some(i128::from(i64::MAX) + 1), Some(-7)];
        let array: ArrayRef =
            Arc::new(Decimal128Array::from(values).with_precision_and_scale(38, 4).unwrap());
        let bits = Bits::new(&array).unwrap();
        assert_eq!(bits.known.iter().collect::<Vec<_>>(), [true, false, false, true]);
        assert_eq!(bits.at(3, &Hasher::default()) as i64, -7);
    }

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
        let hasher = Hasher::default();
        for (row, &value) in values.iter().enumerate() {
            let bits = |half| Bits::half(&array, half).at(row, &hasher);
            assert_eq!(whole(bits(Half::High), bits(Half::Low)), value);
        }
    }
}
