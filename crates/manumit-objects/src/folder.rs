//! Objects as files: a disk, or a share that is mounted.

use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};

use crate::Fault;

/// Ends the names of files that are being written.
const PART: &str = ".part";

fn path(folder: &Path, key: &str) -> Result<PathBuf, Fault> {
    let whole = !key.is_empty() && key.split('/').all(|part| !part.is_empty());
    if whole && Path::new(key).components().all(|part| matches!(part, Component::Normal(_))) {
        Ok(folder.join(key))
    } else {
        Err(Fault { why: format!("`{key}` is no name of an object"), may_pass: false })
    }
}

/// False when one is there that is not to be replaced.
pub(crate) fn put(folder: &Path, key: &str, from: &mut impl Read, replace: bool) -> Result<bool, Fault> {
    let path = path(folder, key)?;
    let within = path.parent().unwrap_or(folder);
    std::fs::create_dir_all(within)?;
    let mut part = path.clone().into_os_string();
    // Of two processes each has its own.
    part.push(format!(".{}{PART}", std::process::id()));
    let mut file = std::fs::File::create(&part)?;
    std::io::copy(from, &mut file)?;
    file.sync_all()?;
    if replace {
        std::fs::rename(&part, &path)?;
    } else {
        // Another name of the same file, which is refused where the name is taken.
        let named = std::fs::hard_link(&part, &path);
        std::fs::remove_file(&part)?;
        match named {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(false),
            named => named?,
        }
    }
    std::fs::File::open(within)?.sync_all()?;
    Ok(true)
}

pub(crate) fn read(folder: &Path, key: &str, to: &mut impl Write) -> Result<bool, Fault> {
    match std::fs::File::open(path(folder, key)?) {
        Ok(mut file) => {
            std::io::copy(&mut file, to)?;
            Ok(true)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn list(folder: &Path, prefix: &str) -> Result<Vec<(String, u64)>, Fault> {
    let mut found = Vec::new();
    let mut folders = vec![(folder.to_path_buf(), String::new())];
    while let Some((at, before)) = folders.pop() {
        let entries = match std::fs::read_dir(&at) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let key = format!("{before}{name}");
            let about = entry.metadata()?;
            if about.is_dir() {
                folders.push((entry.path(), key + "/"));
            } else if key.starts_with(prefix) && !key.ends_with(PART) {
                found.push((key, about.len()));
            }
        }
    }
    Ok(found)
}

pub(crate) fn delete(folder: &Path, key: &str) -> Result<(), Fault> {
    match std::fs::remove_file(path(folder, key)?) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
