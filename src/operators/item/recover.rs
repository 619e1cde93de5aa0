//! [`Recover`]: turns error items back into items.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::error::{ErrorKind, PanicMessage, StreamError};
use crate::operators::options::{Options, common_options, opaque_debug, stage};
use crate::operators::shorthand;
use crate::panic;
use crate::stage::operator::sealed::Shape;
use crate::stage::operator::{Emit, Operator};
use crate::trace::event;

/// Turns error items into items where a closure returns one.
///
/// Each error item is shown to a closure. If it returns an item, that item replaces the error; if it returns `None`,
/// the error is forwarded. Items are forwarded unchanged. The error contains the failed item if the failing stage still
/// had it: [`StreamError::take_item`] takes it out, and then the error is forwarded without it.
///
/// An error is of one received item or of none, and was counted where it was made: this stage counts how many error
/// items came in and how many went out, and its recovered items as emitted, not as received.
///
/// If the closure panics, the error is forwarded, and the first panic of each run is logged as a warning.
///
/// A stream that was cut stays cut: its last error is not an item of the stream and is not shown to the closure. That
/// includes the error of a source that failed permanently.
///
/// ```
/// use streamz::{Mapper, Pipeline, Recover, Stream};
///
/// let pipeline = Pipeline::new("numbers");
/// let numbers = Stream::from_iter(&pipeline, ["1", "one", "3"])
///     .through(&Mapper::fallible(|text: &&str| text.parse::<i32>()))
///     .through(&Recover::new(|error| (error.take_item::<&str>()? == "one").then_some(1)))
///     .collect::<Vec<_>>()?;
/// assert_eq!(numbers, [1, 1, 3]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("catch", "on_error_resume", "unwrap_or_else"))]
pub struct Recover<T, F> {
    f: Arc<F>,
    options: Options,
    types: PhantomData<fn() -> T>,
}

impl<T, F: Fn(&StreamError) -> Option<T>> Recover<T, F> {
    /// Replaces an error by the item that `f` returns for it, if any. Default name: `recover`.
    pub fn new(f: F) -> Self {
        Self { f: Arc::new(f), options: Options::new("recover"), types: PhantomData }
    }

    common_options!();

    fn operator(&self) -> RecoverOperator<T, F> {
        RecoverOperator { f: Arc::clone(&self.f), warned: false, types: PhantomData }
    }
}

stage! {
    [T, F] Recover<T, F> where { T: Send + 'static, F: Fn(&StreamError) -> Option<T> + Send + Sync + 'static }
    T => T, RecoverOperator<T, F>
}

/// Runs a [`Recover`] as an [`Operator`].
pub struct RecoverOperator<T, F> {
    f: Arc<F>,
    warned: bool,
    types: PhantomData<fn() -> T>,
}

impl<T, F> Operator for RecoverOperator<T, F>
where
    T: Send + 'static,
    F: Fn(&StreamError) -> Option<T> + Send + Sync + 'static,
{
    type In = T;
    type Out = T;

    const SHAPE: Shape = Shape::PLAIN;

    #[inline]
    fn item(&mut self, item: T, out: &mut impl Emit<T>) {
        out.emit(item);
    }

    fn error(&mut self, error: StreamError, out: &mut impl Emit<T>) {
        match panic::catch(|| (self.f)(&error)) {
            Ok(Some(item)) => match panic::try_drop(error) {
                Ok(()) => {
                    out.absorbed();
                    out.emit_from(item, 0);
                }
                Err(payload) => {
                    // Its drop, too, may panic.
                    panic::guard_drop(item);
                    out.error(out.error_of(ErrorKind::Panicked).with_source(PanicMessage::from(payload)));
                }
            },
            Ok(None) => out.error(error),
            Err(payload) => {
                if !std::mem::replace(&mut self.warned, true) {
                    let (panicked, message) = (out.error_of(ErrorKind::Panicked), PanicMessage::from(payload));
                    event!(
                        warn,
                        { error = %panicked, panic = %message },
                        "streamz: {panicked}: {message}; the error passed, and further panics are not logged"
                    );
                }
                out.error(error);
            }
        }
    }
}

shorthand! {
    /// Turns error items into items where `f` returns one: a [`Recover`].
    #[doc(alias("or_else", "recover", "catch"))]
    pub fn on_errors<F>(self, f: F) -> Recover<T, F> => Stream<T>
    where
        F: Fn(&StreamError) -> Option<T> + Send + Sync + 'static,
    {
        Recover::new(f)
    }
}

opaque_debug! { [T, F] Recover<T, F>: options }
opaque_debug! { [T, F] RecoverOperator<T, F> }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Harness;
    use crate::{Pipeline, Stream};

    fn error(item: i32) -> StreamError {
        StreamError::new(ErrorKind::Failed, "before").with_item(item)
    }

    #[test]
    fn an_error_becomes_an_item_or_is_forwarded_unchanged() {
        let recover = Recover::new(|error| error.with_item_ref(|n: &i32| *n)?.checked_neg().filter(|n| *n < 0));
        let mut recover = Harness::new(&recover);
        let hopeless = error(-2);
        recover.item(1);
        recover.error(error(2));
        recover.error(hopeless.clone());
        recover.item(3);
        let outputs = recover.outputs();
        assert_eq!((outputs[0].as_ref().unwrap(), outputs[1].as_ref().unwrap()), (&1, &-2));
        assert!(outputs[2].as_ref().unwrap_err().ptr_eq(&hopeless));
        assert_eq!(hopeless.take_item::<i32>(), Some(-2));
        let step = &recover.steps()[0];
        assert_eq!((step.received, step.delivered, step.emitted), (2, 2, 3));
        assert_eq!((step.errors_in, step.errors_out), (2, 1));
    }

    #[test]
    fn a_panic_loses_no_error() {
        let mut recover = Harness::new(&Recover::new(|_| -> Option<i32> { panic!("recover") }));
        let failed = error(1);
        recover.error(failed.clone());
        assert!(recover.outputs()[0].as_ref().unwrap_err().ptr_eq(&failed));
        assert!(recover.steps()[0].balances());
    }

    #[test]
    fn a_cut_stream_stays_cut() {
        let pipeline = Pipeline::new("cut");
        let mut numbers = Stream::from_iter(&pipeline, 0_u64..).on_errors(|_| Some(7));
        assert_eq!(numbers.recv().unwrap().unwrap(), 0);
        pipeline.cancel();
        assert!(numbers.into_iter().last().unwrap().unwrap_err().is_cancelled());
    }
}
