//! The standing oracle: random rules over random transactions, each case answered by the engine in several ways and by
//! DataFusion in two, all of which must be equal, hits with their values and alerts.
//!
//! `MANUMIT_ORACLE_CASES` sets how many cases are drawn, `MANUMIT_ORACLE_SEED` the first one's seed; a failure prints the
//! seed, and the smallest rules and rows found that still fail, for which it takes `MANUMIT_ORACLE_PATIENCE` seconds.
//! `tests/README.md` tells what it kills.

pub mod answers;
mod check;
mod duckdb;
mod executors;
mod nightly;
mod queries;
mod restart;
pub mod rows;
pub mod rules;
mod sequences;
pub mod shrink;
mod stream;
mod ticks;

use std::ops::AddAssign;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use manumit_sql::Sql;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use check::{Seen, check};

/// Cases that are drawn when nothing else is said: about twenty seconds on two cores.
const CASES: u64 = 100;
/// The first seed when nothing else is said: tests that pass once pass again.
const SEED: u64 = 20_260_601;

/// Rules and rows.
#[derive(Debug, Clone)]
pub struct Case {
    pub seed: u64,
    pub indicators: Vec<rules::Indicator>,
    pub typologies: Vec<rules::Typology>,
    pub partitions: Vec<rows::Partition>,
    /// In the order of arrival.
    pub rows: Vec<rows::Row>,
}

impl Case {
    /// The case of a seed.
    pub fn draw(seed: u64) -> Case {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let unit = [1, 1_000, 1_000_000, 60_000_000, 3_600_000_000, 3_600_000_000][rng.random_range(0..6)];
        // The plain start most often: what depends on the clock changes of Berlin is a few cases' matter.
        let start = rows::STARTS[[0, 0, 1, 1, 2, 3][rng.random_range(0..6)]] * 1_000_000;
        let (indicators, typologies) = rules::draw(&mut rng, unit);
        let (partitions, rows) = rows::draw(&mut rng, unit, start);
        Case { seed, indicators, typologies, partitions, rows }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`: a whole number is wanted")),
        Err(_) => default,
    }
}

/// Draws cases and checks them on all cores; adds up what was seen, or panics with the smallest case that fails. `again`:
/// the command that repeats it, behind the settings.
fn each_case<S: Default + Send + for<'s> AddAssign<&'s S>>(
    default: u64,
    again: &str,
    check: impl Fn(&Case) -> Result<S, String> + Sync,
) -> (u64, S) {
    let (cases, first) = (setting("MANUMIT_ORACLE_CASES", default), setting("MANUMIT_ORACLE_SEED", SEED));
    let next = AtomicU64::new(0);
    let seen = Mutex::new(S::default());
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= cases || !failed.lock().unwrap().is_empty() {
                        return;
                    }
                    let case = Case::draw(first.wrapping_add(n));
                    match shrink::caught(|| check(&case)) {
                        Ok(found) => *seen.lock().unwrap() += &found,
                        Err(_) => failed.lock().unwrap().push(case),
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    if let Some(case) = failed.into_iter().min_by_key(|case| case.seed) {
        panic!("{}", shrink::report(case, &check, again));
    }
    println!("{cases} cases from seed {first}");
    (cases, seen.into_inner().unwrap())
}

#[test]
fn random_rules_over_random_rows_give_the_same_hits_and_alerts_however_they_are_answered() {
    let again = "cargo test --profile ci --workspace --test it -- standing";
    let (cases, seen): (_, Seen) = each_case(CASES, again, check);
    println!("{seen:?}");
    // A test that compares nothing finds nothing.
    if cases >= 20 {
        let least = cases as usize;
        assert!(seen.hits > 50 * least && seen.opened > least / 2 && seen.late > least, "{seen:?}");
        assert!(seen.revised > 0 && seen.plain_only > 0 && seen.shifted > 0 && seen.hot > 0, "{seen:?}");
        assert!(seen.at_ticks > least, "{seen:?}");
    }
}

/// What could be drawn, and means nothing that the stream and SQL could agree on.
#[test]
fn features_that_no_sql_can_say_or_no_stream_can_follow_are_refused() {
    let load = |feature: &str| {
        let mut indicator = rules::indicator(&mut ChaCha8Rng::seed_from_u64(1), 0, 1);
        indicator.features.truncate(1);
        indicator.features[0].sql = feature.into();
        indicator.when = "amount >= 0".into();
        indicator.param = None;
        rules::loaded(&[indicator], &[], &Sql::new())
    };
    let refused = |feature: &str| load(feature).expect_err(feature);
    assert!(load("count(*) OVER 2 microseconds excluding start and end").is_ok());
    let told = refused("count(*) OVER 1 microseconds excluding start and end");
    assert!(told.contains("has no time") && told.contains("make it longer"), "{told}");
    assert!(load("max(event_time) OVER 2 days").is_ok());
    let told = refused("max(memo) OVER 2 days");
    assert!(told.contains("texts have no least") && told.contains("last_value"), "{told}");
}

/// Sequences are drawn, read by the loader, and their SQL runs over random rows, whether or not the engine runs them.
#[test]
fn sequences_are_read_and_their_sql_runs() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut found = 0;
    for seed in 0..12 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let indicator = sequences::indicator(&mut rng, 0, 1_000_000);
        let (partitions, drawn) = rows::draw(&mut rng, 1_000_000, rows::STARTS[0] * 1_000_000);
        let sql = Sql::new();
        let rules = rules::loaded(std::slice::from_ref(&indicator), &[], &sql)
            .unwrap_or_else(|faults| panic!("{faults}\n{}", indicator.toml()));
        let few: Vec<&rows::Row> = drawn.iter().take(60).collect();
        crate::oracle::add_tables(&sql, &rows::batch(&partitions, &few));
        let hits = runtime.block_on(answers::answer(&rules, &sql, 0, &rules.indicators[0].sql)).unwrap();
        found += hits.len();
    }
    assert!(found > 20, "{found} hits");
}
