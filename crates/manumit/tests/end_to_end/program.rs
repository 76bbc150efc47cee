//! The program as a child process, and what it wrote.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use manumit_tests::kafka::Kafka;
use serde_json::Value;

use crate::nordbank::Nordbank;

pub const FEED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/end_to_end/nordbank.sql");

/// `manumit` with arguments, in an empty project folder: the built-in pack.
pub fn manumit(folder: &Path, arguments: &[&str], environment: &[(String, String)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_manumit"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command.envs(environment.iter().map(|(k, v)| (k, v)));
    command
}

/// A file of a project.
pub fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A rule about accounts: what every rule must have, and the rest.
pub fn rule(id: &str, rest: &str) -> String {
    format!(
        "id = \"{id}\"\nversion = 1\nstatus = \"draft\"\ntitle = \"{id}\"\nseverity = \"low\"\nexploitation = [\"any\"]\n\
         references = [\"test\"]\nfalse_positives = [\"none\"]\nsubject = \"account\"\n{rest}"
    )
}

/// Runs to the end and gives what was said on standard error.
pub fn finish(mut command: Command) -> String {
    let output = command.stdout(Stdio::null()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}\n{told}");
    told
}

pub fn lines(path: &Path) -> Vec<Value> {
    parsed(std::fs::read(path).unwrap().split(|b| *b == b'\n').filter(|l| !l.is_empty()))
}

pub fn parsed<'a>(messages: impl IntoIterator<Item = &'a [u8]>) -> Vec<Value> {
    messages.into_iter().map(|m| serde_json::from_slice(m).unwrap()).collect()
}

/// Alerts by id and revision, without the places where the records were read.
pub fn told(alerts: Vec<Value>) -> BTreeMap<(String, u64), Value> {
    let mut all = BTreeMap::new();
    for mut alert in alerts {
        for transaction in alert["transactions"].as_array_mut().unwrap() {
            let transaction = transaction.as_object_mut().unwrap();
            for holder in ["fields", "record"] {
                if let Some(fields) = transaction.get_mut(holder).and_then(Value::as_object_mut) {
                    fields.retain(|name, _| !name.starts_with("source"));
                }
            }
        }
        // It covers those places, too.
        if let Some(basis) = alert.get_mut("basis").and_then(Value::as_object_mut) {
            basis.remove("seal");
        }
        let key = (alert["alert_id"].as_str().unwrap().to_string(), alert["revision"].as_u64().unwrap());
        assert!(all.insert(key.clone(), alert).is_none(), "{key:?} came twice");
    }
    all
}

/// The same alerts with the same content; a difference is shown by its first alert.
pub fn assert_same(a: &BTreeMap<(String, u64), Value>, b: &BTreeMap<(String, u64), Value>, what: &str) {
    let ids = |all: &BTreeMap<(String, u64), Value>| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(ids(a), ids(b), "{what}");
    for (key, alert) in a {
        assert_eq!(alert, &b[key], "{what}: {key:?}");
    }
}

/// The feed with a topic of the test's own. Its name stays, as alerts tell it.
pub fn feed_on(bank: &Nordbank, topic: &str) -> String {
    let folder = bank.path(topic);
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("nordbank.sql");
    let text = std::fs::read_to_string(FEED).unwrap();
    let with_topic = text.replace("topics = [\"nordbank\"]", &format!("topics = [\"{topic}\"]"));
    assert_ne!(with_topic, text);
    std::fs::write(&path, with_topic).unwrap();
    path.display().to_string()
}

/// The bank's environment, and how to reach Kafka.
pub fn with_kafka(bank: &Nordbank, kafka: &Kafka, group: &str) -> Vec<(String, String)> {
    let mut environment = bank.environment();
    environment.push(("MANUMIT_KAFKA_BROKERS".into(), kafka.brokers.clone()));
    environment.push(("MANUMIT_KAFKA_GROUP".into(), group.into()));
    environment
}
