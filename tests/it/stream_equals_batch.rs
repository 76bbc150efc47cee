//! Whole rules, from their text, on random rows: the stream's hits against DataFusion's answer to the rule's own SQL.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{
    Array, BooleanArray, Decimal128Array, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use manumit_engine::{Engine, Options};
use manumit_model::Alert;
use manumit_rules::{Sources, ir::RuleSet, load};
use manumit_sql::Sql;
use proptest::prelude::*;

use crate::oracle::{batch_alerts, batch_answer, lines, opened};

pub const COLUMNS: [&str; 16] = [
    "tx_id",
    "event_time",
    "utc_offset_minutes",
    "local_time",
    "entry_type",
    "method",
    "amount",
    "currency",
    "amount_base",
    "debtor_account",
    "creditor_account",
    "creditor_external",
    "city",
    "memo",
    "cash_depositor",
    "feed",
];

/// Seconds UTC of 1 June 2026, 00:00 in Berlin: a day, a week and a month begin amid the rows.
const MIDNIGHT: i64 = 1780264800;

pub const HEAD: &str = r#"
version = 1
status = "draft"
title = "A test"
severity = "low"
exploitation = ["any"]
references = ["test"]
false_positives = ["none"]
subject = "account"
"#;

pub fn indicator(id: &str, rest: &str) -> (PathBuf, String) {
    (PathBuf::from(format!("rules/indicators/{id}.toml")), format!("id = \"{id}\"{HEAD}{rest}"))
}

/// Features of every kind, over several windows, filters and subjects.
fn rules() -> Sources {
    let typology = |id: &str, rest: &str| {
        (
            PathBuf::from(format!("rules/typologies/test/{id}/typology.toml")),
            format!("id = \"{id}\"{HEAD}fiu_keywords = []\nsummary = \"Money comes and goes.\"\n{rest}"),
        )
    };
    Sources::from_files([
        indicator(
            "fan-in-fast-out",
            r#"
            where = "entry_type = 'booking'"
            when = "direction = 'out' AND senders >= $least AND outflow >= 0.5 * inflow"
            explain = "{senders} senders, {inflow} in, {outflow} out"
            [features]
            senders = "count(DISTINCT counterparty) FILTER (WHERE direction = 'in') OVER 30 seconds"
            inflow = "sum(amount_base) FILTER (WHERE direction = 'in') OVER 30 seconds"
            outflow = "sum(amount_base) FILTER (WHERE direction = 'out') OVER 10 seconds"
            [params.least]
            value = 2
            unit = "accounts"
            source = "test"
            "#,
        ),
        indicator(
            "many-aggregates",
            r#"
            when = "rows_seen >= 2 AND (least < most OR mean > 3) AND night_share >= 0"
            explain = "{rows_seen} rows"
            [features]
            rows_seen = "count(*) OVER 1 minutes"
            named = "count(memo) OVER 20 seconds"
            least = "min(amount_base) OVER 15 seconds"
            most = "max(amount_base) FILTER (WHERE method = 'cash') OVER 25 seconds"
            mean = "avg(amount_base) OVER 25 seconds"
            spread = "stddev(amount_base) OVER 25 seconds"
            cities = "count(DISTINCT city) OVER 25 seconds"
            nights = "count(*) FILTER (WHERE is_night(local_time)) OVER 1 minutes"
            night_share = "nights / rows_seen"
            first_memo = "first_value(memo) OVER 20 seconds"
            last_city = "last_value(city) FILTER (WHERE direction = 'in') OVER 25 seconds"
            top_payee = "top_share(counterparty, amount_base) FILTER (WHERE direction = 'out') OVER 40 seconds"
            "#,
        ),
        indicator(
            "passed-on",
            r#"
            about = "counterparty"
            when = "direction = 'out' AND amount_base >= 0.7 * paid_in"
            explain = "{amount_base} of {paid_in} passed on"
            [features]
            paid_in = "sum(amount_base) FILTER (WHERE direction = 'in' AND entry_type <> 'refund') OVER 20 seconds"
            "#,
        ),
        indicator(
            "other-windows",
            r#"
            when = "seen >= 1 OR today >= 1"
            explain = "{seen} rows"
            [features]
            seen = "count(*) OVER 20 seconds excluding end"
            after_start = "sum(amount_base) FILTER (WHERE direction = 'in') OVER 20 seconds excluding start"
            neither = "count(DISTINCT counterparty) OVER 10 seconds excluding start and end"
            today = "count(*) OVER calendar day in Europe/Berlin"
            this_week = "min(amount_base) OVER calendar week in Europe/Berlin excluding end"
            this_month = "max(amount_base) OVER calendar month in Europe/Berlin"
            "#,
        ),
        indicator(
            "latest-rows",
            r#"
            where = "entry_type = 'booking' AND coalesce(memo <> 'club', true)"
            when = "seen >= 2 OR before >= 1"
            explain = "{seen} rows"
            [features]
            seen = "count(*) FILTER (WHERE direction = 'in') OVER 5 rows"
            total = "sum(amount_base) OVER 3 rows"
            before = "max(amount_base) OVER 4 rows excluding current row"
            cities = "count(DISTINCT city) FILTER (WHERE direction = 'out') OVER 7 rows excluding current row"
            top_other = "top_share(counterparty, amount_base) OVER 5 rows"
            last_city = "last_value(city) FILTER (WHERE direction = 'in') OVER 100 rows"
            own = "min(amount_base) OVER 1 rows"
            mean = "avg(amount_base) OVER 20 seconds"
            "#,
        ),
        indicator("cash-here", "when = \"method = 'cash' AND city = 'x'\"\nexplain = \"cash in {city}\"\n"),
        typology(
            "mule",
            r#"
            within = "40 seconds"
            gate = "fan-in-fast-out"
            alert_at = 60
            open_for = "60 seconds"
            revise_every = "10 seconds"
            [[corroborator]]
            indicator = "many-aggregates"
            points = 15
            at_least = 2
            [[corroborator]]
            indicator = "cash-here"
            points = 10
            [[exclude]]
            when = "memo = 'club'"
            words = "a club"
            "#,
        ),
        typology(
            "collector",
            r#"
            within = "30 seconds"
            gate = [{ indicator = "passed-on", at_least = 2, different = { account = 2 } }]
            gate_points = 80
            "#,
        ),
        typology(
            "several-of-the-latest",
            r#"
            within = "20 seconds"
            gate = [{ indicator = "latest-rows", at_least = 3 }]
            gate_points = 80
            "#,
        ),
    ])
}

/// A transaction of the random bank.
#[derive(Debug, Clone)]
pub struct Row {
    pub second: i64,
    debtor: Option<u8>,
    creditor: Option<u8>,
    amount: i64,
    base: bool,
    refund: bool,
    cash: bool,
    city: Option<u8>,
    memo: Option<bool>,
    night: Option<bool>,
}

impl Row {
    /// Account A0 gets, or sends, so many cents from or to A1 by transfer.
    pub fn payment(second: i64, inward: bool, amount: i64) -> Row {
        let (debtor, creditor) = if inward { (Some(1), Some(0)) } else { (Some(0), Some(1)) };
        Row {
            second,
            debtor,
            creditor,
            amount,
            base: true,
            refund: false,
            cash: false,
            city: None,
            memo: None,
            night: None,
        }
    }
}

pub fn row() -> impl Strategy<Value = Row> {
    (
        (
            0_i64..120,
            prop::option::weighted(0.85, 0_u8..5),
            prop::option::weighted(0.85, 0_u8..5),
            0_i64..900,
        ),
        (prop::bool::weighted(0.95), prop::bool::weighted(0.1), any::<bool>()),
        (
            prop::option::weighted(0.7, 0_u8..3),
            prop::option::weighted(0.4, any::<bool>()),
            prop::option::weighted(0.8, any::<bool>()),
        ),
    )
        .prop_map(|((second, debtor, creditor, amount), (base, refund, cash), (city, memo, night))| {
            Row { second, debtor, creditor, amount, base, refund, cash, city, memo, night }
        })
}

pub fn transactions(rows: &[Row], first: usize) -> RecordBatch {
    let text = |f: &dyn Fn(&Row) -> Option<String>| -> Arc<dyn Array> {
        Arc::new(rows.iter().map(f).collect::<StringArray>())
    };
    let amounts = |f: &dyn Fn(&Row) -> Option<i128>| -> Arc<dyn Array> {
        let all: Decimal128Array = rows.iter().map(f).collect();
        Arc::new(all.with_precision_and_scale(20, 4).unwrap())
    };
    let ids: StringArray = (0..rows.len()).map(|i| Some(format!("t{:05}", first + i))).collect();
    let times: TimestampMicrosecondArray =
        rows.iter().map(|r| Some((MIDNIGHT - 60 + r.second) * 1_000_000)).collect();
    let local: TimestampMicrosecondArray =
        rows.iter().map(|r| r.night.map(|n| if n { 0 } else { 12 * 3_600_000_000 })).collect();
    RecordBatch::try_from_iter([
        ("tx_id", Arc::new(ids) as Arc<dyn Array>),
        ("event_time", Arc::new(times.with_timezone("UTC"))),
        ("utc_offset_minutes", Arc::new(Int32Array::from(vec![Some(60); rows.len()]))),
        ("local_time", Arc::new(local)),
        ("entry_type", text(&|r| Some(if r.refund { "refund" } else { "booking" }.into()))),
        ("method", text(&|r| Some(if r.cash { "cash" } else { "transfer" }.into()))),
        ("amount", amounts(&|r| Some(i128::from(r.amount) * 100))),
        ("currency", text(&|_| Some("EUR".into()))),
        ("amount_base", amounts(&|r| r.base.then_some(i128::from(r.amount) * 100))),
        ("debtor_account", text(&|r| r.debtor.map(|d| format!("A{d}")))),
        ("creditor_account", text(&|r| r.creditor.map(|d| format!("A{d}")))),
        (
            "creditor_external",
            Arc::new(BooleanArray::from(
                rows.iter().map(|r| Some(r.creditor == Some(4))).collect::<Vec<_>>(),
            )),
        ),
        ("city", text(&|r| r.city.map(|c| ["x", "y", "z"][c as usize].into()))),
        ("memo", text(&|r| r.memo.map(|m| if m { "club" } else { "gift" }.into()))),
        ("cash_depositor", text(&|_| None)),
        ("feed", text(&|_| Some("bank".into()))),
    ])
    .unwrap()
}

pub fn stream(
    rules: &Arc<RuleSet>,
    sql: &Sql,
    rows: &[Row],
    threads: usize,
    size: usize,
) -> (Vec<String>, Vec<Alert>) {
    let columns: Vec<String> = COLUMNS.map(String::from).into();
    let options = Options { threads, keep_hits: true, ..Options::default() };
    let mut engine = Engine::new(rules.clone(), sql, &columns, options).unwrap();
    // As late as any row can be: nothing is late here.
    let partition = engine.add_partition("bank", 200_000_000);
    let (mut hits, mut alerts) = (Vec::new(), Vec::new());
    let mut take = |step: manumit_engine::Step| {
        assert!(step.faults.is_empty(), "{:?}", step.faults);
        for found in step.hits {
            let key = &rules.indicators[found.indicator].key;
            lines(rules, found.indicator, &found.rows, key, &mut hits);
        }
        alerts.extend(step.alerts);
    };
    for (n, part) in rows.chunks(size).enumerate() {
        assert!(engine.push(partition, transactions(part, n * size)).unwrap().is_none());
        take(engine.step().unwrap());
    }
    engine.end(partition);
    take(engine.step().unwrap());
    take(engine.finish().unwrap());
    hits.sort();
    (hits, alerts)
}

/// Hits and alerts are DataFusion's answer, whatever threads and batches; gives the alerts.
pub fn equal_to_batch(rules: &Sources, rows: &[Row]) -> Result<Vec<Alert>, TestCaseError> {
    let sql = Sql::new();
    let rules = Arc::new(load(rules, &sql).unwrap_or_else(|faults| panic!("{faults}")));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let wanted = runtime.block_on(batch_answer(&rules, &sql, &transactions(rows, 0)));
    let (hits, alerts) = stream(&rules, &sql, rows, 1, rows.len());
    prop_assert_eq!(&hits, &wanted);
    let wanted_alerts = runtime.block_on(batch_alerts(&rules, &sql, &transactions(rows, 0)));
    prop_assert_eq!(opened(&alerts), wanted_alerts);
    for (threads, size) in [(1, 7), (2, 50), (3, 1)] {
        let (again, same_alerts) = stream(&rules, &sql, rows, threads, size);
        prop_assert_eq!(&again, &wanted, "{} threads, batches of {}", threads, size);
        prop_assert_eq!(&same_alerts, &alerts, "{} threads, batches of {}", threads, size);
    }
    Ok(alerts)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Ties, NULLs, disorder, refunds, an external account; features of every kind.
    #[test]
    fn hits_equal_datafusions_answer_and_alerts_do_not_depend_on_threads_or_batches(
        rows in prop::collection::vec(row(), 1..250),
    ) {
        let alerts = equal_to_batch(&rules(), &rows)?;
        let ids: BTreeSet<String> = (0..rows.len()).map(|i| format!("t{i:05}")).collect();
        for alert in &alerts {
            prop_assert!(!alert.transactions.is_empty());
            prop_assert!(alert.transactions.iter().all(|t| ids.contains(&t.tx_id) && t.at.utc <= alert.raised_at.utc));
        }
    }
}
