//! What stands where: columns of a file, names of files and folders.
//!
//! ```text
//!  archive/
//!  ├── _manifest.json                     which files count, and how far each source is archived
//!  ├── _manifest.json.previous            the state before
//!  ├── _lock                              held by the one writer
//!  └── event_date=2026-03-31/
//!      ├── 00000012-5f0c1a9e.parquet
//!      └── .00000013-5f0c1a9e.parquet.tmp being written
//! ```

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use arrow::array::{Array as _, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use manumit_model::schema::TRANSACTIONS;

use crate::day::Day;

/// The column that flags rows that came behind their partition's watermark.
pub const LATE: &str = "late";

/// Columns by whose values rows are looked for: each row group has a bloom filter of them. The keys of all subjects of
/// rules, and the ids that investigators are given.
pub const KEY_COLUMNS: [&str; 24] = [
    "tx_id",
    "original_tx_id",
    "debtor_account",
    "debtor_customer",
    "debtor_group",
    "debtor_alias",
    "creditor_account",
    "creditor_customer",
    "creditor_group",
    "creditor_alias",
    "ultimate_debtor",
    "ultimate_creditor",
    "cash_depositor",
    "merchant_id",
    "terminal_id",
    "branch_id",
    "city",
    "device_id",
    "ip",
    "session_id",
    "card_id",
    "batch_id",
    "wallet_address",
    "chain_cluster",
];

/// Version of layout, manifest and file metadata; raised when an older program could misread them.
pub(crate) const FORMAT: &str = "manumit.archive/1";

/// The file that a writer locks.
pub(crate) const LOCK: &str = "_lock";

const FOLDER: &str = "event_date=";

/// Arrow schema of a file: all columns of `transactions`, each of which may be NULL, then [`LATE`].
pub fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let mut fields: Vec<Field> =
            TRANSACTIONS.iter().map(|c| Field::new(c.name, c.kind.data_type(), true)).collect();
        fields.push(Field::new(LATE, DataType::Boolean, false));
        Arc::new(Schema::new(fields))
    });
    SCHEMA.clone()
}

/// The archive's columns: what a feed does not send is NULL, what is no canonical column is left out.
pub(crate) fn widened(rows: &RecordBatch, late: Option<BooleanArray>) -> Result<RecordBatch, ArrowError> {
    let columns = schema()
        .fields()
        .iter()
        .map(|field| -> ArrayRef {
            match rows.column_by_name(field.name()) {
                _ if field.name() == LATE => match &late {
                    Some(late) => Arc::new(late.clone()),
                    None => Arc::new(BooleanArray::from(vec![false; rows.num_rows()])),
                },
                Some(array) if array.data_type() == field.data_type() => array.clone(),
                _ => new_null_array(field.data_type(), rows.num_rows()),
            }
        })
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(schema(), columns, &options)
}

/// The name that a writer gives a file: its number, and the id of the archive, so that a file of another archive is
/// never taken for one of this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name<'a> {
    /// Its event date.
    pub day: Day,
    /// Its number in the archive.
    pub number: u64,
    /// Of the archive.
    pub id: &'a str,
}

impl Name<'_> {
    /// Path below the archive, with `/`.
    pub(crate) fn path(&self) -> String {
        format!("{FOLDER}{}/{:08}-{}.parquet", self.day, self.number, self.id)
    }

    /// Reads such a path; `None` for any other.
    pub(crate) fn parse(path: &str) -> Option<Name<'_>> {
        let (folder, name) = path.split_once('/')?;
        let day = Day::parse(folder.strip_prefix(FOLDER)?)?;
        let (number, id) = name.strip_suffix(".parquet")?.split_once('-')?;
        let hexadecimal = id.len() == 8 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let name = Name { day, number: number.parse().ok().filter(|_| hexadecimal)?, id };
        (name.path() == path).then_some(name)
    }
}

/// Where a file is written before it has its name.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    path.with_file_name(format!(".{name}.tmp"))
}

/// The path that a file being written will have; `None` for any other.
pub(crate) fn without_temporary(path: &str) -> Option<String> {
    let (folder, name) = path.split_once('/')?;
    Some(format!("{folder}/{}", name.strip_prefix('.')?.strip_suffix(".tmp")?))
}

/// Paths below the archive of all files in `event_date=` folders, and of Parquet files anywhere else, in order.
pub(crate) fn walk(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut all = Vec::new();
    walk_below(folder, "", &mut all)?;
    all.sort();
    Ok(all)
}

fn walk_below(folder: &Path, prefix: &str, all: &mut Vec<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            walk_below(&entry.path(), &format!("{path}/"), all)?;
        } else if path.starts_with(FOLDER) || path.ends_with(".parquet") {
            all.push(path);
        }
    }
    Ok(())
}

/// The folder holds data of an archive.
pub(crate) fn has_dates(folder: &Path) -> bool {
    std::fs::read_dir(folder)
        .is_ok_and(|entries| entries.flatten().any(|e| e.file_name().to_string_lossy().starts_with(FOLDER)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_ours_only_when_we_would_have_written_it_so() {
        let name = Name { day: Day::parse("2026-03-31").unwrap(), number: 12, id: "5f0c1a9e" };
        assert_eq!(name.path(), "event_date=2026-03-31/00000012-5f0c1a9e.parquet");
        assert_eq!(Name::parse(&name.path()), Some(name));
        for path in [
            "event_date=2026-03-31/12-5f0c1a9e.parquet",
            "event_date=2026-03-31/00000012.parquet",
            "event_date=2026-03-31/00000012-5F0C1A9E.parquet",
            "event_date=2026-03-31/x.parquet",
            "event_date=2026-03-31/00000012-5f0c1a9e.csv",
            "event_date=2026-3-31/00000012-5f0c1a9e.parquet",
            "event_date=2026-03-31/../00000012-5f0c1a9e.parquet",
            "../00000012-5f0c1a9e.parquet",
            "00000012-5f0c1a9e.parquet",
        ] {
            assert_eq!(Name::parse(path), None, "{path}");
        }
        let written = temporary(Path::new("event_date=2026-03-31/00000012-5f0c1a9e.parquet"));
        assert_eq!(written, Path::new("event_date=2026-03-31/.00000012-5f0c1a9e.parquet.tmp"));
        assert_eq!(without_temporary(written.to_str().unwrap()), Some(name.path()));
        assert_eq!(without_temporary(&name.path()), None);
    }

    #[test]
    fn every_key_is_a_canonical_text_column() {
        for key in KEY_COLUMNS {
            let column = manumit_model::schema::column(key).unwrap_or_else(|| panic!("{key}"));
            assert_eq!(column.kind.data_type(), DataType::Utf8, "{key}");
        }
    }
}
