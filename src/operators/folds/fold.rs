//! [`Fold`]: one value made of many items.

/// Folds many items into one value, step by step.
///
/// Any method may panic. What that means for the item or the window is documented where the fold is used.
pub trait Fold<T>: Send + Sync + 'static {
    /// What is kept between two items.
    type State: Send + 'static;
    /// The value that is made.
    type Result: Send + 'static;

    /// Returns the state before the first item.
    fn init(&self) -> Self::State;

    /// Adds an item to the state.
    fn fold(&self, state: &mut Self::State, item: &T);

    /// Adds all items of a later state: the outcome must be as if they had been folded into `state` one by one. Windows
    /// that overlap or grow together need this; others never call it.
    fn merge(&self, state: &mut Self::State, later: &Self::State);

    /// Turns the state into the result.
    fn finish(&self, state: Self::State) -> Self::Result;
}
