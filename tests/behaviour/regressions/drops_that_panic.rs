//! Values of the user's that panic when they are dropped: nothing comes of that for the pipeline.

use streamz::{ManualClock, Outcome, Pipeline, Stream};

use super::ms;

/// Panics whenever it is dropped, also while another panic unwinds.
struct Mine;

impl Drop for Mine {
    fn drop(&mut self) {
        panic!("a value that panics when it is dropped");
    }
}

/// The pipeline ends as if nothing had happened.
#[track_caller]
fn no_fault(pipeline: Pipeline) {
    let report = pipeline.join();
    assert!(report.faults.is_empty(), "{:?}", report.faults);
    assert!(!matches!(report.outcome, Outcome::Cancelled(_)), "{}", report.outcome);
    for step in report.stages.iter().flat_map(|stage| &stage.steps) {
        assert!(step.balances(), "{step:?}");
    }
}

/// Runs `hold` under a child token, cancels that when all is quiet, and looks at the pipeline.
#[track_caller]
fn held_at_a_stop<Out: Send + 'static>(items: usize, hold: impl FnOnce(Stream<Mine>) -> Stream<Out>) {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("held").clock(&clock).build();
    let child = pipeline.child();
    let (sender, stream) = Stream::channel(&child, 16);
    let output = hold(stream);
    (0..items).for_each(|_| sender.send(Mine).map_err(drop).unwrap());
    clock.settle();
    child.cancel();
    drop(sender);
    drop(output);
    let report = pipeline.join();
    assert!(report.faults.is_empty(), "{:?}", report.faults);
    assert!(!matches!(report.outcome, Outcome::Cancelled(_)), "{}", report.outcome);
}

#[test]
fn items_held_by_an_operator_at_a_stop_may_panic_when_dropped() {
    held_at_a_stop(2, |stream| stream.delay(ms(1_000)));
    held_at_a_stop(1, |stream| stream.debounce(ms(1_000)));
    held_at_a_stop(2, |stream| stream.throttle(0.001));
    held_at_a_stop(1, |stream| stream.batch(streamz::BatchConfig { max_size: 10, max_latency: ms(1_000) }));
    // More than one operator on the same thread.
    held_at_a_stop(3, |stream| stream.stage("both", |steps| steps.delay(ms(10)).debounce(ms(10))));
}

#[test]
fn values_of_a_closure_may_panic_when_dropped() {
    let owns = || {
        let mine = Mine;
        move || {
            let _ = &mine;
        }
    };
    let pipeline = Pipeline::new("owned");
    let (one, two, three) = (owns(), owns(), owns());
    let stream = Stream::from_iter(&pipeline, 0..10).stage("fused", move |steps| {
        steps
            .map(move |n: i32| {
                one();
                n
            })
            .filter(move |_| {
                two();
                true
            })
            .scan(
                || 0,
                move |_, n| {
                    three();
                    n
                },
            )
    });
    assert_eq!(stream.count().unwrap(), 10);
    no_fault(pipeline);

    // A stage that ends before the call that starts it returns.
    let pipeline = Pipeline::new("short");
    for _ in 0..100 {
        let (one, two) = (owns(), owns());
        let stream = Stream::from_iter(&pipeline, 0..0).stage("fused", move |steps| {
            steps
                .map(move |n: i32| {
                    one();
                    n
                })
                .map(move |n| {
                    two();
                    n
                })
        });
        assert_eq!(stream.count().unwrap(), 0);
    }
    no_fault(pipeline);

    let pipeline = Pipeline::new("every");
    let one = owns();
    pipeline.every(ms(1_000), one);
    no_fault(pipeline);

    let pipeline = Pipeline::new("routes");
    let (one, two, three) = (owns(), owns(), owns());
    let same = || streamz::Mapper::new(|n: i32| n);
    let router = streamz::Router::new()
        .add_route(
            "one",
            move |_: &i32| {
                one();
                false
            },
            same(),
        )
        .add_route(
            "two",
            move |_: &i32| {
                two();
                true
            },
            same(),
        );
    let routed = streamz::Processor::process(&router, &pipeline, Stream::from_iter(&pipeline, 0..10));
    std::mem::forget(router); // its own share of them is not the library's affair
    routed.spawn_for_each(move |_| three());
    no_fault(pipeline);

    let pipeline = Pipeline::new("letters");
    let one = owns();
    let queue = streamz::DeadLetterQueue::new().on_failure(move |_| one());
    let output = queue.process(&pipeline, Stream::from_iter(&pipeline, 0..10).try_map(|_| Err::<i32, _>("no")));
    std::mem::forget(queue);
    output.failed.spawn_for_each(drop);
    assert_eq!(output.items.count().unwrap(), 0);
    no_fault(pipeline);

    let pipeline = Pipeline::new("end");
    let (one, two) = (owns(), owns());
    let inline = Stream::from_iter(&pipeline, 0..10).inline().map(move |n| {
        one();
        n
    });
    let inline = inline.filter(move |_| {
        two();
        true
    });
    assert_eq!(inline.count().unwrap(), 10);
    no_fault(pipeline);
}

#[test]
fn a_panic_in_a_sink_does_not_meet_another_of_its_steps() {
    let pipeline = Pipeline::new("end");
    let (one, two) = (Mine, Mine);
    let inline = Stream::from_iter(&pipeline, 0..10).inline().map(move |n: i32| {
        let _ = &one;
        n
    });
    let inline = inline.map(move |n| {
        let _ = &two;
        n
    });
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| inline.for_each(|_| panic!("the end"))));
    assert_eq!(ended.unwrap_err().downcast_ref::<&str>(), Some(&"the end"));
    no_fault(pipeline);
}

#[test]
fn unread_dead_letters_may_panic_when_dropped() {
    use streamz::Overflow::{Block, DropNewest, DropOldest};
    for (overflow, is_kept) in [(Block, false), (DropNewest, false), (DropNewest, true), (DropOldest, true)] {
        let pipeline = Pipeline::new("letters");
        let failing =
            Stream::from_iter(&pipeline, 0..100).map(|n| (n % 2 == 0, Mine)).try_map(|(fails, mine): &(bool, Mine)| {
                let _ = mine;
                if *fails { Err("no") } else { Ok(()) }
            });
        let queue = streamz::DeadLetterQueue::new().with_overflow(overflow).with_failed_buffer_size(1);
        let streamz::DlqOutput { items, failed, .. } = queue.process(&pipeline, failing);
        let kept = is_kept.then_some(failed);
        items.for_each(drop).unwrap();
        drop(kept);
        no_fault(pipeline);
    }
}

#[test]
fn items_without_a_reader_may_panic_when_dropped() {
    let pipeline = Pipeline::new("split");
    let (left, right) = Stream::from_iter(&pipeline, 0..100).map(|n| (n, Mine)).split(|(n, _)| n % 2 == 0);
    drop(left);
    right.spawn_for_each(std::mem::forget);
    no_fault(pipeline);
    let pipeline = Pipeline::new("unmatched");
    let router = streamz::Router::new().add_route("none", |_: &Mine| false, streamz::Mapper::new(|mine: Mine| mine));
    let routed = Stream::from_iter(&pipeline, 0..100).map(|_| Mine).through(&router);
    assert_eq!(routed.into_iter().count(), 0);
    no_fault(pipeline);
}

#[test]
fn the_rest_of_a_source_may_panic_when_dropped() {
    let pipeline = Pipeline::builder("source").capacity(1).build();
    let items: Vec<Mine> = (0..10).map(|_| Mine).collect();
    let mut stream = Stream::from_iter(&pipeline, items).map(std::mem::forget).through(&streamz::Take::new(1));
    stream.recv().unwrap().unwrap();
    drop(stream);
    no_fault(pipeline);
}

/// The error of the first panic goes through the rest of the steps, where it meets the second.
#[test]
fn a_panic_on_the_error_of_a_panic_fails_only_its_item() {
    for inline in [false, true] {
        let pipeline = Pipeline::new("twice");
        let panics_on = |bad: i32| {
            move |n: i32| {
                assert_ne!(n, bad, "on purpose");
                n
            }
        };
        let source = Stream::from_iter(&pipeline, 0..4);
        let seen: Vec<Option<i32>> = if inline {
            let mut seen = Vec::new();
            let steps = source.inline().map(panics_on(1)).on_errors(|_| Some(7)).map(panics_on(7));
            steps.for_each(|item| seen.push(item.ok())).unwrap();
            seen
        } else {
            let stream =
                source.stage("all", move |steps| steps.map(panics_on(1)).on_errors(|_| Some(7)).map(panics_on(7)));
            stream.into_iter().map(Result::ok).collect()
        };
        assert_eq!(seen, [Some(0), None, Some(2), Some(3)]);
        let report = pipeline.join();
        assert!(report.faults.is_empty() && report.is_complete(), "{report}");
    }
}

#[test]
fn items_left_in_a_channel_may_panic_when_dropped() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("receiver").clock(&clock).build();
    let receiver = Stream::from_iter(&pipeline, (0..100).map(|_| Mine)).into_receiver(8);
    clock.settle();
    drop(receiver);
    no_fault(pipeline);

    // Here the receiver is the last to let go of them.
    let pipeline = Pipeline::new("ended");
    let receiver = Stream::from_iter(&pipeline, (0..8).map(|_| Mine)).into_receiver(8);
    no_fault(pipeline);
    drop(receiver);

    let pipeline = Pipeline::new("unread");
    let (sender, receiver) = crossbeam_channel::bounded(8);
    (0..8).for_each(|_| sender.send(Mine).map_err(std::mem::forget).unwrap());
    drop(sender);
    drop(Stream::from_receiver(&pipeline, receiver));
    no_fault(pipeline);
}
