//! What the example programs share keeps its own promises: those programs rely on it to tell a broken one.

#[path = "../../common/mod.rs"]
mod common;
#[path = "../../common/interruptible.rs"]
mod interruptible;

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::sync::Arc;

use common::{Asked, Data, Page, asked, bar};
use interruptible::{Stop, interruptible};
use parking_lot::Mutex;

/// What was written, in a place where it can be looked at.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Paper {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Something that cannot be written to.
struct Failing(ErrorKind);

impl Write for Failing {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn success_needs_promises_and_none_of_them_broken() {
    let (kept, broken, empty) = (Paper::default(), Paper::default(), Paper::default());
    let page = Page::new(kept.clone());
    page.check("it balances", true);
    page.clone().check_eq("all came", 3, 3);
    assert!(page.close());
    assert_eq!(kept.text(), "✓ it balances\n✓ all came\n\nall 2 promises kept\n");

    let page = Page::new(broken.clone());
    page.check("it balances", true);
    page.check_eq("all came", 2, 3);
    page.check("in order", false);
    assert!(!page.close());
    let expected = "✓ it balances\n✗ all came: found 2, expected 3\n✗ in order\n\n2 of 3 promises BROKEN\n";
    assert_eq!(broken.text(), expected);

    assert!(!Page::new(empty).close());
}

#[test]
fn a_closed_output_is_not_a_failure_and_a_full_disk_is() {
    for (kind, well) in [(ErrorKind::BrokenPipe, true), (ErrorKind::StorageFull, false)] {
        let page = Page::new(Failing(kind));
        page.say("title");
        page.check("it balances", true);
        assert_eq!(page.close(), well);
    }
}

/// Gives what it is told to, read by read; after that it must not be read.
struct Script(VecDeque<io::Result<&'static [u8]>>);

impl Read for Script {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.0.pop_front().expect("a read after the end")?;
        buffer[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }
}

#[test]
fn an_interruptible_reader_can_be_read_past_its_end() {
    let cases: [&[&'static [u8]]; 5] =
        [&[b""], &[b"x", b""], &[b"x\n", b""], &[b"x\ny", b""], &[b"x", b"y\n", b"z", b""]];
    for pieces in cases {
        let script = Script(pieces.iter().map(|piece| Ok(*piece)).collect());
        let mut reader = BufReader::new(interruptible(script, &Stop::default()).unwrap());
        let mut text = Vec::new();
        while reader.read_until(b'\n', &mut text).unwrap() > 0 {}
        assert_eq!(text, pieces.concat());
        for _ in 0..3 {
            assert_eq!(reader.read(&mut [0; 10]).unwrap(), 0);
            assert!(reader.fill_buf().unwrap().is_empty());
        }
    }
}

#[test]
fn a_failed_or_stopped_interruptible_reader_never_blocks() {
    let stop = Stop::default();
    let script = Script([Ok(&b"x"[..]), Err(ErrorKind::InvalidData.into())].into());
    let mut reader = interruptible(script, &stop).unwrap();
    let mut text = Vec::new();
    assert_eq!(reader.read_to_end(&mut text).unwrap_err().kind(), ErrorKind::InvalidData);
    assert_eq!((&*text, reader.read(&mut [0; 10]).unwrap()), (&b"x"[..], 0));
    stop.set();
    assert!(reader.read(&mut [0; 10]).is_err());
}

#[test]
fn arguments_other_than_help_are_refused() {
    let asked = |args: &[&str]| asked(args.iter().map(Into::into));
    assert_eq!(asked(&[]), Asked::Work);
    assert_eq!(asked(&["-h"]), Asked::Help);
    assert_eq!(asked(&["--help", "--help"]), Asked::Help);
    for (args, unknown) in
        [(&["x"][..], "x"), (&["--help", "--now", "-x"], "--now"), (&[""], "")]
    {
        assert_eq!(asked(args), Asked::Unknown(unknown.into()));
    }
}

#[test]
fn a_broken_promise_counts_even_with_closed_output() {
    let page = Page::new(Failing(ErrorKind::BrokenPipe));
    page.check("it balances", false);
    page.check("in order", true);
    assert!(!page.close());
}

#[test]
fn tables_are_aligned() {
    let paper = Paper::default();
    let page = Page::new(paper.clone());
    page.table(&["route", "items"], [["fast", "7"], ["very slow", "1200"]]);
    page.table(
        &["address", "share", "sent"],
        [["10.0.0.1", "7.5%", "12 kB"], ["10.0.0.12", "10%", "1,200 B"]],
    );
    page.table(&["nothing"], std::iter::empty::<[u8; 1]>());
    let expected = [
        "  route      items",
        "  ---------  -----",
        "  fast           7",
        "  very slow   1200",
        "  address    share     sent",
        "  ---------  -----  -------",
        "  10.0.0.1    7.5%    12 kB",
        "  10.0.0.12    10%  1,200 B",
        "  nothing",
        "  -------",
    ];
    assert_eq!(paper.text().lines().collect::<Vec<_>>(), expected);
}

#[test]
fn bars_show_shares() {
    let bars = [0.0, 0.5, 1.0, 2.0].map(|value| bar(value, 1.0, 3));
    assert_eq!(bars, ["", "█▌", "███", "███"]);
    assert_eq!(bar(1.0, 0.0, 3), "");
}

#[test]
fn data_is_the_same_for_the_same_seed_and_skewed_as_it_says() {
    let values = |seed| {
        let mut data = Data::seeded(seed);
        (0..10_000).map(|_| data.skewed(100)).collect::<Vec<_>>()
    };
    assert_eq!(values(7), values(7));
    assert_ne!(values(7), values(8));
    let first_ten = values(7).into_iter().filter(|&n| n < 10).count();
    assert!((4_500..5_600).contains(&first_ten), "{first_ten}");
    assert!(values(7).into_iter().all(|n| n < 100));
}
