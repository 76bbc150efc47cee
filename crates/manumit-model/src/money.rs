//! Exact amounts: integers of one ten-thousandth of the currency unit.
//!
//! ISO 4217 knows currencies with up to four decimals (CLF, UYW), so scale 4 holds every one of them exactly.
//! In Arrow an amount is `Decimal128(20, 4)`; inside it is an `i64`; sums are `i128`. No float ever holds money.

use std::fmt;

use arrow::datatypes::DataType;

/// Decimal places of every amount in Arrow columns and in state.
pub const SCALE: u32 = 4;
/// Precision of amount columns: sixteen digits before the point, four behind.
pub const PRECISION: u8 = 20;
/// Ten to the power of [`SCALE`].
pub const UNIT: i64 = 10_000;
/// Largest magnitude an amount may have: fits an `i64` at scale 4 with room to negate.
pub const MAX_ABS: i64 = i64::MAX / 2;

/// Arrow type of amount columns.
pub fn data_type() -> DataType {
    DataType::Decimal128(PRECISION, SCALE as i8)
}

/// An exact amount at scale 4, without its currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Money(pub i64);

/// Why a text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not a plain decimal number.
    #[error("is not a plain decimal number such as 1234.50")]
    NotANumber,
    /// More than four digits behind the point that are not zero.
    #[error("has more than four decimal places")]
    TooFine,
    /// Magnitude above [`MAX_ABS`].
    #[error("is larger than an amount may be")]
    TooLarge,
}

impl Money {
    /// Parses a plain decimal: optional sign, digits, optional point and digits. No exponent, no grouping.
    ///
    /// # Errors
    /// [`MoneyError`] says which rule the text broke.
    pub fn parse(text: &str) -> Result<Self, MoneyError> {
        let text = text.trim();
        let (negative, digits) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if (whole.is_empty() && fraction.is_empty())
            || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit())
        {
            return Err(MoneyError::NotANumber);
        }
        let (kept, rest) = fraction.split_at(fraction.len().min(SCALE as usize));
        if rest.bytes().any(|b| b != b'0') {
            return Err(MoneyError::TooFine);
        }
        let mut value: i64 = 0;
        for digit in whole.bytes().chain(kept.bytes()).map(|b| i64::from(b - b'0')) {
            value = value.checked_mul(10).and_then(|v| v.checked_add(digit)).ok_or(MoneyError::TooLarge)?;
        }
        let missing = SCALE - kept.len() as u32;
        value = value.checked_mul(10_i64.pow(missing)).ok_or(MoneyError::TooLarge)?;
        if value > MAX_ABS {
            return Err(MoneyError::TooLarge);
        }
        Ok(Money(if negative { -value } else { value }))
    }

    /// The plain number with at least `decimals` places: `1234.50`.
    pub fn plain(self, decimals: u32) -> String {
        self.grouped(decimals).replace(',', "")
    }

    /// The number with `decimals` places, digits grouped by commas: `1,234.50`.
    pub fn grouped(self, decimals: u32) -> String {
        group_decimal(i128::from(self.0), SCALE, decimals)
    }
}

impl fmt::Display for Money {
    /// The shortest plain decimal: trailing zeros behind the point are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        let (whole, fraction) = (magnitude / UNIT as u64, magnitude % UNIT as u64);
        if fraction == 0 {
            return write!(f, "{sign}{whole}");
        }
        let fraction = format!("{fraction:04}");
        write!(f, "{sign}{whole}.{}", fraction.trim_end_matches('0'))
    }
}

/// Writes `value` (an integer at `scale` decimals) with `decimals` places and commas between thousands.
/// Digits beyond `decimals` are shown only when they are not zero, so that nothing is rounded away.
pub fn group_decimal(value: i128, scale: u32, decimals: u32) -> String {
    let unit = 10_u128.pow(scale);
    let magnitude = value.unsigned_abs();
    let whole = (magnitude / unit).to_string();
    let mut grouped = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let all = if scale == 0 {
        String::new()
    } else {
        format!("{:0width$}", magnitude % unit, width = scale as usize)
    };
    let mut fraction = all.trim_end_matches('0').to_string();
    while fraction.len() < decimals as usize {
        fraction.push('0');
    }
    let sign = if value < 0 { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{grouped}") } else { format!("{sign}{grouped}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_decimals_are_read_exactly() {
        assert_eq!(Money::parse("12.5"), Ok(Money(125_000)));
        assert_eq!(Money::parse("-0.0001"), Ok(Money(-1)));
        assert_eq!(Money::parse("7.10000000"), Ok(Money(71_000)));
        assert_eq!(Money::parse(".5"), Ok(Money(5_000)));
    }

    #[test]
    fn what_is_not_a_plain_decimal_is_refused_with_its_reason() {
        for text in ["", "-", ".", "1e3", "1,000", "NaN", "12.3.4", "£5"] {
            assert_eq!(Money::parse(text), Err(MoneyError::NotANumber), "{text}");
        }
        assert_eq!(Money::parse("0.00001"), Err(MoneyError::TooFine));
        assert_eq!(Money::parse("99999999999999999999"), Err(MoneyError::TooLarge));
    }

    #[test]
    fn a_displayed_amount_reads_back_as_itself() {
        for raw in [0, 1, -1, 10_000, 123_456_789, -9_999, MAX_ABS] {
            assert_eq!(Money::parse(&Money(raw).to_string()), Ok(Money(raw)));
        }
    }

    #[test]
    fn grouping_keeps_every_digit_that_is_not_zero() {
        assert_eq!(Money(12_345_678_900).grouped(2), "1,234,567.89");
        assert_eq!(Money(12_345).grouped(2), "1.2345");
        assert_eq!(Money(-9_990_000).grouped(0), "-999");
    }
}
