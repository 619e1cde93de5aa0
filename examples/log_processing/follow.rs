//! Files that grow: the library follows them. This module adds the names of lines, and messages about the files.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use streamz::{
    BoxError, FileError, FileLine, Follow, FollowEvent, FollowStart, FollowStats, Pipeline,
    Result, Stream, StreamError,
};

use crate::args::Args;
use crate::input::{self, Reading};
use crate::lines::{Line, MAX_LINE};

/// Receives messages about the files.
pub(crate) type Notes = fn(&str);

/// The files, ready to be followed.
pub(crate) struct Growing {
    follow: Follow,
    files: Files,
    reading: Arc<Reading>,
}

/// The names of the files, and a way to report a message about one.
#[derive(Clone)]
pub(crate) struct Files {
    paths: Vec<PathBuf>,
    names: Vec<String>,
    notes: Notes,
}

impl Growing {
    /// Follows files from their end, or from their beginning. A missing file may appear later.
    pub(crate) fn new(
        args: &Args,
        reading: &Arc<Reading>,
        notes: Notes,
    ) -> Result<Self, BoxError> {
        let files = Files { paths: args.files.clone(), names: input::names(args), notes };
        for (path, name) in files.paths.iter().zip(&files.names) {
            check(path).map_err(|error| format!("cannot follow {name}: {error}"))?;
        }
        let start = if args.from_start { FollowStart::Beginning } else { FollowStart::End };
        let noting = files.clone();
        let follow = Follow::files(&files.paths)
            .with_start(start)
            .with_max_len(MAX_LINE)
            .on_event(move |path, event| noting.note(path, event));
        Ok(Self { follow, files, reading: Arc::clone(reading) })
    }

    pub(crate) fn stats(&self) -> FollowStats {
        self.follow.stats()
    }

    pub(crate) fn files(&self) -> Files {
        self.files.clone()
    }

    pub(crate) fn lines(self, pipeline: &Pipeline) -> Stream<FileLine> {
        Stream::follow_lines(pipeline, self.follow)
    }

    /// Converts a line of the library into a line of this program.
    pub(crate) fn translation(&self) -> impl Fn(FileLine) -> Line + Send + Sync + use<> {
        let (files, reading) = (self.files.clone(), Arc::clone(&self.reading));
        move |line| {
            reading.add_line();
            Line::of_file(files.index(&line.path), line)
        }
    }
}

impl Files {
    fn index(&self, path: &Path) -> u32 {
        self.paths.iter().position(|it| it == path).unwrap_or_default() as u32
    }

    fn name(&self, path: &Path) -> &str {
        &self.names[self.index(path) as usize]
    }

    fn note(&self, path: &Path, event: FollowEvent) {
        let what = match event {
            FollowEvent::Opened => "following".to_owned(),
            FollowEvent::Missing => "waiting for".to_owned(),
            FollowEvent::Rotated => "renamed and created again:".to_owned(),
            FollowEvent::RotatedBetween(times) => {
                format!("renamed {times} times since it was last looked at:")
            }
            FollowEvent::Truncated => "emptied:".to_owned(),
            _ => return,
        };
        (self.notes)(&format!("{what} {}", self.name(path)));
    }

    /// Notes a problem with a file, if the error describes one. Perhaps the file can be read later.
    pub(crate) fn add_fault(&self, error: &StreamError, reading: &Reading) -> bool {
        let (fault, what, name) = match error.downcast_ref::<FileError>() {
            Some(FileError::Unreadable { path, source }) => {
                let name = self.name(path);
                (
                    format!("cannot read {name}: {source}"),
                    format!("for now cannot read ({source})"),
                    name,
                )
            }
            Some(FileError::Lost { path }) => {
                let name = self.name(path);
                let fault = format!(
                    "lines of {name} may be missing: it was rotated before they were read"
                );
                (fault, "lines may be missing of".to_owned(), name)
            }
            _ => return false,
        };
        if reading.add_fault(fault) {
            (self.notes)(&format!("{what} {name}"));
        }
        true
    }
}

/// Whether a file can be followed, if it is there.
fn check(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => return Err(io::Error::other("only files can be followed")),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    let mut start = Vec::new();
    File::open(path)?.take(input::START).read_to_end(&mut start)?;
    if input::is_gzip(&start)? {
        return Err(io::Error::other("a gzip file cannot be followed"));
    }
    Ok(())
}
