//! Lines, and where they stand.

use std::io::BufRead;

use streamz::LineReader;

/// The longest line that is kept, in bytes. What is much longer is no log line, and must not fill the memory.
pub(crate) const MAX_LINE: usize = 64 * 1024;

/// A line as it stands in its file.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) at: At,
    /// Without the line end; of a line that is too long, the beginning.
    pub(crate) bytes: Vec<u8>,
    pub(crate) is_truncated: bool,
}

impl Line {
    /// A line of a file; `relative` if the reader did not begin at its beginning.
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

/// What cuts the bytes of a reader into lines.
pub(crate) fn lines<R: BufRead>(reader: R) -> LineReader<R> {
    LineReader::new(reader).with_max_len(MAX_LINE)
}

/// Where a line stands.
///
/// A file is the place it has in the list of files: a name that all lines share would be counted up by the thread that
/// reads and down by the one that counts, for each line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) file: u32,
    /// Counted from 1.
    pub(crate) number: u64,
    /// Whether the count began where a file was first looked at, not where it begins.
    pub(crate) relative: bool,
}

impl At {
    /// `access.log:17`, or `access.log:+17` where the count did not begin at the beginning.
    pub(crate) fn describe(self, names: &[String]) -> String {
        let sign = if self.relative { "+" } else { "" };
        format!("{}:{sign}{}", names[self.file as usize], self.number)
    }
}
