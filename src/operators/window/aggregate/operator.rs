//! [`AggregateOperator`]: folds items in the order of their times, and sends windows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::error::{ErrorKind, PanicMessage, StreamError};
use crate::operators::epochs::{Epoch, Epochs};
use crate::operators::folds::Fold;
use crate::operators::window::content::{AggregateWindow, Folded, Panes};
use crate::operators::window::time::{END, NEVER, Nanos, Refusal, Tag, TimeSource};
use crate::panic::{self, Held};
use crate::stage::operator::{Emit, Operator};
use crate::stage::origins::Origins;

type Trigger<A> = Arc<dyn Fn(&A) -> bool + Send + Sync>;

/// The conditions for sending a window.
pub(super) struct Limits<A> {
    pub(super) count: u64,
    pub(super) duration: Option<Nanos>,
    pub(super) trigger: Option<Trigger<A>>,
    pub(super) empty: bool,
}

impl<A> Clone for Limits<A> {
    fn clone(&self) -> Self {
        Self { trigger: self.trigger.clone(), ..*self }
    }
}

/// Runs an [`Aggregate`](crate::Aggregate) as an [`Operator`].
pub struct AggregateOperator<T, F: Fold<T>, S> {
    fold: Folded<F>,
    limits: Limits<F::State>,
    time: S,
    /// When the open window started; known from the start of the run, or from the first item.
    start: Option<Nanos>,
    /// The latest time of the folded items.
    last: Nanos,
    state: Held<Option<F::State>>,
    count: u64,
    /// The next item to be folded.
    waiting: Held<Option<(Nanos, T)>>,
    /// Items that may still be preceded by older ones, by their times and in the order of arrival.
    early: Held<BTreeMap<(Nanos, u64), (T, Epoch)>>,
    /// Of the items.
    epochs: Epochs,
    /// The oldest epoch of the items that are folded or waiting.
    oldest: Option<Epoch>,
    arrived: u64,
    /// Items up to this time must be folded.
    limit: Nanos,
    /// The time that has been reached.
    passed: Nanos,
    /// After that, the open window must be sent, ending at this time or at that of its last item.
    ending: Option<Option<Nanos>>,
    /// The due time that the time source was given.
    due: Nanos,
}

impl<T, F, S> AggregateOperator<T, F, S>
where
    T: Send + 'static,
    F: Fold<T>,
    S: TimeSource<T>,
{
    pub(super) fn new(fold: Folded<F>, limits: Limits<F::State>, time: S) -> Self {
        Self {
            fold,
            limits,
            time,
            start: None,
            last: 0,
            state: Held::default(),
            count: 0,
            waiting: Held::default(),
            early: Held::default(),
            epochs: Epochs::new(),
            oldest: None,
            arrived: 0,
            limit: Nanos::MIN,
            passed: Nanos::MIN,
            ending: None,
            due: NEVER,
        }
    }

    /// When the open window ends.
    fn window_end(&self) -> Option<Nanos> {
        let is_wanted = self.count > 0 || self.limits.empty;
        Some(self.start? + self.limits.duration?).filter(|_| is_wanted)
    }

    /// Whether an item of this time, which is before the watermark, belongs to no open window: to none that starts at
    /// or after the end of the last one and ends after the watermark.
    fn is_late(&self, time: Nanos, watermark: Nanos) -> bool {
        let Some(start) = self.start else { return false };
        let ends = match self.limits.duration {
            // No window is open; that of this item would start a number of durations after the last one.
            Some(duration) if self.count == 0 => start + ((time - start).max(0) / duration + 1) * duration,
            _ => NEVER,
        };
        time < start || ends <= watermark
    }

    /// Does everything that is due, in the order of time, as far as there is room. Returns true if there is more.
    fn go_on(&mut self, out: &mut impl Emit<AggregateWindow<F::Result>>) -> bool {
        loop {
            if self.waiting.is_none()
                && let Some(entry) = self.early.first_entry().filter(|entry| entry.key().0 <= self.limit)
            {
                let ((time, _), (item, epoch)) = entry.remove_entry();
                match &mut self.oldest {
                    Some(oldest) => oldest.keep_older(epoch),
                    oldest => *oldest = Some(epoch),
                }
                *self.waiting = Some((time, item));
            }
            // A window that ends at or before the time of the next item goes first: the item belongs to the next one.
            let until = self.waiting.as_ref().map_or(self.passed, |(time, _)| *time);
            let end = self.window_end().filter(|end| *end <= until);
            if end.is_none() && self.waiting.is_none() && self.ending.is_none() {
                break;
            }
            if out.is_full() {
                return true;
            }
            if let Some(end) = end {
                self.send(end, out);
            } else if let Some((time, item)) = self.waiting.take() {
                self.take(time, item, out);
            } else if let Some(end) = self.ending.take()
                && self.count > 0
            {
                self.send(end.unwrap_or(self.last), out);
            }
        }
        self.set_timer();
        false
    }

    /// Folds an item, and sends the window if that completes it.
    fn take(&mut self, time: Nanos, item: T, out: &mut impl Emit<AggregateWindow<F::Result>>) {
        let folded = match &mut *self.state {
            Some(state) => Panes::<T, ()>::add(&self.fold, state, (), item),
            None => Panes::<T, ()>::open(&self.fold, (), item).map(|state| *self.state = Some(state)),
        };
        if let Err(unfit) = folded {
            if self.count == 0 {
                self.oldest = None;
            }
            return out.fail_panicked(unfit.payload.into(), unfit.item);
        }
        let start = self.start.get_or_insert(time);
        if self.count == 0
            && let Some(duration) = self.limits.duration
        {
            // Skips windows without items.
            *start += (time - *start).max(0) / duration * duration;
        }
        self.last = if self.count == 0 { time } else { self.last.max(time) };
        self.count += 1;
        let is_triggered = match (&self.limits.trigger, &*self.state) {
            (Some(trigger), Some(state)) => panic::catch(|| trigger(state)).unwrap_or_else(|payload| {
                out.error(out.error_of(ErrorKind::Panicked).with_source(PanicMessage::from(payload)));
                false
            }),
            _ => false,
        };
        if is_triggered || self.count >= self.limits.count {
            self.send(self.last, out);
        }
    }

    /// Sends the open window and starts the next one.
    fn send(&mut self, end: Nanos, out: &mut impl Emit<AggregateWindow<F::Result>>) {
        // Taken before `finish`, which is user code: the next window starts empty even if it panics.
        let (state, count) = (self.state.take(), std::mem::take(&mut self.count));
        // A waiting item goes into the next window, and its epoch may be that of any item in this one.
        let oldest = self.oldest.take();
        if self.waiting.is_some() {
            self.oldest = oldest;
        }
        // After a silence, an item may be older than the window that was closed by it.
        let end = self.start.map_or(end, |start| end.max(start));
        let start = self.start.replace(end).unwrap_or(end);
        let made = panic::catch(|| {
            let state = state.unwrap_or_else(|| self.fold.empty());
            Panes::<T, ()>::window(&self.fold, state, start, end, count)
        });
        match made {
            Ok(window) => out.emit_from(window, count),
            Err(payload) => {
                let error = out.error_of(ErrorKind::Panicked).with_source(PanicMessage::from(payload));
                out.failed(count);
                out.error(error);
            }
        }
    }

    #[inline]
    fn set_timer(&mut self) {
        // By event time, only whether something waits matters.
        let due =
            if S::Tag::ORDERS { if self.held() > 0 { END } else { NEVER } } else { self.window_end().unwrap_or(NEVER) };
        if due != self.due {
            self.due = due;
            self.time.set_due(due);
        }
    }
}

impl<T, F, S> Operator for AggregateOperator<T, F, S>
where
    T: Send + 'static,
    F: Fold<T>,
    S: TimeSource<T>,
{
    type In = T;
    type Out = AggregateWindow<F::Result>;

    #[inline]
    fn item(&mut self, item: T, out: &mut impl Emit<Self::Out>) {
        let time = match self.time.stamp(&item, out) {
            Ok(time) => time,
            Err(refused) => return refused.fail(item, out),
        };
        self.time.advance(time);
        let watermark = self.time.watermark();
        if time < watermark && self.is_late(time, watermark) {
            return Refusal::late(time, watermark).fail(item, out);
        }
        self.time.accepted();
        (self.limit, self.passed) = (watermark, watermark);
        if S::Tag::ORDERS {
            self.arrived += 1;
            self.early.insert((time, self.arrived), (item, self.epochs.present().clone()));
        } else {
            self.oldest.get_or_insert_with(|| self.epochs.present().clone());
            *self.waiting = Some((time, item));
        }
        self.go_on(out);
    }

    fn timer(&mut self, now: Instant, out: &mut impl Emit<Self::Out>) {
        let now = self.time.rung(now);
        if now == END {
            // Silence.
            self.limit = END;
            self.ending = Some(None);
        } else {
            self.passed = now;
        }
        self.go_on(out);
    }

    fn end(&mut self, out: &mut impl Emit<Self::Out>) {
        self.limit = END;
        let now = self.time.begin(out);
        self.passed = now.unwrap_or(self.passed);
        self.ending = Some(now);
        self.go_on(out);
    }

    fn resume(&mut self, out: &mut impl Emit<Self::Out>) -> bool {
        if self.start.is_none() {
            // The first call of all.
            self.start = self.time.begin(out);
            self.set_timer();
        }
        if self.go_on(out) {
            return true;
        }
        // Not before everything due has been sent: a mark must not pass an item that came before it.
        self.epochs.release(out);
        !self.time.listen(out)
    }

    fn attach(&mut self, origins: &Arc<Origins>) -> bool {
        self.time.attach(origins);
        false
    }

    /// An item on which the fold panics is settled at once, before older ones in the window.
    fn take_mark(&mut self, mark: StreamError, out: &mut impl Emit<Self::Out>) -> Option<StreamError> {
        let Some(label) = mark.label() else { return self.epochs.end(mark) };
        mark.complete_mark();
        if S::Tag::ORDERS {
            self.time.note(label, out);
            let watermark = self.time.watermark();
            (self.limit, self.passed) = (watermark, watermark);
            self.go_on(out);
        }
        None
    }

    #[inline]
    fn next_wake(&self) -> Option<Instant> {
        self.time.wake()
    }

    #[inline]
    fn held(&self) -> u64 {
        self.count + self.early.len() as u64 + u64::from(self.waiting.is_some())
    }
}

impl<T, F: Fold<T>, S> std::fmt::Debug for AggregateOperator<T, F, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AggregateOperator").field("count", &self.count).finish_non_exhaustive()
    }
}
