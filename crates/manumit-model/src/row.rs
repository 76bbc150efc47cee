//! A canonical row as JSON.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int32Type, Int64Type};
use arrow::util::display::array_value_to_string;
use serde_json::{Map, Value};

use crate::money::Money;

/// The known columns of a row, without those in `left_out`. Amounts are decimal strings, instants RFC 3339.
pub fn json(rows: &RecordBatch, row: usize, left_out: &[&str]) -> Map<String, Value> {
    let mut fields = Map::new();
    for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
        if column.is_null(row) || left_out.contains(&field.name().as_str()) {
            continue;
        }
        let value: Value = match field.data_type() {
            DataType::Boolean => column.as_boolean().value(row).into(),
            DataType::Int32 => column.as_primitive::<Int32Type>().value(row).into(),
            DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
            DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
            DataType::Decimal128(_, 4) => {
                let amount = column.as_primitive::<Decimal128Type>().value(row);
                i64::try_from(amount).map_or(amount.to_string(), |v| Money(v).to_string()).into()
            }
            _ => array_value_to_string(column, row).unwrap_or_default().into(),
        };
        fields.insert(field.name().clone(), value);
    }
    fields
}
