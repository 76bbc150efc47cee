//! Instances of one run that start, take over and die all at once, and strangers in its consumer group: one works at a time, the
//! others say why they end, and what is published is what one instance does that nobody disturbs.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use manumit_tests::kafka::Kafka;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::exactly_once::{Run, asked, assert_balanced, assert_equal, bad_day, serve_for_a_while};
use crate::nordbank::Nordbank;
use crate::program::finish;

/// What an instance may say when it ends by itself, as another one works.
const WHY: [&str; 3] = ["has taken over", "another run has written it", "writes to this archive"];

/// One that was started, on which machine, and its log.
struct Instance {
    machine: usize,
    child: Child,
    log: std::path::PathBuf,
}

impl Instance {
    /// Whether it is still there. One that has ended by itself has said why.
    fn is_there(&mut self) -> bool {
        let Some(status) = self.child.try_wait().unwrap() else { return true };
        let said = std::fs::read_to_string(&self.log).unwrap();
        assert!(!status.success() && WHY.iter().any(|why| said.contains(why)), "{status}\n{said}");
        false
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Starts as many instances as there are machines at once, kills some, and does it again; then one is let finish.
fn storm(bank: &Nordbank, topic: &'static str, calm: &'static str, machines: &[Run<'_>], seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(asked("MANUMIT_FAULT_SEED", seed));
    let records = bad_day(bank, &mut rng);
    let kafka = machines[0].kafka;
    kafka.topic(topic, 12);
    let rounds = asked("MANUMIT_FAULT_STORMS", 5) as usize;
    let (mut running, mut ended, mut killed): (Vec<Instance>, usize, usize) = (Vec::new(), 0, 0);
    for (round, part) in records.chunks(records.len().div_ceil(rounds)).enumerate() {
        kafka.send(topic, part.iter().map(|(key, record)| (key.as_str(), record.as_bytes())));
        for (machine, run) in machines.iter().enumerate() {
            if running.iter().any(|instance| instance.machine == machine) {
                continue;
            }
            let log = bank.path(&format!("{topic}-{round}-{machine}.log"));
            let mut command = run.command(&[]);
            command.stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
            running.push(Instance { machine, child: command.spawn().unwrap(), log });
            std::thread::sleep(Duration::from_millis(rng.random_range(0..200)));
        }
        // One in three is killed at some moment: while it starts, or works, or is about to learn that it does no longer.
        for instance in std::mem::take(&mut running) {
            std::thread::sleep(Duration::from_millis(rng.random_range(0..700)));
            if rng.random_range(0..3) == 0 {
                instance.kill();
                killed += 1;
            } else {
                running.push(instance);
            }
        }
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(1_000) || running.len() > 1 {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "{} instances go on side by side",
                running.len()
            );
            let before = running.len();
            running.retain_mut(Instance::is_there);
            ended += before - running.len();
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    println!(
        "{topic}: {killed} were killed, {ended} ended as another one works, {} at the end",
        running.len()
    );
    running.into_iter().for_each(Instance::kill);
    assert!(ended > 0, "nobody met another one");
    let last = rng.random_range(0..machines.len());
    finish(machines[last].command(&["--until-end"]));
    let calm = Run::new(bank, kafka, topic, calm);
    finish(calm.command(&["--until-end"]));
    let wanted = calm.outcome();
    assert!(!wanted.alerts.is_empty() && wanted.others["hits"].len() > 100);
    assert_equal(&machines[last].outcome(), &wanted, topic);
    assert_balanced(&machines[last], &calm, records.len());
}

#[test]
fn two_machines_that_start_all_at_once_again_and_again_publish_what_one_does() {
    on_machines("two-at-once", "two-calm", &["two-a", "two-b"], 31);
}

#[test]
fn three_machines_that_start_all_at_once_again_and_again_publish_what_one_does() {
    on_machines("three-at-once", "three-at-once-calm", &["three-a", "three-b", "three-c"], 32);
}

/// Each has folders of its own, and they share copies in a third place.
fn on_machines(topic: &'static str, calm: &'static str, folders: &[&'static str], seed: u64) {
    let bank = Nordbank::new(120, 1);
    let mut run = Run::new(&bank, Kafka::shared(), topic, topic);
    let copies = bank.path("copies").display().to_string();
    run.environment.push(("MANUMIT_CHECKPOINT_COPY".into(), copies));
    let machines: Vec<Run<'_>> = folders.iter().map(|folders| Run { folders, ..run.clone() }).collect();
    storm(&bank, topic, calm, &machines, seed);
}

#[test]
fn three_instances_on_one_machine_that_start_all_at_once_publish_what_one_does() {
    let bank = Nordbank::new(120, 1);
    let run = Run::new(&bank, Kafka::shared(), "same-machine", "same-machine");
    storm(&bank, "same-machine", "same-machine-calm", &[run.clone(), run.clone(), run], 33);
}

#[test]
fn strangers_in_the_consumer_group_move_nothing_unnoticed() {
    let bank = Nordbank::new(120, 1);
    let mut rng = ChaCha8Rng::seed_from_u64(asked("MANUMIT_FAULT_SEED", 34));
    let records = bad_day(&bank, &mut rng);
    let kafka = Kafka::shared();
    kafka.topic("strangers", 12);
    let send = |part: &[(String, String)]| {
        kafka.send("strangers", part.iter().map(|(key, record)| (key.as_str(), record.as_bytes())));
    };
    let run = Run::new(&bank, kafka, "strangers", "strangers-run");
    let third = records.len() / 3;

    // Two and three consumers come and go while the service works: the group is balanced anew each time, and they commit
    // what they have read.
    let log = bank.path("strangers.log");
    let said = || std::fs::read_to_string(&log).unwrap();
    let mut command = run.command(&[]);
    command.stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
    let mut service = command.spawn().unwrap();
    // Before its first commit nobody could tell offsets of others from those of a run that delivered at least once.
    let began = Instant::now();
    send(&records[..1]);
    while kafka.committed("strangers-run", "strangers", 12) < 1 {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", said());
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut read = 0;
    for (round, part) in records[1..2 * third].chunks(third / 2).enumerate() {
        send(part);
        let strangers: Vec<_> =
            (0..2 + round % 2).map(|_| kafka.intrude("strangers-run", "strangers")).collect();
        let most = Duration::from_millis(rng.random_range(500..2_000));
        std::thread::scope(|scope| {
            let reads: Vec<_> = strangers.iter().map(|one| scope.spawn(move || one.read(most))).collect();
            read += reads.into_iter().map(|reads| reads.join().unwrap()).sum::<usize>();
        });
        assert!(service.try_wait().unwrap().is_none(), "it ended\n{}", said());
    }
    assert!(read > 0, "the strangers were given nothing");
    let began = Instant::now();
    while run.ledger_reads() < 2 * third as u64 {
        assert!(service.try_wait().unwrap().is_none(), "it ended\n{}", said());
        assert!(began.elapsed() < Duration::from_secs(60), "{}\n{}", run.ledger_reads(), said());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(Command::new("kill").args(["-TERM", &service.id().to_string()]).status().unwrap().success());
    assert!(service.wait().unwrap().success(), "{}", said());
    println!("strangers have read {read} records of {}", 2 * third);

    // While no run is there, nobody would put right what they commit: the next start refuses.
    let before = run.outcome();
    let stranger = kafka.intrude("strangers-run", "strangers");
    stranger.read(Duration::from_secs(2));
    (0..12).for_each(|partition| stranger.commit(partition, 3));
    drop(stranger);
    send(&records[2 * third..]);
    let output = run.command(&["--until-end"]).output().unwrap();
    let refused = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{refused}");
    for word in ["`strangers-run`", "`strangers` partition", "it is 3", "--from-checkpoint"] {
        assert!(refused.contains(word), "{word}: {refused}");
    }
    assert_equal(&run.outcome(), &before, "refused");

    finish(run.command(&["--until-end", "--from-checkpoint"]));
    let calm = Run::new(&bank, kafka, "strangers", "strangers-calm");
    finish(calm.command(&["--until-end"]));
    assert_equal(&run.outcome(), &calm.outcome(), "strangers");
    assert_balanced(&run, &calm, records.len());
    // From here on all is as it was.
    send(&records[..1]);
    serve_for_a_while(&run, "strangers", records.len() as i64 + 1);
}
