//! A case through the engine, rows cut and interleaved in some way.

use std::collections::BTreeSet;
use std::sync::Arc;

use manumit_engine::{Engine, Options, StateLimit, Step};
use manumit_model::Alert;
use manumit_rules::ir::RuleSet;
use manumit_sql::Sql;
use manumit_state::Segments;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::answers::{Hit, hits, sort};
use super::restart::{MOST_THREADS, Run};
use super::rows::{self, COLUMNS, Partition, Row, batch};

/// All that an engine said.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub hits: Vec<Hit>,
    pub alerts: Vec<Alert>,
    /// Ids of late rows, sorted.
    pub late: Vec<String>,
    pub evaluated: u64,
}

/// How rows are fed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Feeding {
    /// Each partition as one batch, one step at the end.
    Whole,
    /// Row by row in the order of arrival, a step after each.
    OneByOne,
    /// Batches of random sizes of random partitions, steps in between, partitions ended as they run dry.
    Cut,
    /// The same, and now and then the engine is put away and another one goes on.
    Restarted,
}

/// Runs the engine.
pub fn stream(
    rules: &Arc<RuleSet>,
    sql: &Sql,
    partitions: &[Partition],
    rows: &[Row],
    threads: usize,
    feeding: Feeding,
    rng: &mut ChaCha8Rng,
) -> Result<Outcome, String> {
    let columns: Vec<String> = COLUMNS.map(String::from).into();
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let state = match rng.random_bool(0.4) {
        // So little that most rows of windows lie on disk, for as many threads as a restart may begin with.
        true => {
            let store =
                Segments::create(folder.path(), MOST_THREADS.max(threads)).map_err(|e| e.to_string())?;
            Some(StateLimit { memory: rng.random_range(0..20_000), store: Arc::new(store) })
        }
        false => None,
    };
    let most_transactions = state.as_ref().map(|_| rng.random_range(0..20_000));
    let options = Options { threads, keep_hits: true, state, most_transactions, ..Options::default() };
    let mut engine = Engine::new(rules.clone(), sql, &columns, options.clone()).map_err(|e| e.to_string())?;
    let ids: Vec<_> = partitions.iter().map(|p| engine.add_partition(p.feed, p.lateness_micros)).collect();
    let mut queues: Vec<Vec<&Row>> = vec![Vec::new(); partitions.len()];
    for row in rows {
        queues[row.partition].push(row);
    }
    let mut outcome = Outcome { hits: Vec::new(), alerts: Vec::new(), late: Vec::new(), evaluated: 0 };
    let take = |step: Step, outcome: &mut Outcome| -> Result<(), String> {
        if !step.faults.is_empty() {
            return Err(format!("expressions failed: {:?}", step.faults));
        }
        for found in step.hits {
            let key = &rules.indicators[found.indicator].key;
            hits(rules, found.indicator, &found.rows, key, &mut outcome.hits);
        }
        outcome.alerts.extend(step.alerts);
        outcome.evaluated += step.evaluated;
        Ok(())
    };
    let push = |engine: &mut Engine, p: usize, part: &[&Row], outcome: &mut Outcome| -> Result<(), String> {
        if let Some(late) = engine.push(ids[p], batch(partitions, part)).map_err(|e| e.to_string())? {
            let ids = late.rows.column_by_name("tx_id").unwrap();
            outcome.late.extend((0..ids.len()).map(|row| crate::oracle::cell(ids.as_ref(), row)));
        }
        Ok(())
    };
    match feeding {
        Feeding::Whole => {
            for (p, queue) in queues.iter().enumerate().filter(|(_, queue)| !queue.is_empty()) {
                push(&mut engine, p, queue, &mut outcome)?;
            }
        }
        Feeding::OneByOne => {
            for row in rows {
                push(&mut engine, row.partition, &[row], &mut outcome)?;
                take(engine.step().map_err(|e| e.to_string())?, &mut outcome)?;
            }
        }
        Feeding::Cut | Feeding::Restarted => {
            let mut next = vec![0; queues.len()];
            let largest = [3, 20, 120][rng.random_range(0..3)];
            // By the definition; that the engine finds the same is looked at elsewhere.
            let is_late = rows::late(partitions, rows);
            let late: BTreeSet<u32> =
                rows.iter().zip(&is_late).filter(|(_, late)| **late).map(|(row, _)| row.id).collect();
            let ended = vec![false; partitions.len()];
            let mut run = Run { rules, sql, partitions, on_time: Vec::new(), ended };
            loop {
                let open: Vec<usize> = (0..queues.len()).filter(|&p| next[p] < queues[p].len()).collect();
                if open.is_empty() {
                    break;
                }
                let p = open[rng.random_range(0..open.len())];
                let size = rng.random_range(1..=largest).min(queues[p].len() - next[p]);
                push(&mut engine, p, &queues[p][next[p]..next[p] + size], &mut outcome)?;
                run.on_time
                    .extend(queues[p][next[p]..next[p] + size].iter().filter(|row| !late.contains(&row.id)));
                next[p] += size;
                if next[p] == queues[p].len() && rng.random_bool(0.5) {
                    engine.end(ids[p]);
                    run.ended[p] = true;
                }
                if rng.random_bool(0.6) {
                    take(engine.step().map_err(|e| e.to_string())?, &mut outcome)?;
                    if feeding == Feeding::Restarted && rng.random_bool(0.2) {
                        engine = run.restarted(engine, &options, rng)?;
                    }
                }
            }
        }
    }
    ids.iter().for_each(|&id| engine.end(id));
    take(engine.step().map_err(|e| e.to_string())?, &mut outcome)?;
    take(engine.finish().map_err(|e| e.to_string())?, &mut outcome)?;
    sort(&mut outcome.hits);
    outcome.late.sort();
    Ok(outcome)
}
