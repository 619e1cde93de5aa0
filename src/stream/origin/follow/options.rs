//! [`Follow`]: the options of [`Stream::follow`].

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::pipeline::CancelToken;
use crate::pipeline::stats::Counter;
use crate::stream::Stream;
use crate::stream::origin::file_line::{FileLine, FromFileLine};
use crate::stream::origin::files::from_path;
use crate::stream::origin::follow::feed::Following;

/// The time between two polls of files, unless set otherwise.
const POLL: Duration = Duration::from_millis(100);

/// The maximum length of a line unless set otherwise.
const MAX_LEN: usize = 1 << 20;

/// Selects the files that [`Stream::follow`] follows, and how.
///
/// ```
/// use std::io::Write;
/// use std::time::Duration;
/// use streamz::{Follow, ManualClock, Pipeline, Stream};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = std::env::temp_dir().join(format!("streamz-doc-follow-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir)?;
/// # let path = dir.join("app.log");
/// std::fs::write(&path, "one\ntwo\nthr")?;
///
/// let clock = ManualClock::new(); // so that this example need not wait
/// let pipeline = Pipeline::builder("tail").clock(&clock).build();
/// let follow = Follow::new(&path).with_poll_interval(Duration::from_secs(1));
/// let mut lines = Stream::follow(&pipeline, follow);
/// assert_eq!(lines.recv().unwrap()?, "one");
/// assert_eq!(lines.recv().unwrap()?, "two");
///
/// // The file is rotated; the last line of the old one gets its end.
/// std::fs::OpenOptions::new().append(true).open(&path)?.write_all(b"ee\n")?;
/// std::fs::rename(&path, dir.join("app.log.1"))?;
/// std::fs::write(&path, "four\n")?;
/// clock.advance(Duration::from_secs(1));
/// assert_eq!(lines.recv().unwrap()?, "three");
/// assert_eq!(lines.recv().unwrap()?, "four");
///
/// pipeline.drain(); // nothing else ends it
/// assert!(lines.recv().is_none());
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok(())
/// # }
/// ```
#[must_use = "options do nothing until they are given to `Stream::follow`"]
#[doc(alias("tail", "poll"))]
pub struct Follow {
    pub(super) files: Vec<(PathBuf, FollowStart)>,
    pub(super) poll_interval: Duration,
    pub(super) max_len: usize,
    pub(super) stops_at_end: bool,
    pub(super) on_event: Option<OnEvent>,
    pub(super) stats: FollowStats,
}

pub(super) type OnEvent = Box<dyn FnMut(&Path, FollowEvent) + Send>;

/// Selects where reading begins in an existing file.
///
/// A file that appears later under a followed name is read from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum FollowStart {
    /// At the first line. The default.
    #[default]
    Beginning,
    /// Behind what is there now. If that ends within a line, with the line after that one.
    End,
    /// At this offset, such as the [`end`](FileLine::end) of the last line that was processed; within a line, with the next
    /// one. A file that is shorter has been replaced or emptied since: it is read from its beginning, and an error item says that
    /// lines [may be missing](crate::FileError::Lost). Whether a longer one is still the same file is not known, and what was rotated
    /// away while no process followed the file is not looked for.
    Offset(u64),
}

/// Describes what happens to a followed file, for [`Follow::on_event`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FollowEvent {
    /// The file exists, and is being read.
    Opened,
    /// The file does not exist at the start. It is opened when it appears.
    Missing,
    /// Another file now has the name.
    Rotated,
    /// The file was rotated this many times since the last look, which is more than once; comes after
    /// [`Rotated`](Self::Rotated) or [`Truncated`](Self::Truncated).
    RotatedBetween(u64),
    /// The file was emptied, and is read from its beginning.
    Truncated,
    /// The file was deleted. It is read to its end, and closed.
    Deleted,
}

impl Follow {
    /// Follows one file, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::files([path])
    }

    /// Follows several files. One thread reads all of them, a busy one at most 1,000 lines at a time before the next one gets its
    /// turn.
    pub fn files<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Self {
        Self {
            files: paths.into_iter().map(|path| (path.into(), FollowStart::Beginning)).collect(),
            poll_interval: POLL,
            max_len: MAX_LEN,
            stops_at_end: false,
            on_event: None,
            stats: FollowStats::default(),
        }
    }

    /// Also follows the files of `other`, each from where that says. The other options are those of `self`.
    pub fn and(mut self, other: impl Into<Follow>) -> Self {
        self.files.extend(other.into().files);
        self
    }

    /// Sets where reading begins, in all files named so far. Defaults to [`FollowStart::Beginning`].
    pub fn with_start(mut self, start: FollowStart) -> Self {
        self.files.iter_mut().for_each(|(_, of_file)| *of_file = start);
        self
    }

    /// Sets how long to wait, once all files have been read to their end, before looking at them again. Defaults to 100 ms.
    ///
    /// A line arrives at most this long after it was written. Several rotations within this time are only noticed by the names
    /// of the rotated files, `NAME.1` or `NAME-20260131`.
    ///
    /// A poll takes a few system calls. The folder is listed as well while the file does not exist, and when it changes while less than
    /// 256 bytes of it have been read. If the folder has many thousands of files, take a longer interval.
    ///
    /// # Panics
    /// If `interval` is zero.
    #[track_caller]
    pub fn with_poll_interval(mut self, interval: Duration) -> Self {
        assert!(!interval.is_zero(), "`interval` must be greater than zero");
        self.poll_interval = interval;
        self
    }

    /// Sets the greatest length of a line in bytes, without its end. Defaults to 1 MiB; 0 allows empty lines only.
    pub fn with_max_len(mut self, bytes: usize) -> Self {
        self.max_len = bytes;
        self
    }

    /// Ends the stream when all files have been read to their end, with what follows the last line end as the last line. A
    /// file that is not there is an error item. Defaults to waiting for more.
    pub fn stop_at_end(mut self) -> Self {
        self.stops_at_end = true;
        self
    }

    /// Calls `f` with what happens to each file, on the thread of the source, except for the state in which the files are found
    /// at the start: with that it is called within [`Stream::follow`]. A panic cuts the stream; one within `Stream::follow`
    /// continues to the caller.
    pub fn on_event(mut self, f: impl FnMut(&Path, FollowEvent) + Send + 'static) -> Self {
        self.on_event = Some(Box::new(f));
        self
    }

    /// Returns live statistics.
    pub fn stats(&self) -> FollowStats {
        self.stats.clone()
    }
}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow")
            .field("files", &self.files)
            .field("poll_interval", &self.poll_interval)
            .field("max_len", &self.max_len)
            .field("stops_at_end", &self.stops_at_end)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

from_path!(Follow);

/// Live statistics of a [`Follow`]. Clones show the same numbers.
#[derive(Clone, Default)]
pub struct FollowStats {
    pub(super) counts: Arc<Counts>,
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) rotations: Counter,
    pub(super) truncations: Counter,
    pub(super) losses: Counter,
    pub(super) unfinished: AtomicU64,
}

impl FollowStats {
    /// Returns how often a file was replaced by another one of its name.
    pub fn rotations(&self) -> u64 {
        self.counts.rotations.get()
    }

    /// Returns how often a file was emptied.
    pub fn truncations(&self) -> u64 {
        self.counts.truncations.get()
    }

    /// Returns how often lines may have been lost: see [`FileError::Lost`](crate::FileError::Lost).
    pub fn losses(&self) -> u64 {
        self.counts.losses.get()
    }

    /// Returns how many files ended within a line when they were last read to their end, or when the source ended. Such
    /// a line has not been emitted.
    pub fn unfinished(&self) -> u64 {
        self.counts.unfinished.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for FollowStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FollowStats")
            .field("rotations", &self.rotations())
            .field("truncations", &self.truncations())
            .field("losses", &self.losses())
            .field("unfinished", &self.unfinished())
            .finish()
    }
}

impl Stream<String> {
    /// Reads files as they grow, on a thread of its own: each line, as text, once it has its line end.
    ///
    /// Takes a path, or a [`Follow`] with more options. Rotation by renaming, by copying and emptying, and by deleting
    /// are noticed: the rest of the old file is read before the new one, and no line is read twice. The stream does not
    /// end by itself, unless [`stop_at_end`](Follow::stop_at_end) is set.
    ///
    /// It works like `tail -F`, by polling, so that it also works where the system does not report changes, such as on
    /// network drives. A file is known by its device and number and, like in Vector, by its first 256 bytes, by which
    /// it is noticed that a file was emptied and has grown beyond its old length since.
    ///
    /// # Rotated files
    /// A file that is renamed stays open, whatever its new name, and is read to its end. What was rotated several times
    /// between two polls, or copied before it was emptied, is found beside the file by its name: the name of the file with
    /// a number or a date, such as `app.log.1` or `app.log-20260131`. The files that exist there when following begins,
    /// or when the folder appears or is replaced by another one, are old and not read. One that comes later is taken for a
    /// rotated file, unless it was last changed before the end of the followed file was read. Compressed files (`.gz`,
    /// `.bz2`, `.xz`, `.zst`, `.lz4`, `.Z`) are not read.
    ///
    /// # Ordering
    /// Lines of one file keep their order. Those of a rotated file come before those of the new one, except for what is
    /// written to the old file after the rotation. If a rotated file ends within a line, that line comes with its end, or
    /// without one at the next rotation. If a file is copied and emptied, and also renamed or deleted, all between two polls,
    /// the order of what was copied and what was not is not known.
    ///
    /// # Back-pressure
    /// Nothing is read while the output is full.
    ///
    /// # Errors
    /// Error items are of kind [`Failed`](crate::ErrorKind::Failed), have a [`FileError`](crate::FileError) as their source,
    /// and reading continues after each:
    ///
    /// - a line that is too long or not UTF-8; it carries the [`FileLine`];
    /// - a file that cannot be read, once, until it can be read again;
    /// - lines that [may be missing](crate::FileError::Lost), because rotated files were deleted or compressed before they
    ///   were found.
    ///
    /// Some losses leave no trace, and are no error item:
    ///
    /// - what is written between the copying and the emptying of a file, or is in a file that is emptied without a copy,
    ///   after the last poll before that;
    /// - a file that appears and is deleted between two polls, unless the file before it is deleted as well and a rotated
    ///   file after it is found; and one that is compressed, if as many known rotated files were deleted at that time;
    /// - files between two polls whose names have another form, whose folder cannot be listed or has just appeared, or
    ///   which got the number of a deleted file on a system that does not tell when files were created;
    /// - the rest of a file that was emptied and has grown beyond its old length, with the same first 256 bytes.
    ///
    /// # Cancellation
    /// Ends a wait at once, and reading between two blocks. So does a drain: what has not been read stays in the files.
    ///
    /// # Memory
    /// A buffer of 64 KiB and an unfinished line for each open file: each name has one, and another one for some time after a
    /// rotation.
    ///
    /// # Panics
    /// If `cancel` belongs to no pipeline, or to one that has finished.
    #[doc(alias("tail", "poll"))]
    #[track_caller]
    pub fn follow(cancel: &CancelToken, follow: impl Into<Follow>) -> Self {
        start(cancel, follow.into())
    }
}

impl Stream<FileLine> {
    /// Reads files as they grow, like [`follow`](Stream::follow), as lines that carry their position and need not be
    /// UTF-8.
    ///
    /// # Panics
    /// If `cancel` belongs to no pipeline, or to one that has finished.
    #[doc(alias("tail", "poll"))]
    #[track_caller]
    pub fn follow_lines(cancel: &CancelToken, follow: impl Into<Follow>) -> Self {
        start(cancel, follow.into())
    }
}

#[track_caller]
fn start<T: FromFileLine>(cancel: &CancelToken, follow: Follow) -> Stream<T> {
    let token = cancel.clone();
    Stream::source(cancel, "follow", move |site| Following::new(follow, site, token))
}
