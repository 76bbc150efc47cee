//! How to reach a Kafka cluster.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::ClientConfig;
use serde::Deserialize;

use crate::IoError;
use crate::topic::LONGEST_MESSAGE;

/// Brokers, consumer group, and librdkafka properties passed through as they are (TLS, SASL, …).
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSettings {
    /// `host:port,host:port`.
    #[serde(default)]
    pub brokers: String,
    /// Consumer group.
    #[serde(default)]
    pub group: String,
    /// Further librdkafka properties, such as `security.protocol`.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}

/// Bytes of messages that a consumer has fetched and nobody has read, at most, unless `queued.max.messages.kbytes` says otherwise. One answer
/// of each broker may come on top.
pub const CLIENT_BYTES: usize = 32 << 20;

/// The same of a reader of a whole topic ([`crate::TopicReader`]).
pub const READER_BYTES: usize = 4 << 20;

/// Messages of a partition that are fetched ahead: each takes some hundred bytes beside its own.
const FETCHED_AHEAD: usize = 20_000;

/// Bytes of messages that a producer has on their way, at most, unless `queue.buffering.max.kbytes` says otherwise.
pub const SEND_BYTES: usize = 32 << 20;

/// Properties whose values Manumit depends on.
const OURS: [(&str, &str); 4] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
    ("isolation.level", "read_committed"),
];

impl fmt::Debug for KafkaSettings {
    /// Values of secret properties are left out: settings end up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let properties: BTreeMap<&str, &str> = self
            .properties
            .iter()
            .map(|(name, value)| (name.as_str(), if secret(name) { "***" } else { value.as_str() }))
            .collect();
        f.debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("group", &self.group)
            .field("properties", &properties)
            .finish()
    }
}

fn secret(name: &str) -> bool {
    let name = name.to_lowercase();
    ["password", "secret", "key", "token", "jaas", "username", "pem"].iter().any(|word| name.contains(word))
}

impl KafkaSettings {
    /// Checks what can be checked without a broker.
    ///
    /// # Errors
    /// [`IoError::Setting`] names the property and the mend.
    pub fn check(&self) -> Result<(), IoError> {
        let fault = |name: &str, message: String| IoError::Setting { name: name.into(), message };
        if self.brokers.trim().is_empty() {
            return Err(fault("brokers", "is empty; write host:port".into()));
        }
        for (name, value) in OURS {
            if let Some(given) = self.properties.get(name)
                && given != value
            {
                return Err(fault(
                    name,
                    format!("is `{given}`, but Manumit relies on `{value}`; leave it out"),
                ));
            }
        }
        for name in ["bootstrap.servers", "group.id"] {
            if self.properties.contains_key(name) {
                return Err(fault(name, "has a place of its own: `brokers` and `group`".into()));
            }
        }
        let config = self.base();
        config.create_native_config().map_err(|error| {
            let (name, message) = match &error {
                rdkafka::error::KafkaError::ClientConfig(_, message, name, _) => {
                    (name.clone(), message.clone())
                }
                other => ("properties".into(), other.to_string()),
            };
            fault(&name, format!("is refused: {message}"))
        })?;
        Ok(())
    }

    pub(crate) fn base(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config.set("client.id", "manumit");
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config
    }

    /// For reading a whole topic; the group is named but never joined.
    pub(crate) fn reader(&self) -> ClientConfig {
        let mut config = self.base();
        for (name, value) in OURS {
            config.set(name, value);
        }
        bounded(&mut config, READER_BYTES, LONGEST_MESSAGE);
        config.set(
            "group.id",
            format!("{}-reference", if self.group.is_empty() { "manumit" } else { &self.group }),
        );
        config
    }

    /// Acknowledged by all replicas, retried without duplicates.
    pub(crate) fn producer(&self) -> ClientConfig {
        let mut config = self.base();
        config.set("enable.idempotence", "true").set("acks", "all");
        default(&mut config, "linger.ms", "5");
        // Whoever sends waits while it is full; the client's own default is 1 GiB.
        default(&mut config, "queue.buffering.max.kbytes", &(SEND_BYTES >> 10).to_string());
        config
    }

    pub(crate) fn consumer(&self, max_record_bytes: usize) -> ClientConfig {
        let mut config = self.base();
        for (name, value) in OURS {
            config.set(name, value);
        }
        default(&mut config, "auto.offset.reset", "earliest");
        bounded(&mut config, CLIENT_BYTES, max_record_bytes);
        config.set("group.id", if self.group.is_empty() { "manumit" } else { &self.group });
        config
    }
}

/// Memory stays bounded whatever topics hold: `ahead` bytes of messages that nobody has read, and one answer of each broker.
fn bounded(config: &mut ClientConfig, ahead: usize, max_record_bytes: usize) {
    default(config, "queued.max.messages.kbytes", &(ahead >> 10).to_string());
    default(config, "queued.min.messages", &FETCHED_AHEAD.to_string());
    // With so little fetched ahead the client's own second of rest after each fetch would be most of the time: a backlog of four
    // partitions came in at 33,000 records a second, whatever the processor could do.
    default(config, "fetch.queue.backoff.ms", "10");
    let fetch = (max_record_bytes + 65_536).max(1 << 20);
    default(config, "fetch.message.max.bytes", &fetch.to_string());
    // No more for all partitions than for one: the client unfolds all batches of an answer before any of their records is read, and gzip
    // makes a thousand bytes of one. Not above the client's own default, which it holds against others: one longer message comes all the same.
    let longest = config.get("message.max.bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
    default(config, "fetch.max.bytes", &fetch.min(50 << 20).max(longest).to_string());
}

/// Sets a property that nobody has set.
fn default(config: &mut ClientConfig, name: &str, value: &str) {
    if config.get(name).is_none() {
        config.set(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_hold_is_bounded_unless_the_bank_says_otherwise() {
        let mut settings = KafkaSettings { brokers: "b:1".into(), ..KafkaSettings::default() };
        let of = |config: &ClientConfig, name: &str| config.get(name).map(String::from);
        assert_eq!(of(&settings.consumer(1 << 20), "queued.max.messages.kbytes").as_deref(), Some("32768"));
        assert_eq!(of(&settings.producer(), "queue.buffering.max.kbytes").as_deref(), Some("32768"));
        assert_eq!(of(&settings.consumer(1 << 20), "fetch.max.bytes").as_deref(), Some("1114112"));
        assert_eq!(of(&settings.reader(), "queued.max.messages.kbytes").as_deref(), Some("4096"));
        settings.consumer(256 << 20).create_native_config().unwrap();
        // The client refuses less than that.
        settings.properties.insert("message.max.bytes".into(), "8000000".into());
        settings.consumer(1 << 20).create_native_config().unwrap();
        assert_eq!(of(&settings.consumer(1 << 20), "fetch.max.bytes").as_deref(), Some("8000000"));
        settings.properties.insert("queued.max.messages.kbytes".into(), "1000".into());
        assert_eq!(of(&settings.consumer(1 << 20), "queued.max.messages.kbytes").as_deref(), Some("1000"));
    }

    #[test]
    fn secrets_do_not_show() {
        let mut settings = KafkaSettings { brokers: "b:1".into(), ..KafkaSettings::default() };
        settings.properties.insert("sasl.password".into(), "hunter2".into());
        settings.properties.insert("security.protocol".into(), "sasl_ssl".into());
        let shown = format!("{settings:?}");
        assert!(!shown.contains("hunter2") && shown.contains("sasl_ssl"), "{shown}");
    }

    #[test]
    fn what_manumit_relies_on_cannot_be_changed() {
        let mut settings = KafkaSettings { brokers: "b:1".into(), ..KafkaSettings::default() };
        settings.check().unwrap();
        settings.properties.insert("enable.auto.commit".into(), "true".into());
        assert!(settings.check().unwrap_err().to_string().contains("relies on `false`"));
        settings.properties.clear();
        settings.properties.insert("no.such.thing".into(), "1".into());
        assert!(settings.check().unwrap_err().to_string().contains("no.such.thing"));
    }
}
