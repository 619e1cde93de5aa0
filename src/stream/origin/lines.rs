//! The lines of a reader.

use std::io::{BufRead, ErrorKind as IoErrorKind};

use super::Site;
use crate::clock::wait::before_blocking;
use crate::edge::{End, Polled};
use crate::error::{ErrorKind, PanicMessage};
use crate::panic;
use crate::pipeline::CancelToken;
use crate::stage::input::Feed;
use crate::stream::Stream;

/// The lines of a reader. What has been handed to the operator is handed over before each read that may block.
pub(crate) struct Lines<R> {
    /// `None` after it failed.
    reader: Option<R>,
    site: Site,
    /// How many bytes can be read without asking the system.
    buffered: usize,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(reader: R, site: Site) -> Self {
        Self { reader: Some(reader), site, buffered: 0 }
    }

    /// One line with its end; nothing at the end of the reader.
    fn read(&mut self) -> std::io::Result<Vec<u8>> {
        let mut line = Vec::new();
        let Some(reader) = &mut self.reader else { return Ok(line) };
        loop {
            if self.buffered == 0 {
                before_blocking();
            }
            let available = match reader.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == IoErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let mut rest = available;
            let used = rest.read_until(b'\n', &mut line)?;
            self.buffered = rest.len();
            reader.consume(used);
            if used == 0 || line.ends_with(b"\n") {
                return Ok(line);
            }
        }
    }

    fn text(&mut self, mut line: Vec<u8>) -> Polled<String> {
        if line.last() == Some(&b'\n') {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
        }
        match String::from_utf8(line) {
            Ok(line) => Polled::Item(Ok(line)),
            Err(error) => {
                let reason = error.utf8_error();
                Polled::Item(Err(self
                    .site
                    .error(|it| it.with_source(reason).with_item(error.into_bytes()), ErrorKind::Failed)))
            }
        }
    }
}

impl<R: BufRead> Feed for Lines<R> {
    type Item = String;

    fn poll(&mut self) -> Polled<String> {
        match panic::catch(|| self.read()) {
            Ok(Ok(line)) if line.is_empty() => Polled::Ended(End::Finished),
            Ok(Ok(line)) => self.text(line),
            Ok(Err(error)) => {
                self.reader = None;
                Polled::Item(Err(self.site.error(|it| it.with_source(error), ErrorKind::Failed)))
            }
            Err(payload) => {
                self.reader = None;
                Polled::Item(Err(self
                    .site
                    .error(|it| it.with_source(PanicMessage::from(payload)), ErrorKind::Panicked)))
            }
        }
    }

    fn is_drained(&self) -> bool {
        self.site.token.is_draining()
    }

    fn publish(&mut self, made: u64) {
        self.site.publish(made);
    }
}

impl Stream<String> {
    /// The lines of a reader, without their line ends (`\n` or `\r\n`), on a thread of its own.
    ///
    /// Lines that have been read are handed over before the reader is asked for more. A line that is not UTF-8 becomes an
    /// error item that carries its bytes as a `Vec<u8>`; reading goes on. An error of the reader becomes an error item,
    /// and the stream ends. A drain takes effect when the next line has been read: a read that blocks in the operating
    /// system cannot be interrupted.
    ///
    /// # Panics
    /// If `cancel` belongs to no pipeline, or to one that has finished.
    #[track_caller]
    pub fn lines<R: BufRead + Send + 'static>(cancel: &CancelToken, reader: R) -> Self {
        Self::source(cancel, "lines", |site| Lines::new(reader, site))
    }
}
