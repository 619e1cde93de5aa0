//! The items of an iterator.

use std::time::{Duration, Instant};

use super::Site;
use crate::clock::real_now;
use crate::edge::{End, Polled};
use crate::error::{PanicMessage, Result};
use crate::panic::{self, PanicPayload, discard_iterator};
use crate::pipeline::CancelToken;
use crate::stage::input::Feed;
use crate::stream::Stream;

/// The items of an iterator.
///
/// An iterator that knows how many items are left does not wait for the outside world: as long as it is quick, its
/// items are handed over in chunks. All others may block at any time.
pub(crate) struct Iter<I> {
    /// `None` only during a burst.
    items: Option<I>,
    /// It has ended or panicked, and is not called again.
    ended: bool,
    site: Site,
    knows_its_length: bool,
    is_quick: bool,
    /// The number of items since the clock was last read, and when that was; `None` if there was a pause.
    since: (u64, Option<Instant>),
}

/// An iterator is quick if it makes this number of items within this time.
const QUICK: (u64, Duration) = (64, Duration::from_micros(64));

impl<I: Iterator> Iter<I> {
    /// A larger one, such as one over an array, stays in its place: a burst may be as short as one item.
    const IS_SMALL: bool = size_of::<I>() <= 256;

    pub(crate) fn new(items: I, site: Site) -> Self {
        let (least, most) = items.size_hint();
        Self {
            items: Some(items),
            ended: false,
            site,
            knows_its_length: most == Some(least),
            is_quick: false,
            since: (0, None),
        }
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

impl<I> Feed for Iter<I>
where
    I: Iterator<Item: Send + 'static> + 'static,
{
    type Item = I::Item;
    type Hand = Option<I>;

    #[inline]
    fn poll(&mut self) -> Polled<I::Item> {
        let next = match &mut self.items {
            Some(items) if !self.ended => panic::catch(|| items.next()),
            _ => Ok(None),
        };
        match next {
            Ok(Some(item)) => Polled::Item(Ok(item)),
            Ok(None) => {
                self.ended = true;
                Polled::Ended(End::Finished)
            }
            Err(payload) => Polled::Ended(self.panicked(payload)),
        }
    }

    #[inline(always)]
    fn take_in_hand(&mut self) -> Option<I> {
        self.items.take_if(|_| Self::IS_SMALL && !self.ended)
    }

    #[inline(always)]
    fn put_back(&mut self, hand: Option<I>) {
        if hand.is_some() {
            self.items = hand;
        }
    }

    #[inline(always)]
    fn next_at_hand(&mut self, hand: &mut Option<I>) -> Option<Result<I::Item>> {
        let items = if Self::IS_SMALL { hand.as_mut() } else { self.items.as_mut().filter(|_| !self.ended) };
        let item = items?.next();
        if item.is_none() {
            self.ended = true;
        }
        item.map(Ok)
    }

    #[cold]
    fn panicked(&mut self, payload: PanicPayload) -> End {
        self.ended = true;
        self.site.died(PanicMessage::from(payload))
    }

    fn discard(self) {
        self.items.into_iter().for_each(discard_iterator);
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

/// # Sources
///
/// Functions that create a stream. The first argument is the pipeline, or a token of it.
impl<T: Send + 'static> Stream<T> {
    /// Emits the items of an iterator, on a thread of its own.
    ///
    /// The iterator may block; each item is handed over as soon as it is available. One that knows its length (a range, a
    /// vector) does not wait for others: once it has proved to be quick, its items may go in small chunks, and one may
    /// wait for the next call of `next`. A drain stops it between two items. `next` is not called again after it returned
    /// `None`.
    ///
    /// # Errors
    /// If the iterator panics, the stream is cut: the last error is of kind [`Cancelled`](crate::ErrorKind::Cancelled) and
    /// has the [`PanicMessage`] as its source.
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
}
