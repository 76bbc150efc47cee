//! The ledger on disk: a file a day, a line for each partition, and one for the alerts.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::{AlertCounts, Counts, Ledger, day};
use crate::whole;

/// A line of a daily ledger file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The day, UTC, by the clock of the run.
    pub day: String,
    /// When the run's ledger began, RFC 3339 UTC: tells runs of a day apart.
    pub run: String,
    /// When the line was written, RFC 3339 UTC.
    pub written_at: String,
    /// A partition, or the alerts.
    #[serde(flatten)]
    pub what: What,
}

/// What a line is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum What {
    /// Records of a partition.
    Partition(PartitionLine),
    /// Alerts of all feeds.
    Alerts(AlertLine),
}

/// Records of one partition, as files and the status tell them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionLine {
    /// The feed.
    pub feed: String,
    /// Topic; for files the feed's name.
    pub source: String,
    /// Partition; 0 for files.
    pub partition: i32,
    /// The offset behind the last record read; 0 for files.
    pub next_offset: i64,
    /// Event time that the partition has passed, RFC 3339 UTC.
    pub watermark: Option<String>,
    /// Messages not yet read, where that is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lag: Option<u64>,
    /// What was counted.
    #[serde(flatten)]
    pub counts: Counts,
    /// Of the dead letters those with an id that came before with other content.
    pub conflicts: u64,
    /// Whether the sum holds.
    pub balances: bool,
}

/// Alerts, as files and the status tell them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertLine {
    /// What was counted.
    #[serde(flatten)]
    pub counts: AlertCounts,
    /// Whether the sum holds.
    pub balances: bool,
}

/// The folder of daily ledger files: `ledger-2026-03-31.jsonl`.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder, made when it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(path: &Path) -> anyhow::Result<Folder> {
        std::fs::create_dir_all(path).with_context(|| format!("the ledger's folder `{}`", path.display()))?;
        Ok(Folder { path: path.to_path_buf() })
    }

    fn file(&self, day: &str) -> PathBuf {
        self.path.join(format!("ledger-{day}.jsonl"))
    }

    /// Writes the day's file anew; when the day is over, that day is finished and the next one begins.
    ///
    /// # Errors
    /// When the disk refuses; the file is then as it was.
    pub fn write(&self, ledger: &mut Ledger, now: chrono::DateTime<chrono::Utc>) -> anyhow::Result<()> {
        self.write_day(ledger, now)?;
        let today = day(now);
        // When the clock is set back, the day goes on: an earlier one is finished, and would be written over.
        if today > ledger.day {
            ledger.turn(today);
            self.write_day(ledger, now)?;
        }
        Ok(())
    }

    fn write_day(&self, ledger: &Ledger, now: chrono::DateTime<chrono::Utc>) -> anyhow::Result<()> {
        let path = self.file(&ledger.day);
        let mut text = Vec::new();
        // Other runs of the day stay as they are.
        let others = if path.is_file() { read(&path)? } else { Vec::new() };
        let now = now.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        let others = others.into_iter().filter(|line| line.run != ledger.began);
        for line in others.chain(ledger.lines(&now)) {
            serde_json::to_writer(&mut text, &line)?;
            text.push(b'\n');
        }
        let written = whole::write(&path, |file| file.write_all(&text));
        written.with_context(|| format!("the ledger `{}`", path.display()))
    }

    /// The lines of the run that wrote last; `None` when there is no file.
    ///
    /// # Errors
    /// When the newest file cannot be read.
    pub fn last(path: &Path) -> anyhow::Result<Option<Vec<Line>>> {
        let Ok(entries) = std::fs::read_dir(path) else { return Ok(None) };
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
                name.starts_with("ledger-") && name.ends_with(".jsonl")
            })
            .collect();
        files.sort();
        let Some(newest) = files.pop() else { return Ok(None) };
        let lines = read(&newest)?;
        let last = lines.iter().map(|line| (&line.written_at, &line.run)).max().map(|(_, run)| run.clone());
        Ok(last.map(|run| lines.into_iter().filter(|line| line.run == run).collect()))
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<Line>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("the ledger `{}`", path.display()))?;
    text.lines()
        .enumerate()
        .map(|(number, line)| {
            serde_json::from_str(line).with_context(|| {
                format!(
                    "line {} of the ledger `{}` is damaged; put the file aside",
                    number + 1,
                    path.display()
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, ledger};
    use super::*;

    #[test]
    fn a_day_ends_with_its_own_file_and_the_next_begins_with_what_waits() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(&place.path().join("ledger")).unwrap();
        let mut counted = ledger();
        folder.write(&mut counted, at("2026-03-31T23:59:30Z")).unwrap();
        counted.accounts[0].counts.read += 5;
        counted.accounts[0].counts.evaluated += 6;
        counted.accounts[0].counts.waiting -= 1;
        folder.write(&mut counted, at("2026-04-01T00:00:10Z")).unwrap();
        let first = read(&folder.file("2026-03-31")).unwrap();
        let second = read(&folder.file("2026-04-01")).unwrap();
        let of = |lines: &[Line]| match &lines[0].what {
            What::Partition(line) => line.clone(),
            What::Alerts(_) => panic!("the partition stands first"),
        };
        assert_eq!((of(&first).counts.read, of(&first).counts.evaluated, of(&first).conflicts), (15, 10, 1));
        assert_eq!(of(&second).counts, Counts { brought: 2, waiting: 2, ..Counts::default() });
        counted.accounts[0].counts.read += 1;
        counted.accounts[0].counts.late += 1;
        folder.write(&mut counted, at("2026-04-01T10:00:00Z")).unwrap();
        let second = read(&folder.file("2026-04-01")).unwrap();
        let counts = of(&second).counts;
        assert_eq!((second.len(), counts.read, counts.late, counts.brought), (2, 1, 1, 2));
        assert!(of(&second).balances && of(&first).balances);
        // Another run of the day stands beside it, and is the last one.
        let mut other = Ledger::new(at("2026-04-01T11:00:00Z"));
        folder.write(&mut other, at("2026-04-01T11:00:00Z")).unwrap();
        assert_eq!(read(&folder.file("2026-04-01")).unwrap().len(), 3);
        let last = Folder::last(&folder.path).unwrap().unwrap();
        assert!(last.len() == 1 && last[0].run == other.began);
    }
}
