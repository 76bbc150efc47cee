//! Text columns to typed columns, value by value exact, with a fault for each value that does not fit.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array,
    Int64Array, ListArray, RecordBatch, RecordBatchOptions, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Offset, TimeZone as _};

use crate::RecordFault;
use crate::shape::{RawField, RawType};

/// The zone of local times in records.
pub type TimeZone = chrono_tz::Tz;

/// Digits behind the point of raw decimals.
const SCALE: u32 = 10;

/// Why a text is not of a type.
struct Misfit {
    reason: &'static str,
    message: String,
}

fn misfit(reason: &'static str, message: impl Into<String>) -> Misfit {
    Misfit { reason, message: message.into() }
}

/// Turns text rows into typed rows. Rows with a fault hold NULL there; the caller leaves them out.
pub(crate) struct Typing<'a> {
    pub zone: Option<TimeZone>,
    /// Record of each row.
    pub rows: &'a [usize],
    pub faults: Vec<RecordFault>,
    offsets: Vec<ArrayRef>,
}

impl<'a> Typing<'a> {
    pub(crate) fn new(zone: Option<TimeZone>, rows: &'a [usize]) -> Typing<'a> {
        Typing { zone, rows, faults: Vec::new(), offsets: Vec::new() }
    }

    pub(crate) fn batch(
        mut self,
        fields: &[RawField],
        schema: &SchemaRef,
        text: &RecordBatch,
    ) -> Result<(RecordBatch, Vec<RecordFault>), ArrowError> {
        let own: Vec<usize> = (0..text.num_rows()).collect();
        let mut columns = Vec::with_capacity(schema.fields().len());
        for (field, column) in fields.iter().zip(text.columns()) {
            columns.push(self.column(&field.data_type, column, &field.name, Some(&own))?);
        }
        columns.append(&mut self.offsets);
        let options = RecordBatchOptions::new().with_row_count(Some(text.num_rows()));
        let mut faults = self.faults;
        faults.sort_by_key(|fault| fault.record);
        faults.dedup_by_key(|fault| fault.record);
        Ok((RecordBatch::try_new_with_options(schema.clone(), columns, &options)?, faults))
    }

    /// `owner`: row of the batch for each value; offsets are kept outside lists only, where it is the identity.
    fn column(
        &mut self,
        data_type: &RawType,
        text: &ArrayRef,
        path: &str,
        owner: Option<&[usize]>,
    ) -> Result<ArrayRef, ArrowError> {
        let owner = owner.unwrap_or(&[]);
        Ok(match data_type {
            RawType::Text => text.clone(),
            RawType::Struct(fields) => {
                let values = text.as_struct();
                let mut columns = Vec::new();
                for (field, column) in fields.iter().zip(values.columns()) {
                    columns.push(self.column(
                        &field.data_type,
                        column,
                        &format!("{path}.{}", field.name),
                        Some(owner),
                    )?);
                }
                let arrow::datatypes::DataType::Struct(types) = data_type.data_type() else {
                    return Ok(text.clone());
                };
                Arc::new(StructArray::try_new_with_length(
                    types,
                    columns,
                    values.nulls().cloned(),
                    values.len(),
                )?)
            }
            RawType::List(item) => {
                let lists = text.as_list::<i32>();
                let mut owners = Vec::with_capacity(lists.values().len());
                for row in 0..lists.len() {
                    let (start, end) = (lists.value_offsets()[row], lists.value_offsets()[row + 1]);
                    owners.extend((start..end).map(|_| owner.get(row).copied().unwrap_or(row)));
                }
                let before = self.offsets.len();
                // Values before the first offset belong to no row.
                let first = lists.value_offsets().first().copied().unwrap_or(0) as usize;
                let values = lists.values().slice(first, owners.len());
                let values = self.column(item, &values, path, Some(&owners))?;
                self.offsets.truncate(before);
                let lengths = (0..lists.len()).map(|row| lists.value_length(row) as usize);
                let offsets = arrow::buffer::OffsetBuffer::from_lengths(lengths);
                let field = Arc::new(arrow::datatypes::Field::new_list_field(item.data_type(), true));
                Arc::new(ListArray::try_new(field, offsets, values, lists.nulls().cloned())?)
            }
            RawType::Timestamp => {
                let values = text.as_string::<i32>();
                let mut offsets = Vec::with_capacity(values.len());
                let zone = self.zone;
                let times: TimestampMicrosecondArray = (0..values.len())
                    .map(|row| {
                        let found = self.value(values, row, path, owner, |text| timestamp(text, zone));
                        offsets.push(found.and_then(|(_, offset)| offset));
                        found.map(|(micros, _)| micros)
                    })
                    .collect();
                self.offsets.push(Arc::new(Int32Array::from(offsets)));
                Arc::new(times.with_timezone("UTC"))
            }
            RawType::EpochSeconds => self.epoch(text, path, owner, 1_000_000),
            RawType::EpochMillis => self.epoch(text, path, owner, 1_000),
            RawType::EpochMicros => self.epoch(text, path, owner, 1),
            RawType::Integer => {
                let values = text.as_string::<i32>();
                Arc::new(
                    (0..values.len())
                        .map(|row| self.value(values, row, path, owner, integer))
                        .collect::<Int64Array>(),
                )
            }
            RawType::Decimal => {
                let values = text.as_string::<i32>();
                let all: Decimal128Array =
                    (0..values.len()).map(|row| self.value(values, row, path, owner, decimal)).collect();
                Arc::new(all.with_precision_and_scale(28, SCALE as i8)?)
            }
            RawType::Number => {
                let values = text.as_string::<i32>();
                Arc::new(
                    (0..values.len())
                        .map(|row| self.value(values, row, path, owner, number))
                        .collect::<Float64Array>(),
                )
            }
            RawType::Boolean => {
                let values = text.as_string::<i32>();
                Arc::new(
                    (0..values.len())
                        .map(|row| self.value(values, row, path, owner, flag))
                        .collect::<BooleanArray>(),
                )
            }
            RawType::Date => {
                let values = text.as_string::<i32>();
                Arc::new(
                    (0..values.len())
                        .map(|row| self.value(values, row, path, owner, day))
                        .collect::<Date32Array>(),
                )
            }
        })
    }

    fn epoch(&mut self, text: &ArrayRef, path: &str, owner: &[usize], factor: i64) -> ArrayRef {
        let values = text.as_string::<i32>();
        let times: TimestampMicrosecondArray = (0..values.len())
            .map(|row| {
                self.value(values, row, path, owner, |text| {
                    integer(text)?
                        .checked_mul(factor)
                        .ok_or_else(|| misfit("out_of_range", "is beyond all dates; is the unit right?"))
                })
            })
            .collect();
        Arc::new(times.with_timezone("UTC"))
    }

    fn value<T>(
        &mut self,
        values: &StringArray,
        row: usize,
        path: &str,
        owner: &[usize],
        read: impl Fn(&str) -> Result<T, Misfit>,
    ) -> Option<T> {
        if values.is_null(row) {
            return None;
        }
        let text = values.value(row);
        match read(text) {
            Ok(value) => Some(value),
            Err(misfit) => {
                let at = owner.get(row).copied().unwrap_or(row);
                self.faults.push(RecordFault {
                    record: self.rows.get(at).copied().unwrap_or(at),
                    reason: misfit.reason,
                    field: Some(path.to_string()),
                    value: Some(text.to_string()),
                    message: format!("`{path}` {}", misfit.message),
                });
                None
            }
        }
    }
}

fn integer(text: &str) -> Result<i64, Misfit> {
    text.trim().parse().map_err(|_| misfit("wrong_type", "must be a whole number"))
}

fn number(text: &str) -> Result<f64, Misfit> {
    match text.trim().parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(misfit("wrong_type", "must be a number")),
    }
}

fn flag(text: &str) -> Result<bool, Misfit> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(misfit("wrong_type", "must be true or false")),
    }
}

/// A plain decimal, or one with an exponent, exactly, at scale 10.
fn decimal(text: &str) -> Result<i128, Misfit> {
    let not = || misfit("not_an_amount", "must be a plain decimal number such as 1234.50");
    let text = text.trim();
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().map_err(|_| not())?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.as_bytes().first() {
        Some(b'-') => (true, &mantissa[1..]),
        Some(b'+') => (false, &mantissa[1..]),
        _ => (false, mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.len() + fraction.len() == 0 || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit())
    {
        return Err(not());
    }
    let large = || misfit("out_of_range", "is larger than an amount may be");
    let mut value: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        value =
            value.checked_mul(10).and_then(|v| v.checked_add(i128::from(digit - b'0'))).ok_or_else(large)?;
    }
    let shift = i64::from(SCALE) + i64::from(exponent) - fraction.len() as i64;
    if value != 0 {
        let power = u32::try_from(shift.unsigned_abs())
            .ok()
            .filter(|p| *p <= 38)
            .and_then(|p| 10_i128.checked_pow(p));
        value = match (shift >= 0, power) {
            (true, Some(power)) => value.checked_mul(power).ok_or_else(large)?,
            (true, None) => return Err(large()),
            (false, Some(power)) if value % power == 0 => value / power,
            (false, _) => return Err(misfit("too_many_decimals", "has more than ten decimal places")),
        };
    }
    // 28 digits in all.
    if value >= 10_i128.pow(28) {
        return Err(large());
    }
    Ok(if negative { -value } else { value })
}

fn day(text: &str) -> Result<i32, Misfit> {
    let date = NaiveDate::parse_from_str(text.trim(), "%Y-%m-%d")
        .map_err(|_| misfit("not_a_date", "must be a date such as 2026-03-31"))?;
    Ok(date.num_days_from_ce() - 719_163)
}

/// Microseconds UTC, and the UTC offset in minutes where the text or the zone tells it.
fn timestamp(text: &str, zone: Option<TimeZone>) -> Result<(i64, Option<i32>), Misfit> {
    let text = text.trim();
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        // `Z` says when, not where: the feed's zone knows the place better.
        let written = (!text.ends_with(['Z', 'z'])).then(|| time.offset().local_minus_utc() / 60);
        return Ok((time.timestamp_micros(), written));
    }
    let bytes = text.as_bytes();
    let naive = match bytes.get(10) {
        None => NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().and_then(|d| d.and_hms_opt(0, 0, 0)),
        Some(b' ') => NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok(),
        Some(_) => NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok(),
    };
    let Some(naive) = naive else {
        return match DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z") {
            Ok(time) => Ok((time.timestamp_micros(), Some(time.offset().local_minus_utc() / 60))),
            Err(_) => Err(misfit(
                "not_a_date",
                "must be a date and time such as 2026-03-01T10:00:00+01:00, and one that exists",
            )),
        };
    };
    let Some(zone) = zone else {
        return Err(misfit("not_a_date", "says no UTC offset; set `time_zone` in the feed's front matter"));
    };
    match zone.from_local_datetime(&naive).earliest() {
        Some(time) => Ok((time.timestamp_micros(), Some(time.offset().fix().local_minus_utc() / 60))),
        None => Err(misfit("impossible_time", left_out(naive, zone).unwrap_or_default())),
    }
}

/// What to say of a local time that does not exist in a zone, as its clocks were set forward over it; `None` where it does.
pub fn left_out(local: NaiveDateTime, zone: TimeZone) -> Option<String> {
    zone.from_local_datetime(&local).earliest().is_none().then(|| {
        format!(
            "is {}, a time that does not exist in {zone}: the clocks were set forward over it. Is `time_zone` the zone of these \
             times? Best the sender writes the UTC offset, too",
            local.format("%H:%M on %-d %B %Y")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason<T>(result: Result<T, Misfit>) -> &'static str {
        result.err().map_or("fits", |m| m.reason)
    }

    #[test]
    fn decimals_keep_every_digit() {
        assert_eq!(decimal("12.50").ok(), Some(125_000_000_000));
        assert_eq!(decimal("-1.25e3").ok(), Some(-12_500_000_000_000));
        assert_eq!(decimal("0.0000000001").ok(), Some(1));
        assert_eq!(reason(decimal("0.00000000001")), "too_many_decimals");
        assert_eq!(reason(decimal("1e30")), "out_of_range");
        assert_eq!(reason(decimal("12,50")), "not_an_amount");
        assert_eq!(reason(decimal(".")), "not_an_amount");
        assert_eq!(decimal("0e999999999").ok(), Some(0));
    }

    #[test]
    fn times_keep_the_offset_they_were_written_with() {
        let berlin = Some(chrono_tz::Europe::Berlin);
        assert_eq!(
            timestamp("2026-03-01T10:00:00+01:00", None).ok(),
            Some((1_772_355_600_000_000, Some(60)))
        );
        assert_eq!(timestamp("2026-03-01T09:00:00Z", berlin).ok(), Some((1_772_355_600_000_000, None)));
        assert_eq!(timestamp("2026-03-01 10:00:00", berlin).ok(), Some((1_772_355_600_000_000, Some(60))));
        assert_eq!(reason(timestamp("2026-03-01T10:00:00", None)), "not_a_date");
        assert_eq!(reason(timestamp("2026-02-30T10:00:00Z", berlin)), "not_a_date");
        let gap = timestamp("2026-03-29T02:30:00", berlin).err().unwrap();
        assert_eq!(gap.reason, "impossible_time");
        assert!(
            gap.message.contains("02:30 on 29 March 2026") && gap.message.contains("Europe/Berlin"),
            "{}",
            gap.message
        );
        // Of an hour that comes twice the first one counts: summer time.
        assert_eq!(timestamp("2026-10-25T02:30:00", berlin).ok(), Some((1_792_888_200_000_000, Some(120))));
    }
}
