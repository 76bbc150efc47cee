//! The targets: every decoder, the cutting of files into records, the mapping of a feed, and the readers of feed and rule files.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use manumit_codec::{
    Csv, Decoder, Json, JsonDocument, RawField, RawType, TimeZone, parquet_batches, parquet_schema,
};
use manumit_feed::Feed;
use manumit_io::{FilePlace, FileSource, Framing};
use manumit_model::Records;
use manumit_rules::Sources;
use manumit_sql::Sql;

use crate::root;

/// Reads an input; false when it is refused. Panics are what is looked for.
type Reads = dyn Fn(&[u8]) -> bool + Send + Sync;

/// Something that reads what others wrote.
pub struct Target {
    /// Inputs that it takes; where mutations begin.
    pub seeds: Vec<Vec<u8>>,
    /// Each input plans SQL: some milliseconds, not microseconds.
    pub slow: bool,
    run: Box<Reads>,
}

impl Target {
    fn new(seeds: Vec<Vec<u8>>, run: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> Target {
        Target { seeds, slow: false, run: Box::new(run) }
    }

    fn of_texts(
        seeds: Vec<Vec<u8>>,
        run: impl Fn(String) -> Result<(), String> + Send + Sync + 'static,
    ) -> Target {
        let run = move |input: &[u8]| match String::from_utf8(input.to_vec()) {
            // Whoever reads files has refused it already.
            Err(_) => false,
            Ok(text) => match run(text) {
                Ok(()) => true,
                Err(faults) => {
                    assert!(!faults.trim().is_empty(), "it is refused without a word");
                    false
                }
            },
        };
        Target { slow: true, ..Target::new(seeds, run) }
    }

    /// Reads an input; true where something of it was taken.
    ///
    /// # Panics
    /// Where a property does not hold.
    pub fn run(&self, input: &[u8]) -> bool {
        (self.run)(input)
    }
}

/// All targets.
pub const NAMES: [&str; 10] =
    ["json", "document", "csv", "parquet", "cut", "mapping", "feed", "indicator", "query", "typology"];

/// The target of a name; `None` where there is none.
///
/// # Panics
/// When the project's own files cannot be read.
pub fn target(name: &str) -> Option<Target> {
    Some(match name {
        "json" => json(),
        "document" => document(),
        "csv" => csv(),
        "parquet" => parquet(),
        "cut" => cut(),
        "mapping" => mapping(),
        "feed" => feed(),
        "indicator" => indicator(),
        "query" => query(),
        "typology" => typology(),
        _ => return None,
    })
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

fn berlin() -> TimeZone {
    "Europe/Berlin".parse().unwrap()
}

/// Lines as records, the first one a header where the format has one.
fn lines(input: &[u8], header: bool) -> Records {
    let mut lines = input.split(|&b| b == b'\n');
    let mut records = Records::new("fuzz".into(), 0, 2_000_000_000_000_000);
    records.header = header.then(|| lines.next().unwrap_or_default().into());
    lines.zip(1..).for_each(|(line, offset)| records.push(offset, line));
    records
}

/// Decodes, and holds that each record came out once: as a row, or as a fault with a reason and words.
fn decode(decoder: &dyn Decoder, records: &Records) -> bool {
    let decoded = decoder.decode(records).unwrap();
    let given = decoded.split.as_ref().unwrap_or(records).len();
    let mut seen = decoded.rows.clone();
    seen.extend(decoded.faults.iter().map(|fault| fault.record));
    seen.sort_unstable();
    assert_eq!(seen, (0..given).collect::<Vec<_>>(), "a record was lost or came twice");
    assert_eq!(decoded.batch.num_rows(), decoded.rows.len(), "rows without records");
    for fault in &decoded.faults {
        assert!(!fault.reason.is_empty() && fault.message.len() >= 10, "a fault without words: {fault:?}");
    }
    !decoded.rows.is_empty()
}

const OBJECT: &[u8] = br#"{"a":"x\u00e9\n","b":-7,"c":"12.3400","t":"2026-03-31T10:00:00+02:00","d":{"e":1769904000000,"g":"2026-01-31"},"f":[1,2.5e3]}
{"a":null,"f":[]}"#;

fn json() -> Target {
    let json = Json::new(shape(), Some(berlin()));
    Target::new(vec![OBJECT.to_vec()], move |input| decode(&json, &lines(input, false)))
}

fn document() -> Target {
    let document = JsonDocument::new("x.rows", Json::new(shape(), None));
    let record = OBJECT.split(|&b| b == b'\n').next().unwrap();
    let seed = [br#"{"y":[1,"]"],"x":{"rows":["#, record, br#","#, record, br#"]}}"#].concat();
    Target::new(vec![seed], move |input| {
        let mut records = Records::new("fuzz".into(), 0, 0);
        records.push(0, input);
        decode(&document, &records)
    })
}

fn csv() -> Target {
    let fields: Vec<RawField> = shape().into_iter().take(4).collect();
    let csv = Csv::new(fields, b';', Some(berlin()));
    let seed = b"a;b;c;t\nx;1;2.5;2026-03-31T10:00:00\n\"y;\"\"z\";;;\n".to_vec();
    Target::new(vec![seed], move |input| decode(&csv, &lines(input, true)))
}

/// Rows of a Parquet file that are looked at: a damaged one may claim any number.
const ROWS: usize = 1 << 16;

fn parquet() -> Target {
    let folder = tempfile::tempdir().unwrap();
    let rows = RecordBatch::try_from_iter([
        ("a", Arc::new(StringArray::from(vec![Some("x"), None, Some("zz")])) as ArrayRef),
        ("b", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef),
    ])
    .unwrap();
    let mut file = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut file, rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    Target::new(vec![file], move |input| {
        let path = folder.path().join("rows.parquet");
        std::fs::write(&path, input).unwrap();
        let Ok(_) = parquet_schema(&path) else { return false };
        let Ok(batches) = parquet_batches(&path, 16) else { return false };
        batches.take(ROWS / 16).filter(Result::is_ok).count() > 0
    })
}

/// Numbers and bytes of the records of a file, or of a part of it, and where that ended.
fn cut_up(mut source: FileSource) -> (Vec<(i64, Vec<u8>)>, FilePlace) {
    let mut all = Vec::new();
    while let Some(records) = source.next_batch().unwrap() {
        all.extend((0..records.len()).map(|index| (records.offsets[index], records.get(index).to_vec())));
    }
    (all, source.place())
}

/// A file read in two parts gives the records of the file read at once, wherever it is divided: what a restart relies on.
fn cut() -> Target {
    let folder = tempfile::tempdir().unwrap();
    let seeds =
        [&b"\x05\x00a;b\n1;\"x\ny\"\n\n2;z\r\nlast"[..], b"\x10\x01{\"a\":1}\r\n\r\n{\"a\":2}\nx\n\n"];
    Target::new(seeds.iter().map(|seed| seed.to_vec()).collect(), move |input| {
        let [at, kind, bytes @ ..] = input else { return false };
        let framing = [Framing::Csv { header: true }, Framing::Lines, Framing::Csv { header: false }]
            [usize::from(kind % 3)];
        let most = if kind & 0x80 == 0 { 1 << 20 } else { 8 };
        let path = folder.path().join("cut");
        std::fs::write(&path, bytes).unwrap();
        let length = bytes.len() as u64;
        let part = |from, to| cut_up(FileSource::part(&path, framing, most, from, to).unwrap());
        let (whole, end) = part(FilePlace::default(), length);
        let opened = FileSource::open(&[path.display().to_string()], framing, most).unwrap();
        assert_eq!(cut_up(opened).0, whole, "a part that is the whole");
        let middle = u64::from(*at) * length / 255;
        let (mut parts, place) = part(FilePlace::default(), middle);
        assert!(place.bytes <= middle, "more was read than the part has");
        let (rest, last) = part(place, length);
        parts.extend(rest);
        assert_eq!(parts, whole, "divided at {middle}");
        assert!(last.bytes <= length && end.bytes <= length, "a place behind the end");
        !whole.is_empty()
    })
}

const BANK: &str = r#"---
format = "jsonl"
time_zone = "Europe/Berlin"
lateness = "10 minutes"
country = "DE"

[raw]
id = "text"
day = "text"
booked = "timestamp"
amount = "decimal"
currency = "text"
kind = "text"
debtor = { iban = "text", name = "text" }
creditor = { iban = "text", name = "text" }
mcc = "text"
lat = "number"
tags = ["text"]
parts = [{ number = "integer", sum = "decimal" }]
---
SELECT
  id || '-' || unnest(parts).number AS tx_id,
  coalesce(booked, to_timestamp(day, '%d.%m.%Y')) AS event_time,
  abs(unnest(parts).sum + amount) AS amount,
  currency,
  CASE WHEN amount < 0 THEN creditor.iban ELSE debtor.iban END AS debtor_account,
  CASE WHEN amount < 0 THEN debtor.iban ELSE creditor.iban END AS creditor_account,
  substr(debtor.name, 1, 40) AS debtor_name,
  kind AS method,
  mcc,
  lat AS latitude,
  array_to_string(tags, ' ') AS memo
FROM raw
WHERE kind <> 'ignored'
"#;

const PAYMENTS: &[u8] = br#"{"id":"t1","booked":"2026-03-01T10:00:00+01:00","amount":-12.50,"currency":"EUR","kind":"transfer","debtor":{"iban":"A1","name":"Ann"},"creditor":{"iban":"B"},"mcc":"7011","lat":52.5,"tags":["x","y"],"parts":[{"number":1,"sum":"1.00"},{"number":2,"sum":-3}]}
{"id":"t2","day":"31.03.2026","amount":"99","currency":"JPY","kind":"card","creditor":{"iban":"C"},"parts":[]}
{"id":"t3","day":"30.02.2026","amount":"99999999999999999999999999999999999999","currency":"EUR","kind":"ignored","parts":null}"#;

/// Records through a feed: every one is mapped, left out, or a dead letter that can be published.
fn mapping() -> Target {
    let feed = Feed::load("bank", Path::new("sql/feeds/bank.sql"), BANK.into(), &Sql::new(), None);
    let feed = feed.map_err(|faults| faults.to_string()).unwrap();
    Target::new(vec![PAYMENTS.to_vec()], move |input| {
        let records = lines(input, false);
        let mapped = feed.map(&records).unwrap();
        let rows = mapped.transactions.num_rows();
        assert_eq!(mapped.read as usize, records.len(), "records are counted as they were given");
        let went = mapped.filtered as usize + mapped.dead_letters.len() + rows;
        assert_eq!((mapped.read + mapped.further) as usize, went, "a record was lost or came twice");
        for letter in &mapped.dead_letters {
            let said = [&letter.reason, &letter.message].iter().all(|words| !words.is_empty());
            assert!(
                said && serde_json::to_string(letter).is_ok(),
                "a letter that cannot be sent: {letter:?}"
            );
        }
        rows > 0
    })
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

fn feed() -> Target {
    let seeds = [texts("sql/feeds", ".sql"), vec![BANK.as_bytes().to_vec()]].concat();
    let sql = Sql::new();
    Target::of_texts(seeds, move |text| {
        let loaded = Feed::load("x", Path::new("sql/feeds/x.sql"), text.into(), &sql, None);
        loaded.map(drop).map_err(|faults| faults.to_string())
    })
}

/// Files of the pack that rules refer to.
fn pack(of: impl Fn(&Path) -> bool) -> Sources {
    let all = Sources::read(&root()).unwrap();
    let kept = all.iter().filter(|(path, _)| of(path));
    Sources::from_files(kept.map(|(path, text)| (path.to_path_buf(), text.to_string())))
}

/// Lists, groups and keywords.
fn tables() -> Sources {
    pack(|path| path.starts_with("rules/lists") || path.parent() == Some(Path::new("rules")))
}

/// Loads files beside those of the pack.
fn load(
    around: &Sources,
    sql: &Sql,
    files: impl IntoIterator<Item = (String, String)>,
) -> Result<(), String> {
    let mut sources = around.clone();
    sources.extend(Sources::from_files(files.into_iter().map(|(path, text)| (path.into(), text))));
    manumit_rules::load(&sources, sql).map(drop).map_err(|faults| faults.to_string())
}

fn indicator() -> Target {
    let (around, sql) = (tables(), Sql::new());
    Target::of_texts(texts("rules/indicators", ".toml"), move |text| {
        // Its id must be the file's name; otherwise that would be the fault of every seed.
        load(&around, &sql, [(format!("rules/indicators/{}.toml", id_of(&text)), text)])
    })
}

/// The id that a rule says it has, as far as it can be the name of a file.
fn id_of(text: &str) -> String {
    let id = text.lines().find_map(|line| line.strip_prefix("id = \"")?.split('"').next());
    let fits = |id: &&str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    id.filter(fits).unwrap_or("x").to_string()
}

/// An author's SQL, beside a front matter that stays as it is.
fn query() -> Target {
    let (around, sql) = (tables(), Sql::new());
    let folder = "sql/indicators/drained-by-evening";
    let front = std::fs::read_to_string(root().join(folder).join("indicator.toml")).unwrap();
    Target::of_texts(texts("sql/indicators", "query.sql"), move |text| {
        let files = [("indicator.toml", front.clone()), ("query.sql", text)];
        load(&around, &sql, files.map(|(name, text)| (format!("{folder}/{name}"), text)))
    })
}

fn typology() -> Target {
    let (around, sql) = (tables(), Sql::new());
    let known = pack(|path| path.starts_with("rules/indicators") || path.starts_with("sql/indicators"));
    Target::of_texts(texts("rules/typologies", "typology.toml"), move |text| {
        // All of the pack's indicators would take most of the time.
        let named = known.iter().filter(|(path, _)| {
            let folder = path.parent().filter(|_| path.starts_with("sql"));
            let id = folder.map_or_else(|| path.file_stem(), Path::file_name);
            id.is_some_and(|id| text.contains(&format!("\"{}\"", id.to_string_lossy())))
        });
        let mut files: Vec<(String, String)> =
            named.map(|(path, text)| (path.display().to_string(), text.to_string())).collect();
        files.push((format!("rules/typologies/x/{}/typology.toml", id_of(&text)), text));
        load(&around, &sql, files)
    })
}
