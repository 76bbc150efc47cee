//! Past transactions as DataFusion reads them: Parquet or CSV with canonical columns, cast to their types.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, Schema, TimestampMicrosecondType};
use chrono::NaiveDate;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{CsvReadOptions, ParquetReadOptions, SessionConfig, SessionContext};
use manumit_model::nearest;
use manumit_model::schema::{Column, TRANSACTIONS};

use crate::BacktestError;

/// Memory that sorting may take before it goes to disk.
const SORT_BYTES: usize = 2 << 30;

/// Rows that are out of order by no more than this are put in order by the engine's own buffer, without a sort.
const BUFFERED_MICROS: i64 = 2 * 86_400_000_000;

/// Past transactions.
pub struct History {
    session: SessionContext,
    /// What it was read from.
    pub files: Vec<PathBuf>,
    /// Canonical columns that it gives.
    pub columns: Vec<String>,
    /// What a reader of the report must know about the data.
    pub notes: Vec<String>,
    select: String,
    usable: String,
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
    /// Opens files or folders of Parquet or CSV. Late rows of an archive are left out unless `with_late`.
    ///
    /// # Errors
    /// [`BacktestError`] names the file or column that is missing, and the mend.
    pub async fn open(paths: &[PathBuf], with_late: bool) -> Result<History, BacktestError> {
        let files = files(paths)?;
        let session = session()?;
        let is_csv = |file: &PathBuf| file.extension().is_some_and(|e| e == "csv");
        let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        let frame = match files.iter().filter(|file| is_csv(file)).count() {
            0 => session.read_parquet(names, ParquetReadOptions::default()).await?,
            count if count == files.len() => {
                let schema = csv_schema(&files)?;
                session.read_csv(names, CsvReadOptions::new().schema(&schema)).await?
            }
            _ => return Err(BacktestError::Mixed),
        };
        let given = Arc::new(frame.schema().as_arrow().clone());
        session.register_table("files", frame.into_view())?;
        let has = |name: &str| given.field_with_name(name).is_ok();
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
        let mut notes = Vec::new();
        let mut columns = Vec::new();
        let mut parts = Vec::new();
        for column in TRANSACTIONS {
            let field = given.field_with_name(column.name).ok();
            let Some(expression) = expression(column, field, has("utc_offset_minutes"), &mut notes) else {
                continue;
            };
            parts.push(format!("{expression} AS {}", column.name));
            columns.push(column.name.to_string());
        }
        let mut usable =
            "tx_id IS NOT NULL AND event_time IS NOT NULL AND amount >= 0 AND currency IS NOT NULL"
                .to_string();
        if has("late") && !with_late {
            usable.push_str(" AND NOT coalesce(late, false)");
            parts.push("late".into());
        }
        let select = format!("(SELECT {} FROM files)", parts.join(", "));
        Ok(History { session, files, columns, notes, select, usable })
    }

    /// Counts the rows of a period and measures how far they are out of order, from the event times alone.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub async fn extent(&self, period: &Period) -> Result<Extent, BacktestError> {
        use futures::StreamExt as _;
        let sql = format!(
            "SELECT event_time, ({}) AS usable FROM {} WHERE {} OR event_time IS NULL",
            self.usable,
            self.select,
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
        let sort = extent.disorder_micros > BUFFERED_MICROS;
        let sql = format!(
            "SELECT {} FROM {} WHERE {} AND {}{}",
            columns.join(", "),
            self.select,
            self.usable,
            period.condition(),
            if sort { " ORDER BY event_time" } else { "" }
        );
        let stream = self.session.sql(&sql).await?.execute_stream().await?;
        Ok((stream, if sort { 0 } else { extent.disorder_micros }))
    }

    /// The session, where `files` are the files as they are.
    pub fn session(&self) -> &SessionContext {
        &self.session
    }

    /// The usable rows of a period with canonical columns, as a query.
    pub fn query(&self, period: &Period) -> String {
        format!(
            "SELECT {} FROM {} WHERE {} AND {}",
            self.columns.join(", "),
            self.select,
            self.usable,
            period.condition()
        )
    }
}

/// One partition, so that rows come in the order of the files; sorting that does not fit into memory goes to disk.
fn session() -> Result<SessionContext, BacktestError> {
    let mut config = SessionConfig::new().with_target_partitions(1).with_batch_size(16_384);
    config.options_mut().sql_parser.parse_float_as_decimal = true;
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    config.options_mut().execution.parquet.schema_force_view_types = false;
    let runtime =
        RuntimeEnvBuilder::new().with_memory_pool(Arc::new(FairSpillPool::new(SORT_BYTES))).build_arc()?;
    Ok(SessionContext::new_with_config_rt(config, runtime))
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

/// Files, and those of folders below them, ordered by path; hidden ones are left out.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, BacktestError> {
    let mut all = Vec::new();
    for path in paths {
        if !path.exists() {
            return Err(BacktestError::Unreadable {
                file: path.clone(),
                why: "there is no such file or folder".into(),
            });
        }
        let before = all.len();
        walk(path, true, &mut all)
            .map_err(|e| BacktestError::Unreadable { file: path.clone(), why: e.to_string() })?;
        if all.len() == before {
            let why = "it holds no .parquet or .csv file".into();
            return Err(BacktestError::Unreadable { file: path.clone(), why });
        }
    }
    all.sort();
    all.dedup();
    Ok(all)
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
