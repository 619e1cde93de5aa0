//! The operators, one a file, in folders by kind.

mod item;
mod pool;
mod resilience;

pub use item::*;
pub use pool::*;
pub use resilience::*;
