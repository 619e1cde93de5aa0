//! `Stream::lines`: how lines are read.

use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use streamz::{CancelToken, ErrorKind, Inline, Line, LineError, LineReader, Outcome, Pipeline, Stream, StreamError};

/// A line without an end, that does something when it is read, and counts how often it was.
struct Endless<F> {
    reads: Arc<AtomicUsize>,
    on_read: F,
}

impl<F: FnMut()> Read for Endless<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        (self.on_read)();
        buffer[..8].fill(b'x');
        Ok(8)
    }
}

fn endless<F: FnMut() + Send>(on_read: F) -> (BufReader<Endless<F>>, Arc<AtomicUsize>) {
    let reads = Arc::default();
    (BufReader::new(Endless { reads: Arc::clone(&reads), on_read }), reads)
}

#[test]
fn an_abort_is_seen_within_a_line() {
    let cancelling = |pipeline: &Pipeline| {
        let token = pipeline.token();
        endless(move || token.cancel())
    };
    type Open = fn(&CancelToken, BufReader<Endless<Box<dyn FnMut() + Send>>>) -> streamz::Result<u64>;
    let ends: &[Open] = &[
        |token, reader| Stream::lines(token, reader).count(),
        |token, reader| Inline::lines(token, reader).count(),
        |token, reader| Inline::lines(token, reader).collect::<Vec<_>>().map(|lines| lines.len() as u64),
        |token, reader| Inline::byte_lines(token, reader).chunk(1).spawn("chunk").count(),
    ];
    for end in ends {
        let pipeline = Pipeline::new("endless");
        let token = pipeline.token();
        let (reader, reads) = endless(Box::new(move || token.cancel()) as Box<dyn FnMut() + Send>);
        assert!(end(&pipeline, reader).unwrap_err().is_cancelled());
        assert!(matches!(pipeline.join().outcome, Outcome::Cancelled(_)));
        assert_eq!(reads.load(Ordering::Relaxed), 1);
    }
    // And while the rest of a line is skipped.
    let pipeline = Pipeline::new("endless");
    let (reader, reads) = cancelling(&pipeline);
    let reader = LineReader::new(reader).with_max_len(3);
    let mut lines = Stream::lines(&pipeline, reader).into_iter();
    assert!(lines.by_ref().last().unwrap().unwrap_err().is_cancelled());
    pipeline.join();
    assert_eq!(reads.load(Ordering::Relaxed), 1);
}

#[test]
fn a_drain_does_not_wait_for_the_rest_of_a_line_that_is_skipped() {
    let pipeline = Pipeline::new("endless");
    let token = pipeline.token();
    let mut reads = 0;
    // The third read makes the line too long.
    let (reader, _) = endless(move || {
        reads += 1;
        if reads == 5 {
            token.drain();
        }
    });
    let mut lines = Stream::lines(&pipeline, LineReader::new(reader).with_max_len(20)).into_iter();
    let error = lines.next().unwrap().unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&LineError::TooLong { number: 1, max_len: 20 }));
    assert!(lines.next().is_none());
    assert!(matches!(pipeline.join().outcome, Outcome::Drained));
}

#[test]
fn a_line_too_long_is_an_error_item_and_reading_continues() {
    let text = "short\n".to_owned() + &"é".repeat(600_000) + "\nlast";
    let pipeline = Pipeline::new("long");
    let mut lines = Stream::lines(&pipeline, io::Cursor::new(text)).into_iter();
    assert_eq!(lines.next().unwrap().unwrap(), "short");
    let error = lines.next().unwrap().unwrap_err();
    assert_eq!((error.kind(), error.stage()), (ErrorKind::Failed, "lines"));
    let reason = error.downcast_ref::<LineError>().unwrap();
    assert_eq!(reason.to_string(), "line 2 is longer than 1048576 bytes");
    assert_eq!(error.take_item::<Vec<u8>>().unwrap().len(), 1 << 20);
    assert_eq!(lines.next().unwrap().unwrap(), "last");
    assert!(lines.next().is_none());
    assert!(pipeline.join().is_complete());
}

#[test]
fn invalid_text_lines_are_errors_and_reading_continues() {
    let pipeline = Pipeline::new("lines");
    let lines = Stream::lines(&pipeline, &b"one\r\ntw\xffo\n\nlast"[..]).into_iter();
    let shown: Vec<_> = lines
        .map(|line| {
            line.map_err(|error| {
                (error.downcast_ref::<LineError>().unwrap().number(), error.take_item::<Vec<u8>>().unwrap())
            })
        })
        .collect();
    assert_eq!(shown, [Ok("one".into()), Err((2, b"tw\xffo".to_vec())), Ok(String::new()), Ok("last".into())]);
    let pipeline = Pipeline::new("bytes");
    let lines = Stream::byte_lines(&pipeline, &b"one\r\ntw\xffo\n\nlast"[..]).collect::<Vec<Line>>().unwrap();
    assert_eq!(lines.iter().map(|line| line.number).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(lines[1].bytes, b"tw\xffo");
}

/// A terminal or a pipe would wait for more.
#[test]
fn a_reader_is_not_read_again_after_its_end() {
    struct Once(Option<&'static [u8]>, bool);
    impl Read for Once {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            assert!(!std::mem::replace(&mut self.1, self.0.is_none()), "read after the end");
            self.0.take().map_or(Ok(0), |mut text| text.read(buffer))
        }
    }
    for text in [&b""[..], b"x", b"x\n", b"\n", b"x\ny"] {
        let reader = || BufReader::new(Once(Some(text).filter(|text| !text.is_empty()), false));
        let expected = text.split_inclusive(|byte| *byte == b'\n').count();
        let pipeline = Pipeline::new("once");
        let lines: Vec<_> = Stream::lines(&pipeline, reader()).into_iter().collect();
        assert_eq!(lines.into_iter().map(Result::unwrap).count(), expected);
        assert_eq!(Inline::lines(&pipeline, reader()).collect::<Vec<_>>().unwrap().len(), expected);
        assert_eq!(Inline::lines(&pipeline, reader()).chunk(1).collect::<Vec<_>>().unwrap().len(), expected);
        assert_eq!(Inline::lines(&pipeline, reader()).spawn("x").count().unwrap(), expected as u64);
        assert!(pipeline.join().is_complete());
    }
}

/// Small iterators are moved out of their source and back, large ones are not.
#[test]
fn an_iterator_of_any_size_is_not_called_again_after_its_end_or_a_panic() {
    fn check<const SIZE: usize>(panics: bool) {
        let calls = Arc::new(AtomicUsize::new(0));
        let once = || {
            let (calls, padding) = (Arc::clone(&calls), [0_u8; SIZE]);
            calls.store(0, Ordering::Relaxed);
            std::iter::from_fn(move || {
                let call = calls.fetch_add(1, Ordering::Relaxed);
                assert!(call == 0 || !panics, "broken");
                (call == 0).then_some(padding.len())
            })
        };
        let check = |outputs: Vec<Result<usize, StreamError>>| {
            let [Ok(first), rest @ ..] = &outputs[..] else { panic!("{outputs:?}") };
            assert_eq!(*first, SIZE);
            assert_eq!(rest.len(), usize::from(panics), "{outputs:?}");
            assert!(rest.iter().all(|output| format!("{:#}", output.as_ref().unwrap_err()).contains("broken")));
            assert_eq!(calls.load(Ordering::Relaxed), 2);
        };
        let pipeline = Pipeline::new("once");
        let inline = || Inline::from_iter(&pipeline, once());
        check(Stream::from_iter(&pipeline, once()).into_iter().collect());
        check(inline().map(|n| n).spawn("map").into_iter().collect());
        check(inline().chunk(1).spawn("chunk").map(|chunk| chunk[0]).into_iter().collect());
        let folded = inline().fold(0, |sum, n| sum + n);
        assert!(if panics { folded.is_err() } else { folded.is_ok_and(|sum| sum == SIZE) });
        assert_eq!(calls.load(Ordering::Relaxed), 2);
        pipeline.join();
        assert_eq!(Arc::strong_count(&calls), 1, "all have been dropped");
    }
    for panics in [false, true] {
        check::<1>(panics);
        check::<1000>(panics);
    }
}
