//! Operators that govern how fast items flow, and where they may wait.

mod buffer;

pub use buffer::Buffer;
