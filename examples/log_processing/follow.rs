//! Files that grow, read as they grow.
//!
//! What can happen to a file that is followed:
//!
//! - It is renamed and created again (`logrotate`). What has the name now is read from its beginning. The file of before is
//!   read on beside it, for a program may go on writing to it for a while, until it is deleted or the next one is renamed.
//! - It is renamed several times before anybody looks. The files in between are found as `NAME.1`, `NAME.2`, .., and are
//!   read. If the first of them was deleted in the meantime, so may others have been, and lines may be missing; that is a
//!   fault, and is told.
//! - It is emptied (`copytruncate`). It is shorter than what was read of it, and is read from its beginning.
//! - It is not there. It is read from its beginning when it comes.
//! - It is no file any more, but a named pipe or a folder. That is a fault, until it is a file again.
//!
//! Nothing here waits: somebody asks from time to time, and gets the lines that have come.

use std::cmp::Reverse;
use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use streamz::{BoxError, LineReader, Result};

use crate::args::Args;
use crate::input::{self, Reading};
use crate::interruptible::Stop;
use crate::lines::{Line, lines};

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
            let mut tail = Tail {
                path: path.clone(),
                name,
                file,
                notes: Arc::clone(notes),
                reading: Arc::clone(reading),
                current: None,
                previous: Vec::new(),
                numbered: Vec::new(),
            };
            tail.numbered = tail.numbered().iter().map(|it| it.identity).collect();
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
        places.filter(|place| place.reader.partial_len() > 0).count()
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
    reading: Arc<Reading>,
    /// What had the name when it was last looked at.
    current: Option<Place>,
    /// What had it before, the eldest first.
    previous: Vec<Place>,
    /// What was there as `NAME.1`, `NAME.2`, .. when it was last looked at.
    numbered: Vec<Identity>,
}

impl Tail {
    fn note(&self, what: &str) {
        (self.notes)(&format!("{what} {}", self.name));
    }

    /// The next line that has come, if any.
    fn next(&mut self) -> io::Result<Option<Line>> {
        if let Some(line) = self.next_of_previous()? {
            return Ok(Some(line));
        }
        loop {
            if let Some(current) = &mut self.current {
                if let Some(line) = current.next(self.file)? {
                    return Ok(Some(line));
                }
                if current.is_shorter_than_read()? {
                    self.note("emptied:");
                    let Some(current) = &mut self.current else { return Ok(None) };
                    // Its end will not come any more.
                    let last = current.last(self.file)?;
                    current.start_over()?;
                    // Perhaps it was copied before.
                    self.numbered = self.numbered().iter().map(|it| it.identity).collect();
                    if last.is_some() {
                        return Ok(last);
                    }
                    continue;
                }
            }
            let there = match std::fs::metadata(&self.path) {
                Ok(meta) => identity(&meta),
                // Renamed, and not created again yet: more may still come to what we have.
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
            self.turn_to(place);
            if let Some(line) = self.next_of_previous()? {
                return Ok(Some(line));
            }
        }
    }

    /// The next line of what had the name before.
    fn next_of_previous(&mut self) -> io::Result<Option<Line>> {
        let mut index = 0;
        while let Some(place) = self.previous.get_mut(index) {
            // Before it is read: what is added to a deleted file after that is not read.
            let is_over = place.is_let_go || place.is_deleted();
            let line = if is_over { place.last(self.file)? } else { place.next(self.file)? };
            if line.is_some() {
                return Ok(line);
            }
            if is_over {
                self.previous.remove(index);
            } else {
                index += 1;
            }
        }
        Ok(None)
    }

    /// Another file has the name now.
    fn turn_to(&mut self, place: Place) {
        self.previous.iter_mut().for_each(|previous| previous.is_let_go = true);
        let Some(before) = self.current.replace(place) else {
            self.note("following");
            return;
        };
        self.note("renamed and created again:");
        let is_deleted = before.is_deleted();
        self.previous.push(before);
        let mut between = self.numbered();
        let all = between.iter().map(|it| it.identity).collect();
        between.retain(|it| {
            let mut places = self.previous.iter().chain(&self.current);
            !self.numbered.contains(&it.identity) && places.all(|place| place.identity != it.identity)
        });
        self.numbered = all;
        if between.is_empty() {
            return;
        }
        self.note(&format!("renamed {} times since it was last looked at:", between.len() + 1));
        // The eldest first.
        between.sort_by_key(|it| (it.changed, Reverse(it.number)));
        for it in between {
            match Place::open(&it.path, true) {
                Ok(place) if place.identity == it.identity => self.previous.push(place),
                _ => self.lost(),
            }
        }
        if is_deleted {
            self.lost();
        }
    }

    fn lost(&self) {
        let fault = format!("lines of {} may be missing: it was renamed faster than it was read", self.name);
        if self.reading.add_fault(fault) {
            self.note("lines may be missing of");
        }
    }

    /// What is there as `NAME.1`, `NAME.2`, ..
    fn numbered(&self) -> Vec<Numbered> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = self.path.file_name().unwrap_or_default().as_encoded_bytes();
        let number = |other: &OsStr| -> Option<u64> {
            let number = other.as_encoded_bytes().strip_prefix(name)?.strip_prefix(b".")?;
            std::str::from_utf8(number).ok()?.parse().ok()
        };
        // The folder may come, as the file may; and it may be one that must not be read, though the file may.
        let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
        let numbered = entries.filter_map(|entry| {
            let (number, path) = (number(&entry.file_name())?, entry.path());
            let meta = std::fs::metadata(&path).ok().filter(Metadata::is_file)?;
            Some(Numbered { number, path, changed: meta.modified().ok(), identity: identity(&meta) })
        });
        numbered.collect()
    }
}

/// A file that is called like one that is followed, with a number behind.
struct Numbered {
    number: u64,
    path: PathBuf,
    changed: Option<SystemTime>,
    identity: Identity,
}

/// A place in a file.
struct Place {
    reader: LineReader<BufReader<File>>,
    identity: Identity,
    /// Whether its lines are counted from where it was first looked at.
    relative: bool,
    /// Whether nothing more is expected of it, once it has been read to its end.
    is_let_go: bool,
}

impl Place {
    fn open(path: &Path, from_start: bool) -> io::Result<Self> {
        let mut file = open_at_once(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("only files can be followed"));
        }
        let mut start = Vec::new();
        file.by_ref().take(input::START).read_to_end(&mut start)?;
        if input::is_gzip(&start)? {
            return Err(io::Error::other("a gzip file cannot be followed"));
        }
        let mut is_in_a_line = false;
        if from_start {
            file.rewind()?;
        } else if file.seek(SeekFrom::End(0))? > 0 {
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            is_in_a_line = last != *b"\n";
        }
        let reader = lines(BufReader::with_capacity(BLOCK, file));
        let reader = if is_in_a_line { reader.skip_partial() } else { reader };
        Ok(Self { reader, identity: identity(&meta), relative: !from_start, is_let_go: false })
    }

    /// The next line that has come.
    fn next(&mut self, file: u32) -> io::Result<Option<Line>> {
        Ok(self.reader.next_complete_line()?.map(|line| Line::new(file, self.relative, line)))
    }

    /// The next line when no more will come: what stands after the last line end is one, too.
    fn last(&mut self, file: u32) -> io::Result<Option<Line>> {
        Ok(self.reader.next_line()?.map(|line| Line::new(file, self.relative, line)))
    }

    fn meta(&self) -> io::Result<Metadata> {
        self.reader.get_ref().get_ref().metadata()
    }

    fn is_shorter_than_read(&mut self) -> io::Result<bool> {
        Ok(self.meta()?.len() < self.reader.get_mut().stream_position()?)
    }

    fn start_over(&mut self) -> io::Result<()> {
        let mut file = self.reader.get_ref().get_ref().try_clone()?;
        file.rewind()?;
        self.reader = lines(BufReader::with_capacity(BLOCK, file));
        self.relative = false;
        Ok(())
    }

    #[cfg(unix)]
    fn is_deleted(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        self.meta().is_ok_and(|meta| meta.nlink() == 0)
    }

    #[cfg(not(unix))]
    fn is_deleted(&self) -> bool {
        false
    }
}

/// Opens a file; a named pipe as well, which otherwise would keep one waiting until it is written to.
fn open_at_once(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    options.open(path)
}

/// Tells a file from another that has its name. When a file is deleted the system may use its number again, so when it was
/// made counts as well, where that is known.
type Identity = (u64, u64, Option<SystemTime>);

fn identity(meta: &Metadata) -> Identity {
    #[cfg(unix)]
    let (device, number) = (std::os::unix::fs::MetadataExt::dev(meta), std::os::unix::fs::MetadataExt::ino(meta));
    #[cfg(not(unix))]
    let (device, number) = (0, 0);
    (device, number, meta.created().ok())
}
