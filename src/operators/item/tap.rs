//! [`Tap`]: inspects the items and leaves the stream unchanged.

use std::marker::PhantomData;
use std::sync::Arc;

use super::chance::{Chance, Dice};
use crate::error::{ErrorKind, PanicMessage, StreamError};
use crate::operators::options::{Options, common_options, opaque_debug, stage};
use crate::operators::shorthand;
use crate::panic::{self, PanicPayload, guard_drop};
use crate::pipeline::stats::Counter;
use crate::stage::operator::sealed::Shape;
use crate::stage::operator::{Emit, Operator};
use crate::trace::event;

type ErrorHook = Arc<dyn Fn(&StreamError) + Send + Sync>;

/// Shows each item to a closure and forwards it: for logs, metrics and debugging.
///
/// The closure runs on the stage's thread, before the item is forwarded: a slow one slows the stream down. It cannot
/// remove anything from the stream, not even by a panic: the item is forwarded nevertheless. Panics are counted in
/// [`stats`](Self::stats), and the first of each run is logged as a warning.
///
/// Error items are shown only to [`on_error`](Self::on_error), and forwarded as well.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use streamz::{Pipeline, Stream, Tap};
///
/// let bytes = Arc::new(AtomicU64::new(0));
/// let meter = Tap::new({
///     let bytes = Arc::clone(&bytes);
///     move |line: &&str| {
///         bytes.fetch_add(line.len() as u64, Ordering::Relaxed);
///     }
/// });
/// let pipeline = Pipeline::new("lines");
/// let lines =
///     Stream::from_iter(&pipeline, ["ab", "cde"]).through(&meter).collect::<Vec<_>>()?;
/// assert_eq!(lines, ["ab", "cde"]);
/// assert_eq!(bytes.load(Ordering::Relaxed), 5);
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("inspect", "peek", "do_on_next", "side_effect"))]
pub struct Tap<T, F> {
    f: Arc<F>,
    on_error: Option<ErrorHook>,
    chance: Option<Chance>,
    stats: TapStats,
    options: Options,
    types: PhantomData<fn(T)>,
}

/// Live statistics of a [`Tap`], across all its runs; made by [`Tap::stats`]. Clones show the same numbers.
#[derive(Debug, Clone, Default)]
pub struct TapStats {
    panics: Arc<Counter>,
}

impl TapStats {
    /// Returns how often one of its closures has panicked.
    pub fn panics(&self) -> u64 {
        self.panics.get()
    }
}

impl<T, F: Fn(&T)> Tap<T, F> {
    /// Shows every item to `f`. Default name: `tap`.
    pub fn new(f: F) -> Self {
        Self {
            f: Arc::new(f),
            on_error: None,
            chance: None,
            stats: TapStats::default(),
            options: Options::new("tap"),
            types: PhantomData,
        }
    }

    /// Shows a random share of the items to `f`, and forwards all of them. Each item is shown with probability `rate`:
    /// 0.0 shows none, 1.0 all.
    ///
    /// # Panics
    /// If `rate` is not from 0.0 to 1.0.
    #[track_caller]
    pub fn sampled(rate: f64, f: F) -> Self {
        Self { chance: Some(Chance::new(rate)), ..Self::new(f) }
    }

    common_options!();

    /// Makes the choice of [`sampled`](Self::sampled) repeatable: with the same seed, every run shows the items at the
    /// same positions of its input. Defaults to a new seed for each run. Has no effect on a tap that shows every item.
    pub fn with_seed(mut self, seed: u64) -> Self {
        if let Some(chance) = &mut self.chance {
            chance.set_seed(seed);
        }
        self
    }

    /// Shows every error item to `f`, even if only a share of the items is shown. Defaults to no closure.
    pub fn on_error(mut self, f: impl Fn(&StreamError) + Send + Sync + 'static) -> Self {
        self.on_error = Some(Arc::new(f));
        self
    }

    /// Returns live statistics, across all runs.
    pub fn stats(&self) -> TapStats {
        self.stats.clone()
    }

    fn operator(&self) -> TapOperator<T, F> {
        TapOperator {
            f: Arc::clone(&self.f),
            on_error: self.on_error.clone(),
            dice: self.chance.as_ref().map(Chance::dice),
            stats: self.stats.clone(),
            warned: false,
            types: PhantomData,
        }
    }
}

stage! {
    [T, F] Tap<T, F> where { T: Send + 'static, F: Fn(&T) + Send + Sync + 'static }
    T => T, TapOperator<T, F>
}

/// Runs a [`Tap`] as an [`Operator`].
pub struct TapOperator<T, F> {
    f: Arc<F>,
    on_error: Option<ErrorHook>,
    dice: Option<Dice>,
    stats: TapStats,
    warned: bool,
    types: PhantomData<fn(T)>,
}

impl<T: Send + 'static, F> TapOperator<T, F> {
    #[cold]
    fn panicked(&mut self, payload: PanicPayload, out: &mut impl Emit<T>) {
        self.stats.panics.add_shared(1);
        if !std::mem::replace(&mut self.warned, true) {
            let (error, message) = (out.error_of(ErrorKind::Panicked), PanicMessage::from(payload));
            event!(
                warn,
                { error = %error, panic = %message },
                "streamz: {error}: {message}; the item passed, and further panics of this run are not logged"
            );
        }
    }
}

impl<T, F> Operator for TapOperator<T, F>
where
    T: Send + 'static,
    F: Fn(&T) + Send + Sync + 'static,
{
    type In = T;
    type Out = T;

    const SHAPE: Shape = Shape::ONE_TO_ONE;

    #[inline]
    fn item(&mut self, item: T, out: &mut impl Emit<T>) {
        if self.dice.as_mut().is_none_or(Dice::says_yes)
            && let Err(payload) = panic::catch(|| (self.f)(&item))
        {
            self.panicked(payload, out);
        }
        out.emit(item);
    }

    fn error(&mut self, error: StreamError, out: &mut impl Emit<T>) {
        if let Some(on_error) = &self.on_error
            && let Err(payload) = panic::catch(|| on_error(&error))
        {
            self.panicked(payload, out);
        }
        out.error(error);
    }

    fn discard(self) {
        guard_drop(self.f);
        guard_drop(self.on_error);
    }
}

shorthand! {
    group {
        /// # Looking at items
    }
    /// Shows each item to `f` and forwards it: a [`Tap`].
    #[doc(alias("inspect", "peek"))]
    pub fn tap<F>(self, f: F) -> Tap<T, F> => Stream<T>
    where
        F: Fn(&T) + Send + Sync + 'static,
    {
        Tap::new(f)
    }
}

shorthand! {
    /// Shows each error item to `f` and forwards it: a [`Tap`] for errors.
    #[doc(alias("tap_err", "on_error"))]
    pub fn inspect_err<F>(self, f: F) -> Tap<T, fn(&T)> => Stream<T>
    where
        F: Fn(&StreamError) + Send + Sync + 'static,
    {
        Tap::new((|_| {}) as fn(&T)).on_error(f)
    }
}

opaque_debug! { [T, F] Tap<T, F>: chance, stats, options }
opaque_debug! { [T, F] TapOperator<T, F>: dice, stats }

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::testing::Harness;

    /// A list of notes, and a closure that adds to it.
    fn notes<T: Clone + Send + 'static>() -> (Arc<Mutex<Vec<T>>>, impl Fn(&T) + Send + Sync + 'static) {
        let notes = Arc::new(Mutex::new(Vec::new()));
        let book = Arc::clone(&notes);
        (notes, move |item: &T| book.lock().push(item.clone()))
    }

    #[test]
    fn sees_every_item_and_passes_it() {
        let (seen, note) = notes();
        let mut tap = Harness::new(&Tap::new(note));
        (0..3).for_each(|n| tap.item(n));
        assert_eq!(*seen.lock(), [0, 1, 2]);
        assert_eq!(tap.items(), [0, 1, 2]);
    }

    #[test]
    fn errors_are_shown_to_their_own_closure_and_pass() {
        let (seen, note) = notes();
        let (errors, note_error) = notes();
        let mut tap = Harness::new(&Tap::new(note).on_error(note_error));
        let error = StreamError::new(ErrorKind::Failed, "before");
        tap.item(1);
        tap.error(error.clone());
        assert_eq!((seen.lock().len(), errors.lock().len()), (1, 1));
        assert!(errors.lock()[0].ptr_eq(&error));
        assert!(tap.outputs()[1].as_ref().unwrap_err().ptr_eq(&error));
    }

    #[test]
    fn no_panic_can_lose_an_item_or_an_error() {
        let tap = Tap::new(|_: &i32| panic!("item")).on_error(|_| panic!("error"));
        let stats = tap.stats();
        let mut run = Harness::new(&tap);
        run.item(1);
        run.error(StreamError::new(ErrorKind::Failed, "before").with_item(2));
        run.item(3);
        let outputs = run.outputs();
        assert_eq!((outputs[0].as_ref().unwrap(), outputs[2].as_ref().unwrap()), (&1, &3));
        assert_eq!(outputs[1].as_ref().unwrap_err().take_item::<i32>(), Some(2));
        assert_eq!(stats.panics(), 3);
        let step = &run.steps()[0];
        assert_eq!((step.delivered, step.failed, step.errors_out), (2, 0, 1));
    }

    #[test]
    fn a_sampled_tap_sees_a_repeatable_share_and_passes_everything() {
        let (seen, note) = notes();
        let tap = Tap::sampled(0.3, note).with_seed(5);
        for _ in 0..2 {
            let mut run = Harness::new(&tap);
            (0..1_000).for_each(|n| run.item(n));
            assert_eq!(run.items(), (0..1_000).collect::<Vec<_>>());
        }
        let seen = seen.lock();
        let (first, second) = seen.split_at(seen.len() / 2);
        assert_eq!(first, second);
        assert!((250..350).contains(&first.len()));
    }

    #[test]
    #[should_panic(expected = "`rate` must be from 0.0 to 1.0, not 1.5")]
    fn a_rate_out_of_range_is_refused() {
        let _ = Tap::sampled(1.5, |_: &u8| {});
    }
}
