//! Which rows a window counts, seen from one row: the window contract of `rules/WINDOWS.md`.
//!
//! # Source
//! ISO/IEC 9075-2:2016, «window frame»: `RANGE` and `ROWS BETWEEN … PRECEDING AND CURRENT ROW`, `EXCLUDE CURRENT ROW`.

use std::fmt;

use chrono::{DateTime, Datelike as _, Days, NaiveDate, NaiveTime, TimeZone as _};
use chrono_tz::Tz;

use crate::ir::Table;

const DAY_MICROS: i64 = 86_400_000_000;

/// A window as seen from a row at time *t*. By default both ends are in, and so are the row and its peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Frame {
    /// How far back it goes.
    pub extent: Extent,
    /// A row exactly at its beginning does not count. Rolling windows only.
    pub excludes_start: bool,
    /// Rows at *t*, the row itself among them, do not count.
    pub excludes_end: bool,
    /// The row itself does not count; its peers do.
    pub excludes_row: bool,
}

/// Where a window begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Extent {
    /// So many microseconds before *t*.
    Rolling(i64),
    /// With the local day, week or month of the zone that *t* lies in.
    Calendar(Period, Tz),
    /// So many of the key's rows that pass the indicator's `where`, however old: the row and those before it, or,
    /// with `excludes_row`, only those before it. Rows that come after it in [`row_order`] do not count.
    Rows(u32),
}

/// Periods of a calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    /// From local midnight; 23 or 25 hours long when clocks change.
    Day,
    /// From local midnight of Monday.
    Week,
    /// From local midnight of the first.
    Month,
}

impl Period {
    /// As authors and `date_trunc` write it.
    pub fn name(self) -> &'static str {
        match self {
            Period::Day => "day",
            Period::Week => "week",
            Period::Month => "month",
        }
    }
}

impl Frame {
    /// The window `[t − micros, t]`.
    pub fn rolling(micros: i64) -> Frame {
        Frame {
            extent: Extent::Rolling(micros),
            excludes_start: false,
            excludes_end: false,
            excludes_row: false,
        }
    }

    /// The first instant that counts for a row at `time`, microseconds UTC. Never goes back as `time` goes on.
    #[inline]
    pub fn lower(&self, time: i64) -> i64 {
        match self.extent {
            Extent::Rolling(micros) => {
                time.saturating_sub(micros).saturating_add(i64::from(self.excludes_start))
            }
            Extent::Calendar(period, zone) => period_start(period, zone, time),
            Extent::Rows(_) => i64::MIN,
        }
    }

    /// How many rows before the row count, and whether the row itself does; `None` for windows of time.
    pub fn rows(&self) -> Option<(u64, bool)> {
        match self.extent {
            Extent::Rows(count) if self.excludes_row => Some((u64::from(count), false)),
            Extent::Rows(count) => Some((u64::from(count).saturating_sub(1), true)),
            _ => None,
        }
    }

    /// The first instant that no longer counts for a row at `time`, microseconds UTC.
    pub fn upper(&self, time: i64) -> i64 {
        time.saturating_add(i64::from(!self.excludes_end))
    }

    /// The longest way back, microseconds: how long rows are kept. A month with an hour put back has 31 days and 1 h.
    /// A number of rows has no such time.
    pub fn longest_micros(&self) -> i64 {
        match self.extent {
            Extent::Rows(_) => 0,
            Extent::Rolling(micros) => micros,
            Extent::Calendar(Period::Day, _) => 2 * DAY_MICROS,
            Extent::Calendar(Period::Week, _) => 8 * DAY_MICROS,
            Extent::Calendar(Period::Month, _) => 32 * DAY_MICROS,
        }
    }

    /// What stands behind `OVER` in standard SQL, without the parentheses.
    pub(crate) fn sql(&self, key: &str, table: Table) -> String {
        if let Some((before, with_row)) = self.rows() {
            let end = if with_row { "CURRENT ROW" } else { "1 PRECEDING" };
            return format!(
                "PARTITION BY {key} ORDER BY {} ROWS BETWEEN {before} PRECEDING AND {end}",
                row_order(table)
            );
        }
        let end = if self.excludes_end { "INTERVAL '1 microseconds' PRECEDING" } else { "CURRENT ROW" };
        let exclude = if self.excludes_row { " EXCLUDE CURRENT ROW" } else { "" };
        let (partition, start) = match self.extent {
            Extent::Rolling(micros) => {
                let length = micros - i64::from(self.excludes_start);
                (key.to_string(), format!("INTERVAL '{}'", interval(length)))
            }
            Extent::Calendar(period, zone) => (
                // The zone as a part of the value: DataFusion names columns without their casts, and windows of two
                // zones in one query would get one name.
                format!(
                    "{key}, CAST(date_trunc('{}', event_time AT TIME ZONE '{zone}') AS VARCHAR) || ' {zone}'",
                    period.name()
                ),
                "UNBOUNDED".to_string(),
            ),
            Extent::Rows(_) => (key.to_string(), "UNBOUNDED".to_string()),
        };
        format!(
            "PARTITION BY {partition} ORDER BY event_time RANGE BETWEEN {start} PRECEDING AND {end}{exclude}"
        )
    }
}

impl fmt::Display for Frame {
    /// As an author writes it behind `OVER`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.extent {
            Extent::Rolling(micros) => f.write_str(&interval(micros))?,
            Extent::Calendar(period, zone) => write!(f, "calendar {} in {zone}", period.name())?,
            Extent::Rows(count) => write!(f, "{count} rows")?,
        }
        let excluded: Vec<&str> = [
            self.excludes_start.then_some("start"),
            self.excludes_end.then_some("end"),
            self.excludes_row.then_some("current row"),
        ]
        .into_iter()
        .flatten()
        .collect();
        if excluded.is_empty() { Ok(()) } else { write!(f, " excluding {}", excluded.join(" and ")) }
    }
}

/// The order in which the engine takes rows, as SQL: within one event time by feed, then transaction id, and of one
/// transaction the paying side first.
pub(crate) fn row_order(table: Table) -> &'static str {
    match table {
        Table::Entries => "event_time, feed, tx_id, direction DESC",
        Table::Transactions => "event_time, feed, tx_id",
    }
}

/// A length in the largest unit that divides it.
pub fn interval(micros: i64) -> String {
    let units =
        [("days", DAY_MICROS), ("hours", 3_600_000_000), ("minutes", 60_000_000), ("seconds", 1_000_000)];
    for (unit, length) in units {
        if micros % length == 0 {
            return format!("{} {unit}", micros / length);
        }
    }
    format!("{micros} microseconds")
}

/// Beginning of the local period that holds `time`; a time outside the calendar begins its own.
fn period_start(period: Period, zone: Tz, time: i64) -> i64 {
    let Some(utc) = DateTime::from_timestamp_micros(time) else { return time };
    let today = utc.with_timezone(&zone).date_naive();
    let first = match period {
        Period::Day => Some(today),
        Period::Week => today.checked_sub_days(Days::new(u64::from(today.weekday().num_days_from_monday()))),
        Period::Month => today.with_day(1),
    };
    first.and_then(|date| local_midnight(date, zone)).unwrap_or(time)
}

/// The first instant of a local date: where clocks are put forward at midnight, the date begins after 00:00.
fn local_midnight(date: NaiveDate, zone: Tz) -> Option<i64> {
    let midnight = date.and_time(NaiveTime::MIN);
    if let Some(instant) = zone.from_local_datetime(&midnight).earliest() {
        return Some(instant.timestamp_micros());
    }
    // No such local time: the date begins where the clock change ends, at some whole quarter of an hour.
    (1..=12).find_map(|quarters| {
        let later = midnight + chrono::Duration::minutes(15 * quarters);
        zone.from_local_datetime(&later).earliest().map(|instant| instant.timestamp_micros())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
    }

    #[test]
    fn calendar_periods_begin_at_local_midnight_also_when_clocks_change() {
        let berlin = Tz::Europe__Berlin;
        for (period, zone, time, start) in [
            // Winter, summer, and the two days of 23 and 25 hours.
            (Period::Day, berlin, "2026-01-15T22:59:59Z", "2026-01-14T23:00:00Z"),
            (Period::Day, berlin, "2026-01-15T23:00:00Z", "2026-01-15T23:00:00Z"),
            (Period::Day, berlin, "2026-03-29T21:59:59Z", "2026-03-28T23:00:00Z"),
            (Period::Day, berlin, "2026-03-29T22:00:00Z", "2026-03-29T22:00:00Z"),
            (Period::Day, berlin, "2026-10-25T22:59:59Z", "2026-10-24T22:00:00Z"),
            (Period::Week, berlin, "2026-03-30T08:00:00Z", "2026-03-29T22:00:00Z"),
            (Period::Week, berlin, "2026-03-29T08:00:00Z", "2026-03-22T23:00:00Z"),
            (Period::Month, berlin, "2026-03-31T21:59:59Z", "2026-02-28T23:00:00Z"),
            (Period::Month, berlin, "2026-03-31T22:00:00Z", "2026-03-31T22:00:00Z"),
            // Beirut puts clocks forward at midnight: 29 March 2026 begins at 01:00 local time.
            (Period::Day, Tz::Asia__Beirut, "2026-03-29T12:00:00Z", "2026-03-28T22:00:00Z"),
            // Havana puts them back at 01:00: midnight comes twice, and the date begins with the first.
            (Period::Day, Tz::America__Havana, "2026-11-01T12:00:00Z", "2026-11-01T04:00:00Z"),
        ] {
            let wanted = micros(start);
            assert_eq!(
                period_start(period, zone, micros(time)),
                wanted,
                "{} of {time} in {zone}",
                period.name()
            );
        }
    }

    #[test]
    fn a_window_is_written_as_it_was_read() {
        let frame = Frame { excludes_start: true, excludes_row: true, ..Frame::rolling(3_600_000_000) };
        assert_eq!(frame.to_string(), "1 hours excluding start and current row");
        assert_eq!(
            frame.sql("account", Table::Entries),
            "PARTITION BY account ORDER BY event_time RANGE BETWEEN INTERVAL '3599999999 microseconds' PRECEDING AND CURRENT ROW EXCLUDE CURRENT ROW"
        );
    }
}
