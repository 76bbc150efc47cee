//! `manumit baselines`: what is usual, worked out of the archive as reference tables.
//!
//! The queries under `sql/baselines/` see the rows of the 180 days before a day and nothing later, and customers as they were known then;
//! their answers are valid from that day. So a backtest that looks up what is valid at a row's time never learns from its future.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, new_null_array};
use arrow::compute::{
    SortColumn, cast, concat_batches, filter_record_batch, lexsort_to_indices, take_record_batch,
};
use arrow::datatypes::{DataType, Field, Schema};
use clap::Args;
use datafusion::datasource::MemTable;
use manumit_archive::{Archive, Day, Depth};
use manumit_sql::Sql;
use manumit_sql::reference::Table;

use crate::config::Config;
use crate::project::Project;
use crate::query::output::{Format, Results};
use crate::query::table::ArchiveTable;
use crate::query::{CHECKED_BYTES, entries_sql, files, lines, words};
use crate::reference::load_reference;

/// Days that a baseline looks back: six months of thirty days, as the queries count them.
const DAYS: u32 = 180;

/// Of when, and where to.
#[derive(Debug, Args)]
pub struct BaselinesArgs {
    /// Archive [default: `[archive] folder` of the configuration]
    #[arg(long, value_name = "DIR")]
    pub archive: Option<PathBuf>,
    /// First day on which the values are valid; they tell of the 180 days before it. May be given again [default: the day after the
    /// archive's newest]
    #[arg(long, value_name = "DATE")]
    pub as_of: Vec<String>,
    /// Folder for baselines.csv and peers.csv [default: the files of `[reference]`, else this folder]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Works out the tables as of each day and adds them to their files; gives what was done, a line a day.
///
/// # Errors
/// When the archive is damaged or empty, a query fails, or a file cannot be written. Files are replaced as a whole or not at all.
pub fn baselines(
    folder: &Path,
    config: &Config,
    args: &BaselinesArgs,
    runtime: &tokio::runtime::Runtime,
) -> anyhow::Result<String> {
    let Some(archived) = args.archive.as_ref().or(config.archive.folder.as_ref()) else {
        bail!(
            "baselines are worked out of an archive: give --archive DIR, or `[archive] folder = \"…\"` in manumit.toml"
        )
    };
    let archive = Archive::open(archived)?;
    let Some((first, newest)) = archive.days() else {
        bail!("the archive {} holds nothing yet", archived.display())
    };
    let after = Day::of(newest.start_micros() + 86_400_000_000);
    let mut days = Vec::new();
    for text in &args.as_of {
        let day =
            Day::parse(text).with_context(|| format!("--as-of {text} is no day; write it as 2026-03-31"))?;
        if day <= first || day > after {
            bail!(
                "--as-of {text}: the archive holds {first} to {newest}, so values can be valid from the day after {first} until \
                 {after}; a later day would call months of nothing usual"
            );
        }
        days.push(day);
    }
    if days.is_empty() {
        days.push(after);
    }
    days.sort_unstable();
    days.dedup();
    let project = Project::at(folder);
    let targets = [
        target(args, config.reference.baselines.as_ref(), Table::Baselines)?,
        target(args, config.reference.peers.as_ref(), Table::Peers)?,
    ];
    // What is usual is not told by what was usual before: those tables are left alone while new ones are made.
    let mut known = config.clone();
    known.reference.baselines = None;
    known.reference.peers = None;
    let mut told = Vec::new();
    let mut tables = [Vec::new(), Vec::new()];
    for day in days {
        let [own, peers] = runtime.block_on(as_of(&project, &known, &archive, day))?;
        if own.num_rows() == 0 {
            bail!(
                "as of {day}: no movement in the archive names a customer; give the reference table `accounts` to the run that archives"
            );
        }
        told.push(format!("as of {day}: {} customers, {} groups", own.num_rows(), peers.num_rows()));
        tables[0].push(own);
        tables[1].push(peers);
    }
    for ((path, table), new) in targets.iter().zip(tables) {
        let rows = add(path, *table, &new)?;
        told.push(format!("{}: {rows} rows", path.display()));
    }
    Ok(told.join("\n"))
}

/// The file of a table.
fn target(
    args: &BaselinesArgs,
    configured: Option<&PathBuf>,
    table: Table,
) -> anyhow::Result<(PathBuf, Table)> {
    let path = match (&args.out, configured) {
        (Some(folder), _) => folder.join(format!("{}.csv", table.name())),
        (None, Some(path)) if !path.to_string_lossy().starts_with("kafka:") => path.clone(),
        (None, Some(topic)) => bail!(
            "`[reference] {}` is the topic {}: give --out DIR, and send the file's rows there as JSON objects",
            table.name(),
            topic.display()
        ),
        (None, None) => format!("{}.csv", table.name()).into(),
    };
    if path.extension().is_none_or(|kind| kind != "csv") {
        bail!("{} is no .csv file; baselines are written as CSV", path.display());
    }
    Ok((path, table))
}

/// The answers of the queries as of a day, with `valid_from`.
async fn as_of(
    project: &Project,
    config: &Config,
    archive: &Archive,
    day: Day,
) -> anyhow::Result<[RecordBatch; 2]> {
    let sql = Sql::on_threads(1);
    load_reference(config, &sql)?;
    let (begins, ends) = (day.back(DAYS), day);
    let held = archive.files(Some(begins.start_micros()), Some(ends.start_micros()));
    let bytes: u64 = held.iter().map(|entry| entry.bytes).sum();
    let depth = if bytes <= CHECKED_BYTES { Depth::Checksums } else { Depth::Footers };
    let (sound, bad) = archive.check(held, depth);
    if !bad.is_empty() {
        bail!("the archive is damaged:\n{}", lines(&bad));
    }
    let session = sql.session();
    session.register_table("archived", Arc::new(ArchiveTable::new(archive.clone(), sound)))?;
    let rows = format!(
        "SELECT * FROM archived WHERE event_time >= {} AND event_time < {} AND NOT late",
        instant(begins),
        instant(ends)
    );
    view(&sql, "transactions", &rows).await?;
    view(&sql, "entries", &entries_sql()).await?;
    sql.register("known", sql.reference().get().table(Table::Customers)?)?;
    let at = instant(ends);
    let customers = format!(
        "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY customer ORDER BY valid_from DESC NULLS LAST) AS version FROM known \
         WHERE (valid_from IS NULL OR valid_from <= {at}) AND (valid_to IS NULL OR valid_to > {at})) WHERE version = 1"
    );
    view(&sql, "customers", &customers).await?;
    // The queries see what was, through these views and no others.
    session.deregister_table("archived")?;
    session.deregister_table("known")?;
    let mut answers = Vec::new();
    for name in ["months", Table::Baselines.name(), Table::Peers.name()] {
        let text = project.baseline_sql(name)?.replace("$ends", &at);
        let failed = |error| words(&error).context(format!("sql/baselines/{name}.sql"));
        let answer = session.sql(&text).await.map_err(failed)?;
        let schema = Arc::new(answer.schema().as_arrow().clone());
        let batches = answer.collect().await.map_err(failed)?;
        let whole = concat_batches(&schema, &batches)?;
        session.register_table(name, Arc::new(MemTable::try_new(schema, vec![vec![whole.clone()]])?))?;
        answers.push(whole);
    }
    let dated = |table: Table, rows: &RecordBatch| dated(table, rows, day);
    Ok([dated(Table::Baselines, &answers[1])?, dated(Table::Peers, &answers[2])?])
}

async fn view(sql: &Sql, name: &str, text: &str) -> anyhow::Result<()> {
    let view = sql.session().sql(text).await.map_err(|error| words(&error))?.into_view();
    sql.session().register_table(name, view)?;
    Ok(())
}

fn instant(day: Day) -> String {
    format!("arrow_cast('{day}T00:00:00', 'Timestamp(Microsecond, Some(\"UTC\"))')")
}

/// A table's columns as texts, from an answer that gives some of them, and the day from which they are valid.
fn dated(table: Table, answer: &RecordBatch, day: Day) -> anyhow::Result<RecordBatch> {
    let rows = answer.num_rows();
    for field in answer.schema().fields() {
        let known = table.keys().iter().copied().chain(table.columns().iter().map(|(name, _)| *name));
        if !known.clone().any(|name| name == field.name()) {
            let near =
                manumit_model::nearest(field.name(), known).map(|near| format!("; did you mean `{near}`?"));
            bail!(
                "sql/baselines/{}.sql gives a column `{}`, which the table does not have{}",
                table.name(),
                field.name(),
                near.unwrap_or_default()
            );
        }
    }
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    for name in table.keys() {
        let Some(key) = answer.column_by_name(name) else {
            bail!("sql/baselines/{}.sql must give a column `{name}`", table.name())
        };
        columns.push(((*name).to_string(), cast(key, &DataType::Utf8)?));
    }
    columns.push(("valid_from".into(), Arc::new(StringArray::from(vec![day.to_string(); rows]))));
    for (name, _) in table.columns() {
        let column = match answer.column_by_name(name) {
            Some(column) => cast(column, &DataType::Utf8)?,
            None => new_null_array(&DataType::Utf8, rows),
        };
        columns.push(((*name).to_string(), column));
    }
    let fields: Vec<Field> = columns.iter().map(|(name, _)| Field::new(name, DataType::Utf8, true)).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, c)| c).collect())?)
}

/// Adds versions to a table's file, in place of those of the same days; gives its rows. Ordered by key and day.
fn add(path: &Path, table: Table, new: &[RecordBatch]) -> anyhow::Result<usize> {
    let Some(schema) = new.first().map(RecordBatch::schema) else { return Ok(0) };
    let days: Vec<&str> = new.iter().filter_map(|rows| valid_from(rows)?.iter().next()?).collect();
    let mut all = new.to_vec();
    if path.is_file() {
        let what = || format!("{} cannot be added to", path.display());
        for rows in files::read(path).with_context(what)?.1 {
            let column = |name: &str| match rows.column_by_name(name) {
                Some(column) => column.clone(),
                None => new_null_array(&DataType::Utf8, rows.num_rows()),
            };
            let columns = schema.fields().iter().map(|field| column(field.name())).collect();
            let rows = RecordBatch::try_new(schema.clone(), columns).with_context(what)?;
            let other: Option<BooleanArray> = valid_from(&rows).map(|from| {
                from.iter().map(|day| Some(!day.is_some_and(|day| days.contains(&day)))).collect()
            });
            all.push(match other {
                Some(other) => filter_record_batch(&rows, &other)?,
                None => rows,
            });
        }
    }
    let whole = concat_batches(&schema, &all)?;
    let by: Vec<SortColumn> = [table.keys()[0], "valid_from"]
        .into_iter()
        .filter_map(|name| whole.column_by_name(name))
        .map(|values| SortColumn { values: values.clone(), options: None })
        .collect();
    let whole = take_record_batch(&whole, &lexsort_to_indices(&by, None)?)?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    let mut results = Results::open(Format::Csv, Some(path), &schema)?;
    results.write(&whole)?;
    results.finish()
}

fn valid_from(rows: &RecordBatch) -> Option<&StringArray> {
    rows.column_by_name("valid_from")?.as_string_opt::<i32>()
}
