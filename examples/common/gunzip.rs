//! Unpacks gzip as `gzip -d` does: several members are one file, zeros after them are padding.

use std::fmt;
use std::io::{self, BufRead, ErrorKind, Read};

use flate2::bufread::GzDecoder;

/// The first two bytes of every gzip file.
pub(crate) const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The decompressed bytes of a reader of gzip.
///
/// Bytes after the last member that are neither gzip nor zeros make one read fail with [`Garbage`]; everything before
/// them has been read by then, and the next read is at the end.
pub(crate) struct Gunzip<R> {
    /// `None` after the last one.
    member: Option<GzDecoder<R>>,
}

/// The bytes after the last member are not gzip. The text before them is complete.
#[derive(Debug)]
pub(crate) struct Garbage;

impl fmt::Display for Garbage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes after the end of the gzip data are not gzip, and were not read")
    }
}

impl std::error::Error for Garbage {}

impl Garbage {
    pub(crate) fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|error| error.is::<Self>())
    }
}

impl<R: BufRead> Gunzip<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { member: Some(GzDecoder::new(reader)) }
    }
}

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let (Some(member), false) = (&mut self.member, buffer.is_empty()) {
            let read = member.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            let next = after_zeros(member.get_mut())?;
            let rest = self.member.take().map(GzDecoder::into_inner);
            match next {
                None => {}
                Some(byte) if byte == MAGIC[0] => self.member = rest.map(GzDecoder::new),
                Some(_) => return Err(io::Error::new(ErrorKind::InvalidData, Garbage)),
            }
        }
        Ok(0)
    }
}

/// The next byte that is not zero, which is not consumed; `None` at the end.
fn after_zeros(reader: &mut impl BufRead) -> io::Result<Option<u8>> {
    loop {
        let available = match reader.fill_buf() {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            available => available?,
        };
        if available.is_empty() {
            return Ok(None);
        }
        let zeros = available.iter().take_while(|byte| **byte == 0).count();
        let next = available.get(zeros).copied();
        reader.consume(zeros);
        if next.is_some() {
            return Ok(next);
        }
    }
}
