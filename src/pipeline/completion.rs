//! [`Completion`]: the outcome of a closure that runs once.

use std::convert::Infallible;

/// What a closure returns to [`Pipeline::run`](crate::Pipeline::run), [`Stream::spawn`](crate::Stream::spawn) or
/// [`CancelToken::spawn`](crate::CancelToken::spawn): nothing, or a [`Result`].
///
/// The trait is sealed. It is implemented for `()` and for every `Result`.
#[allow(private_bounds)] // what seals it
#[diagnostic::on_unimplemented(
    message = "the closure must return `()` or a `Result`, not `{Self}`",
    note = "wrap the value: `streamz::ok(value)`",
    note = "annotate a closure that never returns with `-> ()`"
)]
pub trait Completion: Settled<Good = <Self as Completion>::Value, Bad = <Self as Completion>::Error> {
    /// The value returned on success.
    type Value;
    /// The error returned on failure; [`Infallible`] for `()`.
    type Error;
}

/// How the library inspects a completion.
pub(crate) trait Settled {
    type Good;
    type Bad;

    fn failure(&self) -> Option<&Self::Bad>;
    fn into_result(self) -> Result<Self::Good, Self::Bad>;
}

impl Completion for () {
    type Value = ();
    type Error = Infallible;
}

impl Settled for () {
    type Good = ();
    type Bad = Infallible;

    fn failure(&self) -> Option<&Infallible> {
        None
    }

    fn into_result(self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl<T, E> Completion for Result<T, E> {
    type Value = T;
    type Error = E;
}

impl<T, E> Settled for Result<T, E> {
    type Good = T;
    type Bad = E;

    fn failure(&self) -> Option<&E> {
        self.as_ref().err()
    }

    fn into_result(self) -> Self {
        self
    }
}
