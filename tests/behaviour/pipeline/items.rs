//! `Stream::consume`: sinks made of iterator methods.

use std::panic::{AssertUnwindSafe, catch_unwind};

use streamz::{Cause, ErrorKind, Inline, Outcome, Pipeline, Stream};

/// Numbers of which the fourth fails.
fn failing(pipeline: &Pipeline) -> Stream<u64> {
    Stream::from_iter(pipeline, 1..=9u64).try_map(|n: &u64| if *n == 4 { Err("four") } else { Ok(*n) })
}

/// Numbers from a source that dies after the third.
fn dying(pipeline: &Pipeline) -> Stream<u64> {
    Stream::from_iter(pipeline, (1..=9u64).inspect(|n| assert!(*n < 4, "dead")))
}

#[test]
fn iterator_methods_see_all_items() {
    let pipeline = Pipeline::new("items");
    let numbers = || Stream::from_iter(&pipeline, 1..=10u64);
    assert_eq!(numbers().consume(|items| items.sum::<u64>()).unwrap(), 55);
    assert_eq!(numbers().consume(|items| items.min()).unwrap(), Some(1));
    assert_eq!(numbers().consume(|items| items.last()).unwrap(), Some(10));
    assert_eq!(numbers().consume(|mut items| items.nth(3)).unwrap(), Some(4));
    assert!(numbers().consume(|mut items| items.all(|n| n < 11)).unwrap());
    let (even, odd): (Vec<u64>, Vec<u64>) = numbers().consume(|items| items.partition(|n| n % 2 == 0)).unwrap();
    assert_eq!((even.len(), odd.len()), (5, 5));
    let steps = Inline::from_iter(&pipeline, 0..10u64).filter(|n| n % 3 == 0).chunk(2);
    assert_eq!(steps.consume(|items| items.map(|chunk| chunk.len()).collect::<Vec<_>>()).unwrap(), [2, 2]);
    assert_eq!(numbers().reduce(|a, b| a * b).unwrap(), Some(3_628_800));
    assert_eq!(numbers().filter(|n| *n > 10).reduce(|a, b| a * b).unwrap(), None);
    assert!(pipeline.join().is_complete());
}

#[test]
fn the_first_error_stops_the_pipeline_and_is_returned() {
    // By the loop of the reader, and one by one.
    for one_by_one in [false, true] {
        let pipeline = Pipeline::new("fails");
        let mut seen = Vec::new();
        let error = failing(&pipeline)
            .consume(|mut items| match one_by_one {
                true => {
                    seen.extend(items.by_ref());
                    assert_eq!(items.next(), None);
                }
                false => items.for_each(|n| seen.push(n)),
            })
            .unwrap_err();
        assert_eq!((error.kind(), error.take_item()), (ErrorKind::Failed, Some(4_u64)));
        assert_eq!(seen, [1, 2, 3]);
        let outcome = pipeline.join().outcome;
        assert!(matches!(&outcome, Outcome::Cancelled(Cause::Failed(first)) if first.ptr_eq(&error)), "{outcome}");
    }
}

#[test]
fn a_cut_ends_the_items_and_is_returned() {
    for one_by_one in [false, true] {
        let pipeline = Pipeline::new("cut");
        let mut sum = 0;
        let error = dying(&pipeline)
            .consume(|mut items| match one_by_one {
                true => items.by_ref().take(9).for_each(|n| sum += n),
                false => items.for_each(|n| sum += n),
            })
            .unwrap_err();
        assert!(error.is_cancelled());
        assert_eq!(sum, 6);
        assert!(matches!(pipeline.join().outcome, Outcome::Cut(_)));
    }
}

#[test]
fn unrequested_items_are_dropped_with_their_errors() {
    let pipeline = Pipeline::new("find");
    assert_eq!(Stream::from_iter(&pipeline, 0u64..).consume(|mut items| items.find(|n| *n > 5)).unwrap(), Some(6));
    assert_eq!(failing(&pipeline).consume(|items| items.take(3).count()).unwrap(), 3);
    failing(&pipeline).consume(|_| ()).unwrap();
    assert!(pipeline.join().is_complete());
}

#[test]
fn a_panic_in_the_closure_continues_to_the_caller() {
    let pipeline = Pipeline::new("panics");
    let sum = |items: &mut dyn Iterator<Item = u64>| items.inspect(|n| assert!(*n < 3, "no luck")).sum::<u64>();
    let stream = Stream::from_iter(&pipeline, 0..10u64).named("sum");
    let panicked = catch_unwind(AssertUnwindSafe(|| stream.consume(|mut items| sum(&mut items))));
    assert_eq!(*panicked.unwrap_err().downcast::<&str>().unwrap(), "no luck");
    let report = pipeline.join();
    assert_eq!(report.stage("sum").unwrap().received(), 4);
}
