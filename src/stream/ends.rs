//! Ends: where the items of a pipeline go.

use std::fmt;
use std::sync::Arc;

use super::Chain;
use super::Stream;
use super::inline::{Inline, Origin};
use super::start::Registered;
use crate::edge::End;
use crate::error::{BoxError, ErrorKind, Result, StreamError};
use crate::panic::{self, Guarded, guard_drop};
use crate::pipeline::stats::{StageKind, StageStats};
use crate::pipeline::{CancelToken, Cause};
use crate::stage::Pass;
use crate::stage::Tally;
use crate::stage::input::{Feed, Input};
use crate::stage::operator::Operator;
use crate::stage::operator::sealed::Context;
use crate::stage::reader::{Reader, Running};
use crate::stage::thread::StageThread;

/// The ends that run on the calling thread, over `self.read(name)`, which gives a [`Reader`].
macro_rules! ends {
    ($item:ty) => {
        /// Calls `f` for each item and each error item, on the calling thread, until the stream ends.
        ///
        /// # Errors
        /// If the stream was cut: the error says why. Error items are given to `f` and do not end it.
        ///
        /// # Back-pressure
        /// Nothing is read while `f` runs. It may wait through this library, for example in
        /// [`Sender::send`](crate::Sender::send) or [`Stream::recv`](crate::Stream::recv): upstream stages are told of the
        /// room in the input first. While it blocks in something else (a lock, a socket, another library's channel), they
        /// may not know of the room until half of the capacity is free. So `f` must not wait there for what an upstream
        /// stage does next. The same goes for the closures of the other ends.
        ///
        /// # Panics
        /// If `f` panics; the pipeline winds down.
        #[track_caller]
        pub fn for_each(self, mut f: impl FnMut(Result<$item>)) -> Result<Tally> {
            let mut reader = self.read("for_each");
            let _account = reader.thread().open_account();
            let Some(((), end)) = reader.fold((), |(), item| Some(f(item))) else { unreachable!("it wants them all") };
            match end {
                End::Finished => Ok(reader.tally()),
                End::Cut(error) => Err(error),
            }
        }

        /// Calls `f` for each item, on the calling thread. Stops the pipeline at the first error: an error item, or an error
        /// that `f` returns. (To be exact, it cancels the stream's [token](Stream::token): with a
        /// [child](Stream::with_token), that part of the pipeline. The same goes for the other ends that stop at the
        /// first error.)
        ///
        /// # Errors
        /// That first error, or if the stream was cut, the one that says why.
        ///
        /// # Panics
        /// If `f` panics; the pipeline winds down.
        #[track_caller]
        pub fn try_for_each<E: Into<BoxError>>(self, mut f: impl FnMut($item) -> Result<(), E>) -> Result<Tally> {
            let mut reader = self.read("try_for_each");
            let (name, clock) = (Arc::clone(&reader.thread().stats.name), reader.thread().token.clock().clone());
            try_fold(&mut reader, (), |(), item| {
                f(item).map_err(|error| {
                    let failed = StreamError::new(ErrorKind::Failed, Arc::clone(&name));
                    failed.with_source(error).with_time(clock.wall())
                })
            })?;
            Ok(reader.tally())
        }

        /// Collects the items. Stops the pipeline at the first error item.
        ///
        /// # Errors
        /// The first error item, or if the stream was cut, the error that says why. What was collected before is
        /// dropped, as one value: if two of its items panic in their `Drop`, the process aborts.
        #[track_caller]
        pub fn collect<B: FromIterator<$item>>(self) -> Result<B> {
            let mut reader = self.read("collect");
            let _account = reader.thread().open_account();
            let mut failed = None;
            let collected = std::iter::from_fn(|| {
                try_next(&mut reader).unwrap_or_else(|error| {
                    failed = Some(error);
                    None
                })
            })
            .collect();
            failed.map_or(Ok(collected), Err)
        }

        /// Folds the items into one value. Stops the pipeline at the first error item.
        ///
        /// # Errors
        /// The first error item, or if the stream was cut, the error that says why.
        #[track_caller]
        pub fn fold<A>(self, init: A, mut f: impl FnMut(A, $item) -> A) -> Result<A> {
            try_fold(&mut self.read("fold"), init, |state, item| Ok(f(state, item)))
        }

        /// Counts the items. Stops the pipeline at the first error item.
        ///
        /// # Errors
        /// The first error item, or if the stream was cut, the error that says why.
        #[track_caller]
        pub fn count(self) -> Result<u64> {
            let mut reader = self.read("count");
            try_fold(&mut reader, (), |(), _| Ok(()))?;
            Ok(reader.tally().items)
        }

        /// Takes the first item, if there is one, and drops the stream, so that what feeds it winds down.
        ///
        /// # Errors
        /// If an error item comes first, or the stream was cut before.
        #[track_caller]
        pub fn first(self) -> Result<Option<$item>> {
            let mut reader = self.read("first");
            let _account = reader.thread().open_account();
            try_next(&mut reader)
        }
    };
}

impl<T: Send + 'static> Stream<T> {
    ends!(T);
}

impl<O: Origin, C: Chain<In = O::Item>> Inline<O, C> {
    ends!(C::Out);
}

/// Folds the items. An error item, and an error of `f`, stop the pipeline.
#[inline]
fn try_fold<O: Operator, F: Feed<Item = O::In>, A>(
    reader: &mut Reader<O, F>,
    init: A,
    mut f: impl FnMut(A, O::Out) -> Result<A>,
) -> Result<A> {
    let _account = reader.thread().open_account();
    let mut failed = None;
    let folded = reader.fold(init, |state, item| match item.and_then(|item| f(state, item)) {
        Ok(state) => Some(state),
        Err(error) => {
            failed = Some(error);
            None
        }
    });
    match (folded, failed) {
        (_, Some(error)) => Err(stop_with(reader, error)),
        (Some((state, End::Finished)), None) => Ok(state),
        (Some((_, End::Cut(error))), None) => Err(error),
        (None, None) => unreachable!("it stops at an error only"),
    }
}

/// The next item. An error item stops the pipeline.
fn try_next<O: Operator, F: Feed<Item = O::In>>(reader: &mut Reader<O, F>) -> Result<Option<O::Out>> {
    match reader.next() {
        Ok(Ok(item)) => Ok(Some(item)),
        Ok(Err(error)) => Err(stop_with(reader, error)),
        Err(End::Finished) => Ok(None),
        Err(End::Cut(error)) => Err(error),
    }
}

fn stop_with<O: Operator, F: Feed<Item = O::In>>(reader: &Reader<O, F>, error: StreamError) -> StreamError {
    reader.thread().token.cancel_with(Cause::Failed(error.clone()));
    error
}

/// A whole stream, read to its end.
type Whole<T> = Reader<Pass<T>, Input<T>>;

impl<T: Send + 'static> Stream<T> {
    #[track_caller]
    pub(super) fn sink(self, name: &str) -> (Input<T>, Registered) {
        let name = self.end_name.as_deref().unwrap_or(name);
        let registered = Registered::with_input(&self.token, &self, name, StageKind::Sink, &[], 1);
        (self.into_input(), registered)
    }

    /// Reads the stream on the calling thread, to its end.
    #[track_caller]
    fn read(self, name: &str) -> Running<Pass<T>, Input<T>> {
        Running::new(self.read_by_turns(name))
    }

    /// Reads the stream on whatever thread calls.
    #[track_caller]
    fn read_by_turns(self, name: &str) -> Whole<T> {
        let registered = Registered::reader(&self, self.end_name.as_deref().unwrap_or(name), &[]);
        let context = registered.context();
        Reader::new(
            Pass::new(),
            self.into_input(),
            context,
            StageThread::visiting(registered.token, registered.stats, 0),
        )
    }

    /// As [`for_each`](Self::for_each), on a thread that the pipeline owns: for streams that must be read beside others.
    ///
    /// If the stream was cut, the last thing that `f` is given is the error that says why. A panic in `f` cancels the
    /// pipeline. So does a thread that cannot be started; `f` is not called then.
    ///
    /// # Panics
    /// If the pipeline has finished.
    #[track_caller]
    pub fn spawn_for_each(self, f: impl FnMut(Result<T>) + Send + 'static) {
        let mut f = Guarded::new(f, guard_drop);
        let (input, Registered { token, stats, reservation }) = self.sink("for_each");
        let scope = Arc::clone(token.scope());
        scope.spawn(&format!("{}-0", stats.name), true, move |started| {
            if let Err(error) = started {
                return token.cancel_because(error);
            }
            let mut reader = on_own_thread(input, &token, &stats);
            loop {
                let (item, over) = match reader.next() {
                    Ok(item) => (item, false),
                    Err(End::Finished) => return,
                    Err(End::Cut(error)) => (Err(error), true),
                };
                if let Err(payload) = panic::catch(|| f(item)) {
                    log::error!("streamz: end `{}` panicked: {}", stats.name, payload.message());
                    token.cancel_because(format!("end `{}` panicked: {}", stats.name, payload.message()));
                }
                if over {
                    return;
                }
            }
        });
        drop(reservation);
    }
}

/// Reads a stream on a thread of the pipeline.
pub(super) fn on_own_thread<F: Feed>(
    feed: F,
    token: &CancelToken,
    stats: &Arc<StageStats>,
) -> Running<Pass<F::Item>, F> {
    let context = Context { stats: Arc::clone(stats), clock: token.clock().clone() };
    Running::new(Reader::new(Pass::new(), feed, context, StageThread::new(token.clone(), Arc::clone(stats), 0)))
}

/// Iterates over a stream on the calling thread: yields items and error items, and for a stream that was cut one last
/// error. Dropping it drops the stream.
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct IntoIter<T: Send + 'static> {
    reader: Option<Whole<T>>,
}

impl<T: Send + 'static> IntoIterator for Stream<T> {
    type Item = Result<T>;
    type IntoIter = IntoIter<T>;

    #[track_caller]
    fn into_iter(self) -> IntoIter<T> {
        IntoIter { reader: Some(self.read_by_turns("iter")) }
    }
}

impl<T: Send + 'static> Iterator for IntoIter<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        let reader = self.reader.as_mut()?;
        match reader.next() {
            Ok(item) => {
                // The caller may do anything before it comes back.
                reader.settle();
                Some(item)
            }
            Err(end) => {
                self.reader = None;
                match end {
                    End::Finished => None,
                    End::Cut(error) => Some(Err(error)),
                }
            }
        }
    }
}

impl<T: Send + 'static> fmt::Debug for IntoIter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntoIter").field("ended", &self.reader.is_none()).finish_non_exhaustive()
    }
}
