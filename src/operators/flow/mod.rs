//! Operators that govern how fast items flow, and where they may wait.

mod buffer;
mod delay;

pub use buffer::Buffer;
pub use delay::Delay;
