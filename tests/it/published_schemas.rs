//! What is published is held against its own JSON Schema by an independent validator.

use manumit_model::dead_letter::{self, DeadLetter, Position, Stage};

#[test]
fn a_dead_letter_fits_its_published_schema_and_one_without_position_does_not() {
    let validator = jsonschema::validator_for(&dead_letter::json_schema()).unwrap();
    let position = Position { source: "payments".into(), partition: 3, offset: 17 };
    let letter = DeadLetter::new(
        "bank",
        position,
        Stage::Validate,
        "unknown_currency",
        "`ZZZ` is no ISO 4217 currency",
    )
    .with_field("currency", Some("ZZZ"))
    .with_raw(&[0xff]);
    let mut value = serde_json::to_value(letter).unwrap();
    assert!(validator.is_valid(&value), "{value}");
    value.as_object_mut().unwrap().remove("position");
    assert!(!validator.is_valid(&value));
}
