//! [`Content`]: the items of a window, and the value emitted when it closes.

use std::sync::Arc;
use std::time::SystemTime;

use super::time::{Nanos, Tag, to_time};
use crate::folds::{Fold, MergeWith};
use crate::panic::{self, Held, PanicPayload};

/// Holds the items of a window of time.
///
/// `start` belongs to it and `end` does not: `start <= time < end` for the time of each item.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Window<T> {
    /// The start of the window.
    pub start: SystemTime,
    /// The end of the window: when the next one begins, or would begin.
    pub end: SystemTime,
    /// The items, in the order of time; items of the same time in the order in which they arrived.
    pub items: Vec<T>,
}

/// Holds the result of a fold over the items of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AggregateWindow<A> {
    /// The result of the fold.
    pub result: A,
    /// The start of the window.
    pub start: SystemTime,
    /// The end of the window: when the next one begins, or would begin.
    pub end: SystemTime,
    /// The number of items that were folded.
    pub count: u64,
}

/// Selects what a window holds: its [`Items`], or the state of a fold, [`Folded`]. Sealed.
#[allow(private_bounds)] // seals the trait
pub trait Content<T, Tag>: Panes<T, Tag, Made = <Self as Content<T, Tag>>::Window> {
    /// What is emitted when a window is closed.
    type Window: Send + 'static;
}

/// The functions of a [`Content`]. A *pane* holds the items of a window, or of a part of it that several windows share.
pub(super) trait Panes<T, Tag>: Clone + Send + Sync + 'static {
    type Pane: Send + 'static;
    type Made: Send + 'static;

    /// The number of windows that the output holds by default; `None` for the pipeline's capacity.
    const CAPACITY: Option<usize> = None;

    /// A pane with its first item, or the item if user code panicked.
    fn open(&self, tag: Tag, item: T) -> Result<Self::Pane, Box<Unfit<T>>>;

    fn add(&self, pane: &mut Self::Pane, tag: Tag, item: T) -> Result<(), Box<Unfit<T>>>;

    /// May panic.
    fn merge(&self, pane: &mut Self::Pane, later: Self::Pane);

    /// May panic.
    fn window(&self, pane: Self::Pane, start: Nanos, end: Nanos, count: u64) -> Self::Made;

    /// The number of the `count` items of a pane that have not been settled.
    #[inline]
    fn unsettled(&self, _pane: &Self::Pane, count: u64) -> u64 {
        count
    }
}

/// Panes that several windows can share.
pub(super) trait Shared<T, Tag>: Panes<T, Tag> {
    /// May panic.
    fn copy(&self, pane: &Self::Pane) -> Self::Pane;

    /// May panic.
    fn merge_copy(&self, pane: &mut Self::Pane, later: &Self::Pane);
}

/// An item on which user code panicked, and the panic.
pub(super) struct Unfit<T> {
    pub(super) item: T,
    pub(super) payload: PanicPayload,
}

/// Keeps the items of a window, which is emitted as a [`Window`].
#[derive(Debug, Clone, Copy)]
pub struct Items;

/// Items, each with its time; a tag that stores nothing takes no room.
pub(super) struct Tagged<G, T>(Held<Vec<(G, T)>>);

impl<G: Tag, T: Clone> Tagged<G, T> {
    /// May panic.
    pub(super) fn copied(&self) -> Self {
        Self(Held::from(self.0.to_vec()))
    }
}

impl<T: Send + 'static, G: Tag> Content<T, G> for Items {
    type Window = Window<T>;
}

impl<T: Send + 'static, G: Tag> Panes<T, G> for Items {
    type Pane = Tagged<G, T>;
    type Made = Window<T>;

    // The pipeline's capacity is meant for single items. That number of windows would take far too much memory.
    const CAPACITY: Option<usize> = Some(16);

    fn open(&self, tag: G, item: T) -> Result<Self::Pane, Box<Unfit<T>>> {
        Ok(Tagged(Held::from(vec![(tag, item)])))
    }

    #[inline]
    fn add(&self, pane: &mut Self::Pane, tag: G, item: T) -> Result<(), Box<Unfit<T>>> {
        pane.0.push((tag, item));
        Ok(())
    }

    fn merge(&self, pane: &mut Self::Pane, mut later: Self::Pane) {
        pane.0.append(&mut later.0);
    }

    fn window(&self, mut pane: Self::Pane, start: Nanos, end: Nanos, _count: u64) -> Window<T> {
        if G::ORDERS {
            // They are nearly sorted already, which makes this sort fast.
            pane.0.sort_by_key(|(tag, _)| tag.order());
        }
        let items = pane.0.take().into_iter().map(|(_, item)| item).collect();
        Window { start: to_time(start), end: to_time(end), items }
    }
}

impl<T: Clone + Send + 'static, G: Tag> Shared<T, G> for Items {
    fn copy(&self, pane: &Self::Pane) -> Self::Pane {
        pane.copied()
    }

    fn merge_copy(&self, pane: &mut Self::Pane, later: &Self::Pane) {
        pane.0.extend_from_slice(&later.0);
    }
}

/// Keeps the state of a [fold](crate::folds) for a window, which is emitted as an [`AggregateWindow`].
pub struct Folded<F>(Arc<F>);

/// The state of a fold of closures.
pub(super) type FoldedBy<A, I, F, M> = Folded<MergeWith<A, I, F, M>>;

impl<F> Folded<F> {
    pub(crate) fn new(fold: F) -> Self {
        Self(Arc::new(fold))
    }

    /// The state without items. May panic.
    pub(crate) fn empty<T>(&self) -> F::State
    where
        F: Fold<T>,
    {
        self.0.init()
    }
}

impl<F> Clone for Folded<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F> std::fmt::Debug for Folded<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Folded").finish_non_exhaustive()
    }
}

impl<T: Send + 'static, G: Tag, F: Fold<T>> Content<T, G> for Folded<F> {
    type Window = AggregateWindow<F::Result>;
}

impl<T: Send + 'static, G: Tag, F: Fold<T>> Panes<T, G> for Folded<F> {
    type Pane = F::State;
    type Made = AggregateWindow<F::Result>;

    fn open(&self, tag: G, item: T) -> Result<F::State, Box<Unfit<T>>> {
        match panic::catch(|| self.0.init()) {
            Ok(mut state) => match Panes::<T, G>::add(self, &mut state, tag, item) {
                Ok(()) => Ok(state),
                Err(unfit) => {
                    panic::guard_drop(state);
                    Err(unfit)
                }
            },
            Err(payload) => Err(Box::new(Unfit { item, payload })),
        }
    }

    #[inline]
    fn add(&self, state: &mut F::State, _tag: G, item: T) -> Result<(), Box<Unfit<T>>> {
        match panic::catch(|| self.0.fold(state, &item)) {
            Ok(()) => Ok(()),
            Err(payload) => Err(Box::new(Unfit { item, payload })),
        }
    }

    fn merge(&self, state: &mut F::State, later: F::State) {
        self.0.merge(state, &later);
    }

    fn window(&self, state: F::State, start: Nanos, end: Nanos, count: u64) -> AggregateWindow<F::Result> {
        AggregateWindow { result: self.0.finish(state), start: to_time(start), end: to_time(end), count }
    }
}

impl<T: Send + 'static, G: Tag, F: Fold<T>> Shared<T, G> for Folded<F> {
    fn copy(&self, state: &F::State) -> F::State {
        let mut copy = self.0.init();
        self.0.merge(&mut copy, state);
        copy
    }

    fn merge_copy(&self, state: &mut F::State, later: &F::State) {
        self.0.merge(state, later);
    }
}
