//! Sinks of JSON objects: standard output, files, topics.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::{IoError, KafkaSettings, KafkaWriter, Transactions};

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

/// What the content of sinks follows.
#[derive(Clone, Copy)]
pub enum Commits<'a> {
    /// Kafka transactions.
    Kafka(&'a Transactions),
    /// Checkpoints alone: all sinks are files.
    Checkpoints,
}

/// An open sink.
pub struct Sink(Kind);

enum Kind {
    Stdout,
    File { path: PathBuf, writer: BufWriter<File> },
    Topic(KafkaWriter),
}

/// Keeps others from writing to the file for as long as it is open: lines of two would stand within each other. False when it is none that
/// keeps what is written, such as `/dev/null`.
///
/// # Errors
/// [`IoError::InUse`] when somebody writes to it.
fn hold(path: &Path, file: &File) -> Result<bool, IoError> {
    if !file.metadata().map_err(|e| IoError::file(path, e))?.is_file() {
        return Ok(false);
    }
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(IoError::InUse { path: path.display().to_string() }),
        // A file system that has no locks must do without.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(true),
    }
}

impl Sink {
    /// Opens a sink; files are appended to, unless `truncate`, and held: nobody else may write to them.
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
                    .truncate(false)
                    .open(path)
                    .map_err(|e| IoError::file(path, e))?;
                // Not before it is known to be nobody else's.
                if hold(path, &file)? && truncate {
                    file.set_len(0).map_err(|e| IoError::file(path, e))?;
                }
                Kind::File { path: path.clone(), writer: BufWriter::with_capacity(1 << 16, file) }
            }
            SinkTarget::Topic(topic) => {
                let settings = kafka.ok_or_else(|| IoError::NoBrokers { topic: topic.clone() })?;
                Kind::Topic(KafkaWriter::open(settings, topic)?)
            }
        }))
    }

    /// Opens a sink whose content follows commits: a topic within the transactions, or a file that is cut back to the length
    /// it had at the last commit; `None`: it goes on where it ends.
    ///
    /// # Errors
    /// [`IoError`] when the file cannot be written, is shorter than that, or it is standard output, which cannot be cut back, or
    /// a topic where there are no transactions.
    pub fn committed(
        target: &SinkTarget,
        commits: Commits<'_>,
        length: Option<u64>,
    ) -> Result<Sink, IoError> {
        Ok(Sink(match target {
            SinkTarget::Stdout => {
                return Err(IoError::Setting {
                    name: "output".into(),
                    message: "cannot be standard output with `[checkpoint]`, since what is written there cannot be taken back; name a topic, `kafka:TOPIC`, or a file"
                        .into(),
                });
            }
            SinkTarget::File(path) => {
                if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
                    std::fs::create_dir_all(parent).map_err(|e| IoError::file(parent, e))?;
                }
                let open = OpenOptions::new().create(true).read(true).append(true).open(path);
                let file = open.map_err(|e| IoError::file(path, e))?;
                hold(path, &file)?;
                let there = file.metadata().map_err(|e| IoError::file(path, e))?.len();
                let length = length.unwrap_or(there);
                if there == 0 {
                    // A checkpoint must not know of a file that is gone when the power was.
                    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
                    let folder = parent.unwrap_or_else(|| std::path::Path::new("."));
                    File::open(folder)
                        .and_then(|folder| folder.sync_all())
                        .map_err(|e| IoError::file(folder, e))?;
                }
                if there < length {
                    let why = format!("it has {there} bytes, and had {length} when the checkpoint was made");
                    return Err(IoError::file(path, std::io::Error::other(why)));
                }
                file.set_len(length).map_err(|e| IoError::file(path, e))?;
                Kind::File { path: path.clone(), writer: BufWriter::with_capacity(1 << 16, file) }
            }
            SinkTarget::Topic(topic) => match commits {
                Commits::Kafka(transactions) => Kind::Topic(KafkaWriter::within(transactions, topic)),
                Commits::Checkpoints => {
                    return Err(IoError::Setting {
                        name: "output".into(),
                        message: format!(
                            "cannot be `kafka:{topic}` in a run over files with checkpoints; name a file"
                        ),
                    });
                }
            },
        }))
    }

    /// Length of the file when everything sent is on disk; `None` for others, which commits themselves take care of.
    ///
    /// # Errors
    /// [`IoError`] when something could not be written.
    pub fn settled(&mut self) -> Result<Option<u64>, IoError> {
        let Kind::File { path, writer } = &mut self.0 else { return Ok(None) };
        writer.flush().map_err(|e| IoError::file(&*path, e))?;
        let file = writer.get_ref();
        let length = file.sync_data().and_then(|()| file.metadata()).map(|m| m.len());
        length.map(Some).map_err(|e| IoError::file(&*path, e))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_writer_and_what_it_wrote_is_not_touched_by_another() {
        let folder = std::env::temp_dir().join(format!("manumit-sink-{}", std::process::id()));
        let path = folder.join("alerts.jsonl");
        let target = SinkTarget::File(path.clone());
        let mut first = Sink::open(&target, None, true).unwrap();
        first.send("", b"{}").unwrap();
        first.flush().unwrap();
        for truncate in [true, false] {
            let refused = Sink::open(&target, None, truncate).err().unwrap().to_string();
            assert!(refused.contains("alerts.jsonl") && refused.contains("another"), "{refused}");
        }
        assert!(Sink::committed(&target, Commits::Checkpoints, Some(0)).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"{}\n");
        drop(first);
        Sink::open(&target, None, true).unwrap();
        assert!(std::fs::read(&path).unwrap().is_empty());
        // What keeps nothing is anybody's.
        let nowhere = SinkTarget::File("/dev/null".into());
        let _both = [Sink::open(&nowhere, None, true).unwrap(), Sink::open(&nowhere, None, false).unwrap()];
        std::fs::remove_dir_all(folder).unwrap();
    }
}
