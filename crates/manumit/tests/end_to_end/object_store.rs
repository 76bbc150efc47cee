//! Checkpoints and the archive in an object store: all local files may be lost.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use manumit_tests::kafka::Kafka;
use manumit_tests::s3::S3;

use crate::exactly_once::{Run, asked, assert_balanced, assert_equal, bad_day, serve_for_a_while};
use crate::nordbank::Nordbank;
use crate::program::{finish, manumit};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

const COPIES: &str = "s3://copies/of/nordbank";

fn signal(which: &str, id: u32) {
    assert!(Command::new("kill").args([which, &id.to_string()]).status().unwrap().success());
}

#[test]
fn after_the_loss_of_all_local_files_a_run_goes_on_from_the_object_store() {
    let bank = Nordbank::new(120, 1);
    let records = bad_day(&bank, &mut ChaCha8Rng::seed_from_u64(11));
    let (kafka, store) = (Kafka::shared(), S3::start("copies"));
    kafka.topic("copied", 12);
    let send = |part: &[(String, String)]| {
        kafka.send("copied", part.iter().map(|(key, record)| (key.as_str(), record.as_bytes())));
    };
    let mut run = Run::new(&bank, kafka, "copied", "copied-run");
    run.environment.extend(store.environment());
    run.environment.push(("MANUMIT_CHECKPOINT_COPY".into(), COPIES.into()));
    run.environment.push(("MANUMIT_CHECKPOINT_KEEP".into(), "3".into()));
    let lose_all = || {
        for folder in ["archive", "checkpoints"] {
            std::fs::remove_dir_all(bank.path(&format!("copied-run-{folder}"))).unwrap();
        }
    };
    let quarter = records.len() / 4;
    send(&records[..quarter]);
    serve_for_a_while(&run, "copied", quarter as i64);
    lose_all();

    // The store is away for a while: nothing is committed without it, and it goes on by itself.
    send(&records[quarter..2 * quarter]);
    let mut service = run.command(&[]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(90);
    while run.kafka.committed(run.name, "copied", 12) < 2 * quarter as i64 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(50));
    }
    signal("-STOP", store.id);
    send(&records[2 * quarter..3 * quarter]);
    std::thread::sleep(Duration::from_secs(3));
    let while_away = run.kafka.committed(run.name, "copied", 12);
    signal("-CONT", store.id);
    while run.kafka.committed(run.name, "copied", 12) < 3 * quarter as i64 {
        assert!(Instant::now() < deadline, "{while_away}");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(while_away < 3 * quarter as i64, "{while_away}");
    service.kill().unwrap();
    let said = service.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr);
    assert!(said.contains("it is fetched from"), "{said}");

    // A bit of the newest checkpoint flips: it is said, and the one before is used.
    lose_all();
    let keys = store.keys("copies");
    let newest = keys.iter().rfind(|key| key.contains("/checkpoint-")).unwrap();
    assert!(keys.iter().filter(|key| key.contains("/checkpoint-")).count() <= 3, "{keys:?}");
    let path = format!("/copies/{newest}");
    let mut bytes = store.get(&path);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    store.put(&path, &bytes);
    let verify = ["checkpoint", "verify", "--checkpoints", "copied-run-checkpoints", "--copy", COPIES];
    std::fs::create_dir_all(bank.path("copied-run-checkpoints")).unwrap();
    let verified = manumit(bank.folder.path(), &verify, &run.environment).output().unwrap();
    let listed = String::from_utf8_lossy(&verified.stdout);
    assert!(!verified.status.success() && listed.contains("1 of them damaged or missing"), "{listed}");
    send(&records[3 * quarter..]);
    let said = finish(run.command(&["--until-end"]));
    assert!(said.contains("an older checkpoint is used"), "{said}");

    let calm = Run::new(&bank, kafka, "copied", "copied-calm");
    finish(calm.command(&["--until-end"]));
    let wanted = calm.outcome();
    assert!(!wanted.alerts.is_empty() && wanted.others["hits"].len() > 100);
    assert_equal(&run.outcome(), &wanted, "copied");

    // A file of the archive that is damaged in the store is never taken for the real one.
    lose_all();
    let keys = store.keys("copies");
    let file = keys.iter().find(|key| key.ends_with(".parquet")).unwrap();
    let path = format!("/copies/{file}");
    let mut bytes = store.get(&path);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    store.put(&path, &bytes);
    let output = run.command(&["--until-end"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(file) && said.contains("damaged"), "{said}");
    assert_equal(&run.outcome(), &wanted, "refused");
}

/// Machines that take over from each other, some of which were not dead: each with folders of its own, and one object store.
#[test]
fn three_machines_that_take_over_from_each_other_publish_what_one_does() {
    let bank = Nordbank::new(120, 1);
    let mut rng = ChaCha8Rng::seed_from_u64(asked("MANUMIT_FAULT_SEED", 12));
    let records = bad_day(&bank, &mut rng);
    let (kafka, store) = (Kafka::shared(), S3::start("copies"));
    kafka.topic("storm", 12);
    let send = |part: &[(String, String)]| {
        kafka.send("storm", part.iter().map(|(key, record)| (key.as_str(), record.as_bytes())));
    };
    let mut first = Run::new(&bank, kafka, "storm", "storm-run");
    first.environment.extend(store.environment());
    first.environment.push(("MANUMIT_CHECKPOINT_COPY".into(), COPIES.into()));
    let machines: Vec<Run<'_>> =
        ["one", "two", "three"].into_iter().map(|folders| Run { folders, ..first.clone() }).collect();
    let takeovers = asked("MANUMIT_FAULT_TAKEOVERS", 9) as usize;
    let mut running: Vec<(usize, std::process::Child)> = Vec::new();
    let mut fenced = 0;
    for (turn, part) in records.chunks(records.len().div_ceil(takeovers)).enumerate() {
        send(part);
        let mut next = rng.random_range(0..machines.len());
        while running.iter().any(|(machine, _)| *machine == next) {
            next = (next + 1) % machines.len();
        }
        // One in two was dead before; of the others some sleep, and wake when another one has gone on.
        match rng.random_range(0..4) {
            0 | 1 => running.iter_mut().for_each(|(_, service)| service.kill().unwrap()),
            2 => running.iter().for_each(|(_, service)| signal("-STOP", service.id())),
            _ => {}
        }
        let mut service = machines[next].command(&[]);
        let log = std::fs::File::create(bank.path(&format!("storm-{turn}.log"))).unwrap();
        let service = service.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(rng.random_range(1_500..4_000)));
        running.iter().for_each(|(_, service)| signal("-CONT", service.id()));
        for (_, mut before) in std::mem::replace(&mut running, vec![(next, service)]) {
            let deadline = Instant::now() + Duration::from_secs(60);
            while before.try_wait().unwrap().is_none() {
                assert!(Instant::now() < deadline, "an instance that was fenced goes on");
                std::thread::sleep(Duration::from_millis(50));
            }
            fenced += 1;
        }
    }
    for (_, mut service) in running {
        service.kill().unwrap();
        service.wait().unwrap();
    }
    println!("{fenced} instances were taken over from");
    let last = rng.random_range(0..machines.len());
    finish(machines[last].command(&["--until-end"]));
    let calm = Run::new(&bank, kafka, "storm", "storm-calm");
    finish(calm.command(&["--until-end"]));
    let wanted = calm.outcome();
    assert!(!wanted.alerts.is_empty() && wanted.others["hits"].len() > 100);
    assert_equal(&machines[0].outcome(), &wanted, "storm");
    assert_balanced(&machines[last], &calm, records.len());
}

#[test]
fn a_store_that_cannot_be_used_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let said = |place: &str, environment: &[(&str, &str)]| {
        let environment: Vec<_> = environment.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        let mut command = manumit(
            folder.path(),
            &["checkpoint", "verify", "--checkpoints", ".", "--copy", place],
            &environment,
        );
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"] {
            if !environment.iter().any(|(set, _)| set == name) {
                command.env_remove(name);
            }
        }
        let output = command.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(said("s3://b/x", &[]).contains("AWS_ACCESS_KEY_ID"));
    let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
    assert!(said("s3://b/x", &keys).contains("AWS_REGION"));
    let plain = [keys[0], keys[1], ("AWS_ENDPOINT_URL", "http://store.example:9000")];
    assert!(said("s3://b/x", &plain).contains("https://"));
    assert!(said("ftp://b/x", &keys).contains("s3://BUCKET/PREFIX"));
}
