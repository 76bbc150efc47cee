//! Lists that change while a service runs: what is seen later, what was seen before, what is faulty, and what is killed.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use manumit_tests::kafka::Kafka;
use serde_json::{Value, json};

use crate::program::{assert_same, finish, manumit, parsed, rule, told, write};

const FEED: &str = r#"---
format = "jsonl"
topics = ["TOPIC"]
time_zone = "UTC"
lateness = "1 minutes"
currency = "EUR"
country = "DE"

[raw]
id = "text"
at = "timestamp"
from = "text"
to = "text"
memo = "text"
---
SELECT id AS tx_id, at AS event_time, 10.00 AS amount, 'EUR' AS currency, 'transfer' AS method, 'online' AS channel,
  "from" AS debtor_account, "to" AS creditor_account, memo
FROM raw
"#;

const WORDS: &str = r#"
over = "entries"
when = "direction = 'out' AND mentions(memo, 'words') AND payments >= 2"
explain = "{payments} payments with such a text, the last one with {term}"

[features]
payments = "count(*) FILTER (WHERE direction = 'out' AND mentions(memo, 'words')) OVER 30 days"
term = "term_found(memo, 'words')"
"#;

const SHOPS: &str = r#"
over = "entries"
when = "direction = 'out' AND in_list(counterparty, 'shops')"
explain = "paid to {counterparty}"
"#;

const TYPOLOGY: &str = r#"
fiu_keywords = []
summary = "The account pays for what is looked for."
within = "10 days"
gate = "words"
gate_points = 70
alert_at = 70
open_for = "20 days"

[[corroborator]]
indicator = "shops"
points = 20
"#;

fn project(folder: &Path, topic: &str) {
    write(folder, "sql/feeds/texts.sql", &FEED.replace("TOPIC", topic));
    write(folder, "rules/indicators/words.toml", &rule("words", WORDS));
    write(folder, "rules/indicators/shops.toml", &rule("shops", SHOPS));
    write(folder, "rules/typologies/test/watch/typology.toml", &rule("watch", TYPOLOGY));
    write(folder, "rules/lists/words.csv", "term,id\noutcall,w-1\n");
    write(folder, "rules/lists/shops.csv", "value\nknown-shop\n");
}

/// A payment in March, in the days of its place in the list.
fn pays(day: u32, from: &str, to: &str, memo: &str) -> Value {
    let at = format!("2026-03-{day:02}T12:00:00Z");
    json!({ "id": format!("{from}-{day}"), "at": at, "from": from, "to": to, "memo": memo })
}

struct Service<'a> {
    kafka: &'a Kafka,
    folder: &'a Path,
    name: &'static str,
    topic: &'static str,
}

impl<'a> Service<'a> {
    fn new(kafka: &'a Kafka, folder: &'a Path, name: &'static str, topic: &'static str) -> Service<'a> {
        kafka.topic(topic, 1);
        for what in ["alerts", "dead", "late"] {
            kafka.topic(&format!("{name}-{what}"), 1);
        }
        project(folder, topic);
        Service { kafka, folder, name, topic }
    }

    fn command(&self, more: &[&str]) -> Command {
        let name = self.name;
        let [alerts, dead, late] = ["alerts", "dead", "late"].map(|what| format!("kafka:{name}-{what}"));
        let [archive, checkpoints] = ["archive", "checkpoints"].map(|what| format!("{name}-{what}"));
        let arguments =
            ["run", "--feed", "texts", "--alerts", &alerts, "--dead-letters", &dead, "--late", &late];
        let folders = ["--archive", &archive, "--checkpoints", &checkpoints];
        let environment = [
            ("MANUMIT_KAFKA_BROKERS", self.kafka.brokers.as_str()),
            ("MANUMIT_KAFKA_GROUP", name),
            ("MANUMIT_CHECKPOINT_EVERY", "300 milliseconds"),
            ("MANUMIT_LISTS_RELOAD", "200 milliseconds"),
            ("MANUMIT_FUTURE", "18250 days"),
        ]
        .map(|(key, value)| (key.to_string(), value.to_string()));
        manumit(self.folder, &[&arguments[..], &folders, more].concat(), &environment)
    }

    fn start(&self) -> Child {
        let log = std::fs::File::create(self.folder.join(format!("{}.log", self.name))).unwrap();
        self.command(&["--listen", "127.0.0.1:0"]).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join(format!("{}.log", self.name))).unwrap_or_default()
    }

    fn send(&self, payments: &[Value]) {
        let texts: Vec<String> = payments.iter().map(Value::to_string).collect();
        self.kafka.send(self.topic, texts.iter().map(|text| ("key", text.as_bytes())));
    }

    fn alerts(&self) -> Vec<Value> {
        parsed(self.kafka.read(&format!("{}-alerts", self.name)).iter().map(Vec::as_slice))
    }

    /// Waits until something can be seen; says what the service said when it does not come.
    fn wait_for<T>(&self, what: &str, mut seen: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            if let Some(seen) = seen() {
                return seen;
            }
            assert!(Instant::now() < deadline, "{what}: {:#?}\n{}", self.alerts(), self.log());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn alert_of(&self, account: &str, revision: u64) -> Value {
        self.wait_for(&format!("an alert of {account}"), || {
            let of = |alert: &Value| alert["subject"]["key"] == account && alert["revision"] == revision;
            self.alerts().into_iter().find(of)
        })
    }

    fn metric(&self, name: &str) -> u64 {
        let log = self.log();
        let address = log.split("metrics on http://").nth(1).unwrap().split('/').next().unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

fn lists_of(alert: &Value) -> Vec<&str> {
    let lists = alert["rescreened"]["lists"].as_array();
    lists.into_iter().flatten().map(|list| list["list"].as_str().unwrap()).collect()
}

const NEW_SHOPS: &str = "value\nknown-shop\nnew-shop\n";
const NEW_WORDS: &str = "term,id\noutcall,w-1\nroses,w-2\n";

fn batches() -> [Vec<Value>; 3] {
    let first = vec![
        pays(1, "ann", "x", "outcall"),
        pays(2, "ann", "new-shop", "thanks"),
        pays(3, "ann", "x", "Outcall!"),
        pays(3, "ben", "x", "r0ses"),
        pays(4, "ben", "x", "rоses for you"),
        pays(5, "carl", "x", "roses"),
        pays(5, "dora", "x", "prose"),
        pays(6, "dora", "x", "heroes"),
        pays(8, "clock", "x", "tick"),
    ];
    let second = vec![pays(9, "carl", "x", "ROSES"), pays(10, "clock", "x", "tick")];
    let third = vec![
        pays(11, "emma", "x", "roses"),
        pays(12, "emma", "new-shop", "roses"),
        pays(14, "clock", "x", "tick"),
    ];
    [first, second, third]
}

#[test]
fn a_list_changed_while_a_service_runs_counts_for_what_comes_and_what_was_and_a_kill_changes_nothing() {
    let kafka = Kafka::shared();
    let [first, second, third] = batches();
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    let live = Service::new(kafka, folder, "listed-live", "listed");
    live.send(&first);
    let mut service = live.start();
    let ann = live.alert_of("ann", 1);
    assert_eq!((ann["score"].as_u64(), ann.get("rescreened")), (Some(70), None), "{ann}");
    assert!(
        ann["indicators"].to_string().contains("the last one with w-1"),
        "the id of the term is quoted: {ann}"
    );

    // What is faulty is refused and told, without what stands in the file; nothing else happens.
    write(folder, "rules/lists/words.csv", "term,id\noutcall,w-1\nhush-hush,w-1\n");
    live.wait_for("a refusal", || live.log().contains("a new version of lists is refused").then_some(()));
    let log = live.log();
    assert!(log.contains("rules/lists/words.csv:3"), "{log}");
    assert!(!log.contains("hush-hush"), "{log}");
    assert_eq!(live.metric("manumit_lists_refused_total"), 1);
    assert_eq!(live.metric("manumit_lists_taken_total"), 0);
    assert_eq!(live.alerts().len(), 1);

    // Taken back, and another list changed: the alert that is open is revised.
    write(folder, "rules/lists/words.csv", "term,id\noutcall,w-1\n");
    write(folder, "rules/lists/shops.csv", NEW_SHOPS);
    let ann = live.alert_of("ann", 2);
    assert_eq!((ann["score"].as_u64(), ann["change"].as_str()), (Some(90), Some("revised")), "{ann}");
    assert_eq!(lists_of(&ann), ["shops"]);

    // Past payments are found, and the window of those that come has them, too.
    write(folder, "rules/lists/words.csv", NEW_WORDS);
    let ben = live.alert_of("ben", 1);
    assert_eq!(lists_of(&ben), ["words"]);
    let sha256 = manumit_model::alert::sha256(NEW_WORDS.as_bytes());
    assert_eq!(ben["rescreened"]["lists"][0]["sha256"], sha256.as_str());
    let versions = ben["basis"]["list_versions"].as_array().unwrap();
    assert!(versions.contains(&json!({ "list": "words", "sha256": sha256 })), "{versions:?}");
    live.send(&second);
    let carl = live.alert_of("carl", 1);
    assert_eq!(carl.get("rescreened"), None, "{carl}");
    assert_eq!(live.metric("manumit_lists_taken_total"), 2);
    assert!(service.try_wait().unwrap().is_none(), "{}", live.log());
    service.kill().unwrap();
    service.wait().unwrap();
    live.send(&third);
    finish(live.command(&["--until-end"]));
    assert_eq!(live.alert_of("emma", 1)["rescreened"], Value::Null);
    let said = finish(live.command(&["--until-end"]));
    assert!(said.contains("0 records read"), "{said}");

    // The same changes between runs that end: the same alerts.
    let other = tempfile::tempdir().unwrap();
    let folder = other.path();
    let calm = Service::new(kafka, folder, "listed-calm", "listed-again");
    calm.send(&first);
    finish(calm.command(&["--until-end"]));
    write(folder, "rules/lists/shops.csv", NEW_SHOPS);
    finish(calm.command(&["--until-end"]));
    write(folder, "rules/lists/words.csv", NEW_WORDS);
    finish(calm.command(&["--until-end"]));
    calm.send(&second);
    calm.send(&third);
    finish(calm.command(&["--until-end"]));
    let (ours, theirs) = (told(live.alerts()), told(calm.alerts()));
    assert_eq!(ours.len(), 5, "{:?}", ours.keys());
    assert_same(&ours, &theirs, "live and between runs");
    assert!(!ours.values().any(|alert| alert["subject"]["key"] == "dora"), "a term inside a word is none");

    // Each of them holds where there is nothing but the alert.
    let lines: Vec<String> = live.alerts().iter().map(Value::to_string).collect();
    std::fs::write(home.path().join("alerts.jsonl"), lines.join("\n") + "\n").unwrap();
    let empty = tempfile::tempdir().unwrap();
    let alerts = home.path().join("alerts.jsonl").display().to_string();
    let output = manumit(empty.path(), &["verify-alert", &alerts], &[]).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains("5 hold, 0 do not hold, 0 cannot be decided"), "{said}");
}

#[test]
fn without_checkpoints_a_changed_list_counts_for_what_comes() {
    let kafka = Kafka::shared();
    let [first, second, third] = batches();
    let home = tempfile::tempdir().unwrap();
    let service = Service::new(kafka, home.path(), "listed-plain-run", "listed-plain");
    service.send(&first);
    let command = service.command(&[]);
    // Without the last two, which name the folder of checkpoints.
    let arguments: Vec<_> = command.get_args().map(std::ffi::OsStr::to_owned).collect();
    let mut plain = Command::new(command.get_program());
    let log = std::fs::File::create(home.path().join("listed-plain-run.log")).unwrap();
    plain.args(&arguments[..arguments.len() - 2]).current_dir(home.path()).stdin(Stdio::null()).stderr(log);
    plain.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let mut running = plain.stdout(Stdio::null()).spawn().unwrap();
    service.alert_of("ann", 1);
    write(home.path(), "rules/lists/words.csv", NEW_WORDS);
    service.wait_for("news", || service.log().contains("count for rows from now on").then_some(()));
    service.send(&second);
    service.send(&third);
    let emma = service.alert_of("emma", 1);
    assert_eq!(emma.get("rescreened"), None);
    let of_ben = |alert: &Value| alert["subject"]["key"] == "ben";
    assert!(!service.alerts().iter().any(of_ben), "what was read before is not screened again");
    running.kill().unwrap();
    running.wait().unwrap();
}
