//! The lines of a reader.

use std::io::{self, BufRead};

use super::Site;
use super::line_reader::{Line, LineError, LineReader, ReadErrors, Step};
use crate::clock::wait::before_blocking;
use crate::edge::{End, Polled};
use crate::error::{ErrorKind, PanicMessage};
use crate::panic;
use crate::pipeline::CancelToken;
use crate::stage::input::Feed;
use crate::stream::Stream;

/// Converts into the reader of [`Stream::lines`]: a plain reader, or a [`LineReader`] with options. Sealed.
#[allow(private_bounds)] // seals the trait
pub trait IntoLineReader: sealed::Sealed {
    /// The reader below.
    type Reader: BufRead + Send + 'static;

    /// Converts into a line reader.
    fn into_line_reader(self) -> LineReader<Self::Reader>;
}

impl<R: BufRead + Send + 'static> IntoLineReader for R {
    type Reader = R;

    fn into_line_reader(self) -> LineReader<R> {
        LineReader::new(self)
    }
}

impl<R: BufRead + Send + 'static> IntoLineReader for LineReader<R> {
    type Reader = R;

    fn into_line_reader(self) -> Self {
        self
    }
}

/// Converts from a line of a reader: into a [`String`], or a [`Line`] with its bytes and its number. Sealed.
#[allow(private_bounds)] // seals the trait
pub trait FromLine: sealed::FromLine {}

impl FromLine for String {}
impl FromLine for Line {}

mod sealed {
    use std::io::BufRead;

    use super::{Line, LineError, LineReader};

    pub(super) trait Sealed {}
    impl<R: BufRead> Sealed for R {}
    impl<R: BufRead> Sealed for LineReader<R> {}

    pub(super) trait FromLine: Sized + Send + 'static {
        /// What an error item carries of a line.
        type Raw: Send + 'static;

        fn raw(line: Line) -> Self::Raw;
        fn from_line(line: Line) -> Result<Self, (LineError, Self::Raw)>;
    }

    impl FromLine for String {
        type Raw = Vec<u8>;

        fn raw(line: Line) -> Vec<u8> {
            line.bytes
        }

        fn from_line(line: Line) -> Result<Self, (LineError, Vec<u8>)> {
            String::from_utf8(line.bytes).map_err(|error| {
                let reason = LineError::NotUtf8 { number: line.number, source: error.utf8_error() };
                (reason, error.into_bytes())
            })
        }
    }

    impl FromLine for Line {
        type Raw = Line;

        fn raw(line: Line) -> Line {
            line
        }

        fn from_line(line: Line) -> Result<Self, (LineError, Line)> {
            Ok(line)
        }
    }
}

/// The lines of a reader. Items that the operator has received are handed over before each read that may block.
pub(crate) struct Lines<R, T> {
    reader: LineReader<R>,
    site: Site,
    item: std::marker::PhantomData<fn() -> T>,
}

impl<R: BufRead, T: FromLine> Lines<R, T> {
    pub(crate) fn new(reader: LineReader<R>, site: Site) -> Self {
        Self { reader, site, item: std::marker::PhantomData }
    }

    fn read(&mut self, may_block: bool) -> Polled<T> {
        loop {
            if self.reader.buffered == 0 && !self.reader.ended {
                if !may_block {
                    return Polled::Empty;
                }
                before_blocking();
            }
            match self.reader.step() {
                Ok(Step::Line(line)) => return Polled::Item(self.item(line)),
                Ok(Step::Nothing) => return Polled::Ended(End::Finished),
                // A line need not end: control must return to the driver between two reads.
                Ok(Step::More) if self.site.token.is_cancelled() => return Polled::Empty,
                Ok(Step::More) if self.reader.cutter.is_skipping() && self.is_drained() => {
                    return Polled::Ended(End::Finished);
                }
                Ok(Step::More) => {}
                Err(error) => return self.failed(error),
            }
        }
    }

    fn item(&self, line: Line) -> crate::Result<T> {
        let made = if line.is_truncated {
            let (number, max_len) = (line.number, self.reader.cutter.max_len());
            Err((LineError::TooLong { number, max_len }, T::raw(line)))
        } else {
            T::from_line(line)
        };
        made.map_err(|(reason, raw)| {
            self.site.error(|error| error.with_source(reason).with_item(raw), ErrorKind::Failed)
        })
    }

    fn guarded(&mut self, may_block: bool) -> Polled<T> {
        panic::catch(|| self.read(may_block)).unwrap_or_else(|payload| {
            self.reader.ended = true;
            Polled::Ended(self.site.died(PanicMessage::from(payload)))
        })
    }

    #[cold]
    fn failed(&mut self, error: io::Error) -> Polled<T> {
        self.reader.ended = true;
        match self.reader.read_errors {
            ReadErrors::Cut => Polled::Ended(self.site.died(error)),
            ReadErrors::Emit => Polled::Item(Err(self.site.error(|it| it.with_source(error), ErrorKind::Failed))),
        }
    }
}

impl<R: BufRead, T: FromLine> Feed for Lines<R, T> {
    type Item = T;
    type Hand = ();

    fn poll(&mut self) -> Polled<T> {
        self.guarded(true)
    }

    fn poll_at_once(&mut self) -> Polled<T> {
        self.guarded(false)
    }

    fn is_drained(&self) -> bool {
        self.site.token.is_draining()
    }

    fn publish(&mut self, made: u64) {
        self.site.publish(made);
    }
}

impl Stream<String> {
    /// Reads the lines of a reader as text, on a thread of its own.
    ///
    /// Takes any [`BufRead`], or a [`LineReader`] with more options, which also defines what a line is. A line of more
    /// than 1 MiB, or of more than the `LineReader` allows, becomes an error item of kind [`Failed`](ErrorKind::Failed)
    /// with [`LineError::TooLong`] as its source and the beginning of the line as its item, a `Vec<u8>`; the rest of
    /// the line is skipped. A line that is not UTF-8 becomes an error item with [`LineError::NotUtf8`] and all its
    /// bytes. Reading continues after both.
    ///
    /// Lines that have been read are handed over before the reader is asked for more. The reader is not read again after
    /// its end.
    ///
    /// # Errors
    /// An error of the reader other than [`Interrupted`](io::ErrorKind::Interrupted), or a panic, cuts the stream: the
    /// last error is of kind [`Cancelled`](ErrorKind::Cancelled) and has the [`io::Error`] or the [`PanicMessage`] as
    /// its source. That includes [`WouldBlock`](io::ErrorKind::WouldBlock): the reader must block. Use
    /// [`LineReader::with_read_errors`] to survive errors of the reader.
    ///
    /// # Cancellation
    /// Stops between two reads, also within a line. A drain takes effect when the line has been read. A read that blocks in
    /// the operating system cannot be interrupted.
    ///
    /// # Panics
    /// If `cancel` belongs to no pipeline, or to one that has finished.
    #[track_caller]
    pub fn lines(cancel: &CancelToken, reader: impl IntoLineReader) -> Self {
        Self::source(cancel, "lines", |site| Lines::new(reader.into_line_reader(), site))
    }
}

impl Stream<Line> {
    /// Reads the lines of a reader as bytes with their numbers, on a thread of its own.
    ///
    /// As [`lines`](Stream::lines), except that a line need not be UTF-8, and that the error item of a line that is too long
    /// carries its beginning as a [`Line`].
    ///
    /// ```
    /// use streamz::{Line, LineError, LineReader, Pipeline, Stream};
    ///
    /// let pipeline = Pipeline::new("latin-1");
    /// let text = &b"caf\xe9\na line that is too long\nend"[..];
    /// let mut lines =
    ///     Stream::byte_lines(&pipeline, LineReader::new(text).with_max_len(10)).into_iter();
    ///
    /// let line = lines.next().unwrap()?;
    /// assert_eq!((line.number, &line.bytes[..]), (1, &b"caf\xe9"[..]));
    ///
    /// let error = lines.next().unwrap().unwrap_err();
    /// assert_eq!(
    ///     error.downcast_ref::<LineError>().unwrap().to_string(),
    ///     "line 2 is longer than 10 bytes"
    /// );
    /// assert_eq!(error.take_item::<Line>().unwrap().bytes, b"a line tha");
    ///
    /// assert_eq!(lines.next().unwrap()?.bytes, b"end");
    /// assert!(lines.next().is_none());
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    ///
    /// # Panics
    /// If `cancel` belongs to no pipeline, or to one that has finished.
    #[track_caller]
    pub fn byte_lines(cancel: &CancelToken, reader: impl IntoLineReader) -> Self {
        Self::source(cancel, "lines", |site| Lines::new(reader.into_line_reader(), site))
    }
}
