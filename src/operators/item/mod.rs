//! Operators that look at one item at a time.

mod filter;
mod lift;
mod map;

pub use filter::Filter;
pub use lift::Lift;
pub use map::{FallibleMapper, Mapper};
