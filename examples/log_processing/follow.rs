//! Files that grow, read as they grow.
//!
//! What can happen to a file that is followed:
//!
//! - It is renamed and made anew (`logrotate`). What has the name now is read from its beginning. The file of before is
//!   read on beside it, for a program may go on writing to it for a while, until it is deleted or the next one is renamed.
//! - It is emptied (`copytruncate`). It is shorter than what was read of it, and is read from its beginning.
//! - It is not there. It is read from its beginning when it comes.
//!
//! Nothing here waits: somebody asks from time to time, and gets the lines that have come.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use streamz::{BoxError, Result};

use crate::args::Args;
use crate::input::{self, Reading};
use crate::interruptible::Stop;
use crate::lines::{At, Cutter, Line, Raw};

const BLOCK: usize = 64 * 1024;

/// How many lines of one file come before it is the turn of the next: a busy file must not keep the others waiting.
const TURN: usize = 1000;

/// Told what happens to the files.
pub(crate) type Notes = Arc<dyn Fn(&str) + Send + Sync>;

/// The files that are followed. Clones are the same.
#[derive(Clone)]
pub(crate) struct Follower {
    inner: Arc<Mutex<Inner>>,
    reading: Arc<Reading>,
    stop: Stop,
}

struct Inner {
    tails: Vec<Tail>,
    /// Whose turn it is, how many lines it has given, and how many files in a row had nothing.
    turn: usize,
    taken: usize,
    silent: usize,
}

impl Follower {
    /// Goes to the end of each file that is there, or stays at its beginning. One that is not there may come.
    pub(crate) fn open(args: &Args, reading: &Arc<Reading>, stop: &Stop, notes: &Notes) -> Result<Self, BoxError> {
        let tails = args.files.iter().zip(input::names(args)).zip(0..).map(|((path, name), file)| {
            let mut tail =
                Tail { path: path.clone(), name, file, notes: Arc::clone(notes), current: None, previous: None };
            match Place::open(path, args.from_start) {
                Ok(place) => {
                    tail.note("following");
                    tail.current = Some(place);
                }
                Err(error) if error.kind() == ErrorKind::NotFound => tail.note("waiting for"),
                Err(error) => return Err(format!("cannot follow {}: {error}", tail.name).into()),
            }
            Ok(tail)
        });
        let inner = Inner { tails: tails.collect::<Result<_, BoxError>>()?, turn: 0, taken: 0, silent: 0 };
        Ok(Self { inner: Arc::new(Mutex::new(inner)), reading: Arc::clone(reading), stop: stop.clone() })
    }

    /// The lines that have come.
    pub(crate) fn news(&self) -> impl Iterator<Item = Line> + Send + use<> {
        let follower = self.clone();
        std::iter::from_fn(move || follower.next())
    }

    /// How many lines have begun and not ended.
    pub(crate) fn unfinished(&self) -> usize {
        let inner = self.inner.lock();
        let places = inner.tails.iter().flat_map(|tail| tail.current.iter().chain(&tail.previous));
        places.filter(|place| !place.cutter.is_empty()).count()
    }

    fn next(&self) -> Option<Line> {
        if self.stop.is_set() {
            return None;
        }
        let Inner { tails, turn, taken, silent } = &mut *self.inner.lock();
        while *silent < tails.len() {
            let tail = &mut tails[*turn];
            let found = tail.next().unwrap_or_else(|error| {
                // Perhaps it can be read later.
                if self.reading.add_fault(format!("cannot read {}: {error}", tail.name)) {
                    tail.note(&format!("for now cannot read ({error})"));
                }
                None
            });
            *taken += 1;
            if found.is_none() || *taken == TURN {
                *turn = (*turn + 1) % tails.len();
                *taken = 0;
            }
            if let Some(line) = found {
                *silent = 0;
                self.reading.add_line();
                return Some(line);
            }
            *silent += 1;
        }
        *silent = 0;
        None
    }
}

/// One name that is followed.
struct Tail {
    path: PathBuf,
    name: String,
    file: u32,
    notes: Notes,
    /// What had the name when it was last looked at.
    current: Option<Place>,
    /// What had it before.
    previous: Option<Place>,
}

impl Tail {
    fn note(&self, what: &str) {
        (self.notes)(&format!("{what} {}", self.name));
    }

    fn line(file: u32, place: &mut Place, raw: Raw) -> Line {
        place.number += 1;
        Line { at: At { file, number: place.number, relative: place.relative }, raw }
    }

    /// The next line that has come, if any.
    fn next(&mut self) -> io::Result<Option<Line>> {
        if let Some(previous) = &mut self.previous {
            if let Some(raw) = previous.next()? {
                return Ok(Some(Self::line(self.file, previous, raw)));
            }
            if previous.is_deleted() {
                let last = self.retire();
                if last.is_some() {
                    return Ok(last);
                }
            }
        }
        loop {
            if let Some(current) = &mut self.current {
                if let Some(raw) = current.next()? {
                    return Ok(Some(Self::line(self.file, current, raw)));
                }
                if current.is_shorter_than_read()? {
                    self.note("emptied:");
                    let Some(current) = &mut self.current else { return Ok(None) };
                    // Its end will not come any more.
                    let last = current.cutter.rest().map(|raw| Self::line(self.file, current, raw));
                    current.start_over()?;
                    if last.is_some() {
                        return Ok(last);
                    }
                    continue;
                }
            }
            let there = match std::fs::metadata(&self.path) {
                Ok(meta) => identity(&meta),
                // Renamed, and not made anew yet: more may still come to what we have.
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
            if self.current.as_ref().is_some_and(|current| current.identity == there) {
                return Ok(None);
            }
            let place = match Place::open(&self.path, true) {
                Ok(place) => place,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
            let last = self.retire();
            self.previous = self.current.replace(place);
            self.note(if self.previous.is_some() { "renamed and made anew:" } else { "following" });
            if last.is_some() {
                return Ok(last);
            }
        }
    }

    /// Lets go of the file of before; what may stand after its last line end is its last line.
    fn retire(&mut self) -> Option<Line> {
        let mut previous = self.previous.take()?;
        let raw = previous.cutter.rest()?;
        Some(Self::line(self.file, &mut previous, raw))
    }
}

/// A place in a file.
struct Place {
    reader: BufReader<File>,
    identity: Identity,
    cutter: Cutter,
    number: u64,
    relative: bool,
}

impl Place {
    fn open(path: &Path, from_start: bool) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("only files can be followed"));
        }
        let mut start = Vec::new();
        file.by_ref().take(2).read_to_end(&mut start)?;
        if start == input::GZIP_MAGIC {
            return Err(io::Error::other("a gzip file cannot be followed"));
        }
        let mut cutter = Cutter::default();
        if from_start {
            file.rewind()?;
        } else if file.seek(SeekFrom::End(0))? > 0 {
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                cutter = Cutter::in_the_middle();
            }
        }
        let reader = BufReader::with_capacity(BLOCK, file);
        Ok(Self { reader, identity: identity(&meta), cutter, number: 0, relative: !from_start })
    }

    fn next(&mut self) -> io::Result<Option<Raw>> {
        self.cutter.next(&mut self.reader)
    }

    fn is_shorter_than_read(&mut self) -> io::Result<bool> {
        Ok(self.reader.get_ref().metadata()?.len() < self.reader.stream_position()?)
    }

    fn start_over(&mut self) -> io::Result<()> {
        self.cutter = Cutter::default();
        (self.number, self.relative) = (0, false);
        self.reader.rewind()
    }

    #[cfg(unix)]
    fn is_deleted(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        self.reader.get_ref().metadata().is_ok_and(|meta| meta.nlink() == 0)
    }

    #[cfg(not(unix))]
    fn is_deleted(&self) -> bool {
        false
    }
}

/// Tells a file from another that has its name.
#[cfg(unix)]
type Identity = (u64, u64);

#[cfg(unix)]
fn identity(meta: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (meta.dev(), meta.ino())
}

#[cfg(not(unix))]
type Identity = Option<std::time::SystemTime>;

#[cfg(not(unix))]
fn identity(meta: &Metadata) -> Identity {
    meta.created().ok()
}
