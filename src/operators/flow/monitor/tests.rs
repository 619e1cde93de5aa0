//! Tests of [`Monitor`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use parking_lot::Mutex;

use crate::{ErrorKind, ManualClock, Monitor, Pipeline, Stream, StreamError, StreamStats};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A monitor and its reports.
fn monitored<T>(interval: Duration) -> (Monitor<T>, mpsc::Receiver<StreamStats>) {
    let (sender, reports) = mpsc::channel();
    (Monitor::new(interval).on_stats(move |stats| drop(sender.send(stats))), reports)
}

fn manual() -> (ManualClock, Pipeline) {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("monitored").clock(&clock).build();
    (clock, pipeline)
}

#[test]
fn reports_come_on_time_while_nothing_comes_and_at_the_end() {
    let (clock, pipeline) = manual();
    let (monitor, reports) = monitored(ms(100));
    let (sender, stream) = Stream::channel(&pipeline, 10);
    let stream = stream.through(&monitor);
    let start = clock.now();
    clock.advance(ms(250));
    sender.send(1).unwrap();
    sender.send_error(StreamError::new(ErrorKind::Failed, "before")).unwrap();
    clock.advance(ms(70));
    sender.send(2).unwrap();
    drop(sender);
    clock.settle();
    drop(stream);
    pipeline.join();
    let told: Vec<_> =
        reports.try_iter().map(|stats| (stats.elapsed, stats.count, stats.errors, stats.total, stats.rate)).collect();
    assert_eq!(
        told,
        [(ms(100), 0, 0, 0, 0.0), (ms(100), 0, 0, 0, 0.0), (ms(100), 1, 1, 1, 10.0), (ms(20), 1, 0, 2, 50.0)]
    );
    assert_eq!(clock.now() - start, ms(320));
}

#[test]
fn reports_are_punctual_and_show_the_time_a_consumer_stalls() {
    let (clock, pipeline) = manual();
    let (monitor, reports) = monitored(ms(100));
    let (sender, stream) = Stream::channel(&pipeline, 10);
    let mut stream = stream.through(&monitor.with_capacity(2));
    clock.advance(ms(30));
    (0..4).for_each(|n| sender.send(n).unwrap());
    clock.advance(ms(270));
    let told: Vec<_> = reports.try_iter().map(|stats| (stats.count, stats.stalled)).collect();
    assert_eq!(told, [(2, ms(70)), (0, ms(170)), (0, ms(270))]);
    // The third found room after 270 ms, the fourth 10 ms after that.
    stream.recv().unwrap().unwrap();
    clock.advance(ms(10));
    stream.recv().unwrap().unwrap();
    clock.advance(ms(90));
    let stats = reports.try_iter().next().unwrap();
    assert_eq!((stats.count, stats.total, stats.stalled), (2, 4, Duration::ZERO));
    assert_eq!((stats.min_latency, stats.avg_latency, stats.max_latency), (ms(10), ms(140), ms(270)));
    assert_eq!(stats.last_update, clock.clone().wall());
    sender.send(4).unwrap();
    clock.settle();
    assert_eq!(pipeline.threads(), 2);
    // One item waits: a cancellation ends that, and is reported as well.
    pipeline.cancel();
    clock.settle();
    assert_eq!(pipeline.threads(), 0);
    assert_eq!(reports.try_iter().map(|stats| stats.total).collect::<Vec<_>>(), [4]);
    drop((sender, stream));
    assert_eq!(pipeline.join().stage("monitor").unwrap().abandoned(), 1);
}

#[test]
fn no_item_is_lost_from_the_counts_and_runs_share_none() {
    let (monitor, reports) = monitored(Duration::from_micros(50));
    let pipeline = Pipeline::builder("counts").capacity(2).build();
    let runs = [20_000u64, 300].map(|count| {
        let stream = Stream::from_iter(&pipeline, 0..count).through(&monitor);
        std::thread::spawn(move || assert_eq!(stream.count().unwrap(), count))
    });
    runs.into_iter().for_each(|run| run.join().unwrap());
    pipeline.join();
    drop(monitor);
    let reports: Vec<StreamStats> = reports.iter().collect();
    assert_eq!(reports.iter().map(|stats| stats.count).sum::<u64>(), 20_300);
    let totals: Vec<u64> = reports.iter().map(|stats| stats.total).collect();
    assert!(totals.contains(&20_000) && totals.contains(&300), "{totals:?}");
}

#[test]
fn a_slow_callback_blocks_nothing_and_the_next_report_is_full() {
    let (started, has_started) = mpsc::sync_channel(0);
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(Some(may_go_on));
    let monitor = Monitor::new(Duration::from_micros(10)).on_stats(move |_| {
        // The first call waits until everything has passed.
        if let Some(may_go_on) = may_go_on.lock().take() {
            started.send(()).unwrap();
            may_go_on.recv().unwrap();
        }
    });
    let pipeline = Pipeline::new("slow");
    let (sender, stream) = Stream::channel(&pipeline, 10);
    let mut stream = stream.through(&monitor);
    has_started.recv().unwrap();
    for n in 0..1_000 {
        sender.send(n).unwrap();
        assert_eq!(stream.recv().unwrap().unwrap(), n);
    }
    go_on.send(()).unwrap();
    drop(sender);
    assert!(stream.recv().is_none());
    assert!(pipeline.join().is_complete());
}

#[test]
fn a_panicking_callback_is_called_again() {
    let (clock, pipeline) = manual();
    let calls = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&calls);
    let (sender, stream) = Stream::channel(&pipeline, 10);
    let mut stream = stream.monitor(ms(100), move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        panic!("the callback");
    });
    clock.advance(ms(350));
    sender.send(7).unwrap();
    assert_eq!(stream.recv().unwrap().unwrap(), 7);
    drop((sender, stream));
    assert!(pipeline.join().is_complete());
    assert_eq!(calls.load(Ordering::Relaxed), 4);
}

#[test]
fn ages_are_reported_for_items_with_a_valid_time() {
    let (clock, pipeline) = manual();
    let (monitor, reports) = monitored(ms(1_000));
    let began = clock.wall();
    let monitor = monitor.with_timestamp(move |millis: &u64| {
        assert!(*millis != 13, "unlucky");
        began + ms(*millis)
    });
    let (sender, stream) = Stream::channel(&pipeline, 10);
    let stream = stream.through(&monitor);
    clock.advance(ms(500));
    // 400 ms old, 100 ms old, from the future, and one whose closure panics.
    [100, 400, 600, 13].into_iter().for_each(|millis| sender.send(millis).unwrap());
    clock.advance(ms(1_500));
    let ages: Vec<_> = reports.try_iter().map(|stats| (stats.count, stats.avg_age, stats.max_age)).collect();
    let third = Duration::from_nanos(500_000_000 / 3);
    assert_eq!(ages, [(4, Some(third), Some(ms(400))), (0, None, None)]);
    drop(sender);
    assert_eq!(stream.count().unwrap(), 4);
}

#[test]
fn without_anybody_to_tell_it_has_no_second_thread() {
    let (clock, pipeline) = manual();
    let (sender, stream) = Stream::<u8>::channel(&pipeline, 10);
    let _stream = stream.through(&Monitor::new(Duration::MAX));
    clock.settle();
    assert_eq!(pipeline.threads(), 1);
    drop(sender);
}

#[test]
#[should_panic(expected = "`interval` must be greater than zero")]
fn no_interval_is_refused() {
    let _ = Monitor::<u8>::new(Duration::ZERO);
}
