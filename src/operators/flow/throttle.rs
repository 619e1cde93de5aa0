//! [`Throttle`]: limits the rate of a stream.

use std::time::Instant;

use super::hook::{DropHook, OnDrop};
use crate::operators::limit::{Limit, Rate};
use crate::operators::options::{Options, common_options, opaque_debug, stage};
use crate::operators::shorthand;
use crate::panic::Held;
use crate::pipeline::stats::DropReason;
use crate::stage::operator::sealed::Shape;
use crate::stage::operator::{Emit, Operator};

/// Limits the rate by delaying items; none are dropped.
///
/// In *any* period `t`, at most `burst + rate * t` items are emitted. The first item is emitted at once. After a pause,
/// up to `burst` items follow one another without delay; a longer pause does not allow for more. Rates below one per
/// second work like any other. [`dropping`](Self::dropping) drops the excess items instead of delaying them.
///
/// The default burst is one item plus the items of 20 milliseconds, rounded down: 1 for rates below 50 per second, 21 for
/// 1,000 and 20,001 for a million. For a minimum distance of `1 / rate` between any two items, set a
/// [burst](Self::with_burst) of 1.
///
/// To limit the calls of a pool, so that retries count, or the calls for each key, see [`RateLimit`](crate::RateLimit).
///
/// Each run has its own limit: two streams through one throttle have twice the rate. A drain does not lift the limit,
/// because the service behind it still needs protection; use [`drain_within`](crate::Pipeline::drain_within) to limit
/// the time that a drain may take.
///
/// # How exact it is
/// The limit applies at the moment an item enters the output. It is never exceeded there, but a consumer that pauses finds
/// all items that have gathered in the output.
///
/// An operating system wakes a thread late: by about 0.1 milliseconds when it is idle, and by several when other
/// threads compete for the processors. The throttle does not spin to avoid that. It makes up for the delay from its
/// burst: with the default burst and enough input it keeps at least 99 % of its rate, measured at 1,000, 100,000 and
/// 1,000,000 items per second, alone and beside two busy threads on two processors (`cargo bench --bench flow`). Its
/// neighbours wait for a processor, too, so edges need room for what moves in that time: at a million items per second
/// beside busy threads, 65,536 items were enough, and 1,024 were not, with or without a throttle.
///
/// With a burst of 1, lost time cannot be made up, and each item takes a wake-up: at 1,000 items per second, about 90 %
/// of the rate is reached, and no setting exceeds about 10,000 to 40,000 items per second.
///
/// Under a [`ManualClock`](crate::ManualClock) each item is emitted at its exact nanosecond.
///
/// # Ordering
/// Items keep their order. Error items are not limited and keep their place: one that follows a delayed item is emitted
/// right after it.
///
/// # Back-pressure
/// While an item waits for its time, the throttle takes no other. Time during which the output is full counts as a pause.
///
/// # Cancellation
/// Ends the wait at once; the waiting item is counted as abandoned.
///
/// # Memory
/// One item, plus the output's capacity.
///
/// ```
/// use std::time::Duration;
/// use streamz::Throttle;
/// use streamz::testing::Harness;
///
/// let ms = Duration::from_millis;
/// let mut throttle = Harness::new(&Throttle::new(10.0).with_burst(2));
/// throttle.play([(ms(0), 'a'), (ms(0), 'b'), (ms(0), 'c'), (ms(1), 'd')]);
/// throttle.advance(ms(1_000));
/// assert_eq!(
///     throttle.timed_items(),
///     [(ms(0), 'a'), (ms(0), 'b'), (ms(100), 'c'), (ms(200), 'd')]
/// );
/// ```
///
/// The technique is the generic cell rate algorithm, as in ATM networks (ITU-T I.371) and many rate limiters since; time is
/// counted in fractions of a nanosecond.
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("rate_limit", "limiter", "token_bucket", "pace", "rate limit", "leaky_bucket", "shaping"))]
pub struct Throttle<T> {
    per_second: f64,
    burst: usize,
    drops: bool,
    on_drop: Option<OnDrop<T>>,
    options: Options,
}

impl<T> Throttle<T> {
    /// Creates a throttle with a rate of `per_second` items per second: any positive number, so 0.1 is one item in ten
    /// seconds. Default name: `throttle`.
    ///
    /// # Panics
    /// If `per_second` is not greater than zero and finite.
    #[track_caller]
    pub fn new(per_second: f64) -> Self {
        Self {
            per_second,
            burst: Rate::default_burst(per_second),
            drops: false,
            on_drop: None,
            options: Options::new("throttle"),
        }
    }

    common_options!();

    /// Sets how many items may be emitted at once after a pause. Defaults to one item plus the items of 20 milliseconds,
    /// rounded down. 1 keeps any two items `1 / rate` apart, at the price of some of the rate: see
    /// [above](Self#how-exact-it-is).
    ///
    /// # Panics
    /// If `burst` is 0.
    #[track_caller]
    pub fn with_burst(mut self, burst: usize) -> Self {
        assert!(burst > 0, "`burst` must be at least 1");
        self.burst = burst;
        self
    }

    /// Drops items that exceed the limit instead of delaying them, and counts them as
    /// [rate limited](crate::DropReason::RateLimited). Error items are never dropped.
    ///
    /// To emit the first item of each period and drop the rest, which other libraries call *throttle*, use
    /// `Throttle::new(1.0 / period).with_burst(1).dropping()`.
    pub fn dropping(mut self) -> Self {
        self.drops = true;
        self
    }

    /// Calls `f` with each dropped item, on the stage's thread. A panic in `f` is logged and otherwise ignored. Without
    /// [`dropping`](Self::dropping) no item is dropped.
    pub fn on_drop(mut self, f: impl Fn(T) + Send + Sync + 'static) -> Self {
        self.on_drop = Some(std::sync::Arc::new(f));
        self
    }

    fn operator(&self) -> ThrottleOperator<T> {
        ThrottleOperator {
            limit: Limit::new(Rate::new(self.per_second, self.burst)),
            drops: self.drops,
            hook: DropHook::new(self.on_drop.as_ref()),
            held: Held::default(),
            due: None,
            stuck: false,
        }
    }
}

stage! {
    [T] Throttle<T> where { T: Send + 'static }
    T => T, ThrottleOperator<T>
}

/// Runs a [`Throttle`] as an [`Operator`].
pub struct ThrottleOperator<T> {
    limit: Limit,
    drops: bool,
    hook: DropHook<T>,
    /// The item that waits for its time.
    held: Held<Option<T>>,
    /// When it may be emitted; `None` for never.
    due: Option<Instant>,
    /// Its time has come, or does not matter, but there may be no room. Its time is taken when there is room: if the
    /// item waited for room after its time was taken, the next one would follow too soon.
    stuck: bool,
}

impl<T> ThrottleOperator<T> {
    fn release(&mut self, now: Instant, out: &mut impl Emit<T>) {
        self.stuck = false;
        let Some(item) = self.held.take() else { return };
        if self.drops && self.limit.due(|| now).is_none_or(|due| due > now) {
            self.hook.call(item, &out.context().stats.name);
            out.dropped(DropReason::RateLimited, 1);
        } else {
            self.limit.take(now);
            out.emit(item);
        }
    }
}

impl<T: Send + 'static> Operator for ThrottleOperator<T> {
    type In = T;
    type Out = T;

    const SHAPE: Shape = Shape::KEEPS_ORIGINS;

    #[inline]
    fn item(&mut self, item: T, out: &mut impl Emit<T>) {
        *self.held = Some(item);
        self.stuck = self.drops;
        if !self.drops {
            // Any past time will do: the actual time is taken when the item is emitted.
            self.due = self.limit.due(|| out.now());
        }
    }

    #[inline]
    fn timer(&mut self, now: Instant, out: &mut impl Emit<T>) {
        if out.is_full() {
            self.stuck = true;
        } else {
            self.release(now, out);
        }
    }

    #[inline]
    fn resume(&mut self, out: &mut impl Emit<T>) -> bool {
        if self.stuck && !out.is_full() {
            self.release(out.now(), out);
        }
        self.stuck
    }

    #[inline]
    fn needs_resume(&self) -> bool {
        self.stuck
    }

    #[inline]
    fn next_wake(&self) -> Option<Instant> {
        if self.is_waiting() { self.due } else { None }
    }

    #[inline]
    fn is_waiting(&self) -> bool {
        self.held.is_some() && !self.stuck
    }

    fn settles_in_order(&self) -> bool {
        true
    }

    #[inline]
    fn held(&self) -> u64 {
        u64::from(self.held.is_some())
    }
}

shorthand! {
    /// Limits the rate to `per_second` items per second by delaying items: a [`Throttle`].
    ///
    /// # Panics
    /// If `per_second` is not greater than zero and finite.
    #[doc(alias("rate_limit"))]
    pub fn throttle(self, per_second: f64) -> Throttle<T> => Stream<T> {
        Throttle::new(per_second)
    }
}

opaque_debug! { [T] Throttle<T>: per_second, burst, drops, options }
opaque_debug! { [T] ThrottleOperator<T>: limit, drops, due }

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use fastrand::Rng;
    use parking_lot::Mutex;

    use super::*;
    use crate::testing::Harness;
    use crate::{ErrorKind, ManualClock, Outcome, Pipeline, Stream, StreamError};

    fn ns(nanos: u64) -> Duration {
        Duration::from_nanos(nanos)
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// The times, in nanoseconds, at which items are emitted that arrive at `arrivals`.
    fn times(throttle: &Throttle<usize>, arrivals: &[u64]) -> Vec<u64> {
        let mut throttle = Harness::new(throttle);
        throttle.play(arrivals.iter().enumerate().map(|(n, at)| (ns(*at), n)));
        throttle.end();
        throttle.advance(Duration::from_secs(1_000_000));
        let (times, items): (Vec<u64>, Vec<usize>) =
            throttle.timed_items().into_iter().map(|(at, item)| (at.as_nanos() as u64, item)).unzip();
        assert!(items.is_sorted());
        times
    }

    #[test]
    fn every_item_is_sent_at_its_exact_nanosecond() {
        let cases: &[(f64, usize, &[u64], &[u64])] = &[
            // The first at once, the others an interval apart.
            (1e6, 1, &[0, 0, 0, 0], &[0, 1_000, 2_000, 3_000]),
            // An item that arrives exactly when the next is allowed is emitted; one that arrives a nanosecond sooner
            // waits.
            (1e6, 1, &[5, 1_005, 2_004, 3_005], &[5, 1_005, 2_005, 3_005]),
            // Unused turns of a pause are lost.
            (1e6, 1, &[0, 50_000, 50_000, 50_001], &[0, 50_000, 51_000, 52_000]),
            // With a burst they are not, up to the burst.
            (1e6, 3, &[0, 0, 0, 0, 0], &[0, 0, 0, 1_000, 2_000]),
            (1e6, 3, &[0, 0, 0, 0, 2_500, 2_500, 2_500], &[0, 0, 0, 1_000, 2_500, 3_000, 4_000]),
            // Fractions count, below one as well.
            (0.1, 1, &[0, 0, 0], &[0, 10_000_000_000, 20_000_000_000]),
            (2.5, 1, &[0, 0, 0], &[0, 400_000_000, 800_000_000]),
            (1.9, 1, &[0, 0], &[0, 526_315_790]),
            // An interval between two nanoseconds is rounded up for one item, but not for many.
            (3.0, 1, &[0, 0, 0], &[0, 333_333_334, 666_666_668]),
            (3.0, 2, &[0, 0, 0, 0], &[0, 0, 333_333_334, 666_666_667]),
            (1e9, 1, &[0, 0, 0], &[0, 1, 2]),
        ];
        for (rate, burst, arrivals, expected) in cases {
            assert_eq!(times(&Throttle::new(*rate).with_burst(*burst), arrivals), *expected, "{rate}/s, burst {burst}");
        }
    }

    #[test]
    fn default_burst_is_one_item_and_those_of_20_ms() {
        for (rate, burst) in [(0.1, 1), (49.9, 1), (50.0, 2), (75.0, 2), (1e3, 21), (1e5, 2_001), (1e6, 20_001)] {
            let items: Vec<u64> = vec![0; burst + 1];
            let times = times(&Throttle::new(rate), &items);
            assert_eq!(times.iter().filter(|at| **at == 0).count(), burst, "{rate}/s");
        }
        assert_eq!(Throttle::<u8>::new(f64::MAX).burst, usize::MAX);
    }

    #[test]
    fn default_burst_makes_up_for_waking_20_ms_late() {
        for rate in [50usize, 1_000, 100_000] {
            let mut throttle = Harness::new(&Throttle::new(rate as f64)).with_capacity(2 * rate);
            (0..=rate / 50).for_each(|n| throttle.item(n));
            assert_eq!(throttle.items().len(), rate / 50 + 1);
            // It gets its next items, and reads the clock, only every 20 milliseconds.
            for _ in 0..10 {
                throttle.advance(ms(20));
                (0..rate / 50).for_each(|n| throttle.item(n));
                assert_eq!(throttle.items().len(), rate / 50, "{rate}/s");
            }
        }
    }

    /// Random arrivals, alternately sparse and dense, at about the rate that the throttle allows.
    fn arrivals(random: &mut Rng, rate: f64) -> Vec<u64> {
        let interval = (1e9 / rate) as u64 + 1;
        let mut now = random.u64(..interval);
        (0..60)
            .map(|_| {
                now += match random.u8(..4) {
                    0 | 1 => 0,
                    2 => random.u64(..interval),
                    _ => random.u64(..8 * interval),
                };
                now
            })
            .collect()
    }

    #[test]
    fn no_interval_exceeds_the_burst_and_the_rate() {
        for seed in 0..2_000 {
            let mut random = Rng::with_seed(seed);
            // Any rate from 0.1 to a million.
            let rate = 10f64.powf(random.f64() * 7.0 - 1.0);
            let burst = random.usize(1..6);
            let throttle = Throttle::new(rate).with_burst(burst);
            let throttle = if random.bool() { throttle } else { throttle.dropping() };
            let times = times(&throttle, &arrivals(&mut random, rate));
            // The shortest half-open interval with both of them exceeds the time between them by an arbitrarily small
            // amount. Counted in 2^-60: a rate is a whole number of these or too small to matter, and rounded down.
            let rate_in_units = (rate * 2f64.powi(60)) as u128;
            for (first, from) in times.iter().enumerate() {
                for (last, to) in times.iter().enumerate().skip(first + burst) {
                    let beyond_burst = (last - first + 1 - burst) as u128;
                    let allowed = rate_in_units * u128::from(to - from);
                    let what = format!("seed {seed}: {rate}/s, burst {burst}: items {first} to {last} in {times:?}");
                    assert!((beyond_burst * 1_000_000_000) << 60 <= allowed, "{what}");
                }
            }
        }
    }

    #[test]
    fn no_item_waits_longer_than_the_limit_requires() {
        for seed in 0..1_000 {
            let mut random = Rng::with_seed(seed);
            // A rate whose interval is a whole number of nanoseconds.
            let (rate, burst) = (5f64.powi(random.i32(0..9)) * 2f64.powi(random.i32(-3..9)), random.usize(1..6));
            let interval = (1e9 / rate) as u64;
            let arrivals = arrivals(&mut random, rate);
            // The simple implementation: as soon as no interval that ends here has too many.
            let mut expected: Vec<u64> = Vec::new();
            for (n, at) in arrivals.iter().enumerate() {
                let after =
                    |(first, from): (usize, &u64)| from + (n + 1 - first).saturating_sub(burst) as u64 * interval;
                let earliest = expected.iter().enumerate().map(after).max().unwrap_or(0);
                expected.push(earliest.max(*at));
            }
            assert_eq!(times(&Throttle::new(rate).with_burst(burst), &arrivals), expected, "seed {seed}");
        }
    }

    #[test]
    fn dropping_drops_items_above_the_rate_and_reports_them() {
        let dropped = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&dropped);
        let throttle = Throttle::new(1_000.0).with_burst(2).dropping().on_drop(move |n| {
            notes.lock().push(n);
            panic!("the hook");
        });
        let mut throttle = Harness::new(&throttle);
        throttle.play([(ns(0), 0), (ns(0), 1), (ns(0), 2), (ns(999_999), 3), (ns(1_000_000), 4), (ns(1_500_000), 5)]);
        throttle.error(StreamError::new(ErrorKind::Failed, "before"));
        let passed: Vec<_> = throttle.outputs().into_iter().map(Result::ok).collect();
        assert_eq!(passed, [Some(0), Some(1), Some(4), None]);
        assert_eq!(*dropped.lock(), [2, 3, 5]);
        let step = &throttle.steps()[0];
        assert_eq!((step.received, step.delivered, &*step.dropped), (6, 3, &[(DropReason::RateLimited, 3)][..]));
    }

    #[test]
    fn an_error_item_costs_nothing_and_keeps_its_place() {
        let mut throttle = Harness::new(&Throttle::new(1.0));
        throttle.item(1);
        throttle.error(StreamError::new(ErrorKind::Failed, "first"));
        throttle.item(2);
        throttle.error(StreamError::new(ErrorKind::Failed, "second"));
        let stages = |outputs: Vec<crate::error::Result<i32>>| -> Vec<String> {
            let name = |output: crate::error::Result<i32>| output.map_or_else(|e| e.stage().into(), |n| n.to_string());
            outputs.into_iter().map(name).collect()
        };
        assert_eq!(stages(throttle.outputs()), ["1", "first"]);
        throttle.advance(ns(999_999_999));
        assert!(throttle.outputs().is_empty());
        throttle.advance(ns(1));
        assert_eq!(stages(throttle.outputs()), ["2", "second"]);
    }

    #[test]
    fn an_item_that_waits_for_room_is_timed_when_there_is_some() {
        for dropping in [false, true] {
            let throttle = Throttle::new(1_000.0).with_burst(1);
            let throttle = if dropping { throttle.dropping() } else { throttle };
            let mut throttle = Harness::new(&throttle).with_capacity(1);
            throttle.item(1);
            throttle.advance(ms(1));
            throttle.item(2);
            throttle.advance(ms(10));
            assert_eq!(throttle.timed_items(), [(ms(0), 1)]);
            // It was emitted just now, not ten milliseconds ago.
            assert_eq!(throttle.timed_items(), [(ms(11), 2)]);
            throttle.item(3);
            assert!(throttle.items().is_empty());
            throttle.advance(ms(1));
            assert_eq!(throttle.timed_items(), if dropping { vec![] } else { vec![(ms(12), 3)] });
        }
    }

    #[test]
    fn in_a_pipeline_each_item_arrives_at_its_exact_time() {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("throttled").clock(&clock).build();
        let (seen, times) = (Arc::new(Mutex::new(Vec::new())), clock.clone());
        let notes = Arc::clone(&seen);
        // A throttle among other steps, and a faster one behind it.
        Stream::from_iter(&pipeline, 0..6)
            .stage("steps", |s| s.map(|n| n + 1).throttle(4.0).filter(|n| n % 2 == 0).throttle(1e6))
            .spawn_for_each(move |item| notes.lock().push((times.elapsed(), item.unwrap())));
        clock.advance(Duration::from_secs(10));
        assert_eq!(*seen.lock(), [(ms(250), 2), (ms(750), 4), (ms(1_250), 6)]);
        assert!(pipeline.join().is_complete());
    }

    #[test]
    fn the_slower_of_two_in_a_row_sets_the_pace_in_any_order() {
        for rates in [[10.0, 2.0], [2.0, 10.0]] {
            let clock = ManualClock::new();
            let pipeline = Pipeline::builder("both").clock(&clock).build();
            let mut both = Stream::from_iter(&pipeline, 0..4)
                .stage("both", |s| s.throttle(rates[0]).delay(ms(1)).throttle(rates[1]).map(|n| n));
            let mut seen = Vec::new();
            for tick in 0..4_000 {
                clock.advance(ms(1));
                seen.extend(std::iter::from_fn(|| both.try_recv().ok()).map(|item| (tick + 1, item.unwrap())));
            }
            assert_eq!(seen, [(1, 0), (501, 1), (1_001, 2), (1_501, 3)], "{rates:?}");
            assert!(pipeline.join().is_complete());
        }
    }

    #[test]
    fn runs_share_no_limit() {
        let throttle = Throttle::new(1.0);
        let (mut one, mut other) = (Harness::new(&throttle), Harness::new(&throttle));
        one.item(1);
        other.item(2);
        assert_eq!((one.items(), other.items()), (vec![1], vec![2]));
    }

    #[test]
    fn a_cancel_ends_the_wait() {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("cancelled").clock(&clock).build();
        let (sender, stream) = Stream::channel(&pipeline, 10);
        let mut stream = stream.throttle(f64::MIN_POSITIVE);
        (0..3).for_each(|n| sender.send(n).unwrap());
        clock.advance(Duration::from_secs(1_000_000));
        assert_eq!(stream.recv().unwrap().unwrap(), 0);
        assert!(stream.try_recv().is_err());
        pipeline.cancel();
        clock.settle();
        assert_eq!(pipeline.threads(), 0);
        assert!(stream.recv().unwrap().unwrap_err().is_cancelled());
        drop(sender);
        assert_eq!(pipeline.join().stage("throttle").unwrap().abandoned(), 1);
    }

    #[test]
    fn a_drain_keeps_the_rate() {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("drained").clock(&clock).build();
        let (sender, stream) = Stream::channel(&pipeline, 10);
        let (seen, times) = (Arc::new(Mutex::new(Vec::new())), clock.clone());
        let notes = Arc::clone(&seen);
        stream.throttle(1.0).spawn_for_each(move |item| notes.lock().push((times.elapsed().as_secs(), item.unwrap())));
        (0..3).for_each(|n| sender.send(n).unwrap());
        clock.settle();
        let report = pipeline.drain_within(Duration::from_secs(10));
        assert!(matches!(report.outcome, Outcome::Drained));
        assert_eq!(*seen.lock(), [(0, 0), (1, 1), (2, 2)]);
    }

    #[test]
    #[should_panic(expected = "`per_second` must be greater than zero and finite, not 0")]
    fn a_rate_of_zero_is_refused() {
        let _ = Throttle::<u8>::new(0.0);
    }

    #[test]
    #[should_panic(expected = "`per_second` must be greater than zero and finite, not NaN")]
    fn a_rate_that_is_not_a_number_is_refused() {
        let _ = Throttle::<u8>::new(f64::NAN);
    }

    #[test]
    #[should_panic(expected = "`burst` must be at least 1")]
    fn no_burst_is_refused() {
        let _ = Throttle::<u8>::new(1.0).with_burst(0);
    }
}
