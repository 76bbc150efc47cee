//! Past transactions as DataFusion reads them: Parquet or CSV with canonical columns, cast to their types.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimestampMicrosecondType};
use chrono::NaiveDate;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{CsvReadOptions, ParquetReadOptions, SessionConfig, SessionContext};
use manumit_archive::{Archive, BadFile, Depth, FileEntry, LATE, check_parquet};
use manumit_feed::Enricher;
use manumit_model::nearest;
use manumit_model::schema::{Column, TRANSACTIONS};

use crate::BacktestError;
use crate::footers;

/// Memory that sorting may take before it goes to disk.
pub(crate) const SORT_BYTES: usize = 2 << 30;

/// Rows that are out of order by no more than this are put in order by the engine's own buffer, without a sort.
const BUFFERED_MICROS: i64 = 2 * 86_400_000_000;

/// Holds for all rows.
const ALL: &str = "true";

/// Holds for rows of an archive that were in time.
const NOT_LATE: &str = "NOT coalesce(late, false)";

/// Past transactions.
pub struct History {
    session: SessionContext,
    /// What it was read from.
    pub files: Vec<PathBuf>,
    /// Canonical columns that it gives.
    pub columns: Vec<String>,
    /// Its rows are of more than one feed.
    pub feeds_mixed: bool,
    /// What a reader of the report must know about the data.
    pub notes: Vec<String>,
    /// Files of archives with their first and last event time; `None` for others, of which nothing is known.
    bounds: Vec<(String, Option<(i64, i64)>)>,
    schema: Arc<Schema>,
    columns_sql: String,
    /// The condition on rows that can be used, a part of which is that they are not late.
    usable: String,
    leaves_out_late: bool,
    /// The files by absolute path: another process may have to find them.
    read: Vec<String>,
    /// Columns of CSV files.
    csv: Option<Schema>,
}

/// What a period of a history holds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extent {
    /// Rows that can be used.
    pub rows: u64,
    /// Rows that cannot: without id, time, amount or currency, or with a negative amount.
    pub unusable: u64,
    /// Event time of the first row, microseconds UTC.
    pub first: Option<i64>,
    /// Event time of the last row.
    pub last: Option<i64>,
    /// The furthest that a row comes behind a later one, microseconds.
    pub disorder_micros: i64,
}

impl Extent {
    /// Rows are more out of order than the engine's own buffer should have to mend.
    pub(crate) fn needs_sorting(&self) -> bool {
        self.disorder_micros > BUFFERED_MICROS
    }
}

/// Event times from (inclusive) and to (exclusive), microseconds UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Period {
    /// First instant, when bounded.
    pub from: Option<i64>,
    /// First instant after, when bounded.
    pub to: Option<i64>,
}

impl Period {
    /// Whole UTC days, both included.
    pub fn days(from: Option<NaiveDate>, to: Option<NaiveDate>) -> Period {
        let start = |date: NaiveDate| date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros();
        Period { from: from.map(start), to: to.and_then(|date| date.succ_opt()).map(start) }
    }

    /// The instant lies in it.
    pub fn holds(&self, time: i64) -> bool {
        self.from.is_none_or(|from| time >= from) && self.to.is_none_or(|to| time < to)
    }

    fn condition(&self) -> String {
        let mut all = Vec::new();
        if let Some(from) = self.from {
            all.push(format!("event_time >= {}", literal(from)));
        }
        if let Some(to) = self.to {
            all.push(format!("event_time < {}", literal(to)));
        }
        if all.is_empty() { "true".into() } else { all.join(" AND ") }
    }
}

fn literal(micros: i64) -> String {
    format!("arrow_cast({micros}, 'Timestamp(Microsecond, Some(\"UTC\"))')")
}

impl History {
    /// Opens archives, or files or folders of Parquet or CSV. Late rows of an archive are left out unless `with_late`.
    ///
    /// # Errors
    /// [`BacktestError`] names the file or column that is missing, and the mend.
    pub async fn open(paths: &[PathBuf], with_late: bool) -> Result<History, BacktestError> {
        History::open_with(paths, with_late, false).await
    }

    /// The same; `skip_bad_files` goes on without files that are damaged or foreign, and notes them.
    ///
    /// # Errors
    /// As [`History::open`].
    pub async fn open_with(
        paths: &[PathBuf],
        with_late: bool,
        skip_bad_files: bool,
    ) -> Result<History, BacktestError> {
        let Found { files, bounds, shown, bad, mapped } = find(paths)?;
        if !bad.is_empty() && (!skip_bad_files || files.is_empty()) {
            return Err(BacktestError::Damaged(bad));
        }
        let mut notes: Vec<String> =
            bad.iter().map(|bad| format!("left out: {}: {}", bad.path.display(), bad.why)).collect();
        let session = session()?;
        let is_csv = |file: &PathBuf| file.extension().is_some_and(|e| e == "csv");
        let csv = match files.iter().filter(|file| is_csv(file)).count() {
            0 => None,
            count if count == files.len() => Some(csv_schema(&files)?),
            _ => return Err(BacktestError::Mixed),
        };
        let absolute = |file: &PathBuf| {
            let path = std::path::absolute(file)
                .map_err(|e| BacktestError::Unreadable { file: file.clone(), why: e.to_string() })?;
            Ok::<String, BacktestError>(path.display().to_string())
        };
        let read: Vec<String> = files.iter().map(absolute).collect::<Result<_, _>>()?;
        let given = register_files(&session, &read, csv.as_ref()).await?;
        // A column that no feed has sent is as good as none: rules that need it must say so, as they did in the stream.
        let sent = |name: &str| name == LATE || mapped.as_ref().is_none_or(|mapped| mapped.contains(name));
        let has = |name: &str| sent(name) && given.field_with_name(name).is_ok();
        for column in TRANSACTIONS.iter().filter(|column| column.required) {
            if !has(column.name) {
                let near = nearest(column.name, given.fields().iter().map(|f| f.name().as_str()));
                return Err(BacktestError::NoColumn {
                    file: files.first().cloned().unwrap_or_default(),
                    column: column.name.to_string(),
                    near: near.map_or(String::new(), |near| format!(" (`{near}` looks like it)")),
                });
            }
        }
        let mut columns = Vec::new();
        let mut parts = Vec::new();
        for column in TRANSACTIONS {
            let field = given.field_with_name(column.name).ok().filter(|_| has(column.name));
            let Some(expression) = expression(column, field, has("utc_offset_minutes"), &mut notes) else {
                continue;
            };
            parts.push(format!("{expression} AS {}", column.name));
            columns.push(column.name.to_string());
        }
        let mut usable =
            "tx_id IS NOT NULL AND event_time IS NOT NULL AND amount >= 0 AND currency IS NOT NULL"
                .to_string();
        let leaves_out_late = has(LATE) && !with_late;
        if leaves_out_late {
            usable.push_str(&format!(" AND {NOT_LATE}"));
            parts.push("late".into());
        }
        let bounds = read.iter().cloned().zip(bounds).collect();
        let feeds_mixed = has("feed") && feeds_mixed(&session).await?;
        let columns_sql = parts.join(", ");
        Ok(History {
            session,
            files: shown,
            columns,
            feeds_mixed,
            notes,
            bounds,
            schema: given,
            columns_sql,
            usable,
            leaves_out_late,
            read,
            csv,
        })
    }

    /// Rows of all files, on any session where they are registered.
    fn select_all(&self) -> String {
        format!("(SELECT {} FROM files)", self.columns_sql)
    }

    /// Rows of the files that may hold some of the period: of an archive the manifest tells which.
    fn select(&self, period: &Period) -> String {
        let table = self.files_of(period).unwrap_or_else(|| "files".into());
        format!("(SELECT {} FROM {table})", self.columns_sql)
    }

    /// Files that may hold some of the period.
    fn needed(&self, period: &Period) -> Vec<&String> {
        let needed = |bounds: &Option<(i64, i64)>| {
            bounds.is_none_or(|(first, last)| {
                period.from.is_none_or(|from| last >= from) && period.to.is_none_or(|to| first < to)
            })
        };
        self.bounds.iter().filter(|(_, bounds)| needed(bounds)).map(|(name, _)| name).collect()
    }

    /// What rows with an event time must fulfil to be used, as far as the footers of the files do not show that they do.
    fn usable_where_open(&self, period: &Period) -> String {
        if self.csv.is_some() {
            return self.usable.clone();
        }
        let mut open = footers::open_conditions(&self.needed(period), &self.schema);
        if self.leaves_out_late {
            open.push(NOT_LATE);
        }
        if open.is_empty() { ALL.into() } else { open.join(" AND ") }
    }

    /// The footers of the files show that all rows with an event time can be used.
    pub(crate) fn all_usable(&self, period: &Period) -> bool {
        self.usable_where_open(period) == ALL
    }

    /// A table of these files alone; `None` when all are needed.
    fn files_of(&self, period: &Period) -> Option<String> {
        let kept = self.needed(period);
        if kept.is_empty() || kept.len() == self.bounds.len() {
            return None;
        }
        let text =
            |end: Option<i64>| end.map_or("open".into(), |end| end.to_string().replace('-', "before_"));
        let name = format!("files_{}_{}", text(period.from), text(period.to));
        if !self.session.table_exist(name.as_str()).ok()? {
            let urls = kept.into_iter().map(ListingTableUrl::parse).collect::<Result<Vec<_>, _>>().ok()?;
            let options = ListingOptions::new(Arc::new(ParquetFormat::default()));
            let config = ListingTableConfig::new_with_multi_paths(urls)
                .with_listing_options(options)
                .with_schema(self.schema.clone());
            self.session.register_table(name.as_str(), Arc::new(ListingTable::try_new(config).ok()?)).ok()?;
        }
        Some(name)
    }

    /// The files give no amounts in the base currency: they are worked out as for a feed.
    pub fn lacks_base_amounts(&self) -> bool {
        !self.columns.iter().any(|name| name == "amount_base")
    }

    /// Canonical columns of its rows when they reach the engine.
    pub fn given_columns(&self) -> Vec<String> {
        if self.lacks_base_amounts() { Enricher::columns(&self.columns) } else { self.columns.clone() }
    }

    /// Makes `files`, the files as they are, known to another session, so that [`History::query`] means the same there.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub async fn register_on(&self, session: &SessionContext) -> Result<(), BacktestError> {
        register_files(session, &self.read, self.csv.as_ref()).await.map(|_| ())
    }

    /// A query that counts the rows of a period: all, usable ones, first and last event time of these.
    pub(crate) fn count_query(&self, period: &Period) -> String {
        format!(
            "SELECT count(*) AS rows, count(*) FILTER (WHERE usable) AS usable, min(event_time) FILTER (WHERE usable) AS first, \
             max(event_time) FILTER (WHERE usable) AS last FROM (SELECT event_time, ({}) AS usable FROM {} WHERE {} OR event_time IS NULL)",
            self.usable,
            self.select_all(),
            period.condition()
        )
    }

    /// Counts the rows of a period and measures how far they are out of order, from the event times and what else footers do not
    /// tell.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub async fn extent(&self, period: &Period) -> Result<Extent, BacktestError> {
        use futures::StreamExt as _;
        let sql = format!(
            "SELECT event_time, ({}) AS usable FROM {} WHERE {} OR event_time IS NULL",
            self.usable_where_open(period),
            self.select(period),
            period.condition()
        );
        let mut extent = Extent::default();
        let mut highest = i64::MIN;
        let mut stream = self.session.sql(&sql).await?.execute_stream().await?;
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            let times = batch.column(0).as_primitive::<TimestampMicrosecondType>();
            let usable = batch.column(1).as_boolean();
            for row in 0..batch.num_rows() {
                if times.is_null(row) || usable.is_null(row) || !usable.value(row) {
                    extent.unusable += 1;
                    continue;
                }
                let time = times.value(row);
                extent.rows += 1;
                highest = highest.max(time);
                extent.disorder_micros = extent.disorder_micros.max(highest - time);
                extent.first = Some(extent.first.map_or(time, |first| first.min(time)));
            }
        }
        extent.last = (extent.rows > 0).then_some(highest);
        Ok(extent)
    }

    /// The usable rows of a period, and by how much they are out of order, microseconds: what is more than two days out
    /// of order is sorted first, on disk where memory does not do.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub async fn rows(
        &self,
        period: &Period,
        extent: &Extent,
        columns: &[String],
    ) -> Result<(SendableRecordBatchStream, i64), BacktestError> {
        let sort = extent.needs_sorting();
        // Where all rows can be used nothing is looked at that nobody reads, nor copied past a filter.
        let usable = if extent.unusable == 0 { ALL } else { self.usable.as_str() };
        let sql = format!(
            "SELECT {} FROM {} WHERE {usable} AND {}{}",
            columns.join(", "),
            self.select(period),
            period.condition(),
            if sort { " ORDER BY event_time" } else { "" }
        );
        let stream = self.session.sql(&sql).await?.execute_stream().await?;
        Ok((stream, if sort { 0 } else { extent.disorder_micros }))
    }

    /// Rows of all files, usable or not. Of Parquet the footers tell.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub async fn rows_in_files(&self) -> Result<u64, BacktestError> {
        let counted = self.session.sql("SELECT count(*) FROM files").await?.collect().await?;
        Ok(counted
            .iter()
            .map(|batch| batch.column(0).as_primitive::<Int64Type>())
            .flat_map(|c| c.iter().flatten())
            .sum::<i64>() as u64)
    }

    /// The session, where `files` are the files as they are.
    pub fn session(&self) -> &SessionContext {
        &self.session
    }

    /// The usable rows of a period with canonical columns, as a query over all files: it means the same on any session where
    /// they are registered ([`History::register_on`]), and statistics of the files tell which of them hold nothing.
    pub fn query(&self, period: &Period) -> String {
        format!(
            "SELECT {} FROM {} WHERE {} AND {}",
            self.columns.join(", "),
            self.select_all(),
            self.usable,
            period.condition()
        )
    }
}

/// One partition, so that rows come in the order of the files; sorting that does not fit into memory goes to disk.
fn session() -> Result<SessionContext, BacktestError> {
    let config = SessionConfig::new().with_target_partitions(1).with_batch_size(16_384);
    let runtime =
        RuntimeEnvBuilder::new().with_memory_pool(Arc::new(FairSpillPool::new(SORT_BYTES))).build_arc()?;
    Ok(SessionContext::new_with_config_rt(manumit_sql::with_meaning(config), runtime))
}

/// `files` name more than one feed, or one only here and there. Statistics of Parquet files may tell without reading them.
async fn feeds_mixed(session: &SessionContext) -> Result<bool, BacktestError> {
    let sql = "SELECT arrow_cast(min(feed), 'Utf8'), arrow_cast(max(feed), 'Utf8'), count(feed) = count(*) FROM files";
    let found = session.sql(sql).await?.collect().await?;
    Ok(found.iter().any(|batch| {
        let end = |at: usize| batch.column(at).as_string::<i32>().iter().next().flatten();
        end(0) != end(1) || !batch.column(2).as_boolean().value(0)
    }))
}

/// Gives the columns as the files have them.
async fn register_files(
    session: &SessionContext,
    read: &[String],
    csv: Option<&Schema>,
) -> Result<Arc<Schema>, BacktestError> {
    let frame = match csv {
        None => session.read_parquet(read.to_vec(), ParquetReadOptions::default()).await?,
        Some(schema) => session.read_csv(read.to_vec(), CsvReadOptions::new().schema(schema)).await?,
    };
    let given = Arc::new(frame.schema().as_arrow().clone());
    session.deregister_table("files")?;
    session.register_table("files", frame.into_view())?;
    Ok(given)
}

/// A canonical column from the file's; `None` when the file has none and nothing stands in for it.
fn expression(
    column: &Column,
    field: Option<&Field>,
    offset: bool,
    notes: &mut Vec<String>,
) -> Option<String> {
    let wanted = column.kind.data_type();
    let Some(field) = field else {
        return match column.name {
            "feed" => Some("'backtest'".into()),
            "entry_type" => Some("'booking'".into()),
            "local_time" if offset => Some(
                "CAST(event_time AS TIMESTAMP) + CAST(coalesce(utc_offset_minutes, 0) || ' minutes' AS INTERVAL)".into(),
            ),
            "local_time" => {
                notes.push("the files give no utc_offset_minutes: local times are taken as UTC".into());
                Some("arrow_cast(event_time, 'Timestamp(Microsecond, None)')".into())
            }
            _ => None,
        };
    };
    if matches!(field.data_type(), DataType::Float16 | DataType::Float32 | DataType::Float64)
        && matches!(wanted, DataType::Decimal128(_, _))
    {
        notes.push(format!("`{}` is a binary float in the files: rounded to four decimals", column.name));
    }
    let cast = if *field.data_type() == wanted {
        column.name.to_string()
    } else {
        format!("arrow_try_cast({}, '{wanted}')", column.name)
    };
    Some(match column.name {
        "entry_type" => format!("coalesce({cast}, 'booking')"),
        // Rows are ordered by it: see [`History::feeds_mixed`].
        "feed" => format!("coalesce({cast}, 'backtest')"),
        _ => cast,
    })
}

/// All columns as text, so that no amount ever becomes a float.
fn csv_schema(files: &[PathBuf]) -> Result<Schema, BacktestError> {
    let mut first: Option<(PathBuf, Vec<String>)> = None;
    for file in files {
        let unreadable = |why: String| BacktestError::Unreadable { file: file.clone(), why };
        let reader = std::fs::File::open(file).map_err(|e| unreadable(e.to_string()))?;
        let format = arrow::csv::reader::Format::default().with_header(true);
        let (found, _) = format
            .infer_schema(std::io::BufReader::new(reader), Some(0))
            .map_err(|e| unreadable(e.to_string()))?;
        let names: Vec<String> = found.fields().iter().map(|f| f.name().trim().to_string()).collect();
        match &first {
            None => first = Some((file.clone(), names)),
            Some((other, known)) if *known != names => {
                return Err(unreadable(format!("its header is not that of {}", other.display())));
            }
            Some(_) => {}
        }
    }
    let names = first.map(|(_, names)| names).unwrap_or_default();
    Ok(Schema::new(names.into_iter().map(|name| Field::new(name, DataType::Utf8, true)).collect::<Vec<_>>()))
}

/// What there is to read.
#[derive(Default)]
struct Found {
    /// Sound files, ordered by path.
    files: Vec<PathBuf>,
    /// First and last event time of each, where an archive tells.
    bounds: Vec<Option<(i64, i64)>>,
    /// What a reader of the report is told: archives as a whole, other files one by one.
    shown: Vec<PathBuf>,
    /// Files that are damaged or foreign.
    bad: Vec<BadFile>,
    /// Columns that feeds have sent to archives; `None` where there are other files, too.
    mapped: Option<BTreeSet<String>>,
}

/// Files of archives, files, and those of folders below them; hidden ones are left out.
fn find(paths: &[PathBuf]) -> Result<Found, BacktestError> {
    let mut all: BTreeMap<PathBuf, Option<(i64, i64)>> = BTreeMap::new();
    let mut found = Found { mapped: Some(BTreeSet::new()), ..Found::default() };
    for path in paths {
        if !path.exists() {
            return Err(BacktestError::Unreadable {
                file: path.clone(),
                why: "there is no such file or folder".into(),
            });
        }
        if let Some(folder) = Archive::around(path) {
            let archive = Archive::open(folder)?;
            let entries = archive.files(None, None);
            let below = entries.into_iter().filter(|entry| archive.path(entry).starts_with(path)).collect();
            let (sound, bad) = archive.check(below, Depth::Checksums);
            found.bad.extend(bad);
            found.bad.extend(archive.strangers()?.into_iter().filter(|bad| bad.path.starts_with(path)));
            if sound.is_empty() && found.bad.is_empty() {
                let why = "the archive holds no transaction there".into();
                return Err(BacktestError::Unreadable { file: path.clone(), why });
            }
            let bounds = |entry: &FileEntry| Some((entry.first_event_micros, entry.last_event_micros));
            all.extend(sound.iter().map(|entry| (archive.path(entry), bounds(entry))));
            if let Some(mapped) = &mut found.mapped {
                mapped.extend(archive.manifest().columns.iter().cloned());
            }
            found.shown.push(path.clone());
            continue;
        }
        found.mapped = None;
        let mut files = Vec::new();
        walk(path, true, &mut files)
            .map_err(|e| BacktestError::Unreadable { file: path.clone(), why: e.to_string() })?;
        if files.is_empty() {
            let why = "it holds no .parquet or .csv file".into();
            return Err(BacktestError::Unreadable { file: path.clone(), why });
        }
        for file in files {
            let parquet = file.extension().is_some_and(|e| e == "parquet");
            match parquet.then(|| check_parquet(&file, false)).flatten() {
                None => {
                    found.shown.push(file.clone());
                    all.insert(file, None);
                }
                Some(why) => {
                    let mend = "get it anew, or go on without it with --skip-bad-files".into();
                    found.bad.push(BadFile { path: file, why, mend, rows: None });
                }
            }
        }
    }
    found.shown.sort();
    found.shown.dedup();
    (found.files, found.bounds) = all.into_iter().unzip();
    Ok(found)
}

fn walk(path: &Path, named: bool, out: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            let entry = entry?.path();
            let hidden = entry.file_name().is_some_and(|n| n.to_string_lossy().starts_with(['.', '_']));
            if !hidden {
                walk(&entry, false, out)?;
            }
        }
    } else if named || path.extension().is_some_and(|e| e == "parquet" || e == "csv") {
        out.push(path.to_path_buf());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    };
    use manumit_archive::{Settings, Writer};

    use super::*;

    const DAY: i64 = 86_400_000_000;

    /// One transaction a day, of which each third is late.
    fn archive(folder: &Path, days: i64) {
        let text =
            |of: &dyn Fn(i64) -> String| Arc::new((0..days).map(|n| Some(of(n))).collect::<StringArray>());
        let times = (0..days).map(|n| Some(n * DAY + 5)).collect::<TimestampMicrosecondArray>();
        let amounts = (0..days).map(|n| Some(i128::from(n) * 10_000)).collect::<Decimal128Array>();
        let rows = RecordBatch::try_from_iter([
            ("tx_id", text(&|n| format!("t{n}")) as _),
            ("event_time", Arc::new(times.with_timezone("UTC")) as _),
            ("amount", Arc::new(amounts.with_precision_and_scale(20, 4).unwrap()) as _),
            ("currency", text(&|_| "EUR".into()) as _),
            ("debtor_account", text(&|_| "A".into()) as _),
            ("feed", text(&|_| "bank".into()) as _),
            ("source", text(&|_| "topic".into()) as _),
            ("source_partition", Arc::new((0..days).map(|_| 0).collect::<Int32Array>()) as _),
            ("source_offset", Arc::new((0..days).collect::<Int64Array>()) as _),
        ])
        .unwrap();
        let mut writer = Writer::open(folder, Settings::default()).unwrap();
        let late: Vec<usize> = (0..days as usize).filter(|n| n % 3 == 0).collect();
        writer.push(&rows, &late).unwrap();
        writer.commit().unwrap();
    }

    #[tokio::test]
    async fn only_files_with_rows_of_the_period_are_read() {
        let folder = tempfile::tempdir().unwrap();
        archive(folder.path(), 12);
        for (with_late, expected) in [(false, 2), (true, 3)] {
            let history = History::open(&[folder.path().into()], with_late).await.unwrap();
            let period = Period { from: Some(4 * DAY), to: Some(7 * DAY) };
            assert_eq!(history.extent(&period).await.unwrap().rows, expected);
            let read = format!("SELECT tx_id FROM {}", history.select(&period));
            let plan = history.session().sql(&read).await.unwrap();
            let plan = plan.create_physical_plan().await.unwrap();
            let shown = datafusion::physical_plan::displayable(plan.as_ref()).indent(true).to_string();
            assert_eq!(shown.matches(".parquet").count(), 3, "{shown}");
            let all = history.extent(&Period::default()).await.unwrap();
            assert_eq!(all.rows, if with_late { 12 } else { 8 });
            // No file is of the period: what there is is told from all of them.
            let outside = Period { from: Some(50 * DAY), to: None };
            assert_eq!(history.extent(&outside).await.unwrap().rows, 0);
        }
    }

    #[tokio::test]
    async fn columns_that_no_feed_sent_are_no_columns() {
        let folder = tempfile::tempdir().unwrap();
        archive(folder.path(), 2);
        let history = History::open(&[folder.path().into()], false).await.unwrap();
        assert!(history.columns.iter().any(|name| name == "debtor_account"));
        assert!(!history.columns.iter().any(|name| name == "device_id"));
    }

    #[tokio::test]
    async fn bad_files_are_all_named_and_left_out_by_flag() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive");
        archive(&path, 6);
        let listed = Archive::open(&path).unwrap();
        let files: Vec<PathBuf> = listed.files(None, None).iter().map(|entry| listed.path(entry)).collect();
        std::fs::write(&files[1], "damaged").unwrap();
        let foreign = files[2].with_file_name("foreign.parquet");
        std::fs::copy(&files[2], &foreign).unwrap();
        let plain = folder.path().join("plain.parquet");
        std::fs::write(&plain, "PAR1 but no more PAR1").unwrap();
        let paths = [path, plain.clone()];
        let error = History::open(&paths, true).await.err().unwrap().to_string();
        for bad in [&files[1], &foreign, &plain] {
            assert!(error.contains(&bad.display().to_string()), "{error}");
        }
        let history = History::open_with(&paths, true, true).await.unwrap();
        assert_eq!(history.notes.iter().filter(|note| note.starts_with("left out: ")).count(), 3);
        assert_eq!(history.extent(&Period::default()).await.unwrap().rows, 5);
        // What a crash left is neither read nor foreign.
        let id = listed.manifest().id.clone();
        std::fs::copy(&files[2], files[2].with_file_name(format!("00000099-{id}.parquet"))).unwrap();
        let one = [files[2].parent().unwrap().to_path_buf()];
        std::fs::remove_file(&foreign).unwrap();
        let history = History::open(&one, true).await.unwrap();
        assert_eq!(history.extent(&Period::default()).await.unwrap().rows, 1);
    }
}
