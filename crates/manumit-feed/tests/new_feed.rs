//! A feed file to complete, from samples with the names that banks use.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::Decimal128Type;
use manumit_feed::{Feed, Sample, new_feed};
use manumit_model::Records;
use manumit_sql::Sql;

#[test]
fn headers_of_german_french_and_dutch_banks_are_recognised_and_the_zone_is_to_be_checked() {
    let text = "Buchungstag;Uhrzeit;Auftraggeber;IBAN Auftraggeber;Empfänger;IBAN Empfänger;Betrag;Währung;Zweck;Referenz\n\
                29.03.2026;01:30:00;Anna;DE01;Röhl;DE90;1.234,56;EUR;Fahrstunde;R1\n";
    let feed = new_feed("day", &Sample::csv(text));
    for line in [
        "# CHECK: not told by the sample",
        "  Referenz                     AS tx_id,",
        "  to_timestamp(Buchungstag || ' ' || Uhrzeit, '%d.%m.%Y %H:%M:%S') AS event_time,",
        "  replace(replace(Betrag, '.', ''), ',', '.') AS amount,",
        "\"Währung\"",
        "  \"IBAN Auftraggeber\"          AS debtor_account,",
        "  Auftraggeber                 AS debtor_name,",
        "  \"IBAN Empfänger\"             AS creditor_account,",
        "  Empfänger                    AS creditor_name,",
        "  Zweck                        AS memo ",
    ] {
        assert!(feed.contains(line), "{line}: {feed}");
    }
    // It can be run as it is.
    let loaded = Feed::load("day", Path::new("day.sql"), feed.into(), &Sql::new(), None).unwrap();
    let mut records = Records::new("day.csv".into(), 0, 0);
    let (header, record) = text.trim_end().split_once('\n').unwrap();
    records.header = Some(header.as_bytes().into());
    records.push(2, record.as_bytes());
    let mapped = loaded.map(&records).unwrap();
    assert!(mapped.dead_letters.is_empty() && mapped.absent.is_none(), "{:?}", mapped.dead_letters);
    let amounts = mapped.transactions.column_by_name("amount").unwrap().as_primitive::<Decimal128Type>();
    assert_eq!(amounts.values(), &[12_345_600]);
    let feed = new_feed(
        "jour",
        &Sample::csv("Date,Montant,Devise,Compte débiteur,Compte bénéficiaire,Libellé,Référence\n"),
    );
    for line in
        ["Montant   ", "Devise   ", "\"Compte débiteur\" ", "\"Compte bénéficiaire\" ", "\"Libellé\" "]
    {
        assert!(feed.contains(line) && !feed.contains("NULL"), "{line}: {feed}");
    }
    let feed = new_feed(
        "dag",
        &Sample::csv("Boekdatum,Bedrag,Munt,Rekening opdrachtgever,Tegenrekening,Omschrijving\n"),
    );
    for column in ["event_time", "amount", "currency", "debtor_account", "creditor_account", "memo"] {
        assert!(feed.contains(&format!(" AS {column}")) && !feed.contains("NULL"), "{column}: {feed}");
    }
}

#[test]
fn short_json_names_and_numbers_of_seconds_are_recognised() {
    let mut sample = Records::new("day.jsonl".into(), 0, 0);
    sample.push(1, br#"{"ref":"A1","ts":1774771200,"amt":12.5,"cur":"EUR","from":{"acct":"X"},"to":{"acct":"Y"},"note":"n"}"#);
    let feed = new_feed("jb", &Sample::json_lines(&sample));
    for line in [
        "ts = \"timestamp_s\"",
        "  ref                          AS tx_id,",
        "  amt                          AS amount,",
        "  cur                          AS currency,",
        "AS debtor_account,",
        "AS creditor_account,",
        "  note                         AS memo ",
    ] {
        assert!(feed.contains(line) && !feed.contains("NULL"), "{line}: {feed}");
    }
}
