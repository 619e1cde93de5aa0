//! `par_fold` and `par_try_fold`: a sink with several threads.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use streamz::delivery::DeliveryConfig;
use streamz::{Cause, ErrorKind, Inline, ManualClock, Outcome, Pipeline, Report, Stream};

use super::{ms, virtual_pipeline};
use crate::common::inbox::Records;
use crate::common::item::{Census, Item};

/// Which items a worker has had.
fn put<T: Ord>(mut items: Vec<T>, item: T) -> Vec<T> {
    items.push(item);
    items
}

fn join<T>(mut items: Vec<T>, mut more: Vec<T>) -> Vec<T> {
    items.append(&mut more);
    items
}

fn sink(report: &Report) -> &streamz::StepReport {
    let sink = report.stages.iter().find(|stage| stage.kind == streamz::StageKind::Sink).unwrap();
    &sink.steps[0]
}

#[test]
fn each_item_is_folded_once() {
    for workers in [1, 2, 3, 8] {
        for items in [0, 1, 2, 100, 20_000_u64] {
            let expected: Vec<_> = (0..items).collect();
            let (found, report) = Pipeline::run("fold", |pipeline| {
                let stream = Stream::from_iter(pipeline, 0..items).par_fold(workers, Vec::new, put, join)?;
                let inline = Inline::from_iter(pipeline, 0..items).par_fold(workers, Vec::new, put, join)?;
                // An iterator of unknown length, which may block at any time.
                let unknown = Inline::from_iter(pipeline, (0..items).filter(|_| true));
                let unknown = unknown.par_fold(workers, Vec::new, put, join)?;
                let text: String = (0..items).map(|n| format!("{n}\n")).collect();
                let lines = Inline::lines(pipeline, std::io::Cursor::new(text));
                let parse = |items, line: String| line.parse().map(|item| put(items, item));
                let lines = lines.par_try_fold(workers, Vec::new, parse, join)?;
                Ok::<_, streamz::StreamError>([stream, inline, unknown, lines])
            });
            for mut found in found.unwrap() {
                found.sort_unstable();
                assert_eq!(found, expected, "{workers} workers");
            }
            assert!(report.is_complete(), "{report}");
            for stage in report.stages.iter().filter(|stage| stage.kind == streamz::StageKind::Sink) {
                let step = &stage.steps[0];
                assert_eq!((step.received, step.delivered, step.abandoned), (items, items, 0), "{report}");
            }
        }
    }
}

#[test]
fn a_worker_has_its_items_in_their_order() {
    let is_sorted = |items: Vec<u32>| {
        assert!(items.is_sorted());
        items.len()
    };
    let (count, _) = Pipeline::run("order", |pipeline| {
        let values = Stream::from_iter(pipeline, 0..10_000_u32);
        values.par_fold(
            3,
            || vec![Vec::new()],
            |mut all, item| {
                all[0].push(item);
                all
            },
            join,
        )
    });
    assert_eq!(count.unwrap().into_iter().map(is_sorted).sum::<usize>(), 10_000);
}

/// Ten calls of a second each on five workers take two seconds.
#[test]
fn the_workers_fold_at_the_same_time() {
    for inline in [false, true] {
        let (clock, pipeline) = virtual_pipeline();
        let started = clock.now();
        let token = pipeline.token().clone();
        let work = move |sum: u64, n: u64| {
            token.sleep(ms(1000)).unwrap();
            sum + n
        };
        let source = 0..10_u64;
        let folding = pipeline.spawn("fold", move |token| match inline {
            true => Inline::from_iter(token, source).par_fold(5, || 0, work, |a, b| a + b),
            false => Stream::from_iter(token, source).par_fold(5, || 0, work, |a, b| a + b),
        });
        clock.advance(ms(1999));
        assert!(!folding.is_finished(), "inline: {inline}");
        clock.advance(ms(1));
        assert_eq!(folding.join().unwrap(), 45, "inline: {inline}");
        assert_eq!(clock.now() - started, ms(2000), "inline: {inline}");
        assert!(pipeline.join().is_complete());
    }
}

/// In real time, a worker would take several items after so many quick ones.
#[test]
fn quick_items_do_not_change_what_happens_in_virtual_time() {
    let (clock, pipeline) = virtual_pipeline();
    let (sender, stream) = Stream::channel(&pipeline, 10_000);
    (0..10_000_u64).for_each(|n| sender.try_send(n).unwrap());
    drop(sender);
    let token = pipeline.token().clone();
    let work = move |count: u64, n: u64| {
        if n >= 9_996 {
            token.sleep(ms(1000)).unwrap();
        }
        count + 1
    };
    let folding = pipeline.spawn("fold", move |_| stream.par_fold(4, || 0, work, |a, b| a + b));
    clock.advance(ms(1000));
    assert!(folding.is_finished());
    assert_eq!(folding.join().unwrap(), 10_000);
    assert!(pipeline.join().is_complete());
}

#[test]
fn init_is_called_once_for_each_worker_that_has_an_item() {
    let count = |items: u32| {
        let made = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&made);
        let init = move || {
            counter.fetch_add(1, Ordering::Relaxed);
            0_u32
        };
        let (sum, _) = Pipeline::run("init", |pipeline| {
            Stream::from_iter(pipeline, 0..items).par_fold(4, init, |sum, _| sum + 1, |a, b| a + b)
        });
        assert_eq!(sum.unwrap(), items);
        made.load(Ordering::Relaxed)
    };
    assert_eq!((count(0), count(1)), (1, 1));
    assert!((1..=4).contains(&count(1000)));
}

#[test]
fn an_error_item_stops_the_pipeline() {
    for workers in [1, 4] {
        let folded = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&folded);
        let (result, report) = Pipeline::run("errors", |pipeline| {
            Stream::from_iter(pipeline, 0..1_000_000)
                .try_map(|n| if *n == 500 { Err("five hundred") } else { Ok(*n) })
                .par_fold(workers, || (), move |(), _| _ = count.fetch_add(1, Ordering::Relaxed), |(), ()| ())
        });
        assert_eq!(result.unwrap_err().to_string(), "stage `map` failed");
        let folded = folded.load(Ordering::Relaxed);
        assert!(folded == 500 || workers > 1 && folded < 500, "{folded} were folded");
        assert!(matches!(report.outcome, Outcome::Cancelled(Cause::Failed(_))), "{report}");
        let step = sink(&report);
        assert_eq!((step.received, step.delivered, step.errors_in), (500, folded, 1), "{report}");
        assert_eq!(step.abandoned, 500 - folded, "{report}");
    }
}

#[test]
fn an_error_of_the_closure_stops_the_pipeline() {
    let (result, report) = Pipeline::run("errors", |pipeline| {
        let fold = |sum, n: u64| if n == 500 { Err("five hundred") } else { Ok(sum + n) };
        Inline::from_iter(pipeline, 0..u64::MAX).par_try_fold(3, || 0, fold, |a, b| a + b)
    });
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert!(format!("{error:#}").contains("five hundred"), "{error:#}");
    assert!(matches!(report.outcome, Outcome::Cancelled(Cause::Failed(_))), "{report}");
    let step = sink(&report);
    assert_eq!(step.received, step.delivered + step.abandoned, "{report}");
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("boom");
    }
}

/// A second panic would abort the process; one on the thread of another worker would keep the caller waiting.
#[test]
fn a_panic_in_a_drop_does_no_more_harm() {
    // The payload of a panic that comes after an error.
    let (clock, pipeline) = virtual_pipeline();
    let token = pipeline.token().clone();
    let folding = pipeline.spawn("fold", move |own| {
        let fold = move |(), item| match token.sleep(ms(1000 * item)) {
            Ok(()) => Err("first"),
            Err(_) => panic_any(Bomb),
        };
        Inline::from_iter(own, 1..=3_u64).par_try_fold(3, || (), fold, |(), ()| ())
    });
    clock.advance(ms(1000));
    let error = folding.join().unwrap_err();
    assert!(format!("{error:#}").contains("first"), "{error:#}");
    pipeline.join();

    // What a closure holds, after a panic of another closure.
    for panicking in ["fold", "merge"] {
        let pipeline = Pipeline::new("panics");
        let (in_init, in_fold) = (Bomb, Bomb);
        let both = Barrier::new(2);
        let init = move || _ = &in_init;
        let fold = move |(), _| {
            _ = &in_fold;
            assert_ne!(panicking, "fold", "at once");
            both.wait();
        };
        let merge = |(), ()| assert_ne!(panicking, "merge", "at once");
        let items = Stream::from_iter(&pipeline, 0..2);
        let caught = catch_unwind(AssertUnwindSafe(|| items.par_fold(2, init, fold, merge)));
        assert!(caught.unwrap_err().downcast_ref::<String>().unwrap().contains("at once"));
        pipeline.join();
    }
}

/// Even one that waits for an item that does not come.
#[test]
fn a_panic_stops_the_other_workers_and_reaches_the_caller() {
    for panicking in ["fold", "init"] {
        let pipeline = Pipeline::new("panics");
        let (sender, stream) = Stream::channel(&pipeline, 4);
        sender.send(1).unwrap();
        let init = move || assert_ne!(panicking, "init", "at once");
        let fold = move |(), _| assert_ne!(panicking, "fold", "at once");
        let caught = catch_unwind(AssertUnwindSafe(|| stream.par_fold(4, init, fold, |(), ()| ())));
        let payload = caught.unwrap_err();
        assert!(payload.downcast_ref::<String>().unwrap().contains("at once"));
        assert!(sender.send(2).is_err(), "the input has been dropped");
        drop(sender);
        _ = pipeline.join();
    }
}

#[test]
fn a_cancellation_stops_all_workers() {
    let (clock, pipeline) = virtual_pipeline();
    let token = pipeline.token().clone();
    let folding = pipeline.spawn("fold", move |own| {
        let work = move |sum, n: u64| token.sleep(ms(1000)).map_or(sum, |()| sum + n);
        Inline::from_iter(own, 0..).par_fold(3, || 0, work, |a, b| a + b)
    });
    clock.advance(ms(5500));
    pipeline.cancel();
    assert_eq!(folding.join().unwrap_err().kind(), ErrorKind::Cancelled);
    let report = pipeline.join();
    assert_eq!(report.outcome.to_string(), Outcome::Cancelled(Cause::Requested).to_string(), "{report}");
}

/// Quick items are taken many at a time.
#[test]
fn a_cancellation_stops_between_two_items_of_a_run() {
    let pipeline = Pipeline::new("cancelled");
    let (sender, stream) = Stream::channel(&pipeline, 100_000);
    (0..100_000_u64).for_each(|n| sender.try_send(n).unwrap());
    let token = pipeline.token().clone();
    let last = 50_000;
    let folded = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&folded);
    let fold = move |(), n| {
        seen.store(n, Ordering::Relaxed);
        if n == last {
            token.cancel();
        }
    };
    let result = stream.par_fold(1, || (), fold, |(), ()| ());
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(folded.load(Ordering::Relaxed), last);
    let report = pipeline.join();
    let step = sink(&report);
    assert_eq!((step.delivered, step.received), (last + 1, last + 1 + step.abandoned), "{report}");
}

#[test]
fn a_drain_ends_it_with_what_was_taken() {
    let (clock, pipeline) = virtual_pipeline();
    let token = pipeline.token().clone();
    let folding = pipeline.spawn("fold", move |own| {
        let work = move |sum: u64, _| {
            token.sleep(ms(1000)).unwrap();
            sum + 1
        };
        Inline::from_iter(own, 0..).par_fold(3, || 0, work, |a, b| a + b)
    });
    clock.advance(ms(2500));
    pipeline.drain();
    clock.advance(ms(1000));
    assert_eq!(folding.join().unwrap(), 9);
    assert!(matches!(pipeline.join().outcome, Outcome::Drained));
}

#[test]
fn a_cut_returns_its_error_and_folds_what_came_before() {
    let (folded, count) = {
        let a = Arc::new(AtomicU64::new(0));
        (Arc::clone(&a), a)
    };
    let (result, report) = Pipeline::run("cut", |pipeline| {
        let items = (0..100).map(|n| if n == 90 { panic!("ninety") } else { n });
        let fold = move |(), _| _ = count.fetch_add(1, Ordering::Relaxed);
        Inline::from_iter(pipeline, items).par_fold(3, || (), fold, |(), ()| ())
    });
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(folded.load(Ordering::Relaxed), 90);
    assert!(matches!(report.outcome, Outcome::Cut(_)), "{report}");
}

/// A cut is behind all items: what happens to one of them comes first, also if it takes long.
#[test]
fn an_error_or_panic_before_a_cut_is_not_hidden_by_it() {
    for panics in [false, true] {
        let (clock, pipeline) = virtual_pipeline();
        let token = pipeline.token().clone();
        let folding = pipeline.spawn("fold", move |own| {
            let items = (0..2).map(|n| if n == 1 { panic!("the source") } else { n });
            let fold = move |(), _| {
                token.sleep(ms(1000)).unwrap();
                if panics { panic!("the first item") } else { Err("the first item") }
            };
            let fold = || Inline::from_iter(own, items).par_try_fold(2, || (), fold, |(), ()| ());
            streamz::ok(catch_unwind(AssertUnwindSafe(fold)).map_err(|payload| *payload.downcast::<&str>().unwrap()))
        });
        clock.advance(ms(1000));
        match folding.join().unwrap() {
            Ok(result) => {
                assert!(!panics);
                let error = result.unwrap_err();
                assert!(format!("{error:#}").contains("the first item"), "{error:#}");
            }
            Err(payload) => assert!(panics && payload == "the first item"),
        }
        pipeline.join();
    }
}

#[test]
fn a_line_is_folded_before_the_reader_is_asked_for_more() {
    /// Many lines at once, then one at a time, then the end.
    struct Slow {
        read: u64,
        folded: Arc<AtomicU64>,
    }

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            assert_eq!(self.folded.load(Ordering::Relaxed), self.read, "lines that have been read are not folded");
            let lines = match self.read {
                0 => 4_000,
                4_100.. => 0,
                _ => 1,
            };
            self.read += lines;
            let bytes = 2 * lines as usize;
            buffer[..bytes].copy_from_slice(&b"x\n".repeat(bytes / 2));
            Ok(bytes)
        }
    }

    let folded = Arc::new(AtomicU64::new(0));
    let reader = BufReader::new(Slow { read: 0, folded: Arc::clone(&folded) });
    let (count, report) = Pipeline::run("lines", |pipeline| {
        let fold = move |count, _| {
            folded.fetch_add(1, Ordering::Relaxed);
            count + 1
        };
        Inline::lines(pipeline, reader).par_fold(1, || 0, fold, |a, b| a + b)
    });
    assert_eq!(count.unwrap(), 4_100);
    assert!(report.is_complete(), "{report}");
}

/// The inbox notes each record that is acknowledged while it exists.
#[test]
fn no_record_is_acknowledged_before_it_is_folded() {
    const COUNT: u64 = 2_000;
    for (workers, epoch, fatal) in [(1, 3, None), (2, 1, None), (4, 64, None), (3, 2, None), (3, 2, Some(1_000))] {
        let pipeline = Pipeline::new("records");
        let inbox = Records::new(COUNT, |item| item, Census::default());
        let fates = inbox.fates.clone();
        let config = DeliveryConfig { epoch, ack_interval: ms(0), ..DeliveryConfig::default() };
        let fold = move |sum, item: Item| match item.value() {
            value if Some(value) == fatal => Err("fatal"),
            value => Ok(sum + value),
        };
        let records = Stream::deliver(&pipeline, inbox, config).unwrap();
        let sum = records.par_try_fold(workers, || 0, fold, |a, b| a + b);
        pipeline.join();
        fates.check().unwrap();
        assert_eq!((fates.acknowledged().len() + fates.given_back().len()) as u64, fates.fetched());
        match fatal {
            None => {
                assert_eq!(sum.unwrap(), COUNT * (COUNT - 1) / 2);
                assert_eq!(fates.acknowledged(), (0..COUNT).collect::<Vec<_>>());
            }
            Some(fatal) => {
                assert!(sum.is_err());
                assert!(!fates.acknowledged().contains(&fatal));
            }
        }
    }
}

#[test]
fn the_caller_is_one_of_the_workers() {
    let caller = thread::current().id();
    let (threads, report) = Pipeline::run("threads", |pipeline| {
        let items = Inline::from_iter(&pipeline.named("numbers"), 0..3).named("distinct");
        let fold = |mut threads: BTreeSet<String>, _| {
            threads.insert(format!("{:?}", thread::current().id()));
            threads
        };
        items.par_fold(1, BTreeSet::new, fold, |mut a, b| {
            a.extend(b);
            a
        })
    });
    assert_eq!(threads.unwrap(), BTreeSet::from([format!("{caller:?}")]));
    let names: Vec<_> = report.stages.iter().map(|stage| &*stage.name).collect();
    assert_eq!(names, ["numbers", "distinct"]);
}

/// A pipeline that may have no more threads folds on that of the caller.
#[test]
fn fewer_threads_do_the_work_of_all() {
    let pipeline = Pipeline::builder("few").max_threads(1).build();
    let sum = Stream::from_iter(&pipeline, 0..1000_u64).par_fold(4, || 0, |sum, n| sum + n, |a, b| a + b);
    assert_eq!(sum.unwrap(), 499_500);
    assert!(pipeline.join().is_complete());
}

#[test]
#[should_panic(expected = "`workers` must be at least 1")]
fn there_must_be_a_worker() {
    let pipeline = Pipeline::builder("none").clock(ManualClock::new()).build();
    _ = Stream::from_iter(&pipeline, 0..3).par_fold(0, || 0, |sum, n| sum + n, |a, b| a + b);
}
