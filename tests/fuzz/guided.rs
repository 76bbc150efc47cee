//! The targets under libFuzzer, which keeps inputs that reach new code and goes on from them; `tests/fuzz.sh` builds and runs it.
//!
//! `MANUMIT_FUZZ_TARGET` names the target. Its seeds are written to the folder `MANUMIT_FUZZ_SEEDS`, when there is one.

#![no_main]
// A property that does not hold is told by a panic; the lints that forbid it are meant for the product.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{LazyLock, Mutex, PoisonError};

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use manumit_fuzz::{NAMES, Target, mutated, target, words};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

struct Led {
    target: Target,
    words: Vec<Vec<u8>>,
}

static LED: LazyLock<Led> = LazyLock::new(|| {
    let name = std::env::var("MANUMIT_FUZZ_TARGET").unwrap_or_default();
    let target = target(&name).unwrap_or_else(|| panic!("MANUMIT_FUZZ_TARGET={name}: there are {NAMES:?}"));
    if let Ok(folder) = std::env::var("MANUMIT_FUZZ_SEEDS") {
        for (number, seed) in target.seeds.iter().enumerate() {
            std::fs::write(format!("{folder}/seed-{number}"), seed).unwrap();
        }
    }
    let words = words(&target.seeds);
    Led { target, words }
});

/// What the last panic said.
static SAID: Mutex<String> = Mutex::new(String::new());

fuzz_target!(
    init: {
        LazyLock::force(&LED);
        // libFuzzer's own hook ends the program at any panic, also at one that our code catches: a damaged Parquet file is refused so.
        std::panic::set_hook(Box::new(|info| {
            *SAID.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string();
        }));
    },
    |data: &[u8]| {
        if catch_unwind(AssertUnwindSafe(|| LED.target.run(data))).is_err() {
            eprintln!("{}", SAID.lock().unwrap_or_else(PoisonError::into_inner));
            std::process::abort();
        }
    }
);

// Half of the changes are libFuzzer's, which know what was compared; half put words in place of words.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut rng = ChaCha8Rng::seed_from_u64(u64::from(seed));
    if rng.random() {
        return fuzzer_mutate(data, size, max_size);
    }
    let seeds = &LED.target.seeds;
    let other = &seeds[rng.random_range(0..seeds.len())];
    let changed = mutated(&mut rng, &data[..size], other, &LED.words);
    let length = changed.len().min(max_size);
    data[..length].copy_from_slice(&changed[..length]);
    length
});
