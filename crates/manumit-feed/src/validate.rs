//! Rules that every canonical row must keep.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{Date32Type, Decimal128Type, Int32Type, TimestampMicrosecondType};
use manumit_model::money::Money;
use manumit_model::schema::{Kind, TRANSACTIONS};
use manumit_model::{Stage, currency, nearest};

use crate::canonical::{RowFaults, degrees};

/// 1900-01-01 and 2200-01-01, microseconds UTC.
const EARLIEST: i64 = -2_208_988_800_000_000;
const LATEST: i64 = 7_258_118_400_000_000;
/// Reason of rows without a value that every row needs.
pub(crate) const MISSING_FIELD: &str = "missing_field";
/// Reason of rows without any account.
pub(crate) const NO_ACCOUNT: &str = "no_account";
const LONGEST_TEXT: usize = 10_000;
const LONGEST_ID: usize = 256;

const IDS: [&str; 12] = [
    "tx_id",
    "original_tx_id",
    "debtor_account",
    "creditor_account",
    "debtor_customer",
    "creditor_customer",
    "merchant_id",
    "terminal_id",
    "branch_id",
    "device_id",
    "session_id",
    "card_id",
];

pub(crate) type Columns = BTreeMap<&'static str, ArrayRef>;

/// How far ahead of its record a row may be dated.
pub(crate) struct Ahead<'a> {
    /// Microseconds.
    pub micros: i64,
    /// When a row's record was written, microseconds UTC.
    pub known_at: &'a dyn Fn(usize) -> i64,
}

/// Checks all rows; without `ahead` they may be dated in the future.
pub(crate) fn validate(columns: &Columns, rows: usize, ahead: Option<&Ahead<'_>>, faults: &mut RowFaults) {
    for name in ["tx_id", "event_time", "amount", "currency"] {
        let column = columns.get(name);
        if column.is_some_and(is_whole) {
            continue;
        }
        let missing = |row: usize| column.is_none_or(|c| c.is_null(row) || empty(c, row));
        for row in (0..rows).filter(|&row| missing(row)) {
            let message = format!("`{name}` is missing; every row needs it");
            faults.add(row, Stage::Validate, MISSING_FIELD, name, None, message);
        }
    }
    accounts(columns, rows, faults);
    money(columns, rows, faults);
    for column in TRANSACTIONS {
        let Some(array) = columns.get(column.name) else { continue };
        match column.kind {
            Kind::Text => lengths(column.name, array.as_string(), faults),
            Kind::Word(words) => text(column.name, array.as_string(), faults, |value| {
                if words.contains(&value) {
                    return None;
                }
                let near = nearest(value, words.iter().copied());
                let help = near.map_or(String::new(), |n| format!("; did you mean `{n}`?"));
                Some(("unknown_word", format!("must be one of {}{help}", words.join(", "))))
            }),
            Kind::Country => text(column.name, array.as_string(), faults, |value| {
                let good = value.len() == 2 && value.bytes().all(|b| b.is_ascii_uppercase());
                (!good).then(|| ("bad_country", "must be two capital letters (ISO 3166-1 alpha-2)".into()))
            }),
            Kind::Mcc => text(column.name, array.as_string(), faults, |value| {
                let good = value.len() == 4 && value.bytes().all(|b| b.is_ascii_digit());
                (!good).then(|| ("bad_mcc", "must be four digits; write 0742, not 742".into()))
            }),
            Kind::Instant => instants(column.name, array, ahead, faults),
            Kind::LocalTime | Kind::Date => calendar(column.name, array, faults),
            Kind::Degrees => {
                let most = if column.name == "latitude" { 90.0 } else { 180.0 };
                let Some(values) = degrees(array) else { continue };
                let wrong = |row: usize| {
                    values.is_valid(row) && values.value(row).is_nan() | (values.value(row).abs() > most)
                };
                for row in (0..rows).filter(|&row| wrong(row)) {
                    let message = format!(
                        "`{}` must be within ±{most}; are latitude and longitude swapped?",
                        column.name
                    );
                    let value = Some(values.value(row).to_string());
                    faults.add(row, Stage::Validate, "out_of_range", column.name, value, message);
                }
            }
            Kind::Int if column.name == "utc_offset_minutes" => {
                let values = array.as_primitive::<Int32Type>();
                for row in (0..rows).filter(|&row| values.is_valid(row) && values.value(row).abs() > 18 * 60)
                {
                    let value = Some(values.value(row).to_string());
                    let message = "`utc_offset_minutes` must be within ±18 hours; is it given in minutes?";
                    faults.add(row, Stage::Validate, "out_of_range", column.name, value, message);
                }
            }
            _ => {}
        }
    }
}

fn empty(array: &ArrayRef, row: usize) -> bool {
    array.as_string_opt::<i32>().is_some_and(|text| text.value(row).is_empty())
}

/// A value stands in every row. Asked first, as it is so of almost all batches.
fn is_whole(array: &ArrayRef) -> bool {
    let texts = array.as_string_opt::<i32>();
    array.null_count() == 0
        && texts.is_none_or(|texts| texts.value_offsets().windows(2).all(|ends| ends[0] < ends[1]))
}

fn accounts(columns: &Columns, rows: usize, faults: &mut RowFaults) {
    let sides = ["debtor_account", "creditor_account"].map(|name| columns.get(name));
    if sides.iter().flatten().any(|column| is_whole(column)) {
        return;
    }
    for row in 0..rows {
        let known = sides.iter().flatten().any(|c| c.is_valid(row) && !empty(c, row));
        if !known {
            let message = "neither `debtor_account` nor `creditor_account` is known; a payment without an account cannot be watched";
            faults.add(row, Stage::Validate, NO_ACCOUNT, "debtor_account", None, message);
        }
    }
}

fn money(columns: &Columns, rows: usize, faults: &mut RowFaults) {
    let Some(currencies) = columns.get("currency").map(|c| c.as_string::<i32>()) else { return };
    let mut last: Option<(String, Option<u8>)> = None;
    let mut places = Vec::with_capacity(rows);
    for row in 0..rows {
        if currencies.is_null(row) {
            places.push(None);
            continue;
        }
        let code = currencies.value(row);
        if last.as_ref().is_none_or(|(known, _)| known != code) {
            last = Some((code.to_string(), currency::minor_units(code)));
        }
        let found = last.as_ref().and_then(|(_, places)| *places);
        if found.is_none() {
            let near =
                nearest(code, currency::codes()).map_or(String::new(), |n| format!("; did you mean `{n}`?"));
            let message = format!("`currency` is no ISO 4217 code{near}");
            faults.add(row, Stage::Validate, "unknown_currency", "currency", Some(code.into()), message);
        }
        places.push(found);
    }
    for name in ["amount", "fee_amount", "debtor_balance", "creditor_balance"] {
        let Some(amounts) = columns.get(name).map(|c| c.as_primitive::<Decimal128Type>()) else { continue };
        for row in (0..rows).filter(|&row| amounts.is_valid(row)) {
            let amount = amounts.value(row);
            let written = || i64::try_from(amount).map_or(amount.to_string(), |v| Money(v).to_string());
            if amount < 0 && !name.ends_with("balance") {
                let message = format!(
                    "`{name}` is negative; the direction is in who is debtor and who is creditor: use abs() and swap the sides"
                );
                faults.add(row, Stage::Validate, "negative_amount", name, Some(written()), message);
            }
            if let Some(places) = places[row]
                && !divides(TENS[usize::from(4 - places.min(4))], amount)
            {
                let message = format!("`{name}` has more decimals than its currency, which has {places}");
                faults.add(row, Stage::Validate, "too_many_decimals", name, Some(written()), message);
            }
        }
    }
}

/// Powers of ten, up to the four decimals that amounts have.
const TENS: [i64; 5] = [1, 10, 100, 1_000, 10_000];

/// In 64 bits where the amount has no more: division of 128 is a call and many steps.
fn divides(divisor: i64, amount: i128) -> bool {
    match i64::try_from(amount) {
        Ok(amount) => amount % divisor == 0,
        Err(_) => amount % i128::from(divisor) == 0,
    }
}

/// Texts that passed a check lately, each where its length and ends put it: most columns that are checked have few different ones.
struct Passed<'a>([&'a str; 64]);

impl<'a> Passed<'a> {
    fn place(text: &str) -> usize {
        let bytes = text.as_bytes();
        let end = |at: Option<&u8>| at.map_or(0, |byte| usize::from(*byte));
        (bytes.len().wrapping_mul(11) ^ end(bytes.first()).wrapping_mul(5) ^ end(bytes.last())) % 64
    }

    fn has(&self, text: &str) -> bool {
        !text.is_empty() && self.0[Passed::place(text)] == text
    }

    fn keep(&mut self, text: &'a str) {
        self.0[Passed::place(text)] = text;
    }
}

fn text(
    name: &str,
    values: &StringArray,
    faults: &mut RowFaults,
    check: impl Fn(&str) -> Option<(&'static str, String)>,
) {
    let mut passed = Passed([""; 64]);
    for row in (0..values.len()).filter(|&row| values.is_valid(row)) {
        let value = values.value(row);
        if passed.has(value) {
            continue;
        }
        match check(value) {
            None => passed.keep(value),
            Some((reason, words)) => {
                let value = Some(value.to_string());
                faults.add(row, Stage::Validate, reason, name, value, format!("`{name}` {words}"));
            }
        }
    }
}

fn lengths(name: &str, values: &StringArray, faults: &mut RowFaults) {
    let most = if IDS.contains(&name) { LONGEST_ID } else { LONGEST_TEXT };
    let offsets = values.value_offsets();
    if offsets.windows(2).all(|ends| (ends[1] - ends[0]) as usize <= most) {
        return;
    }
    for row in 0..values.len() {
        let length = (offsets[row + 1] - offsets[row]) as usize;
        if length > most && values.is_valid(row) {
            let message = format!("`{name}` has {length} bytes, more than {most}");
            let value = Some(values.value(row).to_string());
            faults.add(row, Stage::Validate, "too_long", name, value, message);
        }
    }
}

fn instants(name: &str, array: &ArrayRef, ahead: Option<&Ahead<'_>>, faults: &mut RowFaults) {
    let times = array.as_primitive::<TimestampMicrosecondType>();
    for row in (0..times.len()).filter(|&row| times.is_valid(row)) {
        let time = times.value(row);
        let value = || chrono::DateTime::from_timestamp_micros(time).map(|t| t.to_rfc3339());
        if !(EARLIEST..LATEST).contains(&time) {
            let message = format!(
                "`{name}` is before 1900 or after 2200; is it in seconds, milliseconds or microseconds?"
            );
            faults.add(row, Stage::Validate, "impossible_time", name, value(), message);
        } else if let Some(ahead) = ahead
            && time > (ahead.known_at)(row).saturating_add(ahead.micros)
        {
            let known = (ahead.known_at)(row);
            let known = chrono::DateTime::from_timestamp_micros(known).map(|t| t.to_rfc3339());
            let message = format!(
                "`{name}` is more than {} after the record was written ({}); such a row would make all that come after it late.                  Is the year mistyped, or the sender's clock wrong? `future` of the feed, or of manumit.toml, is the bound",
                words(ahead.micros),
                known.unwrap_or_default()
            );
            faults.add(row, Stage::Validate, "in_the_future", name, value(), message);
        }
    }
}

/// A time in words: days where it has whole ones.
fn words(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    let (number, unit) = [(86_400, "day"), (3_600, "hour"), (60, "minute")]
        .into_iter()
        .find(|(length, _)| seconds >= *length && seconds % length == 0)
        .map_or((seconds, "second"), |(length, unit)| (seconds / length, unit));
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

fn calendar(name: &str, array: &ArrayRef, faults: &mut RowFaults) {
    let micros = |row: usize| match array.as_primitive_opt::<Date32Type>() {
        Some(days) => i64::from(days.value(row)) * 86_400_000_000,
        None => array.as_primitive::<TimestampMicrosecondType>().value(row),
    };
    for row in (0..array.len()).filter(|&row| array.is_valid(row)) {
        if !(EARLIEST..LATEST).contains(&micros(row)) {
            let message = format!("`{name}` is before 1900 or after 2200");
            faults.add(row, Stage::Validate, "impossible_time", name, None, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_passes_again_only_if_it_is_the_very_same() {
        let mut passed = Passed([""; 64]);
        assert!(!passed.has(""));
        let others = ["card", "cord", "c--d", "car", "cards", "dard", "carc", "c"];
        for text in others {
            passed.keep(text);
            assert!(passed.has(text));
            assert!(others.iter().all(|other| !passed.has(other) || passed.0.contains(other)));
        }
        passed.keep("card");
        assert_eq!(Passed::place("card"), Passed::place("cord"));
        assert!(passed.has("card") && !passed.has("cord"));
    }

    #[test]
    fn division_without_rest_is_that_of_128_bits() {
        let large = i128::from(i64::MAX);
        for amount in
            [0, 1, 100, 150, -100, -150, 12_345_600, large, large + 1, large * 1_000, -large * 1_000]
        {
            for divisor in TENS {
                assert_eq!(divides(divisor, amount), amount % i128::from(divisor) == 0, "{amount} {divisor}");
            }
        }
    }
}
