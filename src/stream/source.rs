//! Sources: where the items of a pipeline come from.
//!
//! A source is a [`Feed`] whose `poll` makes the next item. It is the way in of the stage that reads it, on the same
//! thread: of one that only passes the items on, or of one that goes on with the first steps.

use std::io::{BufRead, ErrorKind as IoErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::start::{Registered, spawn_driver};
use super::{Sender, Stream};
use crate::clock::real_now;
use crate::clock::wait::{Waiter, before_blocking};
use crate::clock::{Ticks, earlier};
use crate::edge::{End, Polled};
use crate::error::{ErrorKind, PanicMessage, StreamError};
use crate::panic::{self, PanicPayload};
use crate::pipeline::CancelToken;
use crate::pipeline::stats::Phase;
use crate::stage::Pass;
use crate::stage::input::{Feed, Foreign, Input};
use crate::stage::operator::sealed::Context;
use crate::stage::thread::StageThread;

/// What a source knows of itself.
pub(crate) struct Site {
    token: CancelToken,
    context: Context,
    /// Whether it keeps the books of its stage: nobody else does if its reader is another stage.
    keeps_books: bool,
}

impl Site {
    pub(crate) fn new(registered: &Registered, keeps_books: bool) -> Self {
        Self { token: registered.token.clone(), context: registered.context(), keeps_books }
    }

    #[cold]
    fn error(&self, complete: impl FnOnce(StreamError) -> StreamError, kind: ErrorKind) -> StreamError {
        if self.keeps_books {
            self.context.stats.steps[0].errors_out.add(1);
        }
        complete(self.context.error(kind, 0))
    }

    fn publish(&self, made: u64) {
        if self.keeps_books {
            self.context.stats.steps[0].emitted.add(made);
        }
    }
}

/// The items of an iterator.
///
/// An iterator that knows how many items are left does not wait for the outside world: as long as it is quick, its items
/// are handed over in chunks. All others may block at any time.
pub(crate) struct Iter<I> {
    /// `None` after it panicked.
    items: Option<I>,
    site: Site,
    knows_its_length: bool,
    is_quick: bool,
    /// Items since the last look at the clock, and when that was; `None` if there was a pause.
    since: (u64, Option<Instant>),
}

/// An iterator is quick that makes so many items within so long.
const QUICK: (u64, Duration) = (64, Duration::from_micros(64));

impl<I: Iterator> Iter<I> {
    pub(crate) fn new(items: I, site: Site) -> Self {
        let (least, most) = items.size_hint();
        Self { items: Some(items), site, knows_its_length: most == Some(least), is_quick: false, since: (0, None) }
    }

    #[cold]
    fn look_at_the_clock(&mut self) {
        let now = real_now();
        if let Some(last) = self.since.1 {
            let allowed = QUICK.1.mul_f64(self.since.0 as f64 / QUICK.0 as f64);
            self.is_quick = now.saturating_duration_since(last) <= allowed;
        }
        self.since = (0, Some(now));
    }
}

impl<I: Iterator> Feed for Iter<I>
where
    I::Item: Send + 'static,
{
    type Item = I::Item;

    #[inline]
    fn poll(&mut self) -> Polled<I::Item> {
        panic::catch(|| self.poll_unguarded()).unwrap_or_else(|payload| Polled::Item(Err(self.panicked(payload))))
    }

    #[inline(always)]
    fn poll_unguarded(&mut self) -> Polled<I::Item> {
        match self.items.as_mut().and_then(Iterator::next) {
            Some(item) => Polled::Item(Ok(item)),
            None => Polled::Ended(End::Finished),
        }
    }

    #[cold]
    fn panicked(&mut self, payload: PanicPayload) -> StreamError {
        self.items = None;
        self.site.error(|error| error.with_source(PanicMessage::from(payload)), ErrorKind::Panicked)
    }

    fn is_at_once(&mut self) -> bool {
        if self.since.0 >= QUICK.0 && self.knows_its_length {
            self.look_at_the_clock();
        }
        !self.is_quick
    }

    fn paused(&mut self) {
        self.since = (0, None);
    }

    fn is_drained(&self) -> bool {
        self.site.token.is_draining()
    }

    fn publish(&mut self, made: u64) {
        self.site.publish(made);
        self.since.0 += made;
    }
}

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

/// A tick every so often.
struct Interval {
    ticks: Ticks,
    site: Site,
}

impl Feed for Interval {
    type Item = u64;

    fn poll(&mut self) -> Polled<u64> {
        match self.ticks.take(self.site.token.now()) {
            Some(tick) => Polled::Item(Ok(tick)),
            None => Polled::Empty,
        }
    }

    fn wait(
        &self,
        thread: &StageThread,
        until: Option<Instant>,
        _hint: impl FnMut() -> bool,
        register: impl FnOnce(&Waiter) -> bool,
    ) {
        let token = &self.site.token;
        let until = earlier(self.ticks.next, until);
        thread.wait(Phase::Idle, until, || false, |waiter| register(waiter) || token.is_draining());
    }

    fn is_drained(&self) -> bool {
        self.site.token.is_draining()
    }

    fn publish(&mut self, made: u64) {
        self.site.publish(made);
    }
}

impl<T: Send + 'static> Stream<T> {
    /// A source with a thread of its own.
    #[track_caller]
    fn source<F>(cancel: &CancelToken, name: &str, feed: impl FnOnce(Site) -> F) -> Self
    where
        F: Feed<Item = T> + Send + 'static,
    {
        let registered = Registered::source(cancel, name, 1);
        let feed = feed(Site::new(&registered, false));
        spawn_driver(registered, None, Pass::new(), feed)
    }

    /// The items of an iterator, on a thread of its own.
    ///
    /// The iterator may block; each item is handed over as soon as it is there. One that knows its length (a range, a
    /// vector) does not wait for others: once it has proved to be quick, its items may go in small chunks, and one may
    /// wait for the next call of `next`. A drain stops it between two items. If it panics, the stream ends with an error
    /// item of kind [`Panicked`](ErrorKind::Panicked).
    ///
    /// # Panics
    /// If `cancel` belongs to no pipeline, or to one that has finished.
    #[track_caller]
    pub fn from_iter<I>(cancel: &CancelToken, items: I) -> Self
    where
        I: IntoIterator<Item = T>,
        I::IntoIter: Send + 'static,
    {
        Self::source(cancel, "source", |site| Iter::new(items.into_iter(), site))
    }

    /// A stream that is fed by hand, and the [`Sender`] that feeds it. At most `capacity` items wait in it; with 0 each is
    /// handed over directly to a consumer that waits for it, or has looked for it in vain.
    ///
    /// # Panics
    /// If `cancel` belongs to no pipeline, or to one that has finished.
    #[track_caller]
    pub fn channel(cancel: &CancelToken, capacity: usize) -> (Sender<T>, Self) {
        let registered = Registered::source(cancel, "channel", 0);
        let (mut sender, stream) = registered.output("", Some(capacity));
        let edge = Arc::clone(sender.shared());
        sender.release();
        (Sender::new(edge, cancel.clone(), registered.stats), stream)
    }

    /// What comes out of a crossbeam channel. The first stage reads the channel itself; there is no thread in between.
    ///
    /// The stream ends when all senders of the channel are gone. A drain ends it at once: what is in the channel then
    /// stays there.
    ///
    /// # Panics
    /// If `cancel` belongs to no pipeline, or to one that has finished.
    #[track_caller]
    pub fn from_receiver(cancel: &CancelToken, receiver: Receiver<T>) -> Self {
        let Registered { token, stats, .. } = Registered::source(cancel, "receiver", 0);
        let feeder = Arc::clone(&stats.name);
        let scope = Arc::clone(token.scope());
        Self::from_input(Input::Foreign(Foreign { receiver, scope, stats }), token, feeder)
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

impl Stream<u64> {
    /// One item every `period`: the number of the tick, counted from 1, which comes one period from now.
    ///
    /// Ticks are due at whole multiples of the period and do not drift. Those that come due while the consumer has no
    /// room are left out, and their numbers with them.
    ///
    /// # Panics
    /// If `period` is zero, or `cancel` belongs to no pipeline or to one that has finished.
    #[track_caller]
    pub fn interval(cancel: &CancelToken, period: Duration) -> Self {
        assert!(!period.is_zero(), "`period` must be greater than zero");
        let ticks = Ticks::new(cancel.now(), period);
        Self::source(cancel, "interval", |site| Interval { ticks, site })
    }
}
