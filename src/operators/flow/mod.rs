//! Operators that control how fast items flow, and where they may wait.

mod buffer;
pub(super) mod debounce;
pub(super) mod delay;
mod dropping_buffer;
mod hook;
mod monitor;
mod sliding_buffer;
pub(super) mod throttle;
pub(super) mod timeout;

pub use buffer::Buffer;
pub use debounce::Debounce;
pub use delay::Delay;
pub use dropping_buffer::DroppingBuffer;
pub use monitor::{Monitor, StreamStats};
pub use sliding_buffer::SlidingBuffer;
pub use throttle::Throttle;
pub use timeout::Timeout;
