//! Files that are there as a whole, or as they were before.

use std::fs::File;
use std::path::Path;

/// Writes a file under another name, brings it to disk, and gives it its name: one of that name is whole.
///
/// # Errors
/// What `fill` gives, or the disk; a file that was there before is as it was.
pub(crate) fn write<E: From<std::io::Error>>(
    path: &Path,
    fill: impl FnOnce(&mut File) -> Result<(), E>,
) -> Result<(), E> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    fill(&mut file)?;
    file.sync_all()?;
    Ok(std::fs::rename(&temporary, path)?)
}
