//! [`Sample`]: forwards a random share of the items.

use std::marker::PhantomData;

use super::chance::{Chance, Dice};
use crate::operators::options::{Options, common_options, opaque_debug, stage};
use crate::operators::shorthand;
use crate::stage::operator::sealed::Shape;
use crate::stage::operator::{Emit, Operator};

/// Keeps a random share of the items; the others are counted as filtered.
///
/// Each item is decided independently, so the share is met on average, not exactly. Error items are never dropped. To
/// look at a share of the items without taking the others from the stream, use [`Tap::sampled`](crate::Tap::sampled).
///
/// (In other libraries, *sample* often means the latest item at fixed intervals, which this is not.)
///
/// ```
/// use streamz::{Pipeline, Sample, Stream};
///
/// let pipeline = Pipeline::new("events");
/// let share = Stream::from_iter(&pipeline, 0..10_000)
///     .through(&Sample::new(0.1).with_seed(1))
///     .count()?;
/// assert!((900..1_100).contains(&share));
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("random_sampling", "probabilistic"))]
pub struct Sample<T> {
    chance: Chance,
    options: Options,
    types: PhantomData<fn(T)>,
}

impl<T> Sample<T> {
    /// Keeps each item with probability `rate`: 0.0 keeps none, 1.0 all. Default name: `sample`.
    ///
    /// # Panics
    /// If `rate` is not from 0.0 to 1.0.
    #[track_caller]
    pub fn new(rate: f64) -> Self {
        Self { chance: Chance::new(rate), options: Options::new("sample"), types: PhantomData }
    }

    common_options!();

    /// Makes the choice repeatable: with the same seed, every run keeps the items at the same positions of its input.
    /// Defaults to a new seed for each run.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.chance.set_seed(seed);
        self
    }

    fn operator(&self) -> SampleOperator<T> {
        SampleOperator { dice: self.chance.dice(), types: PhantomData }
    }
}

stage! {
    [T] Sample<T> where { T: Send + 'static }
    T => T, SampleOperator<T>
}

/// Runs a [`Sample`] as an [`Operator`].
pub struct SampleOperator<T> {
    dice: Dice,
    types: PhantomData<fn(T)>,
}

impl<T: Send + 'static> Operator for SampleOperator<T> {
    type In = T;
    type Out = T;

    const SHAPE: Shape = Shape::PLAIN;

    #[inline]
    fn item(&mut self, item: T, out: &mut impl Emit<T>) {
        if self.dice.says_yes() {
            out.emit(item);
        } else {
            drop(item);
            out.filtered(1);
        }
    }
}

shorthand! {
    /// Keeps a random share of the items: a [`Sample`].
    ///
    /// # Panics
    /// If `rate` is not from 0.0 to 1.0.
    pub fn sample(self, rate: f64) -> Sample<T> => Stream<T> {
        Sample::new(rate)
    }
}

opaque_debug! { [T] Sample<T>: chance, options }
opaque_debug! { [T] SampleOperator<T>: dice }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Harness;
    use crate::{ErrorKind, StreamError};

    fn passed(sample: &Sample<u32>) -> Vec<u32> {
        let mut sample = Harness::new(sample);
        (0..1_000).for_each(|n| sample.item(n));
        sample.items()
    }

    #[test]
    fn a_seed_makes_every_run_the_same() {
        let sample = Sample::new(0.5).with_seed(42);
        assert_eq!(passed(&sample), passed(&sample));
        assert_ne!(passed(&sample), passed(&Sample::new(0.5).with_seed(43)));
    }

    #[test]
    fn none_and_all_are_exact() {
        assert!(passed(&Sample::new(0.0)).is_empty());
        assert_eq!(passed(&Sample::new(1.0)), (0..1_000).collect::<Vec<_>>());
    }

    #[test]
    fn errors_are_never_dropped_and_the_rest_is_counted() {
        let mut sample = Harness::new(&Sample::new(0.0));
        sample.item(1);
        sample.error(StreamError::new(ErrorKind::Failed, "before"));
        assert_eq!(sample.outputs().len(), 1);
        assert_eq!(sample.steps()[0].filtered, 1);
    }

    #[test]
    #[should_panic(expected = "`rate` must be from 0.0 to 1.0, not NaN")]
    fn a_rate_out_of_range_is_refused() {
        let _ = Sample::<u8>::new(f64::NAN);
    }
}
