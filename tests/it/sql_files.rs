//! The SQL that authors may write, as files of questions and answers (`tests/slt/*.slt`), run in the session that rules
//! are compiled in. The format is that of sqllogictest: <https://sqlite.org/sqllogictest>.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use manumit_sql::Sql;
use manumit_sql::reference::Table;
use sqllogictest::{DB, DBOutput, DefaultColumnType, Runner, strict_column_validator};

use crate::oracle::cell;

/// A session with some reference data, and a runtime to ask it on.
struct Session {
    sql: Sql,
    runtime: tokio::runtime::Runtime,
}

impl Session {
    fn new() -> Session {
        let sql = Sql::new();
        let list = "value,valid_from,valid_to,source\nClub Royal,,,test\nOld Inn,,2026-06-01,test\n";
        let groups = "group,mcc,description\nlodging,7011,Hotels\nlodging,3501,Hotels\n";
        let column = |name, values: &[&str]| (name, Arc::new(StringArray::from(values.to_vec())) as ArrayRef);
        let places = RecordBatch::try_from_iter([
            column("city", &["Berlin", "Hamburg"]),
            column("country", &["DE", "DE"]),
            column("latitude", &["52.52", "53.5511"]),
            column("longitude", &["13.405", "9.9937"]),
        ])
        .unwrap();
        let customers = RecordBatch::try_from_iter([
            column("customer", &["C1", "C1", "C2"]),
            column("segment", &["person", "business", "person"]),
            column("born_on", &["1990-05-17", "1990-05-17", ""]),
            column("valid_from", &["", "2026-06-01", ""]),
            column("valid_to", &["2026-06-01", "", ""]),
        ])
        .unwrap();
        sql.reference().update(|reference| {
            reference.add_list_csv("venues", list).unwrap();
            reference.add_mcc_groups_csv(groups).unwrap();
            reference.add_rows(Table::Places, &places).unwrap();
            reference.add_rows(Table::Customers, &customers).unwrap();
        });
        Session { sql, runtime: tokio::runtime::Builder::new_current_thread().build().unwrap() }
    }
}

impl DB for Session {
    type Error = manumit_sql::SqlError;
    type ColumnType = DefaultColumnType;

    fn run(&mut self, text: &str) -> Result<DBOutput<DefaultColumnType>, Self::Error> {
        let (schema, batches) = self.runtime.block_on(async {
            let frame = self.sql.session().sql(text).await?;
            let schema = frame.schema().as_arrow().clone();
            Ok::<_, Self::Error>((schema, frame.collect().await?))
        })?;
        if schema.fields().is_empty() {
            return Ok(DBOutput::StatementComplete(0));
        }
        let types = schema.fields().iter().map(|field| match field.data_type() {
            DataType::Utf8 => DefaultColumnType::Text,
            t if t.is_integer() => DefaultColumnType::Integer,
            t if t.is_floating() || matches!(t, DataType::Decimal128(..)) => DefaultColumnType::FloatingPoint,
            _ => DefaultColumnType::Any,
        });
        let mut rows = Vec::new();
        for batch in &batches {
            for row in 0..batch.num_rows() {
                rows.push(batch.columns().iter().map(|column| shown(cell(column.as_ref(), row))).collect());
            }
        }
        Ok(DBOutput::Rows { types: types.collect(), rows })
    }
}

/// As the format wants an empty text to be written.
fn shown(text: String) -> String {
    if text.is_empty() { "(empty)".into() } else { text }
}

#[test]
fn every_question_of_the_sql_files_has_the_answer_written_below_it() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/slt"));
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "slt"));
    files.sort();
    assert!(files.len() >= 5, "{files:?}");
    let mut failed = Vec::new();
    for file in files {
        let mut runner = Runner::new(|| async { Ok(Session::new()) });
        runner.with_column_validator(strict_column_validator);
        if let Err(error) = runner.run_file(&file) {
            failed.push(error.to_string());
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}
