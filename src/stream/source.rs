//! Sources: where the items of a pipeline come from.

use std::io::BufRead;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::edge::{EdgeSender, End};
use super::input::{Foreign, Input};
use super::{Sender, Stream};
use crate::error::{ErrorKind, PanicMessage, Result};
use crate::pipeline::{CancelToken, Ticks};
use crate::stage::Registered;
use crate::stage::operator::sealed::Context;
use crate::stage::panic;
use crate::stage::stats::Phase;
use crate::stage::thread::{StageThread, spawn_error};

/// A source's way out: hands each item over at once, because nobody knows how long the next one takes.
struct SourceOutput<T> {
    sender: EdgeSender<T>,
    context: Context,
    thread: StageThread,
}

impl<T> SourceOutput<T> {
    /// Whether the source is to go on.
    fn is_wanted(&self) -> bool {
        !self.thread.is_stopped() && !self.sender.is_gone() && !self.thread.token.is_draining()
    }

    /// Sends an item; waits for room. What is in hand when the pipeline drains is still sent.
    fn send(&mut self, item: Result<T>) {
        let step = &self.context.stats.steps[0];
        if item.is_ok() { &step.emitted } else { &step.errors_out }.add(1);
        self.sender.push(item);
        while self.sender.is_stuck() && !self.thread.is_stopped() && !self.sender.is_gone() {
            let sender = &self.sender;
            let wake = self.thread.wake();
            self.thread.wait(Phase::Blocked, None, || sender.may_have_room(), |_| sender.want_room(wake));
            self.sender.hand_over();
        }
    }

    fn fail(&mut self, kind: ErrorKind, source: impl Into<crate::BoxError>) {
        let error = self.context.error(kind, 0).with_source(source);
        self.send(Err(error));
    }

    /// Waits until the time has come, or the source is not wanted any more.
    fn wait_until(&self, due: Option<Instant>) {
        self.thread.wait(Phase::Idle, due, || false, |_| !self.is_wanted());
    }

    fn end(mut self) {
        let end = if self.thread.is_stopped() { End::Cut(self.thread.cut()) } else { End::Finished };
        self.sender.end(end);
    }
}

impl<T: Send + 'static> Stream<T> {
    #[track_caller]
    fn source(cancel: &CancelToken, name: &str, produce: impl FnOnce(&mut SourceOutput<T>) + Send + 'static) -> Self {
        let registered = Registered::source(cancel, name, 1);
        let (sender, stream) = registered.output("", None);
        let thread_name = registered.thread_name(0);
        cancel.scope().spawn(&thread_name, true, move |started| {
            let mut sender = sender.at_once();
            let context = registered.context();
            let Registered { token, stats, .. } = registered;
            if let Err(error) = started {
                return sender.end(End::Cut(spawn_error(&token, &stats, error)));
            }
            let thread = StageThread::new(token, stats, 0);
            sender.watch(thread.wake());
            let mut output = SourceOutput { sender, context, thread };
            produce(&mut output);
            output.end();
        });
        stream
    }

    /// The items of an iterator, on a thread of its own.
    ///
    /// The iterator may block; each item is handed over as soon as it is there. A drain stops it between two items. If
    /// it panics, the stream ends with an error item of kind [`Panicked`](ErrorKind::Panicked).
    ///
    /// # Panics
    /// If `cancel` belongs to no pipeline, or to one that has finished.
    #[track_caller]
    pub fn from_iter<I>(cancel: &CancelToken, items: I) -> Self
    where
        I: IntoIterator<Item = T>,
        I::IntoIter: Send + 'static,
    {
        let mut items = items.into_iter();
        Self::source(cancel, "source", move |out| {
            while out.is_wanted() {
                match panic::catch(|| items.next()) {
                    Ok(Some(item)) => out.send(Ok(item)),
                    Ok(None) => break,
                    Err(payload) => {
                        out.fail(ErrorKind::Panicked, PanicMessage::from(payload));
                        break;
                    }
                }
            }
        })
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
        let input = Some(Input::Foreign(Foreign { receiver, scope, stats }));
        Self { input, token, feeder, end_name: None }
    }
}

impl Stream<String> {
    /// The lines of a reader, without their line ends (`\n` or `\r\n`), on a thread of its own.
    ///
    /// A line that is not UTF-8 becomes an error item that carries its bytes as a `Vec<u8>`; reading goes on. An error of
    /// the reader becomes an error item, and the stream ends. A drain takes effect when the next line has been
    /// read: a read that blocks in the operating system cannot be interrupted.
    ///
    /// # Panics
    /// If `cancel` belongs to no pipeline, or to one that has finished.
    #[track_caller]
    pub fn lines<R: BufRead + Send + 'static>(cancel: &CancelToken, mut reader: R) -> Self {
        Self::source(cancel, "lines", move |out| {
            while out.is_wanted() {
                let mut line = Vec::new();
                match panic::catch(|| reader.read_until(b'\n', &mut line)) {
                    Ok(Ok(0)) => break,
                    Ok(Ok(_)) => out.send_line(line),
                    Ok(Err(error)) => {
                        out.fail(ErrorKind::Failed, error);
                        break;
                    }
                    Err(payload) => {
                        out.fail(ErrorKind::Panicked, PanicMessage::from(payload));
                        break;
                    }
                }
            }
        })
    }
}

impl SourceOutput<String> {
    fn send_line(&mut self, mut line: Vec<u8>) {
        if line.last() == Some(&b'\n') {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
        }
        match String::from_utf8(line) {
            Ok(line) => self.send(Ok(line)),
            Err(error) => {
                let reason = error.utf8_error();
                let error = self.context.error(ErrorKind::Failed, 0).with_source(reason).with_item(error.into_bytes());
                self.send(Err(error));
            }
        }
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
        let start = cancel.now();
        Self::source(cancel, "interval", move |out| {
            let mut ticks = Ticks::new(start, period);
            while out.is_wanted() {
                match ticks.take(out.thread.token.now()) {
                    Some(tick) => out.send(Ok(tick)),
                    None => out.wait_until(ticks.next),
                }
            }
        })
    }
}
