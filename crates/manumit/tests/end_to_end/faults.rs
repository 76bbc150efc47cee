//! What happens around a service: brokers that end, sleep or cannot be reached, disks that fill up. Each time it
//! goes on by itself, and what it publishes is what an undisturbed run does.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use manumit_tests::kafka::Kafka;
use manumit_tests::proxy::Proxy;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::exactly_once::{Run, asked, assert_balanced, assert_equal, bad_day};
use crate::nordbank::Nordbank;
use crate::program::{FEED, finish, manumit};

/// A service, its log, and the records that it is given in parts.
pub struct Service<'a> {
    run: &'a Run<'a>,
    topic: &'static str,
    records: &'a [(String, String)],
    sent: usize,
    pub child: Child,
    log: PathBuf,
}

impl<'a> Service<'a> {
    pub fn start(
        run: &'a Run<'a>,
        topic: &'static str,
        records: &'a [(String, String)],
        mut command: Command,
    ) -> Service<'a> {
        let log = run.bank.path(&format!("{}.log", run.name));
        let child =
            command.stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
        Service { run, topic, records, sent: 0, child, log }
    }

    /// Starts it again when it has ended, with the same log.
    pub fn again(&self, mut command: Command) -> Child {
        let log = std::fs::OpenOptions::new().append(true).open(&self.log).unwrap();
        command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    /// Sends the next part in `parts`.
    pub fn send(&mut self, parts: usize) {
        let end = (self.sent + self.records.len().div_ceil(parts)).min(self.records.len());
        let part = &self.records[self.sent..end];
        self.run.kafka.send(self.topic, part.iter().map(|(key, record)| (key.as_str(), record.as_bytes())));
        self.sent = end;
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until all that was sent is committed; gives how long that took.
    pub fn catch_up(&mut self, what: &str) {
        let began = Instant::now();
        while self.run.kafka.committed(self.run.name, self.topic, 12) < self.sent as i64 {
            assert!(self.child.try_wait().unwrap().is_none(), "{what}: it ended\n{}", self.said());
            assert!(began.elapsed() < Duration::from_secs(150), "{what}: it does not go on\n{}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
        println!("{what}: caught up {:?} after it was over", began.elapsed());
    }

    /// Stops it in order, and compares with a run that nothing happened to.
    pub fn end(mut self, calm: &Run<'_>) {
        assert!(
            Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap().success()
        );
        assert!(self.child.wait().unwrap().success(), "{}", self.said());
        finish(self.run.command(&["--until-end"]));
        finish(calm.command(&["--until-end"]));
        let wanted = calm.outcome();
        assert!(!wanted.alerts.is_empty() && wanted.others["hits"].len() > 100);
        assert_equal(&self.run.outcome(), &wanted, self.run.name);
        assert_balanced(self.run, calm, self.sent);
    }
}

pub fn records_of(bank: &Nordbank, seed: u64) -> Vec<(String, String)> {
    bad_day(bank, &mut ChaCha8Rng::seed_from_u64(asked("MANUMIT_FAULT_SEED", seed)))
}

fn seconds(name: &str, default: u64) -> Duration {
    Duration::from_secs(asked(name, default))
}

#[test]
fn a_broker_that_ends_or_sleeps_and_a_network_that_is_cut_delay_alerts_and_change_nothing() {
    let bank = Nordbank::new(120, 1);
    let records = records_of(&bank, 21);
    let network = Proxy::start();
    let kafka = Kafka::cluster(1, &[&network]);
    kafka.topic("troubled", 12);
    let run = Run::new(&bank, &kafka, "troubled", "troubled-run");
    let mut service = Service::start(&run, "troubled", &records, run.command(&[]));
    service.send(6);
    service.catch_up("the start");

    service.send(6);
    kafka.pause(0);
    std::thread::sleep(seconds("MANUMIT_FAULT_SECONDS", 6));
    kafka.resume(0);
    service.catch_up("a broker that slept");

    service.send(6);
    kafka.kill(0);
    std::thread::sleep(seconds("MANUMIT_FAULT_SECONDS", 3));
    kafka.revive(0);
    service.catch_up("a broker that was killed");

    service.send(6);
    network.cut();
    std::thread::sleep(seconds("MANUMIT_FAULT_SECONDS", 6));
    network.mend();
    service.catch_up("a network that was cut");

    // The broker is killed again while much is on its way.
    service.send(3);
    std::thread::sleep(Duration::from_millis(300));
    kafka.kill(0);
    kafka.revive(0);
    service.catch_up("a broker that was killed under load");
    service.end(&Run::new(&bank, &kafka, "troubled", "troubled-calm"));
}

#[test]
fn of_three_brokers_one_may_be_killed() {
    let bank = Nordbank::new(120, 1);
    let records = records_of(&bank, 22);
    let kafka = Kafka::cluster(3, &[]);
    kafka.topic("three", 12);
    let run = Run::new(&bank, &kafka, "three", "three-run");
    let mut service = Service::start(&run, "three", &records, run.command(&[]));
    service.send(3);
    service.catch_up("the start");
    // One of the three leads each partition, and one of them all transactions: which one goes is drawn.
    let node = ChaCha8Rng::seed_from_u64(asked("MANUMIT_FAULT_SEED", 22)).random_range(0..3);
    service.send(3);
    kafka.kill(node);
    service.catch_up(&format!("broker {}, killed", node + 1));
    service.send(3);
    service.catch_up("two brokers of three");
    kafka.revive(node);
    service.end(&Run::new(&bank, &kafka, "three", "three-calm"));
}

/// A disk of so many kilobytes; `None` where one may not be mounted.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: &Path, kilobytes: u32) -> Option<Disk> {
        std::fs::create_dir_all(path).unwrap();
        let size = format!("size={kilobytes}k");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Disk(path.to_path_buf()))
    }

    fn grow(&self, kilobytes: u32) {
        let size = format!("remount,size={kilobytes}k");
        assert!(Command::new("mount").args(["-o", &size]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_disk_that_fills_up_holds_everything_until_there_is_room_again() {
    let bank = Nordbank::new(120, 1);
    let records = records_of(&bank, 23);
    let kafka = Kafka::shared();
    for (folder, name, topic) in
        [("archive", "full-archive", "full-a"), ("checkpoints", "full-checkpoints", "full-c")]
    {
        let run = Run::new(&bank, kafka, topic, name);
        let Some(disk) = Disk::mount(&bank.path(&format!("{name}-{folder}")), 48) else {
            println!(
                "NOT TESTED: no disk of our own can be mounted here (needs root), so none was filled up"
            );
            return;
        };
        kafka.topic(topic, 12);
        let mut service = Service::start(&run, topic, &records, run.command(&[]));
        service.send(1);
        let began = Instant::now();
        let full = |said: &str| said.contains("No space left on device") && said.contains("trying again");
        while !full(&service.said()) {
            assert!(service.child.try_wait().unwrap().is_none(), "it ended\n{}", service.said());
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "the disk did not fill up\n{}",
                service.said()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        let committed = kafka.committed(name, topic, 12);
        std::thread::sleep(Duration::from_secs(2));
        assert!(service.child.try_wait().unwrap().is_none(), "it ended\n{}", service.said());
        assert_eq!(kafka.committed(name, topic, 12), committed, "committed with a full disk");
        assert!(committed < records.len() as i64);
        disk.grow(65_536);
        service.catch_up(&format!("a disk of {folder} that was full"));
        service.end(&Run::new(
            &bank,
            kafka,
            topic,
            if folder == "archive" { "room-archive" } else { "room-checkpoints" },
        ));
        drop(disk);
    }
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    let bank = Nordbank::new(60, 1);
    let run = |alerts: &str| {
        let arguments = ["run", "--feed", FEED, "--from", "records.jsonl", "--alerts", alerts];
        manumit(bank.folder.path(), &arguments, &bank.environment())
    };
    finish(run("calm.jsonl"));
    // What is written there finds a full disk.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ended = run("rough.jsonl").stdout(Stdio::null()).stderr(full).status().unwrap();
    assert!(ended.success(), "{ended}");
    let read = |name: &str| std::fs::read(bank.path(name)).unwrap();
    assert!(!read("calm.jsonl").is_empty() && read("rough.jsonl") == read("calm.jsonl"));
}
