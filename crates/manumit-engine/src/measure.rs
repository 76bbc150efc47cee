//! Values in words: amounts with their currency, shares in per cent, dates as dates.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type};
use arrow::util::display::array_value_to_string;
use manumit_model::currency::minor_units;
use manumit_model::money::group_decimal;
use manumit_rules::ir::Format;

/// Writes the value at `row`; `unknown` for NULL.
pub(crate) fn written(
    array: &ArrayRef,
    row: usize,
    format: Format,
    unit: Option<&str>,
    base: &str,
) -> String {
    if array.is_null(row) {
        return "unknown".into();
    }
    let places = u32::from(minor_units(base).unwrap_or(2));
    match (format, array.data_type()) {
        (Format::Text, _) => plain(array, row),
        (Format::Percent, DataType::Decimal128(_, scale)) => {
            percent(array.as_primitive::<Decimal128Type>().value(row), *scale)
        }
        (Format::Percent, DataType::Float64) => {
            // Ten-thousandths are enough for a share.
            percent((array.as_primitive::<Float64Type>().value(row) * 10_000.0).round() as i128, 4)
        }
        (Format::Amount, _) | (Format::Auto, _) if is_amount(array.data_type(), format, unit) => {
            let (value, scale) = decimal(array, row);
            format!("{} {base}", group_decimal(value, scale, places))
        }
        (_, DataType::Decimal128(10, 6)) => percent(array.as_primitive::<Decimal128Type>().value(row), 6),
        (_, DataType::Decimal128(_, scale)) => {
            trimmed(array.as_primitive::<Decimal128Type>().value(row), *scale)
        }
        (_, DataType::Float64) => {
            let value = array.as_primitive::<Float64Type>().value(row);
            trimmed((value * 100.0).round() as i128, 2)
        }
        (Format::Date, _) => plain(array, row).chars().take(10).collect(),
        (_, DataType::Boolean) => if array.as_boolean().value(row) { "yes" } else { "no" }.into(),
        (_, DataType::Timestamp(_, zone)) => {
            let text = plain(array, row);
            let minutes: String = text.replace('T', " ").chars().take(16).collect();
            if zone.is_some() { format!("{minutes} UTC") } else { minutes }
        }
        (_, data_type) if data_type.is_integer() => {
            plain(array, row).parse::<i128>().map_or_else(|_| plain(array, row), |v| group_decimal(v, 0, 0))
        }
        _ => plain(array, row),
    }
}

/// An amount is what the rule says is one, or a decimal as wide as the canonical amounts, sums and means of them; quotients in
/// queries have more digits behind the point.
fn is_amount(data_type: &DataType, format: Format, unit: Option<&str>) -> bool {
    let numeric = data_type.is_integer() || matches!(data_type, DataType::Decimal128(..));
    let by_unit = unit.is_some_and(|u| u.contains("currency"));
    let by_type =
        unit.is_none() && matches!(data_type, DataType::Decimal128(p, s) if *p >= 20 && (4..=8).contains(s));
    numeric && (format == Format::Amount || by_unit || by_type)
}

fn decimal(array: &ArrayRef, row: usize) -> (i128, u32) {
    match array.data_type() {
        DataType::Decimal128(_, scale) => {
            (array.as_primitive::<Decimal128Type>().value(row), (*scale).max(0) as u32)
        }
        _ => (plain(array, row).parse().unwrap_or(0), 0),
    }
}

fn plain(array: &ArrayRef, row: usize) -> String {
    array_value_to_string(array, row).unwrap_or_default()
}

/// 0.8333 as `83.33 %`.
fn percent(value: i128, scale: i8) -> String {
    format!("{} %", trimmed(value * 100, scale))
}

/// At most two digits behind the point, cut off, without trailing zeros.
fn trimmed(value: i128, scale: i8) -> String {
    let scale = scale.max(0) as u32;
    let cut = if scale > 2 { value / 10_i128.pow(scale - 2) } else { value };
    let text = group_decimal(cut, scale.min(2), scale.min(2));
    match text.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|b| b == b'0') => whole.into(),
        Some(_) => text.trim_end_matches('0').into(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Decimal128Array, Int64Array};

    use super::*;

    fn amount(value: i128, precision: u8, scale: i8) -> ArrayRef {
        Arc::new(Decimal128Array::from(vec![value]).with_precision_and_scale(precision, scale).unwrap())
    }

    #[test]
    fn values_are_written_as_a_reader_expects() {
        let count: ArrayRef = Arc::new(Int64Array::from(vec![12_345]));
        assert_eq!(written(&amount(12_345_600, 20, 4), 0, Format::Auto, None, "EUR"), "1,234.56 EUR");
        assert_eq!(written(&amount(12_345_600, 20, 4), 0, Format::Auto, None, "JPY"), "1,234.56 JPY");
        assert_eq!(written(&amount(833_333, 10, 6), 0, Format::Auto, None, "EUR"), "83.33 %");
        assert_eq!(written(&amount(5, 3, 2), 0, Format::Auto, Some("share"), "EUR"), "0.05");
        assert_eq!(written(&count, 0, Format::Auto, Some("base currency"), "EUR"), "12,345.00 EUR");
        assert_eq!(written(&count, 0, Format::Count, None, "EUR"), "12,345");
    }
}
