//! Whether a file is what the manifest says.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use manumit_model::schema::TRANSACTIONS;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use sha2::{Digest as _, Sha256};

use crate::file::ROWS;
use crate::layout;
use crate::manifest::FileEntry;

/// A file that must not be read as if nothing were wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}; {mend}", path.display())]
pub struct BadFile {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
    /// What to do.
    pub mend: String,
    /// Rows that are missing without it, when the manifest knows.
    pub rows: Option<u64>,
}

/// Reads a file's footer: `Err` says why it is no Parquet file.
fn footer(path: &Path) -> Result<ArrowReaderMetadata, String> {
    const MAGIC: &[u8; 4] = b"PAR1";
    let mut file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    let mut magic = [0_u8; 4];
    for from in [SeekFrom::Start(0), SeekFrom::End(-4)] {
        let read = file.seek(from).and_then(|_| file.read_exact(&mut magic));
        if read.is_err() || &magic != MAGIC {
            return Err("it is no Parquet file, or only a part of one".into());
        }
    }
    ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())
        .map_err(|e| format!("its Parquet footer is damaged: {e}"))
}

/// Why a Parquet file cannot be read as transactions; `None` when it can, as far as its footer tells.
///
/// `columns`: also refuse one without the columns that every transaction must have.
pub fn check_parquet(path: &Path, columns: bool) -> Option<String> {
    let metadata = match footer(path) {
        Ok(metadata) => metadata,
        Err(why) => return Some(why),
    };
    let missing = TRANSACTIONS
        .iter()
        .filter(|c| columns && c.required && metadata.schema().field_with_name(c.name).is_err())
        .map(|c| format!("`{}`", c.name))
        .collect::<Vec<_>>();
    (!missing.is_empty()).then(|| format!("it has no column {}", missing.join(", ")))
}

/// Why a file is not the one that the manifest lists; `None` when it is. Without `checksum` the footer alone is read.
pub(crate) fn check_entry(path: &Path, entry: &FileEntry, checksum: bool) -> Option<String> {
    let bytes = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Some("the manifest lists it, but it is not there".into());
        }
        Err(error) => return Some(error.to_string()),
    };
    if bytes != entry.bytes {
        return Some(format!("it has {bytes} bytes where {} were written", entry.bytes));
    }
    let metadata = match footer(path) {
        Ok(metadata) => metadata,
        Err(why) => return Some(why),
    };
    let file = metadata.metadata().file_metadata();
    if metadata.schema().fields().len() < layout::schema().fields().len() {
        // A file of an older program has fewer columns; those that every row must have are always there.
        if let Some(why) = check_parquet(path, true) {
            return Some(why);
        }
    }
    let told = file.key_value_metadata().and_then(|all| all.iter().find(|kv| kv.key == ROWS));
    let told = told.and_then(|kv| kv.value.as_deref()).and_then(|rows| rows.parse::<u64>().ok());
    if told.is_none() {
        return Some("it was not written by this program".into());
    }
    if told != Some(entry.rows) || u64::try_from(file.num_rows()) != Ok(entry.rows) {
        return Some(format!("it has {} rows where {} were written", file.num_rows(), entry.rows));
    }
    if checksum {
        match sha256(path) {
            Ok(sum) if sum == entry.sha256 => {}
            Ok(_) => {
                return Some(
                    "its checksum is not the one it was written with: it was damaged or changed".into(),
                );
            }
            Err(error) => return Some(error.to_string()),
        }
    }
    None
}

fn sha256(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut sum = Sha256::new();
    let mut buffer = vec![0_u8; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hexadecimal(&sum.finalize())),
            read => sum.update(&buffer[..read]),
        }
    }
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A listed file at fault, with the mend.
pub(crate) fn bad(path: PathBuf, entry: &FileEntry, why: String) -> BadFile {
    let mend = format!(
        "restore it from a copy of the archive, or go on without its {} transactions of {} with --skip-bad-files",
        entry.rows,
        entry.day()
    );
    BadFile { path, why, mend, rows: Some(entry.rows) }
}
