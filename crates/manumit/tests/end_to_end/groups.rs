//! Groups of customers: contacts and devices from files and topics, an alert about a group, its verification, and a backtest.

use std::fmt::Write as _;
use std::path::Path;

use manumit_tests::kafka::Kafka;
use serde_json::Value;

use crate::program::{assert_same, finish, lines, manumit, told, write};

const FEED: &str = "---
format = \"csv\"
time_zone = \"UTC\"
[raw]
id = \"text\"
at = \"text\"
payer = \"text\"
payee = \"text\"
euros = \"text\"
device = \"text\"
shop = \"text\"
---
SELECT id AS tx_id, at AS event_time, euros AS amount, 'EUR' AS currency, 'transfer' AS method,
  nullif(payer, '') AS debtor_account, nullif(payee, '') AS creditor_account, nullif(device, '') AS device_id,
  nullif(shop, '') AS mcc
FROM raw
";

/// Eight people; four of them are linked by a telephone, a device, and house and employer, and pay `boss` from 2 to 9 March. The
/// other four pay as much to the same account and are linked with nobody. A telephone of 60 links nobody, either.
fn bank(folder: &Path) {
    write(folder, "feed.sql", FEED);
    let mut accounts = String::from("account,customer\nboss,BOSS\n");
    let mut customers = String::from("customer,segment,household\nBOSS,person,HX\n");
    let mut contacts = String::from("customer,kind,value,valid_from,valid_to\n");
    for (n, who) in ["a", "b", "c", "d", "e", "f", "g", "h"].iter().enumerate() {
        let _ = writeln!(accounts, "{who},{}", who.to_uppercase());
        let _ = writeln!(customers, "{},person,H{n}", who.to_uppercase());
    }
    contacts.push_str(
        "A,phone,+49 30 5550101,2020-01-01,\nB,phone,0049 30 5550101,2026-01-10,\nC,address,7 Long Road,,\nD,address,7 long road,,\n\
         C,employer,Mill,2026-01-01,\nD,employer,Mill,2026-01-01,\nE,address,7 Long Road,,\n\
         E,phone,+49 30 7,2020-01-01,2026-02-01\nF,phone,+49 30 7,2020-01-01,2026-02-01\n"
            .replace("+49 30 7", "+49 30 777777")
            .as_str(),
    );
    for n in 0..58 {
        let _ = writeln!(contacts, "R{n},phone,040 1234567,,");
    }
    contacts.push_str("G,phone,040 1234567,,\nH,phone,040 1234567,,\n");
    write(folder, "accounts.csv", &accounts);
    write(folder, "customers.csv", &customers);
    write(folder, "contacts.csv", &contacts);
    write(folder, "devices.csv", "customer,device,valid_from\nB,H1,2026-02-01\nC,H1,2026-02-10\n");
    let mut rows = String::from("id,at,payer,payee,euros,device,shop\n");
    // Most of what they earn goes there.
    for (n, who) in ["a", "b", "c", "d", "e", "f", "g", "h"].iter().enumerate() {
        let _ = writeln!(rows, "wage-{who},2026-03-01T10:{n:02}:00Z,mill,{who},2000.00,,");
    }
    for day in 2..10 {
        for (n, who) in ["a", "b", "c", "d", "e", "f", "g", "h"].iter().enumerate() {
            if (day + n) % 2 == 0 {
                let _ = writeln!(rows, "{who}{day},2026-03-{day:02}T10:{n:02}:00Z,{who},boss,400.00,H1,");
            }
        }
    }
    write(folder, "rows.csv", &rows);
}

fn environment(folder: &Path, tables: &[(&str, String)]) -> Vec<(String, String)> {
    let mut all = vec![("MANUMIT_FUTURE".to_string(), "18250 days".to_string())];
    for table in ["accounts", "customers", "contacts", "devices"] {
        let given = tables.iter().find(|(name, _)| *name == table).map(|(_, from)| from.clone());
        let file = folder.join(format!("{table}.csv")).display().to_string();
        all.push((format!("MANUMIT_REFERENCE_{}", table.to_uppercase()), given.unwrap_or(file)));
    }
    all
}

/// Runs the feed with the built-in rules and gives the alerts about groups.
fn run(folder: &Path, name: &str, more: &[&str], environment: &[(String, String)]) -> Vec<Value> {
    let run = ["run", "--feed", "feed.sql", "--from", "rows.csv", "--alerts", name];
    finish(manumit(folder, &[&run[..], more].concat(), environment));
    groups(&folder.join(name))
}

fn groups(path: &Path) -> Vec<Value> {
    lines(path).into_iter().filter(|alert| alert["subject"]["kind"] == "group").collect()
}

#[test]
fn an_alert_about_a_group_names_members_and_links_and_holds_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    bank(folder);
    let alerts = run(folder, "alerts.jsonl", &[], &environment(folder, &[]));
    assert!(!alerts.is_empty());
    for alert in &alerts {
        assert_eq!(alert["typology"]["id"], "shared-identity-hub", "{alert}");
        assert_eq!(alert["subject"]["key"], "C", "the link of C and D is the oldest: {}", alert["subject"]);
        assert_eq!(alert["group"]["members"], serde_json::json!(["A", "B", "C", "D"]));
        let links = alert["group"]["links"].as_array().unwrap().iter();
        let links: Vec<String> = links
            .map(|link| format!("{} {} {}", link["kind"], link["strong"], link["customers"]).replace('"', ""))
            .collect();
        let wanted = ["address false [C,D]", "device true [B,C]", "employer false [C,D]", "phone true [A,B]"];
        assert_eq!(links, wanted);
        let roles: Vec<String> = alert["parties"].as_array().unwrap()[1..]
            .iter()
            .map(|party| format!("{} {}", party["key"], party["role_hypothesis"]).replace('"', ""))
            .collect();
        assert!(roles.contains(&"boss possible_controller".to_string()), "{roles:?}");
        assert!(roles.contains(&"a possible_victim".to_string()), "{roles:?}");
        // Who shares the house alone, or a telephone of sixty, is not in it; nothing of them is told.
        let text = alert.to_string();
        assert!(!text.contains("\"E\"") && !text.contains("R17") && !text.contains("401234567"), "{text}");
    }
    let verify = manumit(folder, &["verify-alert", "alerts.jsonl"], &[]).env_clear().output().unwrap();
    assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stdout));

    // Another member, or another value, is not what the alert's own rows give.
    let mut changed = alerts[0].clone();
    changed["group"]["members"][1] = "F".into();
    let changed: manumit_model::Alert = serde_json::from_value(changed).unwrap();
    write(folder, "changed.json", &serde_json::to_string(&changed.sealed().unwrap()).unwrap());
    let verify = manumit(folder, &["verify-alert", "changed.json"], &[]).env_clear().output().unwrap();
    let told = String::from_utf8_lossy(&verify.stdout);
    assert!(verify.status.code() == Some(1) && told.contains("`group` is not what follows"), "{told}");
}

#[test]
fn contacts_and_devices_from_topics_give_the_same_groups_and_bad_messages_are_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    bank(folder);
    run(folder, "files.jsonl", &[], &environment(folder, &[]));
    let kafka = Kafka::shared();
    let mut from = Vec::new();
    for table in ["contacts", "devices"] {
        let topic = format!("groups-{table}");
        kafka.topic_with(&topic, 3, &[("cleanup.policy", "compact")]);
        let text = std::fs::read_to_string(folder.join(format!("{table}.csv"))).unwrap();
        let mut lines = text.lines();
        let header: Vec<&str> = lines.next().unwrap().split(',').collect();
        let rows: Vec<(String, String)> = lines
            .map(|line| {
                let cells = header.iter().zip(line.split(',')).filter(|(_, cell)| !cell.is_empty());
                let row: serde_json::Map<String, Value> =
                    cells.map(|(name, cell)| ((*name).to_string(), cell.into())).collect();
                (line.to_string(), Value::Object(row).to_string())
            })
            .collect();
        kafka.send(&topic, rows.iter().map(|(key, row)| (key.as_str(), row.as_bytes())));
        from.push((table, format!("kafka:{topic}")));
    }
    let bad = [
        r#"{"customer":"A","kind":"phone","value":"none"}"#,
        r#"{"customer":"A","kind":"phone"}"#,
        r#"{"customer":"A","kind":"email","value":"a@b.org","valid_from":"2026-03-01","valid_to":"2026-02-01"}"#,
        r#"["A"]"#,
    ];
    kafka.send("groups-contacts", bad.iter().map(|message| ("bad", message.as_bytes())));
    let mut environment = environment(folder, &from);
    environment.push(("MANUMIT_KAFKA_BROKERS".into(), kafka.brokers.clone()));
    run(folder, "topics.jsonl", &[], &environment);
    let (files, topics) = (lines(&folder.join("files.jsonl")), lines(&folder.join("topics.jsonl")));
    assert!(files.iter().any(|alert| alert["group"]["members"].as_array().is_some()));
    assert_same(&told(files), &told(topics), "contacts and devices from topics");
    let letters = lines(&folder.join("dead-letters.jsonl"));
    let reasons: Vec<String> = letters.iter().map(Value::to_string).collect();
    assert_eq!(letters.len(), bad.len(), "{reasons:?}");
    for words in [
        "`none` in column `value` is no phone",
        "`value` is empty",
        "lies before `valid_from`",
        "one JSON object",
    ] {
        assert!(reasons.iter().any(|letter| letter.contains(words)), "{words}: {reasons:?}");
    }
}

#[test]
fn what_was_archived_keeps_its_group_and_files_without_one_are_given_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    bank(folder);
    let environment = environment(folder, &[]);
    let streamed = run(folder, "alerts.jsonl", &["--archive", "archive"], &environment);
    let ids = |alerts: &[Value]| -> Vec<String> {
        let mut ids: Vec<String> =
            alerts.iter().map(|a| format!("{} {}", a["alert_id"], a["revision"])).collect();
        ids.sort();
        ids
    };
    // The archive holds groups: a bank whose contacts have changed since replays what was decided then.
    let forgotten: Vec<(String, String)> = environment
        .iter()
        .filter(|(name, _)| !name.ends_with("CONTACTS") && !name.ends_with("DEVICES"))
        .cloned()
        .collect();
    let backtest = |name: &str, data: &[&str], environment: &[(String, String)]| {
        let backtest = ["backtest", "--verify", "--out", "report", "--alerts", name];
        finish(manumit(folder, &[&backtest[..], data].concat(), environment));
        let report: Value =
            serde_json::from_slice(&std::fs::read(folder.join("report/report.json")).unwrap()).unwrap();
        let checked = report["checked"]["indicators"].as_array().unwrap();
        let ours: Vec<&Value> =
            checked.iter().filter(|one| one["id"].as_str().is_some_and(|id| id.contains("group"))).collect();
        assert!(!ours.is_empty() && ours.iter().any(|one| one["engine"].as_u64() > Some(0)), "{report}");
        for one in ours {
            assert_eq!(
                (&one["engine_only"], &one["unequal"], &one["failed"]),
                (&0.into(), &0.into(), &Value::Null),
                "{one}"
            );
            assert_eq!(one["engine"], one["sql"], "{one}");
        }
        groups(&folder.join(name))
    };
    let archived = backtest("archived.jsonl", &["--data", "archive"], &forgotten);
    assert_eq!(ids(&archived), ids(&streamed));
    let raw = backtest("raw.jsonl", &["--feed", "feed.sql", "--data", "rows.csv"], &environment);
    assert_eq!(ids(&raw), ids(&streamed));
    // Files in the canonical columns that hold no groups are asked for them in SQL.
    let query = "SELECT tx_id, event_time, amount, currency, method, debtor_account, creditor_account, device_id, mcc FROM transactions";
    finish(manumit(
        folder,
        &["query", query, "--archive", "archive", "--format", "parquet", "--out", "plain.parquet"],
        &environment,
    ));
    let plain = backtest("plain.jsonl", &["--data", "plain.parquet"], &environment);
    assert_eq!(plain.len(), streamed.len());
}

#[test]
fn a_file_of_contacts_with_a_fault_refuses_the_start_by_line_and_value() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    bank(folder);
    write(folder, "contacts.csv", "customer,kind,value\nA,phone,+49 30 5550101\nB,email,nobody\n");
    let done = manumit(folder, &["check"], &environment(folder, &[])).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success(), "{said}");
    assert!(
        said.contains("contacts.csv") && said.contains("line 3: `nobody` in column `value` is no email"),
        "{said}"
    );
}
