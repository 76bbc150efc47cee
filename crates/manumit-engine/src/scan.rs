//! A feature's value by looking at the rows of its window, one after another, and keeping nothing.
//!
//! Most keys have few rows, so this is what most values come from: what can be worked out without memory from the
//! allocator is. The accumulators of [`crate::window`] give the same values; a test of random rows holds both to the plain
//! definition.

use std::cmp::Ordering;

use manumit_rules::ir::Function;

use crate::ring::{Layout, Ring, Row};
use crate::rows::Rows;
use crate::window::{self, SCAN_ROWS, State, Value, WindowFeature, adds_floats, compare};

/// The feature's value over the marked rows of [`Ring::marked`]: its filter lets them through.
pub(crate) fn marked(ring: &Ring, layout: Layout, feature: &WindowFeature, marks: u64) -> Value {
    match feature.argument {
        None if feature.function == Function::Count => Value::Integer(i128::from(marks.count_ones())),
        Some(argument) if looks_at_arguments(feature) => {
            of_arguments(feature, ring.arguments(marks, argument, layout))
        }
        _ => of_rows(feature, ring.marked(marks, layout)),
    }
}

/// The feature's value over those of these rows, in ascending order, that its filter lets through.
pub(crate) fn value(
    rows: Rows<'_>,
    layout: Layout,
    feature: &WindowFeature,
    numbers: impl Iterator<Item = u64>,
) -> Value {
    let counted = numbers.map(|number| rows.row(number, layout)).filter(|row| row.has(feature.filter));
    match feature.argument {
        None if feature.function == Function::Count => Value::Integer(counted.count() as i128),
        Some(argument) if looks_at_arguments(feature) => {
            of_arguments(feature, counted.filter_map(|row| row.argument(argument)))
        }
        _ => of_rows(feature, counted),
    }
}

/// Which row has an argument, and what else stands in it, is nothing to the feature.
fn looks_at_arguments(feature: &WindowFeature) -> bool {
    use Function::{Avg, Count, CountDistinct, Max, Min, Sum};
    matches!(feature.function, Count | Sum | Avg | Min | Max | CountDistinct) && !adds_floats(feature)
}

/// Its value over these arguments. Loops, as adapters of iterators are not always compiled into one.
#[inline(always)]
fn of_arguments(feature: &WindowFeature, arguments: impl Iterator<Item = u64>) -> Value {
    match feature.function {
        Function::Count => Value::Integer(arguments.count() as i128),
        Function::CountDistinct => Value::Integer(distinct(arguments) as i128),
        Function::Min | Function::Max => {
            let beaten = if feature.function == Function::Min { Ordering::Greater } else { Ordering::Less };
            let mut kept = None;
            for bits in arguments {
                kept = match kept {
                    Some(kept) if compare(kept, bits, &feature.argument_type) != beaten => Some(kept),
                    _ => Some(bits),
                };
            }
            kept.map_or(Value::Null, Value::Bits)
        }
        _ => {
            let (mut count, mut sum) = (0, 0);
            for bits in arguments {
                count += 1;
                sum += i128::from(bits as i64);
            }
            window::sums(feature, count, sum, None)
        }
    }
}

/// The value over these rows of a feature that looks at more than arguments, or whose numbers must be added in order.
fn of_rows<'a>(feature: &WindowFeature, mut counted: impl Iterator<Item = Row<'a>>) -> Value {
    let argument = |row: Row<'_>| feature.argument.and_then(|a| row.argument(a));
    match feature.function {
        _ if adds_floats(feature) => floats(feature, counted.filter_map(argument).map(f64::from_bits)),
        Function::FirstValue => counted.next().and_then(argument).map_or(Value::Null, Value::Bits),
        Function::LastValue => counted.last().and_then(argument).map_or(Value::Null, Value::Bits),
        _ => {
            let mut state = State::new(feature.function);
            for (number, row) in counted.enumerate() {
                state.add(number as u64, row, feature);
            }
            // Nothing else gives rows back.
            state.value(feature, |_| None)
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

fn floats(feature: &WindowFeature, values: impl Iterator<Item = f64>) -> Value {
    let values: Vec<f64> = values.collect();
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
