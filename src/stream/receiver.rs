//! [`StreamReceiver`]: a stream as a crossbeam channel.
//!
//! A thread of the pipeline reads the stream and sends its items to the channel. It must notice when the receiver is
//! dropped, even while it has nothing to send; a channel notifies its sender no sooner than at the next item. So the
//! handles share an [`Interest`], on which the thread waits in addition to its input.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{
    Iter, Receiver, RecvError, RecvTimeoutError, Sender, TryIter, TryRecvError, TrySendError, bounded,
};
use parking_lot::Mutex;

use super::Stream;
use super::spawned::on_own_thread;
use super::start::Registered;
use crate::clock::wait::{Waiter, Wake};
use crate::edge::{End, Polled};
use crate::error::{Result, StreamError};
use crate::panic::{Guarded, guard_drop};
use crate::pipeline::CancelToken;
use crate::pipeline::stats::StageStats;
use crate::stage::Pass;
use crate::stage::input::{Feed, Input};
use crate::stage::reader::Reader;
use crate::stage::thread::{StageThread, cut_error, spawn_error};
use crate::trace::event;

/// The greatest capacity of a channel: beyond it, the process might be killed for want of memory.
const MOST_SLOTS: usize = 1 << 24;

impl<T: Send + 'static> Stream<T> {
    /// Turns the stream into a crossbeam channel of the given capacity, for a `select!` with other channels.
    ///
    /// A thread of the pipeline sends the items to the channel. When the channel is disconnected,
    /// [`StreamReceiver::cut`] tells whether the stream was complete.
    ///
    /// # Cancellation
    /// Dropping the receiver stops the stages that feed it. After a `select!` over it, a quiet source is stopped at its next
    /// item, or by [`StreamReceiver::close`]: see [`StreamReceiver`].
    ///
    /// # Panics
    /// If the pipeline has finished, or `capacity` is more than 16,777,216: the channel has room for all of it from the
    /// start.
    ///
    /// # Examples
    /// ```
    /// use crossbeam_channel::{bounded, select};
    /// use streamz::{Pipeline, Stream};
    ///
    /// let pipeline = Pipeline::new("numbers");
    /// let numbers = Stream::from_iter(&pipeline, 0..).map(|n: u64| n * n).into_receiver(16);
    /// let (sender, commands) = bounded(0);
    /// std::thread::spawn(move || sender.send("stop"));
    ///
    /// let mut squares = Vec::new();
    /// loop {
    ///     select! {
    ///         recv(numbers) -> square => squares.push(square??),
    ///         recv(commands) -> command => {
    ///             assert_eq!(command?, "stop");
    ///             break;
    ///         }
    ///     }
    /// }
    /// numbers.close();
    /// pipeline.join();
    /// assert!(squares.iter().copied().eq((0..squares.len() as u64).map(|n| n * n)));
    /// # Ok::<(), streamz::BoxError>(())
    /// ```
    #[track_caller]
    pub fn into_receiver(self, capacity: usize) -> StreamReceiver<T> {
        assert!(capacity <= MOST_SLOTS, "`capacity` must be at most 16,777,216, not {capacity}");
        let (input, Registered { token, stats, reservation, .. }) = self.sink("into_receiver");
        let (sender, receiver) = bounded(capacity);
        let interest = Arc::new(Interest::default());
        let cut = Arc::new(OnceLock::new());
        let receiver = StreamReceiver {
            receiver: Guarded::new(receiver, guard_drop),
            cut: Arc::clone(&cut),
            handle: Arc::new(Handle { interest: Arc::clone(&interest), was_borrowed: AtomicBool::new(false) }),
        };
        let scope = Arc::clone(token.scope());
        scope.spawn(&format!("{}-0", stats.name), true, move |started| {
            if let Err(error) = started {
                let _ = cut.set(spawn_error(&token, &stats, &error));
                return token.cancel_because(error);
            }
            // Items left in the channel, which are user values, are dropped with its last handle, which may be this
            // one.
            let sender = Guarded::new(sender, guard_drop);
            interest.watch(Waiter::current(token.clock()).wake());
            let site = (token.clone(), Arc::clone(&stats));
            let feed = WhileWanted { input, interest: Arc::clone(&interest), site, has_warned: false };
            let mut reader = on_own_thread(feed, &token, &stats);
            // Before the channel is disconnected, which happens when the sender is dropped.
            if let Err(error) = pass_on(&mut reader, &sender, &interest) {
                let _ = cut.set(error);
            }
        });
        drop(reservation);
        receiver
    }
}

/// Sends everything to the channel, until its receiver is dropped.
fn pass_on<T: Send + 'static>(
    reader: &mut Reader<Pass<T>, WhileWanted<T>>,
    sender: &Sender<Result<T>>,
    interest: &Interest,
) -> Result<()> {
    loop {
        let mut item = match reader.next() {
            Ok(item) => item,
            Err(End::Finished) => return Ok(()),
            Err(End::Cut(error)) => return Err(error),
        };
        loop {
            item = match sender.try_send(item) {
                Ok(()) => break,
                Err(TrySendError::Disconnected(item)) => {
                    guard_drop(item);
                    return Ok(());
                }
                Err(TrySendError::Full(item)) if reader.thread().is_stopped() => {
                    guard_drop(item);
                    return Err(reader.thread().cut());
                }
                // The reader determines what comes next: the end.
                Err(TrySendError::Full(item)) if interest.is_over() => break guard_drop(item),
                Err(TrySendError::Full(item)) => item,
            };
            reader.settle();
            item = match reader.thread().send_to_foreign(sender, item, || interest.is_over()) {
                Ok(()) => break,
                Err(item) => item,
            };
        }
    }
}

/// Whether the stream still has a consumer.
#[derive(Default)]
struct Interest {
    /// Written under the lock.
    is_over: AtomicBool,
    reader: Mutex<Option<Arc<Wake>>>,
}

impl Interest {
    /// From now on `wake` is posted when the interest ends.
    fn watch(&self, wake: &Arc<Wake>) {
        *self.reader.lock() = Some(Arc::clone(wake));
    }

    /// Release and Acquire, because the lock is not taken here. A reader that has called [`watch`](Self::watch) and
    /// then sees `false` will be woken.
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    fn end(&self) {
        // Under one lock with `watch`: either the wake is there and is posted, or `watch` comes later and its caller sees the store.
        let mut reader = self.reader.lock();
        self.is_over.store(true, Ordering::Release);
        let wake = reader.take();
        drop(reader);
        if let Some(wake) = wake {
            wake.post();
        }
    }
}

/// The input of the thread: the stream, until it has no consumer any more.
struct WhileWanted<T> {
    input: Input<T>,
    interest: Arc<Interest>,
    site: (CancelToken, Arc<StageStats>),
    /// It has been logged that records are not acknowledged.
    has_warned: bool,
}

impl<T> WhileWanted<T> {
    /// For clones of a receiver that was closed. Not reported, because no consumer misses anything.
    #[cold]
    fn closed(&self) -> End {
        let (token, stats) = &self.site;
        End::Cut(cut_error(token, stats, "the receiver was closed"))
    }

    /// It is unknown when the items in the channel have been processed.
    #[cold]
    fn lose(&mut self, mark: StreamError) {
        let (token, stats) = &self.site;
        if mark.emitted().is_some() {
            return stats.recordings.note_mark(mark.emitted(), token.clock());
        }
        if mark.label().is_none() && !std::mem::replace(&mut self.has_warned, true) {
            event!(
                warn,
                { stage = %stats.name },
                "streamz: records that leave `{}` are never acknowledged",
                stats.name
            );
        }
        drop(mark);
    }
}

impl<T: Send + 'static> Feed for WhileWanted<T> {
    type Item = T;
    type Hand = ();

    #[inline]
    fn poll(&mut self) -> Polled<T> {
        loop {
            if self.interest.is_over() {
                return Polled::Ended(self.closed());
            }
            match self.input.poll() {
                Polled::Item(Err(mark)) if mark.is_mark() => self.lose(mark),
                polled => return polled,
            }
        }
    }

    fn wait(
        &self,
        thread: &StageThread,
        until: Option<Instant>,
        mut hint: impl FnMut() -> bool,
        register: impl FnOnce(&Waiter) -> bool,
    ) {
        let is_over = || self.interest.is_over();
        thread.wait_for_inputs(&self.input, until, || hint() || is_over(), |waiter| register(waiter) || is_over());
    }

    fn settle(&self) {
        self.input.settle();
    }

    fn announcer(&self) -> Box<dyn Fn()> {
        self.input.announcer()
    }
}

/// What all clones of a [`StreamReceiver`] share.
struct Handle {
    interest: Arc<Interest>,
    /// The receiver inside was lent out, and may have been cloned.
    was_borrowed: AtomicBool,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // The count of the clones orders this after everything they have stored.
        if !*self.was_borrowed.get_mut() {
            self.interest.end();
        }
    }
}

/// Receives a stream through a crossbeam channel; made by [`Stream::into_receiver`].
///
/// It has the methods of the [`Receiver`], and dereferences to it for code that takes one, such as `select!`. Clones share
/// the channel: each item goes to one of them.
///
/// # Dropping it
///
/// When the last clone is dropped, or one is [closed](Self::close), the stages that feed the stream stop, even while it
/// has no items.
///
/// A plain [`Receiver`] that was cloned out of it keeps the stream running, and the library cannot see it. So once the
/// receiver has been dereferenced, dropping it is noticed only at the next item: call [`close`](Self::close) if there
/// may be none.
#[must_use = "dropping the receiver stops the stages that feed it"]
pub struct StreamReceiver<T> {
    // Dropped before the handle. Items that are left are dropped with it, unless the sender is the last.
    receiver: Guarded<Receiver<Result<T>>>,
    cut: Arc<OnceLock<StreamError>>,
    handle: Arc<Handle>,
}

impl<T> StreamReceiver<T> {
    /// Returns why the stream was cut, once the channel is disconnected; `None` if it was complete.
    pub fn cut(&self) -> Option<StreamError> {
        self.cut.get().cloned()
    }

    /// Stops the stages that feed the stream, even if clones are left. They receive what is in the channel; then it is
    /// disconnected, and [`cut`](Self::cut) gives an error of kind [`Cancelled`](crate::ErrorKind::Cancelled) unless
    /// the stream had ended before.
    pub fn close(self) {
        self.handle.interest.end();
    }

    /// Receives the next item, waiting for it. See [`Receiver::recv`].
    pub fn recv(&self) -> Result<Result<T>, RecvError> {
        self.receiver.recv()
    }

    /// Receives the next item if there is one now. See [`Receiver::try_recv`].
    pub fn try_recv(&self) -> Result<Result<T>, TryRecvError> {
        self.receiver.try_recv()
    }

    /// Receives the next item, waiting up to `timeout` of real time. See [`Receiver::recv_timeout`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Result<T>, RecvTimeoutError> {
        self.receiver.recv_timeout(timeout)
    }

    /// Receives the next item, waiting until `deadline` of real time. See [`Receiver::recv_deadline`].
    pub fn recv_deadline(&self, deadline: Instant) -> Result<Result<T>, RecvTimeoutError> {
        self.receiver.recv_deadline(deadline)
    }

    /// Iterates over the items until the channel is disconnected. See [`Receiver::iter`].
    pub fn iter(&self) -> Iter<'_, Result<T>> {
        self.receiver.iter()
    }

    /// Iterates over the items that are available now. See [`Receiver::try_iter`].
    pub fn try_iter(&self) -> TryIter<'_, Result<T>> {
        self.receiver.try_iter()
    }

    /// Returns the number of items in the channel. See [`Receiver::len`].
    pub fn len(&self) -> usize {
        self.receiver.len()
    }

    /// Returns `true` if no item is in the channel. See [`Receiver::is_empty`].
    pub fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    /// Returns `true` if the channel is full. See [`Receiver::is_full`].
    pub fn is_full(&self) -> bool {
        self.receiver.is_full()
    }

    /// Returns the capacity of the channel. See [`Receiver::capacity`].
    pub fn capacity(&self) -> Option<usize> {
        self.receiver.capacity()
    }
}

impl<'a, T> IntoIterator for &'a StreamReceiver<T> {
    type Item = Result<T>;
    type IntoIter = Iter<'a, Result<T>>;

    fn into_iter(self) -> Iter<'a, Result<T>> {
        self.iter()
    }
}

/// From here on a plain receiver may be left when this one is dropped: see [Dropping it](StreamReceiver#dropping-it).
impl<T> Deref for StreamReceiver<T> {
    type Target = Receiver<Result<T>>;

    fn deref(&self) -> &Receiver<Result<T>> {
        self.handle.was_borrowed.store(true, Ordering::Relaxed);
        &self.receiver
    }
}

impl<T> Clone for StreamReceiver<T> {
    fn clone(&self) -> Self {
        Self {
            receiver: Guarded::new(Receiver::clone(&self.receiver), guard_drop),
            cut: Arc::clone(&self.cut),
            handle: Arc::clone(&self.handle),
        }
    }
}

impl<T> fmt::Debug for StreamReceiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamReceiver")
            .field("queued", &self.len())
            .field("capacity", &self.capacity())
            .field("cut", &self.cut())
            .finish()
    }
}
