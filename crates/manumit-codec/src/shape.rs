//! The raw shape of a record: which fields a feed uses, and of which type.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// Type of a raw field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawType {
    /// Any scalar, as its text.
    Text,
    /// 64-bit integer.
    Integer,
    /// Exact decimal, kept as `Decimal128(28, 10)`.
    Decimal,
    /// Float; never for money.
    Number,
    /// True or false.
    Boolean,
    /// RFC 3339, or local date and time of the feed's zone.
    Timestamp,
    /// Seconds since 1970-01-01 UTC.
    EpochSeconds,
    /// Milliseconds since 1970-01-01 UTC.
    EpochMillis,
    /// Microseconds since 1970-01-01 UTC.
    EpochMicros,
    /// Calendar day, `2026-03-31`.
    Date,
    /// Nested fields.
    Struct(Vec<RawField>),
    /// A list of one type.
    List(Box<RawType>),
}

/// A named raw field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawField {
    /// Name as in the record.
    pub name: String,
    /// Type.
    pub data_type: RawType,
}

impl RawType {
    /// The scalar types by the word that feed files use.
    pub const WORDS: [(&'static str, RawType); 10] = [
        ("text", RawType::Text),
        ("integer", RawType::Integer),
        ("decimal", RawType::Decimal),
        ("number", RawType::Number),
        ("boolean", RawType::Boolean),
        ("timestamp", RawType::Timestamp),
        ("timestamp_s", RawType::EpochSeconds),
        ("timestamp_ms", RawType::EpochMillis),
        ("timestamp_us", RawType::EpochMicros),
        ("date", RawType::Date),
    ];

    /// Type of the decoded column.
    pub fn data_type(&self) -> DataType {
        match self {
            RawType::Text => DataType::Utf8,
            RawType::Integer => DataType::Int64,
            RawType::Decimal => DataType::Decimal128(28, 10),
            RawType::Number => DataType::Float64,
            RawType::Boolean => DataType::Boolean,
            RawType::Timestamp | RawType::EpochSeconds | RawType::EpochMillis | RawType::EpochMicros => {
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
            }
            RawType::Date => DataType::Date32,
            RawType::Struct(fields) => DataType::Struct(
                fields.iter().map(|f| Field::new(&f.name, f.data_type.data_type(), true)).collect(),
            ),
            RawType::List(item) => DataType::List(Arc::new(Field::new_list_field(item.data_type(), true))),
        }
    }

    /// The same shape with text in place of every scalar: what is read first, so that numbers stay exact.
    pub(crate) fn text_type(&self) -> DataType {
        match self {
            RawType::Struct(fields) => DataType::Struct(
                fields.iter().map(|f| Field::new(&f.name, f.data_type.text_type(), true)).collect(),
            ),
            RawType::List(item) => DataType::List(Arc::new(Field::new_list_field(item.text_type(), true))),
            _ => DataType::Utf8,
        }
    }
}

/// Name of the hidden column that keeps the UTC offset (minutes) a timestamp was written with.
pub fn offset_column(path: &str) -> String {
    format!("{path}__offset")
}

/// Dotted paths of timestamps outside lists.
pub(crate) fn timestamp_paths(fields: &[RawField], prefix: &str, out: &mut Vec<String>) {
    for field in fields {
        let path = if prefix.is_empty() { field.name.clone() } else { format!("{prefix}.{}", field.name) };
        match &field.data_type {
            RawType::Timestamp => out.push(path),
            RawType::Struct(inner) => timestamp_paths(inner, &path, out),
            _ => {}
        }
    }
}

/// The Arrow schema of decoded rows: the fields, then one offset column a timestamp.
pub fn raw_schema(fields: &[RawField]) -> SchemaRef {
    let mut list: Vec<Field> =
        fields.iter().map(|f| Field::new(&f.name, f.data_type.data_type(), true)).collect();
    let mut paths = Vec::new();
    timestamp_paths(fields, "", &mut paths);
    list.extend(paths.iter().map(|path| Field::new(offset_column(path), DataType::Int32, true)));
    Arc::new(Schema::new(list))
}
