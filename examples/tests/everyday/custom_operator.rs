//! A user-defined operator with a timer: joins lines that belong together, such as the lines of a stack trace, and lets go of
//! an entry when nothing has been added for a second.

use std::time::{Duration, Instant};

use streamz::prelude::*;
use streamz::testing::Harness;
use streamz::{Custom, Stage};

const QUIET: Duration = Duration::from_secs(1);

#[derive(Default)]
struct JoinLines {
    entry: Option<Entry>,
}

struct Entry {
    text: String,
    lines: u64,
    last: Instant,
}

impl JoinLines {
    fn flush(&mut self, out: &mut impl Emit<String>) {
        if let Some(Entry { text, lines, .. }) = self.entry.take() {
            out.emit_from(text, lines);
        }
    }
}

impl Operator for JoinLines {
    type In = String;
    type Out = String;

    fn item(&mut self, line: String, out: &mut impl Emit<String>) {
        match &mut self.entry {
            Some(entry) if line.starts_with([' ', '\t']) => {
                entry.text.push('\n');
                entry.text.push_str(&line);
                entry.lines += 1;
                entry.last = out.now();
            }
            _ => {
                self.flush(out);
                self.entry = Some(Entry { text: line, lines: 1, last: out.now() });
            }
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        self.entry.as_ref().map(|entry| entry.last + QUIET)
    }

    fn timer(&mut self, _now: Instant, out: &mut impl Emit<String>) {
        self.flush(out);
    }

    fn end(&mut self, out: &mut impl Emit<String>) {
        self.flush(out);
    }

    fn held(&self) -> u64 {
        self.entry.as_ref().map_or(0, |entry| entry.lines)
    }

    fn settles_in_order(&self) -> bool {
        true
    }
}

fn join_lines() -> impl Stage<In = String, Out = String> {
    Custom::new("join_lines", JoinLines::default)
}

#[test]
fn lines_that_are_indented_belong_to_the_one_before() {
    let lines = ["one", "  at a", "  at b", "two", "\tat c"].map(String::from);
    let pipeline = Pipeline::new("traces");
    let entries =
        Stream::from_iter(&pipeline, lines).through(&join_lines()).collect::<Vec<_>>().unwrap();
    assert_eq!(entries, ["one\n  at a\n  at b", "two\n\tat c"]);
}

#[test]
fn an_entry_is_emitted_after_a_second_without_updates() {
    let stage = join_lines();
    let mut run = Harness::new(&stage);
    run.item("one".to_owned());
    run.advance(QUIET / 2);
    run.item("  more".to_owned());
    run.advance(QUIET / 2);
    assert_eq!(run.items(), [""; 0]);
    run.advance(QUIET / 2);
    assert_eq!(run.items(), ["one\n  more"]);
}
