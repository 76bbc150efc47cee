//! Queries of every kind that rules mean, answered by this process and by a scheduler with two executors.

// A test fails by panicking; the lints that forbid it are meant for the product.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::physical_plan::collect;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use manumit_cluster::{
    Cluster, ClusterError, ExecutorOptions, SchedulerOptions, execute, executors, schedule,
};
use manumit_rules::Sources;
use manumit_sql::Sql;

/// Four steps, the second of which comes twice, with values carried from one to the next.
const SEQUENCE: &str = r#"
id = "four-steps"
version = 1
status = "draft"
title = "Four steps"
severity = "low"
exploitation = ["any"]
references = ["test"]
false_positives = ["none"]
subject = "account"
over = "entries"
within = "20 days"
when = "paid_in > 0"
explain = "{paid_in}"

[[step]]
name = "cash_in"
when = "direction = 'in' AND method = 'cash'"

[[step]]
name = "sent"
when = "direction = 'out' AND amount_base >= 0.5 * cash_in.amount_base"
at_least = 2

[[step]]
name = "refused"
when = "in_list(counterparty, 'watch')"
not = true

[[step]]
name = "back"
when = "direction = 'in' AND amount_base <= sent.amount_base"

[[step]]
name = "cash_out"
when = "direction = 'out' AND method = 'cash'"
within = "6 days"

[features]
paid_in = "cash_in.amount_base"
times = "sent.count"
"#;

/// A query in which aggregates are aggregated, joined with rows again.
const NESTED: &str = "
    WITH days AS (
      SELECT account, date_trunc('day', event_time) AS day, count(DISTINCT counterparty) AS senders, sum(amount_base) AS total
      FROM entries WHERE direction = 'in' GROUP BY account, date_trunc('day', event_time)
    ), busy AS (
      SELECT account, count(*) AS days, max(total) AS most FROM days WHERE senders >= 2 GROUP BY account HAVING count(*) >= 3
    )
    SELECT e.tx_id, e.event_time, e.account AS subject, b.days, b.most
    FROM entries AS e JOIN busy AS b ON e.account = b.account
    WHERE e.amount_base > CAST((SELECT avg(total) FROM days) AS DECIMAL(20, 4)) AND e.direction = 'out'";

const WINDOWS: &str = "
    SELECT * FROM (
      SELECT tx_id, account,
        count(*) FILTER (WHERE direction = 'in') OVER w AS n,
        count(DISTINCT counterparty) FILTER (WHERE direction = 'in' AND amount_base > 40.5) OVER w AS senders,
        sum(amount_base) FILTER (WHERE method = 'cash') OVER w AS cash,
        earliest_by(counterparty, event_time, tx_id) FILTER (WHERE direction = 'out') OVER w AS first,
        latest_by(amount_base, event_time, tx_id) FILTER (WHERE direction = 'out') OVER w AS last,
        top_share(counterparty, amount_base) FILTER (WHERE NOT in_list(counterparty, 'watch', event_time)) OVER w AS share,
        max(amount_base) OVER (PARTITION BY account ORDER BY event_time
          RANGE BETWEEN INTERVAL '9 days' PRECEDING AND INTERVAL '1 microseconds' PRECEDING) AS before
      FROM entries
      WINDOW w AS (PARTITION BY account ORDER BY event_time RANGE BETWEEN INTERVAL '5 days' PRECEDING AND CURRENT ROW)
    ) WHERE n >= 2 AND (share IS NULL OR share < 0.9)";

/// Neighbours in one order, chosen in the other.
const NEIGHBOURS: &str = "
    SELECT tx_id, account, lag(amount_base) OVER w AS before, lead(direction) OVER w AS after,
      nth_value(method, 2) OVER w AS second, event_time - lag(event_time, 2) OVER w > INTERVAL '3 days' AS gap
    FROM entries WINDOW w AS (PARTITION BY account ORDER BY event_time, tx_id)
    QUALIFY row_number() OVER (PARTITION BY account ORDER BY event_time DESC, tx_id DESC) <= 3";

fn functions() -> Sql {
    let sql = Sql::new();
    let list = "value,valid_from,valid_to,source\nA3,,,test\nA5,2026-01-20,,test\n";
    sql.reference().update(|reference| reference.add_list_csv("watch", list)).unwrap();
    sql
}

/// Rows of forty accounts over two months, in two files.
async fn write_rows(folder: &Path) {
    let context = SessionContext::new_with_config(manumit_sql::with_meaning(SessionConfig::new()));
    let rows = "
        SELECT 't' || i AS tx_id,
          arrow_cast(1767225600000000 + (i * 7919 % 5184000) * 1000000, 'Timestamp(Microsecond, Some(\"UTC\"))') AS event_time,
          CASE WHEN i * 31 % 7 < 4 THEN 'in' ELSE 'out' END AS direction, 'A' || (i * 17 % 40) AS account,
          CASE WHEN i % 11 = 0 THEN NULL ELSE 'A' || (i * 13 % 9) END AS counterparty, 'bank' AS feed,
          CASE WHEN i * 29 % 5 = 0 THEN 'cash' ELSE 'transfer' END AS method,
          CASE WHEN i % 37 = 0 THEN NULL ELSE arrow_cast((i * 101 % 977) / 4.0, 'Decimal128(20, 4)') END AS amount_base
        FROM (SELECT value AS i FROM generate_series(1, 4000))";
    for part in 0..2 {
        let half =
            context.sql(&format!("SELECT * FROM ({rows}) WHERE length(tx_id) % 2 = {part}")).await.unwrap();
        let path = folder.join(format!("{part}.parquet")).display().to_string();
        half.write_parquet(&path, DataFrameWriteOptions::new().with_single_file_output(true), None)
            .await
            .unwrap();
    }
}

async fn register(session: &SessionContext, folder: &Path) {
    let path = folder.display().to_string();
    session.register_parquet("entries", path, ParquetReadOptions::default()).await.unwrap();
}

fn told(batches: &[RecordBatch]) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cells: Vec<String> =
                batch.columns().iter().map(|column| array_value_to_string(column, row).unwrap()).collect();
            lines.push(cells.join("|"));
        }
    }
    lines.sort();
    lines
}

fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

async fn start(folder: &Path, sql: &Sql) -> String {
    let listen = free_address();
    let scheduler = format!("http://{listen}");
    let functions = sql.clone();
    tokio::spawn(async move {
        let options = SchedulerOptions { listen, advertise: None };
        schedule(&options, &functions, std::future::pending()).await.unwrap();
    });
    for name in ["one", "two"] {
        let options = ExecutorOptions {
            name: name.into(),
            listen: free_address(),
            task_port: free_address().port(),
            advertise: None,
            scheduler: scheduler.clone(),
            cores: 1,
            work_dir: folder.join(name),
            memory_share: 0.1,
        };
        let functions = sql.clone();
        tokio::spawn(async move { execute(&options, &functions).await.unwrap() });
    }
    let began = Instant::now();
    while executors(&scheduler).await.map_or(0, |all| all.len()) < 2 {
        assert!(began.elapsed() < Duration::from_secs(60), "the cluster did not come up");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    scheduler
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_executors_give_the_answers_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let (data, work) = (folder.path().join("data"), folder.path().join("work"));
    std::fs::create_dir_all(&data).unwrap();
    write_rows(&data).await;
    let sql = functions();
    let scheduler = start(&work, &sql).await;
    let cluster = Cluster::connect(&scheduler, &sql).await.unwrap();
    register(cluster.session(), &data).await;
    let mut here = SessionContext::new_with_config(manumit_sql::with_meaning(SessionConfig::new()));
    sql.register_functions(&mut here).unwrap();
    register(&here, &data).await;

    let rule = (PathBuf::from("rules/indicators/four-steps.toml"), SEQUENCE.to_string());
    let rules = manumit_rules::load(&Sources::from_files(vec![rule]), &sql).unwrap_or_else(|e| panic!("{e}"));
    let sequence = &rules.indicators[0].sql;
    let mut workers = BTreeSet::new();
    for (what, query, least) in [
        ("windows", WINDOWS, 500),
        ("nested aggregates", NESTED, 20),
        ("a sequence", sequence.as_str(), 20),
        ("neighbours", NEIGHBOURS, 120),
    ] {
        let wanted = told(&here.sql(query).await.unwrap().collect().await.unwrap());
        assert!(wanted.len() >= least, "{what}: {} rows", wanted.len());
        let plan = cluster.session().sql(query).await.unwrap().create_physical_plan().await.unwrap();
        let found = told(&collect(plan.clone(), cluster.session().task_ctx()).await.unwrap());
        assert_eq!(found.len(), wanted.len(), "{what}");
        for (found, wanted) in found.iter().zip(&wanted) {
            assert_eq!(found, wanted, "{what}");
        }
        let status = cluster.status(&plan).await.unwrap().unwrap();
        assert!(status.stages.len() > 1, "{what}: {status:?}");
        workers.extend(status.stages.into_iter().flat_map(|stage| stage.tasks).map(|task| task.executor));
    }
    assert_eq!(workers.into_iter().collect::<Vec<_>>(), ["one", "two"]);

    // Who looks into other lists is not answered.
    let other = Cluster::connect(&scheduler, &Sql::new()).await.map(|_| ()).unwrap_err();
    assert!(matches!(other, ClusterError::OtherReference { .. }), "{other}");
}
