//! What others wrote, in any state: nothing of it may crash the program, hold it up, or get lost.
//!
//! Each target runs over its seeds, its corpus and a fixed number of seeded mutations (`MANUMIT_MUTATIONS` gives another number,
//! and `MANUMIT_FUZZ_SEED` another seed). This search is blind; `tests/fuzz.sh` leads the same targets by coverage. What once
//! went wrong is in `corpus/`.

// A test fails by panicking; the lints that forbid it are meant for the product.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use manumit_fuzz::{corpus, kept, mutated, target, words};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Mutations of a target that `cargo test` tries: fast ones, and those that plan SQL.
const FAST: usize = 5_000;
const SLOW: usize = 150;

/// How long one input may take, on a machine that does other things as well.
const PATIENCE: Duration = Duration::from_secs(10);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs a target; the first input that panics or takes too long is kept, and told.
fn hold(name: &str) {
    let target = target(name).unwrap();
    for (seed, input) in target.seeds.iter().enumerate() {
        // What begins with a refusal never gets far.
        assert!(target.run(input), "{name}: seed {seed} is refused: {}", String::from_utf8_lossy(input));
    }
    let pool = [target.seeds.clone(), kept(name)].concat();
    let words = words(&pool);
    let mut rng = ChaCha8Rng::seed_from_u64(number("MANUMIT_FUZZ_SEED").unwrap_or(1));
    let last = tempfile::tempdir().unwrap();
    let one = |input: &[u8]| {
        // Where the program itself dies, the input is still there.
        std::fs::write(last.path().join("last"), input).unwrap();
        let began = Instant::now();
        let held = catch_unwind(AssertUnwindSafe(|| target.run(input))).is_ok();
        let took = began.elapsed();
        if !held || took > PATIENCE {
            let path = corpus(name).join(&manumit_model::alert::sha256(input)[..16]);
            std::fs::create_dir_all(corpus(name)).unwrap();
            std::fs::write(&path, input).unwrap();
            let text = String::from_utf8_lossy(input);
            let what = if held { format!("takes {took:?}") } else { "breaks it".into() };
            panic!("{name}: an input {what}; it was kept as {}: {text:.4000}", path.display());
        }
    };
    pool.iter().for_each(|input| one(input));
    let count = if target.slow { SLOW } else { FAST };
    for _ in 0..number("MANUMIT_MUTATIONS").map_or(count, |count| count as usize) {
        let [from, other] = [(); 2].map(|()| rng.random_range(0..pool.len()));
        one(&mutated(&mut rng, &pool[from], &pool[other], &words));
    }
}

macro_rules! targets {
    ($($name:ident),*) => {
        $(
            #[test]
            fn $name() {
                hold(stringify!($name));
            }
        )*

        #[test]
        fn every_target_is_tried() {
            assert_eq!([$(stringify!($name)),*], manumit_fuzz::NAMES);
        }
    };
}

targets!(json, document, csv, parquet, cut, mapping, feed, indicator, query, typology);
