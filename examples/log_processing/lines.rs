//! Lines, and their positions.

use std::io::BufRead;

use streamz::LineReader;

/// The maximum length of a stored line, in bytes. A much longer one is not a log line, and must not fill the memory.
pub(crate) const MAX_LINE: usize = 64 * 1024;

/// A line as it is in its file.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) at: At,
    /// Without the line end; for a line that is too long, its beginning.
    pub(crate) bytes: Vec<u8>,
    pub(crate) is_truncated: bool,
}

impl Line {
    /// A line of a file; `relative` if the reader did not start at its beginning.
    pub(crate) fn new(file: u32, relative: bool, line: streamz::Line) -> Self {
        let at = At { file, number: line.number, relative };
        Self { at, bytes: line.bytes, is_truncated: line.is_truncated }
    }

    /// A line of a file that is followed.
    pub(crate) fn of_file(file: u32, line: streamz::FileLine) -> Self {
        let at = At { file, number: line.number, relative: line.start > 0 };
        Self { at, bytes: line.bytes, is_truncated: line.is_truncated }
    }
}

/// Splits the bytes of a reader into lines.
pub(crate) fn lines<R: BufRead>(reader: R) -> LineReader<R> {
    LineReader::new(reader).with_max_len(MAX_LINE)
}

/// The position of a line.
///
/// A file is identified by its place in the list of files: the reference count of a shared name would be incremented by
/// the reading thread and decremented by the counting one, for each line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) file: u32,
    /// Counted from 1.
    pub(crate) number: u64,
    /// Whether the count started where a file was first opened, not at its beginning.
    pub(crate) relative: bool,
}

impl At {
    /// `access.log:17`, or `access.log:+17` if the count did not start at the beginning.
    pub(crate) fn describe(self, names: &[String]) -> String {
        let sign = if self.relative { "+" } else { "" };
        format!("{}:{sign}{}", names[self.file as usize], self.number)
    }
}
