//! A source that dies cuts its stream, whatever stands behind it.

use std::io::{self, BufReader, Read};
use std::time::Duration;

use streamz::{
    CancelToken, ErrorKind, Inline, LineReader, Outcome, PanicMessage, Pipeline, ReadErrors, Restart, RestartAttempt,
    Result, Stream, StreamError,
};

/// Gives `0` to `2` and dies.
type Source = (&'static str, fn(&Pipeline) -> Stream<u64>);

/// Reads a stream to its end.
type Behind = (&'static str, fn(Stream<u64>) -> Vec<Result<u64>>);

const REASON: &str = "disk on fire";

/// Gives its text, and then fails.
struct Dying {
    text: &'static [u8],
    dies: fn() -> io::Result<usize>,
}

impl Read for Dying {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.text.is_empty() { (self.dies)() } else { self.text.read(buffer) }
    }
}

fn dying(text: &'static str, dies: fn() -> io::Result<usize>) -> BufReader<Dying> {
    BufReader::new(Dying { text: text.as_bytes(), dies })
}

fn failing() -> BufReader<Dying> {
    dying("0\n1\n2\nand a ha", || Err(io::Error::other(REASON)))
}

fn panicking() -> BufReader<Dying> {
    dying("0\n1\n2\n", || panic!("{REASON}"))
}

fn would_block() -> BufReader<Dying> {
    dying("0\n1\n2\n", || Err(io::Error::new(io::ErrorKind::WouldBlock, REASON)))
}

/// Knows its length: its items may be handed over in chunks.
fn three_of_five() -> impl Iterator<Item = u64> + Send + 'static {
    [0, 1, 2, 3, 4].into_iter().map(|n| if n == 3 { panic!("{REASON}") } else { n })
}

fn three_of_many() -> impl Iterator<Item = u64> + Send + 'static {
    (0..).map_while(|n| if n == 3 { panic!("{REASON}") } else { Some(n) })
}

fn parse(lines: Stream<String>) -> Stream<u64> {
    lines.try_map(|line: &String| line.parse())
}

const SOURCES: &[Source] = &[
    ("an iterator of known length", |p| Stream::from_iter(p, three_of_five())),
    ("an iterator", |p| Stream::from_iter(p, three_of_many())),
    ("an iterator with steps", |p| Inline::from_iter(p, three_of_five()).map(|n| n).spawn("steps")),
    ("an iterator with steps that hold", |p| Inline::from_iter(p, three_of_many()).chunk(1).flatten().spawn("steps")),
    ("a reader that fails", |p| parse(Stream::lines(p, failing()))),
    ("a reader that panics", |p| parse(Stream::lines(p, panicking()))),
    ("a reader that does not block", |p| parse(Stream::lines(p, would_block()))),
    ("a reader of bytes", |p| Stream::byte_lines(p, failing()).map(|line| u64::from(line.bytes[0] - b'0'))),
    ("a sender", |p| {
        let (sender, stream) = Stream::channel(p, 8);
        (0..3).for_each(|n| sender.send(n).unwrap());
        let clone = sender.clone();
        sender.cut(io::Error::other(REASON));
        clone.send(3).unwrap_err();
        stream
    }),
    ("a closure that fails", |p| {
        let mut numbers = 0..3;
        Stream::from_fn(p, move |_| match numbers.next() {
            Some(n) => Ok(Some(n)),
            None => Err(io::Error::other(REASON)),
        })
    }),
    ("a closure that panics", |p| {
        let mut numbers = 0..3;
        Stream::from_fn(p, move |_| streamz::ok(Some(numbers.next().unwrap_or_else(|| panic!("{REASON}")))))
    }),
    ("a source that is restarted in vain", |p| {
        let restart = Restart::resuming(|attempt: &RestartAttempt| match attempt.failures() {
            0 => Ok((0..3).map(Ok).chain([Err(io::Error::other("for now"))])),
            _ => Err(io::Error::other(REASON)),
        });
        Stream::restarting(p, restart.base_delay(Duration::ZERO).max_attempts(2))
    }),
    ("a reader with steps", |p| {
        Inline::lines(p, failing()).try_map(|line: &String| line.parse::<u64>()).spawn("parse")
    }),
];

const BEHIND: &[Behind] = &[
    ("nothing", |s| s.into_iter().collect()),
    ("dead_letters", |s| {
        let (items, failed) = s.dead_letters();
        let failed: Vec<_> = failed.into_iter().collect();
        assert_eq!(failed.len(), 1, "of the stream of failures, its end");
        check_cut(failed[0].as_ref().unwrap_err());
        items.into_iter().collect()
    }),
    ("on_errors", |s| s.on_errors(|_| Some(99)).into_iter().collect()),
    ("fused steps", |s| {
        s.stage("steps", |s| s.map(|n| n).on_errors(|_| Some(99)).filter(|_| true)).into_iter().collect()
    }),
    ("inline steps", |s| {
        let mut seen = Vec::new();
        match s.inline().on_errors(|_| Some(99)).for_each(|item| seen.push(item)) {
            Ok(tally) => panic!("complete: {tally:?}"),
            Err(error) => seen.push(Err(error)),
        }
        seen
    }),
    ("a pool", |s| s.async_map(3, |_: &CancelToken, n: &u64| streamz::ok(*n)).into_iter().collect()),
    ("par_map", |s| s.par_map(|n| n).into_iter().collect()),
    ("merge", |s| {
        let token = s.token().clone();
        let healthy = Stream::from_iter(&token, [7]);
        let mut seen: Vec<_> = s.merge([healthy]).into_iter().collect();
        let count = seen.len();
        seen.retain(|item| !matches!(item, Ok(7)));
        assert_eq!(seen.len() + 1, count, "what else is merged is complete");
        seen
    }),
    ("a split", |s| {
        let (small, large) = s.split(|n| *n < 9);
        let large: Vec<_> = large.into_iter().collect();
        check_cut(large[0].as_ref().unwrap_err());
        small.into_iter().collect()
    }),
    ("into_receiver", |s| {
        let receiver = s.into_receiver(1);
        let mut seen: Vec<_> = receiver.iter().collect();
        seen.push(Err(receiver.cut().expect("cut")));
        seen
    }),
    ("spawn_for_each", |s| {
        let (put, got) = std::sync::mpsc::channel();
        s.spawn_for_each(move |item| put.send(item).unwrap());
        got.iter().collect()
    }),
];

fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The error that cuts a stream says why in its own source.
fn check_cut(error: &StreamError) {
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{}", chain(error));
    let reason = error.downcast_ref::<io::Error>().map(ToString::to_string);
    let reason = reason.or_else(|| error.downcast_ref::<PanicMessage>().map(|it| it.message().to_owned()));
    assert_eq!(reason.as_deref(), Some(REASON), "{}", chain(error));
}

fn check(pipeline: Pipeline, seen: Vec<Result<u64>>) {
    let [items @ .., last] = &seen[..] else { panic!("not even an end") };
    check_cut(last.as_ref().unwrap_err());
    let mut items: Vec<_> = items.iter().map(|item| *item.as_ref().unwrap()).collect();
    items.sort_unstable();
    assert_eq!(items, [0, 1, 2]);
    let report = pipeline.join();
    match &report.outcome {
        Outcome::Cut(error) => check_cut(error),
        other => panic!("{other:?}"),
    }
    assert!(report.stages.iter().all(|stage| stage.steps.iter().all(|step| step.balances())), "{report}");
    assert!(report.stages.iter().all(|stage| stage.steps.iter().all(|step| step.errors_in == 0)), "{report}");
}

#[test]
fn a_dead_source_cuts_whatever_stands_behind_it() {
    for (source, open) in SOURCES {
        for (behind, read) in BEHIND {
            println!("{source} before {behind}");
            let pipeline = Pipeline::new("dying");
            let seen = read(open(&pipeline));
            check(pipeline, seen);
        }
    }
}

#[test]
fn a_dead_source_on_the_callers_thread_is_an_error_of_every_end() {
    type End = fn(&Pipeline) -> Option<StreamError>;
    let ends: &[End] = &[
        |p| Inline::from_iter(p, three_of_five()).collect::<Vec<_>>().err(),
        |p| Inline::from_iter(p, three_of_many()).chunk(2).count().err(),
        |p| Inline::from_iter(p, three_of_five()).fold(0, |a, n| a + n).err(),
        |p| Inline::from_iter(p, three_of_many()).on_errors(|_| Some(9)).for_each(|item| assert!(item.is_ok())).err(),
        |p| Inline::from_iter(p, three_of_many()).skip(3).first().err(),
        |p| Inline::lines(p, failing()).count().err(),
        |p| Inline::byte_lines(p, panicking()).try_for_each(|_| streamz::ok(())).err(),
    ];
    for (number, end) in ends.iter().enumerate() {
        let pipeline = Pipeline::new("dying");
        check_cut(&end(&pipeline).unwrap_or_else(|| panic!("end {number} saw a complete stream")));
        assert!(matches!(pipeline.join().outcome, Outcome::Cut(error) if error.is_cancelled()));
    }
}

#[test]
fn the_time_and_stage_of_a_death_are_known() {
    let clock = streamz::ManualClock::new();
    let pipeline = Pipeline::builder("dying").clock(&clock).build();
    let error = Stream::lines(&pipeline, failing()).count().unwrap_err();
    assert_eq!(error.stage(), "lines");
    assert_eq!(error.time(), pipeline.clock().wall());
}

#[test]
fn read_errors_are_survived_on_request() {
    let pipeline = Pipeline::new("surviving");
    let reader = LineReader::new(failing()).with_read_errors(ReadErrors::Emit);
    let mut lines: Vec<_> = Stream::lines(&pipeline, reader).into_iter().collect();
    let error = lines.pop().unwrap().unwrap_err();
    assert_eq!((error.kind(), error.stage()), (ErrorKind::Failed, "lines"));
    assert_eq!(error.downcast_ref::<io::Error>().unwrap().to_string(), REASON);
    assert_eq!(lines.into_iter().collect::<Result<Vec<_>>>().unwrap(), ["0", "1", "2"]);
    let report = pipeline.join();
    assert!(report.is_complete());
    let step = &report.stage("lines").unwrap().steps[0];
    assert_eq!((step.emitted, step.errors_out), (3, 1));
}

#[test]
fn a_reader_that_panics_cuts_although_its_errors_are_survived() {
    let pipeline = Pipeline::new("dying");
    let reader = LineReader::new(panicking()).with_read_errors(ReadErrors::Emit);
    check_cut(&Stream::lines(&pipeline, reader).count().unwrap_err());
}
