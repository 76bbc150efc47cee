//! The parts of the `manumit` command that tests call: configuration, project files, the loop.

use manumit_model::{alert, dead_letter, schema};

/// A line on standard error; when it cannot be written, as the disk of a log is full, the run goes on without.
#[macro_export]
macro_rules! note {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

pub mod alert_log;
pub mod archive;
pub mod backtest;
pub mod baselines;
pub mod budget;
pub mod cases;
pub mod checkpoint;
pub mod checks;
pub mod cluster;
pub mod config;
pub mod coverage;
pub mod demo;
pub mod duplicates;
pub mod evaluate;
pub mod ledger;
pub mod limits;
pub mod lists;
pub mod mapped;
pub mod outputs;
mod passes;
pub mod pipeline;
pub mod progress;
pub mod project;
pub mod query;
pub mod reference;
pub mod run;
pub mod samples;
pub mod service;
pub mod sharing;
pub mod show;
pub mod status;
pub mod telemetry;
pub mod verify;
mod whole;

/// Why a definition cannot be printed.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Only tables have reference documentation.
    #[error("`{0}` has a JSON Schema only; leave --markdown out")]
    NoMarkdown(String),
    /// The definition cannot be written as JSON: a bug.
    #[error("the definition cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// The JSON Schema (draft 2020-12) of `transactions`, `entries`, `alert`, `hit`, `config`, `rule` or `dead-letter`, or a table's
/// reference documentation as Markdown.
///
/// # Errors
/// [`SchemaError::NoMarkdown`] when `markdown` is asked for what is not a table.
pub fn schema_text(what: &str, markdown: bool) -> Result<String, SchemaError> {
    let columns = schema::columns_of(what);
    if markdown {
        return columns
            .map(|c| schema::markdown(&c))
            .ok_or_else(|| SchemaError::NoMarkdown(what.to_string()));
    }
    let value = match (columns, what) {
        (Some(columns), _) => schema::json_schema(what, &columns),
        (None, "dead-letter") => dead_letter::json_schema(),
        (None, "config") => schemars::schema_for!(config::Config).to_value(),
        (None, "hit") => schemars::schema_for!(manumit_model::hit::Hit).to_value(),
        (None, "rule") => manumit_rules::json_schema(),
        (None, _) => alert::json_schema(),
    };
    Ok(serde_json::to_string_pretty(&value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_is_a_json_schema_with_properties() {
        for what in ["transactions", "entries", "alert", "hit", "config", "rule", "dead-letter"] {
            let value: serde_json::Value = serde_json::from_str(&schema_text(what, false).unwrap()).unwrap();
            assert!(value["properties"].is_object() || value["anyOf"].is_array(), "{what}");
        }
    }

    #[test]
    fn reference_documentation_is_for_tables_only() {
        assert!(schema_text("entries", true).unwrap().contains("| `direction` |"));
        assert!(matches!(schema_text("alert", true), Err(SchemaError::NoMarkdown(_))));
    }
}
