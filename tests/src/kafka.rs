//! A real Apache Kafka (KRaft) on free loopback ports, for tests: one broker, or a cluster; and what can happen to it.
//!
//! It is fetched by Maven, as `tests/kafka/pom.xml` says, and started with `java`. Its data lies in a temporary folder.
//! The broker ends with the test process, however that ends: a shell holds the broker and stops it, by its process
//! id, when the pipe from the test process closes.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::proxy::Proxy;

/// A running cluster, of one broker if no more are asked for.
pub struct Kafka {
    /// `host:port` of all brokers, with commas.
    pub brokers: String,
    nodes: Vec<Mutex<Option<Node>>>,
    _folder: tempfile::TempDir,
}

/// One broker, and the shell that holds it.
struct Node {
    shell: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Starts the broker when standard input is still open, does what it is told there, and stops it when that closes.
const HOLD: &str = r#"
run() {
  java "$4" -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$1" kafka.Kafka "$2" >>"$3" 2>&1 &
  broker=$!
}
run "$@"
while read -r order; do
  case $order in
    kill) kill -KILL "$broker"; wait "$broker" 2>/dev/null ;;
    stop) kill -TERM "$broker"; wait "$broker" 2>/dev/null ;;
    start) run "$@" ;;
    pause) kill -STOP "$broker" ;;
    resume) kill -CONT "$broker" ;;
  esac
  echo done
done
# At once: the last broker of a cluster would wait for the others before it ends.
kill -KILL "$broker" 2>/dev/null
wait "$broker" 2>/dev/null
# A broker that tests share is never dropped, nor is its folder.
rm -rf "$5"
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
        Kafka::cluster(1, &[])
    }

    /// Starts brokers that replicate to each other. Clients are told to reach each by the proxy of its number, if there is one.
    ///
    /// # Panics
    /// As [`Kafka::start`].
    pub fn cluster(count: usize, networks: &[&Proxy]) -> Kafka {
        let classpath = classpath();
        let folder = tempfile::tempdir().expect("a temporary folder");
        // All are held until all are known, so that they differ.
        let held: Vec<_> =
            (0..2 * count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let ports: Vec<u16> = held.iter().map(|l| l.local_addr().expect("an address").port()).collect();
        drop(held);
        let (brokers, controllers) = ports.split_at(count);
        let named: Vec<String> = brokers.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let voters = controllers.iter().enumerate().map(|(at, port)| format!("{}@127.0.0.1:{port}", at + 1));
        let voters = voters.collect::<Vec<_>>().join(",");
        let most = count.div_ceil(2).max(count.min(2));
        let mut nodes = Vec::new();
        let mut logs = Vec::new();
        for (at, (broker, controller)) in brokers.iter().zip(controllers).enumerate() {
            let id = at + 1;
            let [properties, log, data] =
                ["properties", "log", "data"].map(|what| folder.path().join(format!("{what}-{id}")));
            let told = networks.get(at).map_or(*broker, |network| network.port);
            // Before it is waited for: clients may ask for metadata by this way, too.
            networks.iter().skip(at).take(1).for_each(|network| network.lead_to(*broker));
            let text = format!(
                "process.roles=broker,controller\n\
                 node.id={id}\n\
                 controller.quorum.voters={voters}\n\
                 listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}\n\
                 advertised.listeners=PLAINTEXT://127.0.0.1:{told}\n\
                 controller.listener.names=CONTROLLER\n\
                 listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
                 log.dirs={}\n\
                 auto.create.topics.enable=false\n\
                 message.max.bytes=8000000\n\
                 default.replication.factor={count}\n\
                 min.insync.replicas={most}\n\
                 offsets.topic.replication.factor={count}\n\
                 transaction.state.log.replication.factor={count}\n\
                 transaction.state.log.min.isr={most}\n\
                 log.retention.check.interval.ms=10000\n\
                 group.initial.rebalance.delay.ms=0\n",
                data.display()
            );
            std::fs::write(&properties, text).expect("properties are written");
            let formatted = Command::new("java")
                .args(["-cp", &classpath, "kafka.tools.StorageTool", "format"])
                .args(["-t", "bWFudW1pdC10ZXN0cy1rZg", "-c"])
                .arg(&properties)
                .output()
                .expect("java runs: install Java 17");
            assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));
            let mut shell = Command::new("sh")
                .args(["-c", HOLD, "sh", &classpath])
                .args([&properties, &log])
                .arg(if count == 1 { "-Xmx768m" } else { "-Xmx512m" })
                .arg(&data)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("sh runs");
            let orders = shell.stdin.take().expect("a pipe");
            let answers = BufReader::new(shell.stdout.take().expect("a pipe"));
            nodes.push(Mutex::new(Some(Node { shell, orders, answers })));
            logs.push(log);
        }
        let kafka = Kafka { brokers: named.join(","), _folder: folder, nodes };
        kafka.wait_until_ready(&logs[0]);
        kafka
    }

    /// Ends a broker at once, as `kill -9` does.
    ///
    /// # Panics
    /// When its shell is gone.
    pub fn kill(&self, node: usize) {
        self.order(node, "kill");
    }

    /// Ends a broker in order, as an operator does, and waits until it has.
    ///
    /// # Panics
    /// When its shell is gone.
    pub fn stop(&self, node: usize) {
        self.order(node, "stop");
    }

    /// Starts a broker that was ended.
    ///
    /// # Panics
    /// When its shell is gone.
    pub fn revive(&self, node: usize) {
        self.order(node, "start");
    }

    /// Stops a broker in the middle of what it does, as `SIGSTOP`.
    ///
    /// # Panics
    /// When its shell is gone.
    pub fn pause(&self, node: usize) {
        self.order(node, "pause");
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When its shell is gone.
    pub fn resume(&self, node: usize) {
        self.order(node, "resume");
    }

    fn order(&self, node: usize, what: &str) {
        let mut node = self.nodes[node].lock().unwrap_or_else(PoisonError::into_inner);
        let node = node.as_mut().expect("a broker");
        writeln!(node.orders, "{what}").expect("its shell takes orders");
        let mut done = String::new();
        node.answers.read_line(&mut done).expect("its shell answers");
        assert_eq!(done, "done\n");
    }

    fn wait_until_ready(&self, log: &Path) {
        let consumer: BaseConsumer =
            self.config().set_log_level(RDKafkaLogLevel::Critical).create().expect("a client");
        let deadline = Instant::now() + Duration::from_secs(90);
        let all = |found: Metadata| found.brokers().len() == self.nodes.len();
        while !consumer.fetch_metadata(None, Duration::from_secs(1)).is_ok_and(all) {
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
        self.topic_with(name, partitions, &[]);
    }

    /// Creates a topic with settings of its own.
    ///
    /// # Panics
    /// When the broker refuses.
    pub fn topic_with(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().expect("an admin client");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let replication = TopicReplication::Fixed(self.nodes.len() as i32);
        let topic = settings
            .iter()
            .fold(NewTopic::new(name, partitions, replication), |topic, (key, value)| topic.set(key, value));
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
            .set("acks", "all");
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

    /// A producer that goes on sending.
    ///
    /// # Panics
    /// When the client cannot be made.
    pub fn feeder(&self) -> Feeder {
        let mut config = self.config();
        config.set("linger.ms", "20").set("batch.num.messages", "20000").set("acks", "1");
        Feeder(config.create().expect("a producer"))
    }

    /// Sends messages without keys as one compressed batch, however much it holds unfolded: `codec` is `gzip`, `snappy`, `lz4` or `zstd`.
    ///
    /// # Panics
    /// When it is not stored.
    pub fn send_folded(&self, topic: &str, codec: &str, messages: &[&[u8]]) {
        self.send_folded_to(topic, 0, codec, messages);
    }

    /// The same to a partition.
    ///
    /// # Panics
    /// As [`Kafka::send_folded`].
    pub fn send_folded_to(&self, topic: &str, partition: i32, codec: &str, messages: &[&[u8]]) {
        let mut config = self.config();
        config
            .set("message.max.bytes", "1000000000")
            .set("batch.size", "2000000000")
            .set("queue.buffering.max.kbytes", "2000000")
            // Until the flush, however long it takes to hand them over.
            .set("linger.ms", "60000")
            .set("batch.num.messages", "1000000")
            .set("compression.codec", codec)
            .set("acks", "all");
        let producer: ThreadedProducer<DefaultProducerContext> = config.create().expect("a producer");
        for payload in messages {
            let sent =
                producer.send(BaseRecord::<str, [u8]>::to(topic).partition(partition).payload(payload));
            sent.map_err(|(error, _)| error).expect("the producer takes the message");
        }
        producer.flush(Duration::from_secs(120)).expect("the batch is delivered");
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

    /// Follows what a group notes with its offsets of a topic, from a thread of its own, whatever becomes of the broker.
    pub fn watch(&self, group: &str, topic: &str, partitions: i32) -> Watch {
        let mut config = self.config();
        config.set("group.id", group).set("isolation.level", "read_uncommitted");
        config.set_log_level(RDKafkaLogLevel::Critical);
        let (topic, seen, end) = (topic.to_string(), Arc::new(Mutex::new(Vec::new())), Arc::default());
        let (told, ends): (_, Arc<AtomicBool>) = (Arc::clone(&seen), Arc::clone(&end));
        let thread = std::thread::spawn(move || {
            let consumer: BaseConsumer = config.create().expect("a consumer");
            let mut list = TopicPartitionList::new();
            list.add_partition_range(&topic, 0, partitions - 1);
            while !ends.load(Ordering::Relaxed) {
                if let Ok(found) = consumer.committed_offsets(list.clone(), Duration::from_secs(1))
                    && let Some(note) = found.elements().iter().map(|e| e.metadata().to_string()).max()
                {
                    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                    if told.last().is_none_or(|(last, _): &(String, Instant)| *last != note) {
                        told.push((note, Instant::now()));
                    }
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Watch { seen, end, thread: Some(thread) }
    }

    /// Joins a group as any consumer does that commits by itself: one that has no business there.
    ///
    /// # Panics
    /// When the client cannot be made.
    pub fn intrude(&self, group: &str, topic: &str) -> Intruder {
        let mut config = self.config();
        config.set("group.id", group).set("auto.offset.reset", "earliest");
        config.set("auto.commit.interval.ms", "200").set("session.timeout.ms", "6000");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        consumer.subscribe(&[topic]).expect("a subscription");
        Intruder { consumer, topic: topic.to_string() }
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config
    }
}

/// What a group noted with its offsets, and when that was first seen.
pub struct Watch {
    seen: Arc<Mutex<Vec<(String, Instant)>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// All notes so far, in the order they were seen.
    pub fn notes(&self) -> Vec<(String, Instant)> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends messages, one after another.
pub struct Feeder(ThreadedProducer<DefaultProducerContext>);

impl Feeder {
    /// Sends a message; waits while too many are on their way.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn send(&self, topic: &str, partition: i32, payload: &[u8]) {
        let mut record = BaseRecord::<(), [u8]>::to(topic).partition(partition).payload(payload);
        while let Err((error, back)) = self.0.send(record) {
            assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "{error}");
            std::thread::sleep(Duration::from_millis(5));
            record = back;
        }
    }

    /// Waits until all are stored.
    ///
    /// # Panics
    /// When that takes minutes.
    pub fn flush(&self) {
        self.0.flush(Duration::from_secs(120)).expect("all messages are delivered");
    }
}

/// A consumer in a group that is not its own. When it is dropped it leaves.
pub struct Intruder {
    consumer: BaseConsumer,
    topic: String,
}

impl Intruder {
    /// Reads for so long, and commits what it has read as it goes; gives the number of messages.
    pub fn read(&self, long: Duration) -> usize {
        let (began, mut count) = (Instant::now(), 0);
        while began.elapsed() < long {
            count += usize::from(matches!(self.consumer.poll(Duration::from_millis(50)), Some(Ok(_))));
        }
        count
    }

    /// Commits this offset for a partition that it was given.
    ///
    /// # Panics
    /// When the broker refuses.
    pub fn commit(&self, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, partition, Offset::Offset(offset)).expect("an offset");
        self.consumer.commit(&list, CommitMode::Sync).expect("it is committed");
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let nodes = self.nodes.iter().filter_map(|node| node.lock().ok().and_then(|mut node| node.take()));
        for Node { mut shell, orders, answers } in nodes.collect::<Vec<_>>() {
            drop((orders, answers));
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
