//! Files that a query names for itself: `--table labels=tx_labels.parquet`.
//!
//! For what stands beside transactions and is no reference table: labels of a set of other origin, a list of an authority.
//! Nothing is guessed: columns of CSV and JSON lines are texts, to be cast in the query; those of Parquet have their types.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde_json::Value;

/// Rows that a reader decodes at once.
const ROWS_A_BATCH: usize = 8192;

/// A file under the name that a query has for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileTable {
    /// The table's name.
    pub name: String,
    /// `.csv` with a header, `.jsonl` or `.parquet`.
    pub path: PathBuf,
}

impl FromStr for FileTable {
    type Err = String;

    fn from_str(text: &str) -> Result<FileTable, String> {
        let word =
            |name: &str| name.starts_with(|c: char| c.is_ascii_lowercase()) && name.bytes().all(is_of_name);
        match text.split_once('=') {
            Some((name, path)) if word(name) && !path.is_empty() => {
                Ok(FileTable { name: name.to_string(), path: path.into() })
            }
            _ => Err("write it as NAME=FILE, the name in small letters, as in labels=labels.csv".into()),
        }
    }
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'
}

/// All rows of a file.
///
/// # Errors
/// When it cannot be read, with the row where that is known, or is of no format that is.
pub fn read(path: &Path) -> anyhow::Result<(SchemaRef, Vec<RecordBatch>)> {
    let kind = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    let batches = match kind.as_str() {
        "csv" => csv(path)?,
        "jsonl" | "ndjson" => json_lines(path)?,
        "parquet" => {
            let batches: Vec<RecordBatch> =
                manumit_codec::parquet_batches(path, ROWS_A_BATCH)?.collect::<Result<_, _>>()?;
            let Some(first) = batches.first() else { bail!("it has no rows, so its columns are not known") };
            (first.schema(), batches)
        }
        other => bail!("`.{other}` is no format of tables; use .csv, .jsonl or .parquet"),
    };
    Ok(batches)
}

fn texts(names: impl IntoIterator<Item = String>) -> SchemaRef {
    let fields: Vec<Field> = names.into_iter().map(|name| Field::new(name, DataType::Utf8, true)).collect();
    Arc::new(Schema::new(fields))
}

fn csv(path: &Path) -> anyhow::Result<(SchemaRef, Vec<RecordBatch>)> {
    let mut header = String::new();
    BufReader::new(File::open(path)?).read_line(&mut header)?;
    let header = header.trim_end();
    let names = |delimiter: u8| manumit_codec::csv_names(header, delimiter).unwrap_or_default();
    let delimiter =
        [b',', b';', b'\t', b'|'].into_iter().rev().max_by_key(|d| names(*d).len()).unwrap_or(b',');
    let schema = texts(names(delimiter));
    let reader = arrow::csv::ReaderBuilder::new(schema.clone())
        .with_header(true)
        .with_delimiter(delimiter)
        .with_batch_size(ROWS_A_BATCH)
        .build(BufReader::new(File::open(path)?))?;
    Ok((schema, reader.collect::<Result<_, _>>()?))
}

fn json_lines(path: &Path) -> anyhow::Result<(SchemaRef, Vec<RecordBatch>)> {
    let mut names = BTreeSet::new();
    for (number, line) in BufReader::new(File::open(path)?).lines().enumerate() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let at = || format!("line {}", number + 1);
        match serde_json::from_str(&line).with_context(at)? {
            Value::Object(object) => names.extend(object.into_iter().map(|(name, _)| name)),
            _ => bail!("line {}: each line is one JSON object", number + 1),
        }
    }
    let schema = texts(names);
    let reader = arrow::json::ReaderBuilder::new(schema.clone())
        .with_coerce_primitive(true)
        .with_batch_size(ROWS_A_BATCH)
        .build(BufReader::new(File::open(path)?))?;
    Ok((schema, reader.collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use arrow::util::pretty::pretty_format_batches;

    use super::*;

    #[test]
    fn columns_of_texts_are_texts_and_those_of_one_name_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("set.csv");
        std::fs::write(&path, "Bank;Account;Account;Amount\n1;A;B;0.10\n2;;\"C;D\";00.2\n").unwrap();
        let (schema, rows) = read(&path).unwrap();
        assert_eq!(schema.field(2).name(), "Account_2");
        let shown = pretty_format_batches(&rows).unwrap().to_string();
        assert!(shown.contains("| 2    |         | C;D       | 00.2   |"), "{shown}");
        let path = folder.path().join("set.jsonl");
        std::fs::write(&path, "{\"b\":0.10,\"a\":\"x\"}\n\n{\"a\":7}\n").unwrap();
        let shown = pretty_format_batches(&read(&path).unwrap().1).unwrap().to_string();
        assert!(shown.contains("| x | 0.10 |") && shown.contains("| 7 |      |"), "{shown}");
    }

    #[test]
    fn a_table_has_a_name_and_a_file() {
        let table: FileTable = "tx_labels=a=b.csv".parse().unwrap();
        assert_eq!((table.name.as_str(), table.path.as_path()), ("tx_labels", Path::new("a=b.csv")));
        for wrong in ["labels.csv", "=x", "La=x", "a=", "1a=x"] {
            assert!(wrong.parse::<FileTable>().unwrap_err().contains("NAME=FILE"), "{wrong}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.xlsx");
        std::fs::write(&path, "").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains(".parquet"));
    }
}
