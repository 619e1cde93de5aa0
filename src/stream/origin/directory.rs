//! [`Directory`]: the files of a folder.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::vec;

use super::Site;
use super::file_line::FileError;
use super::files::from_path;
use crate::clock::earlier;
use crate::clock::wait::{Waiter, before_blocking};
use crate::edge::{End, Polled};
use crate::error::{ErrorKind, PanicMessage};
use crate::panic;
use crate::pipeline::CancelToken;
use crate::pipeline::timing::Phase;
use crate::stage::input::Feed;
use crate::stage::thread::StageThread;
use crate::stream::Stream;

/// Selects the files of a folder that [`Stream::directory`] finds, or [`Stream::file_lines`] reads.
///
/// ```
/// use std::{fs, path::PathBuf};
/// use streamz::{CancelToken, Directory, Pipeline, Stream};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = std::env::temp_dir().join(format!("streamz-doc-directory-{}", std::process::id()));
/// # std::fs::create_dir_all(dir.join("b"))?;
/// for name in ["a.csv", "b/c.csv", "b/notes.txt", "d.csv"] {
///     fs::write(dir.join(name), name)?;
/// }
///
/// let pipeline = Pipeline::new("import");
/// let tables = Directory::new(&dir)
///     .recursive()
///     .with_filter(|path| path.extension().is_some_and(|it| it == "csv"));
/// let texts = Stream::directory(&pipeline, tables)
///     .async_map(4, |_: &CancelToken, path: &PathBuf| fs::read_to_string(path)) // four at a time
///     .collect::<Vec<_>>()?;
/// assert_eq!(texts, ["a.csv", "b/c.csv", "d.csv"]);
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok(())
/// # }
/// ```
#[must_use = "options do nothing until they are given to a source"]
#[doc(alias("glob", "walkdir", "read_dir"))]
pub struct Directory {
    path: PathBuf,
    recursive: bool,
    filter: Option<Filter>,
    watch: Option<Duration>,
}

type Filter = Box<dyn FnMut(&Path) -> bool + Send>;

impl Directory {
    /// Selects the files in a folder, in the order of their names.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), recursive: false, filter: None, watch: None }
    }

    /// Also finds the files in subfolders, each at the place of its name. Defaults to ignoring subfolders.
    ///
    /// Each folder is visited once, so symbolic links that lead back to a folder cause no loop.
    pub fn recursive(mut self) -> Self {
        self.recursive = true;
        self
    }

    /// Finds only files for whose path `filter` returns true. Defaults to all. It is not asked about folders. A panic cuts
    /// the stream.
    pub fn with_filter(mut self, filter: impl FnMut(&Path) -> bool + Send + 'static) -> Self {
        self.filter = Some(Box::new(filter));
        self
    }

    /// Keeps looking for new files, pausing for `interval` after each walk. Defaults to looking once.
    ///
    /// A file is known by its path; one that was removed and has come back is a new one. The files of a folder that
    /// could not be read for a time are not. A file is found as soon as it exists: write it under another name, or
    /// elsewhere, and rename it when it is complete.
    ///
    /// # Panics
    /// If `interval` is zero.
    #[doc(alias = "poll")]
    #[track_caller]
    pub fn watch(mut self, interval: Duration) -> Self {
        assert!(!interval.is_zero(), "`interval` must be greater than zero");
        self.watch = Some(interval);
        self
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory")
            .field("path", &self.path)
            .field("recursive", &self.recursive)
            .field("has_filter", &self.filter.is_some())
            .field("watch", &self.watch)
            .finish_non_exhaustive()
    }
}

from_path!(Directory);

/// A walk through a folder, or several walks one after the other.
pub(super) struct Walk {
    directory: Directory,
    /// The remaining entries of the open folders, the innermost last.
    open: Vec<vec::IntoIter<PathBuf>>,
    state: State,
    /// The folders that this walk has visited.
    visited: HashSet<PathBuf>,
    /// The paths that the last walk has met, and those that this one has; only if there is another one. In order, so
    /// that the entries of a folder follow it.
    before: BTreeMap<PathBuf, Known>,
    now: BTreeMap<PathBuf, Known>,
}

/// The state of a path.
#[derive(Clone, Copy, Default)]
struct Known {
    /// It was found.
    found: bool,
    /// It has been reported as unreadable, and still is.
    told: bool,
}

#[derive(Clone, Copy)]
enum State {
    /// The walk begins.
    Starts,
    Walks,
    /// It is over. When the next one begins; `None` for never.
    Waits(Option<Instant>),
}

/// The result of a step of the walk.
pub(super) enum Found {
    File(PathBuf),
    Error(FileError),
    /// There is nothing at present.
    Nothing,
    /// There will be nothing any more.
    End,
}

impl Walk {
    pub(super) fn new(directory: Directory) -> Self {
        Self {
            directory,
            open: Vec::new(),
            state: State::Starts,
            visited: HashSet::new(),
            before: BTreeMap::new(),
            now: BTreeMap::new(),
        }
    }

    /// The next file.
    pub(super) fn next(&mut self, token: &CancelToken) -> Found {
        loop {
            if token.is_cancelled() || token.is_draining() {
                return Found::Nothing;
            }
            match self.state {
                State::Waits(until) if until.is_none_or(|until| token.now() < until) => return Found::Nothing,
                State::Waits(_) | State::Starts => {
                    self.state = State::Walks;
                    let root = self.directory.path.clone();
                    if let Err(error) = self.enter(&root)
                        && let Some(error) = self.fails(root, error)
                    {
                        return Found::Error(error);
                    }
                }
                State::Walks => {}
            }
            let Some(folder) = self.open.last_mut() else {
                let Some(interval) = self.directory.watch else { return Found::End };
                self.visited.clear();
                // Paths that no longer exist are removed.
                self.before = std::mem::take(&mut self.now);
                self.state = State::Waits(token.now().checked_add(interval));
                continue;
            };
            let Some(path) = folder.next() else {
                self.open.pop();
                continue;
            };
            match self.look_at(&path) {
                Ok(true) if self.is_new(&path) => return Found::File(path),
                Ok(_) => {}
                Err(error) => {
                    if let Some(error) = self.fails(path, error) {
                        return Found::Error(error);
                    }
                }
            }
        }
    }

    /// Whether it is a wanted file. A folder is entered.
    fn look_at(&mut self, path: &Path) -> io::Result<bool> {
        let meta = fs::metadata(path)?;
        if meta.is_dir() && self.directory.recursive {
            self.enter(path)?;
        }
        Ok(meta.is_file() && self.directory.filter.as_mut().is_none_or(|filter| filter(path)))
    }

    fn enter(&mut self, folder: &Path) -> io::Result<()> {
        before_blocking();
        if self.directory.recursive && !self.visited.insert(fs::canonicalize(folder)?) {
            return Ok(());
        }
        let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        paths.sort_unstable();
        self.open.push(paths.into_iter());
        Ok(())
    }

    /// Whether the last walk has not found it.
    fn is_new(&mut self, path: &Path) -> bool {
        if self.directory.watch.is_none() {
            return true;
        }
        let before = self.before.get(path).copied().unwrap_or_default();
        self.now.insert(path.to_owned(), Known { found: true, told: false });
        !before.found
    }

    /// Something unreadable is reported once, until it can be read. A path that does not exist is new when it
    /// reappears, but the entries of an unreadable folder may still be there.
    fn fails(&mut self, path: PathBuf, source: io::Error) -> Option<FileError> {
        let before = self.before.get(&path).copied().unwrap_or_default();
        if self.directory.watch.is_some() {
            let is_gone = source.kind() == io::ErrorKind::NotFound;
            if !is_gone {
                let behind = self.before.range::<Path, _>((Bound::Excluded(&*path), Bound::Unbounded));
                let within = behind.take_while(|(other, _)| other.starts_with(&path));
                self.now.extend(within.map(|(other, known)| (other.clone(), *known)));
            }
            self.now.insert(path.clone(), Known { found: before.found && !is_gone, told: true });
        }
        (!before.told).then(|| FileError::Unreadable { path: path.into(), source })
    }

    /// As [`Feed::wait`].
    pub(super) fn wait(
        &self,
        thread: &StageThread,
        until: Option<Instant>,
        hint: impl FnMut() -> bool,
        register: impl FnOnce(&Waiter) -> bool,
    ) {
        let next = if let State::Waits(next) = self.state { next } else { None };
        let token = &thread.token;
        thread.wait(Phase::Idle, earlier(until, next), hint, |waiter| register(waiter) || token.is_draining());
    }
}

/// The source of paths.
struct Paths {
    walk: Walk,
    site: Site,
    ended: bool,
}

impl Feed for Paths {
    type Item = PathBuf;
    type Hand = ();

    fn poll(&mut self) -> Polled<PathBuf> {
        if self.ended {
            return Polled::Ended(End::Finished);
        }
        let Self { walk, site, .. } = self;
        match panic::catch(|| walk.next(&site.token)) {
            Ok(Found::File(path)) => Polled::Item(Ok(path)),
            Ok(Found::Error(error)) => Polled::Item(Err(site.error(|it| it.with_source(error), ErrorKind::Failed))),
            Ok(Found::Nothing) => Polled::Empty,
            Ok(Found::End) => Polled::Ended(End::Finished),
            Err(payload) => {
                self.ended = true;
                Polled::Ended(self.site.died(PanicMessage::from(payload)))
            }
        }
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
        self.walk.wait(thread, until, hint, register);
    }

    fn publish(&mut self, made: u64) {
        self.site.publish(made);
    }
}

impl Stream<PathBuf> {
    /// Emits the paths of the files in a folder, on a thread of its own.
    ///
    /// Takes the path of a folder, or a [`Directory`] with more options. Regular files are found, also through symbolic
    /// links. The folder is read when the source starts, and each subfolder when its turn comes.
    ///
    /// To read several files at a time, read them in a pool: `.async_map(n, ..)` has at most `n` open, and keeps the order.
    /// For their lines, one file after the other, see [`file_lines`](Stream::file_lines).
    ///
    /// # Ordering
    /// By name, byte by byte; a subfolder has the place of its name. New files of a [watched](Directory::watch) folder
    /// follow in that order with each walk.
    ///
    /// # Errors
    /// A file or folder that cannot be read, or has vanished, becomes an error item of kind
    /// [`Failed`](ErrorKind::Failed) with a [`FileError`] that names it, and the walk continues. A watched folder
    /// reports each of them once.
    ///
    /// # Cancellation
    /// Stops between two files, and ends a wait at once. So does a drain.
    ///
    /// # Memory
    /// The paths in the current folder and in its parents; if it is watched or recursive, also those of all folders,
    /// and if it is watched, those of all files.
    ///
    /// # Panics
    /// If `cancel` belongs to no pipeline, or to one that has finished.
    #[doc(alias("glob", "walkdir", "read_dir"))]
    #[track_caller]
    pub fn directory(cancel: &CancelToken, directory: impl Into<Directory>) -> Self {
        let walk = Walk::new(directory.into());
        Self::source(cancel, "directory", |site| Paths { walk, site, ended: false })
    }
}
