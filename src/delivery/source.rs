//! [`Stream::deliver`]: records from an inbox, with marks between them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::acker::Clerk;
use super::config::DeliveryConfig;
use super::inbox::{Delivery, Inbox, StoreError, guarded};
use super::ledger::Ledger;
use super::pauses::Pauses;
use crate::clock::earlier;
use crate::clock::wait::{Waiter, before_blocking};
use crate::edge::{End, Polled};
use crate::error::{ErrorKind, StreamError};
use crate::panic;
use crate::pipeline::CancelToken;
use crate::pipeline::timing::Phase;
use crate::stage::input::Feed;
use crate::stage::thread::StageThread;
use crate::stream::Stream;
use crate::stream::origin::Site;
use crate::trace::event;

/// Reports a record that has been delivered more than [`max_deliveries`](DeliveryConfig::max_deliveries) times, as the
/// reason of its error item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("delivered {attempt} times, more than the allowed {most}")]
#[non_exhaustive]
pub struct TooManyDeliveries {
    /// The number of times that the store has delivered the record.
    pub attempt: u32,
    /// The greatest number of deliveries that was allowed.
    pub most: u32,
}

/// How many records a fetch has room for before it knows how many there are.
const MOST_RESERVED: usize = 1_024;

/// Emits records one by one, and a mark behind those of each epoch.
struct Records<I: Inbox> {
    inbox: I,
    config: DeliveryConfig,
    ledger: Arc<Ledger<I::Receipt>>,
    site: Site,
    token: CancelToken,
    /// Fetched and not yet emitted.
    fetched: std::vec::IntoIter<Delivery<I::Record, I::Receipt>>,
    /// The receipts of the records emitted since the last mark.
    receipts: Vec<I::Receipt>,
    pauses: Pauses,
    stall: Stall,
    ended: bool,
}

/// How long `max_unacked` records are in flight without an acknowledgement before it is logged.
const STALLED: Duration = Duration::from_secs(30);

/// Whether nothing is fetched because nothing is acknowledged.
enum Stall {
    /// There is room for more records.
    No,
    /// There has been no room; the time at which this is logged.
    Since(Instant),
    /// It has been logged, which happens once.
    Said,
}

impl<I: Inbox> Records<I> {
    #[inline]
    fn give(&mut self, delivery: Delivery<I::Record, I::Receipt>) -> Polled<I::Record> {
        let Delivery { record, receipt, attempt } = delivery;
        if self.receipts.is_empty() {
            self.begin_epoch();
        }
        self.receipts.push(receipt);
        match self.config.max_deliveries {
            Some(most) if attempt > most => self.give_up(record, TooManyDeliveries { attempt, most }),
            _ => Polled::Item(Ok(record)),
        }
    }

    /// Starts an epoch; a mark follows the last record of a fetch. Allocates no more than needed: many epochs may be in
    /// flight.
    #[cold]
    fn begin_epoch(&mut self) {
        self.receipts.reserve_exact(self.config.epoch.min(self.fetched.len() + 1));
    }

    #[cold]
    fn give_up(&mut self, record: I::Record, reason: TooManyDeliveries) -> Polled<I::Record> {
        let complete = |error: StreamError| error.with_source(reason).with_item(record).with_attempts(reason.attempt);
        Polled::Item(Err(self.site.error(complete, ErrorKind::Failed)))
    }

    /// An epoch has ended, a drain has started, or all fetched records have been emitted and there may be no more for a
    /// long time.
    #[cold]
    fn poll_further(&mut self) -> Polled<I::Record> {
        if !self.receipts.is_empty() {
            return self.mark();
        }
        if self.ended || self.token.is_draining() {
            return Polled::Ended(End::Finished);
        }
        self.fetch()
    }

    fn mark(&mut self) -> Polled<I::Record> {
        let receipts = std::mem::take(&mut self.receipts);
        Polled::Item(Err(StreamError::mark(self.ledger.mark(receipts))))
    }

    /// The number of further records that may be in flight.
    fn room(&self) -> usize {
        self.config.max_unacked.saturating_sub(self.ledger.unacked())
    }

    fn watch_room(&mut self, room: usize, now: Instant) {
        match self.stall {
            Stall::Said => {}
            _ if room > 0 => self.stall = Stall::No,
            Stall::No => {
                if let Some(due) = now.checked_add(STALLED) {
                    self.stall = Stall::Since(due);
                }
            }
            Stall::Since(due) if now < due => {}
            Stall::Since(_) => {
                let (name, count) = (self.site.name(), self.ledger.unacked());
                event!(
                    warn,
                    { stage = %name, in_flight = count },
                    "streamz: `{name}` fetches nothing: {count} records are in flight, as many as `max_unacked` allows, and none \
                     has been acknowledged for {STALLED:?}; if windows, sessions or batches hold them, `max_unacked` must be \
                     larger than what they hold"
                );
                self.stall = Stall::Said;
            }
        }
    }

    #[cold]
    fn fetch(&mut self) -> Polled<I::Record> {
        let now = self.token.now();
        let room = self.room();
        self.watch_room(room, now);
        if room == 0 || self.pauses.until().is_some_and(|until| now < until) {
            return Polled::Empty;
        }
        let (most, wait) = (room.min(self.config.fetch), self.config.wait);
        let mut records = Vec::with_capacity(most.min(MOST_RESERVED));
        // Hands over the open chunk.
        before_blocking();
        let fetched = guarded(|| self.inbox.fetch(most, wait, &mut records));
        self.ledger.fetched(records.len());
        self.fetched = records.into_iter();
        match fetched {
            Ok(()) => self.pauses.over(),
            Err(error) if error.is_transient() => {
                self.pauses.warn(self.site.name(), "fetch", &error);
                self.pauses.next(self.token.now());
            }
            Err(error) => {
                self.ended = true;
                return Polled::Ended(self.site.died(error.into_reason()));
            }
        }
        if self.fetched.len() == 0 && self.inbox.is_exhausted() {
            self.ended = true;
            return Polled::Ended(End::Finished);
        }
        match self.fetched.next() {
            Some(delivery) => self.give(delivery),
            None => Polled::Empty,
        }
    }
}

impl<I: Inbox> Feed for Records<I> {
    type Item = I::Record;
    type Hand = ();

    #[inline]
    fn poll(&mut self) -> Polled<I::Record> {
        let is_due = self.receipts.len() >= self.config.epoch || self.token.is_draining();
        match if is_due { None } else { self.fetched.next() } {
            Some(delivery) => self.give(delivery),
            None => self.poll_further(),
        }
    }

    /// Not before the mark of the last records.
    fn is_drained(&self) -> bool {
        self.token.is_draining() && self.receipts.is_empty()
    }

    fn wait(
        &self,
        thread: &StageThread,
        until: Option<Instant>,
        hint: impl FnMut() -> bool,
        register: impl FnOnce(&Waiter) -> bool,
    ) {
        let pause = self.pauses.until().filter(|until| self.token.now() < *until);
        if pause.is_none() && self.room() > 0 {
            return;
        }
        let stall = if let Stall::Since(due) = self.stall { Some(due) } else { None };
        thread.wait(Phase::Idle, earlier(earlier(until, pause), stall), hint, |waiter| {
            let found = register(waiter) || self.token.is_draining();
            found || (self.ledger.want_room(self.config.max_unacked, waiter.wake()) && pause.is_none())
        });
    }

    fn publish(&mut self, made: u64) {
        self.site.publish(made);
    }

    fn discard(self) {
        let Self { inbox, ledger, fetched, receipts, .. } = self;
        ledger.lose(receipts);
        let (records, receipts): (Vec<_>, Vec<_>) = fetched.map(|it| (it.record, it.receipt)).unzip();
        ledger.lose(receipts);
        ledger.end_source();
        panic::discard(records);
        panic::guard_drop(inbox);
    }
}

impl<T: Send + 'static> Stream<T> {
    /// Emits the records of an [`Inbox`], each of which is acknowledged when everything made from it has been
    /// processed: by the sink, whatever operators are in between.
    ///
    /// Two threads belong to it: one fetches, the other one acknowledges, and has a task of its own in the
    /// [`Report`](crate::Report), `deliver-ack`: records *received* there have been processed or lost, those *delivered* have been
    /// acknowledged, and those *abandoned* were given back. The module [`delivery`](super) says what counts
    /// as processed, and what is delivered again.
    ///
    /// Back-pressure reaches the store: nothing is fetched while the output is full or
    /// [`max_unacked`](DeliveryConfig::max_unacked) records are in flight. When that many have been in flight for 30 s and none
    /// was acknowledged, this is logged, once. A drain stops fetching, gives back the fetched records that have not entered
    /// the stream, and lets the others be processed and acknowledged. After a cancel, processed records are still
    /// acknowledged, and the others are given back.
    ///
    /// # Errors
    /// If the inbox cannot make its acker, or [`keep_alive`](DeliveryConfig::keep_alive) is more than a third of the inbox's
    /// lease.
    ///
    /// When the store fails temporarily, it is called again with growing pauses of 0.1 s to 5 s, and this is logged once.
    /// If it fails permanently, or a fetch panics, the stream is cut: the last error is of kind
    /// [`Cancelled`](ErrorKind::Cancelled) with the reason as its source.
    ///
    /// # Panics
    /// If a number in `config` is 0, or `cancel` belongs to no pipeline or to one that has finished.
    #[track_caller]
    pub fn deliver<I>(cancel: &CancelToken, mut inbox: I, config: DeliveryConfig) -> Result<Self, StoreError>
    where
        I: Inbox<Record = T>,
    {
        config.check();
        let keep_alive = config.keep_alive_for(inbox.lease())?;
        let acker = inbox.acker()?;
        let ledger = Ledger::new();
        let (theirs, token, settings) = (Arc::clone(&ledger), cancel.clone(), config.clone());
        let stream = Self::source(cancel, "deliver", move |site| Records {
            inbox,
            config,
            ledger: theirs,
            site,
            token,
            fetched: Vec::new().into_iter(),
            receipts: Vec::new(),
            pauses: Pauses::default(),
            stall: Stall::No,
            ended: false,
        });
        let name = Arc::clone(stream.feeder());
        let clerk = Clerk::new(acker, ledger, settings, keep_alive, name);
        // It does not keep the pipeline alive: the stages do, for as long as anything can be acknowledged.
        cancel.spawn_helper(&format!("{}-ack", stream.feeder()), move |token, stats| clerk.run(token, stats));
        Ok(stream)
    }
}
