//! Files of a feed as a history: mapped once by the feed's SQL, kept as Parquet with canonical columns.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context as _, bail};
use arrow::compute::filter_record_batch;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::Compression;
use datafusion::parquet::file::properties::WriterProperties;
use manumit_feed::{Absent, Enricher, Feed};
use manumit_model::DeadLetter;

use crate::duplicates::{self, Duplicates};
use crate::pipeline::{Input, Item, Pipeline};

/// What mapping gave.
#[derive(Debug, Default)]
pub struct MappedFiles {
    /// Transactions written.
    pub transactions: u64,
    /// Transactions left out because the same ones came before.
    pub duplicates: u64,
    /// What files lack of the columns that the feed reads.
    pub absent: Vec<Absent>,
    /// Records that could not be mapped, the first of each reason with their number.
    pub rejected: std::collections::BTreeMap<String, (u64, Option<DeadLetter>)>,
}

impl MappedFiles {
    /// In words; nothing when all was mapped.
    pub fn words(&self) -> Vec<String> {
        let again = (self.duplicates > 0).then(|| {
            format!("{} duplicates were left out: the same id and content came before", self.duplicates)
        });
        let rejected = self.rejected.iter().map(|(reason, (count, first))| {
            let first = first.as_ref().map_or(String::new(), |letter| {
                format!("; the first, at {}: {}", letter.position, letter.message)
            });
            format!("{count} records were rejected ({reason}){first}")
        });
        let absent = self.absent.iter().map(ToString::to_string);
        absent.chain(again).chain(rejected).collect()
    }
}

/// Maps files of a feed into one Parquet file. `horizon`: as a run of the feed would tell duplicates, microseconds.
///
/// # Errors
/// When a file cannot be read or the result cannot be written.
pub fn map_files(
    feed: Feed,
    paths: &[String],
    enricher: &Enricher,
    threads: usize,
    horizon: Option<i64>,
    to: &Path,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<MappedFiles> {
    let mut mapped_files = MappedFiles::default();
    let input = Input::Files(vec![(0, paths.to_vec())]);
    let feeds = Arc::new(vec![feed]);
    let mut known = Duplicates::new(&feeds, horizon);
    let mut pipeline = Pipeline::start(input, &feeds, enricher, threads, known.is_on(), stop)?;
    let mut writer = None;
    while let Some(item) = pipeline.next(Duration::from_millis(200))? {
        let Item::Rows { source, partition, mut mapped, numbers, records, .. } = item else { continue };
        let judged = known.judge(0, (&source, partition), &mapped.transactions, &numbers);
        mapped_files.duplicates += judged.duplicates;
        for conflict in &judged.conflicts {
            let letter = duplicates::letter(&source, &mapped.transactions, conflict, records.as_deref());
            mapped.dead_letters.push(letter);
        }
        if let Some(keep) = &judged.keep {
            mapped.transactions = filter_record_batch(&mapped.transactions, keep)?;
        }
        mapped_files.absent.extend(mapped.absent.take().map(|absent| *absent));
        for letter in mapped.dead_letters {
            let known = mapped_files.rejected.entry(letter.reason.clone()).or_default();
            known.0 += 1;
            known.1.get_or_insert(letter);
        }
        mapped_files.transactions += mapped.transactions.num_rows() as u64;
        let writer = match &mut writer {
            Some(writer) => writer,
            None => {
                let file = std::fs::File::create(to)
                    .with_context(|| format!("{} cannot be written", to.display()))?;
                let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
                writer.insert(ArrowWriter::try_new(file, mapped.transactions.schema(), Some(properties))?)
            }
        };
        writer.write(&mapped.transactions)?;
    }
    pipeline.finish();
    match writer {
        Some(writer) => {
            writer.close()?;
        }
        None => {
            bail!("no transaction was mapped from {}: {}", paths.join(", "), mapped_files.words().join("; "))
        }
    }
    Ok(mapped_files)
}
