//! The alert log: a record for every alert revision published, each bound to the one before by its hash, so that nothing in it
//! can be altered, taken out or put elsewhere unnoticed. It names no party and no account; `docker/DELIVERY.md` is its guide.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use manumit_io::{Commits, Sink};
use manumit_model::Alert;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Format of a record.
const FORMAT: &str = "manumit.alert-log/1";

/// Hash before the first record.
const BEGINNING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// One published alert revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    format: String,
    /// From 1 on, without gaps.
    number: u64,
    alert_id: String,
    revision: u32,
    typology: String,
    rule_set_hash: String,
    /// Event time at which it was raised, RFC 3339 UTC.
    raised_at: String,
    /// SHA-256 of the alert as published: one line of JSON, without the line's end.
    content: String,
    /// Hash of the record before.
    previous: String,
    /// SHA-256 of this record as JSON with an empty `hash`.
    #[serde(default)]
    hash: String,
}

impl Record {
    fn hashed(mut self) -> anyhow::Result<Record> {
        self.hash = String::new();
        self.hash = sha256(&serde_json::to_vec(&self)?);
        Ok(self)
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where a log has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Records there are.
    pub records: u64,
    /// Hash of the last one; zeros when there is none.
    pub hash: String,
}

impl Default for Head {
    fn default() -> Head {
        Head { records: 0, hash: BEGINNING.into() }
    }
}

/// An open log.
pub struct AlertLog {
    path: PathBuf,
    sink: Sink,
    head: Head,
}

impl AlertLog {
    /// Opens a log to go on with it; `length`: what of it was committed, when delivery is exact. Half a last line, as a kill leaves
    /// it, is cut off and said.
    ///
    /// # Errors
    /// When it cannot be written, or what is there is not whole: nothing is added to a log that was tampered with.
    pub fn open(path: &Path, commits: Option<Commits<'_>>, length: Option<u64>) -> anyhow::Result<AlertLog> {
        let what = || format!("the alert log {}", path.display());
        let target = manumit_io::SinkTarget::File(path.to_path_buf());
        let sink = match commits {
            Some(commits) => Sink::committed(&target, commits, length).with_context(what)?,
            None => {
                // It is held before it is looked at: half a line may be one that another run is writing.
                let sink = Sink::open(&target, None, false).with_context(what)?;
                cut_half_a_line(path).with_context(what)?;
                sink
            }
        };
        let head = verify(path, &mut |_| Ok(()))?;
        Ok(AlertLog { path: path.to_path_buf(), sink, head })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it has come to.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Adds an alert that was published as `json`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, alert: &Alert, json: &[u8]) -> anyhow::Result<()> {
        let record = Record {
            format: FORMAT.into(),
            number: self.head.records + 1,
            alert_id: alert.alert_id.clone(),
            revision: alert.revision,
            typology: alert.typology.id.clone(),
            rule_set_hash: alert.rule_set_hash.clone(),
            raised_at: alert.raised_at.utc.clone(),
            content: sha256(json),
            previous: self.head.hash.clone(),
            hash: String::new(),
        };
        let record = record.hashed()?;
        self.sink.send(&record.alert_id, &serde_json::to_vec(&record)?)?;
        self.head = Head { records: record.number, hash: record.hash };
        Ok(())
    }

    /// Its sink.
    pub(crate) fn sink(&mut self) -> &mut Sink {
        &mut self.sink
    }
}

/// Bytes at the end of a log that are looked at for the end of a line: many times a record.
const END_BYTES: u64 = 1 << 16;

/// Takes away what stands behind the last end of a line.
fn cut_half_a_line(path: &Path) -> std::io::Result<()> {
    let mut file = match File::options().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let start = file.metadata()?.len().saturating_sub(END_BYTES);
    let mut end = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.read_to_end(&mut end)?;
    // What is longer than that without a line's end is no record, and told when the log is verified.
    let whole = match end.iter().rposition(|&byte| byte == b'\n') {
        Some(at) => at + 1,
        None if start == 0 => 0,
        None => return Ok(()),
    };
    if whole < end.len() {
        tracing::warn!(log = %path.display(), "half a record at the end of the alert log was cut off: the run before was killed");
        file.set_len(start + whole as u64)?;
    }
    Ok(())
}

/// Reads a log from its beginning and holds each record against its hash and the record before it; `see` is shown each.
fn verify(path: &Path, see: &mut dyn FnMut(&Record) -> anyhow::Result<()>) -> anyhow::Result<Head> {
    let file =
        File::open(path).with_context(|| format!("the alert log {} cannot be read", path.display()))?;
    let mut head = Head::default();
    let mut lines = (1_u64..).zip(BufReader::new(file).lines());
    while let Some((line, text)) = lines.next() {
        let (expected, place) = (head.records + 1, format!("{}, line {line}", path.display()));
        let text =
            text.with_context(|| format!("{place}: this is no text: record {expected} was altered"))?;
        let record: Record = match serde_json::from_str(&text) {
            Ok(record) => record,
            Err(error) => bail!("{place}: record {expected} was altered: it is no record any more ({error})"),
        };
        let whole = record.clone().hashed()?;
        let told = format!("alert {}, revision {}", record.alert_id, record.revision);
        if record != whole || record.format != FORMAT || text != serde_json::to_string(&whole)? {
            bail!("{place}: record {expected} was altered ({told}): its hash is not that of what it says");
        }
        if record.number != expected {
            let number = record.number;
            if number < expected {
                bail!(
                    "{place}: record {number} stands a second time, where record {expected} belongs ({told})"
                );
            }
            let is_expected = |text: String| {
                serde_json::from_str(&text).is_ok_and(|record: Record| record.number == expected)
            };
            if lines.any(|(_, text)| text.is_ok_and(is_expected)) {
                bail!("{place}: records {expected} and {number} were swapped ({told})");
            }
            bail!("{place}: record {expected} is missing: record {number} stands in its place ({told})");
        }
        if record.previous != head.hash {
            bail!(
                "{place}: record {expected} ({told}) does not follow the one before it: that was replaced, or records between them \
                 were taken out and the numbers changed"
            );
        }
        see(&record)?;
        head = Head { records: record.number, hash: record.hash };
    }
    Ok(head)
}

/// Which log, and against what.
#[derive(Debug, Args)]
pub struct VerifyLogArgs {
    /// The alert log
    pub log: PathBuf,
    /// Also hold the published alerts in this file of JSON lines against it
    #[arg(long, value_name = "FILE")]
    pub alerts: Option<PathBuf>,
    /// The log must contain a record with this hash: one that was noted elsewhere, so that a shortened or wholly rewritten log shows
    #[arg(long, value_name = "HASH")]
    pub head: Option<String>,
}

/// Verifies a log; gives what to print.
///
/// # Errors
/// Names the first record that was altered, is missing or was swapped, or the first alert that differs from its record.
pub fn verify_log(args: &VerifyLogArgs) -> anyhow::Result<String> {
    let mut contents: BTreeMap<(String, u32), (u64, String)> = BTreeMap::new();
    let mut noted = args.head.is_none();
    let head = verify(&args.log, &mut |record| {
        noted |= args.head.as_deref() == Some(record.hash.as_str());
        if args.alerts.is_some() {
            let key = (record.alert_id.clone(), record.revision);
            if let Some((earlier, _)) = contents.insert(key, (record.number, record.content.clone())) {
                bail!(
                    "alert {}, revision {}, was published twice: records {earlier} and {}",
                    record.alert_id,
                    record.revision,
                    record.number
                );
            }
        }
        Ok(())
    })?;
    if !noted {
        bail!(
            "no record has the hash {}: the log was cut off before it, or written anew",
            args.head.as_deref().unwrap_or_default()
        );
    }
    let mut out = format!("{} records are whole, the last one has the hash {}", head.records, head.hash);
    if let Some(alerts) = &args.alerts {
        let count = compare(alerts, contents)?;
        out.push_str(&format!("\n{count} alert revisions in {} are as logged", alerts.display()));
    }
    Ok(out)
}

fn compare(path: &Path, mut logged: BTreeMap<(String, u32), (u64, String)>) -> anyhow::Result<u64> {
    #[derive(Deserialize)]
    struct Which {
        alert_id: String,
        revision: u32,
    }
    let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut count = 0;
    for (line, text) in (1_u64..).zip(BufReader::new(file).lines()) {
        let place = format!("{}, line {line}", path.display());
        let text = text.with_context(|| place.clone())?;
        let which: Which =
            serde_json::from_str(&text).with_context(|| format!("{place}: this is no alert"))?;
        let told = format!("alert {}, revision {}", which.alert_id, which.revision);
        match logged.remove(&(which.alert_id, which.revision)) {
            None => bail!("{place}: {told}, is not in the log, or stands here twice"),
            Some((number, content)) if content != sha256(text.as_bytes()) => {
                bail!("{place}: {told}, was altered: it is not what record {number} of the log is about")
            }
            Some(_) => count += 1,
        }
    }
    match logged.into_iter().min_by_key(|(_, (number, _))| *number) {
        None => Ok(count),
        Some(((alert, revision), (number, _))) => {
            bail!(
                "{}: alert {alert}, revision {revision}, is missing: record {number} of the log is about it",
                path.display()
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(head: &Head, alert: usize) -> Record {
        let record = Record {
            format: FORMAT.into(),
            number: head.records + 1,
            alert_id: format!("a{alert}"),
            revision: 1,
            typology: "t".into(),
            rule_set_hash: "r".into(),
            raised_at: "2026-01-01T00:00:00Z".into(),
            content: sha256(format!(r#"{{"alert_id":"a{alert}","revision":1}}"#).as_bytes()),
            previous: head.hash.clone(),
            hash: String::new(),
        };
        record.hashed().unwrap()
    }

    /// A log of so many records, by line.
    fn log(count: usize) -> Vec<String> {
        let mut head = Head::default();
        let mut lines = Vec::new();
        for alert in 0..count {
            let record = record(&head, alert);
            lines.push(serde_json::to_string(&record).unwrap());
            head = Head { records: record.number, hash: record.hash };
        }
        lines
    }

    fn write(path: &Path, lines: &[String]) {
        std::fs::write(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    }

    fn said(lines: &[String]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        write(&path, lines);
        match verify_log(&VerifyLogArgs { log: path, alerts: None, head: None }) {
            Ok(said) => said,
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_first_record_that_is_not_as_written_is_named() {
        let whole = log(9);
        assert!(said(&whole).starts_with("9 records are whole"));
        for at in 0..9 {
            let mut altered = whole.clone();
            altered[at] = altered[at].replace("\"a", "\"b");
            let told = said(&altered);
            assert!(told.contains(&format!("line {}: record {} was altered", at + 1, at + 1)), "{told}");
            let mut blanks = whole.clone();
            blanks[at].insert(1, ' ');
            assert!(said(&blanks).contains(&format!("record {} was altered", at + 1)));
        }
        for at in 0..8 {
            let mut missing = whole.clone();
            missing.remove(at);
            let told = said(&missing);
            assert!(told.contains(&format!("record {} is missing", at + 1)), "{told}");
            let mut swapped = whole.clone();
            let other = (at + 4).min(8);
            swapped.swap(at, other);
            let told = said(&swapped);
            assert!(told.contains(&format!("records {} and {} were swapped", at + 1, other + 1)), "{told}");
            let mut twice = whole.clone();
            twice.insert(at + 1, whole[at].clone());
            assert!(said(&twice).contains("a second time"));
        }
        // Who also changes the hash of what he altered breaks the next record.
        let mut forged = whole.clone();
        let before = Head { records: 3, hash: serde_json::from_str::<Record>(&whole[2]).unwrap().hash };
        forged[3] = serde_json::to_string(&record(&before, 77)).unwrap();
        assert!(
            said(&forged).contains("record 5 (alert a4, revision 1) does not follow"),
            "{}",
            said(&forged)
        );
    }

    #[test]
    fn a_log_that_was_cut_off_shows_against_a_hash_noted_elsewhere_and_against_the_alerts() {
        let folder = tempfile::tempdir().unwrap();
        let (path, alerts) = (folder.path().join("log"), folder.path().join("alerts"));
        let whole = log(5);
        let published: Vec<String> =
            (0..5).map(|n| format!(r#"{{"alert_id":"a{n}","revision":1}}"#)).collect();
        write(&path, &whole);
        write(&alerts, &published);
        let hash = |line: &String| Some(serde_json::from_str::<Record>(line).unwrap().hash);
        let verified = |head, alerts: Option<&PathBuf>| {
            let args = VerifyLogArgs { log: path.clone(), alerts: alerts.cloned(), head };
            verify_log(&args).map_err(|error| error.to_string())
        };
        let told = verified(hash(&whole[4]), Some(&alerts)).unwrap();
        assert!(told.contains("5 alert revisions in "), "{told}");
        let mut changed = published.clone();
        changed[2] = changed[2].replace("1}", "1,\"score\":9}");
        write(&alerts, &changed);
        let told = verified(None, Some(&alerts)).unwrap_err();
        assert!(told.contains("line 3: alert a2, revision 1, was altered"), "{told}");
        write(&alerts, &published[1..]);
        assert!(verified(None, Some(&alerts)).unwrap_err().contains("alert a0, revision 1, is missing"));
        write(&alerts, &published);
        write(&path, &whole[..4]);
        assert!(verified(hash(&whole[4]), None).unwrap_err().contains("was cut off before it"));
        assert!(
            verified(None, Some(&alerts))
                .unwrap_err()
                .contains("line 5: alert a4, revision 1, is not in the log")
        );
    }

    #[test]
    fn a_log_goes_on_where_it_ended_without_half_a_record_and_never_behind_a_damaged_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let whole = log(3);
        write(&path, &whole);
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str(&whole[2][..40]);
        std::fs::write(&path, &text).unwrap();
        let opened = AlertLog::open(&path, None, None).unwrap();
        assert_eq!(opened.head().records, 3);
        drop(opened);
        assert!(
            said(&std::fs::read_to_string(&path).unwrap().lines().map(String::from).collect::<Vec<_>>())
                .starts_with("3 records")
        );
        std::fs::write(&path, &text.replacen("\"a1\"", "\"a9\"", 1)[..text.len() - 40]).unwrap();
        let error = AlertLog::open(&path, None, None).err().unwrap().to_string();
        assert!(error.contains("record 2 was altered"), "{error}");
    }
}
