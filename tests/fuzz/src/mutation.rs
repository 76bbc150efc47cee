//! Inputs made of others: bytes changed, words in place of words.

use std::collections::BTreeSet;

use rand::Rng;

/// Longest input that mutations give.
const LONGEST: usize = 1 << 16;

/// Words, numbers and signs of the seeds: what mutations of texts are made of.
pub fn words(seeds: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut words = BTreeSet::new();
    for seed in seeds {
        words.extend(seed.split(|b| !b.is_ascii_alphanumeric() && *b != b'_').map(<[u8]>::to_vec));
    }
    for sign in [
        "\"",
        "'",
        "\\",
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        ",",
        ",,",
        ":",
        "=",
        "--",
        "/*",
        "$",
        "\n",
        "\0",
        "\u{feff}",
        "\u{202e}",
        "-1",
        "1e999",
        "9223372036854775808",
        "0.00000000001",
    ] {
        words.insert(sign.into());
    }
    words.into_iter().filter(|word| !word.is_empty() && word.len() < 64).collect()
}

/// A few changes to `bytes`; parts of `other` may come in.
pub fn mutated(rng: &mut impl Rng, bytes: &[u8], other: &[u8], words: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.random_range(1..5) {
        let at = rng.random_range(0..=bytes.len());
        let end = (at + rng.random_range(1..24)).min(bytes.len());
        match rng.random_range(0..7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            3 => {
                let from = rng.random_range(0..=other.len());
                let to = (from + rng.random_range(1..64)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            // A word in place of another.
            4 | 5 => {
                let is_word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
                let from = bytes[..at].iter().rposition(|b| !is_word(b)).map_or(0, |before| before + 1);
                let to = at + bytes[at..].iter().take_while(|b| is_word(b)).count();
                bytes.splice(from..to, words[rng.random_range(0..words.len())].iter().copied());
            }
            _ if rng.random_range(0..4) == 0 => bytes.truncate(at),
            _ => {}
        }
    }
    bytes.truncate(LONGEST);
    bytes
}
