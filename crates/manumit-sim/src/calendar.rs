//! Local days and times of the simulated bank, and their instants.

use chrono::{Datelike, NaiveDate, Offset, TimeDelta, TimeZone};
use chrono_tz::Europe::Berlin;

/// Seconds of one hour.
pub(crate) const HOUR: i64 = 3_600;
/// Seconds of one day.
pub(crate) const DAY: i64 = 24 * HOUR;

/// Day 0 of every simulation. There is no clock: the same seed gives the same dates for ever.
const FIRST_DAY: NaiveDate = match NaiveDate::from_ymd_opt(2026, 1, 1) {
    Some(day) => day,
    None => NaiveDate::MIN,
};

/// The days of a simulation with what depends on the time zone worked out once.
#[derive(Debug)]
pub(crate) struct Calendar {
    days: u32,
    /// Instant (Unix seconds) of each local midnight.
    midnights: Vec<i64>,
    /// Weekday (Monday is 0) and day of the month of each.
    marks: Vec<(u8, u8)>,
    /// From which instant on which offset (seconds east of UTC) holds, in order.
    offsets: Vec<(i64, i32)>,
}

impl Calendar {
    /// A calendar of `days` days, with room for what a late event sets off afterwards.
    pub(crate) fn new(days: u32) -> Calendar {
        let known = i64::from(days) + 120;
        let (mut midnights, mut marks) = (Vec::new(), Vec::new());
        let mut offsets: Vec<(i64, i32)> = Vec::new();
        for day in 0..known {
            let date = FIRST_DAY + TimeDelta::days(day);
            // The zone changes at 02:00 local time, so midnight always exists and is unique.
            let midnight = date.and_time(chrono::NaiveTime::MIN);
            let offset = offset_at_midnight(&midnight);
            let instant = midnight.and_utc().timestamp() - i64::from(offset);
            if let Some(&(_, before)) = offsets.last()
                && before != offset
            {
                // The European rule: the change is at 01:00 UTC of the day before this midnight.
                let previous = midnight.and_utc().timestamp() - DAY;
                offsets.push((previous + HOUR, offset));
            }
            if offsets.is_empty() {
                offsets.push((i64::MIN, offset));
            }
            midnights.push(instant);
            marks.push((date.weekday().num_days_from_monday() as u8, date.day() as u8));
        }
        Calendar { days, midnights, marks, offsets }
    }

    /// How many days ordinary life is simulated for.
    pub(crate) fn days(&self) -> u32 {
        self.days
    }

    /// The instant of `seconds` after local midnight of `day`.
    pub(crate) fn at(&self, day: u32, seconds: i64) -> i64 {
        let last = self.midnights.len().saturating_sub(1);
        let midnight = self.midnights.get((day as usize).min(last)).copied().unwrap_or_default();
        midnight + seconds
    }

    /// Offset of local time at `instant`, seconds east of UTC.
    pub(crate) fn offset(&self, instant: i64) -> i32 {
        self.offsets.iter().rev().find(|(from, _)| *from <= instant).map_or(0, |(_, offset)| *offset)
    }

    /// The local date of `day`.
    pub(crate) fn date(&self, day: i64) -> NaiveDate {
        FIRST_DAY + TimeDelta::days(day)
    }

    /// The weekday of `day`, Monday is 0.
    pub(crate) fn weekday(&self, day: u32) -> u32 {
        self.marks.get(day as usize).map_or(0, |mark| u32::from(mark.0))
    }

    /// The day of the month of `day`, from 1.
    pub(crate) fn day_of_month(&self, day: u32) -> u32 {
        self.marks.get(day as usize).map_or(1, |mark| u32::from(mark.1))
    }

    /// `MM/YYYY` of `day`, as payslips and rents name their month.
    pub(crate) fn month(&self, day: u32) -> String {
        self.date(i64::from(day)).format("%m/%Y").to_string()
    }

    /// Whether a monthly order for day `of_month` (1 to 28) runs on `day`; on a weekend it runs the next Monday.
    pub(crate) fn runs(&self, of_month: u32, day: u32) -> bool {
        let due = |back: u32| day.checked_sub(back).is_some_and(|due| self.day_of_month(due) == of_month);
        match self.weekday(day) {
            0 => (0..3).any(due),
            weekday => weekday < 5 && due(0),
        }
    }

    /// The days on which a monthly order for day `of_month` runs.
    pub(crate) fn monthly(&self, of_month: u32) -> Vec<u32> {
        (0..self.days).filter(|&day| self.runs(of_month, day)).collect()
    }
}

fn offset_at_midnight(midnight: &chrono::NaiveDateTime) -> i32 {
    Berlin.offset_from_local_datetime(midnight).earliest().map_or(0, |offset| offset.fix().local_minus_utc())
}
