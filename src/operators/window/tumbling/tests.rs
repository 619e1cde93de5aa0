//! Tests of [`TumblingWindow`].

use std::time::SystemTime;

use super::*;
use crate::testing::Harness;
use crate::{
    AggregateWindow, ErrorKind, Keyed, ManualClock, Pipeline, Revised, Stream, StreamError, TooLate, Window, folds,
};

fn ns(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A time of the harness's clock, as the duration since its start.
fn at(since_start: Duration) -> SystemTime {
    ManualClock::new().wall() + since_start
}

fn window<T>(start: Duration, end: Duration, items: impl Into<Vec<T>>) -> Window<T> {
    Window { start: at(start), end: at(end), items: items.into() }
}

/// A time of day zero of the calendar, in milliseconds since its beginning.
fn day_0(millis: &u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + ms(*millis)
}

fn of_day_0(windows: Vec<Window<u64>>) -> Vec<(u64, u64, Vec<u64>)> {
    let millis = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
    windows.into_iter().map(|window| (millis(window.start), millis(window.end), window.items)).collect()
}

#[test]
fn an_item_exactly_at_a_boundary_is_in_the_next_window() {
    let mut run = Harness::new(&TumblingWindow::new(ms(10)));
    run.item("at the start");
    run.advance(ms(10) - ns(1));
    run.item("just before the end");
    assert!(run.items().is_empty());
    run.advance(ns(1));
    assert_eq!(run.items(), [window(ms(0), ms(10), ["at the start", "just before the end"])]);
    run.item("at the end");
    run.advance(ms(10) - ns(1));
    assert!(run.items().is_empty());
    run.advance(ns(1));
    assert_eq!(run.items(), [window(ms(10), ms(20), ["at the end"])]);
}

#[test]
fn windows_are_aligned_to_the_epoch_whenever_the_run_begins() {
    let mut run = Harness::new(&TumblingWindow::new(ms(10)));
    run.advance(ms(7));
    run.item('a');
    assert_eq!(run.next_wake(), Some(ms(3)));
    run.advance(ms(3));
    assert_eq!(run.items(), [window(ms(0), ms(10), ['a'])]);
    // Odd lengths, too, and times before the epoch.
    let mut run = Harness::new(&TumblingWindow::new(ms(7)).with_event_time(
        |millis: &i64| match u64::try_from(*millis) {
            Ok(after) => SystemTime::UNIX_EPOCH + ms(after),
            Err(_) => SystemTime::UNIX_EPOCH - ms(millis.unsigned_abs()),
        },
        ms(0),
    ));
    [-8, -7, -1, 0, 6, 7].into_iter().for_each(|n| run.item(n));
    run.end();
    let items: Vec<_> = run.items().into_iter().map(|window| window.items).collect();
    assert_eq!(items, [vec![-8], vec![-7, -1], vec![0, 6], vec![7]]);
}

#[test]
fn empty_windows_are_not_sent_and_need_no_timer() {
    let mut run = Harness::new(&TumblingWindow::new(ms(10)));
    assert_eq!(run.next_wake(), None);
    run.item(1);
    run.advance(ms(10));
    assert_eq!(run.items().len(), 1);
    assert_eq!(run.next_wake(), None);
    run.advance(Duration::from_secs(1_000_000) + ms(3));
    run.item(2);
    assert_eq!(run.next_wake(), Some(ms(7)));
    run.end();
    let start = Duration::from_secs(1_000_000) + ms(10);
    assert_eq!(run.items(), [window(start, start + ms(10), [2])]);
}

/// D-29: in the Go counterpart, a slow consumer stretches windows, and the end of one is not the start of the next.
#[test]
fn a_stalled_consumer_stretches_and_shifts_no_window() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("stall").clock(&clock).capacity(1).build();
    let (input, stream) = Stream::channel(&pipeline, 100);
    let mut windows = stream.through(&TumblingWindow::new(ms(10)).with_capacity(1));
    for n in 0..4 {
        input.send(n).unwrap();
        clock.advance(ms(10));
    }
    // The first window waits for the consumer, the second for room; two items have not been taken.
    clock.advance(ms(1));
    drop(input);
    let seen: Vec<_> = std::iter::from_fn(|| windows.recv()).map(Result::unwrap).collect();
    assert_eq!(seen[..2], [window(ms(0), ms(10), [0]), window(ms(10), ms(20), [1])]);
    // By the time of arrival, they came when there was room.
    assert_eq!(seen[2..], [window(ms(40), ms(50), [2, 3])]);
    pipeline.join();
}

/// D-41: in the Go counterpart, a flush on cancellation waits for a consumer that has left.
#[test]
fn cancelling_flushes_nothing_and_abandons_held_items() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("cancel").clock(&clock).build();
    let (input, stream) = Stream::channel(&pipeline, 8);
    let mut windows = stream.tumbling_window(ms(10));
    (0..3).for_each(|n| input.send(n).unwrap());
    clock.advance(ms(9));
    assert!(windows.try_recv().is_err());
    let report = pipeline.abort();
    let step = &report.stage("tumbling_window").unwrap().steps[0];
    assert_eq!((step.received, step.delivered, step.abandoned), (3, 0, 3));
}

#[test]
fn fused_windows_that_are_due_together_come_in_key_order() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("fused").clock(&clock).build();
    let (input, stream) = Stream::channel(&pipeline, 8);
    let by_number = TumblingWindow::new(ms(10)).with_key(|n: &u64| *n);
    let mut windows = stream.stage("fused", |s| s.flat_map(|n: u64| [n + 2, n, n + 1]).with(by_number));
    input.send(1).unwrap();
    clock.advance(ms(10) - ns(1));
    assert!(windows.try_recv().is_err());
    clock.advance(ns(1));
    let seen: Vec<_> = std::iter::from_fn(|| windows.try_recv().ok()).map(Result::unwrap).collect();
    let expected = [3, 1, 2].map(|key| Keyed { key, window: window(ms(0), ms(10), [key]) });
    assert_eq!(seen, expected);
    pipeline.abort();
}

#[test]
fn a_clock_that_jumps_closes_due_windows_before_the_next_item() {
    // Not by the timer: a harness does not fire it while the clock is moved directly.
    let mut run = Harness::new(&TumblingWindow::new(ms(10)).with_key(|(key, _): &(char, u32)| *key));
    run.item(('b', 0));
    run.item(('a', 0));
    run.clock().advance(ms(25));
    run.item(('a', 1));
    run.end();
    let seen: Vec<_> = run.items().into_iter().map(|Keyed { key, window }| (key, window)).collect();
    let expected = [
        ('b', window(ms(0), ms(10), [('b', 0)])),
        ('a', window(ms(0), ms(10), [('a', 0)])),
        ('a', window(ms(20), ms(30), [('a', 1)])),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn due_items_wait_for_room_and_so_does_the_next_item() {
    let keyed = TumblingWindow::new(ms(10)).with_key(|n: &u32| *n);
    let mut run = Harness::new(&keyed).with_capacity(2);
    (0..5).for_each(|n| run.item(n));
    run.clock().advance(ms(10));
    run.item(9);
    let mut sizes = Vec::new();
    loop {
        let windows = run.items();
        if windows.is_empty() {
            break;
        }
        sizes.push(windows.len());
    }
    assert_eq!(sizes, [2, 2, 1]);
    assert_eq!(run.steps()[0].held(), 1);
}

#[test]
fn max_count_closes_a_window_early_and_starts_another() {
    let config = WindowConfig { size: ms(10), slide: None, max_count: Some(2) };
    let mut run = Harness::new(&TumblingWindow::from_config(config));
    (0..3).for_each(|n| run.item(n));
    assert_eq!(run.items(), [window(ms(0), ms(10), [0, 1])]);
    run.advance(ms(10));
    assert_eq!(run.items(), [window(ms(0), ms(10), [2])]);
    // Nor is there anything left when the last item fills a window.
    run.item(3);
    run.item(4);
    assert_eq!(run.items().len(), 1);
    assert_eq!((run.next_wake(), run.steps()[0].held()), (None, 0));
    let mut each = Harness::new(&TumblingWindow::new(ms(10)).max_count(1));
    each.item('a');
    assert_eq!(each.items().len(), 1);
    assert_eq!(each.next_wake(), None);
}

#[test]
fn errors_pass_at_once_and_close_no_window() {
    let mut run = Harness::new(&TumblingWindow::new(ms(10)));
    run.item(1);
    run.error(StreamError::new(ErrorKind::Failed, "before"));
    assert!(run.outputs().iter().all(Result::is_err));
    run.item(2);
    run.end();
    assert_eq!(run.items(), [window(ms(0), ms(10), [1, 2])]);
}

#[test]
fn by_event_time_a_window_is_sent_at_the_watermark() {
    let by_time = TumblingWindow::new(ms(10)).with_event_time(day_0, ms(5));
    let mut run = Harness::new(&by_time);
    for time in [3, 12, 8, 14] {
        run.item(time);
    }
    assert!(run.items().is_empty());
    run.item(15);
    assert_eq!(of_day_0(run.items()), [(0, 10, vec![3, 8])]);
    run.item(10);
    run.end();
    assert_eq!(of_day_0(run.items()), [(10, 20, vec![10, 12, 14, 15])]);
}

#[test]
fn a_late_item_without_an_open_window_fails() {
    let by_time = TumblingWindow::new(ms(10)).with_event_time(day_0, ms(5));
    let mut run = Harness::new(&by_time);
    for time in [25, 20, 19, 2] {
        run.item(time);
    }
    let errors: Vec<StreamError> = run.outputs().into_iter().filter_map(Result::err).collect();
    assert!(errors.iter().all(|error| error.kind() == ErrorKind::Late));
    let by = |error: &StreamError| error.downcast_ref::<TooLate>().unwrap().by;
    assert_eq!(errors.iter().map(by).collect::<Vec<_>>(), [ms(1), ms(18)]);
    assert_eq!(errors.iter().map(|error| error.take_item().unwrap()).collect::<Vec<u64>>(), [19, 2]);
    let step = &run.steps()[0];
    assert_eq!((step.failed, step.held()), (2, 2));
}

#[test]
fn a_distant_item_opens_no_windows_in_between() {
    let by_time = TumblingWindow::new(ns(1)).with_event_time(|time: &SystemTime| *time, ms(0));
    let mut run = Harness::new(&by_time);
    let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 35);
    run.item(SystemTime::UNIX_EPOCH);
    run.item(far);
    run.item(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 50));
    run.end();
    let outputs = run.outputs();
    let ends: Vec<_> = outputs.iter().flatten().map(|window| window.end).collect();
    assert_eq!(ends, [SystemTime::UNIX_EPOCH + ns(1), far + ns(1)]);
    assert_eq!(outputs.into_iter().filter_map(Result::err).count(), 1);
}

#[test]
fn silence_closes_open_windows_if_configured() {
    let by_time = TumblingWindow::new(ms(10)).with_event_time(day_0, ms(5));
    let mut patient = Harness::new(&by_time);
    patient.item(1);
    assert_eq!(patient.next_wake(), None);
    let mut run = Harness::new(&by_time.with_idle_timeout(ms(100)));
    assert_eq!(run.next_wake(), None);
    run.item(1);
    run.advance(ms(60));
    run.item(11);
    run.advance(ms(99));
    assert!(run.items().is_empty());
    run.advance(ms(1));
    assert_eq!(of_day_0(run.items()), [(0, 10, vec![1]), (10, 20, vec![11])]);
    assert_eq!(run.next_wake(), None);
    // Later items are late only if they would have been late anyway.
    run.item(6);
    run.end();
    assert_eq!(of_day_0(run.items()), [(0, 10, vec![6])]);
}

#[test]
fn a_window_can_keep_a_state_instead_of_its_items() {
    let sum = TumblingWindow::new(ms(10)).aggregate(|| 0, |sum, n: &u32| *sum += n);
    let mut run = Harness::new(&sum);
    for n in 1..=4 {
        run.item(n);
        run.advance(ms(4));
    }
    run.end();
    let window =
        |start, result, count| AggregateWindow { result, start: at(ms(start)), end: at(ms(start + 10)), count };
    assert_eq!(run.items(), [window(0, 6, 3), window(10, 4, 1)]);
    let mut run = Harness::new(&TumblingWindow::new(ms(10)).with_key(|n: &u32| n % 2).aggregate_by(folds::count()));
    (0..5).for_each(|n| run.item(n));
    run.end();
    let counts: Vec<_> = run.items().iter().map(|keyed| (keyed.key, keyed.window.result)).collect();
    assert_eq!(counts, [(0, 3), (1, 2)]);
}

#[test]
fn one_key_too_many_closes_the_window_that_is_due_next() {
    let keyed = TumblingWindow::new(ms(10)).with_key(|n: &u32| *n).with_max_keys(2);
    let mut run = Harness::new(&keyed);
    [1, 2, 1, 3].into_iter().for_each(|n| run.item(n));
    assert_eq!(run.items().iter().map(|keyed| keyed.window.items.clone()).collect::<Vec<_>>(), [[1, 1]]);
    run.item(1);
    assert_eq!(run.items().iter().map(|keyed| keyed.key).collect::<Vec<_>>(), [2]);
    let step = &run.steps()[0];
    assert_eq!((step.held(), step.evicted_keys), (2, 2));
}

#[test]
fn a_panic_fails_its_item_alone_wherever_it_comes_from() {
    let poison = |bad: u64| move |n: &u64| if *n == bad { panic!("bad") } else { *n / 10 };
    let by_time = TumblingWindow::new(ms(10)).with_event_time(
        |n: &u64| {
            assert!(*n != 3, "bad");
            day_0(n)
        },
        ms(0),
    );
    let folded = by_time.with_key(poison(1)).aggregate(
        || 0,
        |sum, n: &u64| {
            assert!(*n != 2, "bad");
            *sum += n;
        },
    );
    let mut run = Harness::new(&folded);
    (0..=5).for_each(|n| run.item(n));
    run.end();
    let outputs = run.outputs();
    let carried: Vec<_> = outputs.iter().filter_map(|out| out.as_ref().err()).map(|e| e.take_item::<u64>()).collect();
    assert_eq!(carried, [Some(1), Some(2), Some(3)]);
    let windows: Vec<_> = outputs.iter().flatten().map(|keyed| (keyed.window.result, keyed.window.count)).collect();
    assert_eq!(windows, [(9, 3)]);
    assert!(run.steps()[0].balances());
}

#[test]
fn an_item_older_than_the_watermark_enters_its_open_window() {
    let by_time = TumblingWindow::new(ms(10)).with_event_time(day_0, ms(5));
    let mut run = Harness::new(&by_time);
    // The watermark moves to 23, and later to 30.
    for time in [28, 20, 22, 35, 29] {
        run.item(time);
    }
    run.end();
    let (windows, late): (Vec<_>, Vec<_>) = run.outputs().into_iter().partition(Result::is_ok);
    let windows = of_day_0(windows.into_iter().flatten().collect());
    assert_eq!(windows, [(20, 30, vec![20, 22, 28]), (30, 40, vec![35])]);
    let late: Vec<_> = late.into_iter().map(|error| error.unwrap_err().take_item::<u64>()).collect();
    assert_eq!(late, [Some(29)]);
}

#[test]
fn keys_unequal_to_themselves_have_a_window_per_item() {
    #[derive(Clone)]
    struct Odd;
    impl std::hash::Hash for Odd {
        fn hash<H: std::hash::Hasher>(&self, _state: &mut H) {}
    }
    impl PartialEq for Odd {
        fn eq(&self, _: &Self) -> bool {
            false
        }
    }
    impl Eq for Odd {}
    let mut run = Harness::new(&TumblingWindow::new(ms(10)).with_key(|_: &u32| Odd).with_max_keys(3));
    (0..10).for_each(|n| run.item(n));
    assert_eq!(run.steps()[0].held(), 3);
    run.end();
    let items: Vec<_> = run.items().into_iter().map(|keyed| keyed.window.items).collect();
    assert_eq!(items, (0..10).map(|n| vec![n]).collect::<Vec<_>>());
}

#[test]
#[should_panic(expected = "`size` must be greater than zero")]
fn a_size_of_zero_is_refused() {
    let _ = TumblingWindow::<u8>::new(Duration::ZERO);
}

#[test]
#[should_panic(expected = "use a `SlidingWindow`")]
fn a_slide_is_refused() {
    let _ = TumblingWindow::<u8>::from_config(WindowConfig { slide: Some(ms(1)), ..WindowConfig::default() });
}

#[test]
#[should_panic(expected = "`max_count` must be at least 1")]
fn a_count_of_0_is_refused() {
    let _ = TumblingWindow::<u8>::new(ms(1)).max_count(0);
}

/// The items of each emitted window, and its revision.
fn revisions<T>(run: &mut Harness<impl crate::Operator<Out = Revised<Window<T>>>>) -> Vec<(Vec<T>, u32)> {
    run.items().into_iter().map(|revised| (revised.window.items, revised.revision)).collect()
}

#[test]
fn a_window_is_revised_for_each_late_item_until_it_expires() {
    let tens = TumblingWindow::new(ms(10)).with_event_time(day_0, Duration::ZERO).with_corrections(ms(15));
    let mut run = Harness::new(&tens);
    run.item(1);
    run.item(12);
    assert_eq!(revisions(&mut run), [(vec![1], 0)]);
    run.item(3);
    run.item(2);
    assert_eq!(revisions(&mut run), [(vec![1, 3], 1), (vec![1, 2, 3], 2)]);
    // The watermark is one short of the end of the first window plus the allowed lateness.
    run.item(24);
    run.item(9);
    assert_eq!(revisions(&mut run), [(vec![12], 0), (vec![1, 2, 3, 9], 3)]);
    run.item(25);
    run.item(9);
    let late = run.outputs().pop().unwrap().unwrap_err();
    assert_eq!((late.kind(), late.downcast_ref::<TooLate>()), (ErrorKind::Late, Some(&TooLate { by: ms(16) })));
    run.end();
    assert_eq!(revisions(&mut run), [(vec![24, 25], 0)]);
    let step = &run.steps()[0];
    assert_eq!((step.delivered, step.failed, step.held()), (7, 1, 0));
}

#[test]
fn a_late_item_of_an_empty_window_is_its_first_revision() {
    let tens = TumblingWindow::new(ms(10)).with_event_time(day_0, Duration::ZERO).with_corrections(ms(100));
    let mut run = Harness::new(&tens);
    run.item(35);
    run.item(15);
    run.item(16);
    assert_eq!(revisions(&mut run), [(vec![15], 0), (vec![15, 16], 1)]);
}

#[test]
fn a_window_that_was_emitted_is_kept_no_longer_than_allowed() {
    let kept = std::sync::Arc::new(());
    let time = |(millis, _): &(u64, std::sync::Arc<()>)| day_0(millis);
    let tens = TumblingWindow::new(ms(10)).with_event_time(time, Duration::ZERO).with_corrections(ms(10));
    let mut run = Harness::new(&tens);
    run.item((1, kept.clone()));
    for (millis, handles) in [(9, 2), (10, 2), (19, 2), (20, 1)] {
        run.item((millis, std::sync::Arc::default()));
        run.items();
        assert_eq!(std::sync::Arc::strong_count(&kept), handles, "at {millis}");
    }
}

#[test]
fn a_full_window_is_not_kept() {
    let tens =
        TumblingWindow::new(ms(10)).with_event_time(day_0, Duration::ZERO).with_corrections(ms(100)).max_count(2);
    let mut run = Harness::new(&tens);
    [1, 2, 3, 12, 4].into_iter().for_each(|millis| run.item(millis));
    assert_eq!(revisions(&mut run), [(vec![1, 2], 0), (vec![3], 0), (vec![3, 4], 1)]);
}

#[test]
fn a_state_that_cannot_be_copied_fails_that_emission_only() {
    struct Fragile(u64);
    impl Clone for Fragile {
        fn clone(&self) -> Self {
            assert_ne!(self.0, 2, "two");
            Self(self.0)
        }
    }
    let tens = TumblingWindow::new(ms(10)).with_event_time(day_0, Duration::ZERO);
    let counts = tens.aggregate(|| Fragile(0), |count, _| count.0 += 1).with_corrections(ms(100));
    let mut run = Harness::new(&counts);
    [1, 12, 2, 3].into_iter().for_each(|millis| run.item(millis));
    let seen: Vec<_> =
        run.outputs().into_iter().map(|out| out.map(|out| (out.window.result.0, out.revision)).ok()).collect();
    assert_eq!(seen, [Some((1, 0)), None, Some((3, 1))]);
}
