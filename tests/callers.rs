//! Where a panic happened: a mistake is blamed on the caller, and error items tell the line if they are asked to.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex};

use streamz::{Pipeline, Processor, ProcessorFn, Sample, Stream};

/// The hook belongs to the whole process: one test at a time.
static HOOK: Mutex<()> = Mutex::new(());

/// The file and line that the panic of `mistake` names.
fn blamed(mistake: impl FnOnce()) -> (String, u32) {
    let blamed = Arc::new(Mutex::new(None));
    let show = panic::take_hook();
    panic::set_hook(Box::new({
        let blamed = Arc::clone(&blamed);
        move |info| *blamed.lock().unwrap() = info.location().map(|place| (place.file().to_owned(), place.line()))
    }));
    let result = panic::catch_unwind(AssertUnwindSafe(mistake));
    panic::set_hook(show);
    assert!(result.is_err(), "there was no panic");
    blamed.lock().unwrap().take().unwrap()
}

macro_rules! blames_this_line {
    ($mistake:expr) => {
        assert_eq!(blamed(|| drop($mistake)), (file!().to_owned(), line!()));
    };
}

#[test]
fn a_mistake_is_blamed_on_the_line_that_makes_it() {
    let _hook = HOOK.lock().unwrap();
    let (pipeline, other) = (Pipeline::new("here"), Pipeline::new("there"));
    let numbers = || Stream::from_iter(&pipeline, 0..3);
    let same = ProcessorFn::new("same", |_, numbers: Stream<i32>| numbers);

    blames_this_line!(Sample::<i32>::new(2.0));
    blames_this_line!(numbers().chunk(0));
    blames_this_line!(numbers().stage("steps", |steps| steps.chunk(0)));
    blames_this_line!(numbers().stage("steps", |steps| steps.map(|n| n).sample(2.0)));
    blames_this_line!(same.process(&other, numbers()));
    blames_this_line!((&same as &dyn Processor<In = i32, Out = i32>).process(&other, numbers()));
}

#[test]
fn located_panics_tell_file_and_line() {
    let _hook = HOOK.lock().unwrap();
    streamz::locate_panics();
    streamz::locate_panics();

    let reason = |f: fn(u32) -> u32| {
        let error = Stream::from_iter(&Pipeline::new("careful"), [0]).map(f).first().unwrap_err();
        std::error::Error::source(&error).unwrap().to_string()
    };
    let line = line!() + 1;
    let located = reason(|n| 20 / n);
    assert!(located.starts_with(&format!("attempt to divide by zero ({}:{line}:", file!())), "{located}");

    // These pass no hook, and what the closure caught before is no location of theirs.
    assert_eq!(reason(|_| panic::resume_unwind(Box::new("foreign"))), "foreign");
    assert_eq!(
        reason(|_| {
            _ = panic::catch_unwind(|| panic!("caught"));
            panic::resume_unwind(Box::new("foreign"))
        }),
        "foreign"
    );
    // One that is raised again still has its own.
    let line = line!() + 2;
    let raised = reason(|_| {
        let payload = panic::catch_unwind(|| panic!("again")).unwrap_err();
        panic::resume_unwind(payload)
    });
    assert!(raised.starts_with(&format!("again ({}:{line}:", file!())), "{raised}");

    let pipeline = Pipeline::new("careful");
    let line = line!() + 1;
    pipeline.spawn("task", |_| -> () { panic!("no luck") });
    let cause = pipeline.wait().to_string();
    assert!(cause.contains(&format!("task `task` panicked: no luck ({}:{line}:", file!())), "{cause}");
}
