//! Keyed SQL whose look-back is longer than memory: what is read back from an archive changes no hit and no alert.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use manumit_engine::{Engine, Older, OlderRows, Options, Step};
use manumit_model::Alert;
use manumit_rules::ir::RuleSet;
use manumit_rules::load;
use manumit_sql::Sql;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::keyed_sql;
use crate::oracle::lines;
use crate::stream_equals_batch::{COLUMNS, Row, row, transactions};

/// An archive as the definition has it: all rows in a list, gone through one by one.
#[derive(Default)]
struct Model {
    rows: Mutex<Vec<RecordBatch>>,
    complete_before: AtomicI64,
    given: AtomicUsize,
    damaged: AtomicBool,
}

struct Shared(Arc<Model>);

impl Older for Shared {
    fn complete_before(&self) -> i64 {
        self.0.complete_before.load(Ordering::Relaxed)
    }

    fn rows(&self, asked: &OlderRows<'_>) -> Result<Vec<RecordBatch>, String> {
        if self.0.damaged.load(Ordering::Relaxed) {
            return Err("the archive is damaged".into());
        }
        assert!(asked.from < asked.to);
        let keys: BTreeSet<&str> = asked.keys.iter().copied().collect();
        let mut found = Vec::new();
        for rows in self.0.rows.lock().unwrap().iter() {
            let times = rows.column_by_name("event_time").unwrap();
            let times = times.as_primitive::<TimestampMicrosecondType>();
            let mine: BooleanArray = (0..rows.num_rows())
                .map(|row| {
                    let is = |name: &&str| {
                        let column = rows.column_by_name(name).unwrap().as_string::<i32>();
                        arrow::array::Array::is_valid(column, row) && keys.contains(column.value(row))
                    };
                    Some((asked.from..asked.to).contains(&times.value(row)) && asked.columns.iter().any(is))
                })
                .collect();
            let rows = filter_record_batch(rows, &mine).unwrap();
            self.0.given.fetch_add(rows.num_rows(), Ordering::Relaxed);
            let columns =
                asked.schema.fields().iter().map(|f| rows.column_by_name(f.name()).unwrap().clone());
            found.push(RecordBatch::try_new(asked.schema.clone(), columns.collect()).unwrap());
        }
        Ok(found)
    }
}

/// Hits, alerts and faults of a stream cut in parts of `size`; the archive is committed after each `commit` parts.
fn stream(
    rules: &Arc<RuleSet>,
    sql: &Sql,
    rows: &[Row],
    size: usize,
    archive: Option<(&Arc<Model>, usize)>,
) -> (Vec<String>, Vec<Alert>, usize) {
    let columns: Vec<String> = COLUMNS.map(String::from).into();
    let options = Options { threads: 2, keep_hits: true, ..Options::default() };
    let mut engine = Engine::new(rules.clone(), sql, &columns, options).unwrap();
    if let Some((model, _)) = archive {
        engine.read_older_from(Box::new(Shared(model.clone())), 0);
    }
    let partition = engine.add_partition("bank", 0);
    let (mut hits, mut alerts, mut faults) = (Vec::new(), Vec::new(), 0);
    let mut take = |step: Step| {
        faults += step.faults.len();
        for found in step.hits {
            let key = &rules.indicators[found.indicator].key;
            lines(rules, found.indicator, &found.rows, key, &mut hits);
        }
        alerts.extend(step.alerts);
    };
    for (n, part) in rows.chunks(size).enumerate() {
        let batch = transactions(part, n * size);
        assert!(engine.push(partition, batch.clone()).unwrap().is_none());
        if let Some((model, commit)) = archive {
            model.rows.lock().unwrap().push(batch);
            if n % commit == 0 {
                model.complete_before.store(engine.watermark(), Ordering::Relaxed);
            }
        }
        take(engine.step().unwrap());
    }
    engine.end(partition);
    take(engine.step().unwrap());
    take(engine.finish().unwrap());
    hits.sort();
    (hits, alerts, faults)
}

/// In order of time, over six minutes: the queries look back 90 seconds at the end of each.
fn rows(runner: &mut TestRunner) -> Vec<Row> {
    let mut rows = prop::collection::vec(row(), 40..200).new_tree(runner).unwrap().current();
    rows.iter_mut().for_each(|row| row.second *= 3);
    rows.sort_by_key(|row| row.second);
    rows
}

#[test]
fn rows_read_from_an_archive_give_the_hits_and_alerts_that_rows_in_memory_give() {
    let sql = Sql::new();
    let rules = Arc::new(load(&keyed_sql::rules(), &sql).unwrap());
    let mut runner = TestRunner::deterministic();
    let (mut given, mut raised) = (0, 0);
    for _ in 0..16 {
        let rows = rows(&mut runner);
        let (hits, alerts, _) = stream(&rules, &sql, &rows, 10, None);
        raised += alerts.len();
        for (size, commit) in [(10, 1), (3, 5), (rows.len().div_ceil(2), 1)] {
            let model = Arc::new(Model { complete_before: AtomicI64::new(i64::MIN), ..Model::default() });
            let (again, same_alerts, faults) = stream(&rules, &sql, &rows, size, Some((&model, commit)));
            assert_eq!(again, hits, "parts of {size}, commits after {commit}");
            assert_eq!(same_alerts, alerts, "parts of {size}, commits after {commit}");
            assert_eq!(faults, 0);
            given += model.given.load(Ordering::Relaxed);
        }
    }
    assert!(given > 500, "{given} rows were read back");
    assert!(raised > 20, "{raised} alerts");
}

#[test]
fn an_archive_that_cannot_be_read_gives_no_answer_rather_than_a_wrong_one() {
    let sql = Sql::new();
    let rules = Arc::new(load(&keyed_sql::rules(), &sql).unwrap());
    let mut runner = TestRunner::deterministic();
    let (mut missed, mut told) = (0, 0);
    for _ in 0..6 {
        let rows = rows(&mut runner);
        let (hits, ..) = stream(&rules, &sql, &rows, 10, None);
        let model = Arc::new(Model { complete_before: AtomicI64::new(i64::MIN), ..Model::default() });
        model.damaged.store(true, Ordering::Relaxed);
        let (some, _, faults) = stream(&rules, &sql, &rows, 10, Some((&model, 1)));
        let all: BTreeSet<String> = hits.iter().cloned().collect();
        assert!(some.iter().all(|hit| all.contains(hit)), "a hit that the whole rows do not give");
        missed += hits.len() - some.len();
        told += faults;
    }
    assert!(missed > 0 && told > 0, "{missed} hits missed, {told} faults");
}
