//! [`FileLine`]: a line that knows its file, and the errors of files and their lines.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::line_reader::{Line, LineError};

/// Holds a line of a file, and its position.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct FileLine {
    /// The file, by the name under which the source knows it.
    pub path: Arc<Path>,
    /// The number of the line, counted from 1 at the place where reading began: see [`start`](Self::start).
    pub number: u64,
    /// The offset in the file at which reading began; 0 for its beginning, in which case [`number`](Self::number) is the
    /// number of the line in the file.
    pub start: u64,
    /// The offset behind the line, at which to continue later.
    pub end: u64,
    /// The bytes of the line without its end; the beginning of a line that is too long.
    pub bytes: Vec<u8>,
    /// Whether the line is too long, so that its end is missing here. Only error items carry such lines.
    pub is_truncated: bool,
}

impl FileLine {
    pub(super) fn new(path: &Arc<Path>, start: u64, end: u64, line: Line) -> Self {
        let Line { number, bytes, is_truncated } = line;
        Self { path: Arc::clone(path), number, start, end, bytes, is_truncated }
    }

    /// Returns the line as text.
    ///
    /// # Errors
    /// If it is not UTF-8.
    pub fn text(&self) -> Result<&str, std::str::Utf8Error> {
        std::str::from_utf8(&self.bytes)
    }
}

/// Describes an error of a file or of one of its lines; the source of the error items of sources that read files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file cannot be opened or read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The path of the file.
        path: Arc<Path>,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A line is too long, or not UTF-8.
    #[error("bad line at {}:{}", path.display(), source.number())]
    Line {
        /// The path of the file.
        path: Arc<Path>,
        /// The error of the line, with its number.
        source: LineError,
    },
    /// A [followed](crate::Follow) file was rotated before it was read to its end, and the rotated file is gone, or
    /// compressed; or reading was to begin at an [offset](crate::FollowStart::Offset) that the file does not have.
    #[error("lines of {} may be missing: it was rotated before they were read", path.display())]
    Lost {
        /// The path of the file.
        path: Arc<Path>,
    },
}

impl FileError {
    /// The path of the file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Unreadable { path, .. } | Self::Line { path, .. } | Self::Lost { path } => path,
        }
    }
}

/// The item that a line of a file becomes in a stream: a [`String`], or a [`FileLine`].
pub(super) trait FromFileLine: Sized + Send + 'static {
    fn from_file_line(line: FileLine) -> Result<Self, (LineError, FileLine)>;
}

impl FromFileLine for FileLine {
    fn from_file_line(line: FileLine) -> Result<Self, (LineError, FileLine)> {
        Ok(line)
    }
}

impl FromFileLine for String {
    fn from_file_line(mut line: FileLine) -> Result<Self, (LineError, FileLine)> {
        String::from_utf8(std::mem::take(&mut line.bytes)).map_err(|error| {
            let reason = LineError::NotUtf8 { number: line.number, source: error.utf8_error() };
            line.bytes = error.into_bytes();
            (reason, line)
        })
    }
}

/// Refuses a line that is too long, and makes an item of any other.
pub(super) fn checked<T: FromFileLine>(line: FileLine, max_len: usize) -> Result<T, (FileError, FileLine)> {
    let made = if line.is_truncated {
        Err((LineError::TooLong { number: line.number, max_len }, line))
    } else {
        T::from_file_line(line)
    };
    made.map_err(|(source, line)| (FileError::Line { path: Arc::clone(&line.path), source }, line))
}
