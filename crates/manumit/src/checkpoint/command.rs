//! `manumit checkpoint`: what checkpoints there are, and whether they are whole.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use comfy_table::{Table, presets::UTF8_BORDERS_ONLY};

use super::{Checkpoint, Store, copies};
use crate::config::Config;

/// Which checkpoints.
#[derive(Debug, Args)]
pub struct At {
    /// Their folder [default: `[checkpoint] folder`]
    #[arg(long, value_name = "DIR")]
    checkpoints: Option<PathBuf>,
}

/// What to do with checkpoints.
#[derive(Debug, Subcommand)]
pub enum CheckpointCommand {
    /// Number, time, rules, and how far each was
    List(At),
    /// One checkpoint in full: positions, watermark, open alerts
    Show {
        /// Which ones.
        #[command(flatten)]
        at: At,
        /// Its number [default: the newest]
        number: Option<u64>,
    },
    /// Compare each with its checksum, and all copies with theirs; ends with 1 when one is damaged
    Verify {
        /// Which ones.
        #[command(flatten)]
        at: At,
        /// Where copies are: s3://BUCKET/PREFIX or a folder [default: `[checkpoint] copy`]
        #[arg(long, value_name = "PLACE")]
        copy: Option<String>,
    },
}

/// Does it; gives what to print, and whether all is well.
///
/// # Errors
/// When the folder cannot be read, or a checkpoint asked for cannot be used.
pub fn checkpoint(config: &Config, command: &CheckpointCommand) -> anyhow::Result<(String, bool)> {
    let (CheckpointCommand::List(at)
    | CheckpointCommand::Show { at, .. }
    | CheckpointCommand::Verify { at, .. }) = command;
    let folder = at.checkpoints.as_ref().or(config.checkpoint.folder.as_ref()).context(
        "no checkpoints are named: give --checkpoints DIR, or `[checkpoint] folder` in manumit.toml",
    )?;
    if !folder.is_dir() {
        bail!("there is no folder `{}`", folder.display());
    }
    let store = Store::open(folder, config.checkpoint.keep)?;
    let numbers = store.numbers()?;
    match command {
        CheckpointCommand::List(_) => {
            let mut table = Table::new();
            table.load_preset(UTF8_BORDERS_ONLY).set_header([
                "number",
                "written",
                "watermark",
                "records read",
                "rule set",
                "",
            ]);
            let mut well = true;
            for number in &numbers {
                match store.read(*number) {
                    Ok(it) => table.add_row([
                        number.to_string(),
                        it.written_at.clone(),
                        moment(it.engine.watermark),
                        records(&it).to_string(),
                        it.engine.rule_set_hash.chars().take(12).collect(),
                        String::new(),
                    ]),
                    Err(fault) => {
                        well = false;
                        table.add_row([
                            number.to_string(),
                            String::new(),
                            String::new(),
                            String::new(),
                            String::new(),
                            fault.why,
                        ])
                    }
                };
            }
            Ok((table.to_string(), well))
        }
        CheckpointCommand::Show { number, .. } => {
            let number = number.or(numbers.last().copied()).context("there are no checkpoints yet")?;
            Ok((show(&store.read(number)?), true))
        }
        CheckpointCommand::Verify { copy, .. } => {
            let mut out = String::new();
            let mut bad = 0;
            for number in &numbers {
                if let Err(fault) = store.read(*number) {
                    bad += 1;
                    let _ = writeln!(out, "{fault}");
                }
            }
            let _ = write!(out, "{} checkpoints, {bad} of them damaged", numbers.len());
            if let Some(place) = copy.as_ref().or(config.checkpoint.copy.as_ref()) {
                let (seen, wrong) = copies::verify(place)?;
                bad += wrong.len();
                for fault in &wrong {
                    let _ = write!(out, "\n{fault}");
                }
                let _ = write!(out, "\n{seen} copies, {} of them damaged or missing", wrong.len());
            }
            Ok((out, bad == 0))
        }
    }
}

fn records(checkpoint: &Checkpoint) -> i64 {
    checkpoint.read.iter().map(|read| read.next - read.begin).sum()
}

fn moment(micros: i64) -> String {
    chrono::DateTime::from_timestamp_micros(micros)
        .map_or_else(|| "none yet".into(), |time| time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
}

fn show(it: &Checkpoint) -> String {
    let mut out = format!(
        "checkpoint {} of {}, written by manumit {} {}\nrule set {}\nwatermark {}: {} transactions before it were \
         evaluated, rows from {} on make the windows\n{} open alerts\n",
        it.number,
        it.written_at,
        it.program,
        if it.files_read.is_some() {
            "of a run over files".into()
        } else {
            format!("for the group `{}`", it.group)
        },
        it.engine.rule_set_hash,
        moment(it.engine.watermark),
        it.engine.next,
        moment(it.engine.rows_from),
        it.engine.open_alerts(),
    );
    let mut table = Table::new();
    table.load_preset(UTF8_BORDERS_ONLY).set_header([
        if it.files_read.is_some() { "feed" } else { "topic" },
        "partition",
        "from",
        "next",
        "highest event time",
    ]);
    for (read, partition) in it.read.iter().zip(&it.engine.partitions) {
        table.add_row([
            read.source.clone(),
            read.partition.to_string(),
            read.begin.to_string(),
            read.next.to_string(),
            partition.highest.map_or_else(String::new, moment),
        ]);
    }
    for (file, length) in &it.files {
        let _ = writeln!(out, "output {file}: {length} bytes");
    }
    if let Some(files) = &it.files_read {
        for read in &files.read {
            let _ = writeln!(out, "{}: read up to record {} (byte {})", read.path, read.next - 1, read.bytes);
        }
        for part in &files.left {
            let _ = writeln!(out, "{}: still to be read up to byte {}", part.path, part.to);
        }
    }
    out.push_str(&table.to_string());
    out
}
