//! The items of an iterator.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Site;
use crate::clock::real_now;
use crate::edge::{End, Polled};
use crate::error::{PanicMessage, Result};
use crate::panic::{self, Held, PanicPayload, discard, discard_iterator};
use crate::pipeline::CancelToken;
use crate::stage::input::Feed;
use crate::stream::Stream;

/// The items of an iterator.
///
/// An iterator that knows how many items are left does not wait for the outside world: as long as it is quick, its
/// items are handed over in chunks. One that knows of some further items, but not of the end, does not wait for those. All
/// others may block at any time.
pub(crate) struct Iter<I: Iterator> {
    /// `None` only during a burst.
    items: Option<I>,
    /// Items that were made in advance.
    made: Held<VecDeque<Result<I::Item>>>,
    /// It has ended or panicked, and is not called again.
    ended: bool,
    /// It panicked when it made items in advance, and ends like this after them.
    cut: Option<End>,
    site: Site,
    knows_its_length: bool,
    is_quick: bool,
    /// The number of items that it need not wait for. Those in the open chunk must not wait for more.
    in_a_row: u32,
    /// The number of items since the clock was last read, and when that was; `None` if there was a pause.
    since: (u64, Option<Instant>),
}

/// An iterator is quick if it makes this number of items within this time, including that of other steps on its thread. In debug
/// builds nearly all are, so that tests see what follows from that.
const QUICK: (u64, Duration) = (64, Duration::from_micros(if cfg!(debug_assertions) { 6_400 } else { 64 }));

/// Fewer known items are handed over one by one: a short burst costs more than that.
const WORTHWHILE: usize = 8;

impl<I: Iterator> Iter<I> {
    /// A larger one, such as one over an array, stays in its place: a burst may be as short as one item.
    const IS_SMALL: bool = size_of::<I>() <= 256;

    pub(crate) fn new(items: I, site: Site) -> Self {
        let (least, most) = items.size_hint();
        Self {
            items: Some(items),
            made: Held::default(),
            ended: false,
            cut: None,
            site,
            knows_its_length: most == Some(least),
            is_quick: false,
            in_a_row: u32::MAX,
            since: (0, None),
        }
    }

    /// The number of items that it need not wait for, as far as it knows.
    fn known(&self) -> usize {
        let least = |items: &I| panic::catch(|| items.size_hint().0).unwrap_or(0);
        match &self.items {
            _ if self.knows_its_length => usize::MAX,
            // One that is endless says nothing about that.
            Some(items) => Some(least(items)).filter(|least| *least < usize::MAX).unwrap_or(0),
            None => 0,
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
                Polled::Ended(self.cut.take().unwrap_or(End::Finished))
            }
            Err(payload) => Polled::Ended(self.panicked(payload)),
        }
    }

    fn make_ahead(&mut self, most: usize) {
        // Under virtual time, what happens does not depend on how fast it happens.
        let may_make = |token: &CancelToken| !token.is_draining() && !token.clock().is_manual();
        if self.ended || !self.made.is_empty() || self.is_at_once() || !may_make(&self.site.token) {
            return;
        }
        // Back to the start of the buffer, so that they are in one piece.
        self.made.clear();
        while self.made.len() < most && self.known() > 0 {
            match self.poll() {
                Polled::Item(item) => self.made.push_back(item),
                Polled::Ended(cut @ End::Cut(_)) => {
                    self.cut = Some(cut);
                    break;
                }
                Polled::Ended(End::Finished) | Polled::Empty => break,
            }
        }
    }

    #[inline]
    fn take_at_hand(&mut self) -> Option<Result<I::Item>> {
        self.made.pop_front()
    }

    fn abandon(&mut self) -> u64 {
        let made = self.made.take();
        let items = made.len() as u64;
        discard(made);
        items
    }

    #[inline]
    fn at_hand(&self) -> &[Result<I::Item>] {
        self.made.as_slices().0
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
        let known = self.known();
        if self.since.0 >= QUICK.0 && known > 0 {
            self.look_at_the_clock();
        }
        let is_at_once = !self.is_quick || known < WORTHWHILE;
        self.in_a_row = if is_at_once { u32::MAX } else { known.try_into().unwrap_or(u32::MAX) };
        is_at_once
    }

    #[inline]
    fn in_a_row(&self) -> u32 {
        self.in_a_row
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
    /// wait for the next call of `next`. The same is true of one that knows of 8 further items or more: as long as the lower
    /// bound of its `size_hint` says so, and is not `usize::MAX`. So `flat_map` over vectors goes in chunks, and so does an
    /// iterator of yours with a buffer, if its `size_hint` says how many items are in it. A drain stops it between two items. `next` is not called again after it returned
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use crossbeam_channel::{Receiver, bounded};

    use crate::pipeline::Outcome;
    use crate::{BatchConfig, Batcher, Inline, ManualClock, Pipeline, Scan, Stage};

    const ITEMS: u64 = 5_000;

    /// Counts the items of an iterator that have been made and not been received.
    #[derive(Clone, Default)]
    struct Lead {
        made: Arc<AtomicU64>,
        received: Arc<AtomicU64>,
        most: Arc<AtomicU64>,
    }

    impl Lead {
        fn makes<I: Iterator>(&self, items: I) -> impl Iterator<Item = I::Item> + use<I> {
            let made = Arc::clone(&self.made);
            items.inspect(move |_| _ = made.fetch_add(1, Ordering::Relaxed))
        }

        /// Passes the items on: a stage with a state for each of ten keys.
        fn receives(&self) -> impl Stage<In = u64, Out = u64> + use<> {
            let Self { made, received, most } = self.clone();
            let receive = move |(): &mut (), n: u64| {
                let before = received.fetch_add(1, Ordering::Relaxed);
                assert_eq!(n, before, "in order");
                most.fetch_max(made.load(Ordering::Relaxed) - before, Ordering::Relaxed);
                n
            };
            Scan::new(|| (), receive).with_key(|n: &u64| n % 10, 100)
        }

        fn made(&self) -> u64 {
            self.made.load(Ordering::Relaxed)
        }

        fn received(&self) -> u64 {
            self.received.load(Ordering::Relaxed)
        }

        fn most(&self) -> u64 {
            self.most.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_stage_with_many_keys_on_the_thread_of_a_quick_iterator_has_its_items_made_in_advance() {
        for is_sink in [true, false] {
            let (lead, pipeline) = (Lead::default(), Pipeline::new("ahead"));
            let scanned = Inline::from_iter(&pipeline, lead.makes(0..ITEMS)).with(lead.receives());
            let count = if is_sink { scanned.count() } else { scanned.spawn("scan").count() };
            assert_eq!(count.unwrap(), ITEMS);
            assert_eq!((lead.made(), lead.received(), lead.most()), (ITEMS, ITEMS, 16), "{is_sink}");
        }
    }

    /// It may wait for others, or others may depend on what happens first.
    #[test]
    fn nothing_is_made_in_advance_by_an_iterator_without_a_length_or_under_virtual_time() {
        let clock = ManualClock::new();
        for (pipeline, knows_its_length) in
            [(Pipeline::new("no length"), false), (Pipeline::builder("manual").clock(&clock).build(), true)]
        {
            let lead = Lead::default();
            let numbers = lead.makes(0..ITEMS);
            let count = match knows_its_length {
                true => Inline::from_iter(&pipeline, numbers).with(lead.receives()).count(),
                false => Inline::from_iter(&pipeline, numbers.filter(|_| true)).with(lead.receives()).count(),
            };
            assert_eq!((count.unwrap(), lead.most()), (ITEMS, 1));
        }
    }

    /// Blocks of items, each of which must be allowed.
    struct Blocks {
        may_go_on: Receiver<()>,
        left: usize,
    }

    impl Iterator for Blocks {
        type Item = usize;

        fn next(&mut self) -> Option<usize> {
            if self.left == 0 {
                self.may_go_on.recv().ok()?;
                self.left = BLOCK;
            }
            self.left -= 1;
            Some(self.left)
        }

        fn size_hint(&self) -> (usize, Option<usize>) {
            (self.left, None)
        }
    }

    const BLOCK: usize = 100;

    /// If one were held back, both sides would wait for each other.
    #[test]
    fn items_are_handed_over_before_an_iterator_may_block() {
        for is_plain in [true, false] {
            let pipeline = Pipeline::new("blocks");
            let (go_on, may_go_on) = bounded(1);
            let blocks = Inline::from_iter(&pipeline, Blocks { may_go_on, left: 0 });
            let numbers = match is_plain {
                true => blocks.spawn("numbers"),
                false => blocks
                    .with(Batcher::new(BatchConfig { max_size: 1, ..BatchConfig::default() }))
                    .map(|one| one[0])
                    .spawn("numbers"),
            };
            let mut numbers = numbers.into_iter();
            for _ in 0..500 {
                go_on.send(()).unwrap();
                let block = numbers.by_ref().map(Result::unwrap).take(BLOCK);
                assert!(block.eq((0..BLOCK).rev()));
            }
            drop(go_on);
            assert!(numbers.next().is_none());
        }
    }

    #[test]
    fn a_panic_of_the_iterator_comes_after_the_items_made_before_it() {
        let (lead, pipeline) = (Lead::default(), Pipeline::new("panic"));
        let numbers = (0..ITEMS).inspect(|n| assert!(*n < 4_000, "worn out"));
        let scanned = Inline::from_iter(&pipeline, lead.makes(numbers)).with(lead.receives());
        let mut passed = 0;
        let cut = scanned.for_each(|_| passed += 1).unwrap_err();
        assert_eq!((passed, lead.received(), lead.most()), (4_000, 4_000, 16));
        assert!(cut.is_cancelled() && format!("{cut:?}").contains("worn out"), "{cut:?}");
        let report = pipeline.join();
        assert!(matches!(report.outcome, Outcome::Cut(_)), "{report}");
        assert_eq!(report.stage("source").unwrap().emitted(), 4_000);
    }

    #[test]
    fn after_a_drain_the_items_that_were_made_are_received() {
        let (lead, pipeline) = (Lead::default(), Pipeline::new("drain"));
        let scanned = Inline::from_iter(&pipeline, lead.makes(0..ITEMS)).with(lead.receives());
        let count = scanned.fold(0, |count, n| {
            if n == 3_000 {
                pipeline.drain();
            }
            count + 1
        });
        assert_eq!((count.unwrap(), lead.received()), (lead.made(), lead.made()));
        assert!((3_001..3_020).contains(&lead.made()), "{}", lead.made());
        assert_eq!(pipeline.join().stage("source").unwrap().emitted(), lead.made());
    }

    #[test]
    fn after_a_stop_the_items_that_were_made_are_counted_as_abandoned() {
        for is_sink in [true, false] {
            let (lead, pipeline) = (Lead::default(), Pipeline::new("stop"));
            let token = pipeline.token().clone();
            let cancel = move |n| {
                if n == 3_000 {
                    token.cancel();
                }
                n
            };
            let scanned = Inline::from_iter(&pipeline, lead.makes(0..ITEMS)).with(lead.receives()).map(cancel);
            let stopped = if is_sink { scanned.named("scan").count() } else { scanned.spawn("scan").count() };
            assert!(stopped.is_err());
            let report = pipeline.join();
            let scan = report.stage("scan").unwrap();
            let (made, received) = (report.stage("source").unwrap().emitted(), scan.received());
            assert_eq!((made, received), (lead.made(), lead.made()), "{report}");
            assert!(made > 3_000 && scan.abandoned() >= made - 3_001, "{report}");
        }
    }
}
