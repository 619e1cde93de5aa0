//! From bytes to rows: lines with their numbers.

use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use streamz::{BoxError, Line, LineReader, Result};

use crate::archive::Archive;
use crate::columns::HeaderError;
use crate::counts::Counts;
use crate::flight::{COLUMNS, Layout};
use crate::gunzip::Garbage;
use crate::input::{Input, PIPE};
use crate::interruptible::Stop;

/// The longest line that is kept, in bytes. A flight has about 100.
pub(crate) const MAX_LINE: usize = 8 * 1024;

/// It does not begin with anything by which [`Archive::of`] could tell it.
const TAR: Archive = Archive::new("tar", "tar -xOf");

/// How many rows go through the pipeline as one item, at most.
const CHUNK: usize = 200;

/// Some rows of an input, or, after all of them, the error of the reader.
pub(crate) type Chunk = Result<Vec<Line>, BoxError>;

/// The rows of an input, after its header.
///
/// A row is a line. In CSV a quoted field may contain a line break; that of a flight has no use for one, and an
/// unbalanced quote would otherwise swallow everything after it.
///
/// An error of the reader ends the lines. It is reported behind them, so that what came before is still loaded.
pub(crate) struct Lines {
    name: String,
    reader: LineReader<Box<dyn BufRead + Send>>,
    stop: Stop,
    counts: Arc<Counts>,
    fault: Option<BoxError>,
    /// The number of the last line.
    number: u64,
}

impl Lines {
    /// Reads the header, and refuses an input that lacks a column.
    pub(crate) fn open(input: Input, counts: &Arc<Counts>) -> Result<(Self, Layout), BoxError> {
        let Input { name, text, stop, .. } = input;
        let mut reader = LineReader::new(text).with_max_len(MAX_LINE);
        let header =
            reader.next_line().map_err(|error| format!("cannot read {name}: {error}"))?;
        let Some(header) = header else {
            return Err(format!(
                "{name} is empty; a file of flights begins with a line of column names"
            )
            .into());
        };
        if is_tar(&header.bytes) {
            return Err(format!("cannot read {name}: it {}", TAR.advice(PIPE)).into());
        }
        let layout = layout(&header)
            .map_err(|reason| format!("{name} is not a file of flights: {reason}"))?;
        let (counts, number) = (Arc::clone(counts), header.number);
        Ok((Self { name, reader, stop, counts, fault: None, number }, layout))
    }

    /// Reads on to the end of this line, and counts the rows as read.
    ///
    /// # Errors
    /// If the input ends before it.
    pub(crate) fn skip_through(&mut self, line: u64) -> Result<(), BoxError> {
        while self.number < line {
            let next = self.reader.next_line().map_err(|error| {
                format!("cannot read {} after line {}: {error}", self.name, self.number)
            })?;
            let Some(next) = next else {
                return Err(format!(
                    "{} ends at line {}; it was loaded up to line {line}",
                    self.name, self.number
                )
                .into());
            };
            self.number = next.number;
            self.counts.read.add(u64::from(!next.bytes.is_empty()));
        }
        Ok(())
    }

    /// Whether all lines could be read; to be asked when they have ended.
    ///
    /// # Errors
    /// The error of the reader.
    pub(crate) fn check_end(&mut self) -> Result<(), BoxError> {
        self.fault.take().map_or(Ok(()), Err)
    }

    /// The rows in chunks. A chunk holds what is there without waiting for input, so that none waits for those that follow.
    /// An error of the reader comes last.
    pub(crate) fn chunks(mut self) -> impl Iterator<Item = Chunk> {
        std::iter::from_fn(move || {
            let Some(row) = self.next() else {
                return self.check_end().err().map(Err);
            };
            let mut chunk = Vec::with_capacity(CHUNK);
            chunk.push(row);
            while chunk.len() < CHUNK
                && let Ok(Some(line)) = self.reader.next_buffered_line()
            {
                chunk.extend(self.row(line));
            }
            Some(Ok(chunk))
        })
    }

    /// A row is a line that is not blank.
    fn row(&mut self, line: Line) -> Option<Line> {
        self.number = line.number;
        if line.bytes.is_empty() {
            return None;
        }
        self.counts.read.add(1);
        Some(line)
    }
}

impl Iterator for Lines {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        loop {
            if self.stop.is_set() {
                return None;
            }
            match self.reader.next_line() {
                Ok(Some(line)) => {
                    if let Some(row) = self.row(line) {
                        return Some(row);
                    }
                }
                Ok(None) => {
                    self.counts.at_end.store(true, Ordering::Relaxed);
                    return None;
                }
                // The wait was ended; the part of a line that may have come is no row.
                Err(_) if self.stop.is_set() => return None,
                // What came before is whole.
                Err(error) if Garbage::is(&error) => {
                    self.fault = Some(format!("{}: {error}", self.name).into());
                }
                Err(error) => {
                    let fault = format!(
                        "cannot read {} after line {}: {error}",
                        self.name, self.number
                    );
                    self.fault = Some(fault.into());
                    // There is nothing behind it.
                    self.stop.set();
                    return None;
                }
            }
        }
    }
}

/// Where the columns stand, or what is wrong with the header.
fn layout(header: &Line) -> Result<Layout, String> {
    // Spreadsheets put a byte order mark in front.
    let names = header.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&header.bytes);
    // All of the file is one line.
    let returns = || {
        format!(
            "its lines end in a carriage return alone, or there is one in the first line; convert them with `tr '\\r' '\\n' < FILE{PIPE}`"
        )
    };
    if header.is_truncated {
        return Err(match has_returns(names) {
            true => returns(),
            false => format!("its first line is longer than {} kB", MAX_LINE / 1024),
        });
    }
    Layout::of(names).map_err(|error| match error {
        _ if has_returns(names) => returns(),
        HeaderError::NoneFound => {
            let hint =
                match [b';', b'\t'].into_iter().find(|separator| names.contains(separator)) {
                    Some(separator) if !names.contains(&b',') => {
                        format!(
                            ", which seems to be separated by {:?} and not by commas",
                            char::from(separator)
                        )
                    }
                    _ => String::new(),
                };
            format!("its first line is `{}`{hint}, not `{}`", excerpt(names), COLUMNS.join(","))
        }
        error => error.to_string(),
    })
}

/// Whether the first line of a text is that of a tar archive, where the head of a file precedes what is in the file.
fn is_tar(line: &[u8]) -> bool {
    line.get(257..).is_some_and(|rest| rest.starts_with(b"ustar"))
}

/// Whether a carriage return ends lines here: it is text, and no file of another kind that happens to have such a byte.
fn has_returns(text: &[u8]) -> bool {
    let is_text = |byte: &u8| matches!(byte, b'\t' | b'\r') || !byte.is_ascii_control();
    text.contains(&b'\r') && text.iter().all(is_text)
}

/// The beginning of a line that may be anything, fit to be printed.
fn excerpt(line: &[u8]) -> String {
    let start: String =
        String::from_utf8_lossy(line).chars().take(60).flat_map(char::escape_debug).collect();
    if line.len() > 60 { start + ".." } else { start }
}
