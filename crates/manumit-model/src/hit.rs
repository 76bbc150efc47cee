//! A hit of an indicator: one row at which a red flag held, with what was measured there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One hit. Two runs over the same transactions give equal sets of hits, whatever the batches, threads or engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hit {
    /// Id of the indicator.
    pub indicator: String,
    /// Its version.
    pub version: u32,
    /// Event time of the row, RFC 3339 UTC, microseconds.
    pub event_time: String,
    /// Transaction of the row; left out for a query that is answered at ticks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx_id: Option<String>,
    /// `in` or `out`: the side of the payment, for indicators over entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<String>,
    /// Key whose rows were looked at.
    pub subject: String,
    /// Whom the hit is about, where that is another than the subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// The indicator's features by name; amounts are decimal strings, NULL ones are left out.
    pub values: Map<String, Value>,
}

impl Hit {
    /// What hits are ordered by in files: event time, indicator, transaction, side, subject.
    pub fn order(&self) -> (&str, &str, Option<&str>, Option<&str>, &str) {
        (&self.event_time, &self.indicator, self.tx_id.as_deref(), self.direction.as_deref(), &self.subject)
    }
}
