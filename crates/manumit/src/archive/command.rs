//! `manumit archive`: what is in it, whether it is sound, and keeping it small.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};
use manumit_archive::{Archive, Day, Depth, Merged, Settings, Writer};

use crate::config::{Config, days};

/// Which archive.
#[derive(Debug, Args)]
pub struct At {
    /// Folder of the archive [default: `[archive] folder` of the configuration]
    #[arg(long, value_name = "DIR")]
    pub archive: Option<PathBuf>,
}

/// What to do with an archive.
#[derive(Debug, Subcommand)]
pub enum ArchiveCommand {
    /// Dates with their files, rows and sizes
    #[command(after_help = "Example:
  manumit archive list --archive archive")]
    List(At),
    /// Compare every file with its checksum and name all that are damaged or foreign
    #[command(after_help = "Example:
  manumit archive verify --archive archive          ends with 1 when a file is bad")]
    Verify(At),
    /// Merge small files of each date
    #[command(after_help = "Example:
  manumit archive compact --archive archive --below-rows 1000000")]
    Compact {
        /// Which archive.
        #[command(flatten)]
        at: At,
        /// Merge files with fewer rows than this [default: `[archive] compact_below_rows`]
        #[arg(long, value_name = "ROWS")]
        below_rows: Option<u64>,
    },
    /// Delete dates that are older than so many days before the newest one
    #[command(after_help = "Example:
  manumit archive expire --archive archive --older-than '1830 days'")]
    Expire {
        /// Which archive.
        #[command(flatten)]
        at: At,
        /// `1830 days` [default: `[archive] retention`]
        #[arg(long, value_name = "DAYS")]
        older_than: Option<String>,
    },
}

/// Does it; gives what to print, and whether all is well.
///
/// # Errors
/// When the archive cannot be read, or another process writes to it.
pub fn archive(config: &Config, command: &ArchiveCommand) -> anyhow::Result<(String, bool)> {
    match command {
        ArchiveCommand::List(at) => Ok((list(&folder(config, at)?)?, true)),
        ArchiveCommand::Verify(at) => verify(&folder(config, at)?),
        ArchiveCommand::Compact { at, below_rows } => {
            let below = below_rows.unwrap_or(config.archive.compact_below_rows);
            let merged = writer(&folder(config, at)?, below)?.compact()?;
            let Merged { files_before, files_after, rows } = merged;
            Ok((format!("{files_before} small files with {rows} rows became {files_after}"), true))
        }
        ArchiveCommand::Expire { at, older_than } => {
            let Some(text) = older_than.as_ref().or(config.archive.retention.as_ref()) else {
                bail!(
                    "nothing says how long dates are kept: give --older-than '1830 days', or `[archive] retention`"
                )
            };
            let days =
                days(text).with_context(|| format!("`{text}` is no number of days; write `1830 days`"))?;
            let gone = writer(&folder(config, at)?, config.archive.compact_below_rows)?.expire(days)?;
            Ok((format!("{} rows in {} files were older and are gone", gone.rows, gone.files_before), true))
        }
    }
}

fn folder(config: &Config, at: &At) -> anyhow::Result<PathBuf> {
    let folder = at.archive.as_ref().or(config.archive.folder.as_ref());
    folder.cloned().context("no archive is named: give --archive DIR, or `[archive] folder` in manumit.toml")
}

fn writer(folder: &Path, compact_below_rows: u64) -> anyhow::Result<Writer> {
    // A mistyped folder must not become an archive.
    Archive::open(folder)?;
    let settings = Settings { compact_below_rows, keep_replaced: Duration::ZERO, ..Settings::default() };
    Ok(Writer::open(folder, settings)?)
}

#[derive(Default)]
struct Date {
    files: u64,
    rows: u64,
    late: u64,
    bytes: u64,
}

fn list(folder: &Path) -> anyhow::Result<String> {
    let archive = Archive::open(folder)?;
    let mut dates: BTreeMap<Day, Date> = BTreeMap::new();
    let mut all = Date::default();
    for entry in archive.files(None, None) {
        for date in [dates.entry(entry.day()).or_default(), &mut all] {
            date.files += 1;
            date.rows += entry.rows;
            date.late += entry.late_rows;
            date.bytes += entry.bytes;
        }
    }
    let mut table = Table::new();
    table.load_preset(UTF8_BORDERS_ONLY).set_header(["event date", "files", "rows", "late", "bytes"]);
    let cells = |name: String, date: &Date| {
        [name, date.files.to_string(), date.rows.to_string(), date.late.to_string(), date.bytes.to_string()]
    };
    for (day, date) in &dates {
        table.add_row(cells(day.to_string(), date));
    }
    table.add_row(cells(format!("{} dates", dates.len()), &all));
    for column in 1..5 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut out = table.to_string();
    for position in &archive.manifest().positions {
        out.push_str(&format!(
            "\narchived up to {}, partition {}, offset {}",
            position.source, position.partition, position.next
        ));
    }
    Ok(out)
}

fn verify(folder: &Path) -> anyhow::Result<(String, bool)> {
    let archive = Archive::open(folder)?;
    let files = archive.files(None, None);
    let (sound, mut bad) = archive.check(files, Depth::Checksums);
    bad.extend(archive.strangers()?);
    let rows: u64 = sound.iter().map(|entry| entry.rows).sum();
    let mut out = format!("{} files with {rows} rows are sound", sound.len());
    if let Some(first) = bad.first() {
        out.push_str(&format!("; {} are bad, the first is {}", bad.len(), first.path.display()));
    }
    for bad in &bad {
        out.push_str(&format!("\n  {bad}"));
    }
    Ok((out, bad.is_empty()))
}
