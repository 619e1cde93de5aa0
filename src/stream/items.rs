//! [`Items`]: the items of a stream as an iterator, for sinks made of iterator methods.

use std::fmt;
use std::iter::FusedIterator;

use super::inline::{Inline, Origin};
use super::{Chain, NoSteps, Stream};
use crate::edge::End;
use crate::error::{Result, StreamError};
use crate::pipeline::Cause;
use crate::stage::reader::Reader;

/// Iterates over the items of a stream up to its first error, in the closure of [`Stream::consume`].
///
/// Methods that take the whole iterator by value, such as `sum` and `for_each`, are the fastest: with them, the closure is called
/// from within the loop that reads the stream. It yields nothing more once it has returned `None`.
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct Items<'a, O: Origin, C: Chain<In = O::Item>> {
    reader: &'a mut Reader<C::AtEnd, O::Feed>,
    failed: &'a mut Option<StreamError>,
    ended: bool,
}

impl<T: Send + 'static> Stream<T> {
    /// Passes the items to `f` as an [`Iterator`], on the calling thread, and returns the result of `f`: for `sum`,
    /// `min`, `max`, `last`, `find`, `any`, `partition`, and the methods of other crates.
    ///
    /// The iterator ends at the first error, which is then returned in place of the result of `f`. If `f` returns before
    /// the end, the stream is dropped, so that its sources stop. It is to a stream what itertools' `process_results` is to an
    /// iterator of results.
    ///
    /// ```
    /// use streamz::{Pipeline, Stream};
    ///
    /// let pipeline = Pipeline::new("numbers");
    /// let numbers = || Stream::from_iter(&pipeline, [3_u64, 1, 4, 1, 5]);
    /// assert_eq!(numbers().consume(|items| items.max())?, Some(5));
    /// assert_eq!(numbers().consume(|items| items.sum::<u64>())?, 14);
    /// assert_eq!(numbers().consume(|mut items| items.find(|n| n % 2 == 0))?, Some(4));
    /// let (small, large): (Vec<_>, Vec<_>) =
    ///     numbers().consume(|items| items.partition(|n| *n < 3))?;
    /// assert_eq!((small, large), (vec![1, 1], vec![3, 4, 5]));
    ///
    /// let failing =
    ///     Stream::from_iter(&pipeline, ["1", "x"]).try_map(|text: &&str| text.parse::<u64>());
    /// assert_eq!(failing.consume(|items| items.sum::<u64>()).unwrap_err().stage(), "map");
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    ///
    /// # Errors
    /// The first error item, which also stops the pipeline as in [`try_for_each`](Self::try_for_each), or, if the
    /// stream was cut, the error of the cut. Errors that arrive after `f` has returned are not seen.
    ///
    /// # Back-pressure
    /// Items are read as `f` asks for them, in order; see [`for_each`](Self::for_each) for what `f` may wait for.
    ///
    /// # Panics
    /// If `f` panics; the pipeline winds down.
    #[doc(alias = "process_results")]
    #[doc(alias = "sum")]
    #[doc(alias = "product")]
    #[doc(alias = "min")]
    #[doc(alias = "max")]
    #[doc(alias = "last")]
    #[doc(alias = "nth")]
    #[doc(alias = "find")]
    #[doc(alias = "position")]
    #[doc(alias = "any")]
    #[doc(alias = "all")]
    #[doc(alias = "unzip")]
    #[doc(alias = "try_fold")]
    #[track_caller]
    pub fn consume<R>(self, f: impl FnOnce(Items<'_, Self, NoSteps<T>>) -> R) -> Result<R> {
        self.inline().consume(f)
    }
}

impl<O: Origin, C: Chain<In = O::Item>> Inline<O, C> {
    /// Runs the steps, then does what [`Stream::consume`] does.
    #[track_caller]
    pub fn consume<R>(self, f: impl FnOnce(Items<'_, O, C>) -> R) -> Result<R> {
        self.consume_as("consume", f)
    }

    /// The sink with this name.
    #[inline]
    #[track_caller]
    pub(super) fn consume_as<R>(self, name: &str, f: impl FnOnce(Items<'_, O, C>) -> R) -> Result<R> {
        let mut reader = self.read(name);
        let _account = reader.thread().open_account();
        let mut failed = None;
        let result = f(Items { reader: &mut reader, failed: &mut failed, ended: false });
        failed.map_or(Ok(result), Err)
    }
}

impl<O: Origin, C: Chain<In = O::Item>> Items<'_, O, C> {
    /// Stores the error that ends the iterator. That of an item stops the pipeline; after a cut there is nothing left
    /// to stop.
    #[cold]
    fn fail(&mut self, error: StreamError, is_item: bool) {
        if is_item {
            self.reader.thread().token.cancel_with(Cause::Failed(error.clone()));
        }
        *self.failed = Some(error);
    }
}

impl<O: Origin, C: Chain<In = O::Item>> Iterator for Items<'_, O, C> {
    type Item = C::Out;

    #[inline]
    fn next(&mut self) -> Option<C::Out> {
        if self.ended {
            return None;
        }
        match self.reader.next() {
            Ok(Ok(item)) => return Some(item),
            Ok(Err(error)) => self.fail(error, true),
            Err(End::Finished) => {}
            Err(End::Cut(error)) => self.fail(error, false),
        }
        self.ended = true;
        None
    }

    /// Calls `f` from within the loop of the reader.
    #[inline]
    fn fold<A, F: FnMut(A, C::Out) -> A>(mut self, init: A, mut f: F) -> A {
        if self.ended {
            return init;
        }
        let mut stopped = None;
        let folded = self.reader.fold(init, |state, item| match item {
            Ok(item) => Some(f(state, item)),
            Err(error) => {
                stopped = Some((state, error));
                None
            }
        });
        match (folded, stopped) {
            (_, Some((state, error))) => {
                self.fail(error, true);
                state
            }
            (Some((state, End::Finished)), None) => state,
            (Some((state, End::Cut(error))), None) => {
                self.fail(error, false);
                state
            }
            (None, None) => unreachable!("it stops at an error only"),
        }
    }
}

impl<O: Origin, C: Chain<In = O::Item>> FusedIterator for Items<'_, O, C> {}

impl<O: Origin, C: Chain<In = O::Item>> fmt::Debug for Items<'_, O, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items").field("ended", &self.ended).finish_non_exhaustive()
    }
}
