//! Feeds of labelled sets as they are found: without ids, in Parquet with floats, with numbers for times.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Decimal128Type, TimestampMicrosecondType};
use arrow::util::display::array_value_to_string;
use manumit_feed::{Feed, Mapped};
use manumit_model::Records;
use manumit_sql::Sql;

fn feed(text: &str) -> Result<Feed, String> {
    Feed::load("set", Path::new("sql/feeds/set.sql"), text.into(), &Sql::new(), None)
        .map_err(|faults| faults.to_string())
}

fn parquet(select: &str, raw: &str, columns: Vec<(&str, ArrayRef)>) -> Mapped {
    let text = format!("---\nformat = \"parquet\"\ncurrency = \"EUR\"\n{raw}---\nSELECT {select} FROM raw");
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    feed(&text).unwrap().map_rows_of(rows, &"set.parquet".into(), 1, 2_000_000_000_000_000).unwrap()
}

fn shown(mapped: &Mapped, column: &str) -> Vec<String> {
    let column = mapped.transactions.column_by_name(column).unwrap();
    (0..column.len()).map(|row| array_value_to_string(column, row).unwrap()).collect()
}

#[test]
fn records_without_an_id_are_told_apart_by_where_they_were_read() {
    let text = "---\nformat = \"csv\"\ncurrency = \"EUR\"\n[raw]\nwhen = \"timestamp\"\nacc = \"text\"\nkeep = \"text\"\n---\n\
                SELECT record_number AS tx_id, raw.\"when\" AS event_time, 1.5 AS amount, acc AS debtor_account, \
                concat(record_source, '/', record_partition) AS memo FROM raw WHERE keep = 'y' AND record_number > 1";
    let mut records = Records::new("day.csv".into(), 3, 2_000_000_000_000_000);
    for (number, line) in ["y", "y", "n", "y", "y"].iter().enumerate() {
        let when = if number == 3 { "yesterday" } else { "2026-03-01T10:00:00Z" };
        records.push(number as i64 + 1, format!("{when},A,{line}").as_bytes());
    }
    let mapped = feed(text).unwrap().map(&records).unwrap();
    assert_eq!(shown(&mapped, "tx_id"), ["2", "5"]);
    assert_eq!(shown(&mapped, "memo"), ["day.csv/3", "day.csv/3"]);
    assert_eq!(mapped.dead_letters.len(), 1, "{:?}", mapped.dead_letters);
    assert_eq!((mapped.read, mapped.filtered), (5, 2));
    // A field of that name in the record goes before.
    let own =
        text.replace("acc = \"text\"", "acc = \"text\"\nrecord_number = \"text\"").replace(" > 1", " = 'x'");
    assert_eq!(feed(&own).unwrap().map(&records).unwrap().transactions.num_rows(), 0);
}

#[test]
fn items_of_a_list_keep_the_place_of_their_record() {
    let text = "---\nformat = \"jsonl\"\ncurrency = \"EUR\"\n[raw]\nlegs = [\"text\"]\nt = \"timestamp\"\n---\n\
                SELECT concat(record_number, '-', unnest(legs)) AS tx_id, t AS event_time, 1 AS amount, 'A' AS debtor_account FROM raw";
    let mut records = Records::new("day.jsonl".into(), 0, 2_000_000_000_000_000);
    records.push(7, br#"{"legs":["a","b"],"t":"2026-03-01T10:00:00Z"}"#);
    records.push(9, br#"{"legs":["c"],"t":"2026-03-01T10:00:00Z"}"#);
    assert_eq!(shown(&feed(text).unwrap().map(&records).unwrap(), "tx_id"), ["7-a", "7-b", "9-c"]);
}

#[test]
fn floats_of_parquet_are_the_amounts_that_they_were_written_as() {
    let amounts = [0.1, 16.1, 19.99, 1_234_567.89, 99_999_999.99, 1_000_000_000.01, 0.07];
    let count = amounts.len();
    let mapped = parquet(
        "id AS tx_id, to_timestamp_seconds(at) AT TIME ZONE 'UTC' AS event_time, amount, 'A' AS debtor_account",
        "[raw]\nid = \"integer\"\nat = \"integer\"\namount = \"decimal\"\n",
        vec![
            ("id", Arc::new(Int64Array::from_iter_values(0..count as i64)) as ArrayRef),
            ("at", Arc::new(Int64Array::from(vec![1_700_000_000; count]))),
            ("amount", Arc::new(Float64Array::from(amounts.to_vec()))),
        ],
    );
    assert_eq!(mapped.dead_letters, []);
    let found =
        mapped.transactions.column_by_name("amount").unwrap().as_primitive::<Decimal128Type>().clone();
    let wanted = [1_000, 161_000, 199_900, 12_345_678_900, 999_999_999_900, 10_000_000_000_100, 700];
    assert_eq!(found.values(), &wanted);
}

#[test]
fn whole_numbers_of_parquet_that_are_declared_epochs_are_these_times_and_local_times_are_the_zones() {
    let local = TimestampMicrosecondArray::from(vec![1_700_000_000_000_000]);
    for (word, number) in [
        ("timestamp_s", 1_700_000_000_i64),
        ("timestamp_ms", 1_700_000_000_000),
        ("timestamp_us", 1_700_000_000_000_000),
    ] {
        let mapped = parquet(
            "'x' AS tx_id, at AS event_time, 1 AS amount, 'A' AS debtor_account",
            &format!("time_zone = \"Europe/Berlin\"\n[raw]\nat = \"{word}\"\n"),
            vec![("at", Arc::new(Int64Array::from(vec![number])) as ArrayRef)],
        );
        assert_eq!(shown(&mapped, "event_time"), ["2023-11-14T22:13:20Z"], "{word}");
    }
    let mapped = parquet(
        "'x' AS tx_id, at AS event_time, 1 AS amount, 'A' AS debtor_account",
        "time_zone = \"Europe/Berlin\"\n[raw]\nat = \"timestamp\"\n",
        vec![("at", Arc::new(local) as ArrayRef)],
    );
    let at = mapped.transactions.column_by_name("event_time").unwrap();
    assert_eq!(at.as_primitive::<TimestampMicrosecondType>().value(0), 1_700_000_000_000_000 - 3_600_000_000);
}

#[test]
fn a_number_and_a_time_without_zone_are_told_what_would_make_them_an_instant() {
    let told = |select: &str, column: ArrayRef| {
        let select = format!("'x' AS tx_id, {select} AS event_time, 1 AS amount, 'A' AS debtor_account");
        let raw = if column.data_type().is_integer() { "integer" } else { "text" };
        let mapped = parquet(&select, &format!("[raw]\nat = \"{raw}\"\n"), vec![("at", column)]);
        assert_eq!(mapped.dead_letters[0].reason, "not_a_date");
        mapped.dead_letters[0].message.clone()
    };
    let number = || Arc::new(Int64Array::from(vec![1_700_000_000])) as ArrayRef;
    assert!(told("at", number()).contains("`to_timestamp_seconds`"));
    assert!(told("to_timestamp_seconds(at)", number()).contains("AT TIME ZONE 'UTC'"));
    let text = |text: &str| Arc::new(StringArray::from(vec![text])) as ArrayRef;
    assert!(told("at", text("2026-03-01 10:00:00")).contains("time_zone"));
    assert!(told("at", text("soon")).contains("must be a date and time such as"));
}

#[test]
fn a_parquet_feed_without_raw_is_told_to_declare_its_columns_where_no_file_is_at_hand() {
    let text = "---\nformat = \"parquet\"\ncurrency = \"EUR\"\n---\nSELECT a AS tx_id, b AS event_time, c AS amount, d AS debtor_account FROM raw";
    let Err(told) = feed(text) else { panic!("it was taken") };
    assert!(told.contains("D016") && told.contains("manumit feed new set --sample"), "{told}");
    assert_eq!(told.matches("error[").count(), 1, "{told}");
}
