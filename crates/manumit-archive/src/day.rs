//! Event dates: UTC days as numbers and as the names of folders.

use std::fmt;

use chrono::{Days, NaiveDate};

const MICROS: i64 = 86_400_000_000;

/// A UTC day, counted from 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i32);

impl Day {
    /// The day of an instant, microseconds UTC.
    pub fn of(micros: i64) -> Day {
        // 2^63 microseconds are some 107 million days.
        Day(i32::try_from(micros.div_euclid(MICROS)).unwrap_or(0))
    }

    /// Days since 1970-01-01, as Arrow's `Date32` counts them.
    pub fn number(self) -> i32 {
        self.0
    }

    /// So many days before.
    pub fn back(self, days: u32) -> Day {
        Day(self.0.saturating_sub(i32::try_from(days).unwrap_or(i32::MAX)))
    }

    /// First instant, microseconds UTC.
    pub fn start_micros(self) -> i64 {
        i64::from(self.0) * MICROS
    }

    fn date(self) -> Option<NaiveDate> {
        let epoch = NaiveDate::default();
        let days = Days::new(u64::from(self.0.unsigned_abs()));
        if self.0 < 0 { epoch.checked_sub_days(days) } else { epoch.checked_add_days(days) }
    }

    /// Reads `2026-03-31`.
    pub fn parse(text: &str) -> Option<Day> {
        let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
        let day = Day(i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()?);
        (day.to_string() == text).then_some(day)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.date() {
            Some(date) => write!(f, "{date}"),
            None => write!(f, "day{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_utc_before_and_after_1970() {
        for (micros, text) in [(0, "1970-01-01"), (-1, "1969-12-31"), (MICROS - 1, "1970-01-01")] {
            assert_eq!(Day::of(micros).to_string(), text);
        }
        let day = Day::parse("2026-03-31").unwrap();
        assert_eq!(Day::of(day.start_micros()), day);
        assert_eq!(day.back(31).to_string(), "2026-02-28");
    }

    #[test]
    fn only_the_one_way_to_write_a_day_is_read() {
        for text in ["2026-3-31", "2026-02-30", "20260331", "", "2026-03-31/.."] {
            assert_eq!(Day::parse(text), None, "{text}");
        }
    }
}
