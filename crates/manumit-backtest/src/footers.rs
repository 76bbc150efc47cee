//! What the footers of Parquet files show of all their rows, so that these need not be read to know it.

use std::fs::File;
use std::path::Path;

use arrow::datatypes::Schema;
use datafusion::parquet::basic::Type;
use datafusion::parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader};
use manumit_model::schema::TRANSACTIONS;

/// What makes a row usable beside its event time, column by column, in the words of SQL.
const ASKED: [(&str, &str); 3] =
    [("tx_id", "tx_id IS NOT NULL"), ("amount", "amount >= 0"), ("currency", "currency IS NOT NULL")];

/// Those of the conditions on usable rows that some row of the files may fail, as far as footers tell; a file whose footer does not
/// tell may fail all of them. `given`: columns as the files have them.
pub(crate) fn open_conditions(files: &[&String], given: &Schema) -> Vec<&'static str> {
    let mut open: Vec<bool> = ASKED.iter().map(|(column, _)| !is_canonical(given, column)).collect();
    for file in files {
        let metadata = footer(file.as_ref());
        for ((column, _), open) in ASKED.iter().zip(&mut open) {
            *open = *open || !metadata.as_ref().is_some_and(|metadata| all_fit(metadata, column));
        }
        if open.iter().all(|open| *open) {
            break;
        }
    }
    ASKED.iter().zip(open).filter(|(_, open)| *open).map(|((_, condition), _)| *condition).collect()
}

/// A column that is read as it is: a cast may fail and give NULL.
fn is_canonical(given: &Schema, name: &str) -> bool {
    let wanted = TRANSACTIONS.iter().find(|column| column.name == name).map(|column| column.kind.data_type());
    given.field_with_name(name).is_ok_and(|field| Some(field.data_type()) == wanted.as_ref())
}

fn footer(file: &Path) -> Option<ParquetMetaData> {
    ParquetMetaDataReader::new().parse_and_finish(&File::open(file).ok()?).ok()
}

/// No value of the column is NULL, nor negative where it is a number.
fn all_fit(metadata: &ParquetMetaData, column: &str) -> bool {
    metadata.row_groups().iter().all(|group| {
        let chunk = group.columns().iter().find(|chunk| chunk.column_path().string() == column);
        chunk.is_some_and(|chunk| {
            let required = chunk.column_descr().max_def_level() == 0;
            let known = chunk.statistics().and_then(|statistics| statistics.null_count_opt()) == Some(0);
            (required || known || group.num_rows() == 0) && (column != "amount" || is_not_negative(chunk))
        })
    })
}

/// The least value of a decimal is none below zero; it is a number or, big end first, its bytes.
fn is_not_negative(chunk: &ColumnChunkMetaData) -> bool {
    let Some(statistics) = chunk.statistics().filter(|statistics| !statistics.is_min_max_deprecated()) else {
        return false;
    };
    let Some(least) = statistics.min_bytes_opt() else { return false };
    let sign = match chunk.column_type() {
        Type::INT32 | Type::INT64 => least.last(),
        Type::FIXED_LEN_BYTE_ARRAY | Type::BYTE_ARRAY => least.first(),
        _ => None,
    };
    sign.is_some_and(|byte| byte & 0x80 == 0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Decimal128Array, RecordBatch, StringArray};
    use arrow::datatypes::DataType;
    use datafusion::parquet::arrow::ArrowWriter;
    use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties};

    use super::*;

    type Row = (Option<&'static str>, Option<i128>, Option<&'static str>);

    /// A file of two row groups at least, and its schema.
    fn file(folder: &Path, name: &str, rows: &[Row], statistics: bool) -> (String, Arc<Schema>) {
        let texts = |of: &dyn Fn(&Row) -> Option<&'static str>| -> ArrayRef {
            Arc::new(rows.iter().map(of).collect::<StringArray>())
        };
        let amounts: Decimal128Array = rows.iter().map(|row| row.1).collect();
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("tx_id", texts(&|row| row.0), true),
            ("amount", Arc::new(amounts.with_precision_and_scale(20, 4).unwrap()) as ArrayRef, true),
            ("currency", texts(&|row| row.2), true),
        ])
        .unwrap();
        let kept = if statistics { EnabledStatistics::Chunk } else { EnabledStatistics::None };
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(rows.len().div_ceil(2)))
            .set_statistics_enabled(kept)
            .build();
        let path = folder.join(name);
        let mut writer =
            ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        (path.display().to_string(), batch.schema())
    }

    const GOOD: Row = (Some("t1"), Some(0), Some("EUR"));

    #[test]
    fn only_what_some_row_may_fail_is_still_asked() {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str, rows: &[Row], statistics: bool| {
            let (path, schema) = file(folder.path(), name, rows, statistics);
            open_conditions(&[&path], &schema)
        };
        let all: Vec<&str> = ASKED.iter().map(|(_, condition)| *condition).collect();
        assert!(open("good", &[GOOD; 4], true).is_empty());
        assert_eq!(open("silent", &[GOOD; 4], false), all);
        for (at, bad) in
            [(None, Some(5), Some("EUR")), (Some("t"), Some(-1), Some("EUR")), (Some("t"), Some(5), None)]
                .into_iter()
                .enumerate()
        {
            assert_eq!(open("bad", &[GOOD, GOOD, GOOD, bad], true), [all[at]]);
        }
        assert_eq!(open("null", &[GOOD, GOOD, GOOD, (Some("t"), None, Some("EUR"))], true), [all[1]]);
    }

    #[test]
    fn one_file_that_does_not_tell_speaks_for_all_and_so_does_a_cast() {
        let folder = tempfile::tempdir().unwrap();
        let (good, schema) = file(folder.path(), "good", &[GOOD; 4], true);
        let (silent, _) = file(folder.path(), "silent", &[GOOD; 4], false);
        let missing = folder.path().join("missing").display().to_string();
        for other in [&silent, &missing] {
            assert_eq!(open_conditions(&[&good, other], &schema).len(), 3);
        }
        let of = |field: &Arc<arrow::datatypes::Field>| match field.name().as_str() {
            "amount" => Arc::new(field.as_ref().clone().with_data_type(DataType::Decimal128(10, 2))),
            _ => field.clone(),
        };
        let cast = Schema::new(schema.fields().iter().map(of).collect::<Vec<_>>());
        assert_eq!(open_conditions(&[&good], &cast), ["amount >= 0"]);
    }
}
