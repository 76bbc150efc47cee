//! A real Apache Kafka (KRaft, one node) on free loopback ports, for tests.
//!
//! It is fetched by Maven, as `tests/kafka/pom.xml` says, and started with `java`. Its data lies in a temporary folder.
//! The broker ends with the test process, however that ends: a shell holds the broker and stops it, by its process
//! id, when the pipe from the test process closes.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// A running broker.
pub struct Kafka {
    /// `host:port`.
    pub brokers: String,
    _folder: tempfile::TempDir,
    shell: Mutex<Option<(Child, ChildStdin)>>,
}

/// Starts the broker when standard input is still open, and stops it when that closes.
const HOLD: &str = r#"
java -Xmx768m -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$1" kafka.Kafka "$2" >"$3" 2>&1 &
broker=$!
read -r _
kill "$broker"
wait "$broker"
"#;

impl Kafka {
    /// The broker that all tests of this process share.
    pub fn shared() -> &'static Kafka {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        SHARED.get_or_init(Kafka::start)
    }

    /// Starts a broker of its own, on ports that were free a moment ago.
    ///
    /// # Panics
    /// When Java, Maven or the broker do not work: the message says which, with the end of the log.
    pub fn start() -> Kafka {
        let classpath = classpath();
        let folder = tempfile::tempdir().expect("a temporary folder");
        // Both are held until both are known, so that they differ.
        let held = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let [broker, controller] = held.each_ref().map(|l| l.local_addr().expect("an address").port());
        drop(held);
        let properties = folder.path().join("server.properties");
        let log = folder.path().join("broker.log");
        let text = format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{broker}\n\
             controller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             log.dirs={}\n\
             auto.create.topics.enable=false\n\
             message.max.bytes=8000000\n\
             offsets.topic.replication.factor=1\n\
             transaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n\
             group.initial.rebalance.delay.ms=0\n",
            folder.path().join("data").display()
        );
        std::fs::write(&properties, text).expect("server.properties is written");
        let formatted = Command::new("java")
            .args([
                "-cp",
                &classpath,
                "kafka.tools.StorageTool",
                "format",
                "-t",
                "bWFudW1pdC10ZXN0cy1rZg",
                "-c",
            ])
            .arg(&properties)
            .output()
            .expect("java runs: install Java 17");
        assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));
        let mut shell = Command::new("sh")
            .args(["-c", HOLD, "sh", &classpath])
            .args([&properties, &log])
            .stdin(Stdio::piped())
            .spawn()
            .expect("sh runs");
        let stdin = shell.stdin.take().expect("a pipe");
        let kafka = Kafka {
            brokers: format!("127.0.0.1:{broker}"),
            _folder: folder,
            shell: Mutex::new(Some((shell, stdin))),
        };
        kafka.wait_until_ready(&log);
        kafka
    }

    fn wait_until_ready(&self, log: &Path) {
        let consumer: BaseConsumer =
            self.config().set_log_level(RDKafkaLogLevel::Critical).create().expect("a client");
        let deadline = Instant::now() + Duration::from_secs(90);
        while consumer.fetch_metadata(None, Duration::from_secs(1)).is_err() {
            let told = std::fs::read_to_string(log).unwrap_or_default();
            assert!(Instant::now() < deadline, "the broker did not start; its log:\n{told}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Creates a topic.
    ///
    /// # Panics
    /// When the broker refuses.
    pub fn topic(&self, name: &str, partitions: i32) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().expect("an admin client");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let made = runtime.block_on(admin.create_topics([&topic], &AdminOptions::new()));
        for result in made.expect("the broker answers") {
            result.expect("the topic is created");
        }
    }

    /// Sends messages with keys and waits until all are stored.
    ///
    /// # Panics
    /// When one is not.
    pub fn send<'a>(&self, topic: &str, messages: impl IntoIterator<Item = (&'a str, &'a [u8])>) {
        let mut config = self.config();
        config
            .set("message.max.bytes", "8000000")
            .set("linger.ms", "50")
            .set("batch.num.messages", "50000")
            .set("acks", "1");
        let producer: ThreadedProducer<DefaultProducerContext> = config.create().expect("a producer");
        for (key, payload) in messages {
            let mut record = BaseRecord::to(topic).key(key).payload(payload);
            while let Err((error, back)) = producer.send(record) {
                assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "{error}");
                std::thread::sleep(Duration::from_millis(5));
                record = back;
            }
        }
        producer.flush(Duration::from_secs(120)).expect("all messages are delivered");
    }

    /// All messages of a topic, by partition and offset.
    ///
    /// # Panics
    /// When the broker does not answer.
    pub fn read(&self, topic: &str) -> Vec<Vec<u8>> {
        let mut config = self.config();
        config.set("group.id", "reader").set("enable.partition.eof", "true");
        config.set("isolation.level", "read_committed");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(20)).expect("metadata");
        let partitions = metadata.topics()[0].partitions().len() as i32;
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
        }
        consumer.assign(&list).expect("an assignment");
        let mut open = partitions;
        let mut found: BTreeMap<(i32, i64), Vec<u8>> = BTreeMap::new();
        while open > 0 {
            match consumer.poll(Duration::from_secs(20)).expect("the broker answers within 20 s") {
                Ok(message) => {
                    let payload = message.payload().unwrap_or_default().to_vec();
                    found.insert((message.partition(), message.offset()), payload);
                }
                Err(KafkaError::PartitionEOF(_)) => open -= 1,
                Err(error) => panic!("{error}"),
            }
        }
        found.into_values().collect()
    }

    /// Sum of what a group has committed of a topic; partitions without a commit count 0.
    ///
    /// # Panics
    /// When the broker does not answer.
    pub fn committed(&self, group: &str, topic: &str, partitions: i32) -> i64 {
        let mut config = self.config();
        // What a transaction that is still open has in mind is not asked for, nor waited for.
        config.set("group.id", group).set("isolation.level", "read_uncommitted");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition(topic, partition);
        }
        let deadline = Instant::now() + Duration::from_secs(90);
        let committed = loop {
            match consumer.committed_offsets(list.clone(), Duration::from_secs(20)) {
                Ok(committed) => break committed,
                // A broker that was just asked for its first group looks for who coordinates it.
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(200));
        };
        committed.elements().iter().filter_map(|e| e.offset().to_raw()).filter(|&o| o > 0).sum()
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let held = self.shell.lock().ok().and_then(|mut shell| shell.take());
        if let Some((mut shell, stdin)) = held {
            drop(stdin);
            let _ = shell.wait();
        }
    }
}

/// Class path of the broker: from a file that an earlier run left, or from Maven.
fn classpath() -> String {
    let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join("kafka/pom.xml");
    let kept: PathBuf = std::env::temp_dir().join(format!("manumit-kafka-{}.classpath", user()));
    let newer = |a: &Path, b: &Path| {
        let time = |p: &Path| p.metadata().and_then(|m| m.modified()).ok();
        time(a) > time(b)
    };
    if let Ok(text) = std::fs::read_to_string(&kept)
        && newer(&kept, &pom)
        && !text.is_empty()
        && text.trim().split(':').all(|jar| Path::new(jar).is_file())
    {
        return text.trim().to_string();
    }
    let mut maven = Command::new("mvn");
    maven.args(["-q", "-B", "dependency:build-classpath"]);
    maven.arg(format!("-Dmdep.outputFile={}", kept.display())).arg("-f").arg(&pom);
    let output = maven.output().expect("mvn runs: install Maven");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "Maven could not fetch Apache Kafka:\n{told}");
    std::fs::read_to_string(&kept).expect("Maven wrote the class path").trim().to_string()
}

fn user() -> String {
    std::env::var("USER").or_else(|_| std::env::var("HOME")).unwrap_or_default().replace('/', "-")
}
