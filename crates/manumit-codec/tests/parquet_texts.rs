//! Parquet files that hold more text than they look: memory stays bounded.

// A test fails by panicking; the lints that forbid it are meant for the product.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray as _, Int64Array, RecordBatch, StringArray, StringBuilder, StructArray,
};
use arrow::datatypes::{DataType, Field};
use manumit_codec::{parquet_batches, parquet_schema};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

/// Texts of `length` bytes, the same in all rows, in a column and in a field of a nested one.
fn file(name: &str, rows: usize, length: usize) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("manumit-parquet-{}-{name}", std::process::id()));
    let text = "x".repeat(length);
    let mut writer: Option<ArrowWriter<File>> = None;
    // The writer's memory is bounded as well.
    for from in (0..rows).step_by(8) {
        let count = 8.min(rows - from);
        let mut texts = StringBuilder::new();
        (0..count).for_each(|_| texts.append_value(&text));
        let numbers = Int64Array::from_iter_values((from..from + count).map(|n| n as i64));
        let nested = Arc::new(Field::new("name", DataType::Utf8, true));
        let nested = StructArray::from(vec![(
            nested,
            Arc::new(StringArray::from(vec![Some("y"); count])) as ArrayRef,
        )]);
        let batch = RecordBatch::try_from_iter([
            ("number", Arc::new(numbers) as ArrayRef),
            ("text", Arc::new(texts.finish())),
            ("nested", Arc::new(nested)),
        ])
        .unwrap();
        let writer = writer.get_or_insert_with(|| {
            let properties = WriterProperties::builder().set_dictionary_page_size_limit(64 << 20).build();
            ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), Some(properties)).unwrap()
        });
        writer.write(&batch).unwrap();
    }
    writer.unwrap().close().unwrap();
    path
}

#[test]
fn a_small_file_that_says_a_long_text_very_often_is_read_a_little_at_a_time() {
    // A gigabyte of text.
    let path = file("bomb", 1_024, 1 << 20);
    assert!(std::fs::metadata(&path).unwrap().len() < 4 << 20);
    let mut next = 0;
    for batch in parquet_batches(&path, 16_384).unwrap() {
        let batch = batch.unwrap();
        assert!(batch.get_array_memory_size() < 64 << 20, "{}", batch.get_array_memory_size());
        let numbers = batch.column(0).as_primitive::<arrow::datatypes::Int64Type>();
        let texts = batch.column(1).as_string::<i32>();
        let names = batch.column(2).as_struct().column(0).as_string::<i32>();
        for row in 0..batch.num_rows() {
            assert_eq!((numbers.value(row), texts.value(row).len(), names.value(row)), (next, 1 << 20, "y"));
            next += 1;
        }
    }
    assert_eq!(next, 1_024);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn rows_with_short_texts_come_as_many_as_were_asked_for() {
    let path = file("short", 1_000, 5);
    let sizes: Vec<usize> =
        parquet_batches(&path, 600).unwrap().map(|batch| batch.unwrap().num_rows()).collect();
    assert_eq!(sizes, [600, 400]);
    assert_eq!(
        parquet_batches(&path, 600).unwrap().next().unwrap().unwrap().schema(),
        parquet_schema(&path).unwrap()
    );
    std::fs::remove_file(path).unwrap();
}
