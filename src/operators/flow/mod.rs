//! Operators that govern how fast items flow, and where they may wait.

mod buffer;
mod debounce;
mod delay;
mod dropping_buffer;
mod hook;
mod limit;
mod monitor;
mod sliding_buffer;
mod throttle;
mod timeout;

pub use buffer::Buffer;
pub use debounce::Debounce;
pub use delay::Delay;
pub use dropping_buffer::DroppingBuffer;
pub use monitor::{Monitor, StreamStats};
pub use sliding_buffer::SlidingBuffer;
pub use throttle::Throttle;
pub use timeout::Timeout;
