//! Tests of [`SessionWindow`].

use std::time::SystemTime;

use super::*;
use crate::testing::Harness;
use crate::windows::EventTime;
use crate::{ErrorKind, Keyed, ManualClock, Operator, Pipeline, Revised, Stream, StreamError, Window};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn ns(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}

/// Milliseconds since the start of the harness's clock.
fn millis(time: SystemTime) -> u64 {
    time.duration_since(ManualClock::new().wall()).unwrap().as_millis() as u64
}

type Letter = fn(&(char, u64)) -> char;

fn by_letter(gap: u64) -> SessionWindow<(char, u64), ByKey<char, Letter>> {
    SessionWindow::new((|(letter, _)| *letter) as Letter).with_gap(ms(gap))
}

/// Key, start, end, and the numbers of the items.
type Session = (char, u64, u64, Vec<u64>);

fn seen(sessions: Vec<Keyed<char, Window<(char, u64)>>>) -> Vec<Session> {
    let one = |Keyed { key, window }: Keyed<char, Window<(char, u64)>>| {
        let items = window.items.into_iter().map(|(_, n)| n).collect();
        (key, millis(window.start), millis(window.end), items)
    };
    sessions.into_iter().map(one).collect()
}

type Time = fn(&(char, u64)) -> SystemTime;

fn by_time(gap: u64, lateness: u64) -> SessionWindow<(char, u64), ByKey<char, Letter>, EventTime<Time>> {
    let time: Time = |(_, n)| ManualClock::new().wall() + ms(*n);
    by_letter(gap).with_event_time(time, ms(lateness))
}

/// D-42: in the Go counterpart, sessions up to a quarter of the gap further apart are one.
#[test]
fn a_pause_of_exactly_the_gap_separates_two_sessions() {
    let mut run = Harness::new(&by_letter(50));
    run.item(('a', 0));
    run.advance(ms(50) - ns(1));
    run.item(('a', 1));
    run.advance(ms(50) - ns(1));
    assert!(run.items().is_empty());
    run.advance(ns(1));
    let sessions = run.items();
    assert_eq!(sessions[0].window.items, [('a', 0), ('a', 1)]);
    let (start, end) = (sessions[0].window.start, sessions[0].window.end);
    assert_eq!(end.duration_since(start).unwrap(), ms(100) - ns(1));
    run.item(('a', 2));
    run.end();
    assert_eq!(run.items()[0].window.items, [('a', 2)]);
}

/// D-27: in the Go counterpart, a stale timer closes a session that was just extended, and a window has no key.
#[test]
fn a_session_that_was_extended_is_not_closed_by_its_old_timer() {
    let mut run = Harness::new(&by_letter(50));
    for n in 0..10 {
        run.item(('a', n));
        run.advance(ms(49));
        assert!(run.items().is_empty());
    }
    run.advance(ms(1));
    let expected = ('a', 0, 9 * 49 + 50, (0..10).collect::<Vec<_>>());
    assert_eq!(seen(run.items()), [expected]);
    assert_eq!(run.next_wake(), None);
}

#[test]
fn each_key_has_sessions_and_simultaneous_ends_are_in_key_order() {
    let mut run = Harness::new(&by_letter(50));
    run.item(('q', 0));
    run.advance(ms(10));
    ['b', 'a', 'q'].into_iter().for_each(|letter| run.item((letter, 1)));
    run.advance(ms(49));
    assert!(run.items().is_empty());
    run.advance(ms(1));
    let sessions = seen(run.items());
    assert_eq!(sessions, [('q', 0, 60, vec![0, 1]), ('b', 10, 60, vec![1]), ('a', 10, 60, vec![1])]);
}

#[test]
fn a_session_that_lasts_too_long_is_cut() {
    let mut run = Harness::new(&by_letter(50).with_max_duration(ms(100)));
    for n in 0..=10 {
        run.item(('a', n));
        run.advance(ms(20));
    }
    run.end();
    let expected =
        [('a', 0, 100, vec![0, 1, 2, 3, 4]), ('a', 100, 200, vec![5, 6, 7, 8, 9]), ('a', 200, 250, vec![10])];
    assert_eq!(seen(run.items()), expected);
}

#[test]
fn an_item_at_the_maximum_duration_starts_another_session() {
    let session = SessionWindow::new(|_: &u64| ()).with_gap(ms(51)).with_max_duration(ms(100));
    let at = |n: &u64| ManualClock::new().wall() + ms(*n);
    let mut run = Harness::new(&session.with_event_time(at, ms(1_000)));
    // The last one, which is older, does not merge with its neighbours either.
    [0, 40, 80, 100, 300, 350, 400, 500, 600, 550].into_iter().for_each(|n| run.item(n));
    run.end();
    let items: Vec<_> = run.items().into_iter().map(|keyed| keyed.window.items).collect();
    let expected = [&[0, 40, 80][..], &[100], &[300, 350], &[400], &[500, 550], &[600]];
    assert_eq!(items, expected);
}

#[test]
fn max_count_ends_a_session() {
    let mut run = Harness::new(&by_letter(50).max_count(2));
    (0..3).for_each(|n| run.item(('a', n)));
    run.end();
    assert_eq!(seen(run.items()), [('a', 0, 50, vec![0, 1]), ('a', 0, 50, vec![2])]);
}

#[test]
fn one_key_too_many_ends_the_session_that_would_end_next() {
    let mut run = Harness::new(&by_letter(50).with_max_keys(2));
    for (letter, wait) in [('a', 10), ('b', 10), ('a', 10), ('c', 0)] {
        run.item((letter, wait));
        run.advance(ms(wait));
    }
    assert_eq!(seen(run.items()), [('b', 10, 60, vec![10])]);
    assert_eq!(run.steps()[0].held(), 3);
}

#[test]
fn an_item_out_of_order_joins_two_sessions_to_one() {
    let mut run = Harness::new(&by_time(10, 100));
    for n in [20, 5, 13, 40, 60] {
        run.item(('a', n));
    }
    run.end();
    let expected = [('a', 5, 30, vec![5, 13, 20]), ('a', 40, 50, vec![40]), ('a', 60, 70, vec![60])];
    assert_eq!(seen(run.items()), expected);
    assert!(run.steps()[0].balances());
}

#[test]
fn a_panic_in_merge_fails_the_later_session_alone() {
    let merge = |_: &mut u64, _: &u64| panic!("merge");
    let mut run = Harness::new(&by_time(10, 100).aggregate(|| 0, |count, _| *count += 1, merge));
    for n in [0, 16, 18, 8] {
        run.item(('a', n));
    }
    run.end();
    let outputs = run.outputs();
    assert_eq!(outputs[0].as_ref().unwrap_err().kind(), ErrorKind::Panicked);
    assert_eq!(outputs.len(), 2);
    let step = &run.steps()[0];
    assert_eq!((step.failed + step.delivered, step.held()), (4, 0));
}

#[test]
fn errors_pass_at_once_and_keep_no_session_alive() {
    let mut run = Harness::new(&by_letter(50));
    run.item(('a', 0));
    run.advance(ms(40));
    run.error(StreamError::new(ErrorKind::Failed, "before"));
    assert!(run.outputs().iter().all(Result::is_err));
    run.advance(ms(10));
    assert_eq!(seen(run.items()), [('a', 0, 50, vec![0])]);
}

#[test]
fn nothing_is_left_of_a_key_when_its_session_has_been_sent() {
    let mut run = Harness::new(&by_letter(50));
    for n in 0..1_000 {
        run.item((char::from_u32('a' as u32 + n).unwrap(), 0));
        run.advance(ms(1));
    }
    assert_eq!(run.steps()[0].held(), 49);
    run.advance(ms(50));
    assert_eq!((run.items().len(), run.next_wake()), (1_000, None));
}

/// D-27, D-41: in the Go counterpart, sessions are sent with a lock held, and on cancellation to a consumer that has
/// left.
#[test]
fn sessions_wait_for_a_stalled_consumer_until_cancelled() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("stall").clock(&clock).build();
    let (input, stream) = Stream::channel(&pipeline, 100);
    let sessions = stream.through(&by_letter(10).with_capacity(1));
    for letter in ['a', 'b', 'c', 'd'] {
        input.send((letter, 0)).unwrap();
    }
    clock.advance(ms(5));
    input.send(('d', 1)).unwrap();
    // Three sessions are due, and there is room for one.
    clock.advance(ms(10));
    input.send(('e', 0)).unwrap();
    clock.advance(ms(100));
    let step = |report: &crate::Report| report.stage("session_window").unwrap().steps[0].clone();
    assert_eq!(step(&pipeline.report()).received, 5, "no input is taken while sessions wait for room");
    let report = pipeline.abort();
    drop(sessions);
    let step = step(&report);
    assert_eq!((step.received, step.delivered + step.abandoned, step.failed), (5, 5, 0));
    assert!(step.abandoned >= 2);
}

#[test]
#[should_panic(expected = "`gap` must be greater than zero")]
fn a_gap_of_zero_is_refused() {
    let _ = by_letter(0);
}

#[test]
#[should_panic(expected = "`max_duration` must be greater than zero")]
fn a_duration_of_zero_is_refused() {
    let _ = by_letter(1).with_max_duration(ms(0));
}

/// Key, items, revision, and the bounds of the replaced results.
type Correction = (char, Vec<u64>, u32, Vec<(u64, u64)>);

type Corrected = Keyed<char, Revised<Window<(char, u64)>>>;

fn corrections(run: &mut Harness<impl Operator<Out = Corrected>>) -> Vec<Correction> {
    let one = |Keyed { key, window: Revised { window, revision, replaces } }: Corrected| {
        let items = window.items.into_iter().map(|(_, n)| n).collect();
        let bounds = |range: std::ops::Range<SystemTime>| (millis(range.start), millis(range.end));
        (key, items, revision, replaces.into_iter().map(bounds).collect())
    };
    run.items().into_iter().map(one).collect()
}

#[test]
fn a_late_item_that_joins_emitted_sessions_replaces_each() {
    let mut run = Harness::new(&by_time(10, 0).with_corrections(ms(100)));
    [('a', 1), ('b', 1), ('a', 15), ('a', 60)].into_iter().for_each(|item| run.item(item));
    assert_eq!(
        corrections(&mut run),
        [('a', vec![1], 0, vec![]), ('b', vec![1], 0, vec![]), ('a', vec![15], 0, vec![])]
    );
    run.item(('a', 9));
    assert_eq!(corrections(&mut run), [('a', vec![1, 9, 15], 1, vec![(1, 11), (15, 25)])]);
    // The merged one is extended on both sides: one result remains.
    run.item(('a', 20));
    assert_eq!(corrections(&mut run), [('a', vec![1, 9, 15, 20], 2, vec![(1, 25)])]);
    run.item(('a', 0));
    assert_eq!(corrections(&mut run), [('a', vec![0, 1, 9, 15, 20], 3, vec![(1, 30)])]);
    // A session of its own, and too late for the emitted one.
    run.item(('b', 40));
    assert_eq!(corrections(&mut run), [('b', vec![40], 0, vec![])]);
    run.end();
    assert_eq!(corrections(&mut run), [('a', vec![60], 0, vec![])]);
    let step = &run.steps()[0];
    assert_eq!((step.delivered, step.failed, step.held()), (8, 0, 0));
}

#[test]
fn an_extended_session_is_corrected_when_it_ends() {
    let mut run = Harness::new(&by_time(10, 0).with_corrections(ms(100)));
    // 10 is emitted when 21 has come; 19 merges it with 21, which is open.
    [('a', 10), ('a', 21)].into_iter().for_each(|item| run.item(item));
    assert_eq!(corrections(&mut run), [('a', vec![10], 0, vec![])]);
    run.item(('a', 19));
    assert_eq!(corrections(&mut run), []);
    run.item(('b', 31));
    assert_eq!(corrections(&mut run), [('a', vec![10, 19, 21], 1, vec![(10, 20)])]);
}

#[test]
fn a_session_is_forgotten_after_the_allowed_time() {
    let mut run = Harness::new(&by_time(10, 0).with_corrections(ms(20)));
    // With 9 it ends at 19, so that it is kept until the watermark is 39.
    [('a', 0), ('b', 29), ('a', 9), ('b', 38), ('a', 8)].into_iter().for_each(|item| run.item(item));
    let revisions: Vec<_> =
        corrections(&mut run).into_iter().map(|(_, items, revision, _)| (items, revision)).collect();
    assert_eq!(revisions, [(vec![0], 0), (vec![0, 9], 1), (vec![0, 8, 9], 2)]);
    run.item(('b', 39));
    run.item(('a', 9));
    assert_eq!(run.outputs().pop().unwrap().unwrap_err().kind(), ErrorKind::Late);
    run.end();
    assert_eq!(corrections(&mut run), [('b', vec![29, 38, 39], 0, vec![])]);
}

#[test]
fn sessions_that_cannot_be_joined_fail_only_unsent_items() {
    let time = |(_, n): &(char, u64)| ManualClock::new().wall() + ms(*n);
    let counts = by_letter(10).with_event_time(time, ms(0));
    let counts =
        counts.aggregate(|| 0, |count, _| *count += 1, |_: &mut u64, _| panic!("no")).with_corrections(ms(100));
    let mut run = Harness::new(&counts);
    [('a', 1), ('a', 15), ('b', 40), ('a', 9)].into_iter().for_each(|item| run.item(item));
    let outputs: Vec<_> = run.outputs().into_iter().map(|output| output.ok().map(|keyed| keyed.window)).collect();
    let seen: Vec<_> = outputs.iter().flatten().map(|seen| (seen.window.result, seen.replaces.len())).collect();
    // The state of the later session is lost; its emitted result remains.
    assert_eq!((seen, outputs.len()), (vec![(1, 0), (1, 0), (2, 1)], 4));
    run.end();
    let step = &run.steps()[0];
    assert_eq!((step.delivered, step.failed, step.held()), (4, 0, 0));
}
