//! [`LineReader`]: splits the bytes of a reader into lines of bounded length.

use std::fmt;
use std::io::{self, BufRead};
use std::str::Utf8Error;

/// Splits the bytes of a reader into lines of bounded length.
///
/// A line ends with `\n` or `\r\n`; the end is not part of it. The last line may lack its end, and then a `\r` at its end
/// is part of it. A `\r` elsewhere is a byte like any other: text whose lines end in `\r` alone is one line. An empty
/// reader has no lines.
///
/// Give it to [`Stream::lines`](crate::Stream::lines) or [`Stream::byte_lines`](crate::Stream::byte_lines) to set more
/// than their defaults, also after some lines have been read by hand. Line numbers continue.
///
/// ```
/// use streamz::{LineReader, Pipeline, Stream};
///
/// let text = "name,price\napple,3\npear,4\n";
/// let mut reader = LineReader::new(text.as_bytes()).with_max_len(4096);
/// let header = reader.next_line()?.expect("a header");
/// assert_eq!(header.bytes, b"name,price");
///
/// let pipeline = Pipeline::new("prices");
/// let rows = Stream::byte_lines(&pipeline, reader);
/// let numbers = rows.map(|line| line.number).collect::<Vec<_>>()?;
/// assert_eq!(numbers, [2, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Memory
/// Holds at most twice the maximum length of a line, besides the buffer of the reader.
#[must_use = "nothing is read until lines are asked for"]
pub struct LineReader<R> {
    reader: R,
    pub(super) cutter: Cutter,
    /// The number of bytes that can be read without asking the system.
    pub(super) buffered: usize,
    /// The number of bytes taken from the reader.
    pub(super) consumed: u64,
    /// The reader has ended, and is not read again: a terminal or a pipe would wait for more.
    pub(super) ended: bool,
    pub(super) read_errors: ReadErrors,
}

/// Holds a line of a [`LineReader`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Line {
    /// The number of the line, counted from 1.
    pub number: u64,
    /// The bytes of the line without its end; the beginning of a line that is too long.
    pub bytes: Vec<u8>,
    /// Whether the line is longer than [allowed](LineReader::with_max_len), so that its end is missing here.
    pub is_truncated: bool,
}

/// Describes an error of a line; the source of its error item.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// The line is longer than the reader [allows](LineReader::with_max_len).
    #[error("line {number} is longer than {max_len} bytes")]
    TooLong {
        /// The number of the line, counted from 1.
        number: u64,
        /// The greatest length in bytes.
        max_len: usize,
    },
    /// The line is not UTF-8.
    #[error("line {number} is not UTF-8")]
    NotUtf8 {
        /// The number of the line, counted from 1.
        number: u64,
        /// The error of the conversion, with its position.
        source: Utf8Error,
    },
}

impl LineError {
    /// The number of the line, counted from 1.
    pub fn number(&self) -> u64 {
        match self {
            LineError::TooLong { number, .. } | LineError::NotUtf8 { number, .. } => *number,
        }
    }
}

/// Selects what an error of the reader means for the stream of its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ReadErrors {
    /// The stream is cut: its last error is of kind [`Cancelled`](crate::ErrorKind::Cancelled) and has the [`io::Error`]
    /// as its source. The default.
    #[default]
    Cut,
    /// The stream emits an error item of kind [`Failed`](crate::ErrorKind::Failed) with the [`io::Error`] as its source,
    /// and ends as if it were complete: for input of which a part is as good as the whole.
    Emit,
}

/// The maximum length of a line unless set otherwise.
const MAX_LEN: usize = 1 << 20;

/// The number of bytes that are searched for a line end before control returns to the caller.
const LOOK: usize = 64 * 1024;

impl<R: BufRead> LineReader<R> {
    /// Reads lines of at most 1 MiB from `reader`.
    pub fn new(reader: R) -> Self {
        let cutter = Cutter { max_len: MAX_LEN, partial: Vec::new(), number: 0, skips: false };
        Self { reader, cutter, buffered: 0, consumed: 0, ended: false, read_errors: ReadErrors::default() }
    }

    /// Sets the greatest length of a line in bytes, without its end. Defaults to 1 MiB; 0 allows empty lines only.
    ///
    /// A longer line is truncated to this length and reported as soon as it is known to be too long. The rest of it is
    /// skipped.
    pub fn with_max_len(mut self, bytes: usize) -> Self {
        self.cutter.max_len = bytes;
        self
    }

    /// Sets what an error of the reader means for a stream of its lines. Defaults to [`ReadErrors::Cut`].
    ///
    /// A reader that panics always cuts its stream.
    pub fn with_read_errors(mut self, read_errors: ReadErrors) -> Self {
        self.read_errors = read_errors;
        self
    }

    /// Skips the rest of the first line, for a reader that begins in the middle of one, and counts lines from there.
    pub fn skip_partial(mut self) -> Self {
        self.cutter.skips = true;
        self
    }

    /// Reads the next line; `None` at the end of the reader, which is not read again after that.
    ///
    /// # Errors
    /// Those of the reader, except for [`Interrupted`](io::ErrorKind::Interrupted), after which it is read again. The part
    /// of a line that came before the error is kept for the next call.
    pub fn next_line(&mut self) -> io::Result<Option<Line>> {
        loop {
            match self.step()? {
                Step::Line(line) => return Ok(Some(line)),
                Step::More => {}
                Step::Nothing => return Ok(None),
            }
        }
    }

    /// Reads the next line if it is complete: for a file that still grows. `None` if the reader ends before the line
    /// does; that part is kept, and a later call continues.
    ///
    /// # Errors
    /// As [`next_line`](Self::next_line).
    pub fn next_complete_line(&mut self) -> io::Result<Option<Line>> {
        loop {
            match self.look()? {
                Step::Line(line) => return Ok(Some(line)),
                Step::More => {}
                Step::Nothing => return Ok(None),
            }
        }
    }

    /// Reads the next line, if its end is in the buffer of the reader. Returns `None` if the reader would have to be read;
    /// [`next_line`](Self::next_line) does that, and continues with the buffered part of the line.
    ///
    /// For a caller that collects several lines, and processes the available ones before it waits for more.
    ///
    /// ```
    /// use std::io::BufReader;
    /// use streamz::LineReader;
    ///
    /// let mut reader = LineReader::new(BufReader::with_capacity(8, &b"a\nb\nc, d\ne\n"[..]));
    /// let mut chunks = Vec::new();
    /// while let Some(line) = reader.next_line()? {
    ///     let mut chunk = vec![line.number];
    ///     while let Some(line) = reader.next_buffered_line()? {
    ///         chunk.push(line.number);
    ///     }
    ///     chunks.push(chunk);
    /// }
    /// assert_eq!(chunks, [vec![1, 2], vec![3, 4]]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`next_line`](Self::next_line). A reader that has bytes in its buffer is not read, so it has no reason to fail.
    pub fn next_buffered_line(&mut self) -> io::Result<Option<Line>> {
        while self.buffered > 0 {
            match self.look()? {
                Step::Line(line) => return Ok(Some(line)),
                Step::More => {}
                Step::Nothing => self.buffered = 0,
            }
        }
        Ok(None)
    }

    /// Returns how many bytes are held of a line whose end has not been read.
    pub fn partial_len(&self) -> usize {
        self.cutter.partial.len()
    }

    /// Returns a reference to the reader.
    pub fn get_ref(&self) -> &R {
        &self.reader
    }

    /// Returns a mutable reference to the reader; bytes that are read through it are missing in the lines.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.reader
    }

    /// Takes one step, including the last line and the end.
    pub(super) fn step(&mut self) -> io::Result<Step> {
        if self.ended {
            return Ok(Step::Nothing);
        }
        match self.look()? {
            Step::Nothing => {
                self.ended = true;
                Ok(self.cutter.rest().map_or(Step::Nothing, Step::Line))
            }
            step => Ok(step),
        }
    }

    /// Takes one step. Reads at most once.
    pub(super) fn look(&mut self) -> io::Result<Step> {
        let available = match self.reader.fill_buf() {
            Ok([]) => return Ok(Step::Nothing),
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Step::More),
            Err(error) => return Err(error),
        };
        let seen = &available[..available.len().min(LOOK)];
        // Searching a slice for line ends is as fast as the machine allows.
        let mut rest = seen;
        let used = rest.skip_until(b'\n')?;
        let line = self.cutter.cut(&seen[..used]);
        self.buffered = available.len() - used;
        self.consumed += used as u64;
        self.reader.consume(used);
        Ok(line.map_or(Step::More, Step::Line))
    }
}

/// The result of a step.
pub(super) enum Step {
    Line(Line),
    /// The line has not ended yet.
    More,
    /// The reader has come to its end.
    Nothing,
}

/// Assembles lines from pieces.
pub(super) struct Cutter {
    max_len: usize,
    /// The beginning of an incomplete line: at most one byte more than the maximum, which is then a `\r`.
    partial: Vec<u8>,
    /// The number of lines so far.
    number: u64,
    /// Bytes up to the next line end belong to no line.
    skips: bool,
}

impl Cutter {
    /// Takes a piece that contains a line end at most as its last byte. Returns the line that ends with it, or has
    /// become too long.
    fn cut(&mut self, piece: &[u8]) -> Option<Line> {
        let (text, is_whole) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
        if self.skips {
            self.skips = !is_whole;
            return None;
        }
        let mut bytes = std::mem::take(&mut self.partial);
        let room = self.max_len.saturating_add(1) - bytes.len();
        bytes.extend_from_slice(&text[..text.len().min(room)]);
        let mut is_truncated = text.len() > room;
        if !is_truncated && bytes.last() == Some(&b'\r') {
            if is_whole {
                bytes.pop();
            }
            // Otherwise it may be the first half of the line end.
        } else {
            is_truncated |= bytes.len() > self.max_len;
        }
        if !is_whole && !is_truncated {
            self.partial = bytes;
            return None;
        }
        self.skips = !is_whole;
        Some(self.line(bytes))
    }

    /// The bytes after the last line end.
    pub(super) fn rest(&mut self) -> Option<Line> {
        let bytes = std::mem::take(&mut self.partial);
        if bytes.is_empty() { None } else { Some(self.line(bytes)) }
    }

    fn line(&mut self, mut bytes: Vec<u8>) -> Line {
        let is_truncated = bytes.len() > self.max_len;
        bytes.truncate(self.max_len);
        self.number += 1;
        Line { number: self.number, bytes, is_truncated }
    }

    pub(super) fn is_skipping(&self) -> bool {
        self.skips
    }

    pub(super) fn max_len(&self) -> usize {
        self.max_len
    }
}

impl<R> fmt::Debug for LineReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineReader")
            .field("lines", &self.cutter.number)
            .field("max_len", &self.cutter.max_len)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::{BufReader, ErrorKind, Read};

    use super::*;

    /// Returns the scripted reads, and must not be read after that.
    struct Script(VecDeque<io::Result<&'static [u8]>>);

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let bytes = self.0.pop_front().expect("a read after the end")?;
            buffer[..bytes.len()].copy_from_slice(bytes);
            Ok(bytes.len())
        }
    }

    fn script(
        pieces: impl IntoIterator<Item = io::Result<&'static [u8]>>,
        max_len: usize,
    ) -> LineReader<BufReader<Script>> {
        LineReader::new(BufReader::new(Script(pieces.into_iter().collect()))).with_max_len(max_len)
    }

    /// Number, bytes, and whether truncated, of all lines; asked once more than needed.
    fn all<R: BufRead>(mut reader: LineReader<R>) -> Vec<(u64, String, bool)> {
        let mut lines = Vec::new();
        while let Some(line) = reader.next_line().unwrap() {
            lines.push((line.number, String::from_utf8(line.bytes).unwrap(), line.is_truncated));
        }
        assert_eq!(reader.next_line().unwrap(), None);
        lines
    }

    const CASES: &[(&str, &[(&str, bool)])] = &[
        ("", &[]),
        ("\n", &[("", false)]),
        ("a", &[("a", false)]),
        ("a\n", &[("a", false)]),
        ("a\r\nb", &[("a", false), ("b", false)]),
        ("a\r", &[("a\r", false)]),
        ("a\rb\rc", &[("a\rb\r", true)]),
        ("\r\n\r\n", &[("", false), ("", false)]),
        ("a\r\r\n", &[("a\r", false)]),
        ("abcd\nabcd\r\nabcd", &[("abcd", false), ("abcd", false), ("abcd", false)]),
        ("abcde\nx\n", &[("abcd", true), ("x", false)]),
        ("abcde\r\nx", &[("abcd", true), ("x", false)]),
        ("abcd\rx\ny\n", &[("abcd", true), ("y", false)]),
        ("abcd\r", &[("abcd", true)]),
        ("abcd\r\r\ny", &[("abcd", true), ("y", false)]),
        ("abcdefghijklmnop", &[("abcd", true)]),
        ("abcdefghijklmnop\n\nx", &[("abcd", true), ("", false), ("x", false)]),
    ];

    #[test]
    fn lines_are_the_same_however_the_bytes_arrive() {
        for (text, expected) in CASES {
            let numbered: Vec<_> =
                (1..).zip(*expected).map(|(number, (line, cut))| (number, (*line).to_owned(), *cut)).collect();
            assert_eq!(all(LineReader::new(text.as_bytes()).with_max_len(4)), numbered, "{text:?} at once");
            for size in 1..=text.len().max(1) {
                let pieces = text.as_bytes().chunks(size).map(Ok).chain([Ok(&b""[..])]);
                assert_eq!(all(script(pieces, 4)), numbered, "{text:?} by {size}");
            }
        }
    }

    #[test]
    fn zero_allows_empty_lines_only_and_the_maximum_everything() {
        let lines = |max_len| all(LineReader::new(&b"\n\r\nx"[..]).with_max_len(max_len));
        assert_eq!(lines(0), [(1, String::new(), false), (2, String::new(), false), (3, String::new(), true)]);
        assert_eq!(lines(usize::MAX)[2], (3, "x".to_owned(), false));
    }

    #[test]
    fn a_long_line_takes_no_more_memory_than_its_limit() {
        let mut reader = LineReader::new(BufReader::new(io::repeat(b'x'))).with_max_len(100_000);
        let line = reader.next_line().unwrap().unwrap();
        assert_eq!((line.bytes.len(), line.is_truncated), (100_000, true));
        assert!(line.bytes.capacity() <= 200_002, "{}", line.bytes.capacity());
        for _ in 0..1000 {
            assert!(matches!(reader.step(), Ok(Step::More)));
        }
        assert_eq!(reader.partial_len(), 0);
    }

    #[test]
    fn interrupted_reads_are_retried_and_other_errors_reported() {
        let interrupted = || Err(ErrorKind::Interrupted.into());
        let mut reader = script(
            [Ok(&b"a"[..]), interrupted(), interrupted(), Ok(b"b\nc"), Err(ErrorKind::WouldBlock.into()), Ok(b"d\n")],
            9,
        );
        assert_eq!(reader.next_line().unwrap().unwrap().bytes, b"ab");
        assert_eq!(reader.next_line().unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(reader.next_line().unwrap().unwrap().bytes, b"cd");
    }

    #[test]
    fn a_buffered_line_is_given_without_a_read() {
        // A read after the last piece panics.
        let mut reader = script([Ok(&b"a\nb\r\nc"[..]), Ok(b"d\n"), Ok(b"e\nf")], 9);
        assert_eq!(reader.next_buffered_line().unwrap(), None);
        let mut lines = Vec::new();
        for buffered in [&["b"][..], &[], &[]] {
            lines.push(reader.next_line().unwrap().unwrap().bytes);
            for text in buffered {
                assert_eq!(reader.next_buffered_line().unwrap().unwrap().bytes, text.as_bytes());
            }
            assert_eq!(reader.next_buffered_line().unwrap(), None);
        }
        assert_eq!(lines, [b"a".to_vec(), b"cd".to_vec(), b"e".to_vec()]);
        assert_eq!(reader.partial_len(), 1);
    }

    #[test]
    fn a_growing_file_gives_complete_lines_only() {
        let mut reader = script([Ok(&b"xx\na"[..]), Ok(b""), Ok(b"b\n"), Ok(b"")], 9).skip_partial();
        assert_eq!(reader.next_complete_line().unwrap(), None);
        assert_eq!(reader.partial_len(), 1);
        let line = reader.next_complete_line().unwrap().unwrap();
        assert_eq!((line.number, line.bytes), (1, b"ab".to_vec()));
        assert_eq!(reader.next_complete_line().unwrap(), None);
        assert_eq!(reader.partial_len(), 0);
    }
}
