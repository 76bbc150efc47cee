//! A feed file to complete, from a sample.

use std::fmt::Write as _;

use manumit_model::Records;
use serde_json::Value;

/// A feed file with the shape of the sample's JSON objects and a SELECT to complete.
pub fn new_feed(name: &str, sample: &Records) -> String {
    let mut shape = Value::Null;
    for index in 0..sample.len().min(1000) {
        if let Ok(value) = serde_json::from_slice::<Value>(sample.get(index)) {
            merge(&mut shape, value);
        }
    }
    let mut out = String::from("---\nformat = \"jsonl\"\n");
    let _ = writeln!(out, "topics = [\"{name}\"]");
    out.push_str("time_zone = \"UTC\"               # of local times in the record\nlateness = \"10 minutes\"         # how far behind the newest row a row may come\n\n[raw]\n");
    let mut paths = Vec::new();
    if let Value::Object(fields) = &shape {
        for (key, value) in fields {
            let _ = writeln!(out, "{} = {}", toml_key(key), type_of(value));
            leaves(key, value, &mut paths);
        }
    }
    out.push_str("---\nSELECT\n");
    for (column, hint) in [
        ("tx_id", "id"),
        ("event_time", "time"),
        ("amount", "amount"),
        ("currency", "currency"),
        ("debtor_account", "debtor"),
        ("creditor_account", "creditor"),
    ] {
        let guess = paths.iter().find(|p| p.to_lowercase().contains(hint));
        let source = guess.cloned().unwrap_or_else(|| "NULL".into());
        let _ = writeln!(out, "  {source:<28} AS {column},   -- a guess from the name: check it");
    }
    out.push_str("  NULL                         AS memo\nFROM raw\n");
    let _ = writeln!(out, "-- fields of the record: {}", paths.join(", "));
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
                && text.contains('.')
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

fn leaves(path: &str, value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                leaves(&format!("{path}.{key}"), value, out);
            }
        }
        _ => out.push(path.to_string()),
    }
}
