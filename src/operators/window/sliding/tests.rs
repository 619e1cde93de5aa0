//! Tests of [`SlidingWindow`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::*;
use crate::testing::Harness;
use crate::windows::EventTime;
use crate::{ErrorKind, ManualClock, Operator, Pipeline, Revised, Stream, StreamError, Window, folds};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn ns(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}

/// Milliseconds since the start of the harness's clock.
fn millis(time: SystemTime) -> i64 {
    match time.duration_since(ManualClock::new().wall()) {
        Ok(after) => after.as_millis() as i64,
        Err(before) => -(before.duration().as_millis() as i64),
    }
}

fn seen<T>(windows: Vec<Window<T>>) -> Vec<(i64, i64, Vec<T>)> {
    windows.into_iter().map(|window| (millis(window.start), millis(window.end), window.items)).collect()
}

fn by_time(size: u64, slide: u64) -> SlidingWindow<u64, NoKey, EventTime<impl Fn(&u64) -> SystemTime + Send + Sync>> {
    SlidingWindow::new(ms(size))
        .with_slide(ms(slide))
        .with_event_time(|n: &u64| ManualClock::new().wall() + ms(*n), ms(0))
}

#[test]
fn each_window_is_sent_at_its_exact_end_with_all_its_items() {
    let mut run = Harness::new(&SlidingWindow::new(ms(20)).with_slide(ms(10)));
    run.item('a');
    run.advance(ms(10) - ns(1));
    run.item('b');
    assert!(run.items().is_empty());
    run.advance(ns(1));
    assert_eq!(seen(run.items()), [(-10, 10, vec!['a', 'b'])]);
    run.item('c');
    run.advance(ms(10));
    assert_eq!(seen(run.items()), [(0, 20, vec!['a', 'b', 'c'])]);
    assert_eq!(run.steps()[0].held(), 1);
    run.advance(ms(10));
    assert_eq!(seen(run.items()), [(10, 30, vec!['c'])]);
    assert_eq!((run.next_wake(), run.steps()[0].held()), (None, 0));
    let step = &run.steps()[0];
    assert_eq!((step.received, step.emitted, step.delivered), (3, 3, 3));
}

#[test]
fn items_are_in_all_their_windows_despite_too_many_keys() {
    let windows = SlidingWindow::new(ms(30)).with_slide(ms(10));
    let mut run = Harness::new(&windows.with_key(|(key, _): &(char, u32)| *key).with_max_keys(2));
    [('c', 0), ('a', 1), ('b', 2), ('a', 3)].into_iter().for_each(|item| run.item(item));
    run.end();
    let mut times = [0; 4];
    for (_, n) in run.items().into_iter().flat_map(|keyed| keyed.window.items) {
        times[n as usize] += 1;
    }
    assert_eq!(times, [3; 4]);
}

/// D-43: in the Go counterpart, a window exists only if an item came in its own first slide, so that [50, 150) is never
/// made here.
#[test]
fn sparse_items_are_in_every_window_that_covers_them() {
    let mut run = Harness::new(&by_time(100, 50));
    run.item(0);
    run.item(120);
    run.item(1_000);
    run.end();
    let expected = [
        (-50, 50, vec![0]),
        (0, 100, vec![0]),
        (50, 150, vec![120]),
        (100, 200, vec![120]),
        (950, 1_050, vec![1_000]),
        (1_000, 1_100, vec![1_000]),
    ];
    assert_eq!(seen(run.items()), expected);
}

#[test]
fn a_slide_that_does_not_divide_the_size_counts_items_once() {
    for (size, slide) in [(10, 3), (7, 5), (5, 5), (12, 4), (9, 8), (1, 1)] {
        let mut run = Harness::new(&by_time(size, slide));
        (100..160).for_each(|n| run.item(n));
        run.end();
        let windows = seen(run.items());
        let mut last = i64::MIN;
        for (start, end, items) in &windows {
            assert!(*end > last && *end - *start == size as i64);
            let covered: Vec<u64> = (100..160).filter(|n| (*start..*end).contains(&(*n as i64))).collect();
            assert_eq!(items, &covered, "{size} by {slide}");
            last = *end;
        }
        // Every window that covers anything: from the first that ends after 100 to the last that starts before 160.
        let slide = slide as i64;
        let first = millis(SystemTime::UNIX_EPOCH).rem_euclid(slide);
        let starts = (-1_000..160).filter(|start| (start - first).rem_euclid(slide) == 0);
        let expected: Vec<i64> = starts.filter(|start| start + size as i64 > 100).collect();
        assert_eq!(windows.iter().map(|window| window.0).collect::<Vec<_>>(), expected, "{size} by {slide}");
    }
}

/// D-28: in the Go counterpart, windows that end together come in random order, and a cancellation loses them
/// uncounted.
#[test]
fn windows_are_sent_in_order_of_their_ends_even_at_the_end() {
    let mut run = Harness::new(&by_time(100, 10).with_key(|n: &u64| n % 3));
    (0..30).for_each(|n| run.item(n));
    run.end();
    let keys: Vec<_> = run.items().into_iter().map(|keyed| (keyed.window.end, keyed.key)).collect();
    assert!(keys.is_sorted());
    assert_eq!(keys.len(), 12 * 3);
}

#[test]
fn items_held_at_a_cancel_are_counted_as_abandoned_once() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("cancel").clock(&clock).build();
    let (input, stream) = Stream::channel(&pipeline, 8);
    let mut windows = stream.sliding_window(ms(50), ms(10));
    (0..3).for_each(|n| input.send(n).unwrap());
    clock.advance(ms(20));
    assert_eq!(std::iter::from_fn(|| windows.try_recv().ok()).count(), 2);
    let report = pipeline.abort();
    let step = &report.stage("sliding_window").unwrap().steps[0];
    assert_eq!((step.received, step.emitted, step.delivered, step.abandoned), (3, 2, 0, 3));
}

#[test]
fn a_clock_that_jumps_closes_every_window_on_the_way_in_order() {
    let mut run = Harness::new(&SlidingWindow::new(ms(30)).with_slide(ms(10)));
    run.item(1);
    run.clock().advance(ms(25));
    run.item(2);
    assert_eq!(seen(run.items()), [(-20, 10, vec![1]), (-10, 20, vec![1])]);
    run.end();
    assert_eq!(seen(run.items()), [(0, 30, vec![1, 2]), (10, 40, vec![2]), (20, 50, vec![2])]);
}

/// Counts how often it is cloned.
#[derive(Debug)]
struct Counted(Arc<AtomicU64>);

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }
}

#[test]
fn items_are_cloned_for_all_windows_but_the_last() {
    let clones = Arc::new(AtomicU64::new(0));
    let mut run = Harness::new(&SlidingWindow::new(ms(60)).with_slide(ms(10)));
    (0..100).for_each(|_| run.item(Counted(Arc::clone(&clones))));
    assert_eq!(clones.load(Ordering::Relaxed), 0);
    run.end();
    assert_eq!(run.items().len(), 6);
    assert_eq!(clones.load(Ordering::Relaxed), 5 * 100);
}

#[test]
fn an_item_is_folded_once_however_many_windows_it_is_in() {
    let (folds, merges) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (folded, merged) = (Arc::clone(&folds), Arc::clone(&merges));
    let minute = SlidingWindow::new(Duration::from_secs(60)).with_slide(Duration::from_secs(1)).aggregate(
        || 0,
        move |sum, n: &u64| {
            folded.fetch_add(1, Ordering::Relaxed);
            *sum += n;
        },
        move |sum, later| {
            merged.fetch_add(1, Ordering::Relaxed);
            *sum += later;
        },
    );
    let mut run = Harness::new(&minute);
    let mut windows = Vec::new();
    for n in 0..12_000 {
        run.item(n);
        run.advance(ms(10));
        windows.extend(run.items());
    }
    run.end();
    windows.extend(run.items());
    assert_eq!(folds.load(Ordering::Relaxed), 12_000);
    assert_eq!(windows.len(), 120 + 59);
    assert!(merges.load(Ordering::Relaxed) <= 60 * 179);
    for window in windows {
        let (start, end) = (millis(window.start), millis(window.end));
        let expected: Vec<u64> = (0..12_000).filter(|n| (start..end).contains(&(*n as i64 * 10))).collect();
        assert_eq!((window.result, window.count), (expected.iter().sum(), expected.len() as u64));
    }
}

#[test]
fn max_count_closes_a_window_early_and_no_other() {
    let mut run = Harness::new(&by_time(20, 10).max_count(3));
    for n in [1, 2, 12, 13, 14, 15, 16, 25] {
        run.item(n);
    }
    run.end();
    let expected = [
        (-10, 10, vec![1, 2]),
        (0, 20, vec![1, 2, 12]),
        (10, 30, vec![12, 13, 14]),
        (0, 20, vec![13, 14, 15]),
        (0, 20, vec![16]),
        (10, 30, vec![15, 16, 25]),
        (20, 40, vec![25]),
    ];
    assert_eq!(seen(run.items()), expected);
    assert!(run.steps()[0].balances() && run.steps()[0].delivered == 8);
}

#[test]
fn max_count_bounds_the_kept_items() {
    let mut run = Harness::new(&SlidingWindow::new(ms(50)).with_slide(ms(10)).max_count(10));
    for n in 0..1_000 {
        run.item(n);
        assert!(run.steps()[0].held() < 10);
    }
    run.end();
    let mut times = vec![0; 1_000];
    run.items().into_iter().flat_map(|window| window.items).for_each(|n| times[n] += 1);
    assert!(times.iter().all(|times| *times == 5), "each item is in five windows, once in each");
}

#[test]
fn a_window_that_cannot_be_merged_fails_alone() {
    let merge = |sum: &mut u64, later: &u64| {
        assert!(*later != 3, "three");
        *sum += later;
    };
    let sums = by_time(30, 10).aggregate(|| 0, |sum, n: &u64| *sum += n % 10, merge);
    let mut run = Harness::new(&sums);
    [0, 11, 23, 34, 45].into_iter().for_each(|n| run.item(n));
    run.end();
    let outputs = run.outputs();
    let results: Vec<_> = outputs.iter().map(|out| out.as_ref().ok().map(|window| window.result)).collect();
    assert_eq!(results, [Some(0), Some(1), None, None, Some(12), Some(9), Some(5)]);
    assert!(outputs.iter().flat_map(|out| out.as_ref().err()).all(|error| error.kind() == ErrorKind::Panicked));
    let step = &run.steps()[0];
    assert_eq!((step.failed, step.delivered), (2, 3));
}

#[test]
fn errors_pass_at_once_and_close_no_window() {
    let mut run = Harness::new(&by_time(20, 10));
    run.item(1);
    run.error(StreamError::new(ErrorKind::Failed, "before"));
    assert!(run.outputs().iter().all(Result::is_err));
    run.item(2);
    run.end();
    assert_eq!(seen(run.items()), [(-10, 10, vec![1, 2]), (0, 20, vec![1, 2])]);
}

#[test]
fn silence_closes_all_windows_and_later_items_open_others() {
    let idle = SlidingWindow::new(ms(20))
        .with_slide(ms(10))
        .with_event_time(|n: &u64| ManualClock::new().wall() + ms(*n), ms(0))
        .with_idle_timeout(ms(100))
        .aggregate_by(folds::sum(|n: &u64| *n));
    let mut run = Harness::new(&idle);
    run.item(1);
    run.advance(ms(100));
    assert_eq!(run.items().len(), 2);
    run.item(2);
    run.end();
    assert_eq!(run.items().iter().map(|window| window.result).collect::<Vec<_>>(), [2, 2]);
}

#[test]
#[should_panic(expected = "`slide` must be at most `size`")]
fn a_slide_that_leaves_gaps_is_refused() {
    let _ = SlidingWindow::<u8>::new(ms(10)).with_slide(ms(11));
}

#[test]
#[should_panic(expected = "`slide` must be at least a millionth of `size`")]
fn a_slide_with_too_many_overlaps_is_refused() {
    let _ = SlidingWindow::<u8>::new(Duration::from_secs(1)).with_slide(Duration::from_nanos(999));
}

#[test]
#[should_panic(expected = "`slide` must be greater than zero")]
fn a_slide_of_zero_is_refused() {
    let _ = SlidingWindow::<u8>::new(ms(10)).with_slide(ms(0));
}

/// Start, items, revision, and the starts of the replaced results.
fn corrections<T>(run: &mut Harness<impl Operator<Out = Revised<Window<T>>>>) -> Vec<(i64, Vec<T>, u32, Vec<i64>)> {
    let one = |Revised { window, revision, replaces }: Revised<Window<T>>| {
        let replaces = replaces.into_iter().map(|bounds| millis(bounds.start)).collect();
        (millis(window.start), window.items, revision, replaces)
    };
    run.items().into_iter().map(one).collect()
}

#[test]
fn a_late_item_emits_each_window_that_covers_it() {
    let mut run = Harness::new(&by_time(20, 10).with_corrections(ms(10)));
    [1, 25].into_iter().for_each(|n| run.item(n));
    assert_eq!(corrections(&mut run), [(-10, vec![1], 0, vec![]), (0, vec![1], 0, vec![])]);
    // Of the windows of 3, that from -10 was forgotten at 20; of those of 12, that from 10 is open.
    run.item(3);
    run.item(12);
    assert_eq!(corrections(&mut run), [(0, vec![1, 3], 1, vec![0]), (0, vec![1, 3, 12], 2, vec![0])]);
    run.item(30);
    assert_eq!(corrections(&mut run), [(10, vec![12, 25], 0, vec![])]);
    // 9 is late, and 11 is not.
    run.item(9);
    assert_eq!(run.outputs().pop().unwrap().unwrap_err().kind(), ErrorKind::Late);
    run.item(11);
    assert_eq!(corrections(&mut run), [(10, vec![11, 12, 25], 1, vec![10])]);
    run.end();
    assert_eq!(corrections(&mut run), [(20, vec![25, 30], 0, vec![]), (30, vec![30], 0, vec![])]);
    let step = &run.steps()[0];
    assert_eq!((step.delivered, step.failed, step.held()), (6, 1, 0));
}

#[test]
fn corrections_wait_for_room_and_hold_their_item() {
    let mut run = Harness::new(&by_time(50, 10).with_corrections(ms(1_000))).with_capacity(2);
    [100, 1_000].into_iter().for_each(|n| run.item(n));
    while !run.items().is_empty() {}
    run.item(99);
    let mut emitted = Vec::new();
    loop {
        // As many as there was room for.
        let held = run.steps()[0].held();
        let items = run.items();
        assert!(items.len() <= 2 && held >= 1);
        if items.is_empty() {
            break;
        }
        emitted.extend(items.into_iter().map(|revised| (millis(revised.window.start), revised.revision)));
    }
    assert_eq!(emitted, [(50, 0), (60, 1), (70, 1), (80, 1), (90, 1)]);
}

#[test]
fn a_correction_that_panics_keeps_the_earlier_result() {
    let merge = |sum: &mut u64, later: &u64| {
        *sum += later;
        assert_ne!(*sum, 5, "five");
    };
    let sums = by_time(10, 10).aggregate(|| 0, |sum, n| *sum += n, merge).with_corrections(ms(100));
    let mut run = Harness::new(&sums);
    [1, 20, 4, 2].into_iter().for_each(|n| run.item(n));
    let seen: Vec<_> = run
        .outputs()
        .into_iter()
        .map(|output| output.ok().map(|sum| (sum.window.result, sum.revision, sum.replaces.len())))
        .collect();
    assert_eq!(seen, [Some((1, 0, 0)), None, Some((7, 1, 1))]);
    run.end();
    let step = &run.steps()[0];
    assert_eq!((step.delivered, step.failed, step.held()), (3, 1, 0));
}
