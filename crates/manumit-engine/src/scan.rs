//! A feature's value by looking at the rows of its window, one after another, and keeping nothing.
//!
//! Most keys have few rows, so this is what most values come from: what can be worked out without memory from the
//! allocator is. The accumulators of [`crate::window`] give the same values; a test of random rows holds both to the plain
//! definition.

use manumit_rules::ir::Function;

use crate::ring::{Layout, Row};
use crate::rows::Rows;
use crate::window::{SCAN_ROWS, State, Value, WindowFeature, adds_floats, compare};

/// The feature's value over rows of which it is known that its filter lets them through: bit `n` is row `first + n`.
pub(crate) fn marked(
    rows: Rows<'_>,
    layout: Layout,
    feature: &WindowFeature,
    first: u64,
    mut marks: u64,
) -> Value {
    if feature.function == Function::Count && feature.argument.is_none() {
        return Value::Integer(i128::from(marks.count_ones()));
    }
    let numbers = std::iter::from_fn(|| {
        let place = (marks != 0).then(|| u64::from(marks.trailing_zeros()))?;
        marks &= marks - 1;
        Some(first + place)
    });
    value(rows, layout, feature, numbers)
}

/// The feature's value over these rows, in ascending order.
pub(crate) fn value(
    rows: Rows<'_>,
    layout: Layout,
    feature: &WindowFeature,
    numbers: impl Iterator<Item = u64>,
) -> Value {
    if adds_floats(feature) {
        return floats(rows, layout, feature, numbers);
    }
    let mut counted = numbers.map(|number| rows.row(number, layout)).filter(|row| row.has(feature.filter));
    let argument = |row: Row<'_>| feature.argument.and_then(|a| row.argument(a));
    match feature.function {
        Function::Count => {
            let count = match feature.argument {
                None => counted.count(),
                Some(a) => counted.filter(|row| row.argument(a).is_some()).count(),
            };
            Value::Integer(count as i128)
        }
        Function::Min | Function::Max => {
            let keep_least = feature.function == Function::Min;
            let least_or_most = counted.filter_map(argument).reduce(|kept, bits| {
                let order = compare(kept, bits, &feature.argument_type);
                let beaten = if keep_least { order.is_ge() } else { order.is_le() };
                if beaten { bits } else { kept }
            });
            least_or_most.map_or(Value::Null, Value::Bits)
        }
        Function::FirstValue => counted.next().and_then(argument).map_or(Value::Null, Value::Bits),
        Function::LastValue => counted.last().and_then(argument).map_or(Value::Null, Value::Bits),
        Function::CountDistinct => Value::Integer(distinct(counted.filter_map(argument)) as i128),
        Function::Sum | Function::Avg | Function::Stddev | Function::TopShare => {
            let mut state = State::new(feature.function);
            for (number, row) in counted.enumerate() {
                state.add(number as u64, row, feature);
            }
            state.value(rows, layout, feature)
        }
    }
}

/// How many different values there are.
fn distinct(values: impl Iterator<Item = u64>) -> usize {
    let mut few = [0; SCAN_ROWS as usize];
    let mut all = Vec::new();
    let mut len = 0;
    for value in values {
        if len == few.len() {
            // More than this only where accumulators cannot be used.
            if all.is_empty() {
                all.extend(few);
            }
            all.push(value);
        } else {
            few[len] = value;
            len += 1;
        }
    }
    let sorted = if all.is_empty() { &mut few[..len] } else { &mut all[..] };
    if sorted.len() <= 8 {
        // Sorting costs more than looking at each pair.
        return (0..sorted.len()).filter(|&at| !sorted[..at].contains(&sorted[at])).count();
    }
    sorted.sort_unstable();
    1 + sorted.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

fn floats(
    rows: Rows<'_>,
    layout: Layout,
    feature: &WindowFeature,
    numbers: impl Iterator<Item = u64>,
) -> Value {
    let values: Vec<f64> = numbers
        .map(|number| rows.row(number, layout))
        .filter(|row| row.has(feature.filter))
        .filter_map(|row| feature.argument.and_then(|a| row.argument(a)).map(f64::from_bits))
        .collect();
    let count = values.len() as f64;
    let sum: f64 = values.iter().sum();
    match feature.function {
        _ if values.is_empty() => Value::Null,
        Function::Sum => Value::Float(sum),
        Function::Avg => Value::Float(sum / count),
        _ if values.len() < 2 => Value::Null,
        _ => {
            let mean = sum / count;
            let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
            Value::Float((squares / (count - 1.0)).sqrt())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_values_are_counted_once_however_many_there_are() {
        for (len, values) in [(0, 1), (5, 3), (8, 8), (64, 20), (65, 64), (500, 7), (500, 500)] {
            let all = (0..len as u64).map(|n| n * 7919 % values);
            assert_eq!(distinct(all), len.min(values as usize), "{len} values of {values}");
        }
    }
}
