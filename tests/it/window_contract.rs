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

fn transactions(rows: &[(i64, i64)]) -> RecordBatch {
    let text = |f: &dyn Fn(usize) -> String| -> Arc<dyn Array> {
        Arc::new((0..rows.len()).map(|i| Some(f(i))).collect::<StringArray>())
    };
    let times: TimestampMicrosecondArray = rows.iter().map(|r| Some(r.0)).collect();
    let amounts: Decimal128Array = rows.iter().map(|r| Some(i128::from(r.1) * 10_000)).collect();
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

fn counted(hits: &RecordBatch, feature: usize) -> (i64, i64) {
    assert_eq!(hits.num_rows(), 1);
    let count = hits.column_by_name(&format!("n{feature}")).unwrap().as_primitive::<Int64Type>().value(0);
    let sum = hits.column_by_name(&format!("s{feature}")).unwrap().as_primitive::<Decimal128Type>();
    (count, if sum.is_null(0) { 0 } else { (sum.value(0) / 10_000) as i64 })
}

#[test]
fn every_line_of_the_golden_table_is_what_the_engine_and_datafusion_count() {
    let golden = golden();
    assert!(golden.len() >= 13, "the golden table is not read");
    let when = format!("direction = 'in' AND amount_base = {THE_ROW}");
    for only_standard in [false, true] {
        let lines: Vec<&(String, i64)> =
            golden.iter().filter(|line| !only_standard || !line.0.contains("current row")).collect();
        let windows: Vec<String> = lines.iter().map(|line| line.0.clone()).collect();
        let sql = Sql::new();
        let rules = rules(&windows, &when, &sql);
        let batch = transactions(&ROWS);
        let hits =
            if only_standard { batch_answer(&rules, &sql, &batch) } else { stream(&rules, &sql, &batch) };
        for (n, (window, sum)) in lines.iter().enumerate() {
            let wanted = (i64::from(sum.count_ones()), *sum);
            let by = if only_standard { "DataFusion" } else { "the engine" };
            assert_eq!(counted(&hits, n), wanted, "`OVER {window}` by {by}");
        }
    }
}

#[test]
fn contracts_of_other_systems_are_reproduced_by_rules_alone() {
    // Every 6 hours a payment, each third of them failed and taken back; the fifth is exactly 24 hours after the first.
    let rows: Vec<(i64, i64)> = (0..5).map(|i| (T + i * 6 * HOUR, 10 + i)).collect();
    let windows = ["24 hours", "24 hours excluding end", "24 hours excluding start"].map(String::from);
    let ids = |when: &str, feature: usize| -> (Vec<String>, Vec<(i64, i64)>) {
        let sql = Sql::new();
        let rules = rules(&windows, &format!("direction = 'in' AND {when}"), &sql);
        let hits = stream(&rules, &sql, &transactions(&rows));
        let ids = hits.column_by_name("tx_id").unwrap().as_string::<i32>();
        let values = (0..hits.num_rows()).map(|row| counted(&hits.slice(row, 1), feature)).collect();
        (ids.iter().map(|id| id.unwrap().to_string()).collect(), values)
    };
    // Both ends and failed ones in, the band [4, 6) in at its lower edge.
    let (hit, values) = ids("n0 >= 4 AND n0 < 6", 0);
    assert_eq!(hit, ["t3", "t4"]);
    assert_eq!(values, [(4, 46), (5, 60)]);
    // The sum over both ends, exact.
    assert_eq!(ids("s0 = 60", 0).0, ["t4"]);
    // Start in, end out: the current one does not count, the one exactly 24 hours ago does.
    let (hit, values) = ids("n1 >= 3", 1);
    assert_eq!(hit, ["t3", "t4"]);
    assert_eq!(values, [(3, 33), (4, 46)]);
    // And the contract of engines that leave out the start.
    assert_eq!(ids("n2 = 4", 2).0, ["t3", "t4"]);
}
