//! A bank with records of its own shape, made from the simulated bank's.

use std::fmt::Write as _;
use std::path::PathBuf;

use manumit_sim::{Options, simulate};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with the bank's records and reference tables.
pub struct Nordbank {
    pub folder: TempDir,
    /// Key (an account) and record, in the order booked.
    pub records: Vec<(String, String)>,
    /// The same payments as the demo bank would send them.
    pub demo_records: Vec<(String, String)>,
}

/// 1 April 2026 in Berlin, Unix seconds.
const END: i64 = 1_774_994_400;

/// What is planted: enough for alerts of all kinds, in a bank that a test reads in a second.
const PLANTED: [&str; 11] = [
    "circuit-travel-cash",
    "depleted-controlled-account",
    "fan-in-fast-out",
    "fan-out-burst",
    "funnel-across-cities",
    "ocse-facilitator",
    "pass-through-account",
    "price-band-fan-in",
    "sextortion-mule",
    "sextortion-victim-burst",
    "wage-sweep-to-controller",
];

impl Nordbank {
    pub fn new(customers: u32, networks: u32) -> Nordbank {
        let bank = simulate(&Options {
            seed: 11,
            customers,
            days: 90,
            networks,
            stealthy: 0,
            look_alikes: networks * 5,
            typologies: PLANTED.map(String::from).to_vec(),
        });
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("accounts.csv"), bank.bank.accounts_csv()).unwrap();
        std::fs::write(folder.path().join("customers.csv"), bank.bank.customers_csv()).unwrap();
        let mut line = Vec::new();
        let mut demo_records = Vec::new();
        let records: Vec<(String, String)> = bank
            .transactions
            .iter()
            // What the last days set off for later comes in drips.
            .filter(|transaction| transaction.time < END)
            .map(|transaction| {
                line.clear();
                transaction.write_json(&mut line).unwrap();
                let key = transaction.key().to_string();
                demo_records.push((key.clone(), String::from_utf8(line.clone()).unwrap().trim().to_string()));
                (key, record(&serde_json::from_slice(&line).unwrap()).to_string())
            })
            .collect();
        let mut text = String::new();
        for (_, record) in &records {
            writeln!(text, "{record}").unwrap();
        }
        std::fs::write(folder.path().join("records.jsonl"), text).unwrap();
        Nordbank { folder, records, demo_records }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where the reference tables are, for the program's environment.
    pub fn environment(&self) -> Vec<(String, String)> {
        let path = |name: &str| self.path(name).display().to_string();
        vec![
            ("MANUMIT_REFERENCE_ACCOUNTS".into(), path("accounts.csv")),
            ("MANUMIT_REFERENCE_CUSTOMERS".into(), path("customers.csv")),
            // The records are of 2026, whatever day it is where the tests run; those of 2126 are in the future all the same.
            ("MANUMIT_FUTURE".into(), "18250 days".into()),
        ]
    }
}

fn record(demo: &Value) -> Value {
    let text = |pointer: &str| demo.pointer(pointer).and_then(Value::as_str);
    let party = |side: &str| {
        demo.get(side).map(|_| {
            json!({
                "acct": text(&format!("/{side}/iban")),
                "holder": text(&format!("/{side}/name")),
                "ctry": text(&format!("/{side}/country")),
            })
        })
    };
    // The bank writes its own local time, wherever its customers are.
    let booked = chrono::DateTime::parse_from_rfc3339(text("/booked").unwrap()).unwrap();
    let booked = booked.with_timezone(&chrono_tz::Europe::Berlin).format("%Y-%m-%dT%H:%M:%S").to_string();
    let (day, clock) = booked.split_once('T').unwrap();
    let minor: i64 = text("/amount").unwrap().replace('.', "").parse().unwrap();
    let kind = match text("/kind").unwrap() {
        "transfer" => "TRF",
        "p2p" => "P2P",
        "card" => "CRD",
        "refund" => "RFD",
        "cash_in" => "CIN",
        "cash_out" => "OUT",
        "direct_debit" => "DD",
        "wire" => "WIR",
        "crypto" | "prepaid" => "OTH",
        other => panic!("a kind nobody mapped: {other}"),
    };
    json!({
        "ref": format!("NB-{}", text("/id").unwrap()),
        "when": { "day": day, "clock": &clock[..8] },
        // It books everything in its own currency.
        "money": { "minor": minor, "ccy": "EUR" },
        "type": kind,
        "from": party("debtor"),
        "to": party("creditor"),
        "shop": demo.get("merchant").map(|_| json!({ "category": text("/merchant/mcc"), "label": text("/merchant/name") })),
        "where": demo.get("place").map(|p| json!({ "town": text("/place/city"), "pos": [p["lat"], p["lon"]] })),
        "lines": text("/memo").map(|m| m.split(' ').collect::<Vec<_>>()).unwrap_or_default(),
        "brought_by": text("/depositor"),
        "iso_purpose": text("/purpose"),
        "teller_note": "a field that the mapping does not use",
    })
}
