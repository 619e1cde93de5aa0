//! Windows in whole pipelines.

use std::time::{Duration, SystemTime};

use streamz::folds::{self, Fold};
use streamz::testing::Harness;
use streamz::{ErrorKind, Pipeline, SlidingWindow, Stream, TooLate, TumblingWindow};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn at(second: &u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + seconds(*second)
}

#[test]
fn a_late_item_is_a_dead_letter_that_carries_it() {
    let pipeline = Pipeline::new("late");
    let by_minute = TumblingWindow::new(seconds(60)).with_event_time(at, seconds(10));
    let (windows, failed) = Stream::from_iter(&pipeline, [5, 70, 59, 75, 64, 70]).through(&by_minute).dead_letters();
    let (put_aside, letters) = std::sync::mpsc::channel();
    failed.spawn_for_each(move |letter| put_aside.send(letter.unwrap().into_item::<u64>().unwrap()).unwrap());
    let windows = windows.collect::<Vec<_>>().unwrap();
    let items: Vec<_> = windows.into_iter().map(|window| window.items).collect();
    assert_eq!(items, [vec![5], vec![64, 70, 70, 75]]);
    let late: Vec<_> = letters.iter().collect();
    assert!(late.iter().all(|(_, error)| error.kind() == ErrorKind::Late));
    let told = |(item, error): &(u64, streamz::StreamError)| (*item, error.downcast_ref::<TooLate>().unwrap().by);
    assert_eq!(late.iter().map(told).collect::<Vec<_>>(), [(59, seconds(1))]);
    let report = pipeline.join();
    let step = &report.stage("tumbling_window").unwrap().steps[0];
    assert_eq!((step.received, step.delivered, step.failed), (6, 5, 1));
}

/// Overlapping windows are made of pieces, whose states are merged.
#[test]
fn folds_of_overlapping_windows_are_those_of_their_items() {
    for seed in 0..100 {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let (size, slide, k) = (rng.u64(2..40), rng.u64(1..20), rng.usize(1..6));
        let slide = slide.min(size);
        let value = |second: &u64| second * 7 % 11;
        let fold = move || {
            (
                folds::top_by(k, value, u64::clone),
                folds::most_frequent(k, value),
                folds::approx_most_frequent(k, 11, value),
                folds::count_distinct(value),
                folds::percentiles([0.0, 50.0, 99.0], value),
                folds::sorted_by(value, u64::clone),
            )
        };
        let windows = || SlidingWindow::new(seconds(size)).with_slide(seconds(slide)).with_event_time(at, seconds(0));
        let mut events: Vec<u64> = (0..rng.usize(1..60)).map(|_| rng.u64(..100)).collect();
        events.sort_unstable();
        let (mut folded, mut of_items) = (Harness::new(&windows().aggregate_by(fold())), Harness::new(&windows()));
        for event in events {
            folded.item(event);
            of_items.item(event);
        }
        folded.end();
        of_items.end();
        let (folded, of_items) = (folded.items(), of_items.items());
        assert_eq!(folded.len(), of_items.len(), "seed {seed}");
        for (folded, of_items) in folded.into_iter().zip(of_items) {
            let (fold, mut state) = (fold(), fold().init());
            of_items.items.iter().for_each(|item| fold.fold(&mut state, item));
            let (top, frequent, approx, distinct, percentiles, sorted) = fold.finish(state);
            // Of equally frequent keys any may come first; there are as many counters as keys, so the counts are exact.
            let counts = |frequencies: Vec<folds::Frequency<u64>>| {
                frequencies.into_iter().map(|frequency| (frequency.count, frequency.max_error)).collect::<Vec<_>>()
            };
            let result = folded.result;
            assert_eq!(counts(result.2), counts(approx), "seed {seed}");
            let expected = (top, frequent, distinct, percentiles, sorted);
            assert_eq!((result.0, result.1, result.3, result.4, result.5), expected, "seed {seed}");
        }
    }
}
