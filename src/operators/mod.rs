//! The operators, one a file, in folders by kind.

mod batch;
mod call;
mod custom;
mod epochs;
mod flow;
pub mod folds;
mod item;
mod join;
mod key_table;
mod limit;
mod lru_table;
pub mod ops;
mod options;
mod pool;
mod resilience;
mod route;
mod shorthand;
mod steering;
mod window;

pub use batch::*;
pub use call::{Call, CallError, CallFailure, CallLayer, CallStage, Rejection};
pub use custom::Custom;
pub use flow::*;
pub use item::*;
pub use join::*;
pub use pool::*;
pub use resilience::*;
pub use route::*;
pub(crate) use shorthand::shorthand;
pub use window::*;
