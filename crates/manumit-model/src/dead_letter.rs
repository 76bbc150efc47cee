//! Records set aside: where they stood, what was wrong, and their raw bytes, so that none is ever lost.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where one record came from.
///
/// For Kafka: topic, partition and offset. For files: the path as `source`, partition 0, and as offset the
/// record's number in the file, counted from 1 (the line number of a JSON-lines file).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Position {
    /// Topic or file path; `stdin` for standard input.
    pub source: Arc<str>,
    /// Kafka partition; 0 for files.
    pub partition: i32,
    /// Kafka offset, or the record's number in its file counted from 1.
    pub offset: i64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.source, self.partition, self.offset)
    }
}

/// The stage at which a record was set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The bytes are not what the feed's format says.
    Decode,
    /// A value could not be turned into its canonical column.
    Map,
    /// A canonical value breaks a rule of the schema.
    Validate,
    /// A rule's expression could not be evaluated on this row.
    Evaluate,
}

impl Stage {
    /// The stage as it stands in JSON and in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Decode => "decode",
            Stage::Map => "map",
            Stage::Validate => "validate",
            Stage::Evaluate => "evaluate",
        }
    }
}

/// One record set aside. Published as one JSON object; never logged (it holds the record).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetter {
    /// The feed that read the record.
    pub feed: String,
    /// Where it stood.
    pub position: Position,
    /// The stage that refused it.
    pub stage: Stage,
    /// Short, stable reason, fit for a metric label: `not_json`, `missing_field`, `wrong_type`, `unknown_currency`, …
    pub reason: String,
    /// The canonical column or raw field at fault, when one is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub field: Option<String>,
    /// The value found there, as text, cut to 200 characters.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value: Option<String>,
    /// Of a record whose `tx_id` came before with other content: where that one stood, which counts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub original: Option<Position>,
    /// One sentence: what was expected, what was found, and the mend.
    pub message: String,
    /// The record's bytes when they are UTF-8.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub raw: Option<String>,
    /// The record's bytes in base64 when they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub raw_base64: Option<String>,
    /// Length of the whole record in bytes; larger than what is kept only when `raw_truncated`.
    pub raw_bytes: u64,
    /// The record was longer than the feed's `max_record_bytes`, or than the sink's topic takes, or its batch could not be unfolded: only
    /// its beginning is kept here, or nothing; the whole stands at `position`.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub raw_truncated: bool,
}

impl DeadLetter {
    /// A dead letter without field or value; the builder methods add them.
    pub fn new(
        feed: &str,
        position: Position,
        stage: Stage,
        reason: &str,
        message: impl Into<String>,
    ) -> Self {
        DeadLetter {
            feed: feed.to_string(),
            position,
            stage,
            reason: reason.to_string(),
            field: None,
            value: None,
            original: None,
            message: message.into(),
            raw: None,
            raw_base64: None,
            raw_bytes: 0,
            raw_truncated: false,
        }
    }

    /// Names the field and the value found in it.
    pub fn with_field(mut self, field: impl Into<String>, value: Option<&str>) -> Self {
        self.field = Some(field.into());
        self.value = value.map(|v| v.chars().take(200).collect());
        self
    }

    /// Says where the record stood that this one contradicts.
    pub fn with_original(mut self, original: Position) -> Self {
        self.original = Some(original);
        self
    }

    /// Keeps the record's bytes: as text when they are UTF-8, in base64 otherwise.
    pub fn with_raw(mut self, bytes: &[u8]) -> Self {
        self.raw_bytes = self.raw_bytes.max(bytes.len() as u64);
        match std::str::from_utf8(bytes) {
            Ok(text) => self.raw = Some(text.to_string()),
            Err(_) => self.raw_base64 = Some(STANDARD.encode(bytes)),
        }
        self
    }

    /// Keeps only the beginning of the record: about half of what is kept now. False when nothing is left to cut.
    pub fn halve_raw(&mut self) -> bool {
        if let Some(raw) = &mut self.raw
            && raw.len() > 1
        {
            raw.truncate(raw.floor_char_boundary(raw.len() / 2));
        } else if let Some(raw) = &mut self.raw_base64
            && raw.len() > 4
        {
            // Four letters are three bytes: whole groups stay readable.
            raw.truncate(raw.len() / 8 * 4);
        } else {
            return false;
        }
        self.raw_truncated = true;
        true
    }
}

/// A row that arrived behind its own partition's watermark: kept, counted, not evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LateRow {
    /// The feed that read the row.
    pub feed: String,
    /// Where its record stood.
    pub position: Position,
    /// Transaction id.
    pub tx_id: String,
    /// Event time, RFC 3339 UTC.
    pub event_time: String,
    /// The partition's watermark when the row arrived, RFC 3339 UTC.
    pub watermark: String,
    /// How far behind the watermark the row was, in seconds.
    pub late_by_seconds: i64,
    /// One sentence: why it is late and which setting decides it.
    pub reason: String,
    /// The canonical row, unknown columns left out.
    pub transaction: serde_json::Map<String, serde_json::Value>,
}

/// JSON Schema (draft 2020-12) of [`DeadLetter`].
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(DeadLetter).to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position() -> Position {
        Position { source: "payments".into(), partition: 3, offset: 17 }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_kept_in_base64() {
        let letter = DeadLetter::new("f", position(), Stage::Decode, "not_utf8", "x").with_raw(&[0xff, 0x00]);
        assert_eq!(letter.raw, None);
        assert_eq!(letter.raw_base64.as_deref(), Some("/wA="));
        assert_eq!(letter.raw_bytes, 2);
        let mut letter =
            DeadLetter::new("f", position(), Stage::Decode, "not_json", "x").with_raw("ééé".as_bytes());
        assert!(letter.halve_raw() && letter.raw_truncated);
        assert_eq!((letter.raw.as_deref(), letter.raw_bytes), (Some("é"), 6));
    }

    #[test]
    fn a_dead_letter_reads_back_from_its_json() {
        let letter = DeadLetter::new("f", position(), Stage::Validate, "unknown_currency", "x")
            .with_field("currency", Some("ZZZ"))
            .with_raw(b"{}");
        let json = serde_json::to_string(&letter).unwrap();
        assert_eq!(serde_json::from_str::<DeadLetter>(&json).unwrap(), letter);
    }
}
