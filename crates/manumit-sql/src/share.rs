//! `top_share(x)` and `top_share(x, weight)`: the share that the largest group has.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, StringArray, UInt64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, UInt64Type};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

/// Digits behind the point of a share; the rest is cut off, not rounded.
const SCALE: i8 = 6;

pub(crate) fn top_share() -> AggregateUDF {
    AggregateUDF::from(TopShare { signature: Signature::user_defined(Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TopShare {
    signature: Signature,
}

impl AggregateUDFImpl for TopShare {
    fn name(&self) -> &str {
        "top_share"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [_] => Ok(vec![DataType::Utf8]),
            [_, _] => Ok(vec![DataType::Utf8, DataType::Decimal128(20, 4)]),
            _ => Err(DataFusionError::Plan("top_share takes a value and, if wanted, a weight".into())),
        }
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Decimal128(10, SCALE))
    }

    fn accumulator(&self, _args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Shares::default()))
    }

    fn state_fields(&self, _args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let list = |name: &str, item: DataType| {
            Arc::new(Field::new(name, DataType::List(Arc::new(Field::new_list_field(item, true))), true))
        };
        Ok(vec![
            list("groups", DataType::Utf8),
            list("weights", DataType::Decimal128(38, 4)),
            list("rows", DataType::UInt64),
        ])
    }
}

/// Weight and rows of each group; a group without rows is forgotten, so that NULL comes when nothing is counted.
#[derive(Debug, Default)]
struct Shares {
    groups: HashMap<String, (i128, u64)>,
}

impl Shares {
    fn each(values: &[ArrayRef], mut visit: impl FnMut(&str, i128)) -> Result<()> {
        let groups = cast(&values[0], &DataType::Utf8)?;
        let groups = groups.as_string::<i32>();
        let weights = match values.get(1) {
            Some(weights) => Some(cast(weights, &DataType::Decimal128(20, 4))?),
            None => None,
        };
        for row in (0..groups.len()).filter(|&row| groups.is_valid(row)) {
            match &weights {
                None => visit(groups.value(row), 1),
                Some(w) if w.is_valid(row) => {
                    visit(groups.value(row), w.as_primitive::<Decimal128Type>().value(row));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

impl Accumulator for Shares {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        Shares::each(values, |group, weight| {
            let entry = self.groups.entry(group.to_string()).or_default();
            entry.0 += weight;
            entry.1 += 1;
        })
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        Shares::each(values, |group, weight| {
            if let Some(entry) = self.groups.get_mut(group) {
                entry.0 -= weight;
                entry.1 -= 1;
                if entry.1 == 0 {
                    self.groups.remove(group);
                }
            }
        })
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let total: i128 = self.groups.values().map(|(weight, _)| weight).sum();
        let top = self.groups.values().map(|(weight, _)| *weight).max();
        let share = top.filter(|_| total > 0).map(|top| top * 10_i128.pow(SCALE as u32) / total);
        Ok(ScalarValue::Decimal128(share, 10, SCALE))
    }

    fn size(&self) -> usize {
        self.groups.keys().map(|k| k.len() + 64).sum::<usize>() + size_of::<Self>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut all: Vec<(&String, &(i128, u64))> = self.groups.iter().collect();
        all.sort();
        let names: StringArray = all.iter().map(|(name, _)| Some(name.as_str())).collect();
        let weights: Decimal128Array = all.iter().map(|(_, (weight, _))| Some(*weight)).collect();
        let rows: UInt64Array = all.iter().map(|(_, (_, rows))| Some(*rows)).collect();
        let list = |array: ArrayRef| -> ScalarValue {
            let field = Arc::new(Field::new_list_field(array.data_type().clone(), true));
            let offsets = datafusion::arrow::buffer::OffsetBuffer::from_lengths([array.len()]);
            ScalarValue::List(Arc::new(datafusion::arrow::array::ListArray::new(field, offsets, array, None)))
        };
        Ok(vec![
            list(Arc::new(names)),
            list(Arc::new(weights.with_precision_and_scale(38, 4)?)),
            list(Arc::new(rows)),
        ])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [groups, weights, rows] = states else { return Ok(()) };
        for state in 0..groups.len() {
            let names = groups.as_list::<i32>().value(state);
            let weights = weights.as_list::<i32>().value(state);
            let rows = rows.as_list::<i32>().value(state);
            for at in 0..names.len() {
                let name = names.as_string::<i32>().value(at);
                let entry = self.groups.entry(name.to_string()).or_default();
                entry.0 += weights.as_primitive::<Decimal128Type>().value(at);
                entry.1 += rows.as_primitive::<UInt64Type>().value(at);
            }
        }
        Ok(())
    }
}
