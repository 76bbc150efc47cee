//! Reference tables from files and topics.
//!
//! Files are read once, at the start: a fault refuses the start. Topics of JSON objects are read to their present end
//! before the first transaction, and a service goes on following them; a message that cannot be used is set aside.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, bail};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use manumit_io::{TopicMessage, TopicReader};
use manumit_model::{DeadLetter, Position, Stage};
use manumit_sql::Sql;
use manumit_sql::reference::{SharedReference, Table};
use serde_json::Value;

use crate::config::Config;

/// What was loaded.
#[derive(Default)]
pub struct Loaded {
    /// Messages of topics that could not be used.
    pub letters: Vec<DeadLetter>,
    /// Topics to follow.
    topics: Vec<(Table, TopicReader)>,
}

/// Loads the reference tables that the configuration names.
///
/// # Errors
/// Names the file, the row and the value that cannot be used, or the topic that cannot be read.
pub fn load_reference(config: &Config, sql: &Sql) -> anyhow::Result<Loaded> {
    let mut loaded = Loaded::default();
    for (table, path) in config.reference.tables() {
        let Some(path) = path else { continue };
        let what = || format!("reference table {}", path.display());
        if let Some(topic) = path.to_str().and_then(|p| p.strip_prefix("kafka:")) {
            let mut reader = TopicReader::open(&config.kafka.settings(), topic).with_context(what)?;
            let messages = reader.to_end().with_context(what)?;
            loaded.letters.extend(take(table, topic, messages, sql.reference()));
            loaded.topics.push((table, reader));
            continue;
        }
        if let Some(batch) = reference_rows(table, path).with_context(what)? {
            let added = sql.reference().update(|reference| reference.add_rows(table, &batch));
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
    Ok(loaded)
}

impl Loaded {
    /// Follows the topics until `stop`, in a thread of its own; messages that cannot be used come out of the channel.
    pub(crate) fn follow(
        self,
        reference: SharedReference,
        stop: Arc<AtomicBool>,
    ) -> std::io::Result<Option<(Receiver<DeadLetter>, JoinHandle<()>)>> {
        let mut topics = self.topics;
        if topics.is_empty() {
            return Ok(None);
        }
        let (sender, letters) = channel();
        let thread = std::thread::Builder::new().name("reference".into()).spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for (table, reader) in &mut topics {
                    let topic = reader.topic().to_string();
                    match reader.poll(Duration::from_millis(200)) {
                        Ok(messages) => {
                            for letter in take(*table, &topic, messages, &reference) {
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

/// Takes messages into a table; all good ones, even beside bad ones.
fn take(
    table: Table,
    topic: &str,
    messages: Vec<TopicMessage>,
    reference: &SharedReference,
) -> Vec<DeadLetter> {
    let mut letters = Vec::new();
    let mut good: Vec<(TopicMessage, serde_json::Map<String, Value>)> = Vec::new();
    // A tombstone says that compaction may forget a key: what was valid in the past stays.
    for message in messages.into_iter().filter(|m| !m.payload.is_empty()) {
        match serde_json::from_slice(&message.payload) {
            Ok(Value::Object(object)) => good.push((message, object)),
            Ok(_) => letters.push(letter(table, topic, &message, "a reference row is one JSON object")),
            Err(error) => letters.push(letter(table, topic, &message, &format!("this is not JSON: {error}"))),
        }
    }
    let rows: Vec<&serde_json::Map<String, Value>> = good.iter().map(|(_, object)| object).collect();
    if rows.is_empty() || add(table, &rows, reference).is_ok() {
        return letters;
    }
    for (message, object) in &good {
        if let Err(error) = add(table, &[object], reference) {
            letters.push(letter(table, topic, message, &error));
        }
    }
    letters
}

fn add(
    table: Table,
    rows: &[&serde_json::Map<String, Value>],
    reference: &SharedReference,
) -> Result<(), String> {
    let columns = names(table).into_iter().map(|name| {
        let cell = |row: &&serde_json::Map<String, Value>| match row.get(&name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => Some(other.to_string()),
        };
        let column: StringArray = rows.iter().map(cell).collect();
        (name.clone(), Arc::new(column) as ArrayRef)
    });
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))
        .map_err(|e| e.to_string())?;
    reference.update(|reference| reference.add_rows(table, &batch)).map_err(|e| e.message)
}

fn letter(table: Table, topic: &str, message: &TopicMessage, words: &str) -> DeadLetter {
    let position = Position { source: topic.into(), partition: message.partition, offset: message.offset };
    let feed = format!("reference:{}", table.name());
    DeadLetter::new(&feed, position, Stage::Decode, "bad_reference_row", words).with_raw(&message.payload)
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
