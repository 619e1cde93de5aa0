//! Checks that the tests of every fold make.

use super::fold::Fold;

/// Folds the items at once, and in two halves that are merged: both must give the same result.
#[track_caller]
pub(super) fn result<T, F: Fold<T, Result: PartialEq + std::fmt::Debug>>(fold: F, items: &[T]) -> F::Result {
    let state = |items: &[T]| {
        let mut state = fold.init();
        items.iter().for_each(|item| fold.fold(&mut state, item));
        state
    };
    let whole = fold.finish(state(items));
    for at in 0..=items.len() {
        let mut merged = state(&items[..at]);
        fold.merge(&mut merged, &state(&items[at..]));
        let merged = fold.finish(merged);
        assert!(items.is_empty() || merged == whole, "{merged:?} instead of {whole:?}");
    }
    whole
}

/// Folds the items in `pieces` pieces, and merges them in order.
pub(super) fn merged<T, F: Fold<T>>(fold: &F, items: &[T], pieces: usize) -> F::Result {
    let mut whole = fold.init();
    for piece in items.chunks(items.len().div_ceil(pieces).max(1)) {
        let mut state = fold.init();
        piece.iter().for_each(|item| fold.fold(&mut state, item));
        fold.merge(&mut whole, &state);
    }
    fold.finish(whole)
}
