//! Columns of a Parquet file as `[raw]` declares them.

use arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use chrono::{DateTime, NaiveDateTime};
use manumit_codec::{RawType, TimeZone};

use crate::canonical::to_instant;

/// A column of a file as the type that the feed declares (`None`: as `wanted`).
///
/// A whole number declared an epoch is one, and a time without zone is local time of the feed's zone, UTC where it has none.
pub(crate) fn fitted(
    column: &ArrayRef,
    declared: Option<&RawType>,
    wanted: &DataType,
    zone: Option<TimeZone>,
) -> Result<ArrayRef, ArrowError> {
    let unit = match declared {
        Some(RawType::EpochSeconds) => Some(TimeUnit::Second),
        Some(RawType::EpochMillis) => Some(TimeUnit::Millisecond),
        Some(RawType::EpochMicros) => Some(TimeUnit::Microsecond),
        _ => None,
    };
    match (column.data_type(), wanted) {
        (number, _) if number.is_integer() && unit.is_some() => {
            let whole = cast(column, &DataType::Int64)?;
            let epoch = DataType::Timestamp(unit.unwrap_or(TimeUnit::Microsecond), Some("UTC".into()));
            cast(&cast(&whole, &epoch)?, wanted)
        }
        (DataType::Timestamp(_, None), DataType::Timestamp(_, Some(_))) if zone.is_some() => {
            let local = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
            let instants: TimestampMicrosecondArray = local
                .as_primitive::<TimestampMicrosecondType>()
                .iter()
                .map(|local| {
                    DateTime::from_timestamp_micros(local?).and_then(|t| to_instant(t.naive_utc(), zone))
                })
                .collect();
            cast(&(std::sync::Arc::new(instants.with_timezone("UTC")) as ArrayRef), wanted)
        }
        // By way of the shortest text that means the float: times ten to the tenth, 1234567.89 would no longer be it.
        (float, DataType::Decimal128(..)) if float.is_floating() => {
            cast(&cast(column, &DataType::Utf8)?, wanted)
        }
        _ => cast(column, wanted),
    }
}

/// The local time in a row of a column of such times; `None` where the column is another one.
pub(crate) fn local_at(column: &ArrayRef, row: usize) -> Option<NaiveDateTime> {
    let DataType::Timestamp(_, None) = column.data_type() else { return None };
    let local = cast(&column.slice(row, 1), &DataType::Timestamp(TimeUnit::Microsecond, None)).ok()?;
    let local = local.as_primitive_opt::<TimestampMicrosecondType>()?;
    DateTime::from_timestamp_micros(local.is_valid(0).then(|| local.value(0))?).map(|time| time.naive_utc())
}
