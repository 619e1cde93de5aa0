//! From bytes to rows: lines with their numbers.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use streamz::{BoxError, Result};

use crate::counts::Counts;
use crate::flight::{COLUMNS, Splitter};
use crate::input::Input;
use crate::interruptible::Stop;

/// The longest line that is kept. A flight has about 100 bytes; what is much longer is not one, and must not fill the
/// memory.
pub(crate) const MAX_LINE: usize = 8 * 1024;

/// A row as it stands in the input.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// Counted from 1, which is the header.
    pub(crate) number: i64,
    /// Without its line end; of a line that is too long, the beginning.
    pub(crate) raw: Box<[u8]>,
    pub(crate) too_long: bool,
}

/// The rows of an input, after its header.
///
/// A row is a line. In CSV a quoted field may contain a line break; that of a flight has no use for one, and an
/// unbalanced quote would otherwise swallow all that follows it.
///
/// An error of the reader ends the lines; it is left in [`fault`](Self::fault), so that what came before is still loaded.
pub(crate) struct Lines {
    input: Input,
    counts: Arc<Counts>,
    fault: Arc<Mutex<Option<BoxError>>>,
    number: i64,
    buffer: Vec<u8>,
}

/// What was found where a line was to be read.
enum Found {
    Line { too_long: bool },
    End,
}

impl Lines {
    /// Reads the header, and refuses an input that has another one.
    pub(crate) fn open(input: Input, counts: &Arc<Counts>) -> Result<Self, BoxError> {
        let mut lines = Self {
            input,
            counts: Arc::clone(counts),
            fault: Arc::default(),
            number: 0,
            buffer: Vec::with_capacity(MAX_LINE),
        };
        let found = lines.read_line().map_err(|error| format!("cannot read {}: {error}", lines.input.name))?;
        let name = &lines.input.name;
        match found {
            Found::End => Err(format!("{name} is empty; a file of flights begins with a line of column names").into()),
            Found::Line { .. } if is_header(&lines.buffer) => Ok(lines),
            Found::Line { .. } => Err(format!(
                "{name} is not a file of flights: its first line is `{}`, not `{}`",
                excerpt(&lines.buffer),
                COLUMNS.join(",")
            )
            .into()),
        }
    }

    /// Where an error of the reader is left when the lines have ended.
    pub(crate) fn fault(&self) -> Arc<Mutex<Option<BoxError>>> {
        Arc::clone(&self.fault)
    }

    /// Reads the next line into the buffer, without its line end.
    fn read_line(&mut self) -> io::Result<Found> {
        self.buffer.clear();
        // Room for a line end after the longest line.
        let limit = MAX_LINE + 2;
        let read = self.input.text.by_ref().take(limit as u64).read_until(b'\n', &mut self.buffer)?;
        if read == 0 {
            return Ok(Found::End);
        }
        self.number += 1;
        let complete = self.buffer.last() == Some(&b'\n');
        if complete {
            self.buffer.pop();
        } else if read == limit {
            self.input.text.skip_until(b'\n')?;
        }
        if self.buffer.last() == Some(&b'\r') {
            self.buffer.pop();
        }
        let too_long = self.buffer.len() > MAX_LINE;
        self.buffer.truncate(MAX_LINE);
        Ok(Found::Line { too_long })
    }

    fn stop(&self) -> &Stop {
        &self.input.stop
    }
}

impl Iterator for Lines {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        loop {
            if self.stop().is_set() {
                return None;
            }
            match self.read_line() {
                Ok(Found::Line { .. }) if self.buffer.is_empty() => {}
                Ok(Found::Line { too_long }) => {
                    self.counts.read.add(1);
                    return Some(Line { number: self.number, raw: self.buffer.as_slice().into(), too_long });
                }
                Ok(Found::End) => {
                    self.counts.at_end.store(true, Ordering::Relaxed);
                    return None;
                }
                // The wait was ended; the part of a line that may have come is no row.
                Err(_) if self.stop().is_set() => return None,
                Err(error) => {
                    let fault = format!("cannot read {} after line {}: {error}", self.input.name, self.number);
                    *self.fault.lock() = Some(fault.into());
                    return None;
                }
            }
        }
    }
}

fn is_header(line: &[u8]) -> bool {
    // Spreadsheets put a byte order mark in front.
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    Splitter::new().split(line).is_ok_and(|fields| fields.eq(COLUMNS))
}

/// The beginning of a line that may be anything, fit to be printed.
fn excerpt(line: &[u8]) -> String {
    let start: String = String::from_utf8_lossy(line).chars().take(60).flat_map(char::escape_debug).collect();
    if line.len() > 60 { start + ".." } else { start }
}
