//! [`Place`]: an open file, and how far it has been read.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
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
    start: u64,
    /// The first bytes, as far as they had been read at the last check.
    head: Vec<u8>,
    /// Length and time of change at the last check.
    seen: (u64, Option<SystemTime>),
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
        let head = head(&file, start)?;
        let reader = LineReader::new(BufReader::with_capacity(BLOCK, file)).with_max_len(max_len);
        let seen = (meta.len(), meta.modified().ok());
        Ok(Self { reader, identity: identity(meta), start, head, seen, is_let_go: false })
    }

    /// How far it has been read.
    fn position(&self) -> u64 {
        self.start + self.reader.consumed
    }

    pub(super) fn is_within_a_line(&self) -> bool {
        self.reader.partial_len() > 0
    }

    /// The next line that is complete. Continues to read until `is_unwanted`.
    pub(super) fn next(&mut self, path: &Arc<Path>, is_unwanted: impl Fn() -> bool) -> io::Result<Option<FileLine>> {
        loop {
            if self.reader.buffered == 0 {
                before_blocking();
            }
            match self.reader.look()? {
                Step::Line(line) => return Ok(Some(FileLine::new(path, self.start, self.position(), line))),
                Step::Nothing => {
                    self.note_head()?;
                    return Ok(None);
                }
                // A line need not end.
                Step::More if is_unwanted() => return Ok(None),
                Step::More => {}
            }
        }
    }

    /// The next line of a file to which nothing more is added: the rest after the last line end is a line, too.
    pub(super) fn last(&mut self, path: &Arc<Path>, is_unwanted: impl Fn() -> bool) -> io::Result<Option<FileLine>> {
        let line = self.next(path, &is_unwanted)?;
        Ok(if line.is_none() && !is_unwanted() { self.rest(path) } else { line })
    }

    /// The last line, which will not be completed.
    pub(super) fn rest(&mut self, path: &Arc<Path>) -> Option<FileLine> {
        let (start, end) = (self.start, self.position());
        self.reader.cutter.rest().map(|line| FileLine::new(path, start, end, line))
    }

    /// Whether the file, which has been read to its end, has been truncated since, or overwritten.
    pub(super) fn was_emptied(&mut self) -> io::Result<bool> {
        let meta = self.file().metadata()?;
        let seen = (meta.len(), meta.modified().ok());
        if seen == self.seen {
            return Ok(false);
        }
        self.seen = seen;
        if meta.len() < self.position() {
            return Ok(true);
        }
        Ok(!head(self.file(), self.position())?.starts_with(&self.head))
    }

    /// At the end of the file: later bytes are appended to it.
    fn note_head(&mut self) -> io::Result<()> {
        if (self.head.len() as u64) < HEAD.min(self.position()) {
            self.head = head(self.file(), self.position())?;
        }
        Ok(())
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

    /// Continues in the file of that path, if it is a copy of what this file was. Returns false if it is not.
    pub(super) fn go_on_in(&mut self, copy: &Path) -> io::Result<bool> {
        let position = self.position();
        let file = File::open(copy)?;
        let meta = file.metadata()?;
        let is_longer = meta.len() >= position && !self.head.is_empty();
        if !is_longer || !head(&file, position)?.starts_with(&self.head) {
            return Ok(false);
        }
        *self.reader.get_mut() = BufReader::with_capacity(BLOCK, file);
        self.identity = identity(&meta);
        Ok(true)
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

/// The first bytes of a file, of those before `position`, to which it returns.
fn head(mut file: &File, position: u64) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    file.rewind()?;
    file.take(HEAD.min(position)).read_to_end(&mut head)?;
    file.seek(SeekFrom::Start(position))?;
    Ok(head)
}

fn check(meta: &Metadata) -> io::Result<()> {
    if meta.is_file() { Ok(()) } else { Err(io::Error::other("only files can be followed")) }
}
