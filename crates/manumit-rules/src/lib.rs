//! Rules: text of `rules/` and `sql/` to a compiled [`ir::RuleSet`], or diagnostics that name place and mend.
//!
//! The syntax is that of `rules/README.md`; [`ir`] is the seam to the engine.

pub mod catalogue;
pub mod document;
mod estimate;
mod explain;
mod expression;
mod features;
pub mod frame;
mod groups;
mod indicator;
pub mod ir;
mod keyable;
pub mod keyed;
mod keyed_sql;
mod load;
mod metadata;
mod principles;
mod print;
mod query;
mod retired;
mod segments;
mod sequence;
mod sequence_sql;
mod sources;
mod template;
mod typology;
mod typology_sql;

pub use estimate::{Estimate, KEY_BYTES, transaction_bytes};
pub use explain::{explain, sql_of};
pub use expression::make_exact;
pub use features::duration;
pub use load::{load, load_lists};
pub use retired::Retired;
pub use sources::Sources;
pub use typology::ROLES;
pub use typology_sql::{held_sql, row_id};

/// JSON Schema (draft 2020-12) of an indicator or typology file, for editors.
pub fn json_schema() -> serde_json::Value {
    use serde_json::json;
    let text = json!({"type": "string"});
    let texts = json!({"type": "array", "items": {"type": "string"}, "minItems": 1});
    let meta = json!({
        "id": {"type": "string", "pattern": "^[a-z0-9-]+$"},
        "version": {"type": "integer", "minimum": 1},
        "status": {"enum": metadata::STATUS},
        "retired": {"type": "object", "required": ["on", "because"], "additionalProperties": false,
            "properties": {"on": {}, "because": text, "replaced_by": text}},
        "title": text,
        "severity": {"enum": ["low", "medium", "high"]},
        "exploitation": {"type": "array", "items": {"enum": metadata::EXPLOITATION}, "minItems": 1},
        "references": texts,
        "false_positives": texts,
        "subject": {"enum": indicator::SUBJECTS.map(|(kind, _)| kind)},
        "explain": text,
        "params": {"type": "object", "additionalProperties": {
            "type": "object",
            "properties": {"value": {}, "unit": text, "source": text, "segment": {"type": "array", "items": {
                "type": "object", "required": ["when", "value", "source"], "additionalProperties": false,
                "properties": {"when": text, "value": {}, "source": text}}}},
            "required": ["value", "unit", "source"],
            "additionalProperties": false
        }}
    });
    let part = json!({
        "indicator": text, "points": {"type": "integer", "minimum": 5, "maximum": 50},
        "at_least": {"type": "integer", "minimum": 1}, "on_days": {"type": "integer", "minimum": 1},
        "different": {"type": "object", "additionalProperties": {"type": "integer"}}
    });
    let required = json!([
        "id",
        "version",
        "status",
        "title",
        "severity",
        "exploitation",
        "references",
        "false_positives",
        "subject"
    ]);
    let merged = |more: serde_json::Value| {
        let mut all = meta.clone();
        if let (Some(all), Some(more)) = (all.as_object_mut(), more.as_object()) {
            all.extend(more.clone());
        }
        json!({"type": "object", "properties": all, "required": required, "additionalProperties": false})
    };
    let part = json!({"type": "object", "properties": part, "required": ["indicator"], "additionalProperties": false});
    let step = json!({
        "type": "object", "required": ["name", "when"], "additionalProperties": false,
        "properties": {
            "name": {"type": "string", "pattern": "^[a-z][a-z0-9_]*$"}, "when": text, "within": text,
            "optional": {"type": "boolean"}, "not": {"type": "boolean"}, "at_least": {"type": "integer", "minimum": 1}
        }
    });
    let indicator = merged(json!({
        "within": text, "step": {"type": "array", "items": step, "minItems": 2, "maxItems": sequence::MAX_STEPS},
        "over": {"enum": ["entries", "transactions"]}, "where": text, "when": text, "about": text, "needs": texts,
        "key": text, "lookback": text, "every": text, "hits_of": texts,
        "features": {"type": "object", "additionalProperties": {"anyOf": [text, {
            "type": "object", "properties": {"sql": text, "unit": text, "label": text}, "required": ["sql"]
        }]}}
    }));
    let typology = merged(json!({
        "within": text, "gate": {"anyOf": [text, {"type": "array", "items": {"anyOf": [text, part]}}]},
        "gate_points": {"type": "integer"}, "corroborator": {"type": "array", "items": part},
        "alert_at": {"type": "integer"}, "urgent_at": {"type": "integer"}, "urgent": {"type": "boolean"},
        "open_for": text, "revise_every": text, "summary": text, "tlp": text, "over": text,
        "fiu_keywords": {"type": "array", "items": text},
        "exclude": {"type": "array", "items": {"type": "object", "properties": {
            "when": text, "list": text, "column": text, "words": text}, "required": ["words"]}},
        "roles": {"type": "object", "properties": {"subject": text, "payers": text, "payees": text}}
    }));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A rule of Manumit: an indicator or a typology",
        "anyOf": [indicator, typology]
    })
}
