//! [`Latency`]: a distribution of durations.

use std::fmt;
use std::time::Duration;

use super::recording::Snapshot;

/// A distribution of durations in a [`Report`](crate::Report): the times of items in a stage, or the ages of the items
/// that leave it.
///
/// Present only if requested with [`PipelineBuilder::latencies`](crate::PipelineBuilder), which needs the feature
/// `latency`.
///
/// Percentiles have a precision of 1 %. Durations of more than a year count as a year in them; the mean and the maximum
/// are exact.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Latency {
    /// The number of durations it represents. Not all of them have necessarily been measured.
    pub count: u64,
    /// The mean.
    #[cfg_attr(feature = "serde", serde(rename = "mean_seconds", serialize_with = "crate::data::seconds::serialize"))]
    pub mean: Duration,
    /// The median: half of the durations are no longer than this.
    #[cfg_attr(feature = "serde", serde(rename = "p50_seconds", serialize_with = "crate::data::seconds::serialize"))]
    pub p50: Duration,
    /// Nine out of ten durations are no longer than this.
    #[cfg_attr(feature = "serde", serde(rename = "p90_seconds", serialize_with = "crate::data::seconds::serialize"))]
    pub p90: Duration,
    /// 99 out of 100 durations are no longer than this.
    #[cfg_attr(feature = "serde", serde(rename = "p99_seconds", serialize_with = "crate::data::seconds::serialize"))]
    pub p99: Duration,
    /// The longest measured duration.
    #[cfg_attr(feature = "serde", serde(rename = "max_seconds", serialize_with = "crate::data::seconds::serialize"))]
    pub max: Duration,
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(super) snapshot: Snapshot,
}

impl Latency {
    /// Returns the duration that the given share of all durations does not exceed: `quantile(0.5)` is the median. A
    /// share below 0.0 counts as 0.0, and one above 1.0 as 1.0.
    pub fn quantile(&self, share: f64) -> Duration {
        self.snapshot.quantile(share)
    }

    /// Returns the distribution of what was added since `earlier`, which must be of the same stage and of an earlier
    /// report.
    ///
    /// The maximum is exact if it is a new one, otherwise it has the precision of the percentiles. Returns `None` if
    /// nothing was added, or if `earlier` is not an earlier state of this distribution.
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        self.snapshot.since(&earlier.snapshot)
    }

    /// The sum of both.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        self.snapshot.plus(&other.snapshot)
    }
}

impl fmt::Display for Latency {
    /// Prints the percentiles and the maximum: `p50 10.0ms, p90 12.1ms, p99 30.5ms, max 31.0ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {:.1?}, p90 {:.1?}, p99 {:.1?}, max {:.1?}", self.p50, self.p90, self.p99, self.max)
    }
}
