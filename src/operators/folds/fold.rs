//! [`Fold`]: one value made of many items.

/// Makes one value of many items, step by step.
///
/// Any method may panic. What that means for the item or the window is documented where the fold is used.
pub trait Fold<T>: Send + Sync + 'static {
    /// What is kept between two items.
    type State: Send + 'static;
    /// The value that is made.
    type Result: Send + 'static;

    /// The state before the first item.
    fn init(&self) -> Self::State;

    /// Takes an item into account.
    fn fold(&self, state: &mut Self::State, item: &T);

    /// Takes into account all items that `later` was made of: the outcome must be as if they had been folded into
    /// `state` one by one. Windows that overlap or grow together need this; others never call it.
    fn merge(&self, state: &mut Self::State, later: &Self::State);

    /// Makes the result.
    fn finish(&self, state: Self::State) -> Self::Result;
}
