//! One key's rows out of the archive, against going through all rows.

// A test fails by panicking; the lints that forbid it are meant for the product.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, AsArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use manumit_archive::{Archive, ArchiveError, Effort, Lookup, Settings, Writer, schema};
use proptest::prelude::*;

const DAY: i64 = 86_400_000_000;

/// Number, event time, payer, payee, and whether it was late.
type Row = (i64, i64, Option<u8>, Option<u8>, bool);

fn batch(rows: &[Row]) -> RecordBatch {
    let account = |of: fn(&Row) -> Option<u8>| {
        Arc::new(rows.iter().map(|row| of(row).map(|n| format!("A{n}"))).collect::<StringArray>())
    };
    let text = |of: fn(&Row) -> String| Arc::new(rows.iter().map(|r| Some(of(r))).collect::<StringArray>());
    let times = rows.iter().map(|row| Some(row.1)).collect::<TimestampMicrosecondArray>();
    RecordBatch::try_from_iter([
        ("tx_id", text(|row| format!("t{}", row.0)) as _),
        ("event_time", Arc::new(times.with_timezone("UTC")) as _),
        ("debtor_account", account(|row| row.2) as _),
        ("creditor_account", account(|row| row.3) as _),
        ("feed", text(|_| "bank".into()) as _),
        ("source", text(|_| "topic".into()) as _),
        ("source_partition", Arc::new(rows.iter().map(|_| 0).collect::<Int32Array>()) as _),
        ("source_offset", Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>()) as _),
    ])
    .unwrap()
}

fn written(folder: &Path, batches: &[&[Row]]) {
    let mut writer = Writer::open(folder, Settings { buffer_rows: 50_000, ..Settings::default() }).unwrap();
    for rows in batches {
        let late: Vec<usize> = (0..rows.len()).filter(|&row| rows[row].4).collect();
        writer.push(&batch(rows), &late).unwrap();
        writer.commit().unwrap();
    }
}

fn wanted_schema() -> SchemaRef {
    let mut fields: Vec<Field> = ["tx_id", "event_time", "creditor_account"]
        .map(|name| schema().field_with_name(name).unwrap().clone())
        .to_vec();
    fields.push(Field::new("of_a_later_version", DataType::Utf8, true));
    Arc::new(Schema::new(fields))
}

fn found(
    folder: &Path,
    columns: &[&str],
    keys: &[&str],
    from: i64,
    to: i64,
) -> Result<(BTreeSet<String>, Effort), ArchiveError> {
    let keys: HashSet<&str> = keys.iter().copied().collect();
    let schema = wanted_schema();
    let lookup = Lookup { columns, keys: &keys, from, to, schema: &schema };
    let (batches, effort) = Archive::open(folder)?.look_up(&lookup)?;
    let mut ids = BTreeSet::new();
    for rows in &batches {
        assert_eq!(rows.schema(), schema);
        assert_eq!(rows.column(3).null_count(), rows.num_rows());
        ids.extend(rows.column(0).as_string::<i32>().iter().flatten().map(String::from));
    }
    assert_eq!(ids.len(), batches.iter().map(RecordBatch::num_rows).sum::<usize>(), "a row came twice");
    Ok((ids, effort))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_rows_of_some_keys_are_those_that_a_look_at_all_rows_finds(
        rows in prop::collection::vec(
            (0..4 * DAY, prop::option::of(0..6_u8), prop::option::of(0..6_u8), prop::bool::weighted(0.1)), 1..200),
        keys in prop::collection::btree_set(0..8_u8, 0..4),
        span in (0..4 * DAY, 0..4 * DAY),
        cut in 0..200_usize,
    ) {
        let rows: Vec<Row> =
            rows.into_iter().zip(0..).map(|((time, from, to, late), n)| (n, time, from, to, late)).collect();
        let folder = tempfile::tempdir().unwrap();
        let (left, right) = rows.split_at(cut.min(rows.len()));
        written(folder.path(), &[left, right]);
        let (from, to) = (span.0.min(span.1), span.0.max(span.1));
        let names: Vec<String> = keys.iter().map(|n| format!("A{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for (columns, both) in [(&["debtor_account"][..], false), (&["debtor_account", "creditor_account"], true)] {
            let is = |n: Option<u8>| n.is_some_and(|n| keys.contains(&n));
            let expected: BTreeSet<String> = rows
                .iter()
                .filter(|(_, time, payer, payee, late)| {
                    (from..to).contains(time) && !late && (is(*payer) || (both && is(*payee)))
                })
                .map(|row| format!("t{}", row.0))
                .collect();
            prop_assert_eq!(found(folder.path(), columns, &names, from, to).unwrap().0, expected);
        }
    }
}

#[test]
fn row_groups_that_cannot_hold_the_key_or_the_time_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    // Three days of 40,000 rows, two groups each; A7 pays once.
    let rows: Vec<Row> = (0..120_000)
        .map(|n| (n, n * 3 * DAY / 120_000, Some(if n == 90_000 { 7 } else { 1 }), None, false))
        .collect();
    written(folder.path(), &[&rows]);
    let asked = |keys: &[&str], from, to| found(folder.path(), &["debtor_account"], keys, from, to).unwrap();
    let (ids, effort) = asked(&["A7"], 0, 3 * DAY);
    assert_eq!(ids, BTreeSet::from(["t90000".to_string()]));
    assert_eq!((effort.groups, effort.groups_read), (6, 1));
    assert_eq!(asked(&["A8"], 0, 3 * DAY).1.groups_read, 0);
    // One day's files, and of them the first group.
    assert_eq!(asked(&["A1"], DAY, DAY + 1).1, Effort { groups: 2, groups_read: 1 });
}

#[test]
fn a_damaged_file_is_named_rather_than_left_out() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), &[&[(0, 1, Some(1), None, false)], &[(1, DAY + 1, Some(1), None, false)]]);
    let archive = Archive::open(folder.path()).unwrap();
    let path = archive.path(&archive.files(Some(DAY), None)[0]);
    std::fs::write(&path, b"PAR1 nothing").unwrap();
    let error = found(folder.path(), &["debtor_account"], &["A1"], 0, 2 * DAY).unwrap_err();
    assert!(matches!(error, ArchiveError::BadFile(_)), "{error}");
    assert!(error.to_string().contains(path.file_name().unwrap().to_str().unwrap()), "{error}");
    // Of another time, it does not matter.
    assert_eq!(found(folder.path(), &["debtor_account"], &["A1"], 0, DAY).unwrap().0.len(), 1);
}
