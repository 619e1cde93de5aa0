use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;
use crate::{ErrorKind, ManualClock, Mapper, Pipeline, Scan, Sender, Stream, StreamError};

type Item = (&'static str, u32);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn key((key, _): &Item) -> &'static str {
    key
}

fn virtual_pipeline() -> (ManualClock, Pipeline) {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("groups").clock(&clock).build();
    (clock, pipeline)
}

/// A group that numbers its items, and emits their count when it ends.
fn numbered(name: &str, items: Stream<Item>) -> Stream<(String, u32, u32)> {
    let name = name.to_owned();
    items.through(&Scan::new(
        || 0,
        move |count, (_, n)| {
            *count += 1;
            (name.clone(), *count, n)
        },
    ))
}

/// All items that come until the stages wait.
fn now<T: Send + 'static>(clock: &ManualClock, output: &mut Stream<T>) -> Vec<T> {
    let next = || {
        clock.settle();
        output.try_recv().ok()
    };
    std::iter::from_fn(next).map(Result::unwrap).collect()
}

fn send(sender: &Sender<Item>, items: &[Item]) {
    items.iter().for_each(|item| sender.send(*item).unwrap());
}

#[test]
fn each_key_has_a_sub_pipeline_in_order() {
    let pipeline = Pipeline::new("groups");
    let items = (0..10_000u32).map(|n| (n % 10, n));
    let groups = GroupBy::new(|(key, _): &(u32, u32)| *key, |_, items| items.map(|item| item));
    let output = Stream::from_iter(&pipeline, items).through(&groups).collect::<Vec<_>>().unwrap();
    assert_eq!(output.len(), 10_000);
    for key in 0..10 {
        let own = output.iter().filter(|(of, _)| *of == key).map(|(_, n)| *n);
        assert!(own.eq((0..1_000).map(|n| n * 10 + key)));
    }
    let report = pipeline.join();
    assert!(report.is_complete(), "{report}");
    assert_eq!((groups.stats().started(), groups.stats().live()), (10, 0));
    let dispatcher = report.stage("group_by").unwrap();
    let outputs: Vec<_> = dispatcher.outputs.iter().map(|output| &*output.name).collect();
    assert_eq!(outputs, ["errors", "group"]);
    assert!(report.stages.iter().all(|stage| stage.steps[0].balances()), "{report}");
}

#[test]
fn more_keys_than_groups_evict_one_another_and_lose_nothing() {
    for (max_groups, keys) in [(1, 3), (2, 3), (3, 50)] {
        let pipeline = Pipeline::new("groups");
        let items = (0..500u32).map(move |n| (n * 7 % keys, n));
        let groups =
            GroupBy::new(|(key, _): &(u32, u32)| *key, |_, items| items.chunk(3).flatten()).with_max_groups(max_groups);
        let output = Stream::from_iter(&pipeline, items).through(&groups).collect::<Vec<_>>().unwrap();
        for key in 0..keys {
            let own: Vec<u32> = output.iter().filter(|(of, _)| *of == key).map(|(_, n)| *n).collect();
            assert!(own.is_sorted(), "{own:?}");
        }
        assert_eq!(output.len(), 500);
        let report = pipeline.join();
        assert!(report.is_complete());
        let stats = groups.stats();
        assert_eq!(stats.evicted(), stats.started() - max_groups as u64);
        assert_eq!(report.stage("group_by").unwrap().steps[0].evicted_keys, stats.evicted());
    }
}

#[test]
fn an_idle_group_ends_and_its_key_gets_a_new_one() {
    let (clock, pipeline) = virtual_pipeline();
    let (sender, items) = Stream::channel(&pipeline, 16);
    let groups = GroupBy::new(key, |key, items| numbered(key, items)).with_idle_timeout(ms(10));
    let mut output = items.through(&groups);
    send(&sender, &[("a", 1)]);
    assert_eq!(now(&clock, &mut output), [("a".to_owned(), 1, 1)]);
    clock.advance(ms(9));
    send(&sender, &[("a", 2), ("b", 3)]);
    let mut seen = now(&clock, &mut output);
    seen.sort();
    assert_eq!(seen, [("a".to_owned(), 2, 2), ("b".to_owned(), 1, 3)]);
    let threads = pipeline.threads();
    clock.advance(ms(9));
    clock.settle();
    assert_eq!(groups.stats().expired(), 0);
    clock.advance(ms(1));
    clock.settle();
    assert_eq!((groups.stats().expired(), groups.stats().live()), (2, 0));
    assert_eq!(pipeline.threads(), threads - 2, "the threads of both groups have gone");
    send(&sender, &[("a", 4)]);
    assert_eq!(now(&clock, &mut output), [("a".to_owned(), 1, 4)]);
    drop(sender);
    assert_eq!(output.count().unwrap(), 0);
    assert!(pipeline.join().is_complete());
}

/// The first group of the key is still running when the key returns.
#[test]
fn a_key_that_comes_back_waits_for_the_end_of_its_earlier_group() {
    let (clock, pipeline) = virtual_pipeline();
    let (sender, items) = Stream::channel(&pipeline, 16);
    let groups = GroupBy::new(key, |_, items| items.delay(ms(30))).with_idle_timeout(ms(10));
    let mut output = items.through(&groups);
    send(&sender, &[("a", 1)]);
    clock.settle();
    clock.advance(ms(10));
    send(&sender, &[("a", 2), ("b", 3)]);
    clock.settle();
    assert_eq!((groups.stats().expired(), groups.stats().started()), (1, 1));
    clock.advance(ms(20));
    assert_eq!(now(&clock, &mut output), [("a", 1)]);
    assert_eq!(groups.stats().started(), 3);
    clock.advance(ms(30));
    let mut rest = now(&clock, &mut output);
    rest.sort();
    assert_eq!(rest, [("a", 2), ("b", 3)]);
    drop(sender);
    assert_eq!(output.count().unwrap(), 0);
}

#[test]
fn at_the_bound_items_can_be_rejected() {
    let pipeline = Pipeline::new("groups");
    let groups =
        GroupBy::new(key, |_, items| items.map(|item| item)).with_max_groups(2).with_overflow(GroupOverflow::Reject);
    let items = [("a", 1), ("b", 2), ("c", 3), ("a", 4)];
    let output: Vec<_> = Stream::from_iter(&pipeline, items).through(&groups).into_iter().collect();
    let (items, errors): (Vec<_>, Vec<_>) = output.into_iter().partition(Result::is_ok);
    assert_eq!((items.len(), errors.len(), groups.stats().rejected()), (3, 1, 1));
    let error = errors.into_iter().next().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected);
    assert_eq!(error.downcast_ref::<TooManyGroups>(), Some(&TooManyGroups { max_groups: 2 }));
    assert_eq!(error.take_item::<Item>(), Some(("c", 3)));
}

#[test]
fn at_the_bound_the_stage_can_wait_until_a_group_expires() {
    let (clock, pipeline) = virtual_pipeline();
    let (sender, items) = Stream::channel(&pipeline, 16);
    let groups = GroupBy::new(key, |key, items| numbered(key, items))
        .with_max_groups(1)
        .with_idle_timeout(ms(10))
        .with_overflow(GroupOverflow::Wait);
    let mut output = items.through(&groups);
    send(&sender, &[("a", 1), ("b", 2), ("a", 3)]);
    assert_eq!(now(&clock, &mut output), [("a".to_owned(), 1, 1)]);
    clock.advance(ms(10));
    assert_eq!(now(&clock, &mut output), [("b".to_owned(), 1, 2)]);
    clock.advance(ms(10));
    assert_eq!(now(&clock, &mut output), [("a".to_owned(), 1, 3)]);
    drop(sender);
    assert_eq!(output.count().unwrap(), 0);
}

#[test]
fn a_stage_that_waits_for_a_place_can_be_cancelled() {
    let (clock, pipeline) = virtual_pipeline();
    let groups =
        GroupBy::new(key, |_, items| items.map(|item| item)).with_max_groups(1).with_overflow(GroupOverflow::Wait);
    let mut output = Stream::from_iter(&pipeline, [("a", 1), ("b", 2)]).through(&groups);
    assert_eq!(now(&clock, &mut output), [("a", 1)]);
    pipeline.cancel();
    assert!(output.recv().unwrap().unwrap_err().is_cancelled());
    let report = pipeline.join();
    assert_eq!(report.stage("group_by").unwrap().abandoned(), 1);
}

#[test]
fn an_ended_group_is_remembered_until_its_place_is_needed() {
    let (clock, pipeline) = virtual_pipeline();
    let (sender, items) = Stream::channel(&pipeline, 16);
    let groups = GroupBy::new(key, |_, items| items.take(1)).with_max_groups(1);
    let mut output = items.through(&groups);
    let mut step = |item| {
        send(&sender, &[item]);
        now(&clock, &mut output)
    };
    assert_eq!(step(("a", 1)), [("a", 1)]);
    assert_eq!(step(("a", 2)), []);
    assert_eq!(step(("b", 3)), [("b", 3)]);
    assert_eq!(step(("a", 4)), [("a", 4)]);
    drop(sender);
    assert_eq!(output.count().unwrap(), 0);
    let report = pipeline.join();
    assert_eq!(report.stage("group_by").unwrap().steps[0].total_dropped(), 1);
    assert_eq!((groups.stats().started(), groups.stats().evicted()), (3, 0));
}

#[test]
fn errors_bypass_the_groups() {
    let pipeline = Pipeline::new("groups");
    let (sender, items) = Stream::channel(&pipeline, 16);
    sender.send(("a", 1)).unwrap();
    sender.send_error(StreamError::new(ErrorKind::Failed, "origin")).unwrap();
    drop(sender);
    let tally = items.group_by(key, |_, items| items.map(|item| item)).for_each(drop).unwrap();
    assert_eq!((tally.items, tally.errors), (1, 1));
}

#[test]
fn a_panic_of_a_closure_fails_the_item_alone() {
    let pipeline = Pipeline::new("groups");
    let builds = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&builds);
    let groups = GroupBy::new(
        |(key, n): &Item| if *n == 1 { panic!("key") } else { *key },
        move |_, items| {
            assert!(count.fetch_add(1, Ordering::Relaxed) > 0, "build");
            items.map(|item: Item| item)
        },
    );
    let items = [("a", 1), ("a", 2), ("a", 3)];
    let output: Vec<_> = Stream::from_iter(&pipeline, items).through(&groups).into_iter().collect();
    let mut failed: Vec<Item> = output.iter().filter_map(|item| item.as_ref().err()?.take_item()).collect();
    failed.sort();
    assert_eq!(failed, [("a", 1), ("a", 2)]);
    assert_eq!(output.iter().flatten().collect::<Vec<_>>(), [&("a", 3)]);
    assert_eq!(builds.load(Ordering::Relaxed), 2);
    assert!(pipeline.join().is_complete());
}

#[test]
fn a_group_without_its_threads_fails_its_items_and_says_why() {
    let pipeline = Pipeline::builder("small").max_threads(5).build();
    let groups = GroupBy::new(key, |_, items| items.map(|item| item).map(|item| item));
    let items = [("a", 1), ("b", 2), ("a", 3)];
    let output: Vec<_> = Stream::from_iter(&pipeline, items).through(&groups).into_iter().collect();
    let error = output.iter().find_map(|item| item.as_ref().err()).unwrap();
    assert_eq!((error.kind(), error.take_item::<Item>()), (ErrorKind::Internal, Some(("b", 2))));
    assert!(
        error.to_string().contains("its maximum of 5 threads")
            || format!("{error:#}").contains("its maximum of 5 threads"),
        "{error:?}"
    );
    assert_eq!(output.iter().flatten().count(), 2);
    assert!(!pipeline.join().is_complete());
}

#[test]
fn a_stream_of_another_pipeline_fails_the_item() {
    let (pipeline, other) = (Pipeline::new("groups"), Pipeline::new("other"));
    let token = other.child();
    let output = Stream::from_iter(&pipeline, [("a", 1)])
        .group_by(key, move |_, _| Stream::from_iter(&token, Vec::<u32>::new()));
    let errors: Vec<_> = output.into_iter().filter_map(Result::err).collect();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].kind(), ErrorKind::Failed);
}

#[test]
fn a_group_can_be_its_input() {
    let pipeline = Pipeline::new("groups");
    let items = [("a", 1), ("b", 2), ("a", 3)];
    let mut output = Stream::from_iter(&pipeline, items).group_by(key, |_, items| items).collect::<Vec<_>>().unwrap();
    output.sort();
    assert_eq!(output, [("a", 1), ("a", 3), ("b", 2)]);
}

#[test]
fn when_the_output_is_dropped_everything_stops() {
    let pipeline = Pipeline::new("groups");
    let endless = Stream::from_iter(&pipeline, (0..).map(|n: u32| (n % 5, n)));
    let mut output = endless.group_by(|(key, _)| *key, |_, items| items.through(&Mapper::new(|item| item)));
    output.recv().unwrap().unwrap();
    drop(output);
    pipeline.join();
}

/// With one thousand groups one after the other.
#[test]
fn the_report_does_not_grow_with_groups_that_have_ended() {
    let pipeline = Pipeline::new("groups");
    let items = (0..1_000u32).flat_map(|key| [(key, 1), (key, 2)]);
    let groups = GroupBy::new(|(key, _): &(u32, u32)| *key, |_, items| items.named("double").map(|(_, n)| 2 * n))
        .with_max_groups(4);
    let sum = Stream::from_iter(&pipeline, items).through(&groups).fold(0, |sum, n| sum + n).unwrap();
    assert_eq!(sum, 6_000);
    let report = pipeline.join();
    assert!(report.stages.len() < 800, "{}", report.stages.len());
    let doubled: u64 =
        report.stages.iter().filter(|stage| stage.name.starts_with("double")).map(|row| row.received()).sum();
    assert_eq!(doubled, 2_000);
    let gather = report.stage("group_by-merge").unwrap();
    assert!(gather.inputs.len() < 800, "{}", gather.inputs.len());
    assert_eq!(report.stage("group_by").unwrap().outputs.len(), 2);
}

#[test]
#[should_panic(expected = "`max_groups` must be at least 1")]
fn no_groups_are_refused() {
    let _ = GroupBy::new(key, |_, items| items).with_max_groups(0);
}

#[test]
#[should_panic(expected = "`timeout` must be greater than zero")]
fn no_timeout_is_refused() {
    let _ = GroupBy::new(key, |_, items| items).with_idle_timeout(Duration::ZERO);
}
