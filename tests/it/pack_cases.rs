//! The cases of the built-in pack: what each typology must find, and what it must leave alone.

use std::path::Path;

use manumit_cases::{Outcome, suites, try_all};
use manumit_rules::Sources;

#[test]
fn every_case_of_the_pack_ends_as_wanted_in_all_five_ways() {
    let sources = Sources::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))).unwrap();
    let suites = suites(&sources).unwrap_or_else(|faults| panic!("{faults}"));
    let tried = try_all(&sources, &suites, 1).unwrap_or_else(|error| panic!("{error}"));
    let told: Vec<String> =
        suites.iter().zip(&tried).map(|(suite, tried)| manumit_cases::text(suite, tried, false)).collect();
    let failed = tried.iter().flatten().filter(|one| one.outcome != Outcome::AsWanted).count();
    assert_eq!(failed, 0, "{}", told.concat());
    let rules = manumit_rules::load(&sources, &manumit_sql::Sql::new()).unwrap();
    let without: Vec<&str> = rules
        .typologies
        .iter()
        .map(|typology| typology.meta.id.as_str())
        .filter(|id| !suites.iter().any(|suite| suite.typology == *id))
        .collect();
    assert!(without.is_empty(), "without cases: {without:?}");
}
