//! Reading files: all of them, or, in a run with checkpoints, the parts that were not read before.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::RecordBatch;
use manumit_feed::{Feed, Format};
use manumit_io::{FilePlace, FileSource, Framing, IoError, ends_of, list_files};
use manumit_model::Records;

use super::{Item, PipelineError, Post, Progress, Work};
use crate::checkpoint::files::{FileRead, Planned, Reached, sum_of};

/// Rows of a Parquet file at a time.
const PARQUET_ROWS: usize = 16_384;

/// Bytes of a JSON document, which is held as a whole, unless the feed takes longer records than that.
const DOCUMENT_BYTES: usize = 256 << 20;

/// Reads the files of a feed to their end.
pub(super) fn read_files(
    feed: &Feed,
    index: usize,
    paths: &[String],
    post: &Post,
    stop: &AtomicBool,
    progress: &Progress,
) -> Result<(), PipelineError> {
    let source = feed.name().to_string();
    if !post.send(Work::Pass(Item::Opened { feed: index, source: source.clone(), partition: 0 })) {
        return Ok(());
    }
    match framing(feed) {
        Some((framing, most)) => {
            let mut files = FileSource::open(paths, framing, most)?;
            let before = progress.read.load(Ordering::Relaxed);
            while let Some(records) = files.next_batch()? {
                progress.read.store(before + files.read_bytes(), Ordering::Relaxed);
                let work = records_of(index, &source, records, None);
                if stop.load(Ordering::Relaxed) || !post.send(work) {
                    return Ok(());
                }
            }
        }
        None => {
            for path in list_files(paths)? {
                let mut first = 1;
                for batch in parquet(&path)? {
                    let batch = batch?;
                    let rows = batch.num_rows() as i64;
                    let work = rows_of(index, &source, &path, batch, first, None);
                    if stop.load(Ordering::Relaxed) || !post.send(work) {
                        return Ok(());
                    }
                    first += rows;
                }
                progress.read.fetch_add(path.metadata().map_or(0, |m| m.len()), Ordering::Relaxed);
            }
        }
    }
    post.send(Work::Pass(Item::End { source, partition: 0 }));
    Ok(())
}

/// How a feed's files are cut into records, and how long one may be; `None` for Parquet.
pub(crate) fn framing(feed: &Feed) -> Option<(Framing, usize)> {
    let most = feed.max_record_bytes();
    match feed.format() {
        Format::JsonLines => Some((Framing::Lines, most)),
        Format::Csv => Some((Framing::Csv { header: feed.has_header() }, most)),
        Format::Json => Some((Framing::Whole, most.max(DOCUMENT_BYTES))),
        Format::Parquet => None,
    }
}

fn records_of(feed: usize, source: &str, records: Records, reached: Option<Reached>) -> Work {
    let reached = reached.map(Box::new);
    Work::Map { feed, source: source.into(), partition: 0, next_offset: 0, records, reached }
}

fn rows_of(
    feed: usize,
    source: &str,
    path: &Path,
    batch: RecordBatch,
    first: i64,
    reached: Option<Reached>,
) -> Work {
    Work::Rows {
        feed,
        source: source.into(),
        batch,
        file: path.display().to_string().into(),
        first,
        polled_at: chrono::Utc::now().timestamp_micros(),
        reached: reached.map(Box::new),
    }
}

/// The rows of a Parquet file.
fn parquet(path: &Path) -> Result<impl Iterator<Item = Result<RecordBatch, PipelineError>>, PipelineError> {
    let named = path.to_path_buf();
    let fault = move |source| PipelineError::Parquet { path: named.clone(), source };
    let batches = manumit_codec::parquet_batches(path, PARQUET_ROWS).map_err(&fault)?;
    Ok(batches.map(move |batch| batch.map_err(&fault)))
}

/// Bytes that a plan reads.
pub(super) fn bytes(planned: &Planned) -> u64 {
    let mut at = planned.from.clone();
    let parts = planned.parts.iter().map(|(path, to)| {
        let place = at.entry(path.clone()).or_default();
        let bytes = to.saturating_sub(place.bytes);
        place.bytes = place.bytes.max(*to);
        bytes
    });
    parts.sum()
}

/// Reads the parts of a feed, and says with every batch how far its file was read.
pub(super) fn read_parts(
    feed: &Feed,
    planned: Planned,
    post: &Post,
    stop: &AtomicBool,
    progress: &Progress,
) -> Result<(), PipelineError> {
    let Planned { feed: index, parts, from: mut places } = planned;
    let source = feed.name();
    let cannot = |path: &Path| {
        let path = path.display().to_string();
        move |source| PipelineError::Io(IoError::File { path, source })
    };
    for (number, (path, to)) in parts.into_iter().enumerate() {
        let from = places.get(&path).copied().unwrap_or_default();
        let reached = |place: FilePlace, ends: &[u8]| Reached {
            part: number,
            read: FileRead {
                feed: source.into(),
                path: path.display().to_string(),
                next: place.next,
                bytes: place.bytes,
                sha256: sum_of(ends),
            },
        };
        let before = progress.read.load(Ordering::Relaxed);
        match framing(feed) {
            Some((framing, most)) => {
                let mut file = FileSource::part(&path, framing, most, from, to)?;
                while let Some(records) = file.next_batch()? {
                    progress.read.store(before + file.read_bytes(), Ordering::Relaxed);
                    let ends = file.ends().map_err(cannot(&path))?;
                    let work = records_of(index, source, records, Some(reached(file.place(), &ends)));
                    if stop.load(Ordering::Relaxed) || !post.send(work) {
                        return Ok(());
                    }
                }
                places.insert(path.clone(), file.place());
            }
            None => {
                // What it is, is told by its footer at the end: one print for all batches.
                let file = File::open(&path).map_err(cannot(&path))?;
                let bytes = file.metadata().map_err(cannot(&path))?.len();
                let ends = ends_of(&file, bytes).map_err(cannot(&path))?;
                let mut first = 1;
                for batch in parquet(&path)? {
                    let batch = batch?;
                    let next = first + batch.num_rows() as i64;
                    // Decoded again and dropped: rows that were taken before.
                    let known = usize::try_from(from.next - first).unwrap_or(0).min(batch.num_rows());
                    if known < batch.num_rows() {
                        let rows = batch.slice(known, batch.num_rows() - known);
                        let place = FilePlace { next, bytes };
                        let at = first + known as i64;
                        let work = rows_of(index, source, &path, rows, at, Some(reached(place, &ends)));
                        if stop.load(Ordering::Relaxed) || !post.send(work) {
                            return Ok(());
                        }
                    }
                    first = next;
                }
                progress.read.store(before + bytes, Ordering::Relaxed);
            }
        }
    }
    post.send(Work::Pass(Item::End { source: source.into(), partition: 0 }));
    Ok(())
}
