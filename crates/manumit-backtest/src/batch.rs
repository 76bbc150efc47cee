//! Indicators answered by SQL over the whole history at once: what each of them means, worked out by DataFusion alone,
//! on this machine or by a cluster.
//!
//! A session that is asked has two tables: `transactions`, the usable rows of the files with all canonical columns, and
//! `entries`, the two sides of each of them, as [`manumit_engine::entries`] makes them for the stream.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch, StringArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use futures::StreamExt as _;
use manumit_model::schema::{ENTRY_SIDES, TRANSACTIONS};
use manumit_rules::ir::{Indicator, RuleSet, Table};
use manumit_sql::Sql;

use crate::BacktestError;
use crate::history::{Extent, History, Period, SORT_BYTES};

/// Ticks of a keyed query that are asked in one go: each is a part of a UNION, which a cluster spreads.
const TICKS_A_QUERY: usize = 8;

/// The queries whose rows together are the hits of an indicator: `tx_id, event_time, [direction,] subject, <features>`.
/// None for one that is not looked at, because the data lack a column it needs; for keyed SQL, some ticks in each.
///
/// # Errors
/// When the session cannot say at which ticks there is something to ask.
pub async fn hits_sql(
    session: &SessionContext,
    rules: &RuleSet,
    indicator: &Indicator,
) -> Result<Vec<String>, BacktestError> {
    if !indicator.unmet.is_empty() {
        return Ok(Vec::new());
    }
    let Some(ticks_sql) = indicator.ticks_sql() else { return Ok(vec![indicator.sql.clone()]) };
    let mut ticks: Vec<i64> = Vec::new();
    for batch in session.sql(&ticks_sql).await?.collect().await? {
        ticks.extend(batch.column(0).as_primitive::<Int64Type>().values());
    }
    Ok(ticks
        .chunks(TICKS_A_QUERY)
        .map(|ticks| {
            let parts: Vec<String> = ticks
                .iter()
                .map(|&tick| format!("SELECT * FROM ({})", rules.hits_sql(indicator, tick)))
                .collect();
            parts.join(" UNION ALL ")
        })
        .collect())
}

/// Makes the reference tables known that keyed queries may join; as files in a folder for the processes of a cluster.
///
/// # Errors
/// When a file cannot be written.
pub async fn register_reference(
    session: &SessionContext,
    sql: &Sql,
    folder: Option<&Path>,
) -> Result<(), BacktestError> {
    for (name, rows) in sql.reference().get().batches()? {
        table(session, folder, name, rows).await?;
    }
    Ok(())
}

/// A session of this process, with Manumit's functions: all cores, and disk where memory does not do.
///
/// # Errors
/// When the session cannot be configured.
pub fn local_session(sql: &Sql, threads: usize) -> Result<SessionContext, BacktestError> {
    let config = SessionConfig::new().with_target_partitions(threads.max(1));
    let runtime =
        RuntimeEnvBuilder::new().with_memory_pool(Arc::new(FairSpillPool::new(SORT_BYTES))).build_arc()?;
    let mut session = SessionContext::new_with_config_rt(manumit_sql::with_meaning(config), runtime);
    sql.register_functions(&mut session)?;
    Ok(session)
}

/// Makes `transactions` and `entries` of a period known to a session that knows Manumit's functions.
///
/// # Errors
/// When a file cannot be read.
pub async fn register(
    history: &History,
    session: &SessionContext,
    read: &Period,
    base_currency: &str,
) -> Result<(), BacktestError> {
    history.register_on(session).await?;
    let columns: Vec<String> = TRANSACTIONS
        .iter()
        .map(|column| {
            let value = transaction_column(history, column.name, base_currency);
            let value = value.unwrap_or_else(|| format!("arrow_cast(NULL, '{}')", column.kind.data_type()));
            format!("{value} AS {}", column.name)
        })
        .collect();
    let rows = format!("SELECT {} FROM ({})", columns.join(", "), history.query(read));
    view(session, "transactions", &rows).await?;
    view(session, "entries", &entries_sql()).await
}

async fn view(session: &SessionContext, name: &str, query: &str) -> Result<(), BacktestError> {
    let view = session.sql(query).await?.into_view();
    session.deregister_table(name)?;
    session.register_table(name, view)?;
    Ok(())
}

/// A canonical column over the columns of the files; where they have no amounts in the base currency, as
/// [`manumit_feed::Enricher`] fills it. `None` when nothing is known.
fn transaction_column(history: &History, name: &str, base_currency: &str) -> Option<String> {
    let given = |name: &str| history.columns.iter().any(|column| column == name);
    if history.lacks_base_amounts() {
        match name {
            "amount_base" => {
                let base = base_currency.replace('\'', "''");
                return Some(format!("amount_in_base(amount, currency, '{base}', event_time)"));
            }
            "debtor_customer" | "creditor_customer" => {
                let account = name.replace("customer", "account");
                let found = given(&account).then(|| format!("account__customer({account}, event_time)"));
                return first_of(given(name).then_some(name), found);
            }
            "debtor_group" | "creditor_group" => {
                let customer = transaction_column(history, &name.replace("group", "customer"), base_currency);
                let found = customer.map(|customer| format!("group_of({customer}, event_time)"));
                return first_of(given(name).then_some(name), found);
            }
            _ => {}
        }
    }
    given(name).then(|| name.to_string())
}

/// What the files say, or else what is worked out.
fn first_of(given: Option<&str>, found: Option<String>) -> Option<String> {
    match (given, found) {
        (Some(given), Some(found)) => Some(format!("coalesce({given}, {found})")),
        (Some(given), None) => Some(given.to_string()),
        (None, found) => found,
    }
}

/// `entries` over `transactions`.
fn entries_sql() -> String {
    let side = |direction: &str| {
        let out = direction == "out";
        let mut columns = vec![format!("'{direction}' AS direction")];
        for (name, debtor, creditor) in ENTRY_SIDES {
            columns.push(format!("{} AS {name}", if out { debtor } else { creditor }));
        }
        columns.extend(TRANSACTIONS.iter().map(|column| column.name.to_string()));
        let party = if out { "debtor" } else { "creditor" };
        format!(
            "SELECT {} FROM transactions WHERE {party}_account IS NOT NULL AND NOT coalesce({party}_external, false)",
            columns.join(", ")
        )
    };
    format!("{} UNION ALL {}", side("out"), side("in"))
}

/// Columns of `transactions` in which the keys of an indicator stand.
pub fn key_columns(indicator: &Indicator) -> Vec<&str> {
    match ENTRY_SIDES.iter().find(|(name, _, _)| *name == indicator.key) {
        Some((_, debtor, creditor)) if indicator.over == Table::Entries => vec![debtor, creditor],
        _ => vec![&indicator.key],
    }
}

/// Asks a query and shows each batch of its answer; gives the plan, which knows what became of it.
///
/// # Errors
/// When the query fails, or `each` does.
pub async fn ask(
    session: &SessionContext,
    sql: &str,
    mut each: impl FnMut(RecordBatch) -> Result<(), BacktestError>,
) -> Result<Arc<dyn ExecutionPlan>, BacktestError> {
    let plan = session.sql(sql).await?.create_physical_plan().await?;
    let mut stream = execute_stream(plan.clone(), session.task_ctx())?;
    while let Some(batch) = stream.next().await {
        each(batch?)?;
    }
    Ok(plan)
}

/// Counts the rows of a period; how far they are out of order stays 0. Gives the plan as [`ask`] does.
///
/// # Errors
/// When a file cannot be read.
pub async fn extent(
    history: &History,
    session: &SessionContext,
    period: &Period,
) -> Result<(Extent, Arc<dyn ExecutionPlan>), BacktestError> {
    let mut extent = Extent::default();
    let plan = ask(session, &history.count_query(period), |batch| {
        if batch.num_rows() == 1 {
            let count = |column: usize| batch.column(column).as_primitive::<Int64Type>().value(0) as u64;
            let time = |column: usize| {
                let times = batch.column(column).as_primitive::<TimestampMicrosecondType>();
                times.is_valid(0).then(|| times.value(0))
            };
            (extent.rows, extent.unusable) = (count(1), count(0) - count(1));
            (extent.first, extent.last) = (time(2), time(3));
        }
        Ok(())
    })
    .await?;
    Ok((extent, plan))
}

/// Makes keys a table of one column `k`. With a folder they become a file in it, which the processes of a cluster can
/// read; without, they stay in memory.
///
/// # Errors
/// When the file cannot be written.
pub async fn keys_table<'a>(
    session: &SessionContext,
    folder: Option<&Path>,
    name: &str,
    keys: impl Iterator<Item = &'a str>,
) -> Result<(), BacktestError> {
    let keys: StringArray = keys.map(Some).collect();
    let rows = RecordBatch::try_from_iter([("k", Arc::new(keys) as ArrayRef)])?;
    table(session, folder, name, rows).await
}

/// Makes rows a table: a file, where there is a folder for it.
async fn table(
    session: &SessionContext,
    folder: Option<&Path>,
    name: &str,
    rows: RecordBatch,
) -> Result<(), BacktestError> {
    /// A file is never written twice: schedulers remember what they know of files.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    session.deregister_table(name)?;
    let Some(folder) = folder else {
        session.register_batch(name, rows)?;
        return Ok(());
    };
    let path = folder.join(format!("{name}-{}.parquet", NEXT.fetch_add(1, Ordering::Relaxed)));
    let path = std::path::absolute(&path).unwrap_or(path);
    let file =
        std::fs::File::create(&path).map_err(|source| BacktestError::Write { path: path.clone(), source })?;
    let parquet = |e: datafusion::parquet::errors::ParquetError| BacktestError::DataFusion(e.into());
    let mut writer = ArrowWriter::try_new(file, rows.schema(), None).map_err(parquet)?;
    writer.write(&rows).map_err(parquet)?;
    writer.close().map_err(parquet)?;
    session.register_parquet(name, path.display().to_string(), ParquetReadOptions::default()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow::util::display::array_value_to_string;
    use manumit_model::schema;

    use super::*;

    /// Sides that are ours, external, missing and the same account twice; all columns that files may lack are missing.
    const ROWS: &str = "\
tx_id,event_time,amount,currency,debtor_account,debtor_name,debtor_balance,creditor_account,creditor_customer,debtor_external,creditor_external,memo
t1,2026-01-01T10:00:00Z,10.50,EUR,A,Ann,5.00,B,cb,,,rent
t2,2026-01-01T11:00:00Z,1,USD,,,,B,,,false,cash in
t3,2026-01-02T09:00:00Z,3,EUR,A,,,HUB,,,true,
t4,2026-01-03T09:00:00Z,4,EUR,X,,,A,,true,,
t5,2026-01-03T09:00:00Z,5,EUR,A,,,A,,,,to myself
t6,2026-01-04T09:00:00Z,6,EUR,,,,,,,,
t7,2026-01-05T09:00:00Z,-6,EUR,A,,,B,,,,not usable
";

    fn told(batch: &RecordBatch) -> Vec<String> {
        let mut lines: Vec<String> = (0..batch.num_rows())
            .map(|row| {
                let cells = batch.columns().iter().map(|column| {
                    let value = array_value_to_string(column, row).unwrap();
                    if column.is_null(row) { "NULL".to_string() } else { value }
                });
                cells.collect::<Vec<_>>().join("|")
            })
            .collect();
        lines.sort();
        lines
    }

    #[tokio::test]
    async fn entries_in_sql_are_those_of_the_stream_row_for_row() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        std::fs::write(&path, ROWS).unwrap();
        let sql = Sql::new();
        sql.reference().update(|reference| {
            let text = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
            let rates = RecordBatch::try_from_iter([("currency", text("USD")), ("rate", text("0.9"))]);
            reference.add_rows(manumit_sql::reference::Table::FxRates, &rates.unwrap()).unwrap();
            let accounts = RecordBatch::try_from_iter([("account", text("A")), ("customer", text("ca"))]);
            reference.add_rows(manumit_sql::reference::Table::Accounts, &accounts.unwrap()).unwrap();
        });
        let history = History::open(&[path], false).await.unwrap();
        let session = local_session(&sql, 2).unwrap();
        register(&history, &session, &Period::default(), "EUR").await.unwrap();

        let raw = history.session().sql(&history.query(&Period::default())).await.unwrap();
        let raw = arrow::compute::concat_batches(
            &Arc::new(raw.schema().as_arrow().clone()),
            &raw.collect().await.unwrap(),
        );
        let enricher = manumit_feed::Enricher::new("EUR", sql.reference().clone());
        let rows = enricher.enrich(&raw.unwrap()).unwrap();
        let nullable = |schema: &arrow::datatypes::Schema| -> arrow::datatypes::SchemaRef {
            let fields: Vec<_> =
                schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
            Arc::new(arrow::datatypes::Schema::new(fields))
        };
        let wanted = manumit_engine::entries::entries(&rows, &nullable(&schema::entries())).unwrap().batch;
        let columns: Vec<&str> =
            wanted.schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
        let frame = session.sql(&format!("SELECT {} FROM entries", columns.join(", "))).await.unwrap();
        for (field, wanted) in frame.schema().fields().iter().zip(wanted.schema_ref().fields()) {
            assert_eq!(field.data_type(), wanted.data_type(), "{}", field.name());
        }
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let found = arrow::compute::concat_batches(&schema, &frame.collect().await.unwrap()).unwrap();
        assert_eq!(told(&found), told(&wanted));
        assert_eq!(found.num_rows(), 7);
        let usd = told(&found).into_iter().find(|line| line.contains("|t2|")).unwrap();
        assert!(usd.contains("|0.9000|"), "{usd}");
    }
}
