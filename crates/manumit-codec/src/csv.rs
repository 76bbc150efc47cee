//! CSV: one line a record, RFC 4180 quotes.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use manumit_model::Records;

use crate::json::{withheld, without};
use crate::shape::{RawField, raw_schema};
use crate::typed::{TimeZone, Typing};
use crate::{Decoded, Decoder, RecordFault};

/// Decodes CSV records. With a header (see [`Records::header`]) columns are found by name, else they stand in the order
/// of the shape. An empty field is NULL.
#[derive(Debug)]
pub struct Csv {
    fields: Vec<RawField>,
    delimiter: u8,
    zone: Option<TimeZone>,
    schema: SchemaRef,
}

impl Csv {
    /// A decoder for records of this shape.
    pub fn new(fields: Vec<RawField>, delimiter: u8, zone: Option<TimeZone>) -> Csv {
        Csv { schema: raw_schema(&fields), fields, delimiter, zone }
    }
}

impl Decoder for Csv {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn decode(&self, records: &Records) -> Result<Decoded, ArrowError> {
        let header: Option<Vec<String>> = records
            .header
            .as_ref()
            .map(|header| names(&String::from_utf8_lossy(header), self.delimiter).unwrap_or_default());
        let width = header.as_ref().map_or(self.fields.len(), Vec::len);
        let places: Vec<Option<usize>> = match &header {
            None => (0..self.fields.len()).map(Some).collect(),
            Some(names) => self.fields.iter().map(|f| names.iter().position(|n| *n == f.name)).collect(),
        };
        let mut columns: Vec<StringBuilder> = self.fields.iter().map(|_| StringBuilder::new()).collect();
        let (mut rows, mut faults) = (Vec::new(), Vec::new());
        for index in 0..records.len() {
            let fault = |reason, message: String| RecordFault {
                record: index,
                reason,
                field: None,
                value: None,
                message,
            };
            if let Some(fault) = withheld(records, index) {
                faults.push(fault);
                continue;
            }
            let Ok(text) = std::str::from_utf8(records.get(index)) else {
                faults.push(fault("not_utf8", crate::not_utf8("record", records.get(index))));
                continue;
            };
            let Some(values) = split(text, self.delimiter) else {
                faults.push(fault("not_csv", "a quote is opened and never closed".into()));
                continue;
            };
            if values.len() != width {
                let delimiter = char::from(self.delimiter);
                let message = format!(
                    "{} fields, expected {width}; a field that holds `{delimiter}` stands between double quotes",
                    values.len()
                );
                faults.push(fault("not_csv", message));
                continue;
            }
            for (column, place) in columns.iter_mut().zip(&places) {
                match place.and_then(|p| values.get(p)).filter(|v| !v.is_empty()) {
                    Some(value) => column.append_value(value),
                    None => column.append_null(),
                }
            }
            rows.push(index);
        }
        let fields: Vec<Field> =
            self.fields.iter().map(|f| Field::new(&f.name, DataType::Utf8, true)).collect();
        let arrays: Vec<ArrayRef> =
            columns.into_iter().map(|mut c| Arc::new(c.finish()) as ArrayRef).collect();
        let text = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?;
        let (batch, typed_faults) = Typing::new(self.zone, &rows).batch(&self.fields, &self.schema, &text)?;
        let (batch, rows) = without(batch, rows, &typed_faults)?;
        faults.extend(typed_faults);
        faults.sort_by_key(|fault| fault.record);
        Ok(Decoded { batch, rows, faults, split: None })
    }
}

/// Names of the columns that a header gives, without spaces around them. A name that comes again is told apart by its number:
/// `Account`, `Account_2`, `Account_3`; `None` when a quote stays open.
pub fn names(header: &str, delimiter: u8) -> Option<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    let written = split(header.trim_start_matches('\u{feff}'), delimiter)?;
    let written: Vec<&str> = written.iter().map(|name| name.trim()).collect();
    for (place, name) in written.iter().enumerate() {
        let mut number = 1 + written[..place].iter().filter(|earlier| *earlier == name).count();
        let mut told = (*name).to_string();
        while number > 1 {
            told = format!("{name}_{number}");
            // A column that the header itself calls so keeps its name.
            if !written.contains(&told.as_str()) && !names.contains(&told) {
                break;
            }
            number += 1;
        }
        names.push(told);
    }
    Some(names)
}

/// Fields of a record; `None` when a quote stays open.
pub fn split(text: &str, delimiter: u8) -> Option<Vec<String>> {
    let delimiter = char::from(delimiter);
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut quoted = false;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            letter if letter == delimiter && !quoted => fields.push(std::mem::take(&mut field)),
            letter => field.push(letter),
        }
    }
    fields.push(field);
    (!quoted).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::{names, split};

    #[test]
    fn a_name_that_comes_again_is_numbered() {
        let header = "\u{feff}From Bank, Account ,To Bank,Account,Account";
        assert_eq!(
            names(header, b',').unwrap(),
            ["From Bank", "Account", "To Bank", "Account_2", "Account_3"]
        );
        assert_eq!(names("a,a,a_2,a", b',').unwrap(), ["a", "a_3", "a_2", "a_4"]);
        assert_eq!(names("a,\"b", b','), None);
    }

    #[test]
    fn quotes_hold_delimiters_quotes_and_line_ends() {
        assert_eq!(split("a;\"b;c\";\"d\"\"e\nf\";", b';').unwrap(), ["a", "b;c", "d\"e\nf", ""]);
        assert_eq!(split("a;\"b", b';'), None);
    }
}
