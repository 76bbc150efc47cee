//! Compressed batches of small size that unfold to hundreds of megabytes: each record of one is a dead letter, records around it are evaluated,
//! memory is given back.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use manumit_tests::kafka::Kafka;
use serde_json::Value;

use crate::nordbank::Nordbank;
use crate::program::{feed_on, lines, manumit, with_kafka};

const MIB: usize = 1 << 20;

/// Runs to the end; what was said on standard error, and the most memory it ever held, in MiB.
pub fn measured(mut command: Command, folder: &Path) -> (String, u64) {
    let told = folder.join("told");
    let mut child = command.stdout(Stdio::null()).stderr(fs::File::create(&told).unwrap()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    let ended = loop {
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        // The kernel's own high-water mark: nothing between two looks is missed.
        let kib = fs::read_to_string(&status)
            .unwrap_or_default()
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok());
        most = most.max(kib.unwrap_or(0) >> 10);
        std::thread::sleep(Duration::from_millis(10));
    };
    let told = fs::read_to_string(told).unwrap();
    assert!(ended.success(), "{told}");
    (told, most)
}

/// A payment with a memo of so many bytes.
fn long(record: &str, bytes: usize) -> Vec<u8> {
    let mut value: Value = serde_json::from_str(record).unwrap();
    value["teller_note"] = "x".repeat(bytes).into();
    value.to_string().into_bytes()
}

/// A payment with a memo of so many bytes, which folds to a hundredth of them, about.
fn grainy(record: &str, bytes: usize) -> Vec<u8> {
    let mut value: Value = serde_json::from_str(record).unwrap();
    let grains = (0..bytes / 1_000).map(|n: usize| {
        let grain = n.wrapping_mul(0x9e37_79b9).wrapping_mul(0x85eb_ca6b) as u32;
        format!("{grain:08x}{}", "x".repeat(992))
    });
    value["teller_note"] = grains.collect::<String>().into();
    value.to_string().into_bytes()
}

/// A batch of a codec, with the reason that all its records must be given.
type Batch = (&'static str, Vec<Vec<u8>>, Option<&'static str>);

/// Sends the batches between good records, runs over them, and holds what became of each; the most memory held, in MiB.
fn run_over(bank: &Nordbank, topic: &str, batches: &[Batch], property: Option<(&str, &str)>) -> u64 {
    let kafka = Kafka::shared();
    kafka.topic(topic, 1);
    let mut good = bank.records.iter().map(|(_, record)| record.as_bytes());
    let mut reasons: Vec<Option<&str>> = Vec::new();
    let mut lengths: Vec<usize> = Vec::new();
    let mut send = |codec: &str, messages: &[&[u8]], reason: Option<&'static str>| {
        kafka.send_folded(topic, codec, messages);
        reasons.extend(messages.iter().map(|_| reason));
        lengths.extend(messages.iter().map(|message| message.len()));
    };
    send("none", &good.by_ref().take(50).collect::<Vec<_>>(), None);
    for (codec, messages, reason) in batches {
        send(codec, &messages.iter().map(Vec::as_slice).collect::<Vec<_>>(), *reason);
        send("zstd", &good.by_ref().take(5).collect::<Vec<_>>(), None);
    }
    let feed = feed_on(bank, topic);
    let letters = format!("{topic}-letters.jsonl");
    let arguments =
        ["run", "--feed", &feed, "--until-end", "--alerts", "a.jsonl", "--dead-letters", &letters];
    let folder = bank.folder.path();
    let mut environment = with_kafka(bank, kafka, topic);
    environment.extend(property.map(|(name, value)| (name.to_string(), value.to_string())));
    let (told, most) = measured(manumit(folder, &arguments, &environment), folder);
    let bad = reasons.iter().flatten().count();
    let words = format!(
        "{} records read: {} transactions accepted, 0 records filtered, {bad} to dead letters",
        reasons.len(),
        reasons.len() - bad
    );
    assert!(told.contains(&words), "{words}\n{told}");
    let letters = lines(&bank.path(&letters));
    assert_eq!(letters.len(), bad);
    let offsets = reasons.iter().enumerate().filter_map(|(offset, reason)| reason.map(|r| (offset, r)));
    for (letter, (offset, reason)) in letters.iter().zip(offsets) {
        assert_eq!(letter["position"]["offset"], offset, "{letter:.400}");
        assert_eq!(letter["reason"], reason, "{letter:.400}");
        assert!(letter["message"].as_str().is_some_and(|words| words.len() > 30), "{letter:.400}");
        assert_eq!(letter["raw_truncated"], true, "{letter:.400}");
        // Of what was never unfolded nothing is known, not even its length.
        let length = if reason == "not_unfolded" { 0 } else { lengths[offset] };
        assert_eq!(letter["raw_bytes"], length, "{letter:.400}");
    }
    most
}

#[test]
fn a_batch_that_unfolds_to_hundreds_of_megabytes_is_dead_letters_and_what_stands_behind_it_is_evaluated() {
    let bank = Nordbank::new(60, 1);
    let record = &bank.records[0].1;
    let calm = run_over(&bank, "calm", &[], None);
    let mut worst = 0;
    for (codec, mib) in [("gzip", 200), ("lz4", 200), ("snappy", 100), ("zstd", 64)] {
        let bomb = vec![long(record, mib * MIB)];
        let most = run_over(&bank, &format!("bomb-{codec}"), &[(codec, bomb, Some("oversized"))], None);
        eprintln!("{codec}: {mib} MiB unfolded, {most} MiB held at most; without it {calm} MiB");
        // The batch itself, once, and what is in work of other things.
        assert!(most < calm + mib as u64 + 100, "{codec}: {most} MiB, without the bomb {calm} MiB");
        worst = worst.max(most);
    }
    assert!(worst > calm, "the bombs were none");
}

#[test]
fn a_batch_that_will_not_be_unfolded_does_not_stop_the_stream() {
    let bank = Nordbank::new(60, 1);
    let record = &bank.records[0].1;
    let calm = run_over(&bank, "calm-too", &[], None);
    let bomb = |count: usize, mib: usize| (0..count).map(|_| long(record, mib * MIB)).collect();
    // One record; several, of which the client cannot tell where they end; and one at the very end of the topic's bombs.
    let batches: [Batch; 3] = [
        ("zstd", bomb(1, 200), Some("not_unfolded")),
        ("zstd", bomb(3, 50), Some("not_unfolded")),
        ("zstd", bomb(1, 110), Some("not_unfolded")),
    ];
    let most = run_over(&bank, "bomb-refused", &batches, None);
    eprintln!("{most} MiB held at most; without the bombs {calm} MiB");
    // What a client tries before it gives up, at most 100 MB; two look at once.
    assert!(most < calm + 300, "{most} MiB, without the bombs {calm} MiB");
}

#[test]
fn where_strangers_write_batches_can_be_unfolded_one_at_a_time() {
    let bank = Nordbank::new(60, 1);
    let record = &bank.records[0].1;
    let calm = run_over(&bank, "calm-strangers", &[], None);
    // Some thousand bytes each, so one answer of the broker holds all of them; and none is more than the client unfolds.
    let bombs = || -> Vec<Batch> {
        (0..8).map(|_| ("zstd", vec![long(record, 60 * MIB)], Some("oversized"))).collect()
    };
    let together = run_over(&bank, "bomb-strangers", &bombs(), None);
    let one = Some(("MANUMIT_KAFKA_PROPERTY_FETCH_MESSAGE_MAX_BYTES", "1"));
    let most = run_over(&bank, "bomb-strangers-one", &bombs(), one);
    eprintln!(
        "8 batches of 60 MiB: {together} MiB held at most, one by one {most} MiB; without them {calm} MiB"
    );
    assert!(most < calm + 2 * 60 + 100, "{most} MiB, without the bombs {calm} MiB");
    assert!(together > most, "{together} MiB together, {most} MiB one by one");
}

#[test]
fn a_batch_of_many_records_that_folds_to_a_thousandth_is_evaluated_as_others_are() {
    let bank = Nordbank::new(60, 1);
    let calm = run_over(&bank, "calm-many", &[], None);
    let records = (0..400).map(|n| {
        let mut record: Value = serde_json::from_slice(&long(&bank.records[0].1, 900_000)).unwrap();
        record["ref"] = format!("big-{n}").into();
        record.to_string().into_bytes()
    });
    let batches: [Batch; 1] = [("gzip", records.collect(), None)];
    let most = run_over(&bank, "bomb-many", &batches, None);
    eprintln!("400 records of 900 kB: {most} MiB held at most; without them {calm} MiB");
    // The batch once, and pieces of it on their way.
    assert!(most < calm + 360 + 250, "{most} MiB, without the batch {calm} MiB");
}

#[test]
fn bombs_in_all_partitions_are_not_unfolded_at_once_and_other_partitions_are_read_beside_them() {
    const BOMBS: i32 = 5;
    const MIB_EACH: u64 = 100;
    let bank = Nordbank::new(60, 1);
    let calm = run_over(&bank, "calm-partitions", &[], None);
    let kafka = Kafka::shared();
    let topic = "bomb-partitions";
    kafka.topic(topic, BOMBS + 1);
    let bomb = grainy(&bank.records[0].1, MIB_EACH as usize * MIB);
    let mut good = bank.records.iter().map(|(_, record)| record.as_bytes());
    for partition in 0..BOMBS {
        kafka.send_folded_to(topic, partition, "gzip", &[&bomb]);
        kafka.send_folded_to(topic, partition, "gzip", &good.by_ref().take(20).collect::<Vec<_>>());
    }
    kafka.send_folded_to(topic, BOMBS, "none", &good.by_ref().take(300).collect::<Vec<_>>());
    let feed = feed_on(&bank, topic);
    let folder = bank.folder.path();
    let arguments =
        ["run", "--feed", &feed, "--until-end", "--alerts", "a.jsonl", "--dead-letters", "letters.jsonl"];
    let (told, most) = measured(manumit(folder, &arguments, &with_kafka(&bank, kafka, topic)), folder);
    eprintln!(
        "{BOMBS} partitions with {MIB_EACH} MiB each: {most} MiB held at most; without them {calm} MiB"
    );
    let words = "405 records read: 400 transactions accepted, 0 records filtered, 5 to dead letters";
    assert!(told.contains(words), "{told}");
    assert!(lines(&bank.path("letters.jsonl")).iter().all(|letter| letter["reason"] == "oversized"));
    // One is unfolded while the one before is read.
    assert!(most < calm + 2 * MIB_EACH + 100, "{most} MiB, without the bombs {calm} MiB");
}
