//! One stream into many, many into one: slow readers, readers that go, readers that never come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use streamz::{DropReason, ErrorKind, FanIn, FanOut, Inline, Pipeline, Split, SplitOutput, Stream, StreamError};

use crate::virtual_pipeline_of;

fn failure() -> StreamError {
    StreamError::new(ErrorKind::Failed, "origin")
}

/// What is in a stream now.
fn all_now<T: Send + 'static>(stream: &mut Stream<T>) -> Vec<T> {
    std::iter::from_fn(|| stream.try_recv().ok()).map(|item| item.unwrap()).collect()
}

/// The next items of a stream, which are there.
fn next<T: Send + 'static>(stream: &mut Stream<T>, count: usize) -> Vec<T> {
    (0..count).map(|_| stream.try_recv().unwrap().unwrap()).collect()
}

/// An item that counts how often it was cloned.
#[derive(Debug)]
struct Counted(u32, Arc<AtomicUsize>);

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.1.fetch_add(1, Ordering::Relaxed);
        Self(self.0, Arc::clone(&self.1))
    }
}

fn counted(pipeline: &Pipeline, n: u32) -> (Arc<AtomicUsize>, Stream<Counted>) {
    let clones = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&clones);
    (clones, Stream::from_iter(pipeline, (0..n).map(move |i| Counted(i, Arc::clone(&counter)))))
}

#[test]
fn fan_out_makes_one_copy_fewer_than_there_are_readers() {
    for readers in 1..4 {
        let pipeline = Pipeline::new("routes");
        let (clones, items) = counted(&pipeline, 100);
        let mut streams = FanOut::new(3).process(&pipeline, items);
        streams.truncate(readers);
        // Nothing is left to chance: those that are dropped are dropped before anything is read.
        assert_eq!(FanIn::new().process(&pipeline, streams).count().unwrap(), 100 * readers as u64);
        pipeline.join();
        let most = 100 * 2;
        let clones = clones.load(Ordering::Relaxed);
        assert!(clones >= 100 * (readers - 1) && clones <= most, "{clones} clones for {readers} readers");
    }
    let (clock, pipeline) = virtual_pipeline_of(16);
    let (sender, input) = Stream::channel(&pipeline, 16);
    let mut streams = FanOut::new(3).process(&pipeline, input);
    streams.truncate(2);
    clock.settle();
    let clones = Arc::new(AtomicUsize::new(0));
    (0..10).for_each(|i| sender.send(Counted(i, Arc::clone(&clones))).unwrap());
    clock.settle();
    assert_eq!(
        clones.load(Ordering::Relaxed),
        10,
        "one clone for the second reader, none for the third, which has left"
    );
}

#[test]
fn fan_out_sends_an_item_to_all_before_it_waits_for_any() {
    let (clock, pipeline) = virtual_pipeline_of(2);
    let [mut slow, mut quick] = Stream::from_iter(&pipeline, 0..).fan_out();
    clock.settle();
    // Both are full, and the third item is in hand for both: to read either is enough to get it. It may come while the
    // first two are read.
    assert_eq!(next(&mut quick, 2), [0, 1]);
    clock.settle();
    assert_eq!(all_now(&mut quick), [2]);
    clock.settle();
    assert_eq!(all_now(&mut quick), []);
    assert_eq!(next(&mut slow, 2), [0, 1]);
    clock.settle();
    assert_eq!(next(&mut quick, 2), [3, 4]);
    assert_eq!(next(&mut slow, 2), [2, 3]);
}

#[test]
fn fan_out_leaves_out_a_branch_that_was_dropped() {
    let pipeline = Pipeline::new("routes");
    let [first, second, third] = Stream::from_iter(&pipeline, 0..1_000).fan_out();
    drop(second);
    third.spawn_for_each(drop);
    assert!(first.collect::<Vec<_>>().unwrap().into_iter().eq(0..1_000));
    assert!(pipeline.join().is_complete());
}

#[test]
fn fan_out_sends_errors_to_the_first_branch_with_a_consumer() {
    let (clock, pipeline) = virtual_pipeline_of(8);
    let (sender, input) = Stream::<u8>::channel(&pipeline, 8);
    let [mut first, mut second] = input.fan_out();
    sender.send_error(failure()).unwrap();
    clock.settle();
    assert!(first.try_recv().unwrap().is_err());
    assert!(second.try_recv().is_err(), "an error goes one way only");
    drop(first);
    clock.settle();
    sender.send_error(failure()).unwrap();
    clock.settle();
    assert!(second.try_recv().unwrap().is_err(), "an error is never lost as long as anybody reads");
}

#[test]
fn a_clone_that_panics_makes_only_one_error_item() {
    #[derive(Debug)]
    struct Fragile(u32);
    impl Clone for Fragile {
        fn clone(&self) -> Self {
            assert!(self.0 != 1, "a clone that panics");
            Self(self.0)
        }
    }
    let (clock, pipeline) = virtual_pipeline_of(8);
    let [first, second] = Stream::from_iter(&pipeline, (0..3).map(Fragile)).fan_out();
    clock.settle();
    let seen = |stream: Stream<Fragile>| {
        let value = |item: Result<Fragile, StreamError>| match item {
            Ok(item) => (item.0, true),
            Err(error) => (error.take_item::<Fragile>().unwrap().0, false),
        };
        stream.into_iter().map(value).collect::<Vec<_>>()
    };
    assert_eq!(seen(first), [(0, true), (1, false), (2, true)]);
    assert_eq!(seen(second), [(0, true), (2, true)]);
}

#[test]
fn the_report_names_the_unread_branch_while_it_blocks() {
    let (clock, pipeline) = virtual_pipeline_of(3);
    let split = Split::new(|n: &u32| n.is_multiple_of(2));
    let output = split.process(&pipeline, Stream::from_iter(&pipeline, 0..));
    output.matched.spawn_for_each(drop);
    clock.settle();
    clock.advance(Duration::from_secs(7));
    let report = pipeline.report();
    let stage = report.stage("split").unwrap();
    assert_eq!(stage.blocking().collect::<Vec<_>>(), ["rest"]);
    let rest = stage.outputs.iter().find(|output| &*output.name == "rest").unwrap();
    assert_eq!((rest.blocked, rest.is_blocking, rest.queued), (Duration::from_secs(7), true, 3));
    let matched = stage.outputs.iter().find(|output| &*output.name == "matched").unwrap();
    assert_eq!((matched.blocked, matched.is_blocking), (Duration::ZERO, false));
    assert!(report.to_string().contains("-> rest"), "{report}");
    // Four wait for the rest (one in hand), so four of the others have come, and nothing more.
    assert_eq!((split.stats().matched(), split.stats().rest()), (4, 4));
    pipeline.abort();
}

#[test]
fn the_inputs_of_a_stage_name_the_branches_that_it_reads() {
    let pipeline = Pipeline::new("branches");
    let (even, odd) = Stream::from_iter(&pipeline, 0..10u32).split(|n| n % 2 == 0);
    let [left, right] = even.fan_out();
    let merged = left.map(|n| n).merge([odd, right]);
    assert_eq!(merged.named("sum").fold(0, |sum, n| sum + n).unwrap(), 65);
    let pieces = Inline::from_iter(&pipeline, 0..3u32).map(|n| n).spawn("inline");
    assert_eq!(pieces.into_iter().count(), 3);
    let report = pipeline.join();
    let inputs = |stage: &str| -> Vec<_> {
        let inputs = report.stage(stage).unwrap().inputs.iter();
        inputs.map(|input| format!("{}.{}", input.stage, input.output)).collect()
    };
    assert_eq!(inputs("source"), [""; 0]);
    assert_eq!(inputs("split"), ["source."]);
    assert_eq!(inputs("fan_out"), ["split.matched"]);
    assert_eq!(inputs("map"), ["fan_out.0"]);
    assert_eq!(inputs("fan_in"), ["map.", "split.rest", "fan_out.1"]);
    assert_eq!(inputs("sum"), ["fan_in."]);
    assert_eq!(inputs("inline"), ["source-2."]);
    assert_eq!(inputs("iter"), ["inline."]);
}

#[test]
fn split_counts_sent_and_undelivered_items() {
    let pipeline = Pipeline::new("routes");
    let split = Split::new(|n: &u32| *n < 250);
    assert_eq!((split.stats().total_items(), split.stats().matched_ratio()), (0, 0.0));
    let SplitOutput { matched, rest, stats, .. } = split.process(&pipeline, Stream::from_iter(&pipeline, 0..1_000));
    drop(rest);
    assert_eq!(matched.count().unwrap(), 250);
    let report = pipeline.join();
    assert_eq!((stats.matched(), stats.rest(), stats.total_items()), (250, 750, 1_000));
    assert_eq!((stats.matched_ratio(), stats.rest_ratio(), stats.undeliverable()), (0.25, 0.75, 750));
    let stage = report.stage("split").unwrap();
    let undelivered: u64 = stage.outputs.iter().map(|output| output.undelivered).sum();
    let dropped: u64 =
        stage.steps[0].dropped.iter().filter(|(why, _)| *why == DropReason::Undeliverable).map(|(_, n)| n).sum();
    assert_eq!(undelivered + dropped, 750);
    // The handle of the processor applies to the next run, too; that of the run does not.
    let pipeline = Pipeline::new("again");
    let output = split.process(&pipeline, Stream::from_iter(&pipeline, 0..10));
    drop(output.rest);
    assert_eq!(output.matched.count().unwrap(), 10);
    pipeline.join();
    assert_eq!((split.stats().total_items(), stats.total_items(), output.stats.total_items()), (1_010, 1_000, 10));
}

#[test]
fn dropping_all_branches_stops_the_source() {
    let pipeline = Pipeline::new("routes");
    let (matched, rest) = Stream::from_iter(&pipeline, 0..).split(|n| n % 2 == 0);
    drop(matched);
    drop(rest);
    pipeline.join();
    let pipeline = Pipeline::new("routes");
    drop(Stream::from_iter(&pipeline, 0..).fan_out::<3>());
    pipeline.join();
}

#[test]
fn cancel_cuts_all_branches_even_while_one_of_them_blocks() {
    let (clock, pipeline) = virtual_pipeline_of(2);
    let streams = FanOut::new(3).process(&pipeline, Stream::from_iter(&pipeline, 0..));
    clock.settle();
    pipeline.cancel();
    clock.settle();
    assert_eq!(pipeline.threads(), 0);
    for stream in streams {
        let mut seen: Vec<_> = stream.into_iter().collect();
        assert!(seen.pop().unwrap().unwrap_err().is_cancelled());
        assert!(seen.is_empty(), "a reader that was cancelled reads no further");
    }
}

#[test]
fn an_item_is_handed_over_while_a_predicate_waits() {
    let (clock, pipeline) = virtual_pipeline_of(8);
    let token = pipeline.token();
    let slow = move |n: &u32| {
        if *n > 0 {
            let _ = token.sleep(Duration::from_secs(60));
        }
        true
    };
    let (mut matched, _rest) = Stream::from_iter(&pipeline, 0..5).split(slow);
    clock.settle();
    assert_eq!(all_now(&mut matched), [0]);
    pipeline.abort();
}

#[test]
fn random_fan_outs_lose_no_item_and_keep_the_branch_order() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let capacity = [0, 1, 2, 16, 256][random.usize(..5)];
        let pipeline = Pipeline::builder("routes").capacity(capacity).build();
        let (items, branches) = (random.u32(..400), random.usize(1..5));
        let streams = FanOut::new(branches).process(&pipeline, Stream::from_iter(&pipeline, 0..items));
        let marked = streams.into_iter().enumerate().map(|(branch, stream)| {
            let depth = random.usize(..3);
            let stream = (0..depth).fold(stream, |stream, _| stream.map(|n| n));
            stream.map(move |n| (branch, n))
        });
        let merged = FanIn::new().process(&pipeline, marked).collect::<Vec<_>>().unwrap();
        let mut of_branch: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        merged.into_iter().for_each(|(branch, n)| of_branch.entry(branch).or_default().push(n));
        assert!(of_branch.len() == branches || items == 0, "seed {seed}");
        assert!(of_branch.values().all(|own| own.iter().copied().eq(0..items)), "seed {seed}");
        assert!(pipeline.join().is_complete(), "seed {seed}");
    }
}

/// An item that panics when it is dropped, if it is a 2.
#[derive(Debug)]
struct Touchy(u32);

impl Drop for Touchy {
    fn drop(&mut self) {
        assert_ne!(self.0, 2, "dropped");
    }
}

#[test]
fn a_lost_branch_with_a_panicking_drop_affects_no_other() {
    let (clock, pipeline) = virtual_pipeline_of(1);
    let items = Stream::from_iter(&pipeline, [0, 2, 1, 3, 5].map(Touchy));
    let (matched, rest) = items.split(|item| item.0.is_multiple_of(2));
    // The 0 waits in the branch, the 2 for room.
    clock.settle();
    drop(matched);
    assert!(rest.into_iter().map(|item| item.unwrap().0).eq([1, 3, 5]));
    let report = pipeline.join();
    assert!(report.is_complete() && report.faults.is_empty(), "{report}");
}

#[test]
fn a_panicking_drop_does_not_fail_a_stage_without_consumer() {
    let (clock, pipeline) = virtual_pipeline_of(1);
    let stream = Stream::from_iter(&pipeline, [0, 2].map(Touchy)).map(|item| item);
    clock.settle();
    drop(stream);
    let report = pipeline.join();
    assert!(report.faults.is_empty(), "{report}");
}

#[test]
fn panicking_drops_before_a_cancelled_stage_are_no_fault() {
    let (clock, pipeline) = virtual_pipeline_of(2);
    let (sender, input) = Stream::channel(&pipeline, 8);
    let output = input.map(|item: Touchy| item);
    // Two are in the output, one is in hand, and two wait.
    [0, 1, 3, 2, 2].into_iter().for_each(|n| sender.send(Touchy(n)).unwrap());
    clock.settle();
    let report = pipeline.abort();
    drop(output);
    assert!(report.faults.is_empty(), "{report}");
}

#[test]
fn split_sends_errors_to_the_rest() {
    let (clock, pipeline) = virtual_pipeline_of(8);
    let (sender, input) = Stream::channel(&pipeline, 8);
    let (matched, rest) = input.split(|n: &u8| if *n == 2 { panic!("two") } else { true });
    sender.send(1).unwrap();
    sender.send_error(failure()).unwrap();
    sender.send(2).unwrap();
    sender.finish();
    clock.settle();
    assert_eq!(matched.collect::<Vec<_>>().unwrap(), [1]);
    let errors: Vec<_> = rest.into_iter().map(Result::unwrap_err).collect();
    assert_eq!(errors.iter().map(StreamError::kind).collect::<Vec<_>>(), [ErrorKind::Failed, ErrorKind::Panicked]);
    assert_eq!((errors[1].stage(), errors[1].take_item::<u8>()), ("split", Some(2)));
}

#[test]
fn an_item_never_waits_for_others_that_take_another_branch() {
    let pipeline = Pipeline::new("routes");
    let (sender, input) = Stream::channel(&pipeline, 200);
    // All are there before the first is taken, so the stage never waits; each of the others takes a while, the last never returns.
    (0..200).for_each(|n| sender.send(n).unwrap());
    let done = Arc::new(AtomicUsize::new(0));
    let is_done = Arc::clone(&done);
    let (mut matched, rest) = input.split(move |n: &u32| {
        let mut looks = if *n < 3 { 0 } else { 10_000 };
        while looks > 0 && is_done.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
            looks -= usize::from(*n < 199);
        }
        *n < 3
    });
    drop(rest);
    for n in 0..3 {
        assert_eq!(matched.recv().unwrap().unwrap(), n);
    }
    done.store(1, Ordering::Release);
    drop(sender);
}

#[test]
fn a_running_job_is_counted_although_another_has_started() {
    let (clock, pipeline) = virtual_pipeline_of(8);
    let split = Split::new(|n: &u32| n.is_multiple_of(2));
    let run = || {
        let (sender, input) = Stream::channel(&pipeline, 8);
        let SplitOutput { matched, rest, .. } = split.process(&pipeline, input);
        (sender, matched, rest)
    };
    let (first, _matched, _rest) = run();
    clock.settle();
    let (second, _matched, _rest) = run();
    clock.settle();
    (0..3).for_each(|n| first.send(n).unwrap());
    second.send(4).unwrap();
    clock.settle();
    assert_eq!((split.stats().matched(), split.stats().rest()), (3, 1));
    pipeline.abort();
}
