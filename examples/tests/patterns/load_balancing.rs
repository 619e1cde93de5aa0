//! Load-balanced partitions.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use streamz::testing::{Recorder, TestSource};
use streamz::{BoxError, CancelToken, ManualClock, Pipeline, Stream};

#[allow(dead_code, unreachable_pub, reason = "its main is not run here")]
#[path = "../../load_balancing.rs"]
mod example;

use example::{Balance, Done, Task, balance};

fn task(id: u64, customer: u64) -> Task {
    Task { id, customer, takes: Duration::from_secs(1) }
}

fn work(worker: usize, cancel: &CancelToken, task: &Task) -> Result<Done, BoxError> {
    cancel.sleep(task.takes)?;
    Ok(Done { id: task.id, worker })
}

type Reports = Arc<Mutex<Vec<(Duration, Balance)>>>;

/// Where a report goes, with its time.
fn reports(clock: &ManualClock) -> (Reports, impl FnMut(Balance) + Send + 'static) {
    let reports = Reports::default();
    let (kept, clock, start) = (Arc::clone(&reports), clock.clone(), clock.now());
    (reports, move |report| kept.lock().push((clock.now() - start, report)))
}

#[test]
fn tasks_are_divided_evenly_and_done_in_order_per_worker() {
    let pipeline = Pipeline::new("test");
    let tasks = Stream::from_iter(&pipeline, (0..8_000).map(|id| task(id, 0)));
    let at_once = |worker, _: &CancelToken, task: &Task| Ok(Done { id: task.id, worker });
    let done = balance(&pipeline, tasks, 4, |task| task.id, at_once, |_| ())
        .collect::<Vec<_>>()
        .unwrap();
    assert_eq!(done.iter().map(|done| done.id).collect::<BTreeSet<_>>().len(), 8_000);
    assert_eq!(done.len(), 8_000);
    for worker in 0..4 {
        let ids: Vec<u64> =
            done.iter().filter(|done| done.worker == worker).map(|done| done.id).collect();
        assert!((1_880..2_120).contains(&ids.len()), "worker {worker} has {}", ids.len());
        assert!(ids.is_sorted());
    }
}

#[test]
fn the_balance_is_reported_every_30_s_until_the_end() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("test").clock(&clock).build();
    let (source, tasks) = TestSource::new(&pipeline);
    let (reports, on_report) = reports(&clock);
    let done = Recorder::new(balance(&pipeline, tasks, 2, |task| task.id, work, on_report));
    source.push_all((0..100).map(|id| task(id, 0)));
    clock.advance(Duration::from_secs(95));
    source.end();
    clock.advance(Duration::from_secs(24));
    assert_eq!(done.items().len(), 100);
    assert!(pipeline.join().is_complete());
    clock.advance(Duration::from_secs(1_000));

    let reports = reports.lock();
    let times: Vec<u64> = reports.iter().map(|(time, _)| time.as_secs()).collect();
    assert_eq!(times, [30, 60, 90]);
    let last = &reports[2].1;
    assert_eq!(last.per_worker.iter().sum::<u64>(), 100);
    // For two, the unevenness is half their difference by half their sum.
    let [a, b] = [last.per_worker[0], last.per_worker[1]].map(|n| n as f64);
    assert!((last.unevenness - (a - b).abs() / (a + b)).abs() < 1e-9);
    assert!(!last.is_uneven);
}

#[test]
fn dividing_by_customer_is_uneven_and_by_task_is_not() {
    let verdict = |key: fn(&Task) -> u64| {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("test").clock(&clock).build();
        let (source, tasks) = TestSource::new(&pipeline);
        let (reports, on_report) = reports(&clock);
        let _done = Recorder::new(balance(&pipeline, tasks, 4, key, work, on_report));
        // Every fourth task is customer 0's: too many for chance, though no worker stands idle.
        let customer = |id| if id % 4 == 0 { 0 } else { id };
        source.push_all(
            (0..400).map(|id| Task { takes: Duration::ZERO, ..task(id, customer(id)) }),
        );
        clock.advance(Duration::from_secs(30));
        let reports = reports.lock();
        reports[0].1.is_uneven
    };
    assert!(verdict(|task| task.customer));
    assert!(!verdict(|task| task.id));
}

#[test]
fn an_abort_ends_monitor_and_workers() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("test").clock(&clock).build();
    let (source, tasks) = TestSource::new(&pipeline);
    let (reports, on_report) = reports(&clock);
    let _done = balance(&pipeline, tasks, 2, |task| task.id, work, on_report);
    clock.advance(Duration::from_secs(30));
    let expected = Balance { per_worker: vec![0, 0], unevenness: 0.0, is_uneven: false };
    assert_eq!(*reports.lock(), [(Duration::from_secs(30), expected)]);
    source.push(task(1, 1));
    // Returns when all threads have ended.
    pipeline.abort();
}
