//! What tells most rows that do not hit at little cost: too few rows, and comparisons of a feature with a number.
//!
//! A condition is a conjunction, so one part that does not hold decides. `payments >= 4` cannot hold for a key with
//! three rows, whatever else is asked, and where it is asked, two integers are compared. Only what passes goes to
//! DataFusion, and only with the columns that the condition reads. An expression that fails is therefore told as a fault
//! where the answer depends on it, not everywhere.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use manumit_rules::ir::{Conjunct, FeatureKind, Function, Indicator};
use manumit_sql::{Compiled, Sql};

use crate::EngineError;
use crate::program::FeatureProgram;
use crate::window::{Value, WindowFeature};

/// An indicator's cheap tests.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    /// A key with fewer rows for windows of time cannot hit.
    pub least_rows: u64,
    /// All must hold; counts come first.
    pub tests: Vec<Test>,
    /// There is nothing else to the condition: a candidate that passes the tests hits.
    pub decides: bool,
}

/// A window feature compared with a constant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Test {
    /// Of the keyspace.
    pub feature: usize,
    /// Which of the indicator's conjuncts it is.
    pub conjunct: usize,
    /// Orders of value to bound in which it holds.
    holds: [bool; 3],
    /// At the scale of the feature's type.
    bound: i128,
    /// The feature counts rows, and must count so many: fewer rows in the window cannot do.
    pub least_rows: u64,
}

impl Test {
    /// NULL does not hold.
    pub(crate) fn passes(&self, value: Value) -> bool {
        let order = match value {
            Value::Integer(value) => value.cmp(&self.bound),
            Value::Bits(bits) => i128::from(bits as i64).cmp(&self.bound),
            Value::Null | Value::Float(_) => return false,
        };
        self.holds[(order as i8 + 1) as usize]
    }

    /// The conjunct as a test, if it is one.
    fn of(
        (at, conjunct): (usize, &Conjunct),
        indicator: &Indicator,
        features: &[FeatureProgram],
        windows: &[WindowFeature],
    ) -> Option<Test> {
        let comparison = conjunct.comparison.as_ref()?;
        let place = indicator.features.iter().position(|f| f.name == comparison.measured)?;
        let FeatureProgram::Window(feature) = features[place] else { return None };
        let window = &windows[feature];
        let scale = match window.data_type {
            DataType::Int64 | DataType::Int32 | DataType::Int16 | DataType::Int8 => 0,
            // A sum of the widest type may not fit the type that both sides are brought to: DataFusion decides.
            DataType::Decimal128(precision, scale) if precision <= 30 => u32::try_from(scale).ok()?,
            _ => return None,
        };
        let holds = match comparison.operator.as_str() {
            "<" => [true, false, false],
            "<=" => [true, true, false],
            "=" => [false, true, false],
            ">=" => [false, true, true],
            ">" => [false, false, true],
            "<>" | "!=" => [true, false, true],
            _ => return None,
        };
        let bound = number(&comparison.threshold, scale)?;
        let counts = matches!(window.function, Function::Count | Function::CountDistinct);
        // The least value at which it can hold.
        let least = match holds {
            [false, true, _] => bound,
            [false, false, true] => bound.checked_add(1)?,
            _ => 0,
        };
        let least_rows = if counts { u64::try_from(least).unwrap_or(0) } else { 0 };
        Some(Test { feature, conjunct: at, holds, bound, least_rows })
    }
}

/// A number as SQL writes it, at a scale; `None` for anything else, and for more digits than the scale has.
fn number(text: &str, scale: u32) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    // 18 digits: no comparison of such a number with a value is made in a wider type.
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) || digits.len() > 18 {
        return None;
    }
    let missing = scale.checked_sub(u32::try_from(fraction.len()).ok()?)?;
    let value =
        format!("{whole}{fraction}").parse::<i128>().ok()?.checked_mul(10_i128.checked_pow(missing)?)?;
    Some(if negative { -value } else { value })
}

impl Screen {
    /// Reads a condition's parts; `windows` are the features of the keyspace.
    pub(crate) fn of(
        indicator: &Indicator,
        features: &[FeatureProgram],
        windows: &[WindowFeature],
    ) -> Screen {
        let mut screen = Screen { decides: true, ..Screen::default() };
        for conjunct in indicator.conjuncts.iter().enumerate().filter(|(_, conjunct)| conjunct.uses_feature) {
            match Test::of(conjunct, indicator, features, windows) {
                Some(test) => screen.tests.push(test),
                None => screen.decides = false,
            }
        }
        let of_time = screen.tests.iter().filter(|test| windows[test.feature].latest.is_none());
        screen.least_rows = of_time.map(|test| test.least_rows).max().unwrap_or(0);
        screen.tests.sort_by_key(|test| std::cmp::Reverse(test.least_rows));
        screen.decides &= !indicator.conjuncts.is_empty() && indicator.keyed.is_none();
        screen
    }
}

/// A condition over those columns and features only that it reads.
#[derive(Debug)]
pub(crate) struct Thin {
    /// Places in the indicator's schema, ascending: columns, then features.
    pub places: Vec<usize>,
    pub schema: SchemaRef,
    pub condition: Compiled,
    /// Of the features among them that are derived: (number of the feature, the expression over those before it).
    pub derived: Vec<(usize, Compiled)>,
}

impl Thin {
    /// `columns`: how many columns come before the features in `schema`.
    pub(crate) fn compile(
        indicator: &Indicator,
        condition: &Compiled,
        columns: usize,
        features: &[FeatureProgram],
        schema: &SchemaRef,
        sql: &Sql,
    ) -> Result<Thin, EngineError> {
        let mut names: BTreeSet<&str> = condition.columns.iter().map(String::as_str).collect();
        for (feature, program) in indicator.features.iter().zip(features).rev() {
            if let FeatureProgram::Derived(expression) = program
                && names.contains(feature.name.as_str())
            {
                names.extend(expression.columns.iter().map(String::as_str));
            }
        }
        let places: Vec<usize> = (0..schema.fields().len())
            .filter(|&place| names.contains(schema.field(place).name().as_str()))
            .collect();
        let thin: SchemaRef = Arc::new(schema.project(&places)?);
        let mut derived = Vec::new();
        for (at, &place) in places.iter().enumerate().filter(|(_, place)| **place >= columns) {
            let feature = place - columns;
            if let FeatureKind::Derived(text) = &indicator.features[feature].kind {
                let before: SchemaRef = Arc::new(Schema::new(thin.fields()[..at].to_vec()));
                derived.push((feature, sql.compile(&before, text)?));
            }
        }
        Ok(Thin { condition: sql.compile(&thin, &indicator.condition)?, schema: thin, places, derived })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_at_the_scale_of_the_value_or_not_at_all() {
        for (text, scale, wanted) in [
            ("5000", 4, Some(50_000_000)),
            ("-0.35", 4, Some(-3_500)),
            ("3", 0, Some(3)),
            ("0.5", 0, None),
            ("0.00001", 4, None),
            ("1e3", 0, None),
            ("CAST(3 AS BIGINT)", 0, None),
            ("'3'", 0, None),
            ("", 0, None),
            ("-", 0, None),
            (".5", 4, None),
            ("1234567890123456789", 0, None),
        ] {
            assert_eq!(number(text, scale), wanted, "{text}");
        }
    }

    #[test]
    fn a_value_is_compared_as_the_operator_says_and_null_does_not_hold() {
        let test = |holds| Test { feature: 0, conjunct: 0, holds, bound: 4, least_rows: 0 };
        let passing = |test: Test| [3, 4, 5].map(|value| test.passes(Value::Integer(value)));
        assert_eq!(passing(test([false, true, true])), [false, true, true]);
        assert_eq!(passing(test([true, false, false])), [true, false, false]);
        assert_eq!(passing(test([true, false, true])), [true, false, true]);
        assert!(!test([true, true, true]).passes(Value::Null));
        assert!(test([true, false, false]).passes(Value::Bits(-5_i64 as u64)));
    }
}
