//! Copies of checkpoints and of the archive in an object store, so that a run goes on after all local files are lost.
//!
//! ```text
//!  archive, on disk ─► checkpoint N, on disk ─► files of the archive, its manifest, checkpoint N in the store ─► transaction
//! ```
//! Copies are made before Kafka is told of a checkpoint, so what Kafka names can always be fetched. Files of the archive never
//! change, so each is sent once; the manifest is kept once for each checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use manumit_archive::{Archive, FileEntry, MANIFEST, Manifest};
use manumit_objects::{ObjectError, Objects};
use sha2::{Digest as _, Sha256};

use super::{Refusal, Store, insist};
use crate::whole;

/// What trouble with copies is told of.
const COPY: &str = "`[checkpoint] copy`";

/// Files that are sent at once.
const AT_ONCE: usize = 8;

/// Where copies are, and what is there already.
pub struct Copies {
    objects: Objects,
    archive: PathBuf,
    keep: usize,
    /// Files of the archive that are there.
    held: BTreeSet<String>,
    /// By checkpoint, the files that its manifest lists.
    listed: BTreeMap<u64, BTreeSet<String>>,
}

fn checkpoint_key(number: u64) -> String {
    format!("checkpoints/checkpoint-{number:010}.json")
}

fn manifest_key(number: u64) -> String {
    format!("checkpoints/archive-{number:010}.json")
}

fn number_of(key: &str, kind: &str) -> Option<u64> {
    key.strip_prefix("checkpoints/")?.strip_prefix(kind)?.strip_suffix(".json")?.parse().ok()
}

fn archive_key(path: &str) -> String {
    format!("archive/{path}")
}

fn manifest_of(objects: &Objects, number: u64) -> anyhow::Result<(Manifest, Vec<u8>)> {
    let key = manifest_key(number);
    let bytes = objects.get(&key)?.with_context(|| format!("`{}` is not there", objects.name(&key)))?;
    let manifest =
        serde_json::from_slice(&bytes).with_context(|| format!("`{}` is damaged", objects.name(&key)))?;
    Ok((manifest, bytes))
}

fn numbers(objects: &Objects, kind: &str) -> anyhow::Result<Vec<u64>> {
    let keys = objects.list("checkpoints/")?;
    Ok(keys.iter().filter_map(|(key, _)| number_of(key, kind)).collect())
}

impl From<ObjectError> for Refusal {
    fn from(error: ObjectError) -> Refusal {
        Refusal { may_pass: error.may_pass, why: anyhow!(error) }
    }
}

impl Copies {
    /// Looks what is there.
    ///
    /// # Errors
    /// When the store cannot be reached, or its address does not do.
    pub fn open(place: &str, archive: &Path, keep: usize) -> anyhow::Result<Copies> {
        let objects = Objects::open(place).context(COPY)?;
        let (mut listed, mut all_read) = (BTreeMap::new(), true);
        for number in numbers(&objects, "archive-")? {
            let files = manifest_of(&objects, number);
            if let Err(error) = &files {
                tracing::error!("{error:#}: what it lists is left where it is");
                all_read = false;
            }
            listed.insert(number, files.map(|(manifest, _)| paths(&manifest)).unwrap_or_default());
        }
        let mut held = BTreeSet::new();
        for (key, _) in objects.list("archive/").context(COPY)? {
            let Some(path) = key.strip_prefix("archive/") else { continue };
            if listed.values().any(|files| files.contains(path)) {
                held.insert(path.to_string());
            } else if all_read {
                // Of a run that ended before it had copied the manifest: the next file of that name has other rows.
                objects.delete(&key).context(COPY)?;
            }
        }
        Ok(Copies { objects, archive: archive.to_path_buf(), keep: keep.max(2), held, listed })
    }

    /// Fetches what is not here: nothing, if the last run was on this machine; the archive and the checkpoints, if its disk was
    /// lost or another machine has gone on since. Says what it did.
    ///
    /// # Errors
    /// When a file of the archive is damaged or missing in the store: windows made without it would be wrong ones.
    pub fn fetch(&self, store: &Store) -> anyhow::Result<()> {
        let there = numbers(&self.objects, "checkpoint-")?;
        let Some(&newest) = there.last() else { return Ok(()) };
        let copy = |number: u64| -> anyhow::Result<Vec<u8>> {
            Ok(self.objects.get(&checkpoint_key(number))?.unwrap_or_default())
        };
        let is_here =
            |number: u64, copy: &[u8]| std::fs::read(store.path(number)).is_ok_and(|here| here == copy);
        let last = copy(newest)?;
        if is_here(newest, &last) && self.archive.join(MANIFEST).exists() {
            return Ok(());
        }
        // A copy that is damaged is not better than what may be here.
        let whole = super::parse(Path::new(&self.objects.name(&checkpoint_key(newest))), &last, newest);
        if whole.is_err() && self.archive.join(MANIFEST).exists() && store.read(newest).is_ok() {
            return Ok(());
        }
        self.fetch_archive()?;
        for number in there {
            let bytes = copy(number)?;
            if !is_here(number, &bytes) {
                write(&store.path(number), |file| Ok(file.write_all(&bytes)?))?;
            }
        }
        tracing::warn!(number = newest, "checkpoints were fetched from `[checkpoint] copy`");
        Ok(())
    }

    fn fetch_archive(&self) -> anyhow::Result<()> {
        let mut newest = None;
        for &number in self.listed.keys().rev() {
            match manifest_of(&self.objects, number) {
                Ok(found) => {
                    newest = Some((number, found));
                    break;
                }
                Err(error) => tracing::error!("{error:#}: the one before is used"),
            }
        }
        let Some((number, (manifest, bytes))) = newest else { return Ok(()) };
        // One without rows is of a run that was taken over from before it had read any: it goes.
        let here = Archive::open(&self.archive).ok();
        let here = here.filter(|here| here.manifest().id == manifest.id || !here.manifest().files.is_empty());
        if let Some(here) = &here
            && here.manifest().id != manifest.id
        {
            bail!(
                "the archive `{}` and the one copied to `{}` are of different histories: give `[checkpoint] copy` another prefix, or \
                 `[archive] folder` another folder",
                self.archive.display(),
                self.objects.name("archive")
            );
        }
        let why =
            if here.is_some() { "another machine has gone on since" } else { "there is no archive here" };
        let (rows, files) = (manifest.files.iter().map(|f| f.rows).sum::<u64>(), manifest.files.len());
        tracing::warn!(number, files, rows, "{why}: it is fetched from `[checkpoint] copy`");
        // From here on until the new manifest stands, there is none: half of one archive and half of another is neither.
        let listed =
            here.iter().flat_map(|here| &here.manifest().files).map(|file| self.archive.join(&file.path));
        let stale: Vec<PathBuf> = listed.collect();
        let _ = std::fs::remove_file(self.archive.join(MANIFEST));
        for entry in &manifest.files {
            self.fetch_file(entry)?;
        }
        let wanted: BTreeSet<PathBuf> =
            manifest.files.iter().map(|file| self.archive.join(&file.path)).collect();
        for path in stale.iter().filter(|path| !wanted.contains(*path)) {
            let _ = std::fs::remove_file(path);
        }
        write(&self.archive.join(MANIFEST), |file| Ok(file.write_all(&bytes)?))
    }

    fn fetch_file(&self, entry: &FileEntry) -> anyhow::Result<()> {
        let (key, path) = (archive_key(&entry.path), self.archive.join(&entry.path));
        if let Ok(mut file) = std::fs::File::open(&path) {
            let mut sum = Sum::default();
            std::io::copy(&mut file, &mut sum).with_context(|| format!("`{}`", path.display()))?;
            if sum.text() == entry.sha256 {
                return Ok(());
            }
        }
        let name = self.objects.name(&key);
        let mut sum = Sum::default();
        write(&path, |file| {
            let there = self.objects.read(&key, &mut Both(file, &mut sum))?;
            if there { Ok(()) } else { Err(anyhow!("`{name}` is not there")) }
        })?;
        if sum.text() != entry.sha256 {
            // What is not whole must not be taken for a file of the archive.
            let _ = std::fs::remove_file(&path);
            bail!(
                "`{name}` is damaged: its checksum is another one ({} bytes, {} were written). Restore that object, or the archive \
                 `{}` from elsewhere; or read everything again with --from-beginning",
                sum.bytes,
                entry.bytes,
                self.archive.display()
            );
        }
        Ok(())
    }

    /// Copies a checkpoint that was just written, and what of the archive it needs. Waits while the store is away: `trouble` is
    /// told why, and `None` when it has passed.
    ///
    /// # Errors
    /// When trying again does not help.
    pub fn send(
        &mut self,
        number: u64,
        store: &Store,
        trouble: &dyn Fn(Option<String>),
    ) -> anyhow::Result<()> {
        let manifest = loop {
            let archive = Archive::open(&self.archive)?;
            let missing: Vec<String> =
                paths(archive.manifest()).into_iter().filter(|path| !self.held.contains(path)).collect();
            match self.send_files(&missing, trouble) {
                Ok(()) => break archive.manifest().clone(),
                // It was merged into another one meanwhile; the next manifest lists that.
                Err(_) if missing.iter().any(|path| !self.archive.join(path).exists()) => {}
                Err(error) => return Err(error),
            }
        };
        let text = serde_json::to_vec(&manifest)?;
        insist(COPY, trouble, || self.put_own(&manifest_key(number), Bytes::Text(&text)))?;
        insist(COPY, trouble, || self.put_own(&checkpoint_key(number), Bytes::File(&store.path(number))))?;
        self.listed.insert(number, paths(&manifest));
        self.tidy();
        Ok(())
    }

    fn send_files(&mut self, paths: &[String], trouble: &dyn Fn(Option<String>)) -> anyhow::Result<()> {
        for some in paths.chunks(AT_ONCE) {
            insist(COPY, trouble, || {
                std::thread::scope(|scope| {
                    let send = |path: &String| {
                        self.put_own(&archive_key(path), Bytes::File(&self.archive.join(path)))
                    };
                    let sent: Vec<_> = some.iter().map(|path| scope.spawn(move || send(path))).collect();
                    let lost = || ObjectError {
                        place: self.objects.name("archive"),
                        why: "a thread ended early".into(),
                        may_pass: false,
                    };
                    sent.into_iter().try_for_each(|sent| sent.join().unwrap_or_else(|_| Err(lost())))
                })
            })?;
            self.held.extend(some.iter().cloned());
        }
        Ok(())
    }

    /// Writes what nobody else may have written: one that is there is either ours, written by a try whose answer was lost, or
    /// of a run that goes on with the same copies.
    fn put_own(&self, key: &str, bytes: Bytes<'_>) -> Result<(), ObjectError> {
        let written = match bytes {
            Bytes::Text(text) => self.objects.put_new(key, text)?,
            Bytes::File(path) => self.objects.put_new_file(key, path)?,
        };
        if written {
            return Ok(());
        }
        let foreign = |why: String| ObjectError { place: self.objects.name(key), why, may_pass: false };
        let ours = match bytes {
            Bytes::Text(text) => text.to_vec(),
            Bytes::File(path) => {
                std::fs::read(path).map_err(|e| foreign(format!("`{}`: {e}", path.display())))?
            }
        };
        if self.objects.get(key)?.is_some_and(|there| there == ours) {
            return Ok(());
        }
        Err(foreign(
            "another run has written it: either that one has taken over, or it was still alive when this one did; start this one \
             again if it is the one that should run"
                .into(),
        ))
    }

    /// Deletes checkpoints beyond those kept, and files of the archive that none of these needs. What cannot be deleted now is
    /// by the next checkpoint.
    fn tidy(&mut self) {
        while self.listed.len() > self.keep {
            let Some((&number, _)) = self.listed.first_key_value() else { return };
            if !self.delete(&checkpoint_key(number)) || !self.delete(&manifest_key(number)) {
                return;
            }
            self.listed.remove(&number);
        }
        let needed: BTreeSet<&String> = self.listed.values().flatten().collect();
        let gone: Vec<String> = self.held.iter().filter(|path| !needed.contains(path)).cloned().collect();
        for path in gone {
            if !self.delete(&archive_key(&path)) {
                return;
            }
            self.held.remove(&path);
        }
    }

    fn delete(&self, key: &str) -> bool {
        let deleted = self.objects.delete(key);
        if let Err(error) = &deleted {
            tracing::warn!(%error, "an old copy was not deleted");
        }
        deleted.is_ok()
    }
}

/// Compares all copies with their checksums: what is wrong with each that is damaged or missing, and how many objects were
/// looked at.
///
/// # Errors
/// When the store cannot be reached.
pub fn verify(place: &str) -> anyhow::Result<(usize, Vec<String>)> {
    let objects = Objects::open(place)?;
    let (mut seen, mut wrong) = (0, Vec::new());
    let mut files = BTreeMap::new();
    for number in numbers(&objects, "checkpoint-")? {
        seen += 2;
        let key = checkpoint_key(number);
        let bytes = objects.get(&key)?.unwrap_or_default();
        if let Err(error) = super::parse(Path::new(&objects.name(&key)), &bytes, number) {
            wrong.push(error.to_string());
        }
        match manifest_of(&objects, number) {
            Ok((manifest, _)) => {
                files.extend(manifest.files.into_iter().map(|file| (file.path, file.sha256)))
            }
            Err(error) => wrong.push(format!("{error:#}")),
        }
    }
    for (path, sha256) in files {
        seen += 1;
        let mut sum = Sum::default();
        let name = objects.name(&archive_key(&path));
        if !objects.read(&archive_key(&path), &mut sum)? {
            wrong.push(format!("{name}: it is not there"));
        } else if sum.text() != sha256 {
            wrong.push(format!("{name}: it is damaged: its checksum is another one"));
        }
    }
    Ok((seen, wrong))
}

fn paths(manifest: &Manifest) -> BTreeSet<String> {
    manifest.files.iter().map(|entry| entry.path.clone()).collect()
}

/// Writes a file as a whole, and the folders above it.
fn write(path: &Path, fill: impl FnOnce(&mut std::fs::File) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let written = folder.map_err(anyhow::Error::from).and_then(|()| whole::write(path, fill));
    written.with_context(|| format!("`{}`", path.display()))
}

#[derive(Clone, Copy)]
enum Bytes<'a> {
    Text(&'a [u8]),
    File(&'a Path),
}

#[derive(Default)]
struct Sum {
    hash: Sha256,
    bytes: u64,
}

impl Sum {
    fn text(&self) -> String {
        self.hash.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl std::io::Write for Sum {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Both<'a>(&'a mut std::fs::File, &'a mut Sum);

impl std::io::Write for Both<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write_all(bytes)?;
        self.1.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_numbers_agree() {
        assert_eq!(number_of(&checkpoint_key(12), "checkpoint-"), Some(12));
        assert_eq!(number_of(&manifest_key(12), "archive-"), Some(12));
        assert_eq!(number_of(&manifest_key(12), "checkpoint-"), None);
        assert_eq!(number_of("checkpoints/checkpoint-x.json", "checkpoint-"), None);
    }
}
