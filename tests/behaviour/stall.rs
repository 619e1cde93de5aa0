//! Pipelines that stand still say why.
//!
//! The limit is in real time, but nothing here depends on how long anything takes: each test waits until the pipeline
//! stands, which [`stands`] sees in its report, before it waits for it from outside; then it waits for the warning.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use streamz::{AsyncMapper, BoxError, CancelToken, Finding, Join, JoinSide, ManualClock, Pipeline, Stream};

use crate::{logged, ms};

/// Stands still for a moment, and warns. No other test has a pipeline of such a name: all log to one place.
fn pipeline(name: &str) -> Pipeline {
    logged::keep();
    Pipeline::builder(format!("stall-{name}")).capacity(4).stall_warning(ms(20)).build()
}

/// What is logged of a pipeline of that name while it hangs; then it is cancelled.
fn warning(pipeline: &Pipeline) -> thread::JoinHandle<String> {
    let (token, name) = (pipeline.token(), pipeline.report().name.to_string());
    thread::spawn(move || {
        let line = logged::wait_for(&format!("pipeline `{name}` has made no progress for 20ms"));
        token.cancel();
        line
    })
}

/// Returns once the pipeline waits for all of these, among others: its threads may still be on their way to a wait. Or
/// once it has been cancelled: a sink on a thread of its own may have warned already.
fn stands_for(token: &CancelToken, reasons: &[&str]) {
    let stands = || {
        let diagnosis = token.report().diagnosis().to_string();
        reasons.iter().all(|reason| diagnosis.contains(reason))
    };
    while !stands() && !token.is_cancelled() {
        thread::yield_now();
    }
}

fn stands(token: &CancelToken, because: &str) {
    stands_for(token, &[because]);
}

const UNREAD: &str = "`split -> rest` is not read (4 of 4); `split` waits for it";

#[test]
fn two_streams_of_a_split_that_are_read_one_after_the_other() {
    let pipeline = pipeline("reads-one");
    let warning = warning(&pipeline);
    let (even, odd) = Stream::from_iter(&pipeline, (1..1_000).step_by(2)).split(|n| n % 2 == 0);
    stands(&pipeline.token(), UNREAD);
    assert!(even.collect::<Vec<_>>().is_err());
    drop(odd);
    let line = warning.join().unwrap();
    assert!(line.contains(UNREAD), "{line}");
}

#[test]
fn a_sender_that_is_alive_while_the_pipeline_is_joined() {
    let pipeline = pipeline("has-senders");
    let warning = warning(&pipeline);
    let (sender, requests) = Stream::<u32>::channel(&pipeline, 16);
    let other = sender.clone();
    requests.map(|n| n + 1).spawn_for_each(drop);
    stands(&pipeline.token(), "2 senders of `channel` are alive");
    pipeline.join();
    drop((sender, other));
    let line = warning.join().unwrap();
    assert!(line.contains("2 senders of `channel` are alive"), "{line}");
}

#[test]
fn a_branch_held_but_not_read_during_a_join() {
    let pipeline = pipeline("has-a-branch");
    let warning = warning(&pipeline);
    let (small, large) = Stream::from_iter(&pipeline, 0..1_000).split(|n| *n < 500);
    small.spawn_for_each(drop);
    stands(&pipeline.token(), UNREAD);
    pipeline.join();
    drop(large);
    let line = warning.join().unwrap();
    assert!(line.contains(UNREAD), "{line}");
}

#[test]
fn a_stream_that_is_received_from_after_the_other() {
    let pipeline = pipeline("receives-one");
    let warning = warning(&pipeline);
    let (mut small, large) = Stream::from_iter(&pipeline, (0..1_000).rev()).split(|n| *n < 500);
    stands(&pipeline.token(), UNREAD);
    assert!(small.recv().is_some_and(|item| item.is_err()));
    drop(large);
    let line = warning.join().unwrap();
    assert!(line.contains(UNREAD), "{line}");
}

#[test]
fn a_branch_whose_consumer_reads_another_one() {
    let pipeline = pipeline("reads-the-other");
    let warning = warning(&pipeline);
    let (mut small, mut large) = Stream::from_iter(&pipeline, [7].into_iter().chain(100..1_000)).split(|n| *n < 50);
    assert_eq!(large.recv().unwrap().unwrap(), 100);
    assert_eq!(small.recv().unwrap().unwrap(), 7);
    let away = "`split` waits for room in `split -> rest`, from which `recv` has taken nothing for ";
    stands(&pipeline.token(), away);
    assert!(small.recv().is_some_and(|item| item.is_err()));
    drop(large);
    let line = warning.join().unwrap();
    assert!(line.contains(away), "{line}");
}

#[test]
fn a_sender_that_waits_for_room() {
    let pipeline = pipeline("sends");
    let warning = warning(&pipeline);
    let (sender, numbers) = Stream::channel(&pipeline, 4);
    (0..4).for_each(|n| sender.send(n).unwrap());
    sender.send(4).unwrap_err();
    drop(numbers);
    let line = warning.join().unwrap();
    assert!(line.contains("`channel` is not read (4 of 4); `channel` waits for it"), "{line}");
}

#[test]
fn a_diamond_that_is_read_in_the_wrong_order() {
    let pipeline = pipeline("is-a-cycle");
    let warning = warning(&pipeline);
    // What is small is read to its end before what is large, and there is no end of it before what is large has been read.
    let (small, large) = Stream::from_iter(&pipeline, 100..1_000).split(|n| *n < 100);
    small.map(|n| n + 1).chain([large]).spawn_for_each(drop);
    let cycle = "stages wait for each other: `split` waits for room in `split -> rest` (4 of 4), `chain` waits for an item of \
                 `map` (0 of 4), `map` waits for an item of `split -> matched` (0 of 4)";
    stands(&pipeline.token(), cycle);
    let report = pipeline.report();
    let is_cycle = |finding: &Finding| matches!(finding, Finding::Cycle { stages, .. } if stages.len() == 3);
    // The source may still be on its way to a wait.
    assert!(report.diagnosis().findings.iter().any(is_cycle), "{}", report.diagnosis());
    pipeline.join();
    let line = warning.join().unwrap();
    assert!(line.contains(cycle), "{line}");
}

/// What is found where one of two branches gives nothing: the stage that reads them, and the branch it waits for.
fn diamond(name: &str, reader: &str, read: impl FnOnce(Stream<u64>, Stream<u64>) -> Stream<u64>) {
    let pipeline = pipeline(name);
    let warning = warning(&pipeline);
    let (even, odd) = Stream::from_iter(&pipeline, (0..1_000).map(|n| 2 * n)).split(|n| n % 2 == 0);
    read(even, odd).spawn_for_each(drop);
    // Not how many items wait: the reader takes one, and the place may not have been filled yet.
    let waits = format!("`{reader}` waits for an item of `split -> rest` (0 of 4)");
    let cycle = ["stages wait for each other: `split` waits for room in `split -> matched` (", &waits];
    stands_for(&pipeline.token(), &cycle);
    pipeline.join();
    let line = warning.join().unwrap();
    assert!(cycle.iter().all(|part| line.contains(part)), "{line}");
}

#[test]
fn a_sorted_merge_names_the_branch_that_it_waits_for() {
    diamond("sorted-merge", "merge_sorted", |even, odd| even.merge_sorted([odd], |n| *n));
}

#[test]
fn a_join_names_the_branch_that_it_waits_for() {
    let time = |n: &u64| SystemTime::UNIX_EPOCH + Duration::from_secs(*n);
    let side = || JoinSide::new(|n: &u64| *n, time, Duration::ZERO);
    let join = Join::new(side(), side(), Duration::ZERO).with_max_items(10);
    diamond("join", "join", |even, odd| even.join(odd, &join).map(|(n, _)| n));
}

const BOTH: &str = "`fetch`: 2 threads are busy, the longest for ";

#[test]
fn calls_that_do_not_return() {
    let pipeline = pipeline("calls");
    let warning = warning(&pipeline);
    // A call waits for the lock that is held here.
    let gate = Arc::new(Mutex::new(()));
    let (closed, its) = (gate.lock().unwrap(), Arc::clone(&gate));
    let call = move |_: &CancelToken, n: &u32| -> Result<u32, BoxError> {
        drop(its.lock().unwrap());
        Ok(*n)
    };
    let both_at_work =
        |finding: &Finding| matches!(finding, Finding::AtWork { stage, threads: 2, .. } if &**stage == "fetch");
    let fetch = AsyncMapper::new(call).with_workers(2).with_name("fetch");
    Stream::from_iter(&pipeline, 0..10).through(&fetch).spawn_for_each(drop);
    let token = pipeline.token();
    stands(&token, BOTH);
    assert!(token.report().diagnosis().findings.iter().any(both_at_work));
    let joined = thread::spawn(move || pipeline.join());
    let line = warning.join().unwrap();
    drop(closed);
    joined.join().unwrap();
    assert!(line.contains(BOTH), "{line}");
}

#[test]
fn a_pipeline_on_a_manual_clock_is_not_watched() {
    logged::keep();
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("stall-virtual").clock(&clock).stall_warning(ms(20)).build();
    let (sender, mut requests) = Stream::<u32>::channel(&pipeline, 16);
    let waiting = thread::spawn(move || requests.recv());
    clock.settle();
    clock.advance(ms(1_000_000));
    drop(sender);
    assert!(waiting.join().unwrap().is_none());
    assert_eq!(logged::with("pipeline `stall-virtual`"), Vec::<String>::new());
}

#[test]
fn a_pipeline_dropped_while_running_logs_its_lost_items() {
    let pipeline = pipeline("dropped");
    let (sender, numbers) = Stream::channel(&pipeline, 16);
    (0..10).for_each(|n: u32| sender.send(n).unwrap());
    drop(pipeline);
    drop((sender, numbers));
    let line = logged::wait_for("pipeline `stall-dropped` was dropped");
    assert!(line.contains("10 unprocessed items"), "{line}");
}
