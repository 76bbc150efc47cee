//! Mapped values to the canonical types, value by value, with a fault for each that does not fit.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array,
    Int64Array, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;
use chrono::{DateTime, NaiveDate, NaiveDateTime, Offset, TimeZone as _};
use manumit_codec::{TimeZone, left_out};
use manumit_model::Stage;
use manumit_model::money::{self, MAX_ABS, Money, MoneyError};
use manumit_model::schema::{Column, Kind};

/// Why a row cannot be used.
#[derive(Debug, Clone)]
pub(crate) struct RowFault {
    pub stage: Stage,
    pub reason: &'static str,
    pub field: String,
    pub value: Option<String>,
    pub message: String,
}

/// The first fault of each row.
#[derive(Debug, Default)]
pub(crate) struct RowFaults(pub BTreeMap<usize, RowFault>);

impl RowFaults {
    pub(crate) fn add(
        &mut self,
        row: usize,
        stage: Stage,
        reason: &'static str,
        field: &str,
        value: Option<String>,
        message: impl Into<String>,
    ) {
        let fault = || RowFault { stage, reason, field: field.to_string(), value, message: message.into() };
        self.0.entry(row).or_insert_with(fault);
    }
}

/// Turns a mapped column into its canonical type.
pub(crate) fn canonical(
    column: &Column,
    array: &ArrayRef,
    zone: Option<TimeZone>,
    faults: &mut RowFaults,
) -> Result<ArrayRef, ArrowError> {
    let wanted = column.kind.data_type();
    if *array.data_type() == DataType::Null {
        return Ok(new_null_array(&wanted, array.len()));
    }
    if *array.data_type() == wanted && column.kind != Kind::Amount {
        return Ok(array.clone());
    }
    match column.kind {
        Kind::Text | Kind::Word(_) | Kind::Currency | Kind::Country | Kind::Mcc => {
            cast(array, &DataType::Utf8)
        }
        Kind::Amount => amounts(column.name, array, faults),
        Kind::Instant | Kind::LocalTime => times(column, array, zone, faults),
        Kind::Date => dates(column.name, array, zone, faults),
        Kind::Int | Kind::Long | Kind::Degrees | Kind::Flag => plain(column, array, &wanted, faults),
    }
}

fn shown(array: &ArrayRef, row: usize) -> Option<String> {
    array_value_to_string(array, row).ok()
}

/// A cast whose misfits become faults.
fn plain(
    column: &Column,
    array: &ArrayRef,
    wanted: &DataType,
    faults: &mut RowFaults,
) -> Result<ArrayRef, ArrowError> {
    let values = cast(array, wanted)?;
    for row in 0..array.len() {
        if array.is_valid(row) && values.is_null(row) {
            let message = format!("`{}` must be {}", column.name, column.kind.words());
            faults.add(row, Stage::Map, "wrong_type", column.name, shown(array, row), message);
        }
    }
    Ok(values)
}

fn amounts(name: &str, array: &ArrayRef, faults: &mut RowFaults) -> Result<ArrayRef, ArrowError> {
    let large = |faults: &mut RowFaults, row, value| {
        faults.add(
            row,
            Stage::Map,
            "out_of_range",
            name,
            value,
            format!("`{name}` is larger than an amount may be"),
        );
    };
    let read: Decimal128Array = match array.data_type() {
        DataType::Decimal128(_, scale) => {
            let values = array.as_primitive::<Decimal128Type>();
            let shift = i32::from(*scale) - money::SCALE as i32;
            let power = 10_i128.pow(shift.unsigned_abs().min(38));
            (0..values.len())
                .map(|row| {
                    if values.is_null(row) {
                        return None;
                    }
                    let value = values.value(row);
                    let exact = if shift <= 0 {
                        value.checked_mul(power)
                    } else if value % power == 0 {
                        Some(value / power)
                    } else {
                        let message = format!("`{name}` has more than four decimal places; round it in the feed's SELECT if it is no amount of money");
                        faults.add(row, Stage::Map, "too_many_decimals", name, shown(array, row), message);
                        return None;
                    };
                    let fits = exact.filter(|v| v.unsigned_abs() <= MAX_ABS as u128);
                    if fits.is_none() {
                        large(faults, row, shown(array, row));
                    }
                    fits
                })
                .collect()
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let text = cast(array, &DataType::Utf8)?;
            let text = text.as_string::<i32>();
            (0..text.len())
                .map(|row| {
                    if text.is_null(row) {
                        return None;
                    }
                    match Money::parse(text.value(row)) {
                        Ok(money) => Some(i128::from(money.0)),
                        Err(error) => {
                            let reason = match error {
                                MoneyError::NotANumber => "not_an_amount",
                                MoneyError::TooFine => "too_many_decimals",
                                MoneyError::TooLarge => "out_of_range",
                            };
                            let value = Some(text.value(row).to_string());
                            faults.add(row, Stage::Map, reason, name, value, format!("`{name}` {error}"));
                            None
                        }
                    }
                })
                .collect()
        }
        _ => {
            let whole = cast(array, &DataType::Decimal128(38, 4))?;
            let whole = whole.as_primitive::<Decimal128Type>();
            (0..whole.len())
                .map(|row| {
                    let value = whole.is_valid(row).then(|| whole.value(row));
                    let fits = value.filter(|v| v.unsigned_abs() <= MAX_ABS as u128);
                    if array.is_valid(row) && fits.is_none() {
                        large(faults, row, shown(array, row));
                    }
                    fits
                })
                .collect()
        }
    };
    Ok(Arc::new(read.with_precision_and_scale(money::PRECISION, money::SCALE as i8)?))
}

fn times(
    column: &Column,
    array: &ArrayRef,
    zone: Option<TimeZone>,
    faults: &mut RowFaults,
) -> Result<ArrayRef, ArrowError> {
    let instant = column.kind == Kind::Instant;
    let not = |faults: &mut RowFaults, row, value| {
        let message = format!("`{}` must be a date and time such as 2026-03-01T10:00:00+01:00", column.name);
        faults.add(row, Stage::Map, "not_a_date", column.name, value, message);
    };
    let no_zone = |faults: &mut RowFaults, row, value| {
        let message = format!(
            "`{}` is a time without zone: set `time_zone = \"Europe/Berlin\"` (or where it is local time) in the front \
             matter; if it is UTC and no local time, write `… AT TIME ZONE 'UTC' AS {}`",
            column.name, column.name
        );
        faults.add(row, Stage::Map, "not_a_date", column.name, value, message);
    };
    let number = |faults: &mut RowFaults, row, value| {
        let message = format!(
            "`{}` is a number: make it a time with `to_timestamp_seconds`, `to_timestamp_millis` or \
             `to_timestamp_micros`, as in `to_timestamp_millis(x) AT TIME ZONE 'UTC' AS {}`",
            column.name, column.name
        );
        faults.add(row, Stage::Map, "not_a_date", column.name, value, message);
    };
    let skipped = |faults: &mut RowFaults, row, value, words: &str| {
        let message = format!("`{}` {words}", column.name);
        faults.add(row, Stage::Map, "impossible_time", column.name, value, message);
    };
    let micros: TimestampMicrosecondArray = match array.data_type() {
        DataType::Timestamp(_, Some(_)) => {
            cast(array, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))?
                .as_primitive::<TimestampMicrosecondType>()
                .clone()
        }
        DataType::Timestamp(_, None) | DataType::Date32 | DataType::Date64 => {
            let local = cast(array, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
            let local = local.as_primitive::<TimestampMicrosecondType>().clone();
            if instant {
                (0..local.len())
                    .map(|row| {
                        if local.is_null(row) {
                            return None;
                        }
                        let time = DateTime::from_timestamp_micros(local.value(row)).map(|t| t.naive_utc());
                        let utc = time.and_then(|time| to_instant(time, zone));
                        if utc.is_none() {
                            let gap = time.zip(zone).and_then(|(time, zone)| left_out(time, zone));
                            let written = shown(array, row);
                            match gap {
                                Some(words) => skipped(faults, row, written, &words),
                                None if zone.is_none() => no_zone(faults, row, written),
                                None => not(faults, row, written),
                            }
                        }
                        utc
                    })
                    .collect()
            } else {
                local
            }
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let text = cast(array, &DataType::Utf8)?;
            let text = text.as_string::<i32>();
            (0..text.len())
                .map(|row| {
                    if text.is_null(row) {
                        return None;
                    }
                    let found = parse_time(text.value(row), instant, zone);
                    if found.is_none() {
                        let written = Some(text.value(row).to_string());
                        // A local time all the same, where the feed names no zone, or the zone had no such hour.
                        let local = parse_local(text.value(row));
                        let gap = local.zip(zone).and_then(|(local, zone)| left_out(local, zone));
                        match gap {
                            Some(words) => skipped(faults, row, written, &words),
                            None if local.is_some() && zone.is_none() => no_zone(faults, row, written),
                            None => not(faults, row, written),
                        }
                    }
                    found
                })
                .collect()
        }
        other => {
            let is_number = other.is_numeric();
            for row in (0..array.len()).filter(|&row| array.is_valid(row)) {
                let written = shown(array, row);
                if is_number { number(faults, row, written) } else { not(faults, row, written) }
            }
            return Ok(new_null_array(&column.kind.data_type(), array.len()));
        }
    };
    Ok(if instant {
        Arc::new(micros.with_timezone("UTC"))
    } else {
        Arc::new(micros.with_timezone_opt::<Arc<str>>(None))
    })
}

/// The instant of a local time; `None` without a zone, and where the clock was set forward.
pub(crate) fn to_instant(local: NaiveDateTime, zone: Option<TimeZone>) -> Option<i64> {
    zone?.from_local_datetime(&local).earliest().map(|time| time.timestamp_micros())
}

fn parse_time(text: &str, instant: bool, zone: Option<TimeZone>) -> Option<i64> {
    let text = text.trim();
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(if instant {
            time.timestamp_micros()
        } else {
            time.naive_local().and_utc().timestamp_micros()
        });
    }
    let local = parse_local(text)?;
    if instant { to_instant(local, zone) } else { Some(local.and_utc().timestamp_micros()) }
}

/// A time without zone, or a day's beginning.
fn parse_local(text: &str) -> Option<NaiveDateTime> {
    let text = text.trim().replacen(' ', "T", 1);
    NaiveDateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%S%.f")
        .ok()
        .or_else(|| NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0))
}

fn dates(
    name: &str,
    array: &ArrayRef,
    zone: Option<TimeZone>,
    faults: &mut RowFaults,
) -> Result<ArrayRef, ArrowError> {
    match array.data_type() {
        DataType::Timestamp(_, Some(_)) => {
            // The day at the place of the event, where the zone is known.
            let times = cast(array, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))?;
            let times = times.as_primitive::<TimestampMicrosecondType>();
            let days = (0..times.len()).map(|row| {
                let utc = DateTime::from_timestamp_micros(times.is_valid(row).then(|| times.value(row))?)?;
                let offset =
                    zone.map_or(0, |z| z.offset_from_utc_datetime(&utc.naive_utc()).fix().local_minus_utc());
                i32::try_from((utc.timestamp() + i64::from(offset)).div_euclid(86_400)).ok()
            });
            Ok(Arc::new(days.collect::<Date32Array>()))
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let text = cast(array, &DataType::Utf8)?;
            let text = text.as_string::<i32>();
            let epoch = NaiveDate::default();
            let days = (0..text.len()).map(|row| {
                if text.is_null(row) {
                    return None;
                }
                let head = text.value(row).trim().get(..10).unwrap_or("");
                let day = NaiveDate::parse_from_str(head, "%Y-%m-%d").ok();
                if day.is_none() {
                    let message = format!("`{name}` must be a date such as 2026-03-31");
                    faults.add(
                        row,
                        Stage::Map,
                        "not_a_date",
                        name,
                        Some(text.value(row).to_string()),
                        message,
                    );
                }
                day.and_then(|day| i32::try_from((day - epoch).num_days()).ok())
            });
            Ok(Arc::new(days.collect::<Date32Array>()))
        }
        _ => {
            let days = cast(array, &DataType::Date32)?;
            for row in (0..array.len()).filter(|&row| array.is_valid(row) && days.is_null(row)) {
                let message = format!("`{name}` must be a date such as 2026-03-31");
                faults.add(row, Stage::Map, "not_a_date", name, shown(array, row), message);
            }
            Ok(days)
        }
    }
}

/// Fills NULLs with a constant.
pub(crate) fn filled(array: Option<&ArrayRef>, rows: usize, value: &str) -> ArrayRef {
    let constant = || Arc::new(StringArray::from_iter_values(std::iter::repeat_n(value, rows))) as ArrayRef;
    match array {
        None => constant(),
        Some(array) if array.null_count() == 0 => array.clone(),
        Some(array) => {
            let text = array.as_string::<i32>();
            Arc::new(text.iter().map(|v| Some(v.unwrap_or(value))).collect::<StringArray>())
        }
    }
}

/// UTC offsets and local times. `written`: offsets that stood in the records themselves.
pub(crate) fn local_times(
    times: &TimestampMicrosecondArray,
    mapped: Option<&ArrayRef>,
    written: Option<&ArrayRef>,
    zone: Option<TimeZone>,
) -> (ArrayRef, ArrayRef) {
    let given = |array: Option<&ArrayRef>, row: usize| -> Option<i32> {
        let offsets = array?.as_primitive_opt::<arrow::datatypes::Int32Type>()?;
        offsets.is_valid(row).then(|| offsets.value(row))
    };
    let mut offsets = Vec::with_capacity(times.len());
    let mut locals = Vec::with_capacity(times.len());
    // Zones change at full quarters of an hour: rows in order ask for the same quarter again and again.
    let mut known: Option<(i64, i32)> = None;
    for row in 0..times.len() {
        let time = times.is_valid(row).then(|| times.value(row));
        let from_zone = |known: &mut Option<(i64, i32)>| -> Option<i32> {
            let (zone, micros) = (zone?, time?);
            let quarter = micros.div_euclid(900_000_000);
            if let Some((at, offset)) = *known
                && at == quarter
            {
                return Some(offset);
            }
            let utc = DateTime::from_timestamp_micros(micros)?.naive_utc();
            let offset = zone.offset_from_utc_datetime(&utc).fix().local_minus_utc() / 60;
            *known = Some((quarter, offset));
            Some(offset)
        };
        let offset = given(mapped, row).or_else(|| given(written, row)).or_else(|| from_zone(&mut known));
        offsets.push(offset);
        locals.push(offset.and_then(|offset| time?.checked_add(i64::from(offset) * 60_000_000)));
    }
    (Arc::new(Int32Array::from(offsets)), Arc::new(TimestampMicrosecondArray::from(locals)))
}

/// Columns that may be of any numeric type, for validation.
pub(crate) fn degrees(array: &ArrayRef) -> Option<&Float64Array> {
    array.as_primitive_opt::<arrow::datatypes::Float64Type>()
}

/// A constant integer column.
pub(crate) fn long_column(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

/// Rows without a fault.
pub(crate) fn keep_mask(rows: usize, faults: &RowFaults) -> BooleanArray {
    (0..rows).map(|row| Some(!faults.0.contains_key(&row))).collect()
}
