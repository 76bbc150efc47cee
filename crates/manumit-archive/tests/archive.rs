//! The archive as its writers and readers see it, through crashes, re-reads and damage.

// A test fails by panicking; the lints that forbid it are meant for the product.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    AsArray, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use manumit_archive::{Archive, ArchiveError, Day, Depth, MANIFEST, Settings, Writer, schema};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;

const DAY: i64 = 86_400_000_000;

/// One transaction as a feed gives it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    source: &'static str,
    partition: i32,
    offset: i64,
    id: String,
    time: i64,
}

fn row(source: &'static str, offset: i64, time: i64) -> Row {
    Row { source, partition: 0, offset, id: format!("{source}-{offset}"), time }
}

fn batch(rows: &[Row]) -> RecordBatch {
    let text = |of: fn(&Row) -> String| Arc::new(rows.iter().map(|r| Some(of(r))).collect::<StringArray>());
    let times = rows.iter().map(|r| Some(r.time)).collect::<TimestampMicrosecondArray>();
    let amounts = rows.iter().map(|r| i128::from(r.offset) * 10_000 + 1).collect::<Decimal128Array>();
    RecordBatch::try_from_iter([
        ("tx_id", text(|r| r.id.clone()) as _),
        ("event_time", Arc::new(times.with_timezone("UTC")) as _),
        ("amount", Arc::new(amounts.with_precision_and_scale(20, 4).unwrap()) as _),
        ("currency", text(|_| "EUR".into()) as _),
        ("debtor_account", text(|r| format!("A{}", r.offset % 50)) as _),
        ("feed", text(|_| "bank".into()) as _),
        ("source", text(|r| r.source.into()) as _),
        ("source_partition", Arc::new(rows.iter().map(|r| r.partition).collect::<Int32Array>()) as _),
        ("source_offset", Arc::new(rows.iter().map(|r| r.offset).collect::<Int64Array>()) as _),
    ])
    .unwrap()
}

fn settings() -> Settings {
    Settings { buffer_rows: 1_000, keep_replaced: Duration::ZERO, ..Settings::default() }
}

fn writer(folder: &Path) -> Writer {
    Writer::open(folder, settings()).unwrap()
}

fn read_file(path: &Path) -> Vec<RecordBatch> {
    let file = std::fs::File::open(path).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    reader.map(|rows| rows.unwrap()).collect()
}

/// How often each row is in the archive.
fn read(folder: &Path) -> BTreeMap<(String, i64, String), usize> {
    let archive = Archive::open(folder).unwrap();
    let (files, bad) = archive.check(archive.files(None, None), Depth::Checksums);
    assert_eq!(bad, []);
    let mut rows = BTreeMap::new();
    for batch in files.iter().flat_map(|entry| read_file(&archive.path(entry))) {
        let text = |name: &str, row: usize| {
            batch.column_by_name(name).unwrap().as_string::<i32>().value(row).to_string()
        };
        let offsets = batch.column_by_name("source_offset").unwrap().as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            *rows.entry((text("source", row), offsets.value(row), text("tx_id", row))).or_default() += 1;
        }
    }
    rows
}

fn once(rows: &[Row]) -> BTreeMap<(String, i64, String), usize> {
    rows.iter().map(|r| ((r.source.to_string(), r.offset, r.id.clone()), 1)).collect()
}

fn parquet_files(folder: &Path) -> Vec<PathBuf> {
    let archive = Archive::open(folder).unwrap();
    archive.files(None, None).iter().map(|entry| archive.path(entry)).collect()
}

#[test]
fn rows_come_back_with_all_columns_in_order_and_late_ones_flagged() {
    let folder = tempfile::tempdir().unwrap();
    let mut archive = writer(folder.path());
    let rows = [row("t", 0, DAY + 5), row("t", 1, 7), row("t", 2, DAY + 3), row("t", 3, DAY + 4)];
    archive.push(&batch(&rows), &[1, 3]).unwrap();
    assert_eq!(archive.buffered_rows(), 4);
    archive.commit().unwrap();
    let counts = archive.counts();
    assert_eq!((counts.archived, counts.late, counts.known), (4, 2, 0));
    let reader = Archive::open(folder.path()).unwrap();
    let files = reader.files(None, None);
    let days: Vec<String> = files.iter().map(|entry| entry.day().to_string()).collect();
    assert_eq!(days, ["1970-01-01", "1970-01-02"]);
    assert!(files[1].path.starts_with("event_date=1970-01-02/"));
    assert_eq!((files[1].rows, files[1].late_rows), (3, 1));
    let batches = read_file(&reader.path(&files[1]));
    assert_eq!(batches[0].schema().fields(), schema().fields());
    let times = batches[0].column_by_name("event_time").unwrap().as_primitive::<TimestampMicrosecondType>();
    assert_eq!(times.values(), &[DAY + 3, DAY + 4, DAY + 5]);
    let late = batches[0].column_by_name("late").unwrap().as_boolean();
    assert_eq!(late.iter().collect::<Vec<_>>(), [Some(false), Some(true), Some(false)]);
    assert_eq!(reader.files(Some(DAY), None).len(), 1);
    assert_eq!(reader.files(None, Some(DAY)).len(), 1);
    assert_eq!(reader.files(Some(8), Some(DAY)).len(), 0);
    let position = &reader.manifest().positions[0];
    assert_eq!((position.source.as_str(), position.next), ("t", 4));
}

#[test]
fn a_file_read_again_adds_nothing_and_new_content_under_its_name_adds_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let first: Vec<Row> = (1..=300).map(|n| row("day.jsonl", n, n * DAY / 100)).collect();
    for round in 0..3 {
        let mut archive = writer(folder.path());
        for part in first.chunks(70) {
            archive.push(&batch(part), &[]).unwrap();
        }
        archive.commit().unwrap();
        let counts = archive.counts();
        assert_eq!((counts.archived, counts.known), if round == 0 { (300, 0) } else { (0, 300) });
    }
    assert_eq!(read(folder.path()), once(&first));
    // The bank exports each day under the same name.
    let second: Vec<Row> =
        (1..=200).map(|n| Row { id: format!("next-{n}"), ..row("day.jsonl", n, n * DAY / 100) }).collect();
    let mut archive = writer(folder.path());
    archive.push(&batch(&second), &[]).unwrap();
    archive.commit().unwrap();
    assert_eq!(archive.counts().archived, 200);
    let both = [first, second].concat();
    assert_eq!(read(folder.path()), once(&both));
}

#[test]
fn a_record_that_was_rejected_at_first_is_added_when_its_mapping_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let all: Vec<Row> = (1..=10).map(|n| row("f", n, n)).collect();
    let accepted: Vec<Row> = all.iter().filter(|r| r.offset % 3 != 0).cloned().collect();
    for rows in [&accepted, &all] {
        let mut archive = writer(folder.path());
        archive.push(&batch(rows), &[]).unwrap();
        archive.commit().unwrap();
    }
    assert_eq!(read(folder.path()), once(&all));
}

#[test]
fn rows_read_again_while_the_first_reading_is_in_memory_are_known() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<Row> = (0..100).map(|n| row("topic", n, n * DAY / 30)).collect();
    let mut archive = writer(folder.path());
    archive.push(&batch(&rows[..80]), &[]).unwrap();
    archive.push(&batch(&rows[50..]), &[]).unwrap();
    archive.commit().unwrap();
    assert_eq!(archive.counts().known, 30);
    assert_eq!(read(folder.path()), once(&rows));
}

#[test]
fn what_was_archived_beyond_the_commit_is_taken_back_and_may_come_again_as_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<Row> = (0..60).map(|n| row("topic", n, n * DAY / 20)).collect();
    let others: Vec<Row> = (0..60).map(|n| row("other", n, n * DAY / 20)).collect();
    let mut archive = writer(folder.path());
    for part in [0..30, 30..60] {
        archive.push(&batch(&rows[part.clone()]), &[]).unwrap();
        archive.push(&batch(&others[part]), &[]).unwrap();
        archive.commit().unwrap();
    }
    archive.compact().unwrap();
    drop(archive);
    // Nothing is said of the other topic, so it is left alone.
    let committed = BTreeMap::from([(("topic".to_string(), 0), 25), (("elsewhere".to_string(), 0), 0)]);
    let mut archive = writer(folder.path());
    assert_eq!(archive.take_back(&committed).unwrap(), 35);
    assert_eq!(archive.take_back(&committed).unwrap(), 0);
    let position = |name| archive.manifest().positions.iter().find(|p| p.source == name).unwrap().next;
    assert_eq!((position("topic"), position("other")), (25, 60));
    let kept: Vec<Row> = rows[..25].iter().chain(&others).cloned().collect();
    assert_eq!(read(folder.path()), once(&kept));
    // All but one of them come again, late this time.
    archive.push(&batch(&rows[25..59]), &(0..34).collect::<Vec<_>>()).unwrap();
    archive.commit().unwrap();
    assert_eq!((archive.counts().archived, archive.counts().late, archive.counts().known), (34, 34, 0));
    let kept: Vec<Row> = rows[..59].iter().chain(&others).cloned().collect();
    assert_eq!(read(folder.path()), once(&kept));
}

#[test]
fn what_a_crash_leaves_is_not_read_and_goes_at_the_next_start_and_nothing_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<Row> = (0..50).map(|n| row("topic", n, n)).collect();
    let mut archive = writer(folder.path());
    archive.push(&batch(&rows), &[]).unwrap();
    archive.commit().unwrap();
    let committed = parquet_files(folder.path())[0].clone();
    let id = archive.manifest().id.clone();
    drop(archive);
    let day = committed.parent().unwrap();
    // Written and renamed, but the manifest was never replaced; half written; a manifest half written.
    let orphan = day.join(format!("00000002-{id}.parquet"));
    let half = day.join(format!(".00000003-{id}.parquet.tmp"));
    std::fs::copy(&committed, &orphan).unwrap();
    std::fs::write(&half, b"PAR1....").unwrap();
    std::fs::write(folder.path().join(format!("{MANIFEST}.tmp")), b"{\"format\":").unwrap();
    // A file of another archive, and one of nobody.
    let moved = day.join("00000009-0badcafe.parquet");
    let note = day.join("note.txt");
    std::fs::copy(&committed, &moved).unwrap();
    std::fs::write(&note, "keep me").unwrap();
    assert_eq!(read(folder.path()), once(&rows));
    let strangers = Archive::open(folder.path()).unwrap().strangers().unwrap();
    assert_eq!(strangers.len(), 1);
    assert_eq!(strangers[0].path, moved);
    let mut archive = writer(folder.path());
    assert!(!orphan.exists() && !half.exists());
    assert!(moved.exists() && note.exists() && committed.exists());
    archive.push(&batch(&rows), &[]).unwrap();
    archive.commit().unwrap();
    assert_eq!(read(folder.path()), once(&rows));
}

#[test]
fn memory_stays_bounded_however_many_dates_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let mut archive = Writer::open(folder.path(), Settings { buffer_rows: 100, ..settings() }).unwrap();
    let rows: Vec<Row> = (0..2_000).map(|n| row("f", n, (n * 7_919 % 400) * DAY)).collect();
    for part in rows.chunks(64) {
        archive.push(&batch(part), &[]).unwrap();
        assert!(archive.buffered_rows() <= 100, "{}", archive.buffered_rows());
    }
    archive.commit().unwrap();
    assert_eq!(read(folder.path()), once(&rows));
}

#[test]
fn a_second_writer_is_refused_while_the_first_one_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let first = writer(folder.path());
    let refused = Writer::open(folder.path(), settings()).err().unwrap();
    assert!(matches!(refused, ArchiveError::Locked { .. }), "{refused}");
    assert!(refused.to_string().contains(&format!("process {}", std::process::id())), "{refused}");
    drop(first);
    writer(folder.path());
}

#[test]
fn small_files_become_one_and_hold_the_same_rows_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut archive = writer(folder.path());
    let rows: Vec<Row> = (0..900).map(|n| row("t", n, n * 7_919 % 500 * (DAY / 250))).collect();
    for part in rows.chunks(60) {
        archive.push(&batch(part), &[0]).unwrap();
        archive.commit().unwrap();
    }
    assert_eq!(parquet_files(folder.path()).len(), 30);
    let merged = archive.compact().unwrap();
    assert_eq!((merged.files_before, merged.files_after, merged.rows), (30, 2, 900));
    assert_eq!(parquet_files(folder.path()).len(), 2);
    assert_eq!(read(folder.path()), once(&rows));
    for path in parquet_files(folder.path()) {
        let mut last = (i64::MIN, String::new());
        for batch in read_file(&path) {
            let times =
                batch.column_by_name("event_time").unwrap().as_primitive::<TimestampMicrosecondType>();
            let ids = batch.column_by_name("tx_id").unwrap().as_string::<i32>();
            for row in 0..batch.num_rows() {
                let now = (times.value(row), ids.value(row).to_string());
                assert!(last <= now, "{last:?} {now:?}");
                last = now;
            }
        }
    }
    let late: u64 = archive.manifest().files.iter().map(|entry| entry.late_rows).sum();
    assert_eq!(late, 15);
    // The small ones are gone from the disk, too, and their rows are still known.
    for entry in std::fs::read_dir(folder.path().join("event_date=1970-01-01")).unwrap() {
        assert!(parquet_files(folder.path()).contains(&entry.unwrap().path()));
    }
    assert_eq!(archive.compact().unwrap().files_before, 0);
    drop(archive);
    let mut archive = writer(folder.path());
    archive.push(&batch(&rows), &[]).unwrap();
    assert_eq!(archive.counts().known, 900);
}

#[test]
fn a_service_merges_as_it_goes_and_keeps_replaced_files_for_readers() {
    let folder = tempfile::tempdir().unwrap();
    let keeping = Settings { keep_replaced: Duration::from_secs(600), ..settings() };
    let mut archive = Writer::open(folder.path(), keeping).unwrap();
    let rows: Vec<Row> = (0..640).map(|n| row("t", n, n)).collect();
    let mut most = 0;
    for part in rows.chunks(10) {
        archive.push(&batch(part), &[]).unwrap();
        archive.commit().unwrap();
        while archive.tend().unwrap() {}
        most = most.max(archive.manifest().files.len());
    }
    assert!(most <= 16, "{most}");
    assert_eq!(read(folder.path()), once(&rows));
    assert!(!archive.manifest().replaced.is_empty());
    for replaced in &archive.manifest().replaced {
        assert!(folder.path().join(&replaced.path).exists());
    }
    assert_eq!(Archive::open(folder.path()).unwrap().strangers().unwrap(), []);
    drop(archive);
    let mut archive = writer(folder.path());
    archive.commit().unwrap();
    assert_eq!(archive.manifest().replaced, []);
    let left = std::fs::read_dir(folder.path().join("event_date=1970-01-01")).unwrap().count();
    assert_eq!(left, archive.manifest().files.len());
}

#[test]
fn dates_past_the_retention_go_and_do_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<Row> = (0..20).map(|n| row("t", n, n * DAY)).collect();
    let mut archive = writer(folder.path());
    archive.push(&batch(&rows), &[]).unwrap();
    archive.commit().unwrap();
    let expired = archive.expire(5).unwrap();
    assert_eq!((expired.files_before, expired.rows), (14, 14));
    assert_eq!(read(folder.path()), once(&rows[14..]));
    assert!(!folder.path().join("event_date=1970-01-01").exists());
    drop(archive);
    let retention = Settings { retention_days: Some(5), ..settings() };
    let mut archive = Writer::open(folder.path(), retention).unwrap();
    archive.push(&batch(&rows), &[]).unwrap();
    archive.push(&batch(&[row("t", 20, 20 * DAY)]), &[]).unwrap();
    archive.commit().unwrap();
    assert_eq!((archive.counts().expired, archive.counts().known), (14, 6));
    let all = [&rows[15..], &[row("t", 20, 20 * DAY)]].concat();
    assert_eq!(read(folder.path()), once(&all));
}

#[test]
fn damage_is_named_with_the_mend() {
    let folder = tempfile::tempdir().unwrap();
    let mut archive = writer(folder.path());
    let rows: Vec<Row> = (0..6).map(|n| row("t", n, n * DAY)).collect();
    archive.push(&batch(&rows), &[]).unwrap();
    archive.commit().unwrap();
    let files = parquet_files(folder.path());
    let flip = |path: &Path, at: usize| {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[at] ^= 0x40;
        std::fs::write(path, bytes).unwrap();
    };
    let length = std::fs::read(&files[0]).unwrap().len();
    flip(&files[0], length / 3);
    let bytes = std::fs::read(&files[1]).unwrap();
    std::fs::write(&files[1], &bytes[..bytes.len() / 2]).unwrap();
    std::fs::remove_file(&files[2]).unwrap();
    std::fs::copy(&files[5], &files[3]).unwrap();
    let length = std::fs::read(&files[4]).unwrap().len();
    flip(&files[4], length - 2);
    let reader = Archive::open(folder.path()).unwrap();
    let (sound, bad) = reader.check(reader.files(None, None), Depth::Checksums);
    assert_eq!(sound.len(), 1, "{bad:?}");
    let words: Vec<String> = bad.iter().map(ToString::to_string).collect();
    for (index, expected) in
        ["checksum is not the one", "bytes where", "is not there", "bytes where|checksum", "no Parquet file"]
            .iter()
            .enumerate()
    {
        assert!(expected.split('|').any(|e| words[index].contains(e)), "{}", words[index]);
        assert!(words[index].starts_with(&files[index].display().to_string()), "{}", words[index]);
        assert!(words[index].contains("restore it from a copy"), "{}", words[index]);
        assert!(words[index].contains(&format!("of {}", Day::of(index as i64 * DAY))), "{}", words[index]);
    }
    // A flipped byte between the magics is found by its checksum alone.
    let (_, quick) = reader.check(reader.files(None, Some(DAY)), Depth::Footers);
    assert_eq!(quick, []);
    // Damage is not copied into a sound file.
    let mut archive = Writer::open(folder.path().join("none").as_path(), settings()).unwrap();
    assert_eq!(archive.compact().unwrap().files_before, 0);
}

#[test]
fn merging_stops_at_a_damaged_file_and_leaves_all_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut archive = writer(folder.path());
    for n in 0..3 {
        archive.push(&batch(&[row("t", n, n)]), &[]).unwrap();
        archive.commit().unwrap();
    }
    let files = parquet_files(folder.path());
    let mut bytes = std::fs::read(&files[1]).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&files[1], bytes).unwrap();
    let before = std::fs::read(folder.path().join(MANIFEST)).unwrap();
    let error = archive.compact().unwrap_err();
    assert!(matches!(&error, ArchiveError::BadFile(bad) if bad.path == files[1]), "{error}");
    assert_eq!(std::fs::read(folder.path().join(MANIFEST)).unwrap(), before);
    assert_eq!(parquet_files(folder.path()), files);
}

#[test]
fn a_folder_without_its_manifest_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Archive::open(folder.path()), Err(ArchiveError::NoArchive { .. })));
    let mut archive = writer(folder.path());
    archive.push(&batch(&[row("t", 0, 0)]), &[]).unwrap();
    archive.commit().unwrap();
    let file = parquet_files(folder.path())[0].clone();
    drop(archive);
    let manifest = folder.path().join(MANIFEST);
    let text = std::fs::read_to_string(&manifest).unwrap();
    for (damaged, expected) in [
        ("{".to_string(), "cannot be read"),
        (text.replace("manumit.archive/1", "manumit.archive/9"), "manumit.archive/9"),
        (text.replace("event_date=1970-01-01/", "event_date=1970-01-01/../../"), "no path of a file"),
    ] {
        std::fs::write(&manifest, damaged).unwrap();
        let error = Archive::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(MANIFEST), "{error}");
        assert!(Writer::open(folder.path(), settings()).is_err());
    }
    std::fs::remove_file(&manifest).unwrap();
    assert!(matches!(Archive::open(folder.path()), Err(ArchiveError::ManifestLost { .. })));
    let refused = Writer::open(folder.path(), settings()).err().unwrap();
    assert!(matches!(refused, ArchiveError::ManifestLost { .. }), "{refused}");
    assert!(file.exists());
}

#[test]
fn each_row_group_says_which_keys_it_does_not_hold() {
    let folder = tempfile::tempdir().unwrap();
    let mut archive = writer(folder.path());
    let rows: Vec<Row> = (0..50).map(|n| row("t", n, n)).collect();
    archive.push(&batch(&rows), &[]).unwrap();
    archive.commit().unwrap();
    let file = std::fs::File::open(&parquet_files(folder.path())[0]).unwrap();
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let column = |name: &str| {
        let group = builder.metadata().row_group(0);
        group.columns().iter().position(|c| c.column_path().string() == name).unwrap()
    };
    let filter = builder.get_row_group_column_bloom_filter(0, column("debtor_account")).unwrap().unwrap();
    assert!(filter.check(&"A7") && !filter.check(&"NOBODY"));
    assert!(builder.get_row_group_column_bloom_filter(0, column("memo")).unwrap().is_none());
    let times = builder.metadata().row_group(0).column(column("event_time"));
    assert!(times.statistics().is_some_and(|s| s.min_bytes_opt().is_some()));
    assert!(times.column_index_offset().is_some());
}

/// What happens to a writer, in order.
#[derive(Debug, Clone)]
enum Deed {
    /// Reads so many records on.
    Push(usize),
    /// Commits.
    Commit,
    /// Merges small files.
    Compact,
    /// Dies without commit; the next one reads from the position committed, or from so many before.
    Crash(usize),
    /// Dies in the middle of a commit: files are written, the manifest is not.
    CrashBeforeManifest,
    /// The next one reads from the beginning, as files are read.
    Again,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        6 => (1_usize..40).prop_map(Deed::Push),
        2 => Just(Deed::Commit),
        1 => Just(Deed::Compact),
        2 => (0_usize..60).prop_map(Deed::Crash),
        1 => Just(Deed::CrashBeforeManifest),
        1 => Just(Deed::Again),
    ];
    prop::collection::vec(deed, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A1: any pushes, restarts and re-reads of the same rows give the same rows, each once.
    #[test]
    fn a_row_is_in_the_archive_once(
        times in prop::collection::vec(0..4 * DAY, 1..150),
        deeds in deeds(),
        buffer_rows in 1_usize..60,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { buffer_rows, ..settings() };
        let rows: Vec<Row> = times.iter().enumerate().map(|(n, &time)| row("topic", n as i64, time)).collect();
        let mut archive = Writer::open(folder.path(), settings.clone()).unwrap();
        let (mut at, mut pushed, mut committed) = (0, 0, 0);
        for deed in deeds {
            match deed {
                Deed::Push(count) => {
                    let end = (at + count).min(rows.len());
                    let late: Vec<usize> = (at..end).filter(|n| n % 7 == 0).map(|n| n - at).collect();
                    archive.push(&batch(&rows[at..end]), &late).unwrap();
                    at = end;
                    pushed = pushed.max(end);
                }
                Deed::Commit | Deed::Compact => {
                    archive.commit().unwrap();
                    if matches!(deed, Deed::Compact) {
                        archive.compact().unwrap();
                    }
                    committed = pushed;
                    // More only where a re-read made it commit by itself before a crash.
                    let there = read(folder.path());
                    prop_assert!(there.len() >= committed);
                    prop_assert_eq!(&there, &once(&rows[..there.len()]));
                }
                Deed::Crash(back) => {
                    drop(archive);
                    archive = Writer::open(folder.path(), settings.clone()).unwrap();
                    at = committed.saturating_sub(back);
                    pushed = committed;
                }
                Deed::CrashBeforeManifest => {
                    let manifest = folder.path().join(MANIFEST);
                    let before = std::fs::read(&manifest).unwrap();
                    archive.commit().unwrap();
                    drop(archive);
                    std::fs::write(&manifest, before).unwrap();
                    archive = Writer::open(folder.path(), settings.clone()).unwrap();
                    at = committed;
                    pushed = committed;
                }
                Deed::Again => at = 0,
            }
        }
        archive.push(&batch(&rows[at..]), &[]).unwrap();
        archive.commit().unwrap();
        drop(archive);
        prop_assert_eq!(read(folder.path()), once(&rows));
        prop_assert_eq!(Archive::open(folder.path()).unwrap().strangers().unwrap(), vec![]);
    }
}
