//! Who is blamed for a mistake: the caller, not this library.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex};

use streamz::{Pipeline, Processor, ProcessorFn, Sample, Stream};

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

// The hook belongs to the whole process: one test.
#[test]
fn a_mistake_is_blamed_on_the_line_that_makes_it() {
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
