//! [`Files`]: the lines of existing files, one file after the other.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::Site;
use super::directory::{Directory, Found, Walk};
use super::file_line::{FileError, FileLine, checked};
use super::line_reader::{LineReader, Step};
use crate::clock::wait::{Waiter, before_blocking};
use crate::edge::{End, Polled};
use crate::error::{ErrorKind, PanicMessage};
use crate::panic;
use crate::pipeline::CancelToken;
use crate::stage::input::Feed;
use crate::stage::thread::StageThread;
use crate::stream::Stream;

const BLOCK: usize = 64 * 1024;

/// The maximum length of a line unless set otherwise.
const MAX_LEN: usize = 1 << 20;

/// Selects the files that [`Stream::file_lines`] reads: one, several, or those of a [`Directory`].
///
/// ```
/// use streamz::{Files, Pipeline, Stream};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = std::env::temp_dir().join(format!("streamz-doc-files-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir)?;
/// # let (a, b) = (dir.join("a.txt"), dir.join("b.txt"));
/// std::fs::write(&a, "one\ntwo\n")?;
/// std::fs::write(&b, "three")?;
///
/// let pipeline = Pipeline::new("read");
/// let lines = Stream::file_lines(&pipeline, Files::list([a, b]).with_max_len(80))
///     .map(|line| format!("{}:{}", line.number, String::from_utf8_lossy(&line.bytes)))
///     .collect::<Vec<_>>()?;
/// assert_eq!(lines, ["1:one", "2:two", "1:three"]);
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok(())
/// # }
/// ```
#[must_use = "options do nothing until they are given to `Stream::file_lines`"]
pub struct Files {
    names: Names,
    max_len: usize,
}

enum Names {
    List(Box<dyn Iterator<Item = PathBuf> + Send>),
    Walk(Box<Walk>),
}

impl Files {
    /// Selects one file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path: PathBuf = path.into();
        Self::list([path])
    }

    /// Selects several files, in this order. The iterator is asked for the next one when the last one has been read.
    pub fn list<I>(paths: I) -> Self
    where
        I: IntoIterator<Item: Into<PathBuf> + 'static>,
        I::IntoIter: Send + 'static,
    {
        Self { names: Names::List(Box::new(paths.into_iter().map(Into::into))), max_len: MAX_LEN }
    }

    /// Selects the files of a folder.
    pub fn of_directory(directory: impl Into<Directory>) -> Self {
        Self { names: Names::Walk(Box::new(Walk::new(directory.into()))), max_len: MAX_LEN }
    }

    /// Sets the greatest length of a line in bytes, without its end. Defaults to 1 MiB; 0 allows empty lines only.
    pub fn with_max_len(mut self, bytes: usize) -> Self {
        self.max_len = bytes;
        self
    }
}

impl From<Directory> for Files {
    fn from(directory: Directory) -> Self {
        Self::of_directory(directory)
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("max_len", &self.max_len).finish_non_exhaustive()
    }
}

/// Converts a path into options for it.
macro_rules! from_path {
    ($options:ident: $($path:ty),+) => {
        $(impl From<$path> for $options {
            fn from(path: $path) -> Self {
                Self::new(path)
            }
        })+
    };
    ($options:ident) => {
        $crate::stream::origin::files::from_path! {
            $options: std::path::PathBuf, &std::path::PathBuf, &std::path::Path, String, &String, &str
        }
    };
}

pub(super) use from_path;

from_path!(Files);

/// The source: at most one file is open.
struct Reading {
    names: Names,
    open: Option<(Arc<Path>, LineReader<BufReader<File>>)>,
    max_len: usize,
    site: Site,
    ended: bool,
}

impl Reading {
    fn read(&mut self) -> Polled<FileLine> {
        loop {
            match &mut self.open {
                None => match self.next_path() {
                    Ok(path) => {
                        if let Err(error) = self.open(&path) {
                            return self.unreadable(path.into(), error);
                        }
                    }
                    Err(polled) => return polled,
                },
                Some((path, reader)) => {
                    if reader.buffered == 0 && !reader.ended {
                        before_blocking();
                    }
                    match reader.step() {
                        Ok(Step::Line(line)) => {
                            let line = FileLine::new(path, 0, reader.consumed, line);
                            return Polled::Item(self.item(line));
                        }
                        Ok(Step::Nothing) => self.open = None,
                        // A line need not end.
                        Ok(Step::More) if self.site.token.is_cancelled() => return Polled::Empty,
                        Ok(Step::More) if self.site.token.is_draining() => return Polled::Ended(End::Finished),
                        Ok(Step::More) => {}
                        Err(error) => {
                            let path = Arc::clone(path);
                            self.open = None;
                            return self.unreadable(path, error);
                        }
                    }
                }
            }
        }
    }

    /// The next file, or the poll result if there is none.
    fn next_path(&mut self) -> Result<PathBuf, Polled<FileLine>> {
        match &mut self.names {
            Names::List(paths) => paths.next().ok_or_else(|| self.over()),
            Names::Walk(walk) => match walk.next(&self.site.token) {
                Found::File(path) => Ok(path),
                Found::Error(error) => Err(Polled::Item(Err(self.error(error)))),
                Found::Nothing => Err(Polled::Empty),
                Found::End => Err(self.over()),
            },
        }
    }

    fn over(&mut self) -> Polled<FileLine> {
        self.ended = true;
        Polled::Ended(End::Finished)
    }

    fn open(&mut self, path: &Path) -> io::Result<()> {
        before_blocking();
        let reader = BufReader::with_capacity(BLOCK, File::open(path)?);
        self.open = Some((path.into(), LineReader::new(reader).with_max_len(self.max_len)));
        Ok(())
    }

    fn item(&self, line: FileLine) -> crate::Result<FileLine> {
        checked(line, self.max_len)
            .map_err(|(reason, line)| self.site.error(|it| it.with_source(reason).with_item(line), ErrorKind::Failed))
    }

    #[cold]
    fn unreadable(&self, path: Arc<Path>, source: io::Error) -> Polled<FileLine> {
        Polled::Item(Err(self.error(FileError::Unreadable { path, source })))
    }

    #[cold]
    fn error(&self, error: FileError) -> crate::StreamError {
        self.site.error(|it| it.with_source(error), ErrorKind::Failed)
    }
}

impl Feed for Reading {
    type Item = FileLine;
    type Hand = ();

    fn poll(&mut self) -> Polled<FileLine> {
        if self.ended {
            return Polled::Ended(End::Finished);
        }
        panic::catch(|| self.read()).unwrap_or_else(|payload| {
            self.ended = true;
            Polled::Ended(self.site.died(PanicMessage::from(payload)))
        })
    }

    fn is_drained(&self) -> bool {
        self.site.token.is_draining()
    }

    fn wait(
        &self,
        thread: &StageThread,
        until: Option<Instant>,
        hint: impl FnMut() -> bool,
        register: impl FnOnce(&Waiter) -> bool,
    ) {
        if let Names::Walk(walk) = &self.names {
            walk.wait(thread, until, hint, register);
        }
    }

    fn publish(&mut self, made: u64) {
        self.site.publish(made);
    }
}

impl Stream<FileLine> {
    /// Reads the lines of files, one file after the other, on a thread of its own. Each line knows its file and its number.
    ///
    /// Takes the path of a file, a [`Directory`], or [`Files`] with more options. A file is read to its present end;
    /// for one that grows, see [`follow`](Stream::follow). At most one file is open. To read several at a time, read
    /// them in a pool: see [`Stream::directory`].
    ///
    /// # Errors
    /// Error items are of kind [`Failed`](ErrorKind::Failed) and have a [`FileError`] as their source, which names the file:
    ///
    /// - a file that cannot be opened or read; reading continues with the next one;
    /// - a line that is longer than is [allowed](Files::with_max_len); it carries the beginning of the line as a [`FileLine`].
    ///
    /// A panic of the iterator or of the filter cuts the stream.
    ///
    /// # Cancellation
    /// Stops between two lines or blocks. A drain takes effect when the line has been read, and leaves the rest of the file.
    ///
    /// # Memory
    /// A buffer of 64 KiB and the longest line, and what the [directory](Stream::directory) needs.
    ///
    /// # Panics
    /// If `cancel` belongs to no pipeline, or to one that has finished.
    #[doc(alias("from_path", "from_file", "read_lines", "open"))]
    #[track_caller]
    pub fn file_lines(cancel: &CancelToken, files: impl Into<Files>) -> Self {
        let Files { names, max_len } = files.into();
        Self::source(cancel, "file_lines", move |site| Reading { names, open: None, max_len, site, ended: false })
    }
}
