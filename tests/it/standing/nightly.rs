//! By night: the stream's hits against DuckDB, and against two executors of Apache DataFusion Ballista, over the same
//! random cases. `tests/nightly.sh` runs it.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use manumit_engine::entries;
use manumit_model::schema;
use manumit_rules::ir::{Indicator, RuleSet};
use manumit_sql::Sql;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::answers::{Hit, difference, has_window_sql, hits, plain_sql, sort};
use super::duckdb::{self, DuckDb, Equal, Question};
use super::executors::{self, Executors};
use super::rows::{self, Row};
use super::stream::{Feeding, stream};
use super::{Case, each_case, rules, ticks};
use crate::oracle::nullable;

/// Cases that are drawn when nothing else is said.
const CASES: u64 = 500;

/// Ticks of a keyed query that the cluster is asked at once.
const TICKS_A_QUERY: usize = 8;

/// What was compared.
#[derive(Debug, Default)]
struct Compared {
    duckdb: Equal,
    cluster: Equal,
    /// What was not, or in another form, by where and why.
    left_out: BTreeMap<String, usize>,
}

impl Compared {
    fn note(&mut self, what: &str, count: usize) {
        if count > 0 {
            *self.left_out.entry(what.into()).or_default() += count;
        }
    }
}

impl AddAssign<&Compared> for Compared {
    fn add_assign(&mut self, other: &Compared) {
        for (sum, part) in [(&mut self.duckdb, other.duckdb), (&mut self.cluster, other.cluster)] {
            sum.indicators += part.indicators;
            sum.hits += part.hits;
        }
        for (why, count) in &other.left_out {
            self.note(why, *count);
        }
    }
}

/// Those that answer, and the folder that cases are written to.
struct Others {
    folder: PathBuf,
    next: AtomicU64,
    python: Option<String>,
    duckdb: Mutex<Vec<DuckDb>>,
    executors: Executors,
}

/// `MANUMIT_PYTHON`, which `tests/nightly.sh` sets, or the Python that is there, if it has DuckDB.
fn python() -> Option<String> {
    let python = std::env::var("MANUMIT_PYTHON").unwrap_or_else(|_| "python3".into());
    let tried = Command::new(&python).args(["-c", "import duckdb"]).output();
    tried.is_ok_and(|done| done.status.success()).then_some(python)
}

#[test]
#[ignore = "by night: tests/nightly.sh runs it"]
fn random_rules_over_random_rows_give_the_hits_of_duckdb_and_of_two_executors() {
    let folder = tempfile::tempdir().unwrap();
    let sql = Sql::new();
    rules::loaded(&[], &[], &sql).unwrap();
    let others = Others {
        folder: folder.path().to_path_buf(),
        next: AtomicU64::new(0),
        python: python(),
        duckdb: Mutex::default(),
        executors: Executors::start(folder.path(), sql),
    };
    if others.python.is_none() {
        println!("DUCKDB IS LEFT OUT: there is no Python with it; tests/nightly.sh installs one");
    }
    let (cases, seen) = each_case(CASES, "tests/nightly.sh", |case| compare(case, &others));
    for (name, equal) in [("DuckDB", seen.duckdb), ("Ballista", seen.cluster)] {
        println!("{name:<8} {:>8} indicators with {:>9} hits equal", equal.indicators, equal.hits);
    }
    for (why, count) in &seen.left_out {
        println!("{count:>8} {why}");
    }
    // What compares nothing finds nothing.
    if cases >= 20 {
        assert!(seen.cluster.hits > 50 * cases as usize, "{seen:?}");
        assert!(seen.duckdb.hits > 50 * cases as usize || others.python.is_none(), "{seen:?}");
        assert_eq!(others.executors.workers(), ["one", "two"]);
    }
}

/// The queries whose answers together are the hits of an indicator.
fn queries(rules: &RuleSet, indicator: &Indicator, accepted: &[&Row]) -> Vec<String> {
    match &indicator.keyed {
        None => vec![rules.hits_sql(indicator, 0)],
        Some(keyed) => ticks::ticks(keyed.every_micros, accepted.iter().map(|row| row.time))
            .into_iter()
            .map(|tick| rules.hits_sql(indicator, tick))
            .collect(),
    }
}

/// All that can be compared of a case; in words what differs.
fn compare(case: &Case, others: &Others) -> Result<Compared, String> {
    let mut rng = ChaCha8Rng::seed_from_u64(case.seed ^ 0x5eed);
    let sql = Sql::new();
    let rules = Arc::new(
        rules::loaded(&case.indicators, &case.typologies, &sql)
            .map_err(|faults| format!("the loader refuses a rule that was drawn:\n{faults}"))?,
    );
    let threads = rng.random_range(1..=3);
    let ours = stream(&rules, &sql, &case.partitions, &case.rows, threads, Feeding::Cut, &mut rng)?;
    let is_late = rows::late(&case.partitions, &case.rows);
    let accepted: Vec<&Row> =
        case.rows.iter().zip(is_late).filter(|(_, late)| !late).map(|(row, _)| row).collect();
    if accepted.is_empty() {
        return Ok(Compared::default());
    }
    let folder = others.folder.join(format!("case-{}", others.next.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir_all(&folder).unwrap();
    let transactions = rows::batch(&case.partitions, &accepted);
    executors::write(&folder.join("transactions.parquet"), &transactions);
    let all: Vec<(Vec<String>, Vec<Hit>)> = (rules.indicators.iter().enumerate())
        .map(|(index, indicator)| {
            let mine = ours.hits.iter().filter(|hit| hit.indicator == index).cloned();
            (queries(&rules, indicator, &accepted), mine.collect())
        })
        .collect();
    let mut compared = Compared::default();
    match &others.python {
        Some(python) => compared.duckdb = by_duckdb(&rules, &all, &folder, python, others)?,
        None => compared.note("cases not seen by DuckDB: it is not there", 1),
    }
    by_cluster(&rules, &all, &folder, others, &transactions, &mut compared)?;
    let _ = std::fs::remove_dir_all(&folder);
    Ok(compared)
}

fn by_duckdb(
    rules: &RuleSet,
    all: &[(Vec<String>, Vec<Hit>)],
    folder: &Path,
    python: &str,
    others: &Others,
) -> Result<Equal, String> {
    let questions: Vec<Question<'_>> = (rules.indicators.iter().zip(all))
        .map(|(indicator, (queries, hits))| Question { id: &indicator.meta.id, queries, hits })
        .collect();
    duckdb::write(folder, &questions);
    let known = others.duckdb.lock().unwrap().pop();
    let mut process = known.unwrap_or_else(|| DuckDb::start(python, &others.folder.join("reference")));
    let equal = process.compare(folder)?;
    others.duckdb.lock().unwrap().push(process);
    Ok(equal)
}

fn by_cluster(
    rules: &RuleSet,
    all: &[(Vec<String>, Vec<Hit>)],
    folder: &Path,
    others: &Others,
    transactions: &arrow::array::RecordBatch,
    compared: &mut Compared,
) -> Result<(), String> {
    let tables = [
        ("entries", entries::entries(transactions, &nullable(&schema::entries())).unwrap().batch),
        (
            "transactions",
            entries::transactions(transactions, &nullable(&schema::transactions())).unwrap().batch,
        ),
    ]
    .map(|(name, rows)| {
        let path = folder.join(format!("all-{name}.parquet"));
        executors::write(&path, &rows);
        (name, path)
    });
    let mut questions = Vec::new();
    for (indicator, (queries, _)) in rules.indicators.iter().zip(all) {
        questions.push(match has_window_sql(indicator) {
            true => together(queries),
            false => {
                let why = "indicators asked on Ballista by the plain definition: `excluding current row`, which DataFusion does not know";
                compared.note(why, 1);
                vec![plain_sql(indicator)]
            }
        });
    }
    let answers = others.executors.answers(&tables, &questions)?;
    for (index, batches) in answers.iter().enumerate() {
        let (indicator, mine) = (&rules.indicators[index], &all[index].1);
        let batches = match batches {
            Ok(batches) => batches,
            Err(why) => return Err(format!("{}: Ballista refuses: {why}", indicator.meta.id)),
        };
        let mut theirs = Vec::new();
        batches.iter().for_each(|batch| hits(rules, index, batch, "subject", &mut theirs));
        sort(&mut theirs);
        if let Some(told) = difference(rules, mine, &theirs, &['p']) {
            return Err(format!("the stream against Ballista: {told}"));
        }
        let drifting = indicator.features.iter().filter(|f| f.name.starts_with('p')).count();
        let why = "features not compared on Ballista: standard deviations, means of floats; DataFusion's sliding ones drift";
        compared.note(why, drifting);
        compared.cluster.indicators += 1;
        compared.cluster.hits += mine.len();
    }
    Ok(())
}

/// Some queries in one, which a cluster spreads.
fn together(queries: &[String]) -> Vec<String> {
    let one = |part: &[String]| {
        let parts: Vec<String> = part.iter().map(|query| format!("SELECT * FROM ({query})")).collect();
        parts.join(" UNION ALL ")
    };
    queries.chunks(TICKS_A_QUERY).map(one).collect()
}
