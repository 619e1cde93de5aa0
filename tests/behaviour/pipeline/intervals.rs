//! `Stream::interval`: which ticks a slow consumer finds.

use std::time::Duration;

use streamz::{Interval, ManualClock, MissedTicks, Outcome, Pipeline, Stream};

use crate::ms;

/// Number and time of each tick that is there, and of those that come in the next three periods; after a stall of
/// `stall` milliseconds. The period is 10 ms.
fn after_a_stall(stall: u64, interval: Interval) -> Vec<(u64, u64)> {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("ticks").clock(&clock).build();
    let mut ticks = Stream::interval(&pipeline, interval);
    clock.advance(ms(stall));
    let mut seen = Vec::new();
    for millis in 0..=30 {
        if millis > 0 {
            clock.advance(ms(1));
        }
        while let Ok(tick) = ticks.try_recv() {
            seen.push((clock.elapsed().as_millis() as u64, tick.unwrap()));
            clock.settle();
        }
    }
    drop(ticks);
    assert!(pipeline.join().is_complete());
    seen
}

#[test]
fn a_consumer_in_time_finds_every_tick_when_it_is_due() {
    for missed in [MissedTicks::Skip, MissedTicks::Burst, MissedTicks::Delay] {
        let interval = Interval::new(ms(10)).with_missed_ticks(missed);
        assert_eq!(after_a_stall(0, interval), [(10, 1), (20, 2), (30, 3)], "{missed:?}");
    }
}

#[test]
fn a_stalled_consumer_finds_one_stale_tick_and_the_current_one() {
    let expected = [(505, 1), (505, 50), (510, 51), (520, 52), (530, 53)];
    assert_eq!(after_a_stall(505, ms(10).into()), expected);
    let exact = [(500, 1), (500, 50), (510, 51), (520, 52), (530, 53)];
    assert_eq!(after_a_stall(500, ms(10).into()), exact);
}

#[test]
fn missed_ticks_come_in_a_burst_on_request() {
    let interval = Interval::new(ms(10)).with_missed_ticks(MissedTicks::Burst);
    let missed = (1..=6).map(|tick| (65, tick));
    let expected: Vec<_> = missed.chain([(70, 7), (80, 8), (90, 9)]).collect();
    assert_eq!(after_a_stall(65, interval), expected);
}

#[test]
fn missed_ticks_delay_the_others_on_request() {
    let interval = Interval::new(ms(10)).with_missed_ticks(MissedTicks::Delay);
    assert_eq!(after_a_stall(65, interval), [(65, 1), (65, 2), (75, 3), (85, 4), (95, 5)]);
}

#[test]
fn as_many_stale_ticks_wait_as_there_is_room_for() {
    let expected = [(65, 1), (65, 2), (65, 3), (65, 6), (70, 7), (80, 8), (90, 9)];
    assert_eq!(after_a_stall(65, Interval::new(ms(10)).with_capacity(3)), expected);
}

#[test]
fn without_capacity_no_tick_is_stale() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("ticks").clock(&clock).build();
    let mut ticks = Stream::interval(&pipeline, Interval::new(ms(10)).with_capacity(0));
    clock.advance(ms(505));
    // It has come due, and no thread waited for it.
    assert_eq!(ticks.recv().unwrap().unwrap(), 50);
    assert_eq!(clock.elapsed(), ms(505));
    assert_eq!(ticks.recv_timeout(ms(100)).unwrap().unwrap(), 51);
    assert_eq!(clock.elapsed(), ms(510));
}

#[test]
fn a_drain_ends_ticks_that_wait_for_room() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("ticks").clock(&clock).build();
    let mut ticks = Stream::interval(&pipeline, ms(10));
    clock.advance(ms(505));
    pipeline.drain();
    assert_eq!(ticks.recv().unwrap().unwrap(), 1);
    assert!(ticks.recv().is_none());
    assert!(matches!(pipeline.join().outcome, Outcome::Drained));
}

#[test]
#[should_panic(expected = "`period` must be greater than zero")]
fn a_period_of_zero_is_refused() {
    let _ = Stream::interval(&Pipeline::new("zero"), Duration::ZERO);
}

/// The sibling: calls that take longer than the period are not made up for.
#[test]
fn every_skips_the_calls_that_were_missed() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("every").clock(&clock).build();
    let (token, (note, noted)) = (pipeline.token(), std::sync::mpsc::channel());
    let mut first = true;
    pipeline.every(ms(10), move || {
        note.send(token.now()).unwrap();
        if std::mem::take(&mut first) {
            token.sleep(ms(495)).unwrap();
        }
    });
    let start = pipeline.now();
    clock.advance(ms(525));
    let times: Vec<_> = noted.try_iter().map(|time| (time - start).as_millis()).collect();
    assert_eq!(times, [10, 505, 510, 520]);
}
