//! The files that rules are read from.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Texts of rule files by path, relative to the project's folder (`rules/…`, `sql/…`), ordered by path.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    files: BTreeMap<PathBuf, Arc<str>>,
}

/// Folders that rules are read from.
const FOLDERS: [&str; 3] = ["rules", "sql/indicators", "sql/typologies"];

impl Sources {
    /// Reads `rules/`, `sql/indicators/` and `sql/typologies/` under `root`; missing folders hold no rules.
    ///
    /// # Errors
    /// [`io::Error`] when a file cannot be read, or is not UTF-8.
    pub fn read(root: &Path) -> Result<Sources, io::Error> {
        let mut sources = Sources::default();
        for folder in FOLDERS {
            let folder = root.join(folder);
            if folder.is_dir() {
                sources.read_folder(root, &folder)?;
            }
        }
        Ok(sources)
    }

    fn read_folder(&mut self, root: &Path, folder: &Path) -> Result<(), io::Error> {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                self.read_folder(root, &path)?;
                continue;
            }
            let wanted = path.extension().is_some_and(|e| e == "toml" || e == "sql" || e == "csv");
            if wanted {
                let text = std::fs::read_to_string(&path)
                    .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
                let name = path.strip_prefix(root).unwrap_or(&path).to_path_buf();
                self.files.insert(name, text.into());
            }
        }
        Ok(())
    }

    /// Files by path; a later one replaces an earlier one of the same path.
    pub fn from_files(files: impl IntoIterator<Item = (PathBuf, String)>) -> Sources {
        Sources { files: files.into_iter().map(|(path, text)| (path, text.into())).collect() }
    }

    /// Adds the files of another set; those of equal path are replaced.
    pub fn extend(&mut self, other: Sources) {
        self.files.extend(other.files);
    }

    /// All files, by path.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &Arc<str>)> {
        self.files.iter().map(|(path, text)| (path.as_path(), text))
    }

    /// The text of a file.
    pub fn get(&self, path: &Path) -> Option<&Arc<str>> {
        self.files.get(path)
    }

    /// True when there are no files.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}
