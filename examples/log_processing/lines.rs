//! From bytes to lines.

use std::io::{self, BufRead, ErrorKind};

/// The longest line that is kept. What is much longer is no log line, and must not fill the memory.
pub(crate) const MAX_LINE: usize = 64 * 1024;

/// A line as it stands in its file.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) at: At,
    pub(crate) raw: Raw,
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

/// The bytes of a line without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Raw {
    /// Of a line that is too long, the beginning.
    pub(crate) bytes: Box<[u8]>,
    pub(crate) too_long: bool,
}

impl At {
    /// `access.log:17`, or `access.log:+17` where the count did not begin at the beginning.
    pub(crate) fn describe(self, names: &[String]) -> String {
        let sign = if self.relative { "+" } else { "" };
        format!("{}:{sign}{}", names[self.file as usize], self.number)
    }
}

/// Cuts what a reader gives into lines. When the reader has nothing more for now, it can be asked again later.
#[derive(Debug, Default)]
pub(crate) struct Cutter {
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    too_long: bool,
    /// Whether the next line is only the rest of one, and no line.
    skips: bool,
}

impl Cutter {
    /// Begins in the middle of a line, which is left out.
    pub(crate) fn in_the_middle() -> Self {
        Self { skips: true, ..Self::default() }
    }

    /// The next complete line; nothing if the reader has come to its end before.
    pub(crate) fn next(&mut self, reader: &mut (impl BufRead + ?Sized)) -> io::Result<Option<Raw>> {
        loop {
            let available = match reader.fill_buf() {
                Ok([]) => return Ok(None),
                Ok(available) => available,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            // A slice finds its line ends as quickly as the machine can.
            let mut rest = available;
            let used = rest.skip_until(b'\n')?;
            let piece = &available[..used];
            let whole = piece.last() == Some(&b'\n');
            let piece = if whole { &piece[..used - 1] } else { piece };
            if whole && self.partial.is_empty() && !self.skips && piece.len() <= MAX_LINE {
                let raw = Raw { bytes: without_return(piece).into(), too_long: false };
                reader.consume(used);
                return Ok(Some(raw));
            }
            let room = MAX_LINE - self.partial.len();
            self.too_long |= piece.len() > room;
            self.partial.extend_from_slice(&piece[..piece.len().min(room)]);
            reader.consume(used);
            if whole && let Some(raw) = self.take() {
                return Ok(Some(raw));
            }
        }
    }

    /// What stands after the last line end, when no more will come.
    pub(crate) fn rest(&mut self) -> Option<Raw> {
        if self.is_empty() { None } else { self.take() }
    }

    /// Whether there is nothing after the last line end.
    pub(crate) fn is_empty(&self) -> bool {
        self.partial.is_empty()
    }

    fn take(&mut self) -> Option<Raw> {
        let raw = Raw { bytes: without_return(&self.partial).into(), too_long: self.too_long };
        self.partial.clear();
        self.partial.shrink_to(4096);
        self.too_long = false;
        (!std::mem::take(&mut self.skips)).then_some(raw)
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}
