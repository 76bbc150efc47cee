//! What others wrote, in any state: what must hold of it, said once.
//!
//! A [`Target`] takes bytes and panics where a property is broken. Two drivers call it: the test `fuzz`, with a fixed number of
//! seeded mutations in every `cargo test`, and `guided`, which libFuzzer leads to code that was not reached before
//! (`tests/fuzz.sh`). Inputs worth keeping stand in `tests/fuzz/corpus/TARGET`.

// A property that does not hold is told by a panic; the lints that forbid it are meant for the product.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod mutation;
mod targets;

use std::path::{Path, PathBuf};

pub use mutation::{mutated, words};
pub use targets::{NAMES, Target, target};

/// The project's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_path_buf()
}

/// Where inputs of a target are kept.
pub fn corpus(target: &str) -> PathBuf {
    root().join("tests/fuzz/corpus").join(target)
}

/// Inputs that were kept, by name.
///
/// # Panics
/// When one cannot be read.
pub fn kept(target: &str) -> Vec<Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(corpus(target)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}
