//! Folds made of closures.

use std::marker::PhantomData;

use super::fold::Fold;

/// Folds with two closures, for windows that never merge states.
pub struct FoldWith<A, I, F> {
    init: I,
    fold: F,
    types: PhantomData<fn() -> A>,
}

impl<A, I, F> FoldWith<A, I, F> {
    pub(crate) fn new(init: I, fold: F) -> Self {
        Self { init, fold, types: PhantomData }
    }
}

impl<T, A, I, F> Fold<T> for FoldWith<A, I, F>
where
    A: Send + 'static,
    I: Fn() -> A + Send + Sync + 'static,
    F: Fn(&mut A, &T) + Send + Sync + 'static,
{
    type State = A;
    type Result = A;

    fn init(&self) -> A {
        (self.init)()
    }

    #[inline]
    fn fold(&self, state: &mut A, item: &T) {
        (self.fold)(state, item);
    }

    fn merge(&self, _state: &mut A, _later: &A) {
        unreachable!("a state of its own for each window");
    }

    fn finish(&self, state: A) -> A {
        state
    }
}

/// Folds and merges with closures.
pub struct MergeWith<A, I, F, M> {
    fold: FoldWith<A, I, F>,
    merge: M,
}

impl<A, I, F, M> MergeWith<A, I, F, M> {
    pub(crate) fn new(init: I, fold: F, merge: M) -> Self {
        Self { fold: FoldWith::new(init, fold), merge }
    }
}

impl<T, A, I, F, M> Fold<T> for MergeWith<A, I, F, M>
where
    A: Send + 'static,
    I: Fn() -> A + Send + Sync + 'static,
    F: Fn(&mut A, &T) + Send + Sync + 'static,
    M: Fn(&mut A, &A) + Send + Sync + 'static,
{
    type State = A;
    type Result = A;

    fn init(&self) -> A {
        (self.fold.init)()
    }

    #[inline]
    fn fold(&self, state: &mut A, item: &T) {
        (self.fold.fold)(state, item);
    }

    fn merge(&self, state: &mut A, later: &A) {
        (self.merge)(state, later);
    }

    fn finish(&self, state: A) -> A {
        state
    }
}

impl<A, I, F> std::fmt::Debug for FoldWith<A, I, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FoldWith").finish_non_exhaustive()
    }
}

impl<A, I, F, M> std::fmt::Debug for MergeWith<A, I, F, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MergeWith").finish_non_exhaustive()
    }
}
