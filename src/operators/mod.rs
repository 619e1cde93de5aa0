//! The operators, one a file, in folders by kind.

mod batch;
mod flow;
mod item;
mod pool;
mod resilience;

pub use batch::*;
pub use flow::*;
pub use item::*;
pub use pool::*;
pub use resilience::*;
