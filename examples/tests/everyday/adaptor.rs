//! User-defined adaptors: a function for any stream, and a trait that adds a method to all streams.

use std::fmt::Display;

use streamz::prelude::*;

/// The differences of neighbours: one item less than came in.
fn differences<T>(numbers: Stream<T>) -> Stream<T>
where
    T: Copy + std::ops::Sub<Output = T> + Send + 'static,
{
    numbers
        .named("differences")
        .scan(|| None, |before: &mut Option<T>, n| before.replace(n).map(|before| n - before))
        .filter_map(|difference| difference)
}

trait Labelled<T>: Sized {
    /// Each item as text, with a label and its number in front.
    fn labelled(self, label: &str) -> Stream<String>;
}

impl<T: Display + Send + 'static> Labelled<T> for Stream<T> {
    fn labelled(self, label: &str) -> Stream<String> {
        let label = label.to_owned();
        self.enumerate().map(move |(n, item)| format!("{label} {n}: {item}"))
    }
}

#[test]
fn a_function_over_streams_is_an_adaptor() {
    let pipeline = Pipeline::new("differences");
    let items = differences(Stream::from_iter(&pipeline, [1, 4, 9, 16]))
        .labelled("step")
        .collect::<Vec<_>>()
        .unwrap();
    assert_eq!(items, ["step 0: 3", "step 1: 5", "step 2: 7"]);
    let floats =
        differences(Stream::from_iter(&pipeline, [0.5, 2.0])).collect::<Vec<f64>>().unwrap();
    assert_eq!(floats, [1.5]);
    assert!(pipeline.join().is_complete());
}

/// Errors pass through an adaptor without its doing.
#[test]
fn errors_go_through_an_adaptor() {
    let pipeline = Pipeline::new("errors");
    let numbers = Stream::from_iter(&pipeline, ["1", "x", "5"])
        .try_map(|text: &&str| text.parse::<i32>());
    let results: Vec<_> = differences(numbers).into_iter().map(|result| result.ok()).collect();
    assert_eq!(results, [None, Some(4)]);
}
