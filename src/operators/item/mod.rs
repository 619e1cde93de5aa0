//! Operators that look at one item at a time.

mod chance;
mod dedupe;
mod filter;
mod filter_map;
mod flat_map;
mod flatten;
mod lift;
mod map;
mod recover;
mod sample;
mod scan;
mod skip;
mod skip_while;
mod take;
mod take_while;
mod tap;

pub use dedupe::{Dedupe, DedupeStats};
pub use filter::Filter;
pub use filter_map::FilterMap;
pub use flat_map::FlatMap;
pub use flatten::{Flatten, Unbatcher};
pub use lift::Lift;
pub use map::{FallibleMapper, Mapper};
pub use recover::Recover;
pub use sample::Sample;
pub use scan::Scan;
pub use skip::Skip;
pub use skip_while::SkipWhile;
pub use take::Take;
pub use take_while::TakeWhile;
pub use tap::{Tap, TapStats};
