//! What others wrote, in any state: nothing of it may crash the program.
//!
//! Each target runs over its corpus and a fixed number of seeded mutations (`MANUMIT_MUTATIONS` gives another number, and
//! `MANUMIT_FUZZ_SEED` another seed). The search is blind: it is not guided by coverage. What once crashed is in `corpus/`.

// A test fails by panicking; the lints that forbid it are meant for the product.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use manumit_codec::{Csv, Decoder, Json, JsonDocument, RawField, RawType, parquet_batches, parquet_schema};
use manumit_feed::Feed;
use manumit_model::Records;
use manumit_rules::Sources;
use manumit_sql::Sql;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Mutations of a target that `cargo test` tries: fast ones, and those that plan SQL.
const FAST: usize = 5_000;
const SLOW: usize = 150;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn corpus(target: &str) -> PathBuf {
    root().join("tests/fuzz/corpus").join(target)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Words, numbers and signs of the seeds: what mutations of texts are made of.
fn words(seeds: &[Vec<u8>]) -> Vec<Vec<u8>> {
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

fn mutated(rng: &mut ChaCha8Rng, pool: &[Vec<u8>], words: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = pool[rng.random_range(0..pool.len())].clone();
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
                let other = &pool[rng.random_range(0..pool.len())];
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
    bytes.truncate(1 << 16);
    bytes
}

/// Runs a target; the first input that panics is kept, and told.
fn fuzz(target: &str, count: usize, seeds: Vec<Vec<u8>>, run: impl Fn(&[u8])) {
    let folder = corpus(target);
    let mut pool = seeds;
    if let Ok(entries) = std::fs::read_dir(&folder) {
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        pool.extend(paths.iter().map(|path| std::fs::read(path).unwrap()));
    }
    assert!(!pool.is_empty(), "{target} has nothing to begin with");
    let words = words(&pool);
    let mut rng = ChaCha8Rng::seed_from_u64(number("MANUMIT_FUZZ_SEED").unwrap_or(1));
    let last = tempfile::tempdir().unwrap();
    let one = |input: &[u8]| {
        // Where the program itself dies, the input is still there.
        std::fs::write(last.path().join("last"), input).unwrap();
        if catch_unwind(AssertUnwindSafe(|| run(input))).is_err() {
            std::fs::create_dir_all(&folder).unwrap();
            let path = folder.join(&manumit_model::alert::sha256(input)[..16]);
            std::fs::write(&path, input).unwrap();
            let text = String::from_utf8_lossy(input);
            panic!("{target}: an input crashes it; it was kept as {}: {text}", path.display());
        }
    };
    for input in &pool {
        one(input);
    }
    for _ in 0..number("MANUMIT_MUTATIONS").map_or(count, |count| count as usize) {
        one(&mutated(&mut rng, &pool, &words));
    }
}

fn shape() -> Vec<RawField> {
    let field = |name: &str, data_type| RawField { name: name.into(), data_type };
    vec![
        field("a", RawType::Text),
        field("b", RawType::Integer),
        field("c", RawType::Decimal),
        field("t", RawType::Timestamp),
        field("d", RawType::Struct(vec![field("e", RawType::EpochMillis), field("g", RawType::Date)])),
        field("f", RawType::List(Box::new(RawType::Number))),
    ]
}

/// Lines as records, the first one a header where the format has one.
fn decode(decoder: &dyn Decoder, input: &[u8], header: bool) {
    let mut lines = input.split(|&b| b == b'\n');
    let mut records = Records::new("fuzz".into(), 0, 0);
    records.header = header.then(|| lines.next().unwrap_or_default().into());
    lines.zip(1..).for_each(|(line, offset)| records.push(offset, line));
    let decoded = decoder.decode(&records).unwrap();
    let given = decoded.split.as_ref().unwrap_or(&records).len();
    assert_eq!(decoded.rows.len() + decoded.faults.len(), given, "a record was lost or came twice");
}

const OBJECT: &[u8] = br#"{"a":"x\u00e9\n","b":-7,"c":"12.3400","t":"2026-03-31T10:00:00+02:00","d":{"e":1769904000000,"g":"2026-01-31"},"f":[1,2.5e3]}
{"a":null,"f":[]}"#;

#[test]
fn json_lines() {
    let json = Json::new(shape(), Some(berlin()));
    fuzz("json", FAST, vec![OBJECT.to_vec()], |input| decode(&json, input, false));
}

fn berlin() -> manumit_codec::TimeZone {
    "Europe/Berlin".parse().unwrap()
}

#[test]
fn json_documents() {
    let document = JsonDocument::new("x.rows", Json::new(shape(), None));
    let seed = [br#"{"y":[1,"]"],"x":{"rows":["#, &OBJECT[..120], br#"}]}}"#].concat();
    fuzz("document", FAST, vec![seed, OBJECT.to_vec()], |input| decode(&document, input, false));
}

#[test]
fn csv() {
    let fields: Vec<RawField> = shape().into_iter().take(4).collect();
    let csv = Csv::new(fields, b';', Some(berlin()));
    let seed = b"a;b;c;t\nx;1;2.5;2026-03-31T10:00:00\n\"y;\"\"z\";;;\n".to_vec();
    fuzz("csv", FAST, vec![seed], |input| decode(&csv, input, true));
}

#[test]
fn parquet() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.parquet");
    let rows = RecordBatch::try_from_iter([
        ("a", Arc::new(StringArray::from(vec![Some("x"), None, Some("zz")])) as ArrayRef),
        ("b", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef),
    ])
    .unwrap();
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(std::fs::File::create(&path).unwrap(), rows.schema(), None)
            .unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    let seed = std::fs::read(&path).unwrap();
    fuzz("parquet", FAST / 5, vec![seed], |input| {
        std::fs::write(&path, input).unwrap();
        let Ok(_) = parquet_schema(&path) else { return };
        let Ok(batches) = parquet_batches(&path, 16) else { return };
        // A damaged file may claim any number of rows.
        batches.take(64).for_each(drop);
    });
}

/// Texts of the built-in pack.
fn texts(folder: &str, name: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(name) {
                found.push(path);
            }
        }
    }
    found.sort();
    found.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn indicators() {
    fuzz("indicator", SLOW, texts("rules/indicators", ".toml"), |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let sources = Sources::from_files([("rules/indicators/x.toml".into(), text.to_string())]);
        if let Err(faults) = manumit_rules::load(&sources, &Sql::new()) {
            assert!(!faults.to_string().is_empty());
        }
    });
}

#[test]
fn typologies() {
    fuzz("typology", SLOW, texts("rules/typologies", "typology.toml"), |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let sources = Sources::from_files([("rules/typologies/x/typology.toml".into(), text.to_string())]);
        drop(manumit_rules::load(&sources, &Sql::new()).map_err(|faults| faults.to_string()));
    });
}

#[test]
fn feeds() {
    fuzz("feed", SLOW, texts("sql/feeds", ".sql"), |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let loaded = Feed::load("x", Path::new("sql/feeds/x.sql"), text.into(), &Sql::new(), None);
        drop(loaded.map_err(|faults| faults.to_string()));
    });
}
