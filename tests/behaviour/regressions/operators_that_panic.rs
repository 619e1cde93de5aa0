//! Operators that panic in any of their calls: nothing is lost, and nothing runs forever.

use std::time::Instant;

use streamz::{Custom, Emit, ErrorKind, Mapper, Operator, Pipeline, Processor, Stage, Stream, StreamError};

/// Keeps all items until the end, and emits one for each call of `resume`. Panics in some of its calls.
struct Keeper {
    kept: Vec<u32>,
    releasing: bool,
    calls: u32,
    panics: Panics,
}

#[derive(Clone, Copy)]
enum Panics {
    /// In every second call of `resume`.
    EverySecond,
    /// In every call of `resume` in which there is something to emit.
    Always,
    /// In `end`.
    End,
}

impl Operator for Keeper {
    type In = u32;
    type Out = u32;

    fn item(&mut self, item: u32, _out: &mut impl Emit<u32>) {
        self.kept.push(item);
    }

    fn end(&mut self, _out: &mut impl Emit<u32>) {
        assert!(!matches!(self.panics, Panics::End), "end");
        self.releasing = true;
    }

    fn resume(&mut self, out: &mut impl Emit<u32>) -> bool {
        if !self.releasing || self.kept.is_empty() {
            return false;
        }
        self.calls += 1;
        assert!(!matches!(self.panics, Panics::Always), "always");
        assert!(self.calls.is_multiple_of(2), "every second");
        out.emit(self.kept.remove(0));
        true
    }

    fn held(&self) -> u64 {
        self.kept.len() as u64
    }
}

type Note<'a> = &'a mut dyn FnMut(streamz::Result<u32>);

/// What comes out of ten items, by itself, with steps around it, and on the thread of the end; and that nothing of a
/// complete stream was abandoned.
fn ten_through<S: Stage<In = u32, Out = u32>>(stage: impl Fn() -> S) -> [(Vec<u32>, Vec<ErrorKind>); 3] {
    let same = || Mapper::new(|n: u32| n);
    let run = |wire: &dyn Fn(Stream<u32>, Note<'_>)| {
        let mut seen = Vec::new();
        let pipeline = Pipeline::new("ten");
        wire(Stream::from_iter(&pipeline, 0..10), &mut |item| seen.push(item));
        let report = pipeline.join();
        assert!(report.is_complete(), "{report}");
        for step in report.stages.iter().flat_map(|stage| &stage.steps) {
            assert_eq!((step.abandoned, step.held()), (0, 0), "{report}");
        }
        let errors = seen.iter().filter_map(|item| item.as_ref().err().map(StreamError::kind)).collect();
        (seen.into_iter().flatten().collect(), errors)
    };
    [
        run(&|stream, note| _ = stream.through(&stage()).for_each(note)),
        run(&|stream, note| _ = stream.through(&same().fuse(stage()).fuse(same())).for_each(note)),
        run(&|stream, note| _ = stream.inline().with(stage()).with(same()).for_each(note)),
    ]
}

fn keeper(panics: Panics) -> impl Fn() -> Custom<Box<dyn Fn() -> Keeper + Send + Sync>> {
    move || {
        let new = move || Keeper { kept: Vec::new(), releasing: false, calls: 0, panics };
        Custom::new("keeper", Box::new(new) as Box<dyn Fn() -> Keeper + Send + Sync>)
    }
}

#[test]
fn a_panic_in_resume_after_the_end_loses_nothing() {
    for (items, errors) in ten_through(keeper(Panics::EverySecond)) {
        assert_eq!(items, (0..10).collect::<Vec<_>>());
        assert_eq!(errors, [ErrorKind::Panicked; 10]);
    }
}

#[test]
fn an_operator_that_panics_endlessly_fails_its_held_items() {
    for (items, errors) in ten_through(keeper(Panics::Always)) {
        assert!(items.is_empty());
        assert_eq!(errors[..16], [ErrorKind::Panicked; 16]);
        assert_eq!(errors[16..], [ErrorKind::Failed]);
    }
}

#[test]
fn items_kept_after_a_panic_at_the_end_have_failed() {
    for (items, errors) in ten_through(keeper(Panics::End)) {
        assert!(items.is_empty());
        assert_eq!(errors, [ErrorKind::Panicked, ErrorKind::Failed]);
    }
}

/// Holds every item until its timer fires, which always panics.
struct Broken {
    due: Option<Instant>,
    held: u64,
    waits: bool,
}

impl Operator for Broken {
    type In = u32;
    type Out = u32;

    fn item(&mut self, _item: u32, out: &mut impl Emit<u32>) {
        self.held += 1;
        self.due = Some(out.now());
    }

    fn timer(&mut self, _now: Instant, _out: &mut impl Emit<u32>) {
        panic!("timer");
    }

    fn next_wake(&self) -> Option<Instant> {
        self.due
    }

    fn is_waiting(&self) -> bool {
        self.waits && self.due.is_some()
    }

    fn held(&self) -> u64 {
        self.held
    }
}

#[test]
fn a_timer_that_panics_without_end_holds_up_nothing() {
    for waits in [false, true] {
        for (items, errors) in ten_through(|| Custom::new("broken", move || Broken { due: None, held: 0, waits })) {
            assert!(items.is_empty());
            let (last, others) = errors.split_last().unwrap();
            assert_eq!(*last, ErrorKind::Failed);
            assert!(others.len() <= 16 + 10 && others.iter().all(|kind| *kind == ErrorKind::Panicked));
        }
    }
}
