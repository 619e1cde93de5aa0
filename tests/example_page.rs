//! What the example programs share keeps its own promises: those programs rely on it to tell a broken one.

#[path = "../examples/common/mod.rs"]
mod common;

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;

use common::{Data, Page, bar};
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
fn all_is_well_only_if_something_was_promised_and_nothing_broken() {
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
fn a_reader_that_went_is_no_failure_and_a_full_disk_is() {
    for (kind, well) in [(ErrorKind::BrokenPipe, true), (ErrorKind::StorageFull, false)] {
        let page = Page::new(Failing(kind));
        page.say("title");
        page.check("it balances", true);
        assert_eq!(page.close(), well);
    }
}

#[test]
fn a_broken_promise_counts_though_nobody_reads() {
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
    page.table(&["address", "share", "sent"], [["10.0.0.1", "7.5%", "12 kB"], ["10.0.0.12", "10%", "1,200 B"]]);
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
