//! Sinks of JSON objects: standard output, files, topics.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::str::FromStr;

use crate::{IoError, KafkaSettings, KafkaWriter};

/// Where a sink writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkTarget {
    /// `-`.
    Stdout,
    /// A file of JSON lines.
    File(PathBuf),
    /// `kafka:TOPIC`.
    Topic(String),
}

impl FromStr for SinkTarget {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.strip_prefix("kafka:") {
            Some(topic) => SinkTarget::Topic(topic.to_string()),
            None if text == "-" => SinkTarget::Stdout,
            None => SinkTarget::File(PathBuf::from(text)),
        })
    }
}

/// An open sink.
pub struct Sink(Kind);

enum Kind {
    Stdout,
    File { path: PathBuf, writer: BufWriter<File> },
    Topic(KafkaWriter),
}

impl Sink {
    /// Opens a sink; files are appended to, unless `truncate`.
    ///
    /// # Errors
    /// [`IoError`] when the file cannot be written, or the topic's brokers are not configured.
    pub fn open(target: &SinkTarget, kafka: Option<&KafkaSettings>, truncate: bool) -> Result<Sink, IoError> {
        Ok(Sink(match target {
            SinkTarget::Stdout => Kind::Stdout,
            SinkTarget::File(path) => {
                if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
                    std::fs::create_dir_all(parent).map_err(|e| IoError::file(parent, e))?;
                }
                let file = OpenOptions::new()
                    .create(true)
                    .write(true)
                    .append(!truncate)
                    .truncate(truncate)
                    .open(path)
                    .map_err(|e| IoError::file(path, e))?;
                Kind::File { path: path.clone(), writer: BufWriter::with_capacity(1 << 16, file) }
            }
            SinkTarget::Topic(topic) => {
                let settings = kafka.ok_or_else(|| IoError::NoBrokers { topic: topic.clone() })?;
                Kind::Topic(KafkaWriter::open(settings, topic)?)
            }
        }))
    }

    /// Longest object in bytes that the sink takes; files take any.
    pub fn limit(&self) -> usize {
        match &self.0 {
            Kind::Topic(writer) => writer.limit(),
            _ => usize::MAX,
        }
    }

    /// Writes one object: one line, or one message with this key.
    ///
    /// # Errors
    /// [`IoError`] when it cannot be written, or an earlier message could not be delivered.
    pub fn send(&mut self, key: &str, json: &[u8]) -> Result<(), IoError> {
        match &mut self.0 {
            Kind::Stdout => {
                let mut out = std::io::stdout().lock();
                let written = out.write_all(json).and_then(|()| out.write_all(b"\n"));
                written.map_err(|e| IoError::file("stdout", e))
            }
            Kind::File { path, writer } => {
                let written = writer.write_all(json).and_then(|()| writer.write_all(b"\n"));
                written.map_err(|e| IoError::file(path, e))
            }
            Kind::Topic(writer) => writer.send(key, json, None),
        }
    }

    /// Waits until everything sent is safe.
    ///
    /// # Errors
    /// [`IoError`] when something could not be written or delivered.
    pub fn flush(&mut self) -> Result<(), IoError> {
        match &mut self.0 {
            Kind::Stdout => std::io::stdout().lock().flush().map_err(|e| IoError::file("stdout", e)),
            Kind::File { path, writer } => writer.flush().map_err(|e| IoError::file(path, e)),
            Kind::Topic(writer) => writer.flush(),
        }
    }
}
