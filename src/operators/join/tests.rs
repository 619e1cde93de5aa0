use std::time::{Duration, SystemTime};

use super::*;
use crate::{ErrorKind, ManualClock, Pipeline, Report, Result, Sender, Stream, StreamError, TooLate, TryRecvError};

/// A time in seconds, a key, and a number that distinguishes it from others.
type Event = (u64, u64, usize);

type Side = JoinSide<Event, u64, fn(&Event) -> u64, fn(&Event) -> SystemTime>;

fn side(lateness: u64) -> Side {
    JoinSide::new(|event| event.1, |event| at(event.0), seconds(lateness))
}

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + seconds(1_000 + second)
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn delivered(report: &Report) -> u64 {
    report.stage("join").unwrap().steps[0].delivered
}

/// Each of its inputs is in order, but one is far ahead of the other.
#[test]
fn a_side_that_is_a_merge_has_a_watermark_for_each_input() {
    for is_left in [true, false] {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("join").clock(&clock).build();
        let [(fast, fast_events), (slow, slow_events), (other, events)] =
            [(); 3].map(|()| Stream::channel(&pipeline, 64));
        let merged = fast_events.merge([slow_events]);
        let join = Join::new(side(0), side(0), Duration::ZERO).outer();
        let mut output = if is_left { merged.join(events, &join) } else { events.join(merged, &join) };
        clock.settle();
        let send = |sender: &Sender<Event>, times: &[u64]| {
            times.iter().for_each(|time| sender.send((*time, 1, 0)).unwrap());
            clock.settle();
        };
        // Of the merge, and of the other side.
        let mut pairs = || -> Vec<(Option<u64>, Option<u64>)> {
            let seen = std::iter::from_fn(|| output.try_recv().ok()).map(|pair| times(pair.unwrap()));
            seen.map(|(left, right)| if is_left { (left, right) } else { (right, left) }).collect()
        };
        send(&fast, &[1, 5, 9]);
        send(&slow, &[1]);
        send(&other, &[1, 3, 5, 9]);
        let mut first = pairs();
        first.sort();
        let both = |time| (Some(time), Some(time));
        assert_eq!(first, [both(1), both(1), both(5), both(9)], "left {is_left}");
        // Only now has the merge passed the items without a partner.
        send(&slow, &[5]);
        assert_eq!(pairs(), [(None, Some(3)), both(5)], "left {is_left}");
        // An input that has ended holds nothing back.
        drop(slow);
        send(&other, &[12]);
        send(&fast, &[10, 13]);
        assert_eq!(pairs(), [(Some(10), None), (None, Some(12))], "left {is_left}");
        drop((fast, other));
        clock.settle();
        pipeline.join();
    }
}

/// A pipeline in virtual time, with senders for both inputs of a join.
struct Bench {
    clock: ManualClock,
    left: Option<Sender<Event>>,
    right: Option<Sender<Event>>,
    output: Stream<Pair<Event, Event>>,
    pipeline: Pipeline,
}

impl Bench {
    fn new(join: &Join<Side, Side, joins::Outer>) -> Self {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("join").clock(&clock).build();
        let (left, left_events) = Stream::channel(&pipeline, 64);
        let (right, right_events) = Stream::channel(&pipeline, 64);
        let output = left_events.join(right_events, join);
        Self { clock, left: Some(left), right: Some(right), output, pipeline }
    }

    fn left(&self, time: u64, key: u64) {
        self.left.as_ref().unwrap().send((time, key, 0)).unwrap();
        self.clock.settle();
    }

    fn right(&self, time: u64, key: u64) {
        self.right.as_ref().unwrap().send((time, key, 0)).unwrap();
        self.clock.settle();
    }

    /// The times of all items that come until the stages wait.
    fn out(&mut self) -> Vec<Result<(Option<u64>, Option<u64>)>> {
        let next = || {
            self.clock.settle();
            self.output.try_recv().ok()
        };
        std::iter::from_fn(next).map(|seen| seen.map(times)).collect()
    }

    #[track_caller]
    fn expect(&mut self, expected: &[(Option<u64>, Option<u64>)]) {
        assert_eq!(self.out().into_iter().map(Result::unwrap).collect::<Vec<_>>(), expected);
    }
}

fn times(pair: Pair<Event, Event>) -> (Option<u64>, Option<u64>) {
    let (left, right) = pair.into_options();
    (left.map(|left| left.0), right.map(|right| right.0))
}

#[test]
fn a_pair_comes_with_the_later_of_its_items() {
    let mut bench = Bench::new(&Join::new(side(0), side(0), seconds(10)).outer());
    bench.left(5, 1);
    bench.right(5, 2);
    bench.expect(&[]);
    bench.right(15, 1);
    bench.expect(&[(Some(5), Some(15))]);
    bench.left(15, 2);
    bench.expect(&[(Some(15), Some(5))]);
}

#[test]
fn an_item_without_partner_is_emitted_when_none_can_come() {
    let mut bench = Bench::new(&Join::new(side(0), side(3), seconds(10)).outer());
    bench.left(5, 1);
    bench.left(100, 2);
    bench.right(18, 3); // the watermark is 15: a partner of that time may still come
    // The left one has passed all partners of this.
    bench.expect(&[(None, Some(18))]);
    bench.right(19, 3);
    bench.expect(&[(Some(5), None), (None, Some(19))]);
}

#[test]
fn before_and_after_bound_the_time_of_the_right_item() {
    let join = Join::new(side(0), side(10), seconds(9)).with_before(seconds(1)).with_after(seconds(3)).outer();
    let mut bench = Bench::new(&join);
    bench.left(10, 1);
    for time in [8, 9, 10, 13, 14] {
        bench.right(time, 1);
    }
    let pairs: Vec<_> = bench.out().into_iter().map(Result::unwrap).filter(|(left, _)| left.is_some()).collect();
    assert_eq!(pairs, [9, 10, 13].map(|right| (Some(10), Some(right))));
}

#[test]
fn a_late_item_is_an_error_that_carries_it() {
    let mut bench = Bench::new(&Join::new(side(2), side(0), seconds(10)).outer());
    bench.left(10, 1);
    bench.left(8, 1);
    bench.left(7, 1);
    let late = bench.out().remove(0).unwrap_err();
    assert_eq!((late.kind(), late.take_item::<Event>()), (ErrorKind::Late, Some((7, 1, 0))));
    assert_eq!(late.downcast_ref::<TooLate>().unwrap().by, seconds(1));
}

#[test]
fn a_stream_that_is_ahead_makes_no_items_of_another_late() {
    let pipeline = Pipeline::builder("join").capacity(4).build();
    let events = |n: u64| Stream::from_iter(&pipeline, (0..n).map(|time| (time, time % 3, 0)));
    let (senders, slow) = Stream::channel(&pipeline, 1);
    let joined = events(1_000).join(slow, &Join::new(side(0), side(0), seconds(0)).with_max_items(50));
    let joined = joined.spawn(|joined| joined.count());
    for time in 0..1_000 {
        senders.send((time, time % 3, 0)).unwrap();
    }
    drop(senders);
    assert_eq!(joined.join().unwrap(), 1_000);
    let report = pipeline.join();
    assert!(report.is_complete() && report.stage("join").unwrap().failed() == 0, "{report}");
}

#[test]
fn a_stream_that_is_far_ahead_waits_for_the_other() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("join").clock(&clock).build();
    let (fast, fast_events) = Stream::channel(&pipeline, 1);
    let (slow, slow_events) = Stream::channel(&pipeline, 1);
    let mut output = fast_events.join(slow_events, &Join::new(side(0), side(0), seconds(0)).with_max_items(3));
    let mut sent = 0;
    let mut fill = || {
        while fast.try_send((sent, 0, 0)).is_ok() {
            clock.settle();
            sent += 1;
        }
        sent
    };
    assert_eq!(fill(), 4, "3 in the state and 1 in the channel");
    slow.send((1, 0, 0)).unwrap();
    clock.settle();
    assert_eq!(fill(), 5, "the first has left the state");
    assert_eq!(output.try_recv().unwrap().unwrap().0, (1, 0, 0));
    assert_eq!(output.try_recv().unwrap_err(), TryRecvError::Empty);
}

#[test]
fn the_oldest_fails_when_both_sides_have_too_many() {
    let mut bench = Bench::new(&Join::new(side(0), side(0), seconds(100)).with_max_items(2).outer());
    for time in 0..3 {
        bench.left(time, time);
        bench.right(time, 100 + time);
    }
    let given_up: Vec<_> = bench.out().into_iter().map(Result::unwrap_err).collect();
    let items: Vec<_> = given_up.iter().map(|error| error.take_item::<Event>().unwrap()).collect();
    assert_eq!(items, [(0, 0, 0), (0, 100, 0)]);
    assert_eq!(given_up[0].downcast_ref(), Some(&TooManyHeld { max_items: 2 }));
    drop((bench.left.take(), bench.right.take()));
    let rest = bench.out();
    assert!(rest.iter().any(|seen| seen.as_ref().is_ok_and(|pair| *pair == (Some(2), None))));
    drop(bench.output);
    let report = bench.pipeline.join();
    let join = report.stage("join").unwrap();
    assert_eq!((join.received(), join.failed()), (6, 2), "{report}");
}

#[test]
fn an_input_that_ends_releases_waiting_items() {
    let mut bench = Bench::new(&Join::new(side(0), side(0), seconds(10)).outer());
    bench.left(5, 1);
    bench.expect(&[]);
    bench.right = None;
    bench.expect(&[(Some(5), None)]);
    bench.left(6, 1);
    bench.expect(&[(Some(6), None)]);
}

#[test]
fn an_idle_input_follows_the_other() {
    let idle = side(0).with_idle_timeout(seconds(60));
    let mut bench = Bench::new(&Join::new(side(0), idle, seconds(10)).outer());
    bench.left(5, 1);
    bench.left(15, 1);
    bench.clock.advance(seconds(59));
    bench.left(16, 1);
    bench.expect(&[]);
    bench.clock.advance(seconds(1));
    bench.expect(&[(Some(5), None)]);
    bench.left(27, 1);
    bench.expect(&[(Some(15), None), (Some(16), None)]);
    // Subsequent items of the silent input are measured by the other one.
    bench.right(26, 1);
    assert_eq!(bench.out().remove(0).unwrap_err().kind(), ErrorKind::Late);
    bench.right(27, 1);
    bench.expect(&[(Some(27), Some(27))]);
    // It is no longer idle.
    bench.left(50, 1);
    bench.expect(&[]);
}

#[test]
fn an_idle_input_does_not_hold_up_one_that_is_far_ahead() {
    let idle = side(0).with_idle_timeout(seconds(60));
    let mut bench = Bench::new(&Join::new(side(0), idle, seconds(2)).with_max_items(3).outer());
    (0..10).for_each(|time| bench.left(time, 1));
    bench.expect(&[]);
    bench.clock.advance(seconds(60));
    assert_eq!(bench.out().len(), 7);
}

#[test]
fn a_cut_input_cuts_the_output() {
    let pipeline = Pipeline::new("join");
    let broken = Stream::from_iter(&pipeline, (0..9).inspect(|n| assert!(*n < 3, "broken")).map(|n| (n, n, 0)));
    let (sender, whole) = Stream::channel(&pipeline, 4);
    let mut seen: Vec<_> = broken.join(whole, &Join::new(side(0), side(0), seconds(0)).outer()).into_iter().collect();
    assert!(seen.pop().unwrap().unwrap_err().is_cancelled());
    assert!(seen.is_empty(), "nothing is said to have no partner");
    drop(sender);
    assert_eq!(pipeline.join().stage("join").unwrap().abandoned(), 3);
}

#[test]
fn errors_of_both_inputs_pass_once() {
    let bench = Bench::new(&Join::new(side(0), side(0), seconds(10)).outer());
    for sender in [bench.left, bench.right].into_iter().flatten() {
        sender.send_error(StreamError::new(ErrorKind::Failed, "origin")).unwrap();
    }
    assert_eq!(bench.output.into_iter().filter(Result::is_err).count(), 2);
}

#[test]
fn a_clone_that_panics_costs_the_pair_and_nothing_else() {
    #[derive(Debug)]
    struct Fragile(u64);
    impl Clone for Fragile {
        fn clone(&self) -> Self {
            assert_ne!(self.0, 1, "cannot be cloned");
            Self(self.0)
        }
    }
    let fragile = || JoinSide::new(|item: &Fragile| item.0, |item: &Fragile| at(item.0), Duration::ZERO);
    let pipeline = Pipeline::new("join");
    let items = || Stream::from_iter(&pipeline, (0..3).map(Fragile));
    let joined = items().join(items(), &Join::new(fragile(), fragile(), Duration::ZERO));
    let seen: Vec<_> = joined.into_iter().map(|seen| seen.map(|pair| pair.0.0).map_err(|e| e.kind())).collect();
    assert_eq!(seen, [Ok(0), Err(ErrorKind::Panicked), Ok(2)]);
    let report = pipeline.join();
    assert_eq!(delivered(&report), 6, "{report}");
}

/// All pairs, and the items without one, by comparing each pair of items.
fn nested_loop(left: &[Event], right: &[Event], before: u64, after: u64) -> Vec<Pair<Event, Event>> {
    let is_pair =
        |one: &Event, other: &Event| one.1 == other.1 && other.0 + before >= one.0 && other.0 <= one.0 + after;
    let mut pairs = Vec::new();
    for one in left {
        let partners: Vec<_> = right.iter().filter(|other| is_pair(one, other)).collect();
        pairs.extend(partners.iter().map(|other| Pair::Both(*one, **other)));
        pairs.extend(partners.is_empty().then_some(Pair::Left(*one)));
    }
    let lonely = right.iter().filter(|other| !left.iter().any(|one| is_pair(one, other)));
    pairs.extend(lonely.map(|other| Pair::Right(*other)));
    pairs.sort();
    pairs
}

#[test]
fn agrees_with_a_nested_loop_on_random_streams() {
    for seed in 0..200 {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let (lateness, before, after) = (rng.u64(..6), rng.u64(..8), rng.u64(..8));
        let mut events = || -> Vec<Event> {
            let (mut time, keys, step) = (rng.u64(..50), rng.u64(1..5), rng.u64(1..6));
            let numbers = 0..rng.usize(..120);
            numbers
                .map(|number| {
                    time += rng.u64(..step);
                    (time.saturating_sub(rng.u64(..=lateness)), rng.u64(..keys), number)
                })
                .collect()
        };
        let (left, right) = (events(), events());
        let expected = nested_loop(&left, &right, before, after);
        let join = Join::new(side(lateness), side(lateness), seconds(0)).with_before(seconds(before));
        let join = join.with_after(seconds(after)).with_capacity(rng.usize(..3));
        let pipeline = Pipeline::builder("join").capacity(rng.usize(..4)).build();
        let [one, other] = [&left, &right].map(|events| Stream::from_iter(&pipeline, events.clone()));
        let mut pairs = one.join(other, &join.outer()).collect::<Vec<_>>().unwrap();
        pairs.sort();
        assert_eq!(pairs, expected, "seed {seed}");
        let report = pipeline.join();
        assert_eq!(delivered(&report), (left.len() + right.len()) as u64, "seed {seed}: {report}");
    }
}

#[test]
fn inner_and_left_joins_leave_out_items_without_partners() {
    let (left, right): ([Event; 3], [Event; 3]) =
        ([(1, 1, 0), (2, 2, 0), (3, 3, 0)], [(1, 1, 0), (2, 3, 0), (3, 4, 0)]);
    let run = |pipeline: &Pipeline| [left, right].map(|events| Stream::from_iter(pipeline, events));
    let join = || Join::new(side(0), side(0), seconds(1));

    let pipeline = Pipeline::new("inner");
    let [one, other] = run(&pipeline);
    let mut pairs = one.join(other, &join()).collect::<Vec<_>>().unwrap();
    pairs.sort();
    assert_eq!(pairs, [((1, 1, 0), (1, 1, 0)), ((3, 3, 0), (2, 3, 0))]);
    let report = pipeline.join();
    assert_eq!((delivered(&report), report.stage("join").unwrap().removed()), (4, 2));

    let pipeline = Pipeline::new("left");
    let [one, other] = run(&pipeline);
    let mut pairs = one.join(other, &join().left()).collect::<Vec<_>>().unwrap();
    pairs.sort();
    assert_eq!(pairs, [((1, 1, 0), Some((1, 1, 0))), ((2, 2, 0), None), ((3, 3, 0), Some((2, 3, 0)))]);
    assert_eq!(pipeline.join().stage("join").unwrap().removed(), 1);
}
