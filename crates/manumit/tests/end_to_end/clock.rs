//! A wall clock that jumps while a service works (`clock.c`): nothing that is published, and no wait, follows it.

use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use manumit_tests::kafka::Kafka;
use serde_json::Value;

use crate::exactly_once::Run;
use crate::faults::{Service, records_of};
use crate::nordbank::Nordbank;
use crate::program::{feed_on, finish, lines, manumit, with_kafka};

/// Far less than the clock jumps, and more than a busy machine needs.
const SOON: Duration = Duration::from_secs(20);

struct Clock {
    library: PathBuf,
    file: std::fs::File,
    path: PathBuf,
}

impl Clock {
    fn make(bank: &Nordbank) -> Clock {
        let (source, library) =
            (concat!(env!("CARGO_MANIFEST_DIR"), "/tests/end_to_end/clock.c"), bank.path("wall-clock.so"));
        let mut compiler = Command::new("cc");
        compiler.args(["-Wall", "-shared", "-fPIC", "-O2", "-o"]).arg(&library).args([source, "-ldl"]);
        let compiled = compiler.output().unwrap();
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        let path = bank.path("wall-clock");
        std::fs::write(&path, 0_i64.to_ne_bytes()).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        Clock { library, file, path }
    }

    fn govern(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("MANUMIT_TEST_CLOCK", &self.path);
    }

    /// From now on it is ahead by so many seconds.
    fn set(&self, ahead: i64) {
        self.file.write_all_at(&ahead.to_ne_bytes(), 0).unwrap();
    }
}

#[test]
fn a_clock_that_jumps_while_a_service_works_changes_nothing_and_holds_nothing_up() {
    let bank = Nordbank::new(120, 1);
    let records = records_of(&bank, 41);
    let kafka = Kafka::shared();
    kafka.topic("clock", 12);
    let run = Run::new(&bank, kafka, "clock", "clock-run");
    let clock = Clock::make(&bank);
    let start = || {
        let mut command = run.command(&[]);
        clock.govern(&mut command);
        command
    };
    let mut service = Service::start(&run, "clock", &records, start());
    service.send(10);
    service.catch_up("the start");
    let soon = |began: Instant, what: &str| assert!(began.elapsed() < SOON, "{what}: {:?}", began.elapsed());
    // Brokers take no messages dated more than an hour ahead, which is told below.
    for (what, ahead) in [
        ("a clock an hour ahead", 3_540),
        ("a clock an hour back", -3_600),
        ("a clock a day back", -86_400),
        ("a clock that is right again", 0),
    ] {
        // Once while much is on its way, and once while nothing is.
        service.send(10);
        clock.set(ahead);
        let began = Instant::now();
        service.catch_up(what);
        soon(began, what);
        std::thread::sleep(Duration::from_millis(500));
        clock.set(ahead - 3_600);
        std::thread::sleep(Duration::from_millis(500));
        service.send(10);
        let began = Instant::now();
        service.catch_up(&format!("{what}, then set back while nothing came"));
        soon(began, what);
    }
    // What waits to end the service does not wait for an hour, either.
    clock.set(0);
    std::thread::sleep(Duration::from_secs(2));
    clock.set(-3_600);
    std::thread::sleep(Duration::from_millis(300));
    assert!(
        Command::new("kill").args(["-TERM", &service.child.id().to_string()]).status().unwrap().success()
    );
    let began = Instant::now();
    while service.child.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < SOON, "it does not end\n{}", service.said());
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("ended {:?} after it was asked to, with a clock that was set back", began.elapsed());

    // A day ahead: the broker refuses what it is sent, and the run says why; nothing of that is published.
    clock.set(86_400);
    service.child = service.again(start());
    service.send(10);
    let began = Instant::now();
    let ended = loop {
        if let Some(ended) = service.child.try_wait().unwrap() {
            break ended;
        }
        assert!(began.elapsed() < SOON, "it goes on\n{}", service.said());
        std::thread::sleep(Duration::from_millis(20));
    };
    let said = service.said();
    assert!(!ended.success() && said.contains("the clock of this machine"), "{said}");
    clock.set(0);
    service.child = service.again(start());
    service.catch_up("a run that had ended");
    service.end(&Run::new(&bank, kafka, "clock", "clock-calm"));
}

#[test]
fn how_far_ahead_a_payment_is_dated_follows_from_the_record_and_not_from_the_clock() {
    let bank = Nordbank::new(10, 1);
    let kafka = Kafka::shared();
    kafka.topic("ahead", 1);
    let feed = feed_on(&bank, "ahead");
    let zone = chrono_tz::Europe::Berlin;
    let dated = |number: usize, ahead: TimeDelta| {
        let mut record: Value = serde_json::from_str(&bank.records[number].1).unwrap();
        let when = (Utc::now() + ahead).with_timezone(&zone);
        record["when"]["day"] = when.format("%Y-%m-%d").to_string().into();
        record["when"]["clock"] = when.format("%H:%M:%S").to_string().into();
        record["ref"] = format!("NB-{number}").into();
        record.to_string()
    };
    let records = [dated(0, TimeDelta::minutes(30)), dated(1, TimeDelta::minutes(90))];
    kafka.send("ahead", records.iter().map(|record| ("one", record.as_bytes())));
    let clock = Clock::make(&bank);
    for (name, ahead) in [("right", 0), ("ahead", 3_540), ("back", -3_600), ("a-day-ahead", 86_400)] {
        clock.set(ahead);
        let mut environment = with_kafka(&bank, kafka, name);
        environment.retain(|(variable, _)| variable != "MANUMIT_FUTURE");
        environment.push(("MANUMIT_FUTURE".into(), "1 hours".into()));
        let dead = format!("{name}.jsonl");
        let arguments =
            ["run", "--feed", &feed, "--until-end", "--alerts", "alerts.jsonl", "--dead-letters", &dead];
        let mut command = manumit(bank.folder.path(), &arguments, &environment);
        clock.govern(&mut command);
        let said = finish(command);
        let letters = lines(&bank.path(&dead));
        assert_eq!(letters.len(), 1, "{name}: {letters:?}\n{said}");
        assert!(letters[0].to_string().contains("in_the_future"), "{name}: {letters:?}");
        assert_eq!(letters[0]["position"]["offset"], 1, "{name}: {letters:?}");
    }
}
