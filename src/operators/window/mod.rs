//! Operators that group items by their time.
//!
//! They share one type ([`windows::Windows`]) and one operator ([`operator`]), made of four parts: which items belong
//! together ([`keys`]), when an item happened ([`time`]), the content of a window ([`content`]), and the position of
//! windows in time ([`operator::Shape`], one in the file of each window; [`correcting`] turns each into one that is
//! emitted again). [`Aggregate`] has its own operator.

pub(super) mod aggregate;
mod content;
mod correcting;
mod due;
mod keys;
pub(super) mod operator;
mod packed;
mod pieces;
mod session;
mod sliding;
pub(super) mod sort_by_time;
#[cfg(test)]
mod tests;
pub(super) mod time;
mod tumbling;
mod watermarks;
pub mod windows;

use std::time::Duration;

pub use aggregate::Aggregate;
pub use content::{AggregateWindow, Window};
pub use correcting::Revised;
pub use keys::Keyed;
pub use session::SessionWindow;
pub use sliding::SlidingWindow;
pub use sort_by_time::{OutOfOrder, SortByTime};
pub use time::{TooFarAhead, TooLate};
pub use tumbling::TumblingWindow;

/// Sets how long windows are and how often they begin.
///
/// ```
/// use std::time::Duration;
/// use streamz::WindowConfig;
///
/// let config = WindowConfig { size: Duration::from_secs(10), ..WindowConfig::default() };
/// assert_eq!((config.slide, config.max_count), (None, None));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowConfig {
    /// The length of a window. Defaults to one minute. Greater than zero and at most 10,000 years.
    pub size: Duration,
    /// The time from the start of a window to the start of the next one. Defaults to `None`, which means the size: then
    /// windows do not overlap. Greater than zero and at most the size.
    pub slide: Option<Duration>,
    /// The greatest number of items in a window. Defaults to `None`, no limit. At least 1.
    pub max_count: Option<usize>,
}

impl Default for WindowConfig {
    fn default() -> Self {
        Self { size: Duration::from_secs(60), slide: None, max_count: None }
    }
}
