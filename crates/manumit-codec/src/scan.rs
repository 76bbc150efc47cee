//! JSON documents: one array of records, possibly deep inside an object.

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use manumit_model::Records;

use crate::{Decoded, Decoder, Json, RecordFault};

/// Decodes JSON documents: an array of records, one record, or an object with the records at a path.
#[derive(Debug)]
pub struct JsonDocument {
    path: Vec<String>,
    inner: Json,
}

impl JsonDocument {
    /// `path`: dotted path to the array; empty when the document itself is the array or the record.
    pub fn new(path: &str, inner: Json) -> JsonDocument {
        JsonDocument { path: path.split('.').filter(|p| !p.is_empty()).map(String::from).collect(), inner }
    }

    /// Byte ranges of the records of a document; a document that has none at the path gives the reason.
    fn elements(&self, bytes: &[u8]) -> Result<Vec<(usize, usize)>, (&'static str, String)> {
        if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(bytes) {
            if std::str::from_utf8(bytes).is_err() {
                return Err(("not_utf8", crate::not_utf8("document", bytes)));
            }
            return Err(("not_json", format!("the document is not one JSON value: {error}")));
        }
        let mut at = skip_space(bytes, 0);
        for name in &self.path {
            let path = || self.path.join(".");
            at = match members(bytes, at, name).as_slice() {
                [one] => *one,
                [] => return Err(("wrong_shape", format!("the document has no `{}`", path()))),
                _ => return Err(("wrong_shape", format!("the document has `{name}` of `{}` twice", path()))),
            };
        }
        if bytes.get(at) != Some(&b'[') {
            return Ok(vec![(at, value_end(bytes, at))]);
        }
        let mut list = Vec::new();
        at = skip_space(bytes, at + 1);
        while at < bytes.len() && bytes[at] != b']' {
            let end = value_end(bytes, at);
            list.push((at, end));
            at = skip_space(bytes, end);
            if bytes.get(at) == Some(&b',') {
                at = skip_space(bytes, at + 1);
            }
        }
        Ok(list)
    }
}

impl Decoder for JsonDocument {
    fn schema(&self) -> &SchemaRef {
        self.inner.schema()
    }

    fn decode(&self, records: &Records) -> Result<Decoded, ArrowError> {
        let mut split = Records::new(records.source.clone(), records.partition, records.polled_at_micros);
        let mut whole_faults: Vec<RecordFault> = Vec::new();
        for index in 0..records.len() {
            let bytes = records.get(index);
            let offset = records.offsets.get(index).copied().unwrap_or_default();
            let oversized = records.oversized.iter().find(|(i, _)| *i == index);
            let elements = match crate::json::withheld(records, index) {
                Some(fault) => Err((fault.reason, fault.message)),
                None => self.elements(bytes),
            };
            match elements {
                Ok(elements) => {
                    for (number, (start, end)) in elements.into_iter().enumerate() {
                        // A file's records are numbered from 1; those of a message all stand at its offset.
                        split.push(if offset == 0 { number as i64 + 1 } else { offset }, &bytes[start..end]);
                        split.written_at_micros.extend(records.written_at_micros.get(index));
                    }
                }
                Err((reason, message)) => {
                    if let Some((_, length)) = oversized {
                        split.oversized.push((split.len(), *length));
                    }
                    if records.unreadable.contains(&index) {
                        split.unreadable.push(split.len());
                    }
                    split.push(offset, bytes);
                    split.written_at_micros.extend(records.written_at_micros.get(index));
                    let record = split.len() - 1;
                    whole_faults.push(RecordFault { record, reason, field: None, value: None, message });
                }
            }
        }
        let mut decoded = self.inner.decode(&split)?;
        // What was wrong with a document is said once, and not again as what is wrong with its text as a record.
        decoded.faults.retain(|fault| !whole_faults.iter().any(|whole| whole.record == fault.record));
        // Nor is a refused document a record, which as an object it may look like.
        (decoded.batch, decoded.rows) = crate::json::without(decoded.batch, decoded.rows, &whole_faults)?;
        decoded.faults.extend(whole_faults);
        decoded.faults.sort_by_key(|fault| fault.record);
        decoded.split = Some(split);
        Ok(decoded)
    }
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

/// End of the string that begins at `at`.
fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut next = at + 1;
    while next < bytes.len() {
        match bytes[next] {
            b'\\' => next += 2,
            b'"' => return next + 1,
            _ => next += 1,
        }
    }
    bytes.len()
}

/// End of the value that begins at `at`, in valid JSON.
fn value_end(bytes: &[u8], at: usize) -> usize {
    let mut depth = 0_usize;
    let mut next = at;
    while next < bytes.len() {
        match bytes[next] {
            b'"' => {
                next = string_end(bytes, next);
                if depth == 0 {
                    return next;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                if depth <= 1 {
                    return if depth == 1 { next + 1 } else { next };
                }
                depth -= 1;
            }
            b',' if depth == 0 => return next,
            _ => {}
        }
        next += 1;
    }
    bytes.len()
}

/// Where the values of the members of this name begin in the object at `at`.
fn members(bytes: &[u8], at: usize, name: &str) -> Vec<usize> {
    let mut found = Vec::new();
    if bytes.get(at) != Some(&b'{') {
        return found;
    }
    let mut next = skip_space(bytes, at + 1);
    while bytes.get(next) == Some(&b'"') {
        let end = string_end(bytes, next);
        // A name that is no text (a lone surrogate) is not the one looked for.
        let key = bytes.get(next..end).and_then(|key| serde_json::from_slice::<String>(key).ok());
        let colon = skip_space(bytes, end);
        let value = skip_space(bytes, colon + 1);
        if key.is_some_and(|key| key == name) {
            found.push(value);
        }
        next = skip_space(bytes, value_end(bytes, value));
        if bytes.get(next) == Some(&b',') {
            next = skip_space(bytes, next + 1);
        }
    }
    found
}
