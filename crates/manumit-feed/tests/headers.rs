//! Files that lack what their feed's SELECT reads, and what else a sample may hide from who looks at it.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use manumit_feed::{Feed, Mapped};
use manumit_model::Records;
use manumit_sql::Sql;

const GERMAN: &str = r#"---
format = "csv"
delimiter = ";"
time_zone = "Europe/Berlin"

[raw]
Tag = "text"
Konto = "text"
Betrag = "text"
"Währung" = "text"
Zweck = "text"
Referenz = "text"
---
SELECT
  Referenz AS tx_id,
  to_timestamp(Tag, '%d.%m.%Y %H:%M:%S') AS event_time,
  replace(replace(Betrag, '.', ''), ',', '.') AS amount,
  "Währung" AS currency,
  Konto AS debtor_account,
  Zweck AS memo
FROM raw
"#;
const HEADER: &str = "Tag;Konto;Betrag;Währung;Zweck;Referenz";

fn feed(text: &str) -> Result<Feed, String> {
    Feed::load("bank", Path::new("sql/feeds/bank.sql"), text.into(), &Sql::new(), None)
        .map_err(|faults| faults.to_string())
}

/// Two good records under a header.
fn day(header: &[u8]) -> Records {
    let mut records = Records::new("day.csv".into(), 0, 0);
    records.header = Some(header.into());
    records.push(2, "30.03.2026 12:00:00;DE01;1.234,56;EUR;Miete;R1".as_bytes());
    records.push(3, "30.03.2026 12:00:00;DE02;300,00;EUR;Miete;R2".as_bytes());
    records
}

fn mapped(feed: &str, header: &str) -> Mapped {
    self::feed(feed).unwrap().map(&day(header.as_bytes())).unwrap()
}

fn told(mapped: &Mapped) -> String {
    mapped.absent.as_ref().map_or(String::new(), ToString::to_string)
}

/// Reasons and messages of the dead letters; no record may be anywhere else than in rows, dead letters or left out.
fn letters(mapped: &Mapped) -> Vec<(String, String)> {
    assert_eq!(mapped.dead_letters.len() + mapped.transactions.num_rows() + mapped.filtered as usize, 2);
    mapped.dead_letters.iter().map(|letter| (letter.reason.clone(), letter.message.clone())).collect()
}

#[test]
fn a_renamed_column_is_told_with_the_columns_that_may_be_it_and_no_row_is_lost() {
    let whole = mapped(GERMAN, HEADER);
    assert_eq!((told(&whole).as_str(), whole.transactions.num_rows()), ("", 2));
    let renamed = mapped(GERMAN, &HEADER.replace("Zweck", "Verwendungszweck"));
    let words = told(&renamed);
    assert!(
        words.starts_with("the header of day.csv has no column `Zweck`; it has `Verwendungszweck`."),
        "{words}"
    );
    assert_eq!((letters(&renamed).len(), renamed.transactions.num_rows()), (0, 2));
    // A field that nothing is made of may be missing.
    let unread = GERMAN.replace("  Konto AS debtor_account,\n  Zweck AS memo", "  Konto AS debtor_account");
    assert_eq!(told(&mapped(&unread, &HEADER.replace("Zweck", "Verwendungszweck"))), "");
}

#[test]
fn a_required_column_that_the_header_lacks_is_the_reason_of_the_dead_letters() {
    for (from, to, field) in [("Währung", "Waehrung", "currency"), ("Konto", "IBAN", "debtor_account")] {
        let mapped = mapped(GERMAN, &HEADER.replace(from, to));
        for (reason, message) in letters(&mapped) {
            assert_eq!(reason, "missing_column", "{message}");
            let wanted = format!("the header of day.csv has no column `{from}`; it has `{to}`");
            assert!(message.contains(&wanted) && message.contains(field), "{message}");
        }
        assert_eq!(mapped.dead_letters.len(), 2);
    }
    // Where the feed gives the currency itself, nothing is missing.
    let with_default = GERMAN.replace("delimiter", "currency = \"EUR\"\ndelimiter");
    assert_eq!(letters(&mapped(&with_default, &HEADER.replace("Währung", "Waehrung"))), []);
    // An empty cell under a header that has the column is the record's own fault.
    let mut empty = day(HEADER.as_bytes());
    empty.push(4, "30.03.2026 12:00:00;DE02;300,00;;Miete;R3".as_bytes());
    assert_eq!(feed(GERMAN).unwrap().map(&empty).unwrap().dead_letters[0].reason, "missing_field");
}

#[test]
fn a_condition_on_a_missing_column_leaves_no_record_out_unsaid() {
    for condition in ["Zweck <> 'Lohn'", "Zweck IS NOT NULL"] {
        let filtering = format!("{GERMAN}WHERE {condition}\n");
        assert_eq!(letters(&mapped(&filtering, HEADER)), []);
        let mapped = mapped(&filtering, &HEADER.replace("Zweck", "Text"));
        assert_eq!(mapped.filtered, 0, "{condition}");
        for (reason, message) in letters(&mapped) {
            assert!(reason == "missing_column" && message.contains("`Zweck`; it has `Text`"), "{message}");
        }
    }
}

#[test]
fn optional_columns_are_not_missed_and_must_be_declared() {
    let optional = |names: &str| GERMAN.replace("delimiter", &format!("optional = {names}\ndelimiter"));
    assert_eq!(told(&mapped(&optional("[\"Zweck\"]"), &HEADER.replace("Zweck", "Text"))), "");
    let refused = feed(&optional("[\"Zwek\"]")).err().unwrap();
    assert!(refused.contains("`Zwek`") && refused.contains("did you mean `Zweck`"), "{refused}");
}

#[test]
fn a_first_line_that_is_no_header_is_told_without_what_stands_in_it() {
    let words = told(&mapped(GERMAN, "30.03.2026 12:00:00;DE09;1,00;EUR;Anna Müller;R0"));
    assert!(words.contains("is it a header") && words.contains("delimiter ';'"), "{words}");
    assert!(!words.contains("Anna") && !words.contains("DE09"), "{words}");
    // A header of other delimiters is one name to the reader.
    assert!(told(&mapped(GERMAN, &HEADER.replace(';', ","))).contains("delimiter ';'"));
}

#[test]
fn a_latin_1_file_is_told_how_to_be_converted() {
    let latin: Vec<u8> = HEADER.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    let feed = feed(GERMAN).unwrap();
    let mut records = day(&latin);
    records.push(4, b"30.03.2026 12:00:00;DE02;300,00;EUR;Geb\xfchr;R3");
    let mapped = feed.map(&records).unwrap();
    let words = told(&mapped);
    assert!(words.contains("is not UTF-8") && words.contains("iconv -f latin1 -t utf8"), "{words}");
    let letter = mapped.dead_letters.iter().find(|letter| letter.position.offset == 4).unwrap();
    assert_eq!(letter.reason, "not_utf8");
    assert!(
        letter.message.contains("from byte 40 on") && letter.message.contains("iconv"),
        "{}",
        letter.message
    );
    // The others have no column `Währung`, as its name is no text.
    assert!(mapped.dead_letters.iter().filter(|l| l.reason == "missing_column").count() == 2);
}

#[test]
fn fields_that_no_record_has_are_counted_within_objects_too() {
    let json = r#"---
format = "jsonl"
[raw]
id = "text"
at = "timestamp"
amount = "decimal"
from = { iban = "text", name = "text" }
note = "text"
unused = "text"
---
SELECT id AS tx_id, at AS event_time, amount, 'EUR' AS currency, "from"."iban" AS debtor_account,
  "from"."name" AS debtor_name, note AS memo FROM raw
"#;
    let mut records = Records::new("day.jsonl".into(), 0, 0);
    records.push(1, br#"{"id":"1","at":"2026-03-01T10:00:00Z","amount":1.5,"from":{"iban":"A"},"memo":"x"}"#);
    records
        .push(2, br#"{"id":"2","at":"2026-03-01T10:00:00Z","amount":1.5,"from":{"iban":"A"},"unused":null}"#);
    let mapped = feed(json).unwrap().map(&records).unwrap();
    let without: Vec<&str> =
        mapped.values.iter().filter(|(_, count)| *count == 0).map(|(name, _)| name.as_str()).collect();
    assert_eq!(without, ["from.name", "note"]);
    assert_eq!(letters(&mapped), []);
}

#[test]
fn casts_that_round_an_amount_are_refused_and_texts_are_read_exactly() {
    let with = |amount: &str, kind: &str| {
        feed(
            &GERMAN
                .replace(
                    "replace(replace(Betrag, '.', ''), ',', '.') AS amount",
                    &format!("{amount} AS amount"),
                )
                .replace("Betrag = \"text\"", &format!("Betrag = \"{kind}\"")),
        )
    };
    for (amount, kind) in [
        ("CAST(replace(Betrag, ',', '.') AS DECIMAL(20, 2))", "text"),
        ("abs(Betrag::DECIMAL(20, 3))", "text"),
        ("CAST(Betrag AS DECIMAL(20, 2))", "decimal"),
        ("CAST(Betrag AS BIGINT)", "decimal"),
        ("CASE WHEN Zweck = 'x' THEN TRY_CAST(Betrag AS DECIMAL(20, 2)) ELSE 0 END", "text"),
    ] {
        let refused = with(amount, kind).err().unwrap_or_else(|| panic!("{amount} was taken"));
        assert!(refused.contains("D014") && refused.contains("would be rounded"), "{refused}");
        assert!(refused.contains("leave the CAST away"), "{refused}");
    }
    for (amount, kind) in [
        ("CAST(Betrag AS DECIMAL(20, 2))", "integer"),
        ("CAST(Betrag AS DECIMAL(20, 2)) / 100", "integer"),
        ("CAST(Betrag AS BIGINT) / 100", "text"),
        ("CAST(replace(Betrag, ',', '.') AS DECIMAL(20, 4))", "text"),
        ("abs(Betrag)", "decimal"),
    ] {
        assert!(with(amount, kind).is_ok(), "{amount}: {:?}", with(amount, kind).err());
    }
    // What the guide says to write.
    let mut records = day(HEADER.as_bytes());
    records.push(4, "30.03.2026 12:00:00;DE02;300,005;EUR;Miete;R3".as_bytes());
    records.push(5, "30.03.2026 12:00:00;DE02;300,00005;EUR;Miete;R4".as_bytes());
    let mapped = feed(GERMAN).unwrap().map(&records).unwrap();
    let reasons: Vec<&str> = mapped.dead_letters.iter().map(|letter| letter.reason.as_str()).collect();
    assert_eq!((reasons.as_slice(), mapped.transactions.num_rows()), (&["too_many_decimals"; 2][..], 2));
}

#[test]
fn a_local_time_that_the_clocks_skipped_is_told_so_whatever_it_is_made_of() {
    let skipped = "29.03.2026 02:30:00;DE01;1,00;EUR;Miete;R3";
    for (time, record) in [
        ("to_timestamp(Tag, '%d.%m.%Y %H:%M:%S')", skipped.to_string()),
        ("Tag", skipped.replace("29.03.2026", "2026-03-29")),
    ] {
        let feed = feed(&GERMAN.replace("to_timestamp(Tag, '%d.%m.%Y %H:%M:%S')", time)).unwrap();
        let mut records = Records::new("day.csv".into(), 0, 0);
        records.header = Some(HEADER.as_bytes().into());
        records.push(2, record.as_bytes());
        let letter = &feed.map(&records).unwrap().dead_letters[0];
        assert_eq!(letter.reason, "impossible_time", "{}", letter.message);
        assert!(
            letter.message.contains("02:30 on 29 March 2026, a time that does not exist in Europe/Berlin"),
            "{}",
            letter.message
        );
    }
}

#[test]
fn a_parquet_file_without_a_column_and_with_a_skipped_hour_says_so() {
    let text = r#"---
format = "parquet"
time_zone = "Europe/Berlin"
[raw]
id = "text"
at = "timestamp"
amount = "decimal"
currency = "text"
account = "text"
note = "text"
---
SELECT id AS tx_id, at AS event_time, amount, currency, account AS debtor_account, note AS memo FROM raw
"#;
    // 02:30 on 29 March 2026, and an hour later, as local times.
    let skipped = 1_774_751_400_000_000;
    let amounts = Decimal128Array::from(vec![100, 200]).with_precision_and_scale(10, 2).unwrap();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(StringArray::from(vec!["1", "2"]))),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![skipped, skipped + 3_600_000_000]))),
        ("amount", Arc::new(amounts)),
        ("currency", Arc::new(StringArray::from(vec!["EUR", "EUR"]))),
        ("account", Arc::new(StringArray::from(vec!["A", "A"]))),
        ("remark", Arc::new(StringArray::from(vec!["x", "y"]))),
    ];
    let map = |columns: Vec<(&str, ArrayRef)>| {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        feed(text).unwrap().map_rows_of(batch, &"day.parquet".into(), 1, 0).unwrap()
    };
    let mapped = map(columns.clone());
    let words = told(&mapped);
    assert!(words.starts_with("the file day.parquet has no column `note`; it has `remark`."), "{words}");
    let letters = letters(&mapped);
    assert_eq!(letters.len(), 1);
    assert!(letters[0].0 == "impossible_time" && letters[0].1.contains("does not exist in Europe/Berlin"));
    let without = columns.into_iter().filter(|(name, _)| *name != "currency").collect();
    assert!(self::letters(&map(without)).iter().any(|(reason, _)| reason == "missing_column"));
}
