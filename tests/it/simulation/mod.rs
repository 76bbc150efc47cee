//! The core under a seeded scheduler: one seed draws rules, the logs of a few partitions, and a schedule of what happens —
//! records that come, steps, silence, commits that die half-way, restarts with damaged checkpoints or none. What is published
//! at the end must be what a run would have published in which nothing ever went wrong.
//!
//! ```text
//!  schedule ─► machine: engine, duplicates, ledger, archive, checkpoints (all real) ─► broker (a model) ─► published
//!        └───► acts that counted (a crash forgets those since the last commit) ─► calm: one engine, in memory ─► wanted
//! ```
//! Of the product it runs the engine, the archive's writer and reader, checkpoints and their folder, the order of a commit
//! (`Delivery`), the choice of a checkpoint and the taking up (`find`, `take_up`, `known_before`), duplicates and the ledger. A
//! model are: Kafka (logs, and a commit that is done or not), the decoding of records, and the glue of the main loop, some
//! thirty lines (`core.rs`). End-to-end tests run these against a real Kafka.
//!
//! `MANUMIT_SIMULATIONS` sets how many runs are drawn, `MANUMIT_SIMULATION_SEED` the first one's seed; a failure prints the seed
//! and the smallest rules, logs and schedule found, for which it takes `MANUMIT_SIMULATION_PATIENCE` seconds.

mod calm;
mod core;
mod machine;
mod schedule;
mod shrink;
mod world;

use std::ops::AddAssign;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::standing::shrink::caught;
use machine::Seen;
use world::World;

/// Runs that are drawn when nothing else is said: less than a minute of one core.
const RUNS: u64 = 500;
/// The first seed when nothing else is said: tests that pass once pass again.
const SEED: u64 = 20_261_101;

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`: a whole number is wanted")),
        Err(_) => default,
    }
}

#[test]
fn whatever_fails_and_whenever_what_is_published_is_what_a_calm_run_publishes() {
    let (runs, first) = (setting("MANUMIT_SIMULATIONS", RUNS), setting("MANUMIT_SIMULATION_SEED", SEED));
    let next = AtomicU64::new(0);
    let seen = Mutex::new(Seen::default());
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= runs || !failed.lock().unwrap().is_empty() {
                        return;
                    }
                    let world = World::draw(first.wrapping_add(n));
                    match caught(|| machine::run(&world)) {
                        Ok(found) => seen.lock().unwrap().add_assign(&found),
                        Err(why) => failed.lock().unwrap().push((world, why)),
                    }
                }
            });
        }
    });
    if let Some((world, why)) = failed.into_inner().unwrap().into_iter().min_by_key(|(world, _)| world.seed) {
        panic!("{}", shrink::report(world, why));
    }
    let seen = seen.into_inner().unwrap();
    println!("{runs} runs from seed {first}: {seen:?}");
    // A test in which nothing happens finds nothing.
    if runs >= 200 {
        let least = runs as usize;
        assert!(seen.hits > 20 * least && seen.alerts > least && seen.late > least, "{seen:?}");
        assert!(
            seen.crashes > least && seen.commits > 3 * least && seen.redelivered > 10 * least,
            "{seen:?}"
        );
        assert!(
            seen.exactly > least / 2 && seen.behind > least / 10 && seen.from_rows > least / 10,
            "{seen:?}"
        );
        assert!(seen.duplicates > least && seen.conflicts > least / 4 && seen.idle > least / 4, "{seen:?}");
        assert!(seen.died.iter().all(|&count| count > least / 20), "{seen:?}");
        assert!(10 * seen.strict > 9 * least && 2 * seen.whole > least, "{seen:?}");
    }
}
