//! [`Stamper`]: sends the stamps of a source.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::error::StreamError;
use crate::mark::{Epoch, Mark};
use crate::pipeline::stats::StageStats;

/// The time between two stamps of a source.
const EVERY: Duration = Duration::from_millis(10);

/// The maximum number of stamps of a source in flight: operators that hold items for hours hold stamps, too.
const MOST: usize = 1024;

/// Creates the stamps of a source, if any are needed.
pub(crate) struct Stamper(Option<Box<Mutex<Stamps>>>);

struct Stamps {
    clock: Clock,
    /// `None` if every item is followed by one.
    every: Option<Duration>,
    next: Option<Instant>,
    /// Each stamp has a clone.
    alive: Arc<()>,
}

/// A mark that records when the item before it was emitted. Losing it does no harm.
struct Stamp {
    emitted: Instant,
    _alive: Arc<()>,
}

impl Epoch for Stamp {
    fn lose(&self) {}

    fn emitted(&self) -> Option<Instant> {
        Some(self.emitted)
    }
}

impl Stamper {
    pub(crate) fn new(stats: &StageStats, clock: &Clock) -> Self {
        let every = if clock.is_manual() { None } else { Some(EVERY) };
        let stamps = || Stamps { clock: clock.clone(), every, next: None, alive: Arc::default() };
        Self(stats.recordings.sends_stamps().then(|| Box::new(Mutex::new(stamps()))))
    }

    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Called after an item has been emitted. Returns the stamp that follows it, if one is due.
    #[inline]
    pub(crate) fn due(&self) -> Option<StreamError> {
        self.0.as_ref()?.lock().due()
    }
}

impl Stamps {
    fn due(&mut self) -> Option<StreamError> {
        let now = self.clock.now();
        if self.next.is_some_and(|next| now < next) || Arc::strong_count(&self.alive) > MOST {
            return None;
        }
        self.next = self.every.and_then(|every| now.checked_add(every));
        let stamp = Stamp { emitted: now, _alive: Arc::clone(&self.alive) };
        Some(StreamError::mark(Mark::note(Arc::new(stamp))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ManualClock;

    fn stamps(clock: &ManualClock, every: Option<Duration>) -> Stamps {
        Stamps { clock: clock.into(), every, next: None, alive: Arc::default() }
    }

    #[test]
    fn a_stamp_follows_the_first_item_and_each_interval() {
        let clock = ManualClock::new();
        let mut stamps = stamps(&clock, Some(EVERY));
        for _ in 0..3 {
            assert_eq!(stamps.due().unwrap().emitted(), Some(clock.now()));
            clock.advance(EVERY - Duration::from_nanos(1));
            assert!(stamps.due().is_none());
            clock.advance(Duration::from_nanos(1));
        }
    }

    #[test]
    fn stamps_that_are_held_are_bounded() {
        let mut stamps = stamps(&ManualClock::new(), None);
        let mut held: Vec<_> = (0..MOST).map(|_| stamps.due().unwrap()).collect();
        assert!(stamps.due().is_none());
        held.pop();
        assert!(stamps.due().is_some());
    }
}
