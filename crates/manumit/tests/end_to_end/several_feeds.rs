//! A history of several banks: rows of one event time go by their feed first, as in the SQL that rules mean.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::program::{lines, manumit, rule, write};

const WINDOW_OF_ROWS: &str = r#"
over = "entries"
where = "direction = 'out'"
when = "paid > 40"
explain = "{paid} in {payments} payments"
[features]
payments = "count(*) OVER 3 rows"
paid = "sum(amount_base) OVER 3 rows"
"#;

const SEQUENCE: &str = r#"
over = "entries"
within = "2 hours"
when = "came >= 0"
explain = "{came} came in before"

[[step]]
name = "comes"
when = "direction = 'in'"

[[step]]
name = "leaves"
when = "direction = 'out' AND amount_base <= comes.amount_base"

[features]
came = "comes.amount_base"
"#;

const QUERY: &str = r#"
lookback = "3 days"
every = "1 day"
when = "grew > 0"
explain = "{grew} times"
"#;

const QUERY_SQL: &str = "SELECT account, count(*) FILTER (WHERE amount_base > before) AS grew FROM (
  SELECT account, amount_base, lag(amount_base) OVER (PARTITION BY account ORDER BY event_time, feed, tx_id) AS before
  FROM entries WHERE direction = 'out') GROUP BY account";

/// Twelve payments a minute between four accounts, all of one instant, by three feeds in turn; identifiers go against the feeds'
/// order. `feed`: what stands in that column.
fn history(folder: &Path, feed: impl Fn(usize) -> &'static str) {
    let mut text =
        String::from("tx_id,event_time,amount,currency,amount_base,debtor_account,creditor_account,feed\n");
    for n in 0..4_000_usize {
        let (minute, within) = (n / 12, n % 12);
        let (debtor, creditor) = (n % 4, (n + 1 + minute % 3) % 4);
        let amount = (n * 7919) % 31;
        let _ = writeln!(
            text,
            "{:02}-{minute:05},2026-03-{:02}T{:02}:{:02}:00Z,{amount}.00,EUR,{amount}.00,A{debtor},A{creditor},{}",
            (n * 5) % 12,
            1 + minute / 120,
            minute / 60 % 24,
            minute % 60,
            feed(within),
        );
    }
    write(folder, "data/history.csv", &text);
}

fn verified(folder: &Path, more: &[&str]) -> Value {
    let backtest =
        ["backtest", "--data", "data", "--verify", "--out", "report", "--hits", "report/hits.jsonl"];
    let done = manumit(folder, &[&backtest[..], more].concat(), &[]).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    assert!(lines(&folder.join("report/hits.jsonl")).len() > 500, "{said}");
    serde_json::from_slice(&std::fs::read(folder.join("report/report.json")).unwrap()).unwrap()
}

#[test]
fn a_backtest_over_several_feeds_finds_what_the_sql_of_its_rules_finds() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(folder, "rules/indicators/latest-three.toml", &rule("latest-three", WINDOW_OF_ROWS));
    write(folder, "rules/indicators/in-and-out.toml", &rule("in-and-out", SEQUENCE));
    write(folder, "sql/indicators/after-a-smaller-one/indicator.toml", &rule("after-a-smaller-one", QUERY));
    write(folder, "sql/indicators/after-a-smaller-one/query.sql", QUERY_SQL);
    // Several feeds; then some rows that name none.
    let three = |n| ["south", "north", "east"][n % 3];
    let unnamed = |n| ["south", "", "acme"][n % 3];
    for (feed, more) in [(three as fn(_) -> _, &[][..]), (three, &["--without-evidence"]), (unnamed, &[])] {
        history(folder, feed);
        let report = verified(folder, more);
        let checked = report["checked"]["indicators"].as_array().unwrap();
        assert_eq!(checked.len(), 3, "{report}");
        for indicator in checked {
            assert_eq!(indicator["failed"], Value::Null, "{indicator}");
            assert_eq!(
                (&indicator["engine_only"], &indicator["unequal"]),
                (&0.into(), &0.into()),
                "{indicator}"
            );
            assert_eq!(indicator["engine"], indicator["sql"], "{indicator}");
        }
    }
}
