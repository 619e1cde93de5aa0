//! Items returned by a closure.

use super::Site;
use crate::edge::{End, Polled};
use crate::error::{BoxError, PanicMessage};
use crate::panic;
use crate::pipeline::CancelToken;
use crate::stage::input::Feed;
use crate::stream::Stream;

/// Calls a closure for each item, when there is room for it.
struct FromFn<F> {
    f: F,
    site: Site,
    /// Also cancelled when the consumer leaves.
    calls: CancelToken,
    ended: bool,
}

impl<F> FromFn<F> {
    fn over<T>(&mut self, end: End) -> Polled<T> {
        self.ended = true;
        Polled::Ended(end)
    }

    /// The token of the calls has been cancelled.
    #[cold]
    fn stopped<T>(&mut self) -> Polled<T> {
        match self.site.stopped(&self.calls) {
            Some(end) => self.over(end),
            None => Polled::Empty,
        }
    }
}

impl<F, T, E> Feed for FromFn<F>
where
    F: FnMut(&CancelToken) -> Result<Option<T>, E>,
    T: Send + 'static,
    E: Into<BoxError>,
{
    type Item = T;
    type Hand = ();

    const NEEDS_ROOM: bool = true;

    fn poll(&mut self) -> Polled<T> {
        if self.ended {
            return Polled::Ended(End::Finished);
        }
        if self.calls.is_cancelled() {
            return self.stopped();
        }
        let Self { f, calls, .. } = self;
        match panic::catch(|| f(calls)) {
            Ok(Ok(Some(item))) => Polled::Item(Ok(item)),
            Ok(Ok(None)) => self.over(End::Finished),
            // That is the most likely reason.
            Ok(Err(_)) if self.calls.is_cancelled() => self.stopped(),
            Ok(Err(error)) => {
                let end = self.site.died(error);
                self.over(end)
            }
            Err(payload) => {
                let end = self.site.died(PanicMessage::from(payload));
                self.over(end)
            }
        }
    }

    /// The closure may block at any time.
    fn is_at_once(&mut self) -> bool {
        true
    }

    fn is_drained(&self) -> bool {
        self.site.token.is_draining()
    }

    fn publish(&mut self, made: u64) {
        self.site.publish(made);
    }
}

impl<T: Send + 'static> Stream<T> {
    /// Emits the items that `f` returns, one for each call, on a thread of its own, until it returns `None` or an
    /// error.
    ///
    /// The closure keeps its own state. It is given a token, with which it can wait through [`CancelToken::sleep`], and
    /// notice a cancellation where it waits for something else. The token is cancelled with the pipeline, and when the
    /// stream is dropped, with [`Cause::ConsumerGone`](crate::Cause::ConsumerGone). If the closure cancels it, that cuts the
    /// stream, with the cause as the reason.
    ///
    /// ```
    /// use streamz::{CancelToken, Pipeline, Stream};
    ///
    /// /// A page of results, and where the next one begins.
    /// fn fetch(page: u32) -> std::io::Result<(Vec<u32>, Option<u32>)> {
    ///     Ok((vec![page * 10, page * 10 + 1], (page < 2).then_some(page + 1)))
    /// }
    ///
    /// let pipeline = Pipeline::new("pages");
    /// let mut next = Some(0);
    /// let pages = Stream::from_fn(&pipeline, move |_: &CancelToken| {
    ///     let Some(page) = next else { return Ok(None) };
    ///     let (rows, following) = fetch(page)?;
    ///     next = following;
    ///     streamz::ok(Some(rows))
    /// });
    /// assert_eq!(pages.flatten().collect::<Vec<_>>()?, [0, 1, 10, 11, 20, 21]);
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    ///
    /// For a closure that neither fails nor waits, use [`from_iter`](Stream::from_iter) with [`std::iter::from_fn`],
    /// which is faster. To survive its errors, use [`restarting`](Stream::restarting).
    ///
    /// # Back-pressure
    /// `f` is called only when there is room for what it returns. With a capacity of 0, that is only while the consumer
    /// waits for an item.
    ///
    /// # Errors
    /// An error, or a panic, cuts the stream: the last error is of kind [`Cancelled`](crate::ErrorKind::Cancelled) and has the
    /// error or the [`PanicMessage`] as its source. Where single items may fail, let the item be a `Result` and
    /// [`lift`](Stream::lift) the stream.
    ///
    /// # Cancellation
    /// Stops between two calls, and so does a drain. A call in progress ends when it returns; an error that it returns
    /// after a cancellation is not reported.
    ///
    /// # Memory
    /// Holds no items.
    ///
    /// # Panics
    /// If `cancel` belongs to no pipeline, or to one that has finished.
    #[doc(alias("unfold", "try_unfold", "generate", "repeat_with", "poll"))]
    #[track_caller]
    pub fn from_fn<F, E>(cancel: &CancelToken, f: F) -> Self
    where
        F: FnMut(&CancelToken) -> Result<Option<T>, E> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        Self::calling_source(cancel, "from_fn", |site, calls| FromFn { f, site, calls, ended: false })
    }
}
