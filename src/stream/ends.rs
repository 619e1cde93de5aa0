//! The sinks that run on the calling thread: `for_each`, `collect`, `fold` and others.

use std::sync::Arc;

use super::inline::{Inline, Origin};
use super::{Chain, Stream};
use crate::edge::End;
use crate::error::{BoxError, ErrorKind, Result, StreamError};
use crate::pipeline::Cause;
use crate::stage::Tally;

/// # Sinks
///
/// These consume the stream, on the calling thread or, with [`spawn`](Self::spawn), on another one.
impl<T: Send + 'static> Stream<T> {
    /// Calls `f` for each item and each error item, on the calling thread, until the stream ends.
    ///
    /// # Errors
    /// If the stream was cut: the error says why. Error items are given to `f` and do not end it.
    ///
    /// # Back-pressure
    /// Nothing is read while `f` runs. It may wait through this library, for example in
    /// [`Sender::send`](crate::Sender::send) or [`Stream::recv`](crate::Stream::recv): upstream stages first learn
    /// about the room in the input. While it blocks in something else (a lock, a socket, another library's channel),
    /// they may not learn about the room until half of the capacity is free. So `f` must not wait there for the next
    /// action of an upstream stage. The same holds for the closures of the other sinks.
    ///
    /// # Panics
    /// If `f` panics; the pipeline winds down.
    #[track_caller]
    pub fn for_each(self, f: impl FnMut(Result<T>)) -> Result<Tally> {
        self.inline().for_each(f)
    }

    /// Calls `f` for each item, on the calling thread. Stops the pipeline at the first error: an error item, or an error
    /// that `f` returns. To stop, it cancels the stream's [token](Stream::token); with a
    /// [child token](Stream::with_token), only that part of the pipeline. The same holds for the other sinks that stop at
    /// the first error.
    ///
    /// # Errors
    /// That first error, or, if the stream was cut, the error of the cut.
    ///
    /// # Panics
    /// If `f` panics; the pipeline winds down.
    #[track_caller]
    pub fn try_for_each<E: Into<BoxError>>(self, f: impl FnMut(T) -> Result<(), E>) -> Result<Tally> {
        self.inline().try_for_each(f)
    }

    /// Collects the items. Stops the pipeline at the first error item.
    ///
    /// # Errors
    /// The first error item, or, if the stream was cut, the error of the cut. What was collected before is dropped, as
    /// one value: if two of its items panic in their `Drop`, the process aborts.
    #[doc(alias = "try_collect")]
    #[track_caller]
    pub fn collect<B: FromIterator<T>>(self) -> Result<B> {
        self.inline().collect()
    }

    /// Folds the items into one value. Stops the pipeline at the first error item.
    ///
    /// # Errors
    /// The first error item, or, if the stream was cut, the error of the cut.
    #[track_caller]
    pub fn fold<A>(self, init: A, f: impl FnMut(A, T) -> A) -> Result<A> {
        self.inline().fold(init, f)
    }

    /// Combines the items into one: the first with the second, the result with the third, and so on. `None` if there is no item.
    /// Stops the pipeline at the first error item. For other sinks of one value (`sum`, `max`, `find`, ..), see
    /// [`consume`](Self::consume).
    ///
    /// ```
    /// use streamz::{Pipeline, Stream};
    ///
    /// let pipeline = Pipeline::new("words");
    /// let longest = Stream::from_iter(&pipeline, ["in", "time", "nine"])
    ///     .reduce(|longest, word| if word.len() > longest.len() { word } else { longest })?;
    /// assert_eq!(longest, Some("time"));
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    ///
    /// # Errors
    /// The first error item, or, if the stream was cut, the error of the cut.
    #[track_caller]
    pub fn reduce(self, f: impl FnMut(T, T) -> T) -> Result<Option<T>> {
        self.inline().reduce(f)
    }

    /// Counts the items. Stops the pipeline at the first error item.
    ///
    /// # Errors
    /// The first error item, or, if the stream was cut, the error of the cut.
    #[track_caller]
    pub fn count(self) -> Result<u64> {
        self.inline().count()
    }

    /// Takes the first item, if there is one, and drops the stream, so that what feeds it winds down.
    ///
    /// # Errors
    /// If an error item comes first, or the stream was cut before.
    #[doc(alias = "next")]
    #[track_caller]
    pub fn first(self) -> Result<Option<T>> {
        self.inline().first()
    }
}

impl<O: Origin, C: Chain<In = O::Item>> Inline<O, C> {
    /// Runs the steps, then does what [`Stream::for_each`] does.
    #[track_caller]
    pub fn for_each(self, mut f: impl FnMut(Result<C::Out>)) -> Result<Tally> {
        let mut reader = self.read("for_each");
        let _account = reader.thread().open_account();
        let read = reader.fold((), |(), item| {
            f(item);
            Some(())
        });
        let Some(((), end)) = read else { unreachable!("it wants them all") };
        match end {
            End::Finished => Ok(reader.tally()),
            End::Cut(error) => Err(error),
        }
    }

    /// Runs the steps, then does what [`Stream::try_for_each`] does.
    #[track_caller]
    pub fn try_for_each<E: Into<BoxError>>(self, mut f: impl FnMut(C::Out) -> Result<(), E>) -> Result<Tally> {
        let mut reader = self.read("try_for_each");
        let _account = reader.thread().open_account();
        let (name, clock) = (Arc::clone(&reader.thread().stats.name), reader.thread().token.clock().clone());
        let mut failed = None;
        let read = reader.fold((), |(), item| {
            let called = item.and_then(|item| {
                f(item).map_err(|error| {
                    let failed = StreamError::new(ErrorKind::Failed, Arc::clone(&name));
                    failed.with_source(error).with_time(clock.wall())
                })
            });
            called.map_err(|error| failed = Some(error)).ok()
        });
        match (read, failed) {
            (_, Some(error)) => {
                reader.thread().token.cancel_with(Cause::Failed(error.clone()));
                Err(error)
            }
            (Some(((), End::Cut(error))), None) => Err(error),
            _ => Ok(reader.tally()),
        }
    }

    /// Runs the steps, then does what [`Stream::collect`] does.
    #[track_caller]
    pub fn collect<B: FromIterator<C::Out>>(self) -> Result<B> {
        self.consume_as("collect", |items| items.collect())
    }

    /// Runs the steps, then does what [`Stream::fold`] does.
    #[track_caller]
    pub fn fold<A>(self, init: A, f: impl FnMut(A, C::Out) -> A) -> Result<A> {
        self.consume_as("fold", |items| items.fold(init, f))
    }

    /// Runs the steps, then does what [`Stream::reduce`] does.
    #[track_caller]
    pub fn reduce(self, f: impl FnMut(C::Out, C::Out) -> C::Out) -> Result<Option<C::Out>> {
        self.consume_as("reduce", |items| items.reduce(f))
    }

    /// Runs the steps, then does what [`Stream::count`] does.
    #[track_caller]
    pub fn count(self) -> Result<u64> {
        self.consume_as("count", |items| items.fold(0, |count, _| count + 1))
    }

    /// Runs the steps, then does what [`Stream::first`] does.
    #[track_caller]
    pub fn first(self) -> Result<Option<C::Out>> {
        self.consume_as("first", |mut items| items.next())
    }
}
