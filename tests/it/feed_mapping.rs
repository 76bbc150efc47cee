//! Feeds, from their files: what is mapped, what is refused and why.

use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Decimal128Type, Int32Type, TimestampMicrosecondType};
use manumit_feed::{Feed, Future, Mapped};
use manumit_model::Records;
use manumit_sql::Sql;
use proptest::prelude::*;

const BANK: &str = r#"---
format = "jsonl"
time_zone = "Europe/Berlin"
lateness = "10 minutes"
country = "DE"

[raw]
id = "text"
booked = "timestamp"
amount = "decimal"
currency = "text"
kind = "text"
debtor = { iban = "text", name = "text" }
creditor = { iban = "text", name = "text" }
mcc = "text"
lat = "number"
tags = ["text"]
---
SELECT
  id AS tx_id,
  booked AS event_time,
  abs(amount) AS amount,
  currency,
  CASE WHEN amount < 0 THEN creditor.iban ELSE debtor.iban END AS debtor_account,
  CASE WHEN amount < 0 THEN raw['debtor']['iban'] ELSE raw.creditor.iban END AS creditor_account,
  debtor.name AS debtor_name,
  kind AS method,
  mcc,
  lat AS latitude,
  array_to_string(tags, ' ') AS memo
FROM raw
WHERE kind <> 'ignored'
"#;

fn feed(text: &str) -> Result<Feed, String> {
    Feed::load("bank", Path::new("sql/feeds/bank.sql"), text.into(), &Sql::new(), None)
        .map_err(|faults| faults.to_string())
}

fn records(lines: &[Vec<u8>]) -> Records {
    // Some day in 2033.
    let mut records = Records::new("day.jsonl".into(), 0, 2_000_000_000_000_000);
    for (n, line) in lines.iter().enumerate() {
        records.push(n as i64 + 1, line);
    }
    records
}

const DAY: i64 = 86_400_000_000;

/// Every record is one of mapped, left out and dead letter, but for what `further` counts.
fn adds_up(mapped: &Mapped) -> bool {
    let went = mapped.filtered as usize + mapped.dead_letters.len() + mapped.transactions.num_rows();
    (mapped.read + mapped.further) as usize == went
}

fn good(n: usize) -> Vec<u8> {
    format!(
        r#"{{"id":"t{n}","booked":"2026-03-0{}T10:00:00+01:00","amount":{}.50,"currency":"EUR","kind":"transfer","debtor":{{"iban":"A{n}","name":"Ann \"é\""}},"creditor":{{"iban":"B"}},"tags":["x","y"],"more":{{"deep":[1,2]}}}}"#,
        n % 9 + 1,
        n + 1
    )
    .into_bytes()
}

/// (reason, record): every kind of damage that the guide names for JSON.
fn damaged() -> Vec<(&'static str, Vec<u8>)> {
    let base = String::from_utf8(good(0)).unwrap();
    let change = |from: &str, to: &str| {
        let changed = base.replace(from, to);
        assert_ne!(changed, base, "{from} is not in the record");
        changed.into_bytes()
    };
    vec![
        ("not_utf8", [&base.as_bytes()[..10], &[0xff, 0xfe], &base.as_bytes()[10..]].concat()),
        ("not_json", base.as_bytes()[..base.len() - 30].to_vec()),
        ("not_json", format!("{base}{base}").into_bytes()),
        ("not_json", b"hello".to_vec()),
        ("not_json", change("\"kind\"", "kind")),
        ("wrong_shape", b"[1,2,3]".to_vec()),
        ("wrong_shape", b"42".to_vec()),
        ("wrong_shape", change(r#"{"iban":"B"}"#, "\"B\"")),
        ("wrong_shape", change(r#"["x","y"]"#, "{\"x\":1}")),
        ("not_a_date", change("2026-03-01T", "2026-02-30T")),
        ("not_a_date", change("2026-03-01T10:00:00+01:00", "yesterday")),
        ("in_the_future", change("2026-03-01T", "2126-03-01T")),
        ("impossible_time", change("2026-03-01T", "0001-03-01T")),
        ("not_an_amount", change("1.50", "\"1,50\"")),
        ("too_many_decimals", change("1.50", "1.505")),
        ("out_of_range", change("1.50", "1e17")),
        ("out_of_range", change("\"kind\"", "\"lat\":91,\"kind\"")),
        ("wrong_type", change("\"kind\"", "\"lat\":\"north\",\"kind\"")),
        ("missing_field", change("\"id\":\"t0\",", "")),
        ("missing_field", change("\"amount\":1.50", "\"amount\":null")),
        ("unknown_currency", change("EUR", "EUE")),
        ("unknown_word", change("\"transfer\"", "\"transfers\"")),
        ("bad_mcc", change("\"kind\"", "\"mcc\":742,\"kind\"")),
        ("no_account", change(r#""debtor":{"iban":"A0","name":"Ann \"é\""},"creditor":{"iban":"B"},"#, "")),
    ]
}

#[test]
fn nested_fields_signs_and_offsets_are_mapped_as_the_select_says() {
    let feed = feed(BANK).unwrap();
    let negative = String::from_utf8(good(3)).unwrap().replace("4.50", "-4.50").into_bytes();
    let utc = String::from_utf8(good(4)).unwrap().replace("+01:00", "Z").into_bytes();
    let ignored = String::from_utf8(good(5)).unwrap().replace("transfer", "ignored").into_bytes();
    let mapped = feed.map(&records(&[negative, utc, ignored])).unwrap();
    assert_eq!(mapped.dead_letters, []);
    assert_eq!((mapped.read, mapped.filtered, mapped.transactions.num_rows()), (3, 1, 2));
    let column = |name: &str| mapped.transactions.column_by_name(name).unwrap();
    let text = |name: &str| column(name).as_string::<i32>().clone();
    assert_eq!(text("debtor_account").value(0), "B");
    assert_eq!(text("creditor_account").value(0), "A3");
    assert_eq!(text("debtor_name").value(0), "Ann \"é\"");
    assert_eq!(text("memo").value(0), "x y");
    assert_eq!(text("country").value(0), "DE");
    assert_eq!(text("entry_type").value(0), "booking");
    assert_eq!(column("amount").as_primitive::<Decimal128Type>().value(0), 45_000);
    // The record's own offset; and for `Z`, which says no place, the offset of the feed's zone.
    assert_eq!(column("utc_offset_minutes").as_primitive::<Int32Type>().values(), &[60, 60]);
    let (utc, local) = (column("event_time"), column("local_time"));
    let at = |c: &std::sync::Arc<dyn Array>, row| c.as_primitive::<TimestampMicrosecondType>().value(row);
    assert_eq!(at(local, 1) - at(utc, 1), 3_600_000_000);
    assert_eq!(text("source").value(0), "day.jsonl");
}

#[test]
fn every_kind_of_damage_gets_its_own_reason() {
    let feed = feed(BANK).unwrap().with_future(Some(Future::Micros(DAY)));
    for (reason, record) in damaged() {
        let mapped = feed.map(&records(&[good(1), record.clone(), good(2)])).unwrap();
        let shown = String::from_utf8_lossy(&record).to_string();
        assert_eq!(mapped.transactions.num_rows(), 2, "neighbours of {shown}");
        let letters: Vec<(&str, i64)> =
            mapped.dead_letters.iter().map(|l| (l.reason.as_str(), l.position.offset)).collect();
        assert_eq!(letters, [(reason, 2)], "{shown}: {:?}", mapped.dead_letters);
        let letter = &mapped.dead_letters[0];
        assert_eq!(letter.raw_bytes as usize, record.len());
        assert!(letter.raw.is_some() != letter.raw_base64.is_some());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn among_damaged_records_every_good_one_is_mapped_and_every_bad_one_is_kept(
        picks in prop::collection::vec(prop::option::weighted(0.3, any::<prop::sample::Index>()), 1..300),
        size in 1_usize..120,
    ) {
        let feed = feed(BANK).unwrap().with_future(Some(Future::Micros(DAY)));
        let damaged = damaged();
        let lines: Vec<(Option<&str>, Vec<u8>)> = picks
            .iter()
            .enumerate()
            .map(|(n, pick)| match pick {
                None => (None, good(n)),
                Some(index) => {
                    let (reason, record) = index.get(&damaged);
                    (Some(*reason), record.clone())
                }
            })
            .collect();
        let (mut ids, mut reasons, mut read) = (Vec::new(), Vec::new(), 0);
        for part in lines.chunks(size) {
            let part: Vec<Vec<u8>> = part.iter().map(|(_, line)| line.clone()).collect();
            let mapped = feed.map(&records(&part)).unwrap();
            prop_assert!(adds_up(&mapped), "{mapped:?}");
            let Mapped { transactions, dead_letters, read: looked_at, .. } = mapped;
            read += looked_at as usize;
            let column = transactions.column_by_name("tx_id").unwrap().as_string::<i32>().clone();
            ids.extend(column.iter().map(|id| id.unwrap().to_string()));
            reasons.extend(dead_letters.into_iter().map(|l| l.reason));
        }
        let wanted: Vec<String> = (0..lines.len()).filter(|&n| lines[n].0.is_none()).map(|n| format!("t{n}")).collect();
        let wanted_reasons: Vec<&str> = lines.iter().filter_map(|(reason, _)| *reason).collect();
        prop_assert_eq!(ids, wanted);
        prop_assert_eq!(reasons, wanted_reasons);
        prop_assert_eq!(read, lines.len());
    }
}

#[test]
fn csv_and_documents_and_lists_of_entries_are_read_too() {
    let csv = "---\nformat = \"csv\"\ndelimiter = \";\"\ncurrency = \"EUR\"\n[raw]\nId = \"text\"\nWhen = \"timestamp_s\"\nSum = \"decimal\"\nAcc = \"text\"\n---\nSELECT Id AS tx_id, \"When\" AS event_time, Sum AS amount, Acc AS debtor_account FROM raw";
    let feed_csv = feed(csv).unwrap();
    let mut lines =
        records(&[b"1.25;\"a;\"\"b\"\"\";1770000000;X".to_vec(), b"1;2".to_vec(), b"1;\"a;1;2".to_vec()]);
    lines.header = Some(b"Sum;Id;When;Acc".as_slice().into());
    let mapped = feed_csv.map(&lines).unwrap();
    assert_eq!(mapped.transactions.column_by_name("tx_id").unwrap().as_string::<i32>().value(0), "a;\"b\"");
    let reasons: Vec<&str> = mapped.dead_letters.iter().map(|l| l.reason.as_str()).collect();
    assert_eq!(reasons, ["not_csv", "not_csv"]);

    let document = "---\nformat = \"json\"\nrecords = \"Data.Tx\"\ncurrency = \"EUR\"\n[raw]\nacc = \"text\"\nlines = [{ id = \"text\", at = \"timestamp\", sum = \"decimal\" }]\n---\nSELECT unnest(lines).id AS tx_id, unnest(lines).at AS event_time, unnest(lines).sum AS amount, acc AS debtor_account FROM raw";
    let feed_document = feed(document).unwrap();
    let text = br#"{"Meta":{"n":1},"Data":{"Tx":[{"acc":"A","lines":[{"id":"1","at":"2026-01-01T00:00:00Z","sum":"1.00"},{"id":"2","at":"2026-01-01T00:00:00Z","sum":2}]},{"acc":"B","lines":[]},{"acc":7,"lines":"none"}]}}"#;
    let mut whole = Records::new("doc.json".into(), 0, 0);
    whole.push(0, text);
    let mapped = feed_document.map(&whole).unwrap();
    assert_eq!((mapped.read, mapped.filtered, mapped.transactions.num_rows()), (3, 1, 2));
    // One record gave two rows, and one of those that gave none is a dead letter.
    assert!(mapped.further == 1 && adds_up(&mapped), "{mapped:?}");
    assert_eq!(
        (mapped.dead_letters[0].reason.as_str(), mapped.dead_letters[0].position.offset),
        ("wrong_shape", 3)
    );
}

#[test]
fn a_broken_feed_file_is_refused_with_place_and_mend() {
    let refused = |from: &str, to: &str| {
        feed(&BANK.replace(from, to)).err().unwrap_or_else(|| panic!("{to} was taken"))
    };
    let faults = [
        refused("debtor.name AS debtor_name", "debtor.nam AS debtor_name"),
        refused("AS memo", "AS memmo"),
        refused("Europe/Berlin", "Europe/Berlim"),
        refused("amount = \"decimal\"", "amount = \"number\""),
        refused("WHERE kind <> 'ignored'", "GROUP BY id"),
        refused("  booked AS event_time,\n", ""),
        refused("mcc = \"text\"", "mcc = \"string\""),
        refused("array_to_string(tags, ' ')", "array_to_string(tags"),
    ];
    insta::assert_snapshot!(faults.join("\n\n"));
}

/// Records of the 1st, 2nd, 3rd of March, each at nine o'clock UTC.
fn three_days() -> Records {
    records(&[good(0), good(1), good(2)])
}

fn ids_of(feed: &Feed, records: &Records) -> (Vec<String>, Vec<String>) {
    let mapped = feed.map(records).unwrap();
    assert!(adds_up(&mapped));
    let ids = mapped.transactions.column_by_name("tx_id").unwrap().as_string::<i32>().clone();
    let letters = mapped.dead_letters.iter().map(|l| {
        assert_eq!((l.reason.as_str(), l.field.as_deref()), ("in_the_future", Some("event_time")));
        l.message.clone()
    });
    (ids.iter().map(|id| id.unwrap().to_string()).collect(), letters.collect())
}

#[test]
fn the_future_is_measured_from_when_a_record_was_written_whenever_it_is_read() {
    let plain = feed(BANK).unwrap();
    let mut written = three_days();
    let first = chrono::DateTime::parse_from_rfc3339("2026-03-01T09:00:00Z").unwrap().timestamp_micros();
    written.written_at_micros = vec![first; 3];
    for read in [0, first, i64::MAX] {
        written.polled_at_micros = read;
        let (ids, letters) = ids_of(&plain, &written);
        // A day ahead is no more than a day.
        assert_eq!(ids, ["t0", "t1"]);
        assert!(
            letters.len() == 1 && letters[0].contains("1 day") && letters[0].contains("2026-03-01T09:00"),
            "{letters:?}"
        );
    }
    // Each record has its own time.
    written.written_at_micros = vec![first, first - 1, first + DAY];
    assert_eq!(ids_of(&plain, &written).0, ["t0", "t2"]);
}

#[test]
fn files_may_be_dated_as_they_like_unless_a_bound_is_set_and_the_feeds_own_goes_first() {
    let bounded = |line: &str| feed(&BANK.replace("[raw]", &format!("{line}\n[raw]"))).unwrap();
    let mut read = three_days();
    // Read before any of them happened.
    read.polled_at_micros = 1_000_000_000_000_000;
    let all = |feed: &Feed| ids_of(feed, &read).0.len();
    assert_eq!(all(&feed(BANK).unwrap()), 3);
    assert_eq!(all(&feed(BANK).unwrap().with_future(Some(Future::Micros(DAY)))), 0);
    assert_eq!(all(&bounded("future = \"1 day\"")), 0);
    assert_eq!(all(&bounded("future = \"off\"").with_future(Some(Future::Micros(DAY)))), 3);
    assert_eq!(all(&bounded("future = \"20000 days\"").with_future(Some(Future::Micros(DAY)))), 3);
    assert!(
        feed(&BANK.replace("[raw]", "future = \"soon\"\n[raw]")).err().is_some_and(|e| e.contains("soon"))
    );
}
