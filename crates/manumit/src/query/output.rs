//! Results of a query as a table, CSV, JSON lines or Parquet.

use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use clap::ValueEnum;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: at most 1,000 rows
    Table,
    /// With a header; unknown values are empty
    Csv,
    /// One object a line; amounts are texts, so that none is rounded
    Json,
    /// With the types of the columns
    Parquet,
}

/// Rows that a table for people shows.
const SHOWN: usize = 1_000;

enum Encoder {
    Table { rows: Vec<RecordBatch>, shown: usize, to: Target },
    Csv(Box<arrow::csv::Writer<Target>>),
    Json(arrow::json::LineDelimitedWriter<Target>),
    Parquet(Box<ArrowWriter<Target>>),
}

type Target = Box<dyn Write + Send>;

/// Where results go; a file has its name when all is written.
pub struct Results {
    encoder: Encoder,
    schema: SchemaRef,
    file: Option<(PathBuf, PathBuf)>,
    rows: usize,
}

impl Results {
    /// Opens a file, or standard output.
    ///
    /// # Errors
    /// When the file cannot be made, or Parquet would go to a terminal.
    pub fn open(format: Format, to: Option<&Path>, schema: &SchemaRef) -> anyhow::Result<Results> {
        let mut file = None;
        let target: Target = match to {
            Some(path) => {
                let name = path.file_name().context("--out names no file")?.to_string_lossy().into_owned();
                let temporary = path.with_file_name(format!(".{name}.tmp"));
                let made = File::create(&temporary)
                    .with_context(|| format!("{} cannot be written", temporary.display()))?;
                file = Some((temporary, path.to_path_buf()));
                Box::new(BufWriter::new(made))
            }
            None if format == Format::Parquet && std::io::stdout().is_terminal() => {
                bail!("Parquet is not for a terminal: give --out FILE, or send the output on")
            }
            None => Box::new(BufWriter::new(std::io::stdout())),
        };
        let schema = if format == Format::Json { without_decimals(schema) } else { schema.clone() };
        let encoder = match format {
            Format::Table => Encoder::Table { rows: Vec::new(), shown: 0, to: target },
            Format::Csv => {
                let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(target);
                // The header stands even over no rows.
                writer.write(&RecordBatch::new_empty(schema.clone()))?;
                Encoder::Csv(Box::new(writer))
            }
            Format::Json => Encoder::Json(arrow::json::LineDelimitedWriter::new(target)),
            Format::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::default()))
                    .build();
                Encoder::Parquet(Box::new(ArrowWriter::try_new(target, schema.clone(), Some(properties))?))
            }
        };
        Ok(Results { encoder, schema, file, rows: 0 })
    }

    /// Writes rows.
    ///
    /// # Errors
    /// When they cannot be written: a full disk, a nested column in CSV.
    pub fn write(&mut self, rows: &RecordBatch) -> anyhow::Result<()> {
        self.rows += rows.num_rows();
        match &mut self.encoder {
            Encoder::Table { rows: kept, shown, .. } => {
                let count = rows.num_rows().min(SHOWN - *shown);
                if count > 0 {
                    kept.push(rows.slice(0, count));
                    *shown += count;
                }
            }
            Encoder::Csv(writer) => writer.write(rows).context(
                "CSV holds no nested columns: choose single values such as subject['key'], or --format json",
            )?,
            Encoder::Json(writer) => {
                let columns = rows
                    .columns()
                    .iter()
                    .zip(self.schema.fields())
                    .map(|(column, field)| cast(column, field.data_type()))
                    .collect::<Result<Vec<_>, _>>()?;
                let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
                writer.write(&RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)?;
            }
            Encoder::Parquet(writer) => writer.write(rows)?,
        }
        Ok(())
    }

    /// Writes what is left and gives the number of rows.
    ///
    /// # Errors
    /// As [`Results::write`].
    pub fn finish(mut self) -> anyhow::Result<usize> {
        let schema = self.schema.clone();
        match self.encoder {
            Encoder::Table { rows, shown, mut to } => {
                let table = arrow::util::pretty::pretty_format_batches_with_schema(schema, &rows)?;
                writeln!(to, "{table}")?;
                if self.rows > shown {
                    let more = self.rows - shown;
                    writeln!(to, "{more} more rows are not shown; all of them: --format csv --out FILE")?;
                }
                to.flush()?;
            }
            Encoder::Csv(writer) => writer.into_inner().flush()?,
            Encoder::Json(mut writer) => {
                writer.finish()?;
                writer.into_inner().flush()?;
            }
            Encoder::Parquet(writer) => writer.into_inner()?.flush()?,
        }
        if let Some((temporary, path)) = self.file.take() {
            std::fs::rename(&temporary, &path)
                .with_context(|| format!("{} cannot be written", path.display()))?;
        }
        Ok(self.rows)
    }

    /// Takes back a file that was begun.
    pub fn give_up(self) {
        if let Some((temporary, _)) = &self.file {
            // Left behind, it only takes room.
            let _ = std::fs::remove_file(temporary);
        }
    }
}

/// Exact decimals as text: a JSON number is read as a binary float by many.
fn without_decimals(schema: &SchemaRef) -> SchemaRef {
    let exact = |field: &Field| match field.data_type() {
        DataType::Decimal128(..) | DataType::Decimal256(..) => {
            Field::new(field.name(), DataType::Utf8, field.is_nullable())
        }
        _ => field.clone(),
    };
    Arc::new(Schema::new(schema.fields().iter().map(|field| exact(field)).collect::<Vec<_>>()))
}
