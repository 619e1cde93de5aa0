//! Windows compared with a simple implementation: sort everything, then scan all of it for each window.

use std::time::{Duration, SystemTime};

use fastrand::Rng;

use super::time::to_nanos;
use super::*;
use crate::testing::Harness;
use crate::{Aggregate, AggregateWindow, ErrorKind, ManualClock, Pipeline, Stage, Stream, Throttle, folds};

/// The time, the key, and a number to identify it.
type Event = (u64, u8, u32);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn time(event: &Event) -> SystemTime {
    SystemTime::UNIX_EPOCH + ms(event.0)
}

fn millis(time: SystemTime) -> i64 {
    (to_nanos(time) / 1_000_000) as i64
}

/// Events in the order of their arrival, none later than `lateness` after a younger one. Some have the same time.
fn disordered(rng: &mut Rng, lateness: u64) -> Vec<Event> {
    let mut now = 1_000;
    let mut events: Vec<(u64, Event)> = (0..rng.u32(1..150))
        .map(|n| {
            // Bursts, a trickle, and long silences.
            now += match rng.u8(..10) {
                0..=5 => 0,
                6..=8 => rng.u64(..8),
                _ => rng.u64(..200),
            };
            (now + rng.u64(..=lateness), (now, rng.u8(..3), n))
        })
        .collect();
    events.sort_by_key(|(arrival, _)| *arrival);
    events.into_iter().map(|(_, event)| event).collect()
}

/// The key, the start, the end, and the items.
type Seen = (u8, i64, i64, Vec<u32>);

/// The windows that the stage makes of the events, one after the other; every window must come as soon as it can, and
/// in order.
fn windows<S>(stage: &S, events: &[Event], lateness: Duration) -> Vec<Seen>
where
    S: Stage<In = Event, Out = Keyed<u8, Window<Event>>>,
{
    let mut run = Harness::new(stage);
    let (mut all, mut greatest, lateness) = (Vec::new(), 0, lateness.as_millis() as i64);
    for event in events {
        run.item(*event);
        greatest = event.0.max(greatest);
        let seen: Vec<Seen> = run.items().into_iter().map(one).collect();
        assert!(seen.iter().all(|seen| seen.2 + lateness <= greatest as i64), "sent too early: {seen:?}");
        all.extend(seen);
    }
    run.end();
    all.extend(run.items().into_iter().map(one));
    assert!(all.is_sorted_by_key(|seen| seen.2), "not in the order of their ends: {all:?}");
    let step = &run.steps()[0];
    assert_eq!((step.delivered, step.failed, step.held()), (events.len() as u64, 0, 0));
    all
}

fn one(Keyed { key, window }: Keyed<u8, Window<Event>>) -> Seen {
    let numbers = window.items.iter().map(|event| event.2).collect();
    assert!(window.items.iter().all(|event| event.1 == key && (window.start..window.end).contains(&time(event))));
    (key, millis(window.start), millis(window.end), numbers)
}

fn sorted(events: &[Event]) -> Vec<Event> {
    let mut sorted = events.to_vec();
    sorted.sort_by_key(|event| event.0);
    sorted
}

/// All windows of `size` by `slide` that have an item.
fn hopping(events: &[Event], size: i64, slide: i64) -> Vec<Seen> {
    let last = events.iter().map(|event| event.0 as i64).max().unwrap_or(0);
    let mut all = Vec::new();
    for start in (-size..=last).filter(|start| start % slide == 0) {
        for key in 0..3 {
            let is_in = |event: &&Event| event.1 == key && (start..start + size).contains(&(event.0 as i64));
            let items: Vec<u32> = events.iter().filter(is_in).map(|event| event.2).collect();
            if !items.is_empty() {
                all.push((key, start, start + size, items));
            }
        }
    }
    all
}

fn sessions(events: &[Event], gap: i64, max_duration: i64) -> Vec<Seen> {
    let mut all: Vec<Seen> = Vec::new();
    for key in 0..3 {
        let mut last: Option<i64> = None;
        for event in events.iter().filter(|event| event.1 == key) {
            let time = event.0 as i64;
            let goes_on = last.is_some_and(|last| time - last < gap)
                && all.last().is_some_and(|session| time - session.1 < max_duration);
            if !goes_on {
                all.push((key, time, 0, Vec::new()));
            }
            let session = all.last_mut().unwrap();
            session.2 = (time + gap).min(session.1.saturating_add(max_duration));
            session.3.push(event.2);
            last = Some(time);
        }
    }
    all
}

/// Of windows that end at the same time, only the order of the keys may depend on the order of arrival.
fn by_end(mut windows: Vec<Seen>) -> Vec<Seen> {
    windows.sort_by_key(|window| (window.2, window.0));
    windows
}

/// Random events with a random lateness, and with other random choices of a case; many times.
fn for_any_disorder(case: impl Fn(&mut Rng, Duration, &[Event]) -> (Vec<Seen>, Vec<Seen>)) {
    for seed in 0..1_000 {
        let rng = &mut Rng::with_seed(seed);
        let lateness = [0, 3, 50, 1_000][rng.usize(..4)];
        let events = disordered(rng, lateness);
        let (seen, expected) = case(rng, ms(lateness), &events);
        assert_eq!(by_end(seen), by_end(expected), "seed {seed}");
    }
}

#[test]
fn disorder_within_lateness_does_not_change_tumbling_windows() {
    for_any_disorder(|rng, lateness, events| {
        let size = rng.u64(1..60);
        let window = TumblingWindow::new(ms(size)).with_key(|event: &Event| event.1).with_event_time(time, lateness);
        (windows(&window, events, lateness), hopping(&sorted(events), size as i64, size as i64))
    });
}

#[test]
fn disorder_within_lateness_does_not_change_sliding_windows() {
    for_any_disorder(|rng, lateness, events| {
        let (size, slide) = (rng.u64(1..60), rng.u64(1..60));
        let (size, slide) = (size.max(slide), size.min(slide));
        let window = SlidingWindow::new(ms(size)).with_slide(ms(slide)).with_key(|event: &Event| event.1);
        let window = window.with_event_time(time, lateness);
        (windows(&window, events, lateness), hopping(&sorted(events), size as i64, slide as i64))
    });
}

#[test]
fn disorder_within_lateness_does_not_change_sessions() {
    for_any_disorder(|rng, lateness, events| {
        let gap = rng.u64(1..60);
        let window = SessionWindow::new(|event: &Event| event.1).with_gap(ms(gap)).with_event_time(time, lateness);
        (windows(&window, events, lateness), sessions(&sorted(events), gap as i64, i64::MAX))
    });
}

#[test]
fn a_state_equals_the_fold_of_its_items() {
    type Outcome = (u8, i64, i64, u64, Option<(u32, u32)>, u64);
    fn outcome<S>(stage: &S, events: &[Event]) -> Vec<Outcome>
    where
        S: Stage<In = Event, Out = Keyed<u8, AggregateWindow<Option<(u32, u32)>>>>,
    {
        let mut run = Harness::new(stage);
        events.iter().for_each(|event| run.item(*event));
        run.end();
        let one = |Keyed { key, window }: Keyed<u8, AggregateWindow<Option<(u32, u32)>>>| {
            (key, millis(window.start), millis(window.end), window.count, window.result, 0)
        };
        run.items().into_iter().map(one).collect()
    }
    fn expected(windows: Vec<Seen>) -> Vec<Outcome> {
        let one = |(key, start, end, items): Seen| {
            let range = items.iter().min().zip(items.iter().max()).map(|(min, max)| (*min, *max));
            (key, start, end, items.len() as u64, range, 0)
        };
        windows.into_iter().map(one).collect()
    }
    let range = || folds::min_max(|event: &Event| event.2);
    for seed in 0..300 {
        let rng = &mut Rng::with_seed(seed);
        let events = disordered(rng, 50);
        let (size, slide) = (ms(rng.u64(20..60)), ms(rng.u64(1..20)));
        let sliding = SlidingWindow::new(size).with_slide(slide).with_key(|event: &Event| event.1);
        let sliding = sliding.with_event_time(time, ms(50));
        let items = windows_of(&sliding, &events);
        let sliding = SlidingWindow::new(size).with_slide(slide).with_key(|event: &Event| event.1);
        let states = sliding.with_event_time(time, ms(50)).aggregate_by(range());
        assert_eq!(outcome(&states, &events), expected(items), "sliding, seed {seed}");

        let session = || SessionWindow::new(|event: &Event| event.1).with_gap(size).with_event_time(time, ms(50));
        let items = windows_of(&session(), &events);
        assert_eq!(outcome(&session().aggregate_by(range()), &events), expected(items), "sessions, seed {seed}");
    }
}

fn windows_of<S: Stage<In = Event, Out = Keyed<u8, Window<Event>>>>(stage: &S, events: &[Event]) -> Vec<Seen> {
    windows(stage, events, ms(50))
}

#[test]
fn by_arrival_random_windows_match_the_simple_implementation() {
    for seed in 0..500 {
        let rng = &mut Rng::with_seed(seed);
        let events = disordered(rng, 0);
        let (gap, longest) = (rng.u64(1..60), rng.u64(1..120));
        let session = SessionWindow::new(|event: &Event| event.1).with_gap(ms(gap)).with_max_duration(ms(longest));
        let mut run = Harness::new(&session);
        let began = to_nanos(run.clock().wall());
        let mut now = 0;
        for event in &events {
            // By the timer, or by an item that finds it overdue.
            if rng.bool() {
                run.advance(ms(event.0 - now));
            } else {
                run.clock().advance(ms(event.0 - now));
            }
            now = event.0;
            run.item(*event);
        }
        run.end();
        let origin = (began / 1_000_000) as i64;
        let one = |Keyed { key, window }: Keyed<u8, Window<Event>>| {
            let numbers = window.items.iter().map(|event| event.2).collect();
            (key, millis(window.start) - origin, millis(window.end) - origin, numbers)
        };
        let seen: Vec<Seen> = run.items().into_iter().map(one).collect();
        assert!(seen.is_sorted_by_key(|seen| seen.2));
        assert_eq!(by_end(seen), by_end(sessions(&events, gap as i64, longest as i64)), "seed {seed}");
    }
}

/// With a limit to the items of a window and to the keys, only this can be predicted: nothing is lost or duplicated.
#[test]
fn windows_closed_early_still_cover_every_item() {
    for seed in 0..500 {
        let rng = &mut Rng::with_seed(seed);
        let lateness = [0, 30][rng.usize(..2)];
        let events = disordered(rng, lateness);
        let (slide, slides, keys) = (rng.u64(1..20), rng.u64(1..5), rng.usize(1..4));
        let sliding = SlidingWindow::new(ms(slide * slides))
            .with_slide(ms(slide))
            .with_key(|event: &Event| event.1)
            .with_max_keys(keys)
            .max_count(rng.usize(1..6))
            .with_event_time(time, ms(lateness))
            .with_idle_timeout(ms(5));
        let mut run = Harness::new(&sliding).with_capacity(rng.usize(1..4));
        let mut times = vec![0; events.len()];
        let mut count = |windows: Vec<Keyed<u8, Window<Event>>>| {
            let items = windows.iter().flat_map(|keyed| &keyed.window.items);
            items.for_each(|event| times[event.2 as usize] += 1);
            !windows.is_empty()
        };
        for event in &events {
            run.item(*event);
            while count(run.items()) {}
        }
        run.end();
        while count(run.items()) {}
        assert!(times.iter().all(|times| *times == slides), "seed {seed}: {times:?} instead of {slides} each");
        let step = &run.steps()[0];
        assert_eq!((step.delivered, step.failed, step.held()), (events.len() as u64, 0, 0), "seed {seed}");
    }
}

/// Only the input can be silent: a stalled consumer is not a silence, and splits no window.
#[test]
fn a_stalled_consumer_is_not_a_silence() {
    fn run(count: impl FnOnce(Stream<u64>) -> Stream<u64>) -> Vec<u64> {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("stall").clock(&clock).capacity(1).build();
        let (sender, stream) = Stream::channel(&pipeline, 20);
        let mut counts = count(stream);
        (0..12).for_each(|n| sender.send(n * 5).unwrap());
        drop(sender);
        let mut seen = Vec::new();
        for _ in 0..20 {
            clock.advance(ms(1_000));
            seen.extend(counts.try_recv().ok().map(Result::unwrap));
        }
        assert!(pipeline.join().is_complete());
        seen
    }
    fn at(n: &u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + ms(*n)
    }
    let of_ten = || TumblingWindow::new(ms(10)).with_event_time(at, ms(20)).with_idle_timeout(ms(100));
    // Alone, and with a step behind it that waits, and as one of three steps.
    let alone = run(|stream| stream.through(&of_ten().with_capacity(1)).map(|w| w.items.len() as u64));
    assert_eq!(alone, [2; 6]);
    let waits = run(|stream| {
        stream.stage("three", |s| s.map(|n| n).with(of_ten()).with(Throttle::new(1.0))).map(|w| w.items.len() as u64)
    });
    assert_eq!(waits, [2; 6]);
    let aggregate = run(|stream| {
        let counts = Aggregate::by(folds::count()).with_time_window(ms(10)).with_event_time(at, ms(20));
        stream.through(&counts.with_idle_timeout(ms(100)).with_capacity(1)).map(|w| w.result)
    });
    assert_eq!(aggregate, [2; 6]);
}

/// Panics in the call of its code with this number, once.
#[derive(Debug)]
struct Rude(u8);

thread_local! {
    static CALLS_LEFT: std::cell::Cell<u32> = const { std::cell::Cell::new(u32::MAX) };
}

fn may_panic() {
    let left = CALLS_LEFT.replace(CALLS_LEFT.get().wrapping_sub(1));
    assert!(left != 0, "rude");
}

impl Clone for Rude {
    fn clone(&self) -> Self {
        may_panic();
        Self(self.0)
    }
}

impl PartialEq for Rude {
    fn eq(&self, other: &Self) -> bool {
        may_panic();
        self.0 == other.0
    }
}

impl Eq for Rude {}

impl std::hash::Hash for Rude {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        may_panic();
        self.0.hash(state);
    }
}

/// Whenever a key panics: all items are accounted for, no window comes too early or twice, and the other keys have
/// theirs on time.
#[test]
fn a_key_that_panics_at_any_moment_affects_no_other() {
    fn play<S, O>(stage: &S, panics_at: u32) -> bool
    where
        S: Stage<In = (u8, u64), Out = Keyed<Rude, Window<(u8, u64)>>, Op = O>,
        O: crate::Operator<In = (u8, u64), Out = Keyed<Rude, Window<(u8, u64)>>>,
    {
        let mut run = Harness::new(stage);
        let origin = run.clock().wall();
        CALLS_LEFT.set(panics_at);
        for n in 0..12 {
            run.advance(ms(4));
            run.item(((n % 3) as u8, n));
        }
        run.advance(ms(100));
        let has_panicked = CALLS_LEFT.get() > panics_at;
        CALLS_LEFT.set(u32::MAX);
        let (mut on_time, mut carried) = ([0; 3], 0);
        for (time, output) in run.timed_outputs() {
            match output {
                Ok(Keyed { key, window }) => {
                    assert_eq!(window.end, origin + time, "{panics_at}: {key:?}");
                    on_time[usize::from(key.0)] += window.items.len();
                }
                // An item, or a window whose key could not be cloned.
                Err(error) => {
                    let window = error.take_item::<Window<(u8, u64)>>().map(|window| window.items.len());
                    carried += window.unwrap_or(0) + usize::from(error.take_item::<(u8, u64)>().is_some());
                }
            }
        }
        run.end();
        assert!(run.outputs().is_empty(), "{panics_at}");
        let step = &run.steps()[0];
        let seen = on_time.iter().sum::<usize>();
        assert_eq!((step.held(), step.delivered + step.failed), (0, 12), "{panics_at}");
        assert_eq!((seen as u64, seen + carried), (step.delivered, 12), "{panics_at}: {step:?}");
        assert!(step.failed <= 4, "{panics_at}: {step:?}");
        assert!(on_time.iter().filter(|items| **items == 4).count() >= 2, "{panics_at}: {on_time:?}");
        has_panicked
    }
    let key = |event: &(u8, u64)| Rude(event.0);
    let tumbling = TumblingWindow::new(ms(10)).with_key(key);
    let session = SessionWindow::new(key).with_gap(ms(9));
    let panics =
        [(0..).take_while(|at| play(&tumbling, *at)).count(), (0..).take_while(|at| play(&session, *at)).count()];
    assert!(panics.iter().all(|count| *count >= 12), "{panics:?}");
}

/// The windows that a stage makes of the events, and the numbers of the late ones.
fn windows_and_late<S>(stage: &S, events: &[Event]) -> (Vec<Seen>, Vec<u32>)
where
    S: Stage<In = Event, Out = Keyed<u8, Window<Event>>>,
{
    let mut run = Harness::new(stage);
    events.iter().for_each(|event| run.item(*event));
    run.end();
    let (windows, late): (Vec<_>, Vec<_>) = run.outputs().into_iter().partition(Result::is_ok);
    let late = late.into_iter().map(|output| {
        let error = output.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Late);
        error.take_item::<Event>().unwrap().2
    });
    (windows.into_iter().flatten().map(one).collect(), late.collect())
}

/// With more disorder than is allowed: as in Flink, an item is added to those of its windows that end after the
/// watermark, and is late if there are none.
#[test]
fn a_late_item_is_added_to_its_open_windows() {
    for seed in 0..1_000 {
        let rng = &mut Rng::with_seed(seed);
        let events = disordered(rng, 100);
        let (size, slide, lateness) = (rng.i64(1..60), rng.i64(1..60), rng.i64(0..60));
        let (size, slide) = (size.max(slide), size.min(slide));
        let (mut expected, mut late) = (std::collections::BTreeMap::<(i64, u8), Vec<Event>>::new(), Vec::new());
        let mut greatest = 0;
        for event in &events {
            let time = event.0 as i64;
            greatest = greatest.max(time);
            let last = time.div_euclid(slide) * slide;
            let starts = (0..).map(|n| last - n * slide).take_while(|start| start + size > time);
            let open: Vec<_> = starts.filter(|start| start + size > greatest - lateness).collect();
            if open.is_empty() {
                late.push(event.2);
            }
            open.iter().for_each(|start| expected.entry((*start, event.1)).or_default().push(*event));
        }
        let numbers = |events: Vec<Event>| sorted(&events).into_iter().map(|event| event.2).collect();
        let expected = expected.into_iter().map(|((start, key), events)| (key, start, start + size, numbers(events)));
        let ms = |millis: i64| ms(millis as u64);
        let sliding = SlidingWindow::new(ms(size)).with_slide(ms(slide)).with_key(|event: &Event| event.1);
        let seen = windows_and_late(&sliding.with_event_time(time, ms(lateness)), &events);
        let expected: Vec<_> = expected.collect();
        assert_eq!((by_end(seen.0), seen.1), (by_end(expected.clone()), late.clone()), "seed {seed}");
        if size == slide {
            let tumbling = TumblingWindow::new(ms(size)).with_key(|event: &Event| event.1);
            let seen = windows_and_late(&tumbling.with_event_time(time, ms(lateness)), &events);
            assert_eq!((by_end(seen.0), seen.1), (by_end(expected), late), "seed {seed}");
        }
    }
}

/// With more disorder than is allowed: an item is added to an open session that takes it, or starts one, unless that
/// would have ended already.
#[test]
fn an_item_joins_open_sessions_or_begins_one_that_is_not_over() {
    for seed in 0..1_000 {
        let rng = &mut Rng::with_seed(seed);
        let events = disordered(rng, 100);
        let (gap, lateness) = (rng.i64(1..60), rng.i64(0..60));
        let (mut open, mut expected, mut late) = (Vec::<(u8, i64, i64, Vec<Event>)>::new(), Vec::new(), Vec::new());
        let mut greatest = 0;
        for event in &events {
            let time = event.0 as i64;
            greatest = greatest.max(time);
            let watermark = greatest - lateness;
            expected.extend(open.extract_if(.., |session| session.2 + gap <= watermark));
            let takes = |session: &mut (u8, i64, i64, Vec<Event>)| {
                session.0 == event.1 && time > session.1 - gap && time < session.2 + gap
            };
            let mut session = (event.1, time, time, vec![*event]);
            let joined: Vec<_> = open.extract_if(.., takes).collect();
            if joined.is_empty() && time + gap <= watermark {
                late.push(event.2);
                continue;
            }
            for (_, start, end, events) in joined {
                session = (event.1, session.1.min(start), session.2.max(end), [session.3, events].concat());
            }
            // By arrival, as the sort by time expects it.
            session.3.sort_by_key(|event| events.iter().position(|other| other.2 == event.2));
            open.push(session);
        }
        expected.append(&mut open);
        let numbers = |events: Vec<Event>| sorted(&events).into_iter().map(|event| event.2).collect();
        let expected = expected.into_iter().map(|(key, start, end, events)| (key, start, end + gap, numbers(events)));
        let session = SessionWindow::new(|event: &Event| event.1).with_gap(ms(gap as u64));
        let seen = windows_and_late(&session.with_event_time(time, ms(lateness as u64)), &events);
        assert_eq!((by_end(seen.0), seen.1), (by_end(expected.collect()), late), "seed {seed}");
    }
}

#[test]
fn a_late_item_is_added_to_an_open_aggregate_window() {
    let at = |n: &u64| SystemTime::UNIX_EPOCH + ms(*n);
    let list = || Aggregate::new(Vec::new, |list: &mut Vec<u64>, n: &u64| list.push(*n)).with_event_time(at, ms(5));
    let seen = |stage: &Aggregate<_, _, _>, items: &[u64]| {
        let mut run = Harness::new(stage);
        items.iter().for_each(|n| run.item(*n));
        run.end();
        let (windows, late): (Vec<_>, Vec<_>) = run.outputs().into_iter().partition(Result::is_ok);
        let late: Vec<_> = late.into_iter().map(|error| error.unwrap_err().take_item::<u64>().unwrap()).collect();
        let windows = windows.into_iter().flatten();
        (windows.map(|w| (millis(w.start), millis(w.end), w.result)).collect::<Vec<_>>(), late)
    };
    // Nothing has been folded before the second one: it starts the first window. The watermark moves to 115.
    let items = [100, 94, 107, 97, 93, 120, 110, 95];
    let lasting = seen(&list().with_time_window(ms(20)), &items);
    assert_eq!(lasting, (vec![(94, 114, vec![94, 100, 97, 107]), (114, 120, vec![120])], vec![93, 110, 95]));
    // Without a limit to its time, the window is open until it is sent.
    let counted = seen(&list().with_count_window(3), &items);
    assert_eq!(counted, (vec![(94, 100, vec![94, 100, 97]), (100, 120, vec![107, 110, 120])], vec![93, 95]));
}

#[test]
fn an_item_far_ahead_of_the_clock_fails_and_makes_none_late() {
    let clock_time = |n: &u64| ManualClock::new().wall() + ms(*n);
    let window = TumblingWindow::new(ms(10)).with_event_time(clock_time, ms(0)).with_max_ahead(ms(50));
    let mut run = Harness::new(&window);
    // Also as the first one of all.
    [51, 5, 1_000_000, 50].into_iter().for_each(|n| run.item(n));
    run.advance(ms(1));
    [51, 52].into_iter().for_each(|n| run.item(n));
    run.end();
    let (windows, failed): (Vec<_>, Vec<_>) = run.outputs().into_iter().partition(Result::is_ok);
    let items: Vec<_> = windows.into_iter().flatten().map(|window| window.items).collect();
    assert_eq!(items, [vec![5], vec![50, 51]]);
    let failed = failed.into_iter().map(|output| {
        let error = output.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        (error.take_item::<u64>().unwrap(), error.downcast_ref::<TooFarAhead>().unwrap().by)
    });
    assert_eq!(failed.collect::<Vec<_>>(), [(51, ms(1)), (1_000_000, ms(999_950)), (52, ms(1))]);
    let step = &run.steps()[0];
    assert_eq!((step.delivered, step.failed), (3, 3));
}

#[test]
fn an_item_far_ahead_of_the_data_fails_and_makes_none_late() {
    let at = |n: &u64| SystemTime::UNIX_EPOCH + ms(*n);
    let carried = |outputs: Vec<crate::Result<_>>| -> Vec<u64> {
        let errors = outputs.into_iter().filter_map(Result::err);
        errors.map(|error| (error.take_item().unwrap(), error.downcast_ref::<TooFarAhead>().unwrap().by).0).collect()
    };
    let sums = Aggregate::by(folds::count()).with_count_window(1).with_event_time(at, ms(0)).with_max_jump(ms(50));
    let mut run = Harness::new(&sums);
    // From the latest accepted time, whatever the clock shows.
    [100, 150, 201, 200, 251, 250].into_iter().for_each(|n| run.item(n));
    assert_eq!(carried(run.outputs()), [201, 251]);
    let never = TumblingWindow::new(ms(10)).with_event_time(at, ms(0));
    let never = never.with_max_jump(Duration::MAX).with_max_ahead(Duration::MAX);
    let mut run = Harness::new(&never);
    [1, 1_000_000_000_000].into_iter().for_each(|n| run.item(n));
    run.end();
    assert_eq!(run.items().len(), 2);
}

#[test]
#[should_panic(expected = "`max_jump` must be greater than zero")]
fn a_max_jump_of_zero_is_refused() {
    let window = TumblingWindow::new(ms(10)).with_event_time(time, ms(0));
    let _ = window.with_max_jump(Duration::ZERO);
}

/// The table that results from the corrections, the late items, and the number of replaced results.
fn table_and_late<S>(stage: &S, events: &[Event]) -> (Vec<Seen>, Vec<u32>, usize)
where
    S: Stage<In = Event, Out = Keyed<u8, Revised<Window<Event>>>>,
{
    let mut run = Harness::new(stage);
    let (mut table, mut late, mut replaced) = (Vec::<(u32, Seen)>::new(), Vec::new(), 0);
    let mut follow = |outputs: Vec<crate::Result<Keyed<u8, Revised<Window<Event>>>>>| {
        for output in outputs {
            let Keyed { key, window: Revised { window, revision, replaces } } = match output {
                Ok(revised) => revised,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Late);
                    late.push(error.take_item::<Event>().unwrap().2);
                    continue;
                }
            };
            assert_eq!(revision > 0, !replaces.is_empty());
            assert!(replaces.is_sorted_by_key(|bounds| bounds.start));
            let last = replaces.iter().map(|bounds| {
                let is_it = |(_, seen): &(u32, Seen)| {
                    (seen.0, seen.1, seen.2) == (key, millis(bounds.start), millis(bounds.end))
                };
                // The newest, if one that was full has the same bounds.
                table.remove(table.iter().rposition(is_it).expect("it was emitted and not replaced")).0
            });
            assert_eq!(last.max().map_or(0, |last| last + 1), revision);
            replaced += replaces.len();
            table.push((revision, one(Keyed { key, window })));
        }
    };
    for event in events {
        run.item(*event);
        follow(run.outputs());
    }
    run.end();
    follow(run.outputs());
    let step = &run.steps()[0];
    assert_eq!((step.delivered, step.failed, step.held()), ((events.len() - late.len()) as u64, late.len() as u64, 0));
    let mut table: Vec<_> = table.into_iter().map(|(_, seen)| seen).collect();
    table.sort();
    (table, late, replaced)
}

/// Compared with the same windows with `allowed` as lateness, for any disorder: the table is the same, and the same
/// items are late.
#[test]
fn corrections_equal_the_result_of_a_longer_lateness() {
    let mut replaced = [0; 3];
    for seed in 0..1_000 {
        let rng = &mut Rng::with_seed(seed);
        let events = disordered(rng, 100);
        let (size, slide) = (rng.u64(1..60), rng.u64(1..60));
        let (size, slide) = (ms(size.max(slide)), ms(size.min(slide)));
        let (lateness, allowed) = (ms(rng.u64(0..60)), ms(rng.u64(1..60)));
        let most = if rng.bool() { rng.usize(1..5) } else { usize::MAX };
        let longest = if rng.bool() { ms(rng.u64(1..120)) } else { ms(1_000_000) };
        let key = |event: &Event| event.1;
        let in_order = |(mut windows, late): (Vec<Seen>, Vec<u32>)| {
            windows.sort();
            (windows, late)
        };

        let tumbling = || TumblingWindow::new(size).with_key(key).max_count(most);
        let expected = in_order(windows_and_late(&tumbling().with_event_time(time, lateness + allowed), &events));
        let seen = table_and_late(&tumbling().with_event_time(time, lateness).with_corrections(allowed), &events);
        assert_eq!((seen.0, seen.1), expected, "tumbling, seed {seed}");
        replaced[0] += seen.2;

        let sliding = || SlidingWindow::new(size).with_slide(slide).with_key(key).max_count(most);
        let expected = in_order(windows_and_late(&sliding().with_event_time(time, lateness + allowed), &events));
        let seen = table_and_late(&sliding().with_event_time(time, lateness).with_corrections(allowed), &events);
        assert_eq!((seen.0, seen.1), expected, "sliding, seed {seed}");
        replaced[1] += seen.2;

        let session = || SessionWindow::new(key).with_gap(slide).with_max_duration(longest).max_count(most);
        let expected = in_order(windows_and_late(&session().with_event_time(time, lateness + allowed), &events));
        let seen = table_and_late(&session().with_event_time(time, lateness).with_corrections(allowed), &events);
        assert_eq!((seen.0, seen.1), expected, "sessions, seed {seed}");
        replaced[2] += seen.2;
    }
    assert!(replaced.iter().all(|replaced| *replaced > 1_000), "{replaced:?}");
}

/// A list is as large as its items together, a sum is a single item.
#[test]
fn as_many_sums_may_wait_as_items_but_only_sixteen_lists() {
    let windows = || TumblingWindow::new(ms(10));
    let sums = || windows().aggregate_by(folds::sum(|n: &u64| *n));
    assert_eq!(Stage::capacity(&windows().with_key(|n: &u64| *n)), Some(16));
    assert_eq!(Stage::capacity(&sums().with_key(|n: &u64| *n)), None);
    assert_eq!(
        Stage::capacity(
            &windows().with_event_time(|n: &u64| SystemTime::UNIX_EPOCH + ms(*n), ms(1)).with_corrections(ms(5))
        ),
        Some(16)
    );
    assert_eq!(
        Stage::capacity(
            &sums().with_event_time(|n: &u64| SystemTime::UNIX_EPOCH + ms(*n), ms(1)).with_corrections(ms(5))
        ),
        None
    );
    assert_eq!(Stage::capacity(&sums().with_capacity(2)), Some(2));
}
