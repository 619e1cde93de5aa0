//! The operators, one a file, in folders by kind.

mod item;

pub use item::*;
