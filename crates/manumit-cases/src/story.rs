//! Lines of a story to canonical rows: days and times of a place, repetitions, values by the kind of their column.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema};
use chrono::{Days, Months, NaiveDate, NaiveDateTime, NaiveTime, Offset as _, TimeDelta, TimeZone as _};
use manumit_model::schema::{Kind, TRANSACTIONS};
use manumit_model::{Diagnostic, Diagnostics, nearest};
use manumit_rules::document::File;

use crate::read::Setting;
use crate::table::{Line, Table};

/// The longest story: one that is longer belongs into a backtest.
const MOST_ROWS: usize = 20_000;

/// A fault in a case file.
pub(crate) fn fault(
    file: &File,
    place: &Range<usize>,
    message: impl Into<String>,
    label: &str,
    help: &str,
) -> Diagnostic {
    file.fault("R040", message).at(place.clone(), label).help(help)
}

/// The day that `day 3` names, day 1 being that of the setting; or a date.
pub(crate) fn day(text: &str, day_1: NaiveDate) -> Option<NaiveDate> {
    let Some(number) = text.trim().strip_prefix("day ") else { return text.trim().parse().ok() };
    let number: i64 = number.trim().parse().ok()?;
    day_1.checked_add_signed(TimeDelta::try_days(number.checked_sub(1)?)?)
}

/// `day 3 02:14` or `day 3 02:14:30`.
fn moment(text: &str, day_1: NaiveDate) -> Option<NaiveDateTime> {
    let (date, time) = text.trim().rsplit_once(' ')?;
    let time =
        NaiveTime::parse_from_str(time, "%H:%M").or_else(|_| NaiveTime::parse_from_str(time, "%H:%M:%S"));
    Some(day(date, day_1)?.and_time(time.ok()?))
}

/// How a line is told again.
#[derive(Debug, Clone, Copy)]
enum Step {
    Seconds(i64),
    Days(u64),
    Months(u32),
}

impl Step {
    /// The `n`-th time, the first being 0.
    fn after(self, start: NaiveDateTime, n: usize) -> Option<NaiveDateTime> {
        match self {
            Step::Seconds(step) => {
                start.checked_add_signed(TimeDelta::try_seconds(step.checked_mul(n as i64)?)?)
            }
            Step::Days(step) => start.checked_add_days(Days::new(step.checked_mul(n as u64)?)),
            Step::Months(step) => {
                start.checked_add_months(Months::new(step.checked_mul(u32::try_from(n).ok()?)?))
            }
        }
    }
}

/// `16 daily`, `5 every 10 minutes`.
fn repetition(text: &str) -> Option<(usize, Step)> {
    let (count, rest) = text.trim().split_once(' ')?;
    let count: usize = count.parse().ok()?;
    let step = match rest.trim() {
        "hourly" => Step::Seconds(3600),
        "daily" => Step::Days(1),
        "weekly" => Step::Days(7),
        "monthly" => Step::Months(1),
        rest => {
            let (number, unit) = rest.strip_prefix("every ")?.trim().split_once(' ')?;
            let number: u32 = number.parse().ok().filter(|number| *number > 0)?;
            match unit.trim().trim_end_matches('s') {
                "second" => Step::Seconds(i64::from(number)),
                "minute" => Step::Seconds(i64::from(number) * 60),
                "hour" => Step::Seconds(i64::from(number) * 3600),
                "day" => Step::Days(u64::from(number)),
                "week" => Step::Days(u64::from(number) * 7),
                "month" => Step::Months(number),
                _ => return None,
            }
        }
    };
    (count > 0).then_some((count, step))
}

/// One transaction, values still as text.
#[derive(Debug, Clone)]
struct Row {
    id: String,
    time: i64,
    offset_minutes: i32,
    values: BTreeMap<&'static str, String>,
    place: Range<usize>,
}

/// Rows of a story in its order, and the canonical columns that they have.
#[derive(Debug, Clone)]
pub(crate) struct Story {
    /// Canonical rows, as a feed gives them before reference tables are asked.
    pub rows: RecordBatch,
    /// Microseconds UTC of each row.
    pub times: Vec<i64>,
}

/// The rows that a table tells.
pub(crate) fn tell(table: &Table, setting: &Setting, file: &File, faults: &mut Diagnostics) -> Option<Story> {
    let before = faults.0.len();
    let mut rows: Vec<Row> = Vec::new();
    for (number, line) in table.lines.iter().enumerate() {
        repeat(table, line, number + 1, setting, file, &mut rows, faults);
        if rows.len() > MOST_ROWS {
            let message = format!("a case has at most {MOST_ROWS} transactions");
            faults.push(fault(file, &line.place, message, "too many with these", "try it as a backtest"));
            return None;
        }
    }
    let mut seen: BTreeMap<&str, &Row> = BTreeMap::new();
    for row in &rows {
        if seen.insert(&row.id, row).is_some() {
            let message = format!("two transactions have the id `{}`", row.id);
            let help = "the label is the transaction's id: give the lines different labels, or none";
            faults.push(fault(file, &row.place, message, "again here", help));
        }
    }
    if faults.0.len() > before {
        return None;
    }
    columns(table, &rows, file, faults)
}

fn repeat(
    table: &Table,
    line: &Line,
    number: usize,
    setting: &Setting,
    file: &File,
    rows: &mut Vec<Row>,
    faults: &mut Diagnostics,
) {
    let times = match line.cell(table, "times") {
        None => None,
        Some(text) => match repetition(text) {
            Some(times) => Some(times),
            None => {
                let message = format!("`{text}` is no number of times");
                let help = "write for example `16 daily`, `4 weekly` or `5 every 10 minutes`";
                faults.push(fault(file, &line.place, message, "in the column `times`", help));
                return;
            }
        },
    };
    let when = line.cell(table, "when").unwrap_or_default();
    let Some(start) = moment(when, setting.day_1) else {
        let message = format!("`{when}` is no time");
        let help = "write for example `day 3 02:14`, local time of the setting's time zone";
        faults.push(fault(file, &line.place, message, "in the column `when`", help));
        return;
    };
    let (count, step) = times.unwrap_or((1, Step::Days(1)));
    for n in 0..count.min(MOST_ROWS + 1) {
        let local = step.after(start, n);
        let Some(instant) = local.and_then(|local| setting.zone.from_local_datetime(&local).earliest())
        else {
            let message = format!("`{when}`, time {} of the line, does not exist in {}", n + 1, setting.zone);
            let help = "clocks are moved on at that time; write another one";
            faults.push(fault(file, &line.place, message, "in the column `when`", help));
            return;
        };
        let turn = |text: &str| -> String {
            if times.is_none() {
                return text.to_string();
            }
            let turns: Vec<&str> = text.split(" / ").collect();
            turns[n % turns.len()].trim().replace("{n}", &(n + 1).to_string())
        };
        let label = line.cell(table, "label");
        let id = match (label, times) {
            (Some(label), None) => label.to_string(),
            (Some(label), Some(_)) => format!("{label}.{}", n + 1),
            (None, None) => format!("line-{number}"),
            (None, Some(_)) => format!("line-{number}.{}", n + 1),
        };
        let mut values = BTreeMap::new();
        for (name, cell) in table.columns.iter().zip(&line.cells) {
            let Some(cell) = cell else { continue };
            match name.as_str() {
                "label" | "when" | "times" => {}
                "from" | "to" => {
                    let party = turn(cell);
                    if party == "cash" {
                        values.entry("method").or_insert_with(|| "cash".to_string());
                    } else {
                        let column = if name == "from" { "debtor_account" } else { "creditor_account" };
                        values.insert(column, party);
                    }
                }
                "amount" => {
                    let text = turn(cell);
                    let (amount, currency) = match text.split_once(' ') {
                        Some((amount, currency)) => (amount.to_string(), currency.trim().to_string()),
                        None => (text, setting.currency.clone()),
                    };
                    values.insert("amount", amount);
                    values.insert("currency", currency);
                }
                name => {
                    if let Some(column) = TRANSACTIONS.iter().find(|column| column.name == name) {
                        let text = turn(cell);
                        let text = match column.kind {
                            Kind::Date => day(&text, setting.day_1).map_or(text, |day| day.to_string()),
                            _ => text,
                        };
                        values.insert(column.name, text);
                    }
                }
            }
        }
        rows.push(Row {
            id,
            time: instant.timestamp_micros(),
            offset_minutes: instant.offset().fix().local_minus_utc() / 60,
            values,
            place: line.place.clone(),
        });
    }
}

/// Checks what the canonical schema asks of a value beyond its Arrow type.
fn unfit(kind: Kind, value: &str) -> Option<String> {
    match kind {
        Kind::Word(words) if !words.contains(&value) => Some(match nearest(value, words.iter().copied()) {
            Some(near) => format!("did you mean `{near}`? The words are {}", words.join(", ")),
            None => format!("the words are {}", words.join(", ")),
        }),
        Kind::Country if value.len() != 2 || !value.bytes().all(|b| b.is_ascii_uppercase()) => {
            Some("write two capital letters, such as `DE`".into())
        }
        Kind::Currency if value.len() != 3 || !value.bytes().all(|b| b.is_ascii_uppercase()) => {
            Some("write three capital letters after the amount, such as `150 USD`".into())
        }
        Kind::Mcc if value.len() != 4 || !value.bytes().all(|b| b.is_ascii_digit()) => {
            Some("write four digits, such as `7011`".into())
        }
        Kind::Amount if value.starts_with('-') => {
            Some("amounts are not negative: `from` and `to` say which way the money goes".into())
        }
        _ => None,
    }
}

fn columns(table: &Table, rows: &[Row], file: &File, faults: &mut Diagnostics) -> Option<Story> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let before = faults.0.len();
    let mut fields = Vec::new();
    let mut arrays: Vec<ArrayRef> = Vec::new();
    let times: Vec<i64> = rows.iter().map(|row| row.time).collect();
    for column in TRANSACTIONS {
        let kind = column.kind.data_type();
        let array: ArrayRef = match column.name {
            "tx_id" => Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.id))),
            "event_time" => Arc::new(TimestampMicrosecondArray::from(times.clone()).with_timezone("UTC")),
            "utc_offset_minutes" => {
                Arc::new(arrow::array::Int32Array::from_iter_values(rows.iter().map(|r| r.offset_minutes)))
            }
            "local_time" => Arc::new(TimestampMicrosecondArray::from_iter_values(
                rows.iter().map(|row| row.time + i64::from(row.offset_minutes) * 60_000_000),
            )),
            "entry_type" => Arc::new(StringArray::from_iter_values(
                rows.iter().map(|row| row.values.get("entry_type").map_or("booking", String::as_str)),
            )),
            "feed" | "source" => {
                Arc::new(StringArray::from_iter_values(rows.iter().map(|_| "case".to_string())))
            }
            "source_partition" => Arc::new(arrow::array::Int32Array::from(vec![0; rows.len()])),
            "source_offset" => Arc::new(Int64Array::from_iter_values(0..rows.len() as i64)),
            name => {
                let always = ["amount", "currency", "debtor_account", "creditor_account", "method"];
                if !always.contains(&name) && !table.columns.iter().any(|given| given == name) {
                    continue;
                }
                let values: Vec<Option<&str>> =
                    rows.iter().map(|row| row.values.get(name).map(String::as_str)).collect();
                let read = |values: &[Option<&str>]| {
                    cast_with_options(&StringArray::from(values.to_vec()), &kind, &strict)
                };
                for (row, value) in rows.iter().zip(&values) {
                    let Some(value) = value else {
                        if column.required {
                            let message = format!("`{name}` is empty");
                            faults.push(fault(file, &row.place, message, "in this line", "write it there"));
                        }
                        continue;
                    };
                    let help = match unfit(column.kind, value) {
                        Some(help) => help,
                        None if read(&[Some(value)]).is_err() => format!("write a {}", column.kind.words()),
                        None => continue,
                    };
                    let message = format!("`{value}` does not fit the column `{name}`");
                    faults.push(fault(file, &row.place, message, "in this line", &help));
                }
                match read(&values) {
                    Ok(array) => array,
                    Err(_) => continue,
                }
            }
        };
        fields.push(Field::new(column.name, kind, true));
        arrays.push(array);
    }
    if faults.0.len() > before {
        return None;
    }
    match RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays) {
        Ok(rows) => Some(Story { rows, times }),
        Err(error) => {
            faults.push(file.fault("R040", format!("the transactions cannot be put together: {error}")));
            None
        }
    }
}

/// A table of text for the reference data.
pub(crate) fn text_batch(rows: &[BTreeMap<String, String>]) -> Option<RecordBatch> {
    let names: std::collections::BTreeSet<&String> = rows.iter().flat_map(BTreeMap::keys).collect();
    let fields: Vec<Field> = names.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect();
    let arrays: Vec<ArrayRef> = names
        .iter()
        .map(|name| {
            let values: StringArray = rows.iter().map(|row| row.get(*name).map(String::as_str)).collect();
            Arc::new(values) as ArrayRef
        })
        .collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn days_count_from_day_one_backwards_too() {
        let day_1 = date("2026-03-02");
        assert_eq!(day("day 1", day_1), Some(day_1));
        assert_eq!(day("day 3", day_1), Some(date("2026-03-04")));
        assert_eq!(day("day 0", day_1), Some(date("2026-03-01")));
        assert_eq!(day("day -1", day_1), Some(date("2026-02-28")));
        assert_eq!(day("2026-05-01", day_1), Some(date("2026-05-01")));
        assert_eq!(day("tuesday", day_1), None);
        assert_eq!(day("day 9223372036854775807", day_1), None);
    }

    #[test]
    fn times_are_told_in_words() {
        let told = |text: &str| {
            let (count, step) = repetition(text)?;
            let start = date("2026-01-31").and_time(NaiveTime::MIN);
            Some((count, step.after(start, 1)?.to_string()))
        };
        assert_eq!(told("16 daily"), Some((16, "2026-02-01 00:00:00".into())));
        assert_eq!(told("3 monthly"), Some((3, "2026-02-28 00:00:00".into())));
        assert_eq!(told("5 every 10 minutes"), Some((5, "2026-01-31 00:10:00".into())));
        assert_eq!(told("2 every 1 week"), Some((2, "2026-02-07 00:00:00".into())));
        for wrong in ["", "daily", "0 daily", "3 yearly", "3 every day", "3 every 0 days", "-1 daily"] {
            assert!(told(wrong).is_none(), "{wrong}");
        }
    }
}
