//! [`Place`]: an open file, and how far it has been read.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::options::FollowStart;
use crate::clock::wait::before_blocking;
use crate::stream::origin::file_line::FileLine;
use crate::stream::origin::line_reader::{LineReader, Step};

const BLOCK: usize = 64 * 1024;

/// The number of bytes at its beginning that distinguish a file from one that was written in its place.
const HEAD: u64 = 256;

/// Distinguishes a file from another one with its name. An open file keeps its number, but that of a closed one may be
/// reused, so its creation time counts as well, if known.
pub(super) type Identity = (u64, u64, Option<SystemTime>);

pub(super) fn identity(meta: &Metadata) -> Identity {
    #[cfg(unix)]
    let (device, number) = (std::os::unix::fs::MetadataExt::dev(meta), std::os::unix::fs::MetadataExt::ino(meta));
    #[cfg(not(unix))]
    let (device, number) = (0, 0);
    (device, number, meta.created().ok())
}

pub(super) struct Place {
    reader: LineReader<BufReader<File>>,
    pub(super) identity: Identity,
    /// Where reading began.
    pub(super) start: u64,
    /// The first bytes, as far as they have been read.
    head: Vec<u8>,
    /// Length and time of change at the last check.
    seen: (u64, Option<SystemTime>),
    /// Whether the last check found the same as the one before.
    is_settled: bool,
    /// Whether the last read has come to its end.
    is_at_end: bool,
    /// Whether nothing more is expected of it, once it has been read to its end.
    pub(super) is_let_go: bool,
}

impl Place {
    pub(super) fn open(path: &Path, start: FollowStart, max_len: usize) -> io::Result<Self> {
        // Before it is opened: opening a named pipe may block until it is written to.
        check(&std::fs::metadata(path)?)?;
        let mut file = File::open(path)?;
        let meta = file.metadata()?;
        check(&meta)?;
        let offset = match start {
            FollowStart::Beginning => 0,
            FollowStart::End => meta.len(),
            FollowStart::Offset(offset) => Some(offset).filter(|offset| *offset <= meta.len()).unwrap_or(0),
        };
        let mut is_within_a_line = false;
        if let Some(before) = offset.checked_sub(1) {
            file.seek(SeekFrom::Start(before))?;
            let mut last = [b'\n'];
            file.read_exact(&mut last)?;
            is_within_a_line = last != *b"\n";
        }
        let mut place = Self::of_file(file, &meta, offset, max_len)?;
        if is_within_a_line {
            place.reader = place.reader.skip_partial();
        }
        Ok(place)
    }

    /// A file whose reading starts at `start`.
    fn of_file(file: File, meta: &Metadata, start: u64, max_len: usize) -> io::Result<Self> {
        let head = head(&file, start, start)?;
        let reader = LineReader::new(BufReader::with_capacity(BLOCK, file)).with_max_len(max_len);
        let seen = (meta.len(), meta.modified().ok());
        let identity = identity(meta);
        Ok(Self { reader, identity, start, head, seen, is_settled: false, is_at_end: false, is_let_go: false })
    }

    /// How far it has been read.
    fn position(&self) -> u64 {
        self.start + self.reader.consumed
    }

    pub(super) fn is_within_a_line(&self) -> bool {
        self.reader.partial_len() > 0
    }

    /// The next line that is complete. Continues to read until `is_unwanted`, at most to the end of the block: then there
    /// is none, but the file is not [at its end](Self::is_at_end).
    pub(super) fn next(&mut self, path: &Arc<Path>, is_unwanted: impl Fn() -> bool) -> io::Result<Option<FileLine>> {
        if self.reader.buffered == 0 {
            before_blocking();
            self.fill();
        }
        loop {
            match self.reader.look()? {
                Step::Line(line) => return Ok(Some(FileLine::new(path, self.start, self.position(), line))),
                Step::Nothing => {
                    self.is_at_end = true;
                    return Ok(None);
                }
                // A line need not end.
                Step::More if is_unwanted() || self.reader.buffered == 0 => {
                    self.is_at_end = false;
                    return Ok(None);
                }
                Step::More => {}
            }
        }
    }

    /// The next line of a file to which nothing more is added: the rest after the last line end is a line, too.
    pub(super) fn last(&mut self, path: &Arc<Path>, is_unwanted: impl Fn() -> bool) -> io::Result<Option<FileLine>> {
        let line = self.next(path, &is_unwanted)?;
        Ok(if line.is_none() && self.is_at_end && !is_unwanted() { self.rest(path) } else { line })
    }

    /// Whether the last read has found nothing more.
    pub(super) fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// When the file had last been changed at the last check.
    pub(super) fn changed(&self) -> Option<SystemTime> {
        self.seen.1
    }

    /// The last line, which will not be completed.
    pub(super) fn rest(&mut self, path: &Arc<Path>) -> Option<FileLine> {
        let (start, end) = (self.start, self.position());
        self.reader.cutter.rest().map(|line| FileLine::new(path, start, end, line))
    }

    /// Reads the next block, and keeps the first bytes of the file. An error is left to the next attempt.
    fn fill(&mut self) {
        let position = self.position();
        if let Ok(block) = self.reader.get_mut().fill_buf()
            && self.head.len() as u64 == position
        {
            self.head.extend(block.iter().take((HEAD - position.min(HEAD)) as usize));
        }
    }

    /// Whether a new block is needed, and the file may have changed since this was last asked.
    ///
    /// After a change it is true once more: the clock of a file system may tick every few milliseconds only, so that
    /// the next change has the same time.
    pub(super) fn may_have_changed(&mut self) -> io::Result<bool> {
        if self.reader.buffered > 0 {
            return Ok(false);
        }
        let meta = self.file().metadata()?;
        let seen = (meta.len(), meta.modified().ok());
        let is_same = seen == std::mem::replace(&mut self.seen, seen);
        let was_settled = std::mem::replace(&mut self.is_settled, is_same);
        Ok(!is_same || !was_settled)
    }

    /// Whether it can be seen that the file has been emptied: it is shorter than what was read of it, or begins
    /// differently.
    pub(super) fn was_emptied(&self) -> io::Result<bool> {
        let position = self.position();
        Ok(self.seen.0 < position || !head(self.file(), position, position)?.starts_with(&self.head))
    }

    /// Whether so little was read that other contents may begin in the same way.
    pub(super) fn is_young(&self) -> bool {
        (self.head.len() as u64) < HEAD
    }

    fn file(&self) -> &File {
        self.reader.get_ref().get_ref()
    }

    /// The same file, from its beginning. This place must not be read any more, unless it [continues](Self::go_on_in)
    /// elsewhere.
    pub(super) fn start_over(&self) -> io::Result<Self> {
        let mut file = self.file().try_clone()?;
        file.rewind()?;
        let meta = file.metadata()?;
        Self::of_file(file, &meta, 0, self.reader.cutter.max_len())
    }

    /// Whether `copy`, which has not been read, can be a copy of what has been read here, and perhaps of more.
    pub(super) fn is_copied_in(&self, copy: &Self) -> io::Result<bool> {
        let begin = head(copy.file(), self.head.len() as u64, 0)?;
        Ok(copy.file().metadata()?.len() > 0 && self.head.starts_with(&begin))
    }

    /// As [`is_copied_in`](Self::is_copied_in), if anything has been read.
    pub(super) fn is_begun_in(&self, copy: &Self) -> bool {
        !self.head.is_empty() && self.is_copied_in(copy).unwrap_or(false)
    }

    /// Whether this file, of which no block is in use, still begins with all that is in `copy`, which has
    /// not been read and is not empty.
    pub(super) fn holds(&self, copy: &Self) -> io::Result<bool> {
        // The copy first: if it is still being made, the file has at least as much.
        let (len, begin) = (copy.file().metadata()?.len(), head(copy.file(), HEAD, 0)?);
        Ok(0 < len
            && len <= self.file().metadata()?.len()
            && head(self.file(), HEAD, self.position())?.starts_with(&begin))
    }

    /// Continues in `copy`, which has not been read.
    pub(super) fn go_on_in(&mut self, mut copy: Self) -> io::Result<()> {
        let position = self.position();
        std::mem::swap(self.reader.get_mut(), copy.reader.get_mut());
        self.reader.get_mut().seek(SeekFrom::Start(position))?;
        self.identity = copy.identity;
        Ok(())
    }

    /// Whether no name leads to it any more.
    #[cfg(unix)]
    pub(super) fn is_deleted(&self) -> bool {
        self.file().metadata().is_ok_and(|meta| std::os::unix::fs::MetadataExt::nlink(&meta) == 0)
    }

    #[cfg(not(unix))]
    pub(super) fn is_deleted(&self) -> bool {
        false
    }
}

/// The first bytes of a file, at most `len` and [`HEAD`]. The next read is at `position`.
fn head(mut file: &File, len: u64, position: u64) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    file.rewind()?;
    file.take(HEAD.min(len)).read_to_end(&mut head)?;
    file.seek(SeekFrom::Start(position))?;
    Ok(head)
}

fn check(meta: &Metadata) -> io::Result<()> {
    if meta.is_file() { Ok(()) } else { Err(io::Error::other("only files can be followed")) }
}
