//! Methods that do not exist, so that the compiler can suggest what to use instead. Without them it says that a stream
//! is not an iterator, and suggests `into_iter`, whose items are results.

use super::{Chain, Steps, Stream};

/// Never implemented.
#[diagnostic::on_unimplemented(
    message = "a stream has no method of this name; the iterator that `consume` gives you has it",
    label = "write `stream.consume(|items| items.sum::<u64>())?`, with the method in place of `sum`",
    note = "`consume` ends at the first error item and returns that error"
)]
#[allow(unnameable_types, reason = "only the compiler names it")]
pub trait UseConsume {}

/// Never implemented.
#[diagnostic::on_unimplemented(
    message = "a step shares its thread with others, and a pool has threads of its own",
    label = "end the stage before the pool: `stream.stage(\"before\", |steps| ..).async_map(..).stage(\"after\", |steps| ..)`"
)]
#[allow(unnameable_types, reason = "only the compiler names it")]
pub trait EndTheStageBeforeAPool {}

macro_rules! use_consume {
    ($($method:ident<$($generic:ident $(: $bound:path)?),*>($($closure:ident)?)),* $(,)?) => {
        #[doc(hidden)]
        #[allow(missing_docs)]
        impl<T: Send + 'static> Stream<T> {
            $(pub fn $method<$($generic),*>(self $(, _: $closure)?)
            where
                Self: UseConsume,
                $($($generic: $bound,)?)*
            {
            })*
        }
    };
}

use_consume! {
    sum<S>(), product<S>(), min<>(), max<>(), last<>(),
    any<F: FnMut(T) -> bool>(F), all<F: FnMut(T) -> bool>(F), position<F: FnMut(T) -> bool>(F), find<F: FnMut(&T) -> bool>(F),
}

macro_rules! end_the_stage {
    ($($method:ident),*) => {
        #[doc(hidden)]
        #[allow(missing_docs)]
        impl<C: Chain> Steps<C> {
            $(pub fn $method<F, R>(self, _: F) -> R
            where
                Self: EndTheStageBeforeAPool,
            {
                unreachable!("it cannot be called")
            })*
        }
    };
}

end_the_stage!(async_map, par_map);
