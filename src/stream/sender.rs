//! [`Sender`]: pushing items into a stream.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock::account::WaitFor;
use crate::clock::{Limit, earlier};
use crate::edge::{Edge, Refused};
use crate::error::{BoxError, PanicMessage, Result, StreamError};
use crate::pipeline::recording::Stamper;
use crate::pipeline::stall::Watch;
use crate::pipeline::stats::StageStats;
use crate::pipeline::{CancelToken, Drain};
use crate::stage::thread::noted_cut;

/// Sends items into a stream; made by [`Stream::channel`](crate::Stream::channel).
///
/// The stream ends when the last clone is dropped, when [`finish`](Self::finish) is called on any, or when the pipeline
/// is drained; from then on, items are given back. A thread that panics while it holds the last clone cuts the
/// stream instead of ending it: the last error is of kind [`Cancelled`](crate::ErrorKind::Cancelled), and its source is a
/// [`PanicMessage`].
///
/// Clones feed the same stream. Items of one clone keep their order.
pub struct Sender<T: Send + 'static> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    edge: Arc<Edge<T>>,
    token: CancelToken,
    stats: Arc<StageStats>,
    stamper: Stamper,
}

/// Returns an item that could not be sent, and says why.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError<T> {
    /// The stream takes no more items: its consumer is gone, it was ended, or the pipeline is drained or cancelled.
    Closed(T),
    /// There was no room, at once or within the time allowed.
    Full(T),
}

impl<T> SendError<T> {
    /// Returns the item.
    pub fn into_inner(self) -> T {
        match self {
            SendError::Closed(item) | SendError::Full(item) => item,
        }
    }

    /// Returns whether the stream was full, so that sending may succeed later.
    pub fn is_full(&self) -> bool {
        matches!(self, SendError::Full(_))
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Closed(_) => "Closed(..)",
            SendError::Full(_) => "Full(..)",
        })
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Closed(_) => "the stream takes no more items",
            SendError::Full(_) => "the stream has no room",
        })
    }
}

impl<T> std::error::Error for SendError<T> {}

impl<T: Send + 'static> Sender<T> {
    pub(super) fn new(edge: Arc<Edge<T>>, token: CancelToken, stats: Arc<StageStats>) -> Self {
        let stamper = Stamper::new(&stats, token.clock());
        let shared = Arc::new(Shared { edge, token, stats, stamper });
        shared.stats.senders.store(1, Ordering::Relaxed);
        let drain: std::sync::Weak<dyn Drain> = Arc::downgrade(&(Arc::clone(&shared) as Arc<dyn Drain>));
        shared.token.scope().on_drain(drain);
        Self { shared }
    }

    /// Sends an item, waiting for room.
    ///
    /// # Errors
    /// The item, if the stream is closed, also while waiting.
    pub fn send(&self, item: T) -> Result<(), SendError<T>> {
        self.send_result(Ok(item), Limit::Unlimited).map_err(data_back)
    }

    /// Sends an item if there is room now. Never blocks.
    ///
    /// # Errors
    /// The item, if there is no room or the stream is closed.
    pub fn try_send(&self, item: T) -> Result<(), SendError<T>> {
        self.try_send_result(Ok(item)).map_err(data_back)
    }

    /// Sends an item, waiting for room up to `timeout`, by the pipeline's clock. A timeout too large to add never
    /// passes.
    ///
    /// # Errors
    /// The item, if there was no room in time or the stream is closed.
    pub fn send_timeout(&self, item: T, timeout: Duration) -> Result<(), SendError<T>> {
        let limit = Limit::after(timeout, self.shared.token.clock());
        self.send_result(Ok(item), limit).map_err(data_back)
    }

    /// Sends an error item, waiting for room: for a source of your own that can fail.
    ///
    /// # Errors
    /// The error, if the stream is closed, also while waiting.
    pub fn send_error(&self, error: StreamError) -> Result<(), SendError<StreamError>> {
        self.send_result(Err(error), Limit::Unlimited).map_err(error_back)
    }

    /// Sends an error item if there is room now. Never blocks.
    ///
    /// # Errors
    /// The error, if there is no room or the stream is closed.
    pub fn try_send_error(&self, error: StreamError) -> Result<(), SendError<StreamError>> {
        self.try_send_result(Err(error)).map_err(error_back)
    }

    /// Ends the stream after the items sent so far, even if clones are left.
    pub fn finish(self) {
        self.shared.edge.finish();
    }

    /// Cuts the stream after the items sent so far, even if clones are left: for a source that failed with `reason`,
    /// whose items must not be mistaken for a complete input.
    ///
    /// The last error of the stream is of kind [`Cancelled`](crate::ErrorKind::Cancelled) and has `reason` as its source. The
    /// pipeline is not cancelled; its outcome is [`Cut`](crate::Outcome::Cut). Does nothing if the stream has ended.
    ///
    /// ```
    /// use streamz::{Outcome, Pipeline, Stream};
    ///
    /// let pipeline = Pipeline::new("feed");
    /// let (sender, numbers) = Stream::channel(&pipeline, 16);
    /// sender.send(1)?;
    /// sender.cut(std::io::Error::other("connection lost"));
    ///
    /// let error = numbers.collect::<Vec<u32>>().unwrap_err();
    /// assert!(error.is_cancelled());
    /// assert_eq!(error.downcast_ref::<std::io::Error>().unwrap().to_string(), "connection lost");
    /// assert!(matches!(pipeline.join().outcome, Outcome::Cut(_)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cut(self, reason: impl Into<BoxError>) {
        self.shared.cut(reason);
    }

    /// Returns whether the stream takes no more items.
    pub fn is_closed(&self) -> bool {
        self.shared.edge.is_closed() || self.shared.token.is_cancelled()
    }

    /// Returns the token of the stream.
    pub fn token(&self) -> &CancelToken {
        &self.shared.token
    }

    fn try_send_result(&self, item: Result<T>) -> Result<(), SendError<Result<T>>> {
        let shared = &*self.shared;
        if shared.token.is_cancelled() {
            return Err(SendError::Closed(item));
        }
        let is_data = item.is_ok();
        match shared.edge.offer(item, || shared.count(is_data)) {
            Ok(()) => {
                shared.stamp(is_data);
                Ok(())
            }
            Err((Refused::Closed, item)) => Err(SendError::Closed(item)),
            Err((Refused::Full, item)) => Err(SendError::Full(item)),
        }
    }

    fn send_result(&self, item: Result<T>, limit: Limit) -> Result<(), SendError<Result<T>>> {
        let shared = &*self.shared;
        let mut refused = match self.try_send_result(item) {
            Err(SendError::Full(item)) => item,
            sent => return sent,
        };
        let _blocked = Blocked::new(&shared.stats);
        let waiter = limit.waiter(shared.token.clock());
        let _registered = shared.token.register(waiter.wake());
        let watch = Watch::start(shared.token.scope(), shared.token.now());
        let room = shared.edge.room_wanted(waiter.wake());
        loop {
            match self.try_send_result(refused) {
                Err(SendError::Full(item)) => refused = item,
                sent => return sent,
            }
            if limit.has_passed(shared.token.clock()) {
                return Err(SendError::Full(refused));
            }
            if !room.is_met() && !shared.token.is_cancelled() {
                let until = earlier(earlier(limit.deadline(), shared.token.deadline()), watch.next());
                waiter.park_for(WaitFor::Room, until);
                watch.look(shared.token.scope());
            }
        }
    }
}

/// A sender that waits for room, until this is dropped.
struct Blocked<'a>(&'a StageStats);

impl<'a> Blocked<'a> {
    fn new(stats: &'a StageStats) -> Self {
        stats.blocked_senders.fetch_add(1, Ordering::Relaxed);
        Self(stats)
    }
}

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        self.0.blocked_senders.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T> Shared<T> {
    /// A stream that has ended already, or that has no consumer any more, is not cut.
    fn cut(&self, reason: impl Into<BoxError>) {
        if !self.edge.is_closed() {
            self.edge.cut(noted_cut(&self.token, &self.stats, reason));
        }
    }

    /// Something was sent. An item that a clone sends in between only makes the stamp a little late.
    #[inline]
    fn stamp(&self, is_data: bool) {
        if is_data && let Some(stamp) = self.stamper.due() {
            self.edge.put_mark(stamp);
        }
    }

    /// Called under the edge's lock, so that there is one writer at a time.
    fn count(&self, is_data: bool) {
        let step = &self.stats.steps[0];
        if is_data { &step.emitted } else { &step.errors_out }.add(1);
    }
}

fn data_back<T>(refused: SendError<Result<T>>) -> SendError<T> {
    let back = |item: Result<T>| item.unwrap_or_else(|_| unreachable!("an item was sent, not an error"));
    match refused {
        SendError::Closed(item) => SendError::Closed(back(item)),
        SendError::Full(item) => SendError::Full(back(item)),
    }
}

fn error_back<T>(refused: SendError<Result<T>>) -> SendError<StreamError> {
    let back = |item: Result<T>| item.err().unwrap_or_else(|| unreachable!("an error was sent, not an item"));
    match refused {
        SendError::Closed(item) => SendError::Closed(back(item)),
        SendError::Full(item) => SendError::Full(back(item)),
    }
}

/// A drain ends the stream; items sent before are still delivered.
impl<T: Send + 'static> Drain for Shared<T> {
    fn drain(&self) {
        self.edge.finish();
    }
}

impl<T: Send + 'static> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.stats.senders.fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T: Send + 'static> Drop for Sender<T> {
    fn drop(&mut self) {
        // AcqRel: the thread that ends the stream does so after everything that the other clones did.
        if self.shared.stats.senders.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let shared = &*self.shared;
        if std::thread::panicking() {
            shared.cut(PanicMessage::new("the thread that fed the stream panicked".to_owned()));
        } else if let Some(cause) = shared.token.cause() {
            shared.cut(cause);
        } else {
            shared.edge.finish();
        }
    }
}

// Like a stream.
impl<T: Send + 'static> UnwindSafe for Sender<T> {}
impl<T: Send + 'static> RefUnwindSafe for Sender<T> {}

impl<T: Send + 'static> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gauge = self.shared.edge.gauge();
        f.debug_struct("Sender")
            .field("stage", &self.shared.stats.name)
            .field("queued", &gauge.items())
            .field("capacity", &gauge.capacity.load(Ordering::Relaxed))
            .field("closed", &self.is_closed())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::{ManualClock, Pipeline, Stream};

    /// Waits until the edge knows of a sender that waits for room.
    fn wait_until_blocked<T>(edge: &Edge<T>) {
        while edge.waiting_for_room() == 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_sender_that_gave_up_leaves_nothing_behind() {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("full").clock(&clock).build();
        let (input, _stream) = Stream::channel(&pipeline, 1);
        input.send(0).unwrap();
        for n in 0..10 {
            assert!(input.send_timeout(n, Duration::from_millis(1)).unwrap_err().is_full());
            assert_eq!(input.shared.edge.waiting_for_room(), 0);
        }
        assert_eq!(clock.elapsed(), Duration::from_millis(10));
    }

    #[test]
    fn a_sender_that_was_cancelled_leaves_nothing_behind() {
        let pipeline = Pipeline::new("full");
        let child = pipeline.child();
        let (input, _stream) = Stream::channel(&child, 1);
        input.send(0).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| input.send(1));
            wait_until_blocked(&input.shared.edge);
            child.cancel();
            assert_eq!(waiting.join().unwrap(), Err(SendError::Closed(1)));
        });
        assert_eq!(input.shared.edge.waiting_for_room(), 0);
    }

    #[test]
    fn a_reader_that_gave_up_leaves_nothing_behind() {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("empty").clock(&clock).build();
        let (_sender, receiver) = crossbeam_channel::bounded::<u32>(1);
        let mut stream = Stream::from_receiver(&pipeline, receiver);
        for _ in 0..10 {
            stream.recv_timeout(Duration::from_millis(1)).unwrap_err();
            assert_eq!(pipeline.scope().waiting_for_drain(), 0);
        }
    }

    /// Takes one item at least, and holds the stream from then on.
    type Take = (&'static str, fn(Stream<u32>) -> Box<dyn std::any::Any>);

    const TAKES: &[Take] = &[
        ("recv", |mut stream| {
            stream.recv();
            Box::new(stream)
        }),
        ("try_recv", |mut stream| {
            stream.try_recv().unwrap().unwrap();
            Box::new(stream)
        }),
        ("recv_timeout", |mut stream| {
            stream.recv_timeout(Duration::MAX).unwrap().unwrap();
            Box::new(stream)
        }),
        ("iterator", |stream| {
            let mut items = stream.into_iter();
            items.next();
            Box::new(items)
        }),
        // One is in the channel, and one in the hands of its thread.
        ("into_receiver", |stream| Box::new(stream.into_receiver(1))),
    ];

    /// It is less than is worth announcing at once; a consumer that returns to its caller, or blocks, announces it.
    #[test]
    fn room_for_one_item_is_announced_before_the_consumer_pauses() {
        let mut not_told = Vec::new();
        for (what, take) in TAKES {
            let pipeline = Pipeline::new("room");
            let (input, stream) = Stream::channel(&pipeline, 10);
            (0..10).for_each(|n| input.send(n).unwrap());
            let edge = Arc::clone(&input.shared.edge);
            let (sent, is_sent) = mpsc::channel();
            let waiting = std::thread::spawn(move || sent.send(input.send(10)));
            wait_until_blocked(&edge);
            let held = take(stream);
            // Nothing else is taken, so a sender that has not been notified waits forever.
            if is_sent.recv_timeout(Duration::from_secs(10)) != Ok(Ok(())) {
                not_told.push(what);
            }
            drop(held);
            let _ = waiting.join().unwrap();
        }
        assert!(not_told.is_empty(), "the sender was not told of the room made by {not_told:?}");
    }
}
