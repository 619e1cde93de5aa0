//! Defines the kinds of [`Join`](crate::Join): which items it emits without a partner, and as which type.
//!
//! Use these names only to write the type of a join, for example for a field.

pub use super::side::Side;

/// Holds what an outer join emits: a pair, or an item that found no partner.
///
/// ```
/// use streamz::Pair;
///
/// let pairs = [
///     Pair::Both("order", "payment"),
///     Pair::Left("unpaid order"),
///     Pair::Right("stray payment"),
/// ];
/// assert_eq!(pairs.map(|pair| pair.left()), [Some("order"), Some("unpaid order"), None]);
/// assert_eq!(pairs.map(|pair| pair.right()), [Some("payment"), None, Some("stray payment")]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[doc(alias("EitherOrBoth", "Joined"))]
pub enum Pair<L, R> {
    /// An item of the left stream and one of the right.
    Both(L, R),
    /// An item of the left stream without a partner.
    Left(L),
    /// An item of the right stream without a partner.
    Right(R),
}

impl<L, R> Pair<L, R> {
    /// Returns the item of the left stream, if there is one.
    pub fn left(self) -> Option<L> {
        match self {
            Self::Both(left, _) | Self::Left(left) => Some(left),
            Self::Right(_) => None,
        }
    }

    /// Returns the item of the right stream, if there is one.
    pub fn right(self) -> Option<R> {
        match self {
            Self::Both(_, right) | Self::Right(right) => Some(right),
            Self::Left(_) => None,
        }
    }

    /// Returns the items of both streams, each if there is one.
    pub fn into_options(self) -> (Option<L>, Option<R>) {
        match self {
            Self::Both(left, right) => (Some(left), Some(right)),
            Self::Left(left) => (Some(left), None),
            Self::Right(right) => (None, Some(right)),
        }
    }
}

/// Selects the kind of a join: [`Inner`], [`Left`] or [`Outer`]. Sealed.
#[allow(private_bounds)] // seals the trait
pub trait JoinKind<L, R>: Emits<L, R, Out = Self::Output> {
    /// What it emits.
    type Output: Send + 'static;
}

/// The items that a [`JoinKind`] emits.
pub(super) trait Emits<L, R>: Send + Sync + 'static {
    type Out: Send + 'static;

    fn both(left: L, right: R) -> Self::Out;

    /// Makes the output for an item of the left stream without a partner. Returns the item if such items are not emitted.
    fn left(left: L) -> Result<Self::Out, L>;

    /// Makes the output for an item of the right stream without a partner. Returns the item if such items are not emitted.
    fn right(right: R) -> Result<Self::Out, R>;
}

/// Emits only pairs, as `(L, R)`.
#[derive(Debug, Clone, Copy)]
pub struct Inner;

/// Emits each item of the left stream, with each of its partners or with none, as `(L, Option<R>)`.
#[derive(Debug, Clone, Copy)]
pub struct Left;

/// Emits each item of both streams, with each of its partners or with none, as a [`Pair`].
#[derive(Debug, Clone, Copy)]
pub struct Outer;

impl<L: Send + 'static, R: Send + 'static> JoinKind<L, R> for Inner {
    type Output = (L, R);
}

impl<L: Send + 'static, R: Send + 'static> Emits<L, R> for Inner {
    type Out = (L, R);

    fn both(left: L, right: R) -> (L, R) {
        (left, right)
    }

    fn left(left: L) -> Result<(L, R), L> {
        Err(left)
    }

    fn right(right: R) -> Result<(L, R), R> {
        Err(right)
    }
}

impl<L: Send + 'static, R: Send + 'static> JoinKind<L, R> for Left {
    type Output = (L, Option<R>);
}

impl<L: Send + 'static, R: Send + 'static> Emits<L, R> for Left {
    type Out = (L, Option<R>);

    fn both(left: L, right: R) -> (L, Option<R>) {
        (left, Some(right))
    }

    fn left(left: L) -> Result<(L, Option<R>), L> {
        Ok((left, None))
    }

    fn right(right: R) -> Result<(L, Option<R>), R> {
        Err(right)
    }
}

impl<L: Send + 'static, R: Send + 'static> JoinKind<L, R> for Outer {
    type Output = Pair<L, R>;
}

impl<L: Send + 'static, R: Send + 'static> Emits<L, R> for Outer {
    type Out = Pair<L, R>;

    fn both(left: L, right: R) -> Pair<L, R> {
        Pair::Both(left, right)
    }

    fn left(left: L) -> Result<Pair<L, R>, L> {
        Ok(Pair::Left(left))
    }

    fn right(right: R) -> Result<Pair<L, R>, R> {
        Ok(Pair::Right(right))
    }
}
