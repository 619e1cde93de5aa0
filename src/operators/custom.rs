//! [`Custom`]: a processor from a user-defined operator.

use std::borrow::Cow;
use std::fmt;

use super::options::{Options, common_options, stage};
use crate::pipeline::name::checked;
use crate::stage::operator::Operator;

/// Runs an [`Operator`] of your own as a stage.
///
/// The factory makes a fresh operator for each run, so that runs share no state. See [`Operator`] for an example.
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("stateful_operator"))]
pub struct Custom<F> {
    factory: F,
    options: Options,
}

impl<F, O> Custom<F>
where
    F: Fn() -> O + Send + Sync + 'static,
    O: Operator,
{
    /// Creates a processor named `name` that runs the operators that `factory` makes.
    ///
    /// # Panics
    /// If `name` contains a NUL byte.
    #[track_caller]
    pub fn new(name: impl Into<Cow<'static, str>>, factory: F) -> Self {
        Self { factory, options: Options { name: checked(name), capacity: None } }
    }

    common_options!();

    fn operator(&self) -> O {
        (self.factory)()
    }
}

stage! {
    [F, O] Custom<F> where { F: Fn() -> O + Send + Sync + 'static, O: Operator }
    O::In => O::Out, O
}

impl<F> fmt::Debug for Custom<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Custom").field("options", &self.options).finish_non_exhaustive()
    }
}
