//! The operators, one a file, in folders by kind.

// The order is that of the methods in the documentation of `Stream`: see `stream/mod.rs`.
mod item;

mod resilience;

mod pool;

mod batch;

mod window;

pub mod folds;

mod flow;

mod route;

mod join;

mod call;
mod custom;
mod epochs;
mod key_table;
mod limit;
mod lru_table;
pub mod ops;
mod options;
mod prefetch;
mod shorthand;
mod steering;

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
