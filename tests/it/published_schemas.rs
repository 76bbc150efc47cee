//! What is published is held against its own JSON Schema by an independent validator.

use manumit::config::Config;
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

#[test]
fn the_feed_guides_configuration_is_read_and_fits_the_published_schema() {
    let guide = include_str!("../../sql/feeds/README.md");
    let text = guide.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("manumit.toml");
    std::fs::write(&path, text).unwrap();
    let config = Config::read(Some(&path), folder.path(), []).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(config.reference.accounts, Some(folder.path().join("accounts.csv")));
    assert_eq!(config.reference.customers, Some("kafka:customers".into()));
    assert_eq!(config.kafka.properties["security.protocol"], "sasl_ssl");
    let schema = serde_json::from_str(&manumit::schema_text("config", false).unwrap()).unwrap();
    let value: serde_json::Value = toml::from_str::<toml::Value>(text).unwrap().try_into().unwrap();
    let errors: Vec<String> =
        jsonschema::validator_for(&schema).unwrap().iter_errors(&value).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

/// The guide's feed file is loaded as it stands.
#[test]
fn the_feed_guides_example_is_a_feed() {
    let guide = include_str!("../../sql/feeds/README.md");
    let text = guide.split("```sql\n").nth(1).unwrap().split("```").next().unwrap();
    let path = std::path::Path::new("sql/feeds/my-bank.sql");
    let feed = manumit_feed::Feed::load("my-bank", path, text.into(), &manumit_sql::Sql::new(), None);
    assert_eq!(feed.unwrap_or_else(|e| panic!("{e}")).topics(), ["payments"]);
}
