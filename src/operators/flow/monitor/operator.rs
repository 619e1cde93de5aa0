//! [`Watch`]: the operator of a [`Monitor`](crate::Monitor), which forwards everything and counts.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::counts::{Counts, Ended};
use super::processor::Timestamp;
use crate::error::{Result, StreamError};
use crate::panic::{self, Held};
use crate::stage::operator::sealed::Shape;
use crate::stage::operator::{Emit, Operator};
use crate::trace::event;

/// The operator: forwards everything, and counts.
pub(super) struct Watch<T> {
    timestamp: Option<Timestamp<T>>,
    counts: Ended,
    /// The item that waits for room, and since when.
    waiting: Held<Option<(Result<T>, Instant)>>,
    warned: bool,
}

impl<T: Send + 'static> Watch<T> {
    pub(super) fn new(timestamp: Option<Timestamp<T>>, counts: Arc<Counts>) -> Self {
        Self { timestamp, counts: Ended(counts), waiting: Held::default(), warned: false }
    }

    /// Emits an item for which there is room.
    #[inline]
    fn pass(&mut self, item: Result<T>, since: Option<Instant>, out: &mut impl Emit<T>) {
        match item {
            Ok(item) => {
                let began = if self.timestamp.is_some() { self.timestamp_of(&item, out) } else { None };
                let counts = &self.counts.0;
                if since.is_none() && began.is_none() {
                    counts.quick.add(1);
                } else {
                    let time = since.map_or(Duration::ZERO, |since| out.now().saturating_duration_since(since));
                    let now = out.context().clock.wall();
                    let age = began.map(|began| now.duration_since(began).unwrap_or_default());
                    let mut rest = counts.rest.lock();
                    rest.waiting_since = None;
                    rest.times.note(time);
                    age.into_iter().for_each(|age| rest.ages.note(age));
                }
                out.emit(item);
            }
            Err(error) => {
                self.counts.0.errors.add(1);
                if since.is_some() {
                    self.counts.0.rest.lock().waiting_since = None;
                }
                out.error(error);
            }
        }
    }

    fn timestamp_of(&mut self, item: &T, out: &impl Emit<T>) -> Option<SystemTime> {
        let timestamp = self.timestamp.as_ref()?;
        match panic::catch(|| timestamp(item)) {
            Ok(began) => Some(began),
            Err(payload) => {
                if !std::mem::replace(&mut self.warned, true) {
                    let (stage, message) = (&out.context().stats.name, payload.message());
                    event!(
                        warn,
                        { stage = %stage, panic = %message },
                        "streamz: the timestamp of stage `{stage}` panicked: {message}; the item passed"
                    );
                }
                None
            }
        }
    }

    #[inline]
    fn take(&mut self, item: Result<T>, out: &mut impl Emit<T>) {
        if out.is_full() {
            let now = out.now();
            self.counts.0.rest.lock().waiting_since = Some(now);
            *self.waiting = Some((item, now));
        } else {
            self.pass(item, None, out);
        }
    }
}

impl<T: Send + 'static> Operator for Watch<T> {
    type In = T;
    type Out = T;

    const SHAPE: Shape = Shape::KEEPS_ORIGINS;

    #[inline]
    fn item(&mut self, item: T, out: &mut impl Emit<T>) {
        self.take(Ok(item), out);
    }

    fn error(&mut self, error: StreamError, out: &mut impl Emit<T>) {
        self.take(Err(error), out);
    }

    #[inline]
    fn resume(&mut self, out: &mut impl Emit<T>) -> bool {
        if self.waiting.is_some()
            && !out.is_full()
            && let Some((item, since)) = self.waiting.take()
        {
            self.pass(item, Some(since), out);
        }
        self.waiting.is_some()
    }

    fn settles_in_order(&self) -> bool {
        true
    }

    #[inline]
    fn held(&self) -> u64 {
        u64::from(matches!(*self.waiting, Some((Ok(_), _))))
    }
}
