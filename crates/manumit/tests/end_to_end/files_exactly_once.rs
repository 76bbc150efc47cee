//! Exactly once from files to files, whatever kills the process and whenever.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::exactly_once::{asked, bad_day};
use crate::nordbank::Nordbank;
use crate::program::{FEED, finish, lines, manumit, write};

const OUTPUTS: [&str; 5] = ["alerts", "hits", "dead", "late", "log"];

/// A history with folders of its own.
struct History<'a> {
    bank: &'a Nordbank,
    name: String,
    feeds: Vec<String>,
    from: Option<&'a str>,
}

impl History<'_> {
    fn command(&self, more: &[&str]) -> Command {
        let mut arguments = vec!["run".to_string()];
        for feed in &self.feeds {
            arguments.extend(["--feed".into(), feed.clone()]);
        }
        let places = [
            ("--alerts", "alerts"),
            ("--urgent", "urgent"),
            ("--hits", "hits"),
            ("--dead-letters", "dead"),
            ("--late", "late"),
            ("--alert-log", "log"),
            ("--archive", "archive"),
            ("--checkpoints", "checkpoints"),
            ("--ledger", "ledger"),
        ];
        for (option, place) in places.into_iter().filter(|(option, _)| !more.contains(option)) {
            arguments.extend([option.into(), format!("{}/{place}", self.name)]);
        }
        arguments.extend(self.from.iter().flat_map(|from| ["--from".into(), (*from).into()]));
        let mut environment = self.bank.environment();
        environment.push(("MANUMIT_CHECKPOINT_EVERY".into(), "40 milliseconds".into()));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
        manumit(self.bank.folder.path(), &arguments, &environment)
    }

    fn start(&self) -> Child {
        self.command(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.bank.path(&self.name).join(name)
    }

    fn output(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Is refused; gives what was said.
    fn refused(&self, more: &[&str]) -> String {
        let before = OUTPUTS.map(|name| self.output(name));
        let done = self.command(more).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success(), "{said}");
        assert!(before == OUTPUTS.map(|name| self.output(name)), "outputs were changed: {said}");
        said
    }

    /// Is killed up to `kills` times while it runs, and then left in peace; gives how often it was.
    fn survive(&self, kills: u64, longest: Duration, rng: &mut ChaCha8Rng) -> u64 {
        let mut done = 0;
        let mut reached = Vec::new();
        for _ in 0..kills {
            let mut run = self.start();
            std::thread::sleep(Duration::from_millis(rng.random_range(20..longest.as_millis() as u64)));
            if run.try_wait().unwrap().is_some() {
                break;
            }
            run.kill().unwrap();
            run.wait().unwrap();
            done += 1;
            reached.push(std::fs::metadata(self.path("hits")).map_or(0, |it| it.len()));
        }
        println!("{}: {done} kills, hits in bytes then: {reached:?}", self.name);
        println!("the last run:\n{}", finish(self.command(&[])));
        done
    }

    /// Equal to the outputs of another history, line by line and in the same order.
    fn assert_equal(&self, other: &History<'_>, what: &str) {
        for name in OUTPUTS {
            let (ours, theirs) = (self.output(name), other.output(name));
            assert_eq!(ours.lines().count(), theirs.lines().count(), "{what}: {name}");
            for (line, (ours, theirs)) in ours.lines().zip(theirs.lines()).enumerate() {
                if name == "dead" {
                    assert_eq!(timeless(ours), timeless(theirs), "{what}: {name}, line {line}");
                } else {
                    assert_eq!(ours, theirs, "{what}: {name}, line {line}");
                }
            }
        }
        let urgent: Vec<String> =
            self.output("alerts").lines().filter(|alert| is_urgent(alert)).map(String::from).collect();
        assert!(!urgent.is_empty(), "no alert was urgent");
        assert_eq!(self.output("urgent").lines().collect::<Vec<_>>(), urgent, "{what}: urgent");
        let log = format!("{}/log", self.name);
        let alerts = format!("{}/alerts", self.name);
        let verify = ["verify-log", &log, "--alerts", &alerts];
        assert!(manumit(self.bank.folder.path(), &verify, &[]).output().unwrap().status.success());
    }

    /// A column of the newest ledger, over all feeds; every line must balance.
    fn ledger(&self, column: &str) -> u64 {
        let mut files: Vec<_> =
            std::fs::read_dir(self.path("ledger")).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let all: Vec<Value> = files.iter().flat_map(|file| lines(file)).collect();
        assert!(all.iter().all(|line| line["balances"] == true), "{all:?}");
        all.iter().filter_map(|line| line[column].as_u64()).sum()
    }

    fn newest_checkpoint(&self) -> PathBuf {
        let mut files: Vec<_> =
            std::fs::read_dir(self.path("checkpoints")).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|it| it == "json"));
        files.sort();
        files.pop().unwrap()
    }
}

fn is_urgent(alert: &str) -> bool {
    let alert: Value = serde_json::from_str(alert).unwrap();
    alert["urgent"] == true
}

/// When it was read differs.
fn timeless(letter: &str) -> Value {
    let mut letter: Value = serde_json::from_str(letter).unwrap();
    letter.as_object_mut().unwrap().retain(|name, _| name != "at" && name != "received_at");
    letter
}

fn text(records: &[(String, String)]) -> String {
    records.iter().fold(String::new(), |mut text, (_, record)| {
        writeln!(text, "{record}").unwrap();
        text
    })
}

fn append(bank: &Nordbank, path: &str, text: &str) {
    let mut file = std::fs::OpenOptions::new().append(true).open(bank.path(path)).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_run_over_files_killed_again_and_again_writes_what_an_undisturbed_one_does_each_once() {
    let bank = Nordbank::new(1_200, 2);
    let mut rng = ChaCha8Rng::seed_from_u64(asked("MANUMIT_FAULT_SEED", 5));
    let kills = asked("MANUMIT_FAULT_KILLS", 8);
    let records = bad_day(&bank, &mut rng);
    let (third, last) = (records.len() / 3, records.len() * 5 / 6);
    let folder = bank.folder.path();
    write(folder, "in/a.jsonl", &text(&records[..third]));
    write(folder, "in/b.jsonl", &text(&records[third..last - 100]));
    // All records are one partition here, so that some days' disorder is more than a quarter of an hour.
    let feed = std::fs::read_to_string(FEED).unwrap().replace("\"15 minutes\"", "\"3 hours\"");
    write(folder, "patient/nordbank.sql", &feed);
    let history = |name: &str| History {
        bank: &bank,
        name: name.into(),
        feeds: vec!["patient/nordbank.sql".into()],
        from: Some("in/*.jsonl"),
    };
    let (calm, rough) = (history("calm"), history("rough"));
    let began = Instant::now();
    println!("undisturbed:\n{}", finish(calm.command(&[])));
    let longest = began.elapsed() / 3;
    for name in OUTPUTS {
        let count = calm.output(name).lines().count();
        assert!(count > if matches!(name, "alerts" | "log") { 10 } else { 50 }, "{count} {name}");
    }
    let mut done = rough.survive(kills, longest, &mut rng);
    rough.assert_equal(&calm, "killed");
    // One that ended before it was killed so often is followed by others.
    for number in 1.. {
        if done >= kills || number > kills {
            break;
        }
        let another = history(&format!("rough-{number}"));
        done += another.survive(kills - done, longest, &mut rng);
        another.assert_equal(&calm, "killed");
    }
    assert!(done >= kills, "{done} kills");
    assert_eq!(rough.ledger("read"), last as u64 - 100);
    for column in ["duplicates", "late", "evaluated"] {
        assert!(rough.ledger(column) > 0, "{column}");
        assert_eq!(rough.ledger(column), calm.ledger(column), "{column}");
    }
    let said = finish(rough.command(&[]));
    assert!(said.contains("0 records read"), "{said}");
    rough.assert_equal(&calm, "nothing to do");

    // Lines are appended, with half a line that is not written to its end yet, and a file comes that is before others by name.
    let (half, rest) = records[last - 1].1.split_at(40);
    append(&bank, "in/b.jsonl", &format!("{}{half}", text(&records[last - 100..last - 1])));
    write(folder, "in/aa.jsonl", &text(&records[last..]));
    // A run that is stopped in order leaves the rest to the next one.
    let mut run = rough.start();
    std::thread::sleep(Duration::from_millis(rng.random_range(20..longest.as_millis() as u64)));
    let pid = run.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    run.wait().unwrap();
    finish(calm.command(&[]));
    rough.survive(kills.min(2), longest, &mut rng);
    rough.assert_equal(&calm, "more");
    assert_eq!(rough.ledger("read"), records.len() as u64);
    // What came of half a line cannot be taken back.
    append(&bank, "in/b.jsonl", &format!("{rest}\n"));
    let said = rough.refused(&[]);
    assert!(
        said.contains("in/b.jsonl") && said.contains("had no line end") && said.contains("--from-beginning"),
        "{said}"
    );
}

#[test]
fn files_of_all_formats_and_several_feeds_are_gone_on_with() {
    let bank = Nordbank::new(400, 2);
    let folder = bank.folder.path();
    let mut rng = ChaCha8Rng::seed_from_u64(asked("MANUMIT_FAULT_SEED", 5));
    finish(manumit(
        folder,
        &[
            "run",
            "--feed",
            FEED,
            "--from",
            "records.jsonl",
            "--alerts",
            "first",
            "--archive",
            "first-archive",
        ],
        &bank.environment(),
    ));
    let columns = "tx_id, event_time, amount, currency, method, debtor_account, creditor_account";
    for (format, quarter) in [("csv", 2), ("parquet", 3)] {
        for (part, sign) in [(1, "<"), (2, ">=")] {
            let sql = format!(
                "SELECT {columns} FROM transactions WHERE source_offset % 4 = {quarter} AND event_time {sign} '2026-02-10T00:00:00Z' \
                 ORDER BY event_time, tx_id"
            );
            let out = format!("in/{part}.{format}");
            std::fs::create_dir_all(bank.path("in")).unwrap();
            let query = ["query", "--archive", "first-archive", &sql, "--format", format, "--out", &out];
            finish(manumit(folder, &query, &[]));
        }
        let raw = "tx_id = \"text\"\nevent_time = \"timestamp\"\namount = \"decimal\"\ncurrency = \"text\"\nmethod = \"text\"\n\
                   debtor_account = \"text\"\ncreditor_account = \"text\"\n";
        write(
            folder,
            &format!("feeds/{format}-bank.sql"),
            &format!(
                "---\nformat = \"{format}\"\npaths = [\"in/*.{format}\"]\nlateness = \"1 minute\"\n[raw]\n{raw}---\n\
                 SELECT {columns} FROM raw\n"
            ),
        );
    }
    let nord = std::fs::read_to_string(FEED).unwrap().replace("topics = [\"nordbank\"]\n", "");
    let quarter = |number: usize| -> Vec<&str> {
        bank.records.iter().skip(number).step_by(4).map(|(_, record)| record.as_str()).collect()
    };
    let lines = quarter(0);
    write(folder, "in/1.jsonl", &format!("{}\n", lines[..lines.len() / 2].join("\n")));
    write(folder, "in/2.jsonl", &lines[lines.len() / 2..].join("\n"));
    write(folder, "feeds/lines-bank.sql", &nord.replace("time_zone", "paths = [\"in/*.jsonl\"]\ntime_zone"));
    for (number, records) in quarter(3).chunks(4_000).enumerate() {
        write(folder, &format!("in/{number:03}.json"), &format!("[{}]", records.join(",\n")));
    }
    let documents =
        nord.replace("\"jsonl\"", "\"json\"").replace("time_zone", "paths = [\"in/*.json\"]\ntime_zone");
    write(folder, "feeds/documents-bank.sql", &documents);
    let feeds: Vec<String> =
        ["lines", "documents", "csv", "parquet"].iter().map(|it| format!("feeds/{it}-bank.sql")).collect();
    let history = |name: &str| History { bank: &bank, name: name.into(), feeds: feeds.clone(), from: None };
    let (calm, rough) = (history("calm"), history("rough"));
    let began = Instant::now();
    let said = finish(calm.command(&[]));
    println!("undisturbed:\n{said}");
    assert!(said.contains(&format!("{} evaluated, 0 late", bank.records.len())), "{said}");
    let done = rough.survive(asked("MANUMIT_FAULT_KILLS", 8), began.elapsed() / 3, &mut rng);
    assert!(done > 0);
    rough.assert_equal(&calm, "killed");
    assert_eq!(rough.ledger("evaluated"), bank.records.len() as u64);
    let said = finish(rough.command(&[]));
    assert!(said.contains("0 records read"), "{said}");
    rough.assert_equal(&calm, "nothing to do");

    // A document that was changed, and a Parquet file that became another one.
    let keep = std::fs::read(bank.path("in/001.json")).unwrap();
    append(&bank, "in/001.json", "\n");
    let said = rough.refused(&[]);
    assert!(said.contains("in/001.json") && said.contains("read as a whole"), "{said}");
    std::fs::write(bank.path("in/001.json"), keep).unwrap();
    std::fs::copy(bank.path("in/1.parquet"), bank.path("in/2.parquet")).unwrap();
    let said = rough.refused(&[]);
    assert!(said.contains("in/2.parquet") && said.contains("it was replaced or changed"), "{said}");
}

#[test]
fn what_cannot_be_gone_on_with_is_refused_in_words_and_a_damaged_checkpoint_is_passed_over() {
    let bank = Nordbank::new(120, 1);
    let folder = bank.folder.path();
    let half = bank.records.len() / 2;
    write(folder, "in/a.jsonl", &text(&bank.records[..half]));
    let history = |name: &str| History {
        bank: &bank,
        name: name.into(),
        feeds: vec![FEED.into()],
        from: Some("in/*.jsonl"),
    };
    let (calm, rough) = (history("calm"), history("rough"));
    finish(calm.command(&[]));
    finish(rough.command(&[]));
    write(folder, "in/b.jsonl", &text(&bank.records[half..]));
    finish(calm.command(&[]));
    finish(rough.command(&[]));
    rough.assert_equal(&calm, "undisturbed");

    // The newest checkpoints are damaged: all since the one before them is taken back and read again.
    let mut damaged = 0;
    let left = |history: &History<'_>| -> u64 {
        let text = std::fs::read_to_string(history.newest_checkpoint()).unwrap();
        let body: Value = serde_json::from_str(text.split_once('\n').unwrap().1).unwrap();
        body["read"][0]["next"].as_u64().unwrap()
    };
    let mut moved = Vec::new();
    while left(&rough) == bank.records.len() as u64 {
        let newest = rough.newest_checkpoint();
        let mut bytes = std::fs::read(&newest).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        moved.push((newest.clone(), bytes));
        std::fs::remove_file(newest).unwrap();
        damaged += 1;
    }
    let before = left(&rough);
    for (path, bytes) in moved {
        std::fs::write(path, bytes).unwrap();
    }
    let said = finish(rough.command(&[]));
    assert!(damaged > 0 && said.contains("an older checkpoint is used"), "{said}");
    assert!(said.contains("its checksum is another one"), "{said}");
    assert!(said.contains(&format!("{} records read", bank.records.len() as u64 - before)), "{said}");
    rough.assert_equal(&calm, "damaged");

    // A file is replaced, cut off, or gone before its end.
    let keep = std::fs::read(bank.path("in/a.jsonl")).unwrap();
    let mut other = keep.clone();
    let place = other.len() - 20;
    other[place] ^= 1;
    std::fs::write(bank.path("in/a.jsonl"), other).unwrap();
    let said = rough.refused(&[]);
    assert!(said.contains("`in/a.jsonl` has other content") && said.contains("--from-beginning"), "{said}");
    std::fs::write(bank.path("in/a.jsonl"), &keep[..place]).unwrap();
    let said = rough.refused(&[]);
    assert!(said.contains("`in/a.jsonl` has ") && said.contains(&keep.len().to_string()), "{said}");
    // A file that was read to its end may be moved away.
    std::fs::remove_file(bank.path("in/a.jsonl")).unwrap();
    let said = finish(rough.command(&[]));
    assert!(said.contains("0 records read"), "{said}");
    std::fs::write(bank.path("in/a.jsonl"), &keep).unwrap();

    for (more, words) in [
        (&["--alerts", "kafka:alerts"][..], "`kafka:alerts` is a topic"),
        (&["--alerts", "-"], "cannot be standard output"),
        (&["--from-checkpoint"], "--from-checkpoint is for runs that read Kafka topics"),
        (&["--from", "-"], "standard input cannot be read again"),
    ] {
        let said = rough.refused(more);
        assert!(said.contains(words), "{said}");
    }
    // Outputs that nobody knows are not written over, unless that is asked for.
    std::fs::remove_dir_all(rough.path("checkpoints")).unwrap();
    let said = rough.refused(&[]);
    assert!(said.contains("has content already") && said.contains("--from-beginning"), "{said}");
    std::fs::remove_file(rough.path("log")).unwrap();
    finish(rough.command(&["--from-beginning"]));
    let anew = history("anew");
    finish(anew.command(&[]));
    rough.assert_equal(&anew, "from the beginning");
    let said = finish(rough.command(&[]));
    assert!(said.contains("0 records read"), "{said}");
    // Without any that can be used it is not known what was read.
    for entry in std::fs::read_dir(rough.path("checkpoints")).unwrap() {
        std::fs::write(entry.unwrap().path(), "{}").unwrap();
    }
    let said = rough.refused(&[]);
    assert!(said.contains("checkpoints can be used") && said.contains("--from-beginning"), "{said}");
}
