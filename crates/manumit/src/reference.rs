//! Reference tables from files and topics.
//!
//! Files are read once, at the start: a fault refuses the start. Topics of JSON objects are read to their present end
//! before the first transaction, and a service goes on following them; a message that cannot be used is set aside, and so is a row that
//! memory has no room for.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, bail};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use manumit_io::{TopicMessage, TopicReader};
use manumit_model::{DeadLetter, Position, Stage};
use manumit_sql::Sql;
use manumit_sql::reference::{Reference, SharedReference, Table};
use serde_json::Value;

use crate::config::Config;

/// Dead letters of rows that have no room: the first ones tell what there is to tell, and all are counted.
const LETTERS_WHEN_FULL: u64 = 1_000;

/// Letters on their way from the thread that follows topics; it waits when there are more.
const LETTERS_UNDER_WAY: usize = 1_000;

/// What was loaded, and what there is to follow.
pub struct Loaded {
    /// Topics by their tables.
    topics: Vec<(Table, TopicReader)>,
    /// What they may take.
    pub room: Arc<Room>,
}

/// What tables from topics may take in memory, and what became of that.
#[derive(Debug)]
pub struct Room {
    /// Bytes that tables from files take, which come on top.
    files: u64,
    allowance: u64,
    refused: AtomicU64,
    warned: AtomicBool,
}

impl Room {
    /// Rows that were refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Bytes that tables from files take.
    pub fn files(&self) -> u64 {
        self.files
    }

    /// Counts refused rows and says so the first time; says early that it will come to that.
    fn note(&self, table: Table, taken: u64, refused: u64) {
        let taken = taken.saturating_sub(self.files);
        let (table, mib, of) = (table.name(), taken >> 20, self.allowance >> 20);
        if refused > 0 && self.refused.fetch_add(refused, Ordering::Relaxed) == 0 {
            self.warned.store(true, Ordering::Relaxed);
            tracing::error!(
                table,
                mib,
                of,
                "memory for reference tables is full: rows of keys that are not known are refused, and what rules know of accounts and \
                 customers lacks them; give more by `reference` in [limits]"
            );
        } else if taken / 4 >= self.allowance / 5 && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                table,
                mib,
                of,
                "reference tables from topics take four fifths of their memory; give more by `reference` in [limits]. When all is taken, rows \
                 of new keys are refused"
            );
        }
    }
}

/// Loads the reference tables that the configuration names, topics to their present end. Messages that cannot be used are counted only.
///
/// # Errors
/// Names the file, the row and the value that cannot be used, or the topic that cannot be read.
pub fn load_reference(config: &Config, sql: &Sql) -> anyhow::Result<()> {
    let mut loaded = load_files(config, sql)?;
    let mut aside = 0_u64;
    loaded.read_topics(sql.reference(), &mut |_| {
        aside += 1;
        Ok(())
    })?;
    if aside > 0 {
        tracing::warn!(
            messages = aside,
            "messages of reference topics cannot be used; a run gives each as a dead letter"
        );
    }
    Ok(())
}

/// Bytes that tables from files take in memory: they are read for that.
///
/// # Errors
/// Names the file, the row and the value that cannot be used.
pub fn bytes_of_files(config: &Config) -> anyhow::Result<u64> {
    let sql = Sql::new();
    read_files(config, sql.reference())?;
    Ok(sql.reference().get().bytes())
}

/// Loads the tables that come from files, and finds the topics of the others.
///
/// # Errors
/// Names the file, the row and the value that cannot be used, or the topic that is not there.
pub fn load_files(config: &Config, sql: &Sql) -> anyhow::Result<Loaded> {
    read_files(config, sql.reference())?;
    let mut topics = Vec::new();
    for (table, topic) in config.reference.topics() {
        let reader = TopicReader::open(&config.kafka.settings(), topic);
        topics.push((table, reader.with_context(|| format!("reference table kafka:{topic}"))?));
    }
    let room = Room {
        files: sql.reference().get().bytes_of_rows(),
        allowance: config.limits.reference_bytes()?,
        refused: AtomicU64::new(0),
        warned: AtomicBool::new(false),
    };
    Ok(Loaded { topics, room: Arc::new(room) })
}

fn read_files(config: &Config, reference: &SharedReference) -> anyhow::Result<()> {
    for (table, path) in config.reference.files() {
        let what = || format!("reference table {}", path.display());
        if let Some(batch) = reference_rows(table, path).with_context(what)? {
            let added = reference.update(|reference| reference.add_rows(table, &batch));
            added
                .map_err(|mut error| {
                    // The first line of a CSV file names the columns; a fault of these stands there.
                    let named = table.keys().iter().all(|key| batch.column_by_name(key).is_some());
                    error.line += usize::from(named && path.extension().is_some_and(|kind| kind == "csv"));
                    error
                })
                .with_context(what)?;
        }
    }
    Ok(())
}

impl Loaded {
    /// Reads the topics to their present end; `aside` is given the messages that cannot be used.
    ///
    /// # Errors
    /// Names the topic that cannot be read; what `aside` gives.
    pub fn read_topics(
        &mut self,
        reference: &SharedReference,
        aside: &mut dyn FnMut(DeadLetter) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        for (table, reader) in &mut self.topics {
            let topic = reader.topic().to_string();
            while let Some(messages) =
                reader.to_end().with_context(|| format!("reference table kafka:{topic}"))?
            {
                for letter in take(*table, &topic, messages, reference, &self.room) {
                    aside(letter)?;
                }
            }
        }
        Ok(())
    }

    /// Follows the topics until `stop`, in a thread of its own; messages that cannot be used come out of the channel, and are to be taken.
    pub(crate) fn follow(
        self,
        reference: SharedReference,
        stop: Arc<AtomicBool>,
    ) -> std::io::Result<Option<(Receiver<DeadLetter>, JoinHandle<()>)>> {
        let Loaded { mut topics, room } = self;
        if topics.is_empty() {
            return Ok(None);
        }
        let (sender, letters) = sync_channel(LETTERS_UNDER_WAY);
        let thread = std::thread::Builder::new().name("reference".into()).spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for (table, reader) in &mut topics {
                    let topic = reader.topic().to_string();
                    match reader.poll(Duration::from_millis(200)) {
                        Ok(messages) => {
                            for letter in take(*table, &topic, messages, &reference, &room) {
                                // Nobody listens only when the run has ended.
                                let _ = sender.send(letter);
                            }
                        }
                        Err(error) => {
                            tracing::warn!(%topic, %error, "a reference topic cannot be followed; trying again");
                            std::thread::sleep(Duration::from_secs(1));
                        }
                    }
                }
            }
        })?;
        Ok(Some((letters, thread)))
    }
}

/// Columns that a message may give.
fn names(table: Table) -> Vec<String> {
    let mut names: Vec<String> = table.keys().iter().map(ToString::to_string).collect();
    names.extend(table.columns().iter().map(|(name, _)| (*name).to_string()));
    names.extend(["valid_from", "valid_to"].map(String::from));
    names.dedup();
    names
}

type Object = serde_json::Map<String, Value>;

/// Takes messages into a table; all good ones, even beside bad ones, as long as there is room.
fn take(
    table: Table,
    topic: &str,
    messages: Vec<TopicMessage>,
    reference: &SharedReference,
    room: &Room,
) -> Vec<DeadLetter> {
    let mut letters = Vec::new();
    let mut good: Vec<(TopicMessage, Object)> = Vec::new();
    for message in messages {
        let letter = |reason: &str, words: &str| letter(table, topic, &message, reason, words);
        match message.bytes {
            None => {
                let words = "its batch cannot be unfolded: it is damaged, or would take more than `receive.message.max.bytes`";
                letters.push(letter("not_unfolded", words));
            }
            // A tombstone says that compaction may forget a key: what was valid in the past stays.
            Some(0) => {}
            Some(bytes) if bytes > message.payload.len() as u64 => {
                letters.push(letter(
                    "oversized",
                    &format!("a reference row of {bytes} bytes; it may have 1 MiB"),
                ));
            }
            Some(_) => match serde_json::from_slice(&message.payload) {
                Ok(Value::Object(object)) => good.push((message, object)),
                Ok(_) => letters.push(letter(BAD, "a reference row is one JSON object")),
                Err(error) => letters.push(letter(BAD, &format!("this is not JSON: {error}"))),
            },
        }
    }
    if good.is_empty() {
        return letters;
    }
    let all = |good: &[(TopicMessage, Object)]| {
        let rows: Vec<&Object> = good.iter().map(|(_, object)| object).collect();
        add(table, &rows, reference, room)
    };
    let refused = all(&good).or_else(|_| {
        // Which are bad is found without adding any: each time one is added the table is copied.
        good.retain(|(message, object)| {
            let checked = rows_of(table, &[object])
                .and_then(|row| Reference::check(table, &row).map_err(|e| e.message));
            checked.map_err(|words| letters.push(letter(table, topic, message, BAD, &words))).is_ok()
        });
        all(&good)
    });
    let refused = refused.unwrap_or_else(|words| {
        // Each is good, and all of them are too much.
        letters.extend(good.iter().map(|(message, _)| letter(table, topic, message, BAD, &words)));
        Vec::new()
    });
    let before = room.refused();
    room.note(table, reference.get().bytes_of_rows(), refused.len() as u64);
    let told = LETTERS_WHEN_FULL.saturating_sub(before) as usize;
    let words =
        "memory for reference tables is full, so this row is refused; give more by `reference` in [limits]";
    let refused = refused.iter().take(told).filter_map(|&at| good.get(at));
    letters.extend(refused.map(|(message, _)| letter(table, topic, message, "reference_full", words)));
    letters
}

/// Adds rows; gives the places of those that have no room.
fn add(
    table: Table,
    rows: &[&Object],
    reference: &SharedReference,
    room: &Room,
) -> Result<Vec<usize>, String> {
    let batch = rows_of(table, rows)?;
    let most = room.files.saturating_add(room.allowance);
    let within = |reference: &mut Reference| reference.add_rows_within(table, &batch, most);
    reference.update(within).map_err(|e| e.message)
}

/// Objects as rows of texts.
fn rows_of(table: Table, rows: &[&Object]) -> Result<RecordBatch, String> {
    let columns = names(table).into_iter().map(|name| {
        let cell = |row: &&Object| match row.get(&name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => Some(other.to_string()),
        };
        let column: StringArray = rows.iter().map(cell).collect();
        (name.clone(), Arc::new(column) as ArrayRef)
    });
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))
        .map_err(|e| e.to_string())
}

/// The reason of messages that are no rows of their table.
const BAD: &str = "bad_reference_row";

fn letter(table: Table, topic: &str, message: &TopicMessage, reason: &str, words: &str) -> DeadLetter {
    let position = Position { source: topic.into(), partition: message.partition, offset: message.offset };
    let feed = format!("reference:{}", table.name());
    let mut letter =
        DeadLetter::new(&feed, position, Stage::Decode, reason, words).with_raw(&message.payload);
    letter.raw_bytes = message.bytes.unwrap_or(0);
    letter.raw_truncated = message.bytes != Some(message.payload.len() as u64);
    letter
}

/// Rows that a reader decodes at once: it clears room for all of them before it has seen the first.
const ROWS_A_BATCH: usize = 8192;

/// Rows of a reference file, all columns as text; in one batch, as a fault is told by the number of its row in it.
fn reference_rows(table: Table, path: &Path) -> anyhow::Result<Option<RecordBatch>> {
    use arrow::datatypes::{DataType, Field, Schema};
    let open = || std::fs::File::open(path).map(std::io::BufReader::new);
    let text = |names: Vec<String>| {
        Arc::new(Schema::new(
            names.into_iter().map(|n| Field::new(n, DataType::Utf8, true)).collect::<Vec<_>>(),
        ))
    };
    let kind = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    let batches = match kind.as_str() {
        "csv" => {
            let format = arrow::csv::reader::Format::default().with_header(true);
            let (found, _) = format.infer_schema(open()?, Some(0))?;
            let schema = text(found.fields().iter().map(|f| f.name().trim().to_string()).collect());
            let reader = arrow::csv::ReaderBuilder::new(schema)
                .with_header(true)
                .with_batch_size(ROWS_A_BATCH)
                .build(open()?)?;
            reader.collect::<Result<Vec<_>, _>>()?
        }
        "jsonl" | "ndjson" | "json" => {
            let reader = arrow::json::ReaderBuilder::new(text(names(table)))
                .with_coerce_primitive(true)
                .with_batch_size(ROWS_A_BATCH)
                .build(open()?)?;
            reader.collect::<Result<Vec<_>, _>>()?
        }
        "parquet" => manumit_codec::parquet_batches(path, ROWS_A_BATCH)?.collect::<Result<Vec<_>, _>>()?,
        other => bail!("`.{other}` is no format of reference tables; use .csv, .jsonl or .parquet"),
    };
    let whole = batches.first().map(|first| concat_batches(&first.schema(), &batches)).transpose()?;
    Ok(whole)
}
