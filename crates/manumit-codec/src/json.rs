//! JSON: one object a record.
//!
//! All scalars are read as text by Arrow's tape decoder, so that numbers keep every digit, and typed afterwards.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use manumit_model::Records;
use serde_json::Value;

use crate::shape::{RawField, RawType, raw_schema};
use crate::strict::{self, Unsound};
use crate::typed::{TimeZone, Typing};
use crate::{Decoded, Decoder, RecordFault};

/// Decodes JSON objects, one a record.
#[derive(Debug)]
pub struct Json {
    fields: Vec<RawField>,
    zone: Option<TimeZone>,
    text_schema: SchemaRef,
    schema: SchemaRef,
}

impl Json {
    /// A decoder for records of this shape; `zone` is that of local times.
    pub fn new(fields: Vec<RawField>, zone: Option<TimeZone>) -> Json {
        let text: Vec<Field> =
            fields.iter().map(|f| Field::new(&f.name, f.data_type.text_type(), true)).collect();
        Json { schema: raw_schema(&fields), text_schema: Arc::new(Schema::new(text)), fields, zone }
    }

    fn fault(&self, records: &Records, index: usize) -> RecordFault {
        let bytes = records.get(index);
        let fault = |reason, field: Option<String>, value: Option<String>, message: String| RecordFault {
            record: index,
            reason,
            field,
            value,
            message,
        };
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(_) => return fault("not_utf8", None, None, crate::not_utf8("record", bytes)),
        };
        if strict::object(bytes) == Err(Unsound::Depth) {
            let message = format!(
                "the record is nested deeper than {} levels; it is damaged, or its feed must send less",
                strict::MAX_DEPTH
            );
            return fault("too_deep", None, None, message);
        }
        match serde_json::from_str::<Value>(text) {
            Err(error) => {
                let message = format!("the record is not one JSON value: {error}");
                fault("not_json", None, None, message)
            }
            Ok(Value::Object(object)) => match misshapen(&self.fields, &object, "") {
                Some((path, wanted, found)) => {
                    let message = format!("`{path}` must be {wanted}");
                    fault("wrong_shape", Some(path), Some(found), message)
                }
                None => fault("not_json", None, None, "the record is JSON that cannot be read".into()),
            },
            Ok(other) => {
                let found: String = other.to_string().chars().take(200).collect();
                fault("wrong_shape", None, Some(found), "the record must be a JSON object".into())
            }
        }
    }

    /// Text rows of the records in `range` that are not in `bad`; those that turn out bad are added to it.
    fn decode_range(
        &self,
        records: &Records,
        range: Range<usize>,
        good: &mut Vec<usize>,
        bad: &mut Vec<usize>,
        out: &mut Vec<RecordBatch>,
    ) -> Result<(), ArrowError> {
        let mut start = range.start;
        while start < range.end {
            let (mut decoder, mut rows) = (self.decoder(range.end - start)?, Vec::new());
            let mut broken = None;
            for index in start..range.end {
                let bytes = records.get(index);
                // Each record is one whole value: a decoder left in the middle would swallow the next one.
                let whole = strict::object(bytes).is_ok()
                    && decoder.decode(bytes).is_ok_and(|used| used == bytes.len())
                    && !decoder.has_partial_record()
                    && decoder.len() == rows.len() + 1;
                if !whole {
                    broken = Some(index);
                    break;
                }
                rows.push(index);
            }
            match broken {
                None => {
                    self.finish(records, decoder, rows, good, bad, out)?;
                    return Ok(());
                }
                Some(index) => {
                    if !rows.is_empty() {
                        let mut decoder = self.decoder(rows.len())?;
                        for &row in &rows {
                            decoder.decode(records.get(row))?;
                        }
                        self.finish(records, decoder, rows, good, bad, out)?;
                    }
                    bad.push(index);
                    start = index + 1;
                }
            }
        }
        Ok(())
    }

    /// Builds the rows; when that fails (a text where an object must be), halves the records until the bad ones are
    /// found.
    fn finish(
        &self,
        records: &Records,
        mut decoder: arrow::json::reader::Decoder,
        rows: Vec<usize>,
        good: &mut Vec<usize>,
        bad: &mut Vec<usize>,
        out: &mut Vec<RecordBatch>,
    ) -> Result<(), ArrowError> {
        match decoder.flush() {
            Ok(Some(batch)) => {
                good.extend(rows);
                out.push(batch);
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(_) if rows.len() == 1 => {
                bad.extend(rows);
                Ok(())
            }
            Err(_) => {
                let (left, right) = rows.split_at(rows.len() / 2);
                for half in [left, right] {
                    let mut decoder = self.decoder(half.len())?;
                    for &row in half {
                        decoder.decode(records.get(row))?;
                    }
                    self.finish(records, decoder, half.to_vec(), good, bad, out)?;
                }
                Ok(())
            }
        }
    }

    fn decoder(&self, rows: usize) -> Result<arrow::json::reader::Decoder, ArrowError> {
        ReaderBuilder::new(self.text_schema.clone())
            .with_batch_size(rows.max(1))
            .with_coerce_primitive(true)
            .build_decoder()
    }
}

impl Decoder for Json {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn decode(&self, records: &Records) -> Result<Decoded, ArrowError> {
        let (mut good, mut bad, mut parts) = (Vec::new(), Vec::new(), Vec::new());
        let mut kept_back: Vec<usize> = records.oversized.iter().map(|(index, _)| *index).collect();
        kept_back.extend(&records.unreadable);
        let utf8 = std::str::from_utf8(&records.data).is_ok();
        let mut start = 0;
        for index in 0..records.len() {
            let broken =
                kept_back.contains(&index) || (!utf8 && std::str::from_utf8(records.get(index)).is_err());
            if broken {
                self.decode_range(records, start..index, &mut good, &mut bad, &mut parts)?;
                bad.push(index);
                start = index + 1;
            }
        }
        self.decode_range(records, start..records.len(), &mut good, &mut bad, &mut parts)?;
        let text = concat_batches(&self.text_schema, &parts)?;
        let text =
            if self.fields.is_empty() { RecordBatch::new_empty(self.text_schema.clone()) } else { text };
        let (batch, mut faults) = Typing::new(self.zone, &good).batch(&self.fields, &self.schema, &text)?;
        let (batch, rows) = without(batch, good, &faults)?;
        faults.extend(
            bad.into_iter()
                .map(|index| withheld(records, index).unwrap_or_else(|| self.fault(records, index))),
        );
        faults.sort_by_key(|fault| fault.record);
        Ok(Decoded { batch, rows, faults, split: None })
    }
}

/// Why a record is not here as it was sent, where its reader said so: it is too long, or could not be unfolded.
pub(crate) fn withheld(records: &Records, record: usize) -> Option<RecordFault> {
    let fault = |reason, message| Some(RecordFault { record, reason, field: None, value: None, message });
    if let Some((_, length)) = records.oversized.iter().find(|(index, _)| *index == record) {
        let message = format!("the record has {length} bytes, more than the feed's `max_record_bytes`");
        return fault("oversized", message);
    }
    if records.unreadable.contains(&record) {
        let message = "the record stands in a compressed batch that cannot be unfolded: it is damaged, or would unfold to more than \
                       `receive.message.max.bytes`; have it sent again, in smaller batches";
        return fault("not_unfolded", message.to_string());
    }
    None
}

/// Leaves out the rows that have a fault.
pub(crate) fn without(
    batch: RecordBatch,
    rows: Vec<usize>,
    faults: &[RecordFault],
) -> Result<(RecordBatch, Vec<usize>), ArrowError> {
    if faults.is_empty() {
        return Ok((batch, rows));
    }
    let bad: std::collections::BTreeSet<usize> = faults.iter().map(|fault| fault.record).collect();
    let keep: arrow::array::BooleanArray = rows.iter().map(|row| Some(!bad.contains(row))).collect();
    let batch = arrow::compute::filter_record_batch(&batch, &keep)?;
    Ok((batch, rows.into_iter().filter(|row| !bad.contains(row)).collect()))
}

/// First field whose value has not the declared shape: (path, what it must be, what it is).
fn misshapen(
    fields: &[RawField],
    object: &serde_json::Map<String, Value>,
    prefix: &str,
) -> Option<(String, &'static str, String)> {
    for field in fields {
        let path = if prefix.is_empty() { field.name.clone() } else { format!("{prefix}.{}", field.name) };
        let Some(value) = object.get(&field.name).filter(|v| !v.is_null()) else { continue };
        if let Some(found) = misfit(&field.data_type, value, &path) {
            return Some(found);
        }
    }
    None
}

fn misfit(data_type: &RawType, value: &Value, path: &str) -> Option<(String, &'static str, String)> {
    let found = || value.to_string().chars().take(200).collect::<String>();
    match (data_type, value) {
        (RawType::Struct(fields), Value::Object(object)) => misshapen(fields, object, path),
        (RawType::List(item), Value::Array(items)) => {
            items.iter().filter(|v| !v.is_null()).find_map(|v| misfit(item, v, path))
        }
        (RawType::Struct(_), _) => Some((path.into(), "an object", found())),
        (RawType::List(_), _) => Some((path.into(), "a list", found())),
        (_, Value::Object(_) | Value::Array(_)) => Some((path.into(), "a single value", found())),
        _ => None,
    }
}
