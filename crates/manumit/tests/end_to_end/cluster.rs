//! A cluster of a scheduler and two executors, started as its users start it: a backtest finds the same on it as here.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::nordbank::Nordbank;
use crate::program::{FEED, manumit};

/// `manumit cluster start`, and what it said.
struct Cluster {
    child: Child,
    url: String,
    /// Scheduler, then executors.
    pids: Vec<u32>,
}

impl Cluster {
    fn start(folder: &Path, environment: &[(String, String)]) -> Cluster {
        let arguments = ["cluster", "start", "--executors", "2", "--port", "0"];
        let mut child = manumit(folder, &arguments, environment).stdout(Stdio::piped()).spawn().unwrap();
        let mut pids = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some((_, pid)) = line.split_once("  pid ") {
                pids.push(pid.parse().unwrap());
            }
            if let Some(rest) = line.strip_prefix("ready: manumit backtest --cluster ") {
                let url = rest.split_whitespace().next().unwrap().to_string();
                assert_eq!(pids.len(), 3);
                return Cluster { child, url, pids };
            }
        }
        panic!("the cluster did not come up: {:?}", child.wait());
    }

    /// As `docker stop` does it; all its processes must be gone afterwards.
    fn stop(mut self) {
        signal("-TERM", self.child.id());
        let began = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < Duration::from_secs(60), "it did not stop");
            std::thread::sleep(Duration::from_millis(50));
        }
        for pid in &self.pids {
            assert!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} was left behind");
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Its processes end when it does.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(which: &str, pid: u32) {
    assert!(Command::new("kill").args([which, &pid.to_string()]).status().unwrap().success());
}

/// Alerts, hits and the report of a backtest of the bank's records.
struct Outcome {
    alerts: Vec<u8>,
    hits: BTreeSet<String>,
    report: Value,
    said: String,
}

fn backtest(bank: &Nordbank, name: &str, more: &[&str]) -> Outcome {
    let path = |end: &str| bank.path(&format!("{name}{end}")).display().to_string();
    let (alerts, hits, out) = (path("-alerts.jsonl"), path("-hits.jsonl"), path(""));
    let mut arguments = vec!["backtest", "--feed", FEED, "--data", "records.jsonl"];
    arguments.extend(["--alerts", &alerts, "--hits", &hits, "--out", &out]);
    arguments.extend(more);
    let output = manumit(bank.folder.path(), &arguments, &bank.environment()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let scratch = std::fs::read_dir(&out).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir()).count();
    assert_eq!(scratch, 0, "scratch folders are left behind");
    let report = std::fs::read(Path::new(&out).join("report.json")).unwrap();
    Outcome {
        alerts: std::fs::read(&alerts).unwrap(),
        hits: std::fs::read_to_string(&hits).unwrap().lines().map(String::from).collect(),
        report: serde_json::from_slice(&report).unwrap(),
        said,
    }
}

/// The report without what may differ: times, and who found it.
fn findings(report: &Value) -> Value {
    let mut report = report.clone();
    // What memory held at the end depends on how fast rows came.
    for name in ["seconds", "cluster", "checked", "state"] {
        report.as_object_mut().unwrap().remove(name).unwrap();
    }
    report
}

fn assert_checked(outcome: &Outcome, by: &str) {
    let checked = &outcome.report["checked"];
    assert_eq!(checked["by"], by);
    let indicators = checked["indicators"].as_array().unwrap();
    let hits: u64 = indicators.iter().map(|i| i["hits"].as_u64().unwrap()).sum();
    assert_eq!(hits as usize, outcome.hits.len());
    for indicator in indicators {
        assert_eq!(indicator["engine"], indicator["sql"], "{indicator}");
        assert_eq!((&indicator["engine_only"], &indicator["unequal"]), (&0.into(), &0.into()), "{indicator}");
        assert_eq!(indicator["failed"], Value::Null);
    }
    assert!(outcome.said.contains(&format!("hits, the same as its SQL by {by}")), "{}", outcome.said);
}

fn tasks(outcome: &Outcome) -> Vec<u64> {
    let executors = outcome.report["cluster"]["executors"].as_array().unwrap();
    executors.iter().map(|executor| executor["tasks"].as_u64().unwrap()).collect()
}

#[test]
fn two_executors_find_what_the_engine_finds_here_and_both_work() {
    let bank = Nordbank::new(160, 1);
    let cluster = Cluster::start(bank.folder.path(), &bank.environment());

    let here = backtest(&bank, "here", &["--verify"]);
    assert_checked(&here, "DataFusion");
    assert!(here.report["alerts"].as_u64().unwrap() >= 5, "{}", here.said);

    let there = backtest(&bank, "there", &["--cluster", &cluster.url]);
    assert_eq!(String::from_utf8_lossy(&there.alerts), String::from_utf8_lossy(&here.alerts));
    assert_eq!(there.hits, here.hits);
    assert_eq!(findings(&there.report), findings(&here.report));
    assert_checked(&there, "Ballista");
    let spread = tasks(&there);
    assert!(spread.len() == 2 && spread.iter().all(|&tasks| tasks > 20), "{spread:?}");
    assert!(there.said.contains("executor-1 (127.0.0.1:"), "{}", there.said);
    // A command with other reference tables would be answered wrongly: it is refused.
    let arguments = ["backtest", "--feed", FEED, "--data", "records.jsonl", "--cluster", &cluster.url];
    let environment =
        [("MANUMIT_REFERENCE_ACCOUNTS".into(), bank.path("accounts.csv").display().to_string())];
    let other = manumit(bank.folder.path(), &arguments, &environment).output().unwrap();
    let said = String::from_utf8_lossy(&other.stderr);
    assert!(!other.status.success() && said.contains("other lists or reference tables"), "{said}");

    // The work of an executor that is gone is done by the other one.
    signal("-KILL", cluster.pids[2]);
    let alone =
        backtest(&bank, "alone", &["--cluster", &cluster.url, "--typology", "wage-sweep-to-controller"]);
    let once = backtest(&bank, "once", &["--typology", "wage-sweep-to-controller"]);
    assert_eq!(alone.alerts, once.alerts);
    assert_eq!(alone.hits, once.hits);
    assert!(!once.hits.is_empty());
    // Only transactions of accounts that hit come here.
    let fetched = alone.report["cluster"]["fetched"].as_u64().unwrap();
    assert!(fetched * 10 < alone.report["rows"].as_u64().unwrap(), "{fetched}");

    cluster.stop();
}
