//! Folds many items into one value: in windows, in an [`Aggregate`](crate::Aggregate), or over a whole stream.
//!
//! | fold | result | memory |
//! |---|---|---|
//! | [`count`], [`sum`], [`average`], [`min_max`] | a number, or two | a few bytes |
//! | [`top()`], [`top_by`] | the `k` greatest | `k` values |
//! | [`most_frequent`] | the `k` most frequent keys, with their counts | every key |
//! | [`approx_most_frequent`] | the same, with a bound on the error | a fixed number of keys |
//! | [`count_distinct`] | the number of different keys | every key |
//! | `approx_count_distinct` (feature `sketches`) | an estimate of that number | a fixed number of bytes |
//! | [`percentiles()`] | median, p99 and the like | every value |
//! | `approx_percentiles` (feature `sketches`) | the same, with a bound on the error | a fixed number of bytes |
//! | [`sorted_by`] | all values, in order | every value |
//!
//! A tuple of folds is a fold whose result is the tuple of their results: `(count(), average(..))`. For other folds, use
//! closures, or implement [`Fold`]. [`Stream::fold_by`](crate::Stream::fold_by) uses a fold on a whole stream.
//!
//! The memory is that of one window, for each key if windows have keys. Overlapping windows share theirs in pieces: see
//! [`SlidingWindow`](crate::SlidingWindow).
//!
//! ```
//! use std::time::{Duration, SystemTime};
//! use streamz::{Pipeline, Stream, TumblingWindow, folds};
//!
//! // (second, delay in minutes)
//! let flights = [(3, 10.0), (5, 20.0), (65, 0.0)];
//! let time = |flight: &(u64, f64)| SystemTime::UNIX_EPOCH + Duration::from_secs(flight.0);
//! let by_minute = TumblingWindow::new(Duration::from_secs(60))
//!     .with_event_time(time, Duration::ZERO)
//!     .aggregate_by(folds::average(|flight: &(u64, f64)| flight.1));
//! let pipeline = Pipeline::new("flights");
//! let means = Stream::from_iter(&pipeline, flights).through(&by_minute).collect::<Vec<_>>()?;
//! assert_eq!(means.iter().map(|window| window.result).collect::<Vec<_>>(), [15.0, 0.0]);
//! # Ok::<(), streamz::StreamError>(())
//! ```

#[cfg(feature = "sketches")]
mod approx_distinct;
#[cfg(feature = "sketches")]
mod approx_percentiles;
mod basic;
#[cfg(test)]
mod check;
mod closures;
mod distinct;
mod end;
mod fold;
mod frequent;
mod percentiles;
mod sorted;
mod top;
mod tuple;

#[cfg(feature = "sketches")]
pub use approx_distinct::approx_count_distinct;
#[cfg(feature = "sketches")]
pub use approx_percentiles::approx_percentiles;
pub use basic::{average, count, min_max, sum};
pub use closures::{FoldWith, MergeWith};
pub use distinct::count_distinct;
pub use fold::Fold;
pub use frequent::{Frequency, approx_most_frequent, most_frequent};
pub use percentiles::percentiles;
pub use sorted::sorted_by;
pub use top::{top, top_by};
