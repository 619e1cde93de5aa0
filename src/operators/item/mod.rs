//! Operators that look at one item at a time.

mod filter;
mod filter_map;
mod flat_map;
mod flatten;
mod lift;
mod map;
mod take;

pub use filter::Filter;
pub use filter_map::FilterMap;
pub use flat_map::FlatMap;
pub use flatten::{Flatten, Unbatcher};
pub use lift::Lift;
pub use map::{FallibleMapper, Mapper};
pub use take::Take;
