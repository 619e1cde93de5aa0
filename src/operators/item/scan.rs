//! [`Scan`]: converts each item with the help of a state.

use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use super::keyed_scan::KeyedScan;
use crate::operators::options::{Options, common_options, opaque_debug, stage};
use crate::operators::shorthand;
use crate::panic::guard_drop;
use crate::stage::operator::sealed::Shape;
use crate::stage::operator::{Emit, Operator};

/// Turns each item into another one with a state that lasts for the run, such as a running sum.
///
/// Each run has its own state, created by `init` when the run starts. The closure is given a mutable reference to the
/// state and the item by value, and returns the item to emit. To emit only now and then, and at the end, use
/// [`Aggregate`](crate::Aggregate). For a state per key, with a bound on the keys and a time to live, use
/// [`with_key`](Self::with_key).
///
/// If the closure panics, the item is lost, and an error item of kind [`Panicked`](crate::ErrorKind::Panicked) takes
/// its place. The state stays as the closure left it: change it last.
///
/// ```
/// use streamz::{Pipeline, Scan, Stream};
///
/// let running_sum = Scan::new(|| 0, |sum, n: i32| {
///     *sum += n;
///     *sum
/// });
/// let pipeline = Pipeline::new("sums");
/// let sums = Stream::from_iter(&pipeline, [1, 2, 3])
///     .through(&running_sum)
///     .collect::<Vec<_>>()?;
/// assert_eq!(sums, [1, 3, 6]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("accumulate", "running_total", "stateful_map"))]
pub struct Scan<In, Out, S, I, F> {
    init: I,
    f: Arc<F>,
    options: Options,
    types: PhantomData<fn(In, S) -> Out>,
}

impl<In, Out, S, I, F> Scan<In, Out, S, I, F>
where
    I: Fn() -> S,
    F: Fn(&mut S, In) -> Out,
{
    /// Emits what `f` returns for the state and each item. Default name: `scan`.
    ///
    /// `init` is called once for each run, in [`process`](crate::Processor::process), on the caller's thread: if it
    /// panics, that call panics.
    pub fn new(init: I, f: F) -> Self {
        Self { init, f: Arc::new(f), options: Options::new("scan"), types: PhantomData }
    }

    common_options!();

    /// Gives each key a state of its own: see [`KeyedScan`].
    ///
    /// `key` is called once for each item, in their order. With many keys, it may be called for up to 16 items before the
    /// first of them is processed, so it must not wait for the outcome of earlier items.
    ///
    /// At most `max_keys` states are kept, and a new key evicts the least recently used one. With `usize::MAX` there is
    /// no bound: memory then grows with the number of keys, unless they [expire](KeyedScan::with_ttl). `init` is called
    /// for each new key, on the stage's thread.
    ///
    /// # Panics
    /// If `max_keys` is 0.
    #[track_caller]
    pub fn with_key<K, G>(self, key: G, max_keys: usize) -> KeyedScan<In, Out, K, S, G, I, F>
    where
        K: Eq + Hash + Send + 'static,
        G: Fn(&In) -> K + Send + Sync + 'static,
    {
        KeyedScan::new(self.init, self.f, self.options, key, max_keys)
    }

    fn operator(&self) -> ScanOperator<In, Out, S, F> {
        ScanOperator { state: (self.init)(), f: Arc::clone(&self.f), types: PhantomData }
    }
}

stage! {
    [In, Out, S, I, F] Scan<In, Out, S, I, F> where {
        In: Send + 'static,
        Out: Send + 'static,
        S: Send + 'static,
        I: Fn() -> S + Send + Sync + 'static,
        F: Fn(&mut S, In) -> Out + Send + Sync + 'static
    }
    In => Out, ScanOperator<In, Out, S, F>
}

/// Runs a [`Scan`] as an [`Operator`].
pub struct ScanOperator<In, Out, S, F> {
    state: S,
    f: Arc<F>,
    types: PhantomData<fn(In) -> Out>,
}

impl<In, Out, S, F> Operator for ScanOperator<In, Out, S, F>
where
    In: Send + 'static,
    Out: Send + 'static,
    S: Send + 'static,
    F: Fn(&mut S, In) -> Out + Send + Sync + 'static,
{
    type In = In;
    type Out = Out;

    const SHAPE: Shape = Shape::ONE_TO_ONE;

    #[inline]
    fn item(&mut self, item: In, out: &mut impl Emit<Out>) {
        out.emit((self.f)(&mut self.state, item));
    }

    fn discard(self) {
        guard_drop(self.state);
        guard_drop(self.f);
    }
}

shorthand! {
    /// Turns each item into another one with a state that `init` makes: a [`Scan`].
    pub fn scan<Out, S, I, F>(self, init: I, f: F) -> Scan<T, Out, S, I, F> => Stream<Out>
    where
        Out: Send + 'static,
        S: Send + 'static,
        I: Fn() -> S + Send + Sync + 'static,
        F: Fn(&mut S, T) -> Out + Send + Sync + 'static,
    {
        Scan::new(init, f)
    }
}

opaque_debug! { [In, Out, S, I, F] Scan<In, Out, S, I, F>: options }
opaque_debug! { [In, Out, S, F] ScanOperator<In, Out, S, F> }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Harness;
    use crate::{ErrorKind, StreamError};

    fn running_sum(sum: &mut i32, n: i32) -> i32 {
        assert!(n >= 0, "negative");
        *sum += n;
        *sum
    }

    #[test]
    fn each_run_has_its_own_state() {
        let scan = Scan::new(|| 100, running_sum);
        let (mut one, mut other) = (Harness::new(&scan), Harness::new(&scan));
        for n in 1..=3 {
            one.item(n);
            other.item(10 * n);
        }
        assert_eq!(one.items(), [101, 103, 106]);
        assert_eq!(other.items(), [110, 130, 160]);
    }

    #[test]
    fn errors_and_panics_leave_the_state_alone() {
        let mut scan = Harness::new(&Scan::new(|| 0, running_sum));
        scan.item(1);
        scan.error(StreamError::new(ErrorKind::Failed, "before"));
        scan.item(-1);
        scan.item(2);
        let outputs = scan.outputs();
        let seen: Vec<_> = outputs.iter().map(|output| output.as_ref().map_err(StreamError::kind)).collect();
        assert_eq!(seen, [Ok(&1), Err(ErrorKind::Failed), Err(ErrorKind::Panicked), Ok(&3)]);
        let step = &scan.steps()[0];
        assert_eq!((step.delivered, step.failed), (2, 1));
    }
}
