//! A window feature's value at a row: by a scan of the key's rows, or, for hot keys, by an accumulator that
//! follows the window.
//!
//! Which one is a local decision by size and never changes a result: both work on the same exact integers.
//!
//! # Source
//! Retractable aggregates and the two-ended queue for min/max: Tangwongsan, Hirzel, Schneider, «Low-latency
//! sliding-window aggregation in worst-case constant time», DEBS 2017. The threshold of 64 rows was measured.

use std::collections::{BTreeMap, VecDeque};

use arrow::datatypes::DataType;
use hashbrown::HashMap;
use manumit_rules::frame::Frame;
use manumit_rules::ir::Function;

use crate::ring::{Layout, Ring, Row};
use crate::rows::Rows;
use crate::scan;

/// A window feature of a keyspace, with its expressions resolved to the places of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowFeature {
    /// Which aggregate.
    pub function: Function,
    /// Place of the argument in a row; `None` for `count(*)`.
    pub argument: Option<usize>,
    /// Place of the weight of `top_share`.
    pub weight: Option<usize>,
    /// Bit of the mask that says which rows count.
    pub filter: usize,
    /// Which rows count, seen from a row.
    pub frame: Frame,
    /// Of a window of rows: which of the keyspace's lists of latest rows it looks at.
    pub latest: Option<usize>,
    /// Type of the argument.
    pub argument_type: DataType,
    /// Type of the value.
    pub data_type: DataType,
}

/// A feature's value at one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// Nothing to say.
    Null,
    /// An integer at the scale of the feature's type.
    Integer(i128),
    /// A number that is not money.
    Float(f64),
    /// 64 bits as a row holds them: first, last, min, max.
    Bits(u64),
}

/// Windows of at most this many rows are scanned.
pub(crate) const SCAN_ROWS: u64 = 64;

type Map<V> = HashMap<u64, V, foldhash::fast::FixedState>;

/// The running state of one feature of one hot key.
pub struct Accumulator {
    /// Rows `[tail, head)` are in.
    tail: u64,
    head: u64,
    state: State,
}

/// What each aggregate needs; where a scan is not written out, it uses the same, so that both give one value.
pub(crate) enum State {
    Count(i64),
    Sums {
        count: i64,
        sum: i128,
        /// Of deviations only; `None` also when they do not fit.
        squares: Option<i128>,
    },
    /// (row, value), values ascending for min, descending for max.
    Extremes(VecDeque<(u64, u64)>),
    Distinct(Map<u32>),
    /// Rows that match, oldest first.
    Matches(VecDeque<u64>),
    Groups {
        weights: Map<i128>,
        counts: Map<u32>,
        order: BTreeMap<i128, u32>,
        total: i128,
    },
}

impl Accumulator {
    /// Bytes that it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Accumulator>()
            + match &self.state {
                State::Count(_) | State::Sums { .. } => 0,
                State::Extremes(queue) => queue.capacity() * 16,
                State::Matches(queue) => queue.capacity() * 8,
                State::Distinct(values) => values.allocation_size(),
                State::Groups { weights, counts, order, .. } => {
                    weights.allocation_size() + counts.allocation_size() + order.len() * 40
                }
            }
    }
}

impl State {
    pub(crate) fn new(function: Function) -> State {
        match function {
            Function::Count => State::Count(0),
            Function::Sum | Function::Avg => State::Sums { count: 0, sum: 0, squares: None },
            Function::Stddev => State::Sums { count: 0, sum: 0, squares: Some(0) },
            Function::Min | Function::Max => State::Extremes(VecDeque::new()),
            Function::CountDistinct => State::Distinct(Map::default()),
            Function::FirstValue | Function::LastValue => State::Matches(VecDeque::new()),
            Function::TopShare => State::Groups {
                weights: Map::default(),
                counts: Map::default(),
                order: BTreeMap::new(),
                total: 0,
            },
        }
    }

    pub(crate) fn add(&mut self, number: u64, row: Row<'_>, feature: &WindowFeature) {
        if !row.has(feature.filter) {
            return;
        }
        let argument = feature.argument.map(|a| row.argument(a));
        match self {
            State::Matches(rows) => rows.push_back(number),
            State::Count(count) => *count += i64::from(argument != Some(None)),
            State::Sums { count, sum, squares } => {
                if let Some(Some(bits)) = argument {
                    let value = i128::from(bits as i64);
                    *count += 1;
                    *sum += value;
                    *squares = squares.and_then(|s| value.checked_mul(value).and_then(|v| s.checked_add(v)));
                }
            }
            State::Extremes(queue) => {
                if let Some(Some(bits)) = argument {
                    let keep_least = feature.function == Function::Min;
                    while let Some(&(_, last)) = queue.back() {
                        let order = compare(last, bits, &feature.argument_type);
                        let beaten = if keep_least { order.is_ge() } else { order.is_le() };
                        if !beaten {
                            break;
                        }
                        queue.pop_back();
                    }
                    queue.push_back((number, bits));
                }
            }
            State::Distinct(values) => {
                if let Some(Some(bits)) = argument {
                    *values.entry(bits).or_insert(0) += 1;
                }
            }
            State::Groups { weights, counts, order, total } => {
                if let Some((group, weight)) = group_of(row, feature) {
                    let old = weights.get(&group).copied();
                    let new = old.unwrap_or(0) + weight;
                    weights.insert(group, new);
                    *counts.entry(group).or_insert(0) += 1;
                    if let Some(old) = old {
                        forget(order, old);
                    }
                    *order.entry(new).or_insert(0) += 1;
                    *total += weight;
                }
            }
        }
    }

    fn retract(&mut self, number: u64, row: Row<'_>, feature: &WindowFeature) {
        if !row.has(feature.filter) {
            return;
        }
        let argument = feature.argument.map(|a| row.argument(a));
        match self {
            State::Matches(rows) => {
                rows.pop_front();
            }
            State::Count(count) => *count -= i64::from(argument != Some(None)),
            State::Sums { count, sum, squares } => {
                if let Some(Some(bits)) = argument {
                    let value = i128::from(bits as i64);
                    *count -= 1;
                    *sum -= value;
                    *squares = squares.and_then(|s| value.checked_mul(value).and_then(|v| s.checked_sub(v)));
                }
            }
            State::Extremes(queue) => {
                if queue.front().is_some_and(|(first, _)| *first == number) {
                    queue.pop_front();
                }
            }
            State::Distinct(values) => {
                if let Some(Some(bits)) = argument
                    && let Some(count) = values.get_mut(&bits)
                {
                    *count -= 1;
                    if *count == 0 {
                        values.remove(&bits);
                    }
                }
            }
            State::Groups { weights, counts, order, total } => {
                if let Some((group, weight)) = group_of(row, feature) {
                    let old = weights.get(&group).copied().unwrap_or(0);
                    forget(order, old);
                    *total -= weight;
                    let left = counts.get(&group).copied().unwrap_or(1) - 1;
                    if left == 0 {
                        weights.remove(&group);
                        counts.remove(&group);
                    } else {
                        counts.insert(group, left);
                        weights.insert(group, old - weight);
                        *order.entry(old - weight).or_insert(0) += 1;
                    }
                }
            }
        }
    }

    /// `argument`: that of the row with a number.
    pub(crate) fn value(&self, feature: &WindowFeature, argument: impl Fn(u64) -> Option<u64>) -> Value {
        match self {
            State::Count(count) => Value::Integer(i128::from(*count)),
            State::Distinct(values) => Value::Integer(values.len() as i128),
            State::Extremes(queue) => queue.front().map_or(Value::Null, |(_, bits)| Value::Bits(*bits)),
            State::Matches(list) => {
                let row = if feature.function == Function::FirstValue { list.front() } else { list.back() };
                row.and_then(|&row| argument(row)).map_or(Value::Null, Value::Bits)
            }
            State::Sums { count, sum, squares } => sums(feature, *count, *sum, *squares),
            State::Groups { order, total, .. } => match order.last_key_value() {
                Some((&largest, _)) if *total > 0 => Value::Integer(largest * 1_000_000 / total),
                _ => Value::Null,
            },
        }
    }
}

/// Where a frame of a key began when it was last looked at: the next search begins there, as it never goes back.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cursor {
    row: u64,
    /// Its event time, if it was there: most rows move no beginning, and then the row is not looked at.
    time: Option<i64>,
}

impl Cursor {
    fn advance(&mut self, rows: Rows<'_>, layout: Layout, lower: i64) -> u64 {
        if self.row < rows.first() || self.time.is_none_or(|time| time < lower) {
            self.row = rows.lower_bound_after(self.row.max(rows.first()), lower, layout);
            self.time = (self.row < rows.end()).then(|| rows.time(self.row, layout));
        }
        self.row
    }
}

/// Rows that a frame takes in at a row of `time`, by number; with a cursor where one is kept.
pub(crate) fn bounds(
    rows: Rows<'_>,
    layout: Layout,
    frame: &Frame,
    time: i64,
    cursor: Option<&mut Cursor>,
) -> (u64, u64) {
    let end = if frame.excludes_end { rows.lower_bound_from_end(time, layout) } else { rows.end() };
    let lower = frame.lower(time);
    let start = match cursor {
        Some(cursor) => cursor.advance(rows, layout, lower),
        None => rows.lower_bound_from_end(lower, layout),
    };
    (start.min(end), end)
}

/// The value of `feature` at a row of `time`, once the row and all its peers are in the ring. `own`: the number of the
/// row itself, when it is kept.
///
/// Between two calls with one accumulator time does not go back, so neither end of the window does.
pub fn evaluate(
    rows: Rows<'_>,
    layout: Layout,
    feature: &WindowFeature,
    time: i64,
    own: Option<u64>,
    accumulator: &mut Option<Box<Accumulator>>,
) -> Value {
    let window = bounds(rows, layout, &feature.frame, time, None);
    over(rows, layout, feature, window, own, accumulator)
}

/// Where a window is among the rows of [`Ring::marks`] and is scanned anyway: its rows, as bits of them.
pub(crate) fn marked(
    ring: &Ring,
    feature: &WindowFeature,
    (start, end): (u64, u64),
    own: Option<u64>,
    accumulator: &Option<Box<Accumulator>>,
) -> Option<u64> {
    let first = ring.first_marked();
    if start < first || (accumulator.is_some() && !feature.frame.excludes_row) {
        return None;
    }
    let (rows, skipped) = (end.saturating_sub(start), own.filter(|_| feature.frame.excludes_row));
    let all = match rows {
        0 => return Some(0),
        _ => u64::MAX >> (64 - rows) << (start - first),
    };
    let skipped = skipped.and_then(|own| own.checked_sub(first)).filter(|place| *place < 64);
    Some(all & !skipped.map_or(0, |place| 1 << place))
}

/// The same, over rows that [`bounds`] gave.
pub(crate) fn over(
    rows: Rows<'_>,
    layout: Layout,
    feature: &WindowFeature,
    (start, end): (u64, u64),
    own: Option<u64>,
    accumulator: &mut Option<Box<Accumulator>>,
) -> Value {
    // Each row leaves out another one: nothing can be carried from row to row, however long the window is.
    let scanned = feature.frame.excludes_row || (accumulator.is_none() && end - start <= SCAN_ROWS);
    if scanned || adds_floats(feature) {
        let skipped = own.filter(|_| feature.frame.excludes_row);
        return scan::value(rows, layout, feature, (start..end).filter(|&number| Some(number) != skipped));
    }
    let running = accumulator.get_or_insert_with(|| {
        Box::new(Accumulator { tail: start, head: start, state: State::new(feature.function) })
    });
    let Accumulator { tail, head, state } = running.as_mut();
    rows.each(*head..end, layout, |number, row| state.add(number, row, feature));
    rows.each(*tail..start, layout, |number, row| state.retract(number, row, feature));
    (*head, *tail) = (end.max(*head), start.max(*tail));
    let argument = |row| feature.argument.and_then(|a| rows.row(row, layout).argument(a));
    let value = state.value(feature, argument);
    if end - start <= SCAN_ROWS / 4 {
        *accumulator = None;
    }
    value
}

/// Sums of floats depend on the order of adding, and cannot be taken back.
pub(crate) fn adds_floats(feature: &WindowFeature) -> bool {
    matches!(feature.argument_type, DataType::Float32 | DataType::Float64)
        && matches!(feature.function, Function::Sum | Function::Avg | Function::Stddev)
}

/// Takes rows before `first` out of an accumulator, before they leave the ring.
pub fn leave_behind(
    accumulator: &mut Option<Box<Accumulator>>,
    rows: Rows<'_>,
    layout: Layout,
    feature: &WindowFeature,
    first: u64,
) {
    let Some(running) = accumulator else { return };
    if running.head < first {
        *accumulator = None;
        return;
    }
    let Accumulator { tail, state, .. } = running.as_mut();
    rows.each(*tail..first, layout, |number, row| state.retract(number, row, feature));
    *tail = first.max(*tail);
}

fn group_of(row: Row<'_>, feature: &WindowFeature) -> Option<(u64, i128)> {
    let group = row.argument(feature.argument?)?;
    match feature.weight {
        None => Some((group, 1)),
        Some(weight) => row.argument(weight).map(|w| (group, i128::from(w as i64))),
    }
}

fn forget(order: &mut BTreeMap<i128, u32>, weight: i128) {
    if let Some(count) = order.get_mut(&weight) {
        *count -= 1;
        if *count == 0 {
            order.remove(&weight);
        }
    }
}

pub(crate) fn compare(a: u64, b: u64, data_type: &DataType) -> std::cmp::Ordering {
    match data_type {
        DataType::Float32 | DataType::Float64 => f64::from_bits(a).total_cmp(&f64::from_bits(b)),
        _ => (a as i64).cmp(&(b as i64)),
    }
}

/// A sum, a mean or a deviation from what is added up for it.
pub(crate) fn sums(feature: &WindowFeature, count: i64, sum: i128, squares: Option<i128>) -> Value {
    match feature.function {
        _ if count == 0 => Value::Null,
        Function::Sum => Value::Integer(sum),
        Function::Avg => average(sum, count, &feature.data_type),
        _ => deviation(count, sum, squares, &feature.argument_type),
    }
}

/// DataFusion's average: amounts gain four decimal places and are truncated; other numbers become floats.
fn average(sum: i128, count: i64, data_type: &DataType) -> Value {
    match data_type {
        DataType::Decimal128(_, _) => Value::Integer(sum * 10_000 / i128::from(count)),
        _ => Value::Float(sum as f64 / count as f64),
    }
}

/// Sample standard deviation from exact sums: `n·Σx² − (Σx)²` is an integer, so nothing cancels.
fn deviation(count: i64, sum: i128, squares: Option<i128>, data_type: &DataType) -> Value {
    if count < 2 {
        return Value::Null;
    }
    let scale = match data_type {
        DataType::Decimal128(_, scale) => 10_f64.powi(i32::from(*scale)),
        _ => 1.0,
    };
    let n = i128::from(count);
    let exact = squares.and_then(|s| n.checked_mul(s)).and_then(|s| sum.checked_mul(sum).map(|q| s - q));
    let spread = match exact {
        Some(exact) => exact as f64,
        // Amounts near the largest: floats are all that is left, and good to a part in 10^15 of the squares.
        None => (count as f64 * squares.unwrap_or(i128::MAX) as f64 - (sum as f64) * (sum as f64)).max(0.0),
    };
    Value::Float((spread / (count as f64 * (count - 1) as f64)).sqrt() / scale)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LAYOUT: Layout = Layout { filters: 64, arguments: 2 };
    const FUNCTIONS: [Function; 10] = [
        Function::Count,
        Function::CountDistinct,
        Function::Sum,
        Function::Avg,
        Function::Min,
        Function::Max,
        Function::Stddev,
        Function::FirstValue,
        Function::LastValue,
        Function::TopShare,
    ];

    type Plain = (i64, bool, Option<i64>);

    fn feature(function: Function, frame: Frame) -> WindowFeature {
        let amount = DataType::Decimal128(20, 4);
        let data_type = match function {
            Function::Avg => DataType::Decimal128(24, 8),
            Function::Stddev => DataType::Float64,
            _ => amount.clone(),
        };
        let weight = (function == Function::TopShare).then_some(1);
        WindowFeature {
            function,
            argument: Some(0),
            weight,
            filter: 0,
            frame,
            latest: None,
            argument_type: amount,
            data_type,
        }
    }

    /// The same aggregates written the plain way, from the rows themselves. Weights are the value plus 100.
    fn reference(rows: &[Plain], own: usize, feature: &WindowFeature, window: i64) -> Value {
        let (now, frame) = (rows[own].0, feature.frame);
        let counts = |(n, r): &(usize, &Plain)| {
            let after_start = if frame.excludes_start { r.0 > now - window } else { r.0 >= now - window };
            let before_end = if frame.excludes_end { r.0 < now } else { r.0 <= now };
            r.1 && after_start && before_end && !(frame.excludes_row && *n == own)
        };
        let counted: Vec<&Plain> = rows.iter().enumerate().filter(counts).map(|(_, r)| r).collect();
        let values: Vec<i64> = counted.iter().filter_map(|r| r.2).collect();
        let sum: i128 = values.iter().map(|v| i128::from(*v)).sum();
        let bits = |v: Option<i64>| v.map_or(Value::Null, |v| Value::Bits(v as u64));
        match feature.function {
            Function::Count => Value::Integer(values.len() as i128),
            Function::CountDistinct => {
                Value::Integer(values.iter().collect::<std::collections::BTreeSet<_>>().len() as i128)
            }
            Function::Min => bits(values.iter().min().copied()),
            Function::Max => bits(values.iter().max().copied()),
            Function::FirstValue => bits(counted.first().and_then(|r| r.2)),
            Function::LastValue => bits(counted.last().and_then(|r| r.2)),
            _ if values.is_empty() => Value::Null,
            Function::Sum => Value::Integer(sum),
            Function::Avg => Value::Integer(sum * 10_000 / values.len() as i128),
            Function::Stddev if values.len() < 2 => Value::Null,
            Function::Stddev => {
                let mean = sum as f64 / values.len() as f64;
                let spread: f64 = values.iter().map(|v| (*v as f64 - mean).powi(2)).sum();
                Value::Float((spread / (values.len() - 1) as f64).sqrt() / 10_000.0)
            }
            Function::TopShare => {
                let mut groups = BTreeMap::new();
                for v in &values {
                    *groups.entry(*v).or_insert(0_i128) += i128::from(*v + 100);
                }
                let total: i128 = groups.values().sum();
                let top = groups.values().max().copied().unwrap_or(0);
                if total > 0 { Value::Integer(top * 1_000_000 / total) } else { Value::Null }
            }
        }
    }

    fn same(a: Value, b: Value) -> bool {
        match (a, b) {
            (Value::Float(a), Value::Float(b)) => (a - b).abs() <= 1e-9 * b.abs().max(1e-6),
            _ => a == b,
        }
    }

    proptest! {
        /// Few times and few values, so that ties at both ends of the window are common; long enough for
        /// accumulators to take over from scans and give way again; old rows leave the ring on the way.
        #[test]
        fn a_hot_key_and_a_scanned_key_give_the_value_of_the_plain_definition(
            steps in prop::collection::vec((0_i64..40, prop::bool::weighted(0.8), prop::option::weighted(0.9, -5_i64..6), 1_usize..4), 1..150),
            window in 0_i64..400,
            excludes in prop::array::uniform3(prop::bool::ANY),
        ) {
            let [excludes_start, excludes_end, excludes_row] = excludes;
            let frame = Frame { excludes_start, excludes_end, excludes_row, ..Frame::rolling(window) };
            for function in FUNCTIONS {
                let feature = feature(function, frame);
                let (mut ring, mut accumulator, mut plain, mut now) = (Ring::default(), None, Vec::new(), 0);
                for &(gap, counts, value, peers) in &steps {
                    now += if gap > 30 { gap * 10 } else { gap / 10 };
                    for _ in 0..peers {
                        let arguments = [value.map(|v| v as u64), value.map(|v| (v + 100) as u64)];
                        let filters: &[usize] = if counts { &[0] } else { &[] };
                        ring.push(&LAYOUT.row(now, 0, filters, &arguments));
                        plain.push((now, counts, value));
                    }
                    for peer in 1..=peers {
                        let own = Some(ring.end() - peer as u64);
                        let value = evaluate(Rows::from(&ring), LAYOUT, &feature, now, own, &mut accumulator);
                        let wanted = reference(&plain, plain.len() - peer, &feature, window);
                        prop_assert!(same(value, wanted), "{function:?} at {now}: {value:?}, plain {wanted:?}");
                        let rows = Rows::from(&ring);
                        let window = bounds(rows, LAYOUT, &frame, now, None);
                        if let Some(marks) = marked(&ring, &feature, window, own, &None) {
                            let value = scan::marked(&ring, LAYOUT, &feature, marks & ring.marks(0, LAYOUT, 0..64));
                            prop_assert!(same(value, wanted), "{function:?} at {now}: {value:?}, plain {wanted:?}");
                        }
                    }
                    let expired = ring.lower_bound(now - window, LAYOUT);
                    leave_behind(&mut accumulator, Rows::from(&ring), LAYOUT, &feature, expired);
                    ring.drop_before(expired, LAYOUT);
                }
            }
        }
    }
}
