//! `earliest_by(x, event_time, tx_id)` and `latest_by(x, event_time, tx_id)`: what `first_value` and `last_value` of a
//! rule mean. The window function `last_value` knows no FILTER, and leaves open which of two rows of the same time is
//! the last: here it is the one with the greater id, the order in which rows are evaluated. Rows without a time do not count.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

pub(crate) fn earliest_by() -> AggregateUDF {
    AggregateUDF::from(Extreme { latest: false, signature: Signature::user_defined(Volatility::Immutable) })
}

pub(crate) fn latest_by() -> AggregateUDF {
    AggregateUDF::from(Extreme { latest: true, signature: Signature::user_defined(Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Extreme {
    latest: bool,
    signature: Signature,
}

impl AggregateUDFImpl for Extreme {
    fn name(&self) -> &str {
        if self.latest { "latest_by" } else { "earliest_by" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [value, time, _] => Ok(vec![value.clone(), time.clone(), DataType::Utf8]),
            _ => Err(DataFusionError::Plan(format!("{} takes a value, a time and an id", self.name()))),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        types.first().cloned().ok_or_else(|| DataFusionError::Plan("a value is missing".into()))
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let none = ScalarValue::try_new_null(args.return_field.data_type())?;
        Ok(Box::new(Rows {
            latest: self.latest,
            none,
            order: VecDeque::new(),
            next: 0,
            rows: BTreeMap::new(),
        }))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![
            Arc::new(Field::new("value", args.return_field.data_type().clone(), true)),
            Arc::new(Field::new("time", DataType::Int64, true)),
            Arc::new(Field::new("id", DataType::Utf8, true)),
        ])
    }
}

/// Time, id, and the order of arrival for rows that agree in both.
type Place = (i64, String, u64);

/// The rows of the window; they leave in the order they came.
#[derive(Debug)]
struct Rows {
    latest: bool,
    none: ScalarValue,
    order: VecDeque<Place>,
    next: u64,
    rows: BTreeMap<Place, ScalarValue>,
}

impl Rows {
    fn chosen(&self) -> Option<(&Place, &ScalarValue)> {
        if self.latest { self.rows.last_key_value() } else { self.rows.first_key_value() }
    }
}

impl Accumulator for Rows {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [values, times, ids] = values else { return Ok(()) };
        let times = cast(times, &DataType::Int64)?;
        let (times, ids) = (times.as_primitive::<Int64Type>(), ids.as_string::<i32>());
        for row in (0..values.len()).filter(|&row| times.is_valid(row)) {
            let place = (times.value(row), ids.value(row).to_string(), self.next);
            self.next += 1;
            self.order.push_back(place.clone());
            self.rows.insert(place, ScalarValue::try_from_array(values, row)?);
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let leaving = values.get(1).map_or(0, |times| times.len() - times.logical_null_count());
        for place in self.order.drain(..leaving.min(self.order.len())) {
            self.rows.remove(&place);
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.chosen().map_or_else(|| self.none.clone(), |(_, value)| value.clone()))
    }

    fn size(&self) -> usize {
        self.rows.len() * 2 * (size_of::<Place>() + size_of::<ScalarValue>()) + size_of::<Self>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let (time, id) = match self.chosen() {
            Some(((time, id, _), _)) => (Some(*time), Some(id.clone())),
            None => (None, None),
        };
        Ok(vec![self.evaluate()?, ScalarValue::Int64(time), ScalarValue::Utf8(id)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [_, times, _] = states else { return Ok(()) };
        // A part without rows has no time.
        let known = datafusion::arrow::compute::is_not_null(times)?;
        let states = states
            .iter()
            .map(|state| datafusion::arrow::compute::filter(state, &known))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        self.update_batch(&states)
    }
}
