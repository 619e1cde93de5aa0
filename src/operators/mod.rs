//! The operators, one a file, in folders by kind.

mod batch;
mod flow;
mod item;
mod pool;
mod resilience;
mod route;
mod state;
mod window;

pub use batch::*;
pub use flow::*;
pub use item::*;
pub use pool::*;
pub use resilience::*;
pub use route::*;
pub use state::*;
pub use window::*;
