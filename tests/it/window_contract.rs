//! The golden table of `rules/WINDOWS.md`, row by row: through the engine, and through DataFusion where it knows the
//! window.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Decimal128Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Decimal128Type, Int64Type};
use manumit_engine::{Engine, Options, entries};
use manumit_model::schema;
use manumit_rules::{Sources, ir::RuleSet, load};
use manumit_sql::Sql;

const PAGE: &str = include_str!("../../rules/WINDOWS.md");
const HOUR: i64 = 3_600_000_000;
/// 1 June 2026, 01:00 in Berlin.
const T: i64 = 1_780_264_800_000_000 + HOUR;
/// When the rows of the table's columns stand, and what each pays: a sum says which of them counted.
const ROWS: [(i64, i64); 7] =
    [(T - HOUR - 1, 1), (T - HOUR, 2), (T - HOUR + 1, 4), (T - 1, 8), (T, 16), (T, 32), (T + 1, 64)];
const THE_ROW: i64 = 16;

/// Window, and the sum of what counts, of each line of the golden table.
fn golden() -> Vec<(String, i64)> {
    let table = PAGE.split("## Golden table").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut lines = Vec::new();
    for line in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 1 + ROWS.len(), "{line}");
        let sum = cells[1..].iter().zip(ROWS).filter(|(cell, _)| **cell == "yes").map(|(_, row)| row.1).sum();
        lines.push((cells[0].trim_matches('`').to_string(), sum));
    }
    lines
}

fn rules(windows: &[String], when: &str, sql: &Sql) -> Arc<RuleSet> {
    let mut text = format!(
        "id = \"golden\"\nversion = 1\nstatus = \"draft\"\ntitle = \"Golden\"\nseverity = \"low\"\nexploitation = [\"any\"]\n\
         references = [\"test\"]\nfalse_positives = [\"none\"]\nsubject = \"account\"\nexplain = \"a row\"\nwhen = \"{when}\"\n[features]\n"
    );
    for (n, window) in windows.iter().enumerate() {
        text += &format!("n{n} = \"count(*) FILTER (WHERE direction = 'in') OVER {window}\"\n");
        text += &format!("s{n} = \"sum(amount_base) FILTER (WHERE direction = 'in') OVER {window}\"\n");
    }
    let sources = Sources::from_files([(PathBuf::from("rules/indicators/golden.toml"), text)]);
    Arc::new(load(&sources, sql).unwrap_or_else(|faults| panic!("{faults}")))
}

/// Amounts in so many 1/10000 of the base currency.
fn transactions(rows: &[(i64, i64)], unit: i128) -> RecordBatch {
    let text = |f: &dyn Fn(usize) -> String| -> Arc<dyn Array> {
        Arc::new((0..rows.len()).map(|i| Some(f(i))).collect::<StringArray>())
    };
    let times: TimestampMicrosecondArray = rows.iter().map(|r| Some(r.0)).collect();
    let amounts: Decimal128Array = rows.iter().map(|r| Some(i128::from(r.1) * unit)).collect();
    RecordBatch::try_from_iter([
        ("tx_id", text(&|i| format!("t{i}"))),
        ("event_time", Arc::new(times.with_timezone("UTC")) as Arc<dyn Array>),
        ("entry_type", text(&|i| if i % 3 == 2 { "reversal".into() } else { "booking".into() })),
        ("amount_base", Arc::new(amounts.with_precision_and_scale(20, 4).unwrap())),
        ("creditor_account", text(&|_| "A".into())),
        ("debtor_account", text(&|i| format!("P{i}"))),
        ("feed", text(&|_| "bank".into())),
    ])
    .unwrap()
}

/// Hits of the engine.
fn stream(rules: &Arc<RuleSet>, sql: &Sql, batch: &RecordBatch) -> RecordBatch {
    let columns: Vec<String> = batch.schema().fields().iter().map(|f| f.name().clone()).collect();
    let options = Options { keep_hits: true, ..Options::default() };
    let mut engine = Engine::new(rules.clone(), sql, &columns, options).unwrap();
    let partition = engine.add_partition("bank", 0);
    assert!(engine.push(partition, batch.clone()).unwrap().is_none());
    engine.end(partition);
    let hits: Vec<RecordBatch> =
        engine.step().unwrap().hits.iter().map(|hits| hits.rows.as_ref().clone()).collect();
    arrow::compute::concat_batches(&hits[0].schema(), &hits).unwrap()
}

/// DataFusion's answer to the rule's own SQL.
fn batch_answer(rules: &RuleSet, sql: &Sql, batch: &RecordBatch) -> RecordBatch {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let fields: Vec<_> =
        schema::entries().fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    let full = entries::entries(batch, &Arc::new(arrow::datatypes::Schema::new(fields))).unwrap().batch;
    sql.register("entries", full).unwrap();
    let parts = runtime.block_on(sql.query(&rules.indicators[0].sql)).unwrap();
    arrow::compute::concat_batches(&parts[0].schema(), &parts).unwrap()
}

fn counted(hits: &RecordBatch, feature: usize, unit: i128) -> (i64, i64) {
    assert_eq!(hits.num_rows(), 1);
    let count = hits.column_by_name(&format!("n{feature}")).unwrap().as_primitive::<Int64Type>().value(0);
    let sum = hits.column_by_name(&format!("s{feature}")).unwrap().as_primitive::<Decimal128Type>();
    (count, if sum.is_null(0) { 0 } else { (sum.value(0) / unit) as i64 })
}

/// DataFusion has no EXCLUDE CURRENT ROW; a window of rows can do without.
fn knows(window: &str) -> bool {
    !window.contains("current row") || window.contains("rows excluding")
}

#[test]
fn every_line_of_the_golden_table_is_what_the_engine_and_datafusion_count() {
    let golden = golden();
    assert!(golden.len() >= 17, "the golden table is not read");
    let when = format!("direction = 'in' AND amount_base = {THE_ROW}");
    for only_standard in [false, true] {
        let lines: Vec<&(String, i64)> =
            golden.iter().filter(|line| !only_standard || knows(&line.0)).collect();
        let windows: Vec<String> = lines.iter().map(|line| line.0.clone()).collect();
        let sql = Sql::new();
        let rules = rules(&windows, &when, &sql);
        let batch = transactions(&ROWS, 10_000);
        let hits =
            if only_standard { batch_answer(&rules, &sql, &batch) } else { stream(&rules, &sql, &batch) };
        for (n, (window, sum)) in lines.iter().enumerate() {
            let wanted = (i64::from(sum.count_ones()), *sum);
            let by = if only_standard { "DataFusion" } else { "the engine" };
            assert_eq!(counted(&hits, n, 10_000), wanted, "`OVER {window}` by {by}");
        }
    }
}

/// Which rows hit and what they counted, of a story told in hours after *t* and amounts; each third payment is a reversal.
fn contract(window: &str, when: &str, story: &[(i64, i64)], unit: i128) -> Vec<(String, i64, i64)> {
    let sql = Sql::new();
    let rules = rules(&[window.to_string()], &format!("direction = 'in' AND {when}"), &sql);
    let rows: Vec<(i64, i64)> = story.iter().map(|&(hours, amount)| (T + hours * HOUR, amount)).collect();
    let hits = stream(&rules, &sql, &transactions(&rows, unit));
    let ids = hits.column_by_name("tx_id").unwrap().as_string::<i32>();
    (0..hits.num_rows())
        .map(|row| {
            let (count, sum) = counted(&hits.slice(row, 1), 0, unit);
            (ids.value(row).to_string(), count, sum)
        })
        .collect()
}

/// Every 6 hours a payment; the fifth is exactly 24 hours after the first, the last two stand at one time.
const STORY: [(i64, i64); 7] = [(0, 10), (6, 11), (12, 12), (18, 13), (24, 14), (30, 15), (30, 16)];

fn hits(list: &[(&str, i64, i64)]) -> Vec<(String, i64, i64)> {
    list.iter().map(|&(id, count, sum)| (id.to_string(), count, sum)).collect()
}

/// A velocity contract: window [t − 24 h, t], the current transaction and failed ones count, and the bands of counts
/// [2, 4), [4, 6) and from 6 on hold their lower edge.
#[test]
fn a_contract_of_closed_windows_with_failed_payments_and_bands_closed_below_is_reproduced() {
    let band = |when: &str| contract("24 hours", when, &STORY, 10_000);
    // t2 and t5 are reversals: they are counted, and count themselves.
    assert_eq!(band("n0 >= 2 AND n0 < 4"), hits(&[("t1", 2, 21), ("t2", 3, 33)]));
    // At 24 h five rows, for the one exactly 24 h ago counts; at 30 h six, both peers among them.
    assert_eq!(band("n0 >= 4 AND n0 < 6"), hits(&[("t3", 4, 46), ("t4", 5, 60)]));
    assert_eq!(band("n0 >= 6"), hits(&[("t5", 6, 81), ("t6", 6, 81)]));
}

/// A contract of sums: window [t − 12 h, t], exact to the last place, `>=` at a threshold that is met exactly.
#[test]
fn a_contract_of_exact_sums_over_closed_windows_is_reproduced() {
    // 10 + 11 + 12 = 33 over exactly 12 hours; 33.0001 is not reached.
    assert_eq!(contract("12 hours", "s0 >= 33 AND s0 < 33.0001", &STORY, 10_000), hits(&[("t2", 3, 33)]));
    assert_eq!(
        contract("12 hours", "s0 >= 33.0001 AND s0 <= 39", &STORY, 10_000),
        hits(&[("t3", 3, 36), ("t4", 3, 39)])
    );
    // 0.10 + 0.20 is 0.30, which floats do not say.
    assert_eq!(contract("12 hours", "s0 = 0.30", &[(0, 10), (1, 20)], 100), hits(&[("t1", 2, 30)]));
}

/// A contract of half-open windows [t − 24 h, t): the row exactly 24 h ago counts, the current one and its peer do not.
#[test]
fn a_contract_of_windows_open_at_the_current_row_is_reproduced() {
    let wanted = [("t4", 4, 46), ("t5", 4, 50), ("t6", 4, 50)];
    assert_eq!(contract("24 hours excluding end", "n0 >= 4", &STORY, 10_000), hits(&wanted));
    // And the contract of engines that leave out the start, (t − 24 h, t].
    let wanted = [("t3", 4, 46), ("t4", 4, 50)];
    assert_eq!(contract("24 hours excluding start", "n0 = 4", &STORY, 10_000), hits(&wanted));
}
