//! The part of the windows' state that memory has no room for, as files.
//!
//! ```text
//!  FOLDER/run-4711/lock            held while the run lives: what nobody holds is swept away by the next run
//!                 /0-00000007      shard 0, eighth segment: blocks one after another, each behind its checksum
//! ```
//!
//! Blocks are appended and never changed. A segment holds what one shard moved out in one stretch of time, so that its
//! blocks expire together, in the order in which segments were written; a segment without a live block is deleted. Nothing
//! here outlives a run: windows are made again from the archive, see `docker/DELIVERY.md`. So nothing is synced to disk.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use manumit_engine::{Place, Store};

/// Bytes of a segment, more or less.
const SEGMENT_BYTES: usize = 64 << 20;

/// Bytes that are written at once.
const BUFFER_BYTES: usize = 1 << 20;

/// Bytes of a block's checksum.
const CHECKSUM_BYTES: usize = 4;

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}; `[state] folder` must be a folder that this program may write to")]
pub struct StateError {
    /// What could not be made or read.
    pub path: PathBuf,
    /// Why not.
    pub source: io::Error,
}

/// Segments of all shards of one run, in a folder of its own.
#[derive(Debug)]
pub struct Segments {
    folder: PathBuf,
    shards: Vec<Mutex<Shard>>,
    /// The lock goes with it.
    _lock: File,
}

#[derive(Debug, Default)]
struct Shard {
    segments: BTreeMap<u32, Segment>,
    /// Number of the segment that is written.
    current: u32,
    /// What of it is not in its file yet.
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Segment {
    file: File,
    path: PathBuf,
    /// Bytes in the file.
    written: u64,
    /// Blocks that are still needed.
    live: u64,
}

impl Segments {
    /// A run's folder under `folder`, which is made when it is not there. Folders of runs that ended without cleaning up are
    /// removed.
    ///
    /// # Errors
    /// [`StateError`] names the path.
    pub fn create(folder: &Path, shards: usize) -> Result<Segments, StateError> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| StateError { path, source }
        };
        // State is as secret as the transactions: nobody else may read it.
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(folder))?;
        for entry in std::fs::read_dir(folder).map_err(failed(folder))? {
            let path = entry.map_err(failed(folder))?.path();
            if is_run(&path) && is_abandoned(&path) {
                std::fs::remove_dir_all(&path).map_err(failed(&path))?;
            }
        }
        let (own, lock) = own_folder(folder).map_err(failed(folder))?;
        // One more, for the transactions that alerts may have to show.
        let shards = (0..=shards.max(1)).map(|_| Mutex::default()).collect();
        Ok(Segments { folder: own, shards, _lock: lock })
    }

    fn with<T>(&self, shard: usize, work: impl FnOnce(&mut Shard) -> io::Result<T>) -> Result<T, String> {
        let Some(known) = self.shards.get(shard) else {
            return Err(format!("there is no shard {shard}"));
        };
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut known).map_err(|error| {
            format!(
                "{}: {error}; is the disk full? Give `[state] folder` more room, or `[state] memory` more",
                self.folder.display()
            )
        })
    }
}

fn is_run(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("run-"))
}

/// No process holds its lock.
fn is_abandoned(path: &Path) -> bool {
    match File::open(path.join("lock")) {
        Ok(lock) => match lock.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => false,
        },
        // Its owner is just making it, or it is not ours.
        Err(_) => false,
    }
}

fn own_folder(folder: &Path) -> io::Result<(PathBuf, File)> {
    let mut number = 0;
    loop {
        let own = folder.join(format!("run-{}-{number}", std::process::id()));
        match std::fs::DirBuilder::new().mode(0o700).create(&own) {
            Ok(()) => {
                let lock = File::create_new(own.join("lock"))?;
                lock.lock()?;
                return Ok((own, lock));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}

impl Store for Segments {
    fn put(&self, shard: usize, block: &[u8]) -> Result<Place, String> {
        self.with(shard, |known| known.put(&self.folder, shard, block))
    }

    fn get(&self, shard: usize, place: Place) -> Result<Vec<u8>, String> {
        self.with(shard, |known| known.get(place))
    }

    fn release(&self, shard: usize, place: Place) {
        // A file that cannot be deleted takes room until the run ends, and nothing else.
        let _ = self.with(shard, |known| known.release(place));
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        // What stays behind is removed by the next run.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Shard {
    fn put(&mut self, folder: &Path, shard: usize, block: &[u8]) -> io::Result<Place> {
        let full = self.segments.get(&self.current).is_none_or(|segment| {
            segment.written as usize + self.buffer.len() + CHECKSUM_BYTES + block.len() > SEGMENT_BYTES
        });
        if full {
            self.begin(folder, shard)?;
        }
        let Some(segment) = self.segments.get_mut(&self.current) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let offset = (segment.written as usize + self.buffer.len()) as u32;
        self.buffer.extend_from_slice(&crc32fast::hash(block).to_le_bytes());
        self.buffer.extend_from_slice(block);
        segment.live += 1;
        if self.buffer.len() >= BUFFER_BYTES {
            segment.flush(&mut self.buffer)?;
        }
        Ok(Place { segment: self.current, offset, len: (CHECKSUM_BYTES + block.len()) as u32 })
    }

    fn begin(&mut self, folder: &Path, shard: usize) -> io::Result<()> {
        if let Some(segment) = self.segments.get_mut(&self.current) {
            segment.flush(&mut self.buffer)?;
            if segment.live == 0 {
                self.remove(self.current)?;
            }
            self.current += 1;
        }
        let path = folder.join(format!("{shard}-{:08}", self.current));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        self.segments.insert(self.current, Segment { file, path, written: 0, live: 0 });
        Ok(())
    }

    fn get(&self, place: Place) -> io::Result<Vec<u8>> {
        let Some(segment) = self.segments.get(&place.segment) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut bytes = vec![0; place.len as usize];
        match u64::from(place.offset).checked_sub(segment.written) {
            // Blocks are never cut in two: the buffer is written as a whole.
            Some(at) => {
                let waiting = self.buffer.get(at as usize..).and_then(|rest| rest.get(..bytes.len()));
                bytes.copy_from_slice(waiting.ok_or(io::ErrorKind::UnexpectedEof)?);
            }
            None => segment.file.read_exact_at(&mut bytes, u64::from(place.offset))?,
        }
        let block = bytes.split_off(CHECKSUM_BYTES.min(bytes.len()));
        if bytes != crc32fast::hash(&block).to_le_bytes() {
            let why = format!("{} was changed at byte {}", segment.path.display(), place.offset);
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(block)
    }

    fn release(&mut self, place: Place) -> io::Result<()> {
        let Some(segment) = self.segments.get_mut(&place.segment) else { return Ok(()) };
        segment.live = segment.live.saturating_sub(1);
        if segment.live == 0 && place.segment != self.current {
            self.remove(place.segment)?;
        }
        Ok(())
    }

    fn remove(&mut self, number: u32) -> io::Result<()> {
        self.segments.remove(&number).map_or(Ok(()), |segment| std::fs::remove_file(segment.path))
    }
}

impl Segment {
    fn flush(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        self.file.write_all_at(buffer, self.written)?;
        self.written += buffer.len() as u64;
        buffer.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(number: usize) -> Vec<u8> {
        (0..10_000 + number % 7).map(|at| (at * 31 + number) as u8).collect()
    }

    fn files(folder: &Path) -> usize {
        std::fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn blocks_come_back_as_they_were_from_the_buffer_and_from_files_that_go_when_nobody_needs_them() {
        let folder = tempfile::tempdir().unwrap();
        let segments = Segments::create(folder.path(), 2).unwrap();
        let places: Vec<Place> = (0..16_000).map(|n| segments.put(n % 2, &block(n)).unwrap()).collect();
        // 80 MB a shard: two segments each, beside the lock.
        assert_eq!(files(&segments.folder), 5);
        for (n, &place) in places.iter().enumerate().step_by(97).chain([(15_999, &places[15_999])]) {
            assert_eq!(segments.get(n % 2, place).unwrap(), block(n), "{n}");
        }
        for (n, &place) in places.iter().enumerate().filter(|(_, place)| place.segment == 0) {
            segments.release(n % 2, place);
        }
        assert_eq!(files(&segments.folder), 3);
        let own = segments.folder.clone();
        drop(segments);
        assert!(!own.exists());
    }

    #[test]
    fn a_changed_byte_is_told_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let segments = Segments::create(folder.path(), 1).unwrap();
        let places: Vec<Place> = (0..300).map(|n| segments.put(0, &block(n)).unwrap()).collect();
        let path = segments.folder.join("0-00000000");
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[0xff, 0x00, 0xff], u64::from(places[5].offset) + 40).unwrap();
        assert_eq!(segments.get(0, places[4]).unwrap(), block(4));
        let error = segments.get(0, places[5]).unwrap_err();
        assert!(error.contains("0-00000000 was changed at byte"), "{error}");
    }

    #[test]
    fn what_a_killed_run_left_is_removed_and_what_a_living_one_uses_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let living = Segments::create(folder.path(), 1).unwrap();
        let left = folder.path().join("run-999999-0");
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join("lock"), "").unwrap();
        std::fs::write(left.join("0-00000000"), "rows").unwrap();
        let other = folder.path().join("notes");
        std::fs::create_dir(&other).unwrap();
        let second = Segments::create(folder.path(), 1).unwrap();
        assert!(!left.exists() && other.exists() && living.folder.exists());
        assert_ne!(living.folder, second.folder);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Segments::create(&file.path().join("state"), 1).unwrap_err().to_string();
        assert!(error.contains("[state] folder") && error.contains("state:"), "{error}");
    }
}
