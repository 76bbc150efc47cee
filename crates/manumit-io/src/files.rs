//! Files, folders, patterns and standard input, cut into records.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use manumit_model::Records;

use crate::IoError;

/// How a file is cut into records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// One record a line.
    Lines,
    /// One record a line, but a line end between double quotes is part of the record.
    Csv {
        /// The first record is the header.
        header: bool,
    },
    /// The file is one record, at offset 0.
    Whole,
}

/// Bytes asked of the system at once.
const READ: usize = 1 << 20;

/// Bytes of records handed on at once; small enough that several are in work at the same time.
pub const BATCH_BYTES: usize = 4 << 20;

/// A place in a file: all before it was given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FilePlace {
    /// The number of the next record; 0 where nothing was read.
    pub next: i64,
    /// Bytes up to there.
    pub bytes: u64,
}

/// Bytes of either end that tell a file from others.
const END: u64 = 64 << 10;

/// The first and the last 64 KiB of the first so many bytes of a file: what tells whether they are still the same.
///
/// # Errors
/// When it cannot be read, or is shorter.
pub fn ends_of(file: &File, bytes: u64) -> io::Result<Vec<u8>> {
    let first = bytes.min(END);
    let last = (bytes - first).min(END);
    let mut ends = vec![0; (first + last) as usize];
    let (head, tail) = ends.split_at_mut(first as usize);
    file.read_exact_at(head, 0)?;
    file.read_exact_at(tail, bytes - last)?;
    Ok(ends)
}

/// Records of several files, one after another.
pub struct FileSource {
    waiting: VecDeque<PathBuf>,
    /// Where to begin, and up to which byte, when it is a part of one file.
    part: Option<(FilePlace, u64)>,
    place: FilePlace,
    file: Option<File>,
    current: Option<Reader>,
    framing: Framing,
    max_record_bytes: usize,
    total_bytes: u64,
    read_bytes: u64,
}

struct Reader {
    input: Box<dyn Read + Send>,
    name: Arc<str>,
    path: PathBuf,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are not yet cut into records.
    start: usize,
    end: usize,
    ended: bool,
    line: i64,
    header: Option<Arc<[u8]>>,
    /// Length so far of a record that is too long to be kept; its beginning is in `cut`.
    skipping: Option<u64>,
    cut: Vec<u8>,
    quoted: bool,
    /// How far `buffer[start..]` was searched without finding an end.
    searched: usize,
    /// Bytes that may still be read; what lies behind them belongs to another part.
    left: u64,
    /// Bytes of the file up to the end of the buffer.
    reached: u64,
    /// Bytes at the end of the part that are the beginning of a record only.
    half: u64,
    /// The file itself, where it is read in parts.
    file: Option<File>,
}

/// The files that paths mean: a file, all files of a folder by name, or the matches of a pattern.
///
/// # Errors
/// [`IoError::NoSuchPath`] when a path means nothing.
pub fn list_files(paths: &[String]) -> Result<Vec<PathBuf>, IoError> {
    let mut files = Vec::new();
    for path in paths {
        let plain = Path::new(path);
        if path == "-" || plain.is_file() {
            files.push(plain.to_path_buf());
            continue;
        }
        let mut found: Vec<PathBuf> = Vec::new();
        if plain.is_dir() {
            for entry in std::fs::read_dir(plain).map_err(|e| IoError::file(plain, e))? {
                found.push(entry.map_err(|e| IoError::file(plain, e))?.path());
            }
        } else if let Ok(matches) = glob::glob(path) {
            found.extend(matches.flatten());
        }
        let hidden = |p: &Path| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        found.retain(|p| p.is_file() && !hidden(p));
        found.sort();
        if found.is_empty() {
            return Err(IoError::NoSuchPath { path: path.clone() });
        }
        files.extend(found);
    }
    Ok(files)
}

impl FileSource {
    /// Opens nothing yet, but finds all files.
    ///
    /// # Errors
    /// As [`list_files`].
    pub fn open(paths: &[String], framing: Framing, max_record_bytes: usize) -> Result<FileSource, IoError> {
        let files = list_files(paths)?;
        let total_bytes = files.iter().filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum();
        Ok(FileSource {
            waiting: files.into(),
            part: None,
            place: FilePlace::default(),
            file: None,
            current: None,
            framing,
            max_record_bytes,
            total_bytes,
            read_bytes: 0,
        })
    }

    /// A part of one file: from a place on, up to the byte `to`. A record that has begun there and goes on behind it is left to the
    /// next part. A document has one part only: all of it.
    ///
    /// # Errors
    /// [`IoError::File`] when it cannot be opened, or the last record before the place had no line end and was continued since.
    pub fn part(
        path: &Path,
        framing: Framing,
        max_record_bytes: usize,
        from: FilePlace,
        to: u64,
    ) -> Result<FileSource, IoError> {
        let mut reader = Reader::open(path.to_path_buf())?;
        let file = File::open(path).map_err(|e| IoError::file(path, e))?;
        reader.begin_at(&file, framing, from, to).map_err(|e| IoError::file(path, e))?;
        let again = file.try_clone().map_err(|e| IoError::file(path, e))?;
        reader.file = Some(file);
        Ok(FileSource {
            waiting: VecDeque::new(),
            part: Some((from, to)),
            place: from,
            file: Some(again),
            current: Some(reader),
            framing,
            max_record_bytes,
            total_bytes: to.saturating_sub(from.bytes),
            read_bytes: 0,
        })
    }

    /// Of a part: the place behind the last records given.
    pub fn place(&self) -> FilePlace {
        self.place
    }

    /// Of a part: both ends of what was read up to [`FileSource::place`], as [`ends_of`] gives them.
    ///
    /// # Errors
    /// [`IoError::File`] when they cannot be read again.
    pub fn ends(&self) -> io::Result<Vec<u8>> {
        self.file.as_ref().map_or_else(|| Ok(Vec::new()), |file| ends_of(file, self.place.bytes))
    }

    /// Bytes of all files; standard input counts as none.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Bytes read so far.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// The next records, all of one file; `None` at the end of the last file.
    ///
    /// # Errors
    /// [`IoError::File`] when a file cannot be read.
    pub fn next_batch(&mut self) -> Result<Option<Records>, IoError> {
        loop {
            let Some(reader) = &mut self.current else {
                let Some(path) = self.waiting.pop_front() else { return Ok(None) };
                self.current = Some(Reader::open(path)?);
                continue;
            };
            let before = reader.line;
            let records = match self.framing {
                Framing::Whole => reader.whole(self.max_record_bytes, &mut self.read_bytes),
                framing => reader.batch(framing, self.max_record_bytes, &mut self.read_bytes),
            };
            let records = records.map_err(|e| IoError::file(&reader.path, e))?;
            if self.part.is_some() && !records.is_empty() {
                self.place = reader.place();
            }
            if reader.ended && reader.start == reader.end && reader.skipping.is_none() {
                self.current = None;
            } else if records.is_empty() && reader.line == before {
                // A record longer than a read: go on.
                continue;
            }
            if !records.is_empty() {
                return Ok(Some(records));
            }
        }
    }
}

fn now_micros() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
}

impl Reader {
    fn open(path: PathBuf) -> Result<Reader, IoError> {
        let stdin = path.as_os_str() == "-";
        let input: Box<dyn Read + Send> = if stdin {
            Box::new(io::stdin())
        } else {
            Box::new(File::open(&path).map_err(|e| IoError::file(&path, e))?)
        };
        let name = if stdin { "stdin".into() } else { path.display().to_string() };
        Ok(Reader {
            input,
            name: name.into(),
            path,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            ended: false,
            line: 0,
            header: None,
            skipping: None,
            cut: Vec::new(),
            quoted: false,
            searched: 0,
            left: u64::MAX,
            reached: 0,
            half: 0,
            file: None,
        })
    }

    /// Goes to a place, with the header where there is one. `self.input` is another handle of the same file.
    fn begin_at(&mut self, file: &File, framing: Framing, from: FilePlace, to: u64) -> io::Result<()> {
        let mut at = from.bytes;
        if at > 0 && framing != Framing::Whole {
            if framing == (Framing::Csv { header: true }) {
                self.read_header(framing)?;
            }
            let mut around = [0; 3];
            let there = file.read_at(&mut around, at - 1)?;
            match &around[..there] {
                [b'\n', ..] | [_] | [] => {}
                [_, b'\n', ..] => at += 1,
                [_, b'\r', b'\n'] => at += 2,
                _ => {
                    return Err(io::Error::other(format!(
                        "line {} had no line end when it was read, and was continued since: what came of its beginning cannot be \
                         taken back. Write whole lines, or read everything again with --from-beginning",
                        from.next - 1
                    )));
                }
            }
        }
        let mut input = file.try_clone()?;
        input.seek(SeekFrom::Start(at))?;
        self.input = Box::new(input);
        (self.start, self.end, self.searched, self.ended) = (0, 0, 0, false);
        self.line = (from.next - 1).max(0);
        self.reached = at;
        self.left = if framing == Framing::Whole { u64::MAX } else { to.saturating_sub(at) };
        Ok(())
    }

    fn read_header(&mut self, framing: Framing) -> io::Result<()> {
        let mut read_bytes = 0;
        loop {
            match self.record_end(framing) {
                Some(end) => {
                    let line = &self.buffer[self.start..end];
                    let line = line.strip_suffix(b"\r").unwrap_or(line);
                    if !line.is_empty() {
                        self.header = Some(line.into());
                        return Ok(());
                    }
                    self.start = end + 1;
                }
                None if self.ended => return Ok(()),
                None => self.fill(&mut read_bytes)?,
            }
        }
    }

    fn place(&self) -> FilePlace {
        let ahead = (self.end - self.start) as u64 + self.half;
        FilePlace { next: self.line + 1, bytes: self.reached - ahead }
    }

    /// The file goes on behind the part, so that a record without an end has only begun.
    fn goes_on(&self) -> io::Result<bool> {
        match &self.file {
            Some(file) => Ok(file.metadata()?.len() > self.reached),
            None => Ok(false),
        }
    }

    /// Reads more bytes behind those that are left.
    fn fill(&mut self, read_bytes: &mut u64) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < self.end + READ {
            self.buffer.resize(self.end + READ, 0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(self.buffer.len() - self.end);
        loop {
            match self.input.read(&mut self.buffer[self.end..self.end + most]) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    self.end += count;
                    self.left -= count as u64;
                    self.reached += count as u64;
                    *read_bytes += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            return Ok(());
        }
    }

    /// Place of the end of the record that begins at `start`, or `None` when it is not in the buffer yet.
    fn record_end(&mut self, framing: Framing) -> Option<usize> {
        let from = self.start + self.searched;
        let bytes = &self.buffer[from..self.end];
        let found = match framing {
            Framing::Csv { .. } => {
                let mut found = None;
                for (at, byte) in bytes.iter().enumerate() {
                    match byte {
                        b'"' => self.quoted = !self.quoted,
                        b'\n' if !self.quoted => {
                            found = Some(at);
                            break;
                        }
                        _ => {}
                    }
                }
                found
            }
            _ => memchr(bytes),
        };
        match found {
            Some(at) => {
                self.searched = 0;
                self.quoted = false;
                Some(from + at)
            }
            None => {
                self.searched = self.end - self.start;
                None
            }
        }
    }

    fn batch(&mut self, framing: Framing, most: usize, read_bytes: &mut u64) -> io::Result<Records> {
        let mut records = Records::new(self.name.clone(), 0, now_micros());
        records.header.clone_from(&self.header);
        records.data.reserve(BATCH_BYTES + READ);
        while records.data.len() < BATCH_BYTES {
            let end = match self.record_end(framing) {
                Some(end) => end,
                None if self.ended => {
                    if self.start == self.end && self.skipping.is_none() {
                        break;
                    }
                    if self.goes_on()? {
                        self.half = self.skipping.take().unwrap_or(0) + (self.end - self.start) as u64;
                        self.start = self.end;
                        self.cut.clear();
                        break;
                    }
                    self.end
                }
                None => {
                    self.hold_back(most);
                    self.fill(read_bytes)?;
                    continue;
                }
            };
            let last = end == self.end && self.ended;
            let line = self.start..end;
            self.start = if last { self.end } else { end + 1 };
            self.searched = 0;
            self.quoted = false;
            self.line += 1;
            self.take(line, framing, most, &mut records);
            if last {
                break;
            }
        }
        Ok(records)
    }

    /// A record that is already too long is not kept in memory: only its beginning is.
    fn hold_back(&mut self, most: usize) {
        let length = self.end - self.start;
        if self.skipping.is_some() || length > most {
            let room = most.saturating_sub(self.cut.len()).min(length);
            self.cut.extend_from_slice(&self.buffer[self.start..self.start + room]);
            self.skipping = Some(self.skipping.unwrap_or(0) + length as u64);
            self.start = self.end;
            self.searched = 0;
        }
    }

    fn take(&mut self, line: std::ops::Range<usize>, framing: Framing, most: usize, records: &mut Records) {
        let bytes = &self.buffer[line];
        if let Some(skipped) = self.skipping.take() {
            let room = most.saturating_sub(self.cut.len()).min(bytes.len());
            self.cut.extend_from_slice(&bytes[..room]);
            records.oversized.push((records.len(), skipped + bytes.len() as u64));
            records.push(self.line, &self.cut);
            self.cut.clear();
            return;
        }
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        if bytes.is_empty() {
            return;
        }
        if framing == (Framing::Csv { header: true }) && self.header.is_none() {
            self.header = Some(bytes.into());
            records.header.clone_from(&self.header);
            return;
        }
        if bytes.len() > most {
            records.oversized.push((records.len(), bytes.len() as u64));
            records.push(self.line, &bytes[..most]);
        } else {
            records.push(self.line, bytes);
        }
    }

    fn whole(&mut self, most: usize, read_bytes: &mut u64) -> io::Result<Records> {
        let mut records = Records::new(self.name.clone(), 0, now_micros());
        let mut length = 0_u64;
        let mut kept = Vec::new();
        while !self.ended {
            self.fill(read_bytes)?;
            let room = most.saturating_sub(kept.len()).min(self.end - self.start);
            kept.extend_from_slice(&self.buffer[self.start..self.start + room]);
            length += (self.end - self.start) as u64;
            self.start = self.end;
        }
        if length > 0 {
            if length > kept.len() as u64 {
                records.oversized.push((0, length));
            }
            records.push(0, &kept);
        }
        Ok(records)
    }
}

/// Place of the first line end, a machine word at a time.
fn memchr(bytes: &[u8]) -> Option<usize> {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let pattern = LOW * u64::from(b'\n');
    let mut at = 0;
    for word in bytes.chunks_exact(8) {
        let mut eight = [0_u8; 8];
        eight.copy_from_slice(word);
        let difference = u64::from_le_bytes(eight) ^ pattern;
        if difference.wrapping_sub(LOW) & !difference & HIGH != 0 {
            break;
        }
        at += 8;
    }
    bytes[at..].iter().position(|b| *b == b'\n').map(|found| at + found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, content: &[u8], framing: Framing, most: usize) -> Vec<(i64, Vec<u8>, Option<u64>)> {
        let folder = std::env::temp_dir().join(format!("manumit-files-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("sample");
        std::fs::write(&path, content).unwrap();
        let mut source = FileSource::open(&[path.display().to_string()], framing, most).unwrap();
        let mut all = Vec::new();
        while let Some(records) = source.next_batch().unwrap() {
            for index in 0..records.len() {
                let long = records.oversized.iter().find(|(i, _)| *i == index).map(|(_, l)| *l);
                all.push((records.offsets[index], records.get(index).to_vec(), long));
            }
        }
        assert_eq!(source.read_bytes(), content.len() as u64);
        std::fs::remove_dir_all(&folder).unwrap();
        all
    }

    #[test]
    fn lines_keep_their_numbers_and_empty_ones_are_left_out() {
        let records = read("lines", b"a\n\nb\r\nlast", Framing::Lines, 100);
        assert_eq!(
            records,
            [(1, b"a".to_vec(), None), (3, b"b".to_vec(), None), (4, b"last".to_vec(), None)]
        );
    }

    #[test]
    fn a_record_longer_than_memory_allows_is_cut_and_its_neighbours_stay() {
        let mut content = b"first\n".to_vec();
        content.extend(std::iter::repeat_n(b'x', 3 * READ));
        content.extend_from_slice(b"\nlast\n");
        let records = read("long", &content, Framing::Lines, 10);
        assert_eq!(records[0], (1, b"first".to_vec(), None));
        assert_eq!(records[1], (2, vec![b'x'; 10], Some(3 * READ as u64)));
        assert_eq!(records[2], (3, b"last".to_vec(), None));
        assert_eq!(records.len(), 3);
    }

    #[test]
    fn a_quoted_line_end_does_not_end_a_csv_record() {
        let content = b"h1,h2\n\"a\nb\",1\nc,2\n";
        let records = read("csv", content, Framing::Csv { header: true }, 100);
        assert_eq!(records[0].1, b"\"a\nb\",1");
        assert_eq!(records[1].1, b"c,2");
        assert_eq!(records.len(), 2);
    }

    #[test]
    fn a_document_is_one_record() {
        assert_eq!(read("whole", b"[1,\n2]", Framing::Whole, 100), [(0, b"[1,\n2]".to_vec(), None)]);
    }

    /// Reads a file from a place up to a byte; gives the records with their numbers, and the place behind each batch.
    fn part(path: &Path, framing: Framing, from: FilePlace, to: u64) -> (Vec<(i64, String)>, FilePlace) {
        let mut source = FileSource::part(path, framing, 1_000, from, to).unwrap();
        let mut all = Vec::new();
        while let Some(records) = source.next_batch().unwrap() {
            for index in 0..records.len() {
                let header = records.header.as_deref().map(|h| String::from_utf8_lossy(h).into_owned());
                let text = String::from_utf8_lossy(records.get(index)).into_owned();
                all.push((records.offsets[index], format!("{}{text}", header.unwrap_or_default())));
            }
            assert_eq!(source.ends().unwrap(), std::fs::read(path).unwrap()[..source.place().bytes as usize]);
        }
        (all, source.place())
    }

    #[test]
    fn a_file_read_in_any_two_parts_gives_the_records_of_one() {
        let folder = std::env::temp_dir().join(format!("manumit-parts-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("sample");
        let csv = Framing::Csv { header: true };
        for (content, framing) in [
            (&b"a\n\nbb\r\nccc\n\nd\n"[..], Framing::Lines),
            (b"a\nlast without end", Framing::Lines),
            (b"\nh1,h2\n1,2\n\"x\ny\",3\r\n4,5\n", csv),
        ] {
            std::fs::write(&path, content).unwrap();
            let length = content.len() as u64;
            let (wanted, end) = part(&path, framing, FilePlace::default(), length);
            assert!(wanted.len() > 1 && end.bytes == length, "{wanted:?} {end:?}");
            for cut in 0..=length {
                let (mut records, place) = part(&path, framing, FilePlace::default(), cut);
                assert!(place.bytes <= cut);
                let (more, place) = part(&path, framing, place, length);
                records.extend(more);
                assert_eq!((&records, place), (&wanted, end), "cut at {cut}");
            }
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_last_line_without_end_may_get_its_end_later_but_not_more_text() {
        let folder = std::env::temp_dir().join(format!("manumit-continued-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("sample");
        std::fs::write(&path, b"a\nb").unwrap();
        let (records, place) = part(&path, Framing::Lines, FilePlace::default(), 3);
        assert_eq!((records.len(), place), (2, FilePlace { next: 3, bytes: 3 }));
        for (end, offset) in [(&b"\nc\n"[..], 3), (b"\r\nc\n", 3)] {
            std::fs::write(&path, [b"a\nb", end].concat()).unwrap();
            let (records, _) = part(&path, Framing::Lines, place, 10);
            assert_eq!(records, [(offset, "c".to_string())]);
        }
        std::fs::write(&path, b"a\nbc\n").unwrap();
        let error = FileSource::part(&path, Framing::Lines, 10, place, 5).err().unwrap().to_string();
        assert!(error.contains("line 2 had no line end") && error.contains("sample"), "{error}");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_path_that_names_nothing_is_said() {
        let error = list_files(&["/no/such/*.jsonl".into()]).unwrap_err();
        assert!(error.to_string().contains("/no/such/*.jsonl"), "{error}");
    }
}
