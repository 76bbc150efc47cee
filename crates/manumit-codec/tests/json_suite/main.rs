//! Hostile JSON: what is no JSON object is refused with a reason, what is one is read as what it says, nothing is lost and
//! nothing crashes; whatever stands before and behind it in the batch is read all the same.
//!
//! Whether a document is JSON is asked of `serde_json`, which the decoder does not ask. A folder of documents named `y_…`,
//! `n_…`, `i_…`, as the public suites have them, can be given as `MANUMIT_JSON_SUITE`.

// A test fails by panicking; the lints that forbid it are meant for the product.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cases;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;

use arrow::array::{Array as _, AsArray as _};
use arrow::datatypes::Int64Type;
use cases::Case;
use manumit_codec::{Csv, Decoded, Decoder, Json, JsonDocument, RawField, RawType};
use manumit_model::Records;
use serde_json::Value;

fn shape() -> Vec<RawField> {
    let field = |name: &str, data_type| RawField { name: name.into(), data_type };
    vec![
        field("a", RawType::Text),
        field("b", RawType::Integer),
        field("c", RawType::Decimal),
        field("d", RawType::Struct(vec![field("e", RawType::Text)])),
        field("f", RawType::List(Box::new(RawType::Text))),
    ]
}

fn records(of: &[&[u8]]) -> Records {
    let mut records = Records::new("hostile".into(), 0, 0);
    of.iter().zip(1..).for_each(|(bytes, offset)| records.push(offset, bytes));
    records
}

/// Reasons that a fault may have.
const REASONS: [&str; 11] = [
    "not_json",
    "not_utf8",
    "too_deep",
    "not_csv",
    "wrong_shape",
    "wrong_type",
    "out_of_range",
    "not_an_amount",
    "too_many_decimals",
    "not_a_date",
    "impossible_time",
];

/// Every record came out once, as a row or as a fault with a reason and words.
fn accounted(records: &Records, decoded: &Decoded) -> Result<(), String> {
    let of = decoded.split.as_ref().unwrap_or(records);
    let mut seen: Vec<usize> = decoded.rows.clone();
    seen.extend(decoded.faults.iter().map(|fault| fault.record));
    seen.sort_unstable();
    if seen != (0..of.len()).collect::<Vec<_>>() {
        return Err(format!("{} records became rows and faults of {seen:?}", of.len()));
    }
    if decoded.batch.num_rows() != decoded.rows.len() {
        return Err("rows without records".into());
    }
    match decoded.faults.iter().find(|f| !REASONS.contains(&f.reason) || f.message.len() < 10) {
        Some(fault) => Err(format!("an unknown reason, or no words: {fault:?}")),
        None => Ok(()),
    }
}

/// Where the oracle gives up on what is JSON all the same.
fn left_open(error: &serde_json::Error) -> bool {
    let words = error.to_string();
    ["recursion limit", "number out of range", "surrogate", "unexpected end of hex escape"]
        .iter()
        .any(|known| words.contains(known))
}

/// What is wrong with how a document was treated between two good ones.
fn treated(json: &Json, bytes: &[u8]) -> Result<(), String> {
    let good: [&[u8]; 2] = [b"{\"a\":\"before\",\"b\":1}", b"{\"a\":\"behind\",\"b\":2}"];
    let records = records(&[good[0], bytes, good[1]]);
    let decoded = json.decode(&records).map_err(|error| format!("the decoder failed: {error}"))?;
    accounted(&records, &decoded)?;
    let texts = decoded.batch.column(0).as_string::<i32>();
    let numbers = decoded.batch.column(1).as_primitive::<Int64Type>();
    let row = |record: usize| decoded.rows.iter().position(|&of| of == record);
    for (record, text, number) in [(0, "before", 1), (2, "behind", 2)] {
        let row = row(record).ok_or(format!("the record {text} it was lost"))?;
        if (texts.value(row), numbers.value(row)) != (text, number) {
            return Err(format!("the record {text} it was changed"));
        }
    }
    let fault = decoded.faults.iter().find(|fault| fault.record == 1);
    let reason = fault.map(|fault| fault.reason);
    match (serde_json::from_slice::<Value>(bytes), reason) {
        (Ok(Value::Object(object)), None) => {
            let row = row(1).ok_or("no row")?;
            let read = texts.is_valid(row).then(|| texts.value(row));
            match object.get("a") {
                Some(Value::String(text)) if read != Some(text) => {
                    Err(format!("{text:?} was read as {read:?}"))
                }
                None | Some(Value::Null) if read.is_some() => Err(format!("nothing was read as {read:?}")),
                Some(Value::Bool(_)) | Some(Value::Number(_)) if read.is_none() => {
                    Err("a value was lost".into())
                }
                _ => Ok(()),
            }
        }
        (Ok(Value::Object(_)), Some("not_json" | "not_utf8")) => Err("sound JSON was called none".into()),
        (Ok(Value::Object(_)), Some(_)) => Ok(()),
        (Ok(_), Some("wrong_shape")) => Ok(()),
        (Ok(_), other) => Err(format!("no object, and told as {other:?}")),
        (Err(error), None) if !left_open(&error) => Err(format!("read, though {error}")),
        (Err(error), Some("not_json" | "not_utf8")) if !left_open(&error) => Ok(()),
        (Err(_), Some("too_deep")) => Ok(()),
        (Err(error), Some(other)) if !left_open(&error) => Err(format!("told as {other}, though {error}")),
        (Err(_), _) => Ok(()),
    }
}

/// The name says the same as the oracle.
fn named(case: &Case) -> Result<(), String> {
    match (case.0.as_bytes()[0], serde_json::from_slice::<Value>(&case.1)) {
        (b'y', Err(error)) => Err(format!("the oracle says {error}")),
        (b'n', Ok(_)) => Err("the oracle reads it".into()),
        _ => Ok(()),
    }
}

fn hold(cases: &[Case], trusted: bool) {
    let json = Json::new(shape(), None);
    let mut faults = String::new();
    for case in cases {
        let named = if trusted { named(case) } else { Ok(()) };
        if let Err(why) = named.and_then(|()| treated(&json, &case.1)) {
            writeln!(
                faults,
                "{}: {why}: {}",
                case.0,
                String::from_utf8_lossy(&case.1[..case.1.len().min(80)])
            )
            .unwrap();
        }
    }
    assert!(faults.is_empty(), "{faults}");
}

#[test]
fn every_document_is_read_as_what_it_says_or_refused_with_a_reason() {
    let cases = cases::all();
    let names: BTreeSet<&String> = cases.iter().map(|case| &case.0).collect();
    assert!(names.len() == cases.len() && cases.len() > 700, "{}", cases.len());
    hold(&cases, true);
}

/// Past the capture of tests that pass, so that nobody takes a test that was left out for one that was run.
fn say(words: &str) {
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{words}").unwrap();
}

#[test]
fn a_public_suite_in_a_folder_is_held_to_the_same() {
    let Some(folder) = std::env::var_os("MANUMIT_JSON_SUITE") else {
        say("MANUMIT_JSON_SUITE names no folder of y_*, n_*, i_* documents: only our own were tried");
        return;
    };
    let mut cases: Vec<Case> = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if ["y_", "n_", "i_"].iter().any(|kind| name.starts_with(kind)) {
            cases.push((name, std::fs::read(&path).unwrap()));
        }
    }
    assert!(!cases.is_empty(), "{} holds no such documents", folder.display());
    hold(&cases, false);
    let json = Json::new(shape(), None);
    for (name, bytes) in cases.iter().filter(|case| case.0.starts_with("n_")) {
        let decoded = json.decode(&records(&[bytes])).unwrap();
        assert_eq!(decoded.faults.len(), 1, "{name} was read");
    }
    say(&format!("{} documents of {} were tried", cases.len(), folder.display()));
}

#[test]
fn of_a_member_that_comes_twice_the_last_counts_and_a_document_with_two_lists_is_refused() {
    let json = Json::new(shape(), None);
    let decoded = json.decode(&records(&[b"{\"a\":\"first\",\"b\":1,\"a\":\"last\"}"])).unwrap();
    assert_eq!(decoded.batch.column(0).as_string::<i32>().value(0), "last");
    let document = JsonDocument::new("x.rows", json);
    let twice = b"{\"x\":{\"rows\":[{\"a\":\"one\"}],\"rows\":[{\"a\":\"two\"}]}}";
    let decoded = document.decode(&records(&[twice])).unwrap();
    assert_eq!(decoded.rows.len(), 0);
    assert!(decoded.faults[0].message.contains("has `rows` of `x.rows` twice"), "{:?}", decoded.faults);
}

#[test]
fn what_its_reader_kept_back_is_refused_for_that_and_its_neighbours_are_read() {
    let mut given = records(&[b"{\"a\":\"x\"}", b"", b"{\"a\":\"xx", b"{\"a\":\"y\"}"]);
    given.unreadable.push(1);
    given.oversized.push((2, 9_000_000));
    let decoders: [&dyn Decoder; 3] = [
        &Json::new(shape(), None),
        &JsonDocument::new("", Json::new(shape(), None)),
        &Csv::new(shape()[..1].to_vec(), b';', None),
    ];
    for decoder in decoders {
        let decoded = decoder.decode(&given).unwrap();
        assert_eq!(decoded.rows, [0, 3]);
        let said: Vec<_> = decoded.faults.iter().map(|fault| (fault.record, fault.reason)).collect();
        assert_eq!(said, [(1, "not_unfolded"), (2, "oversized")]);
        assert!(decoded.faults[1].message.contains("9000000 bytes"), "{:?}", decoded.faults);
    }
}

#[test]
fn a_record_of_fifty_megabytes_is_read_or_refused_like_a_small_one() {
    let json = Json::new(shape(), None);
    let long = "x".repeat(50 << 20);
    let good = format!("{{\"a\":\"{long}\"}}").into_bytes();
    let decoded = json.decode(&records(&[&good])).unwrap();
    assert_eq!(decoded.batch.column(0).as_string::<i32>().value(0).len(), long.len());
    let bad = format!("{{\"a\":\"{long}}}").into_bytes();
    let decoded = json.decode(&records(&[&bad, b"{\"a\":\"x\"}"])).unwrap();
    assert_eq!((decoded.rows.len(), decoded.faults[0].reason), (1, "not_json"));
    assert!(decoded.faults[0].message.len() < 1_000);
}

/// SplitMix64: Steele, Lea, Flood, «Fast splittable pseudorandom number generators», OOPSLA 2014.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// Some bytes of one input changed, left out, doubled, or taken from another.
    fn mutated(&mut self, from: &[u8], other: &[u8]) -> Vec<u8> {
        const TELLING: &[u8] = b"\"\\{}[],:+-.eE0123456789truefalsn \t\r\n\0\x1f\x7f\x80\xc3\xed\xf0\xff;'";
        let mut bytes = from.to_vec();
        for _ in 0..1 + self.below(4) {
            let at = self.below(bytes.len() + 1);
            let end = (at + 1 + self.below(12)).min(bytes.len());
            match self.below(7) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 => bytes.insert(at, TELLING[self.below(TELLING.len())]),
                2 if at < bytes.len() => bytes[at] = TELLING[self.below(TELLING.len())],
                3 if at < end => drop(bytes.drain(at..end)),
                4 if at < end => {
                    let part = bytes[at..end].to_vec();
                    bytes.splice(at..at, part);
                }
                5 => {
                    let from = self.below(other.len() + 1);
                    let to = (from + self.below(24)).min(other.len());
                    bytes.splice(at..at, other[from..to].iter().copied());
                }
                _ => bytes.truncate(at),
            }
        }
        bytes
    }
}

/// Inputs that a number of mutations is drawn from; `MANUMIT_MUTATIONS` gives another number.
fn mutations(default: usize) -> usize {
    std::env::var("MANUMIT_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// Inputs that once went wrong, one a file; they are tried before all others.
fn kept(kind: &str) -> Vec<Vec<u8>> {
    let folder = format!("{}/tests/json_suite/kept/{kind}", env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn mutated_documents_are_read_or_refused_as_the_oracle_says() {
    let json = Json::new(shape(), None);
    for bytes in kept("json") {
        treated(&json, &bytes).unwrap_or_else(|why| panic!("{why}: {}", String::from_utf8_lossy(&bytes)));
    }
    let short = |case: &Case| case.1.len() < 2_000;
    let seeds: Vec<Vec<u8>> = cases::all().into_iter().filter(short).map(|case| case.1).collect();
    let mut draws = Draws(1);
    for number in 0..mutations(60_000) {
        let (one, other) = (draws.below(seeds.len()), draws.below(seeds.len()));
        let bytes = draws.mutated(&seeds[one], &seeds[other]);
        if let Err(why) = treated(&json, &bytes) {
            panic!(
                "mutation {number}: {why}; keep it in tests/json_suite/kept/json: {bytes:?} {}",
                String::from_utf8_lossy(&bytes)
            );
        }
    }
}

#[test]
fn mutated_files_of_all_formats_never_crash_and_lose_nothing() {
    let whole = br#"{"x":{"rows":[{"a":"x","b":1},{"a":"y,]}","f":["p"]}]},"y":[1,{"rows":2}]}"#;
    let lines = b"a;b;c\nx;1;2.50\n\"y;z\"\"\";2;\n;;\n".to_vec();
    let document = JsonDocument::new("x.rows", Json::new(shape(), None));
    let csv = Csv::new(shape()[..3].to_vec(), b';', None);
    let mut draws = Draws(2);
    for bytes in kept("document") {
        let records = records(&[&bytes]);
        accounted(&records, &document.decode(&records).unwrap()).unwrap();
    }
    for number in 0..mutations(30_000) {
        let bytes = draws.mutated(whole, &lines);
        let given = records(&[&bytes]);
        let decoded = document.decode(&given).unwrap();
        if let Err(why) = accounted(&given, &decoded) {
            panic!("document {number}: {why}: {bytes:?}");
        }
        let bytes = draws.mutated(&lines, whole);
        let mut parts = bytes.split(|&b| b == b'\n');
        let header = parts.next().unwrap_or_default().to_vec();
        let mut given = records(&parts.collect::<Vec<_>>());
        given.header = Some(header.into());
        let decoded = csv.decode(&given).unwrap();
        if let Err(why) = accounted(&given, &decoded) {
            panic!("csv {number}: {why}: {bytes:?}");
        }
    }
}
