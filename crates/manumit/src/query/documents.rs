//! Alerts and hits, written as JSON lines, as tables: the columns come from the published JSON Schema.
//!
//! An object with known fields is a struct, one with free keys a map of text to text. So a table has the same columns
//! however many documents there are, and whatever stands in them.

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use serde_json::Value;

/// A line that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {why}; mend or delete the line, or go on without it with --skip-bad-files")]
pub struct BadLine {
    /// The file.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub why: String,
}

/// The Arrow schema of documents under a JSON Schema (draft 2020-12, as `schemars` writes it).
pub fn arrow_schema(json_schema: &Value) -> SchemaRef {
    Arc::new(Schema::new(fields(json_schema, json_schema)))
}

fn fields(root: &Value, schema: &Value) -> Fields {
    let properties = schema["properties"].as_object().into_iter().flatten();
    properties.map(|(name, schema)| Field::new(name, data_type(root, schema), true)).collect()
}

fn data_type(root: &Value, schema: &Value) -> DataType {
    if let Some(target) = schema["$ref"].as_str().and_then(|r| r.strip_prefix('#')) {
        return root.pointer(target).map_or(DataType::Utf8, |schema| data_type(root, schema));
    }
    // An optional value is «this or null».
    for choice in ["anyOf", "oneOf", "allOf"] {
        let mut choices = schema[choice].as_array().into_iter().flatten();
        if let Some(schema) = choices.rfind(|s| s["type"] != "null") {
            return data_type(root, schema);
        }
    }
    let name = match &schema["type"] {
        Value::Array(names) => names.iter().filter_map(Value::as_str).find(|name| *name != "null"),
        name => name.as_str(),
    };
    match name {
        Some("object") if schema["properties"].is_object() => DataType::Struct(fields(root, schema)),
        Some("object") => {
            let entry =
                vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)];
            DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry.into()), false)), false)
        }
        Some("array") => {
            DataType::List(Arc::new(Field::new("item", data_type(root, &schema["items"]), true)))
        }
        Some("integer") => DataType::Int64,
        Some("number") => DataType::Float64,
        Some("boolean") => DataType::Boolean,
        _ => DataType::Utf8,
    }
}

/// The value as its column takes it: what has no type of its own becomes text.
fn fit(value: Value, data_type: &DataType) -> Value {
    match (value, data_type) {
        (Value::Object(object), DataType::Struct(fields)) => {
            let known = object.into_iter().filter_map(|(name, value)| {
                let (_, field) = fields.find(&name)?;
                let value = fit(value, field.data_type());
                Some((name, value))
            });
            Value::Object(known.collect())
        }
        (Value::Object(object), DataType::Map(..)) => Value::Object(
            object.into_iter().map(|(name, value)| (name, fit(value, &DataType::Utf8))).collect(),
        ),
        (Value::Array(items), DataType::List(item)) => {
            Value::Array(items.into_iter().map(|value| fit(value, item.data_type())).collect())
        }
        (value @ (Value::Null | Value::String(_)), DataType::Utf8) => value,
        (value, DataType::Utf8) => Value::String(value.to_string()),
        (value, _) => value,
    }
}

/// Reads a file of JSON lines, and the lines that cannot be used.
///
/// # Errors
/// When the file cannot be read, or a batch cannot be built: a bug.
pub fn read(path: &Path, schema: &SchemaRef) -> anyhow::Result<(Vec<RecordBatch>, Vec<BadLine>)> {
    const ROWS: usize = 8_192;
    let text = std::fs::read(path)?;
    let (mut batches, mut bad) = (Vec::new(), Vec::new());
    let root = DataType::Struct(schema.fields().clone());
    let decoder =
        || arrow::json::ReaderBuilder::new(schema.clone()).with_batch_size(ROWS + 1).build_decoder();
    let one = |value: &Value| -> Result<Option<RecordBatch>, arrow::error::ArrowError> {
        let mut decoder = decoder()?;
        decoder.serialize(std::slice::from_ref(value))?;
        decoder.flush()
    };
    let mut rows: Vec<(usize, Value)> = Vec::new();
    let mut take = |rows: &mut Vec<(usize, Value)>, bad: &mut Vec<BadLine>| -> anyhow::Result<()> {
        let values: Vec<&Value> = rows.iter().map(|(_, value)| value).collect();
        let mut all = decoder()?;
        if all.serialize(&values).is_ok()
            && let Ok(batch) = all.flush()
        {
            batches.extend(batch);
        } else {
            for (line, value) in rows.iter() {
                match one(value) {
                    Ok(batch) => batches.extend(batch),
                    Err(error) => {
                        bad.push(BadLine {
                            file: path.display().to_string(),
                            line: *line,
                            why: error.to_string(),
                        });
                    }
                }
            }
        }
        rows.clear();
        Ok(())
    };
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let fault = |why: String| BadLine { file: path.display().to_string(), line: index + 1, why };
        match serde_json::from_slice::<Value>(line) {
            Ok(value @ Value::Object(_)) => rows.push((index + 1, fit(value, &root))),
            Ok(_) => bad.push(fault("the line is no JSON object".into())),
            Err(error) => bad.push(fault(format!("the line is no JSON: {error}"))),
        }
        if rows.len() == ROWS {
            take(&mut rows, &mut bad)?;
        }
    }
    take(&mut rows, &mut bad)?;
    bad.sort_by_key(|bad| bad.line);
    Ok((batches, bad))
}

#[cfg(test)]
mod tests {
    use manumit_model::{alert, hit::Hit};

    use super::*;

    #[test]
    fn columns_are_those_of_the_published_schema() {
        let schema = arrow_schema(&alert::json_schema());
        assert_eq!(schema.field_with_name("score").unwrap().data_type(), &DataType::Int64);
        assert_eq!(schema.field_with_name("urgent").unwrap().data_type(), &DataType::Boolean);
        let DataType::Struct(subject) = schema.field_with_name("subject").unwrap().data_type() else {
            panic!()
        };
        assert_eq!(subject.find("key").unwrap().1.data_type(), &DataType::Utf8);
        let DataType::List(transaction) = schema.field_with_name("transactions").unwrap().data_type() else {
            panic!()
        };
        let DataType::Struct(transaction) = transaction.data_type() else { panic!() };
        assert!(matches!(transaction.find("fields").unwrap().1.data_type(), DataType::Map(..)));
        assert_eq!(transaction.find("amount_base").unwrap().1.data_type(), &DataType::Utf8);
        let DataType::List(party) = schema.field_with_name("parties").unwrap().data_type() else { panic!() };
        let DataType::Struct(party) = party.data_type() else { panic!() };
        assert_eq!(party.find("role_hypothesis").unwrap().1.data_type(), &DataType::Utf8);
    }

    #[test]
    fn a_bad_line_is_named_and_its_neighbours_stay() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hits.jsonl");
        let hit = |n: i64| {
            let values = serde_json::json!({ "inflow": "12.50", "senders": n });
            let values = values.as_object().unwrap().clone();
            serde_json::to_string(&Hit {
                indicator: "i".into(),
                version: 1,
                event_time: "2026-01-01T00:00:00Z".into(),
                tx_id: None,
                direction: None,
                subject: format!("A{n}"),
                about: None,
                values,
            })
            .unwrap()
        };
        let wrong = hit(3).replace("\"version\":1", "\"version\":\"one\"");
        std::fs::write(&file, [hit(1), "{".into(), wrong, "[1]".into(), String::new(), hit(2)].join("\n"))
            .unwrap();
        let schema = arrow_schema(&schemars::schema_for!(Hit).to_value());
        let (batches, bad) = read(&file, &schema).unwrap();
        assert_eq!(bad.iter().map(|b| b.line).collect::<Vec<_>>(), [2, 3, 4], "{bad:?}");
        assert!(bad[0].to_string().starts_with(&format!("{}:2: ", file.display())));
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
        let shown = arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string();
        assert!(shown.contains("{inflow: 12.50, senders: 2}"), "{shown}");
    }
}
