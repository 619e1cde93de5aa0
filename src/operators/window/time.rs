//! [`TimeSource`]: when an item happened, and the time that has been reached.
//!
//! # Invariants
//!
//! Times are nanoseconds since the Unix epoch. The time *reached* is the watermark: a window may be closed as soon as
//! the watermark has reached its end, and it is closed before the current item is put into its own. An item that is
//! older than the watermark is accepted if a window that it belongs to is still open.
//!
//! For the time of arrival the watermark is the current time. The calendar is read once, when the first item arrives,
//! and everything else is measured from there with a clock that never jumps: setting the calendar during a run tears no
//! window. For event time the watermark is the latest time seen, less the allowed lateness; if the input is a merge,
//! that of the input that is behind: see `watermarks.rs`.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::watermarks::Watermarks;
use crate::clock::from_nanos;
use crate::error::ErrorKind;
use crate::mark::Label;
use crate::panic::{self, PanicPayload};
use crate::stage::operator::Emit;
use crate::stage::origins::Origins;

/// Nanoseconds since the Unix epoch.
pub(in crate::operators) type Nanos = i128;

/// A time that never comes.
pub(in crate::operators) const NEVER: Nanos = Nanos::MAX;

/// A time after all others that come.
pub(in crate::operators) const END: Nanos = Nanos::MAX - 1;

/// How far from the epoch a time may be: about 30,000 years, which leaves room for the ends of windows.
const RANGE: Nanos = 30_000 * YEAR;

const YEAR: Nanos = 365 * 24 * 3_600 * 1_000_000_000;

/// The longest window, gap or lateness: about 10,000 years.
const LONGEST: Duration = Duration::from_secs(10_000 * 365 * 24 * 3_600);

/// Checks an argument and converts it to nanoseconds.
#[track_caller]
pub(super) fn span(name: &str, duration: Duration) -> Nanos {
    assert!(!duration.is_zero() && duration <= LONGEST, "`{name}` must be greater than zero and at most 10,000 years");
    duration.as_nanos() as Nanos
}

/// As [`span`], for a duration that may be zero.
#[track_caller]
pub(in crate::operators) fn span_or_zero(name: &str, duration: Duration) -> Nanos {
    assert!(duration <= LONGEST, "`{name}` must be at most 10,000 years");
    duration.as_nanos() as Nanos
}

pub(super) fn to_nanos(time: SystemTime) -> Nanos {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => after.as_nanos() as Nanos,
        Err(before) => -(before.duration().as_nanos() as Nanos),
    }
}

/// For times in the accepted range and a few windows around it.
pub(super) fn to_time(nanos: Nanos) -> SystemTime {
    let distance = to_duration(nanos.abs());
    let time = if nanos < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

fn to_duration(nanos: Nanos) -> Duration {
    from_nanos(nanos.max(0) as u128)
}

/// Reports how late an item arrived; the source of an error of kind [`Late`](crate::ErrorKind::Late).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{by:?} older than the watermark, and its window is closed")]
pub struct TooLate {
    /// The time by which the item is older than the watermark: its lateness beyond the allowed one.
    pub by: Duration,
}

/// Reports an item whose time lies too far in the future, as the source of its error: see
/// [`with_max_ahead`](crate::TumblingWindow::with_max_ahead) and
/// [`with_max_jump`](crate::TumblingWindow::with_max_jump). The kind of the error is
/// [`Failed`](crate::ErrorKind::Failed).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{by:?} later than accepted")]
pub struct TooFarAhead {
    /// The time by which the item is later than the latest that would have been accepted.
    pub by: Duration,
}

/// Why an item has no time.
pub(in crate::operators) enum Refusal {
    Late(TooLate),
    Ahead(TooFarAhead),
    OutOfRange(SystemTime),
    Panicked(PanicPayload),
}

impl Refusal {
    /// For an item that is older than the watermark and belongs to no open window.
    pub(in crate::operators) fn late(time: Nanos, watermark: Nanos) -> Self {
        Self::Late(TooLate { by: to_duration(watermark - time) })
    }

    fn ahead(by: Nanos) -> Self {
        Self::Ahead(TooFarAhead { by: to_duration(by) })
    }

    /// Emits the item as an error item.
    #[cold]
    pub(in crate::operators) fn fail<T: Send + 'static, O>(self, item: T, out: &mut impl Emit<O>) {
        match self {
            Self::Late(late) => out.fail(ErrorKind::Late, late, item),
            Self::Ahead(ahead) => out.fail(ErrorKind::Failed, ahead, item),
            Self::OutOfRange(time) => out.fail(ErrorKind::Failed, format!("time out of range: {time:?}"), item),
            Self::Panicked(payload) => out.fail_panicked(payload.into(), item),
        }
    }
}

/// The part of its time that a waiting item stores in a window.
pub(super) trait Tag: Copy + Send + 'static {
    /// Whether it stores anything.
    const ORDERS: bool;
    /// The tag of an item of that time.
    fn of(time: Nanos) -> Self;
    /// The stored time.
    fn order(self) -> Nanos;
}

/// Items that arrive in the order of their times need not store anything.
impl Tag for () {
    const ORDERS: bool = false;

    #[inline]
    fn of(_time: Nanos) {}

    fn order(self) -> Nanos {
        0
    }
}

impl Tag for Nanos {
    const ORDERS: bool = true;

    #[inline]
    fn of(time: Nanos) -> Self {
        time
    }

    fn order(self) -> Nanos {
        self
    }
}

/// Selects what the time of an item is: [`ArrivalTime`] or [`EventTime`]. Sealed.
#[allow(private_bounds)] // seals the trait
pub trait TimeSource<T>: Times<T> {
    /// What a window remembers of the time of each item.
    type Tag: Tag;
}

/// The functions of a [`TimeSource`]: see the top of this file.
pub(in crate::operators) trait Times<T>: Clone + Send + Sync + 'static {
    /// The items come from a merge with these inputs.
    fn attach(&mut self, _origins: &Arc<Origins>) {}

    /// The merge says something of its inputs.
    fn note<O>(&mut self, _label: Label, _out: &impl Emit<O>) {}

    /// The current time, if it is known without an item.
    fn begin<O>(&mut self, out: &impl Emit<O>) -> Option<Nanos>;

    /// The time of an item. Calls user code, and changes only the current time.
    fn stamp<O>(&mut self, item: &T, out: &impl Emit<O>) -> Result<Nanos, Refusal>;

    /// An item of that time has come: moves the watermark.
    fn advance(&mut self, _time: Nanos) {}

    /// An item was accepted.
    fn accepted(&mut self) {}

    /// Called when all consequences of the items so far have been handled, so that the silence begins; not while there
    /// is no room, because then no input is taken. Returns false if it has to begin later.
    fn listen<O>(&mut self, _out: &mut impl Emit<O>) -> bool {
        true
    }

    /// Whether [`listen`](Self::listen) has something to do.
    fn has_to_listen(&self) -> bool {
        false
    }

    /// The time up to which windows may be closed.
    fn watermark(&self) -> Nanos;

    /// The next window is due at that time.
    fn set_due(&mut self, due: Nanos);

    /// When a timer is needed.
    fn wake(&self) -> Option<Instant>;

    /// Called when the timer fires; returns the time up to which windows close.
    fn rung(&mut self, now: Instant) -> Nanos;
}

/// Takes the time at which an item arrives, by the pipeline's clock.
#[derive(Debug, Clone, Default)]
pub struct ArrivalTime {
    /// The same moment on both scales.
    origin: Option<(Instant, Nanos)>,
    now: Nanos,
    due: Option<Instant>,
}

impl ArrivalTime {
    fn read<O>(&mut self, out: &impl Emit<O>) -> Nanos {
        let now = out.now();
        if self.origin.is_none() {
            self.origin = Some((now, to_nanos(out.context().clock.wall())));
        }
        self.pass(now)
    }

    fn pass(&mut self, now: Instant) -> Nanos {
        if let Some((start, wall)) = self.origin {
            self.now = wall + now.saturating_duration_since(start).as_nanos() as Nanos;
        }
        self.now
    }
}

impl<T> TimeSource<T> for ArrivalTime {
    type Tag = ();
}

impl<T> Times<T> for ArrivalTime {
    fn begin<O>(&mut self, out: &impl Emit<O>) -> Option<Nanos> {
        Some(self.read(out))
    }

    #[inline]
    fn stamp<O>(&mut self, _item: &T, out: &impl Emit<O>) -> Result<Nanos, Refusal> {
        Ok(self.read(out))
    }

    #[inline]
    fn watermark(&self) -> Nanos {
        self.now
    }

    fn set_due(&mut self, due: Nanos) {
        // A time out of range means never.
        let (start, wall) = match self.origin {
            Some(origin) if due != NEVER => origin,
            _ => return self.due = None,
        };
        self.due = start.checked_add(to_duration(due - wall));
    }

    #[inline]
    fn wake(&self) -> Option<Instant> {
        self.due
    }

    fn rung(&mut self, now: Instant) -> Nanos {
        self.pass(now)
    }
}

/// Takes the time that a closure of type `F` returns for an item.
pub struct EventTime<F> {
    time: Arc<F>,
    lateness: Nanos,
    idle: Option<Duration>,
    max_ahead: Option<Nanos>,
    max_jump: Option<Nanos>,
    greatest: Option<Nanos>,
    /// If the items come from a merge.
    inputs: Option<Box<Watermarks>>,
    /// When the silence began, if there is an idle timeout.
    silent_since: Option<Instant>,
    /// An item has arrived, and the silence has not begun yet.
    came: bool,
    /// There is something that the silence closes.
    waiting: bool,
}

impl<F> EventTime<F> {
    #[track_caller]
    pub(in crate::operators) fn new(time: F, allowed_lateness: Duration) -> Self {
        let lateness = span_or_zero("allowed_lateness", allowed_lateness);
        Self {
            time: Arc::new(time),
            lateness,
            idle: None,
            max_ahead: None,
            max_jump: None,
            greatest: None,
            inputs: None,
            silent_since: None,
            came: false,
            waiting: false,
        }
    }

    #[track_caller]
    pub(in crate::operators) fn set_idle_timeout(&mut self, idle: Duration) {
        assert!(!idle.is_zero(), "`idle_timeout` must be greater than zero");
        self.idle = Some(idle).filter(|idle| *idle != Duration::MAX);
    }

    pub(in crate::operators) fn set_max_ahead(&mut self, max_ahead: Duration) {
        self.max_ahead = bound(max_ahead);
    }

    #[track_caller]
    pub(in crate::operators) fn set_max_jump(&mut self, max_jump: Duration) {
        assert!(!max_jump.is_zero(), "`max_jump` must be greater than zero");
        self.max_jump = bound(max_jump);
    }
}

/// A bound that no accepted time can exceed is no bound.
fn bound(duration: Duration) -> Option<Nanos> {
    Some(duration.as_nanos() as Nanos).filter(|nanos| *nanos < 2 * RANGE)
}

impl<F> Clone for EventTime<F> {
    fn clone(&self) -> Self {
        Self { time: Arc::clone(&self.time), inputs: self.inputs.clone(), ..*self }
    }
}

impl<F> std::fmt::Debug for EventTime<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lateness = to_duration(self.lateness);
        f.debug_struct("EventTime").field("lateness", &lateness).field("idle", &self.idle).finish_non_exhaustive()
    }
}

impl<T, F: Fn(&T) -> SystemTime + Send + Sync + 'static> TimeSource<T> for EventTime<F> {
    type Tag = Nanos;
}

impl<T, F: Fn(&T) -> SystemTime + Send + Sync + 'static> Times<T> for EventTime<F> {
    fn attach(&mut self, origins: &Arc<Origins>) {
        origins.ask();
        self.inputs = Some(Box::new(Watermarks::new(origins.idle_timeouts())));
    }

    fn note<O>(&mut self, label: Label, out: &impl Emit<O>) {
        if let Some(inputs) = &mut self.inputs {
            inputs.note(label, out.now());
        }
    }

    fn begin<O>(&mut self, _out: &impl Emit<O>) -> Option<Nanos> {
        None
    }

    #[inline]
    fn stamp<O>(&mut self, item: &T, out: &impl Emit<O>) -> Result<Nanos, Refusal> {
        let told = panic::catch(|| (self.time)(item)).map_err(Refusal::Panicked)?;
        let time = to_nanos(told);
        if !(-RANGE..=RANGE).contains(&time) {
            return Err(Refusal::OutOfRange(told));
        }
        if let Some(most) = self.max_ahead {
            let ahead = time - to_nanos(out.context().clock.wall());
            if ahead > most {
                return Err(Refusal::ahead(ahead - most));
            }
        }
        if let (Some(most), Some(greatest)) = (self.max_jump, self.greatest)
            && time - greatest > most
        {
            return Err(Refusal::ahead(time - greatest - most));
        }
        Ok(time)
    }

    #[inline]
    fn advance(&mut self, time: Nanos) {
        if self.greatest.is_none_or(|greatest| greatest < time) {
            self.greatest = Some(time);
        }
        if let Some(inputs) = &mut self.inputs {
            inputs.advance(time);
        }
    }

    #[inline]
    fn accepted(&mut self) {
        self.came = self.idle.is_some();
    }

    #[inline]
    fn listen<O>(&mut self, out: &mut impl Emit<O>) -> bool {
        if self.came && !out.is_full() {
            self.came = false;
            self.silent_since = Some(out.now());
        }
        !self.came
    }

    #[inline]
    fn has_to_listen(&self) -> bool {
        self.came
    }

    #[inline]
    fn watermark(&self) -> Nanos {
        let come = self.inputs.as_ref().map_or(self.greatest, |inputs| inputs.low());
        come.map_or(Nanos::MIN, |come| come - self.lateness)
    }

    fn set_due(&mut self, due: Nanos) {
        self.waiting = due != NEVER;
    }

    #[inline]
    fn wake(&self) -> Option<Instant> {
        self.silent_since.filter(|_| self.waiting && !self.came)?.checked_add(self.idle?)
    }

    fn rung(&mut self, _now: Instant) -> Nanos {
        END
    }
}

/// The setters of an operator whose items have a time, in an `impl` block: for a field `time: EventTime<..>`. The
/// operator documents the effect of the timeout. [`Windows`](super::windows::Windows) explains the others.
macro_rules! time_options {
    ($(#[$idle:meta])+) => {
        $(#[$idle])+
        ///
        /// # Panics
        /// If `idle_timeout` is zero.
        #[track_caller]
        pub fn with_idle_timeout(mut self, idle_timeout: std::time::Duration) -> Self {
            self.time.set_idle_timeout(idle_timeout);
            self
        }

        /// Refuses items whose time is more than `max_ahead` later than the present time of the pipeline's clock. Defaults
        /// to no limit. See [`Windows::with_max_ahead`](crate::windows::Windows::with_max_ahead).
        pub fn with_max_ahead(mut self, max_ahead: std::time::Duration) -> Self {
            self.time.set_max_ahead(max_ahead);
            self
        }

        /// Refuses items whose time is more than `max_jump` later than the greatest time accepted so far in this stream.
        /// Defaults to no limit. See [`Windows::with_max_jump`](crate::windows::Windows::with_max_jump).
        ///
        /// # Panics
        /// If `max_jump` is zero.
        #[track_caller]
        pub fn with_max_jump(mut self, max_jump: std::time::Duration) -> Self {
            self.time.set_max_jump(max_jump);
            self
        }
    };
}

pub(in crate::operators) use time_options;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_round_trip_on_both_sides_of_the_epoch() {
        for nanos in [0, 1, -1, 999_999_999, -1_000_000_001, YEAR * 1_000, -YEAR * 300] {
            assert_eq!(to_nanos(to_time(nanos)), nanos);
        }
    }
}
