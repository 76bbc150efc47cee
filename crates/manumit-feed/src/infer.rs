//! A feed file to complete, from a sample.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use arrow::datatypes::{DataType, Schema};
use datafusion::sql::sqlparser::ast::{Expr, SelectItem, SetExpr, Statement};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use manumit_codec::{csv_names, split_csv};
use manumit_model::Records;
use serde_json::Value;

use crate::guess::{Guess, Leaf, epoch, guess};

/// What a sample tells about a feed.
pub struct Sample {
    /// Lines of the front matter: the format and its options.
    front: String,
    /// Fields of a record, with a value of each; `Null` when the sample has none.
    shape: Value,
    /// Types of fields that the format itself tells.
    types: BTreeMap<String, &'static str>,
}

impl Sample {
    /// One JSON object a line.
    pub fn json_lines(sample: &Records) -> Sample {
        let mut shape = Value::Null;
        for index in 0..sample.len().min(1000) {
            if let Ok(value) = serde_json::from_slice::<Value>(sample.get(index)) {
                merge(&mut shape, value);
            }
        }
        Sample { front: "format = \"jsonl\"\n".into(), shape, types: BTreeMap::new() }
    }

    /// A JSON document: an array of records, an object that holds one, or one record.
    ///
    /// # Errors
    /// The place at which the text is no JSON.
    pub fn json(text: &str) -> Result<Sample, serde_json::Error> {
        let document: Value = serde_json::from_str(text)?;
        let mut front = String::from("format = \"json\"\n");
        let path = list_in(&document, "");
        let records = match &path {
            Some(path) if !path.is_empty() => {
                let _ = writeln!(front, "records = \"{path}\"");
                document.pointer(&format!("/{}", path.replace('.', "/"))).cloned().unwrap_or_default()
            }
            _ => document,
        };
        let mut shape = Value::Null;
        match records {
            Value::Array(items) => items.into_iter().take(1000).for_each(|item| merge(&mut shape, item)),
            record => merge(&mut shape, record),
        }
        Ok(Sample { front, shape, types: BTreeMap::new() })
    }

    /// CSV with a header line; the delimiter is the one that splits it most.
    pub fn csv(text: &str) -> Sample {
        let mut lines = text.trim_start_matches('\u{feff}').lines().filter(|line| !line.trim().is_empty());
        let header = lines.next().unwrap_or_default();
        let parts = |delimiter: u8| split_csv(header, delimiter).map_or(0, |cells| cells.len());
        let delimiter = [b',', b';', b'\t', b'|'].into_iter().rev().max_by_key(|d| parts(*d)).unwrap_or(b',');
        let mut front = String::from("format = \"csv\"\n");
        if delimiter != b',' {
            let _ = writeln!(front, "delimiter = {:?}", char::from(delimiter).to_string());
        }
        let names = csv_names(header, delimiter).unwrap_or_default();
        let mut fields: serde_json::Map<String, Value> =
            names.iter().map(|name| (name.trim().to_string(), Value::Null)).collect();
        for line in lines.take(1000) {
            let cells = split_csv(line, delimiter).unwrap_or_default();
            for (name, cell) in names.iter().zip(cells) {
                if !cell.is_empty()
                    && let Some(known @ Value::Null) = fields.get_mut(name.trim())
                {
                    *known = cell.into();
                }
            }
        }
        Sample { front, shape: Value::Object(fields), types: BTreeMap::new() }
    }

    /// Parquet, whose files tell their columns and types.
    pub fn parquet(schema: &Schema) -> Sample {
        let fields = schema.fields().iter();
        let shape = fields.clone().map(|field| (field.name().clone(), Value::Null)).collect();
        let types = fields.map(|field| {
            let told = match field.data_type() {
                other if other.is_integer() => "\"integer\"",
                DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) => "\"decimal\"",
                // Read as a decimal of what is nearest: 0.1 is 0.1 again.
                other if other.is_floating() => {
                    "\"decimal\"              # a float in the file; \"number\" if it is no amount"
                }
                DataType::Timestamp(..) => "\"timestamp\"",
                DataType::Date32 | DataType::Date64 => "\"date\"",
                DataType::Boolean => "\"boolean\"",
                _ => "\"text\"",
            };
            (field.name().clone(), told)
        });
        Sample { front: "format = \"parquet\"\n".into(), shape: Value::Object(shape), types: types.collect() }
    }
}

/// Path to the first list of objects within objects; empty when the document itself is one.
fn list_in(value: &Value, path: &str) -> Option<String> {
    match value {
        Value::Array(items) => items.first().is_some_and(Value::is_object).then(|| path.to_string()),
        Value::Object(fields) => fields.iter().find_map(|(key, inner)| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            list_in(inner, &path)
        }),
        _ => None,
    }
}

/// A feed file with the shape of the sample's records and a SELECT to complete.
pub fn new_feed(name: &str, sample: &Sample) -> String {
    let shape = &sample.shape;
    let mut fields = Vec::new();
    leaves(&mut Vec::new(), shape, &mut fields);
    let guesses: Vec<(&str, Option<Guess>)> = [
        "tx_id",
        "event_time",
        "amount",
        "currency",
        "debtor_account",
        "debtor_name",
        "creditor_account",
        "creditor_name",
        "memo",
    ]
    .map(|column| (column, guess(column, &fields)))
    .into();
    let time =
        guesses.iter().find(|(column, _)| *column == "event_time").and_then(|(_, guess)| guess.as_ref());
    let is_time = |key: &String| time.is_some_and(|time| time.field.len() == 1 && time.field[0] == *key);
    let mut out = format!("---\n{}", sample.front);
    let _ = writeln!(out, "topics = [\"{name}\"]");
    out.push_str(
        "time_zone = \"UTC\"               # CHECK: not told by the sample. The zone of local times in the record, such as \
         \"Europe/Berlin\"\nlateness = \"10 minutes\"         # how far behind the newest row a row may come\n\n[raw]\n",
    );
    if let Value::Object(fields) = shape {
        for (key, value) in fields {
            let told = sample.types.get(key).map_or_else(|| type_of(value), ToString::to_string);
            let told = epoch(value).filter(|_| is_time(key)).map_or(told, ToString::to_string);
            let _ = writeln!(out, "{} = {told}", toml_key(key));
        }
    }
    out.push_str("---\nSELECT\n");
    for (column, guess) in &guesses {
        let (source, remark) = match guess {
            Some(guess) => (guess.sql.as_str(), guess.remark),
            // Many labelled sets have no id; the number of a record in its file is one.
            None if *column == "tx_id" => {
                ("record_number", "no id was found: the number of the record in its file")
            }
            None if column.ends_with("_name") => continue,
            None => ("NULL", "no field of such a name was found"),
        };
        let comma = if *column == "memo" { "" } else { "," };
        let _ = writeln!(out, "  {source:<28} AS {column}{comma}   -- {remark}");
    }
    out.push_str("FROM raw\n");
    let names: Vec<&str> = fields.iter().map(|field| field.sql.as_str()).collect();
    let _ = writeln!(out, "-- fields of the record: {}", names.join(", "));
    out
}

/// Joins the shapes of two values: fields of either, and the first value known of each.
fn merge(shape: &mut Value, value: Value) {
    match (shape, value) {
        (Value::Object(known), Value::Object(new)) => {
            for (key, value) in new {
                merge(known.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(known), Value::Array(new)) => {
            for value in new {
                match known.first_mut() {
                    Some(first) => merge(first, value),
                    None => known.push(value),
                }
            }
        }
        (shape @ Value::Null, value) => *shape = value,
        _ => {}
    }
}

fn toml_key(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { key.into() } else { format!("{key:?}") }
}

fn type_of(value: &Value) -> String {
    match value {
        Value::Null => "\"text\"".into(),
        Value::Bool(_) => "\"boolean\"".into(),
        Value::Number(number) if number.is_f64() => "\"decimal\"".into(),
        Value::Number(_) => "\"decimal\"              # \"integer\" if it is no amount".into(),
        Value::String(text) => {
            let bytes = text.as_bytes();
            let date = bytes.len() >= 10
                && bytes[4] == b'-'
                && bytes[7] == b'-'
                && bytes[..4].iter().all(u8::is_ascii_digit);
            let plain = !text.is_empty()
                && text.bytes().filter(|b| *b == b'.').count() == 1
                && text.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'-');
            match (date, plain) {
                (true, _) if bytes.len() > 10 => "\"timestamp\"".into(),
                (true, _) => "\"date\"".into(),
                (_, true) => "\"decimal\"".into(),
                _ => "\"text\"".into(),
            }
        }
        Value::Array(items) => format!("[{}]", items.first().map_or("\"text\"".into(), bare_type)),
        Value::Object(_) => bare_type(value),
    }
}

/// The type on one line, without remarks.
fn bare_type(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let inner: Vec<String> =
                fields.iter().map(|(k, v)| format!("{} = {}", toml_key(k), bare_type(v))).collect();
            format!("{{ {} }}", inner.join(", "))
        }
        other => type_of(other).split('#').next().unwrap_or("").trim().to_string(),
    }
}

fn leaves(path: &mut Vec<String>, value: &Value, out: &mut Vec<Leaf>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                path.push(key.clone());
                leaves(path, value, out);
                path.pop();
            }
        }
        _ if path.is_empty() => {}
        value => out.push(Leaf { sql: sql_path(path), path: path.clone(), value: value.clone() }),
    }
}

/// A path as SQL reads it: between quotes where a name has spaces or is a word of SQL.
fn sql_path(path: &[String]) -> String {
    let plain = path.join(".");
    let statements = Parser::parse_sql(&GenericDialect {}, &format!("SELECT {plain} AS x FROM raw"));
    let item = match statements.as_deref() {
        Ok([Statement::Query(query)]) => match query.body.as_ref() {
            SetExpr::Select(select) => select.projection.first().cloned(),
            _ => None,
        },
        _ => None,
    };
    match item {
        Some(SelectItem::ExprWithAlias {
            expr: Expr::Identifier(_) | Expr::CompoundIdentifier(_), ..
        }) => plain,
        _ => {
            path.iter().map(|name| format!("\"{}\"", name.replace('"', "\"\""))).collect::<Vec<_>>().join(".")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_csv_sample_tells_delimiter_names_and_types() {
        let feed =
            new_feed("day", &Sample::csv("\u{feff}Ref;Booking Date;Amount;From\n1;2026-03-01;10.50;A\n"));
        assert!(feed.starts_with("---\nformat = \"csv\"\ndelimiter = \";\"\n"), "{feed}");
        for line in ["Ref = \"text\"", "\"Booking Date\" = \"date\"", "Amount = \"decimal\""] {
            assert!(feed.contains(line), "{line}: {feed}");
        }
        assert!(feed.contains("\"Booking Date\"               AS event_time"), "{feed}");
        assert!(feed.contains("\"From\"                       AS debtor_account"), "{feed}");
    }

    #[test]
    fn records_without_an_id_are_numbered_and_columns_of_one_name_told_apart() {
        let feed = new_feed(
            "set",
            &Sample::csv("Date,Account,Account,Amount Paid,Total\n2026-03-01,A,B,1.00,2.00\n"),
        );
        for line in [
            "Account_2 = \"text\"",
            "  record_number                AS tx_id,   -- no id was found",
            "  \"Amount Paid\"                AS amount,",
            "  NULL                         AS creditor_account,",
        ] {
            assert!(feed.contains(line), "{line}: {feed}");
        }
    }

    #[test]
    fn parquet_tells_the_types() {
        use arrow::datatypes::Field;
        let schema = Schema::new(vec![
            Field::new("tx_id", DataType::Int32, false),
            Field::new("amount", DataType::Float64, true),
            Field::new("src", DataType::Utf8, true),
        ]);
        let feed = new_feed("set", &Sample::parquet(&schema));
        for line in
            ["format = \"parquet\"\n", "tx_id = \"integer\"\n", "amount = \"decimal\"  ", "src = \"text\"\n"]
        {
            assert!(feed.contains(line), "{line}: {feed}");
        }
    }

    #[test]
    fn a_document_tells_where_its_records_are() {
        let text = r#"{"Data":{"n":1,"Transaction":[{"TransactionId":"a","Amount":{"Amount":"1.00"}}]}}"#;
        let feed = new_feed("bank", &Sample::json(text).unwrap());
        assert!(feed.contains("records = \"Data.Transaction\""), "{feed}");
        assert!(feed.contains("Amount.Amount                AS amount"), "{feed}");
    }
}
