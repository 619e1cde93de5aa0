//! [`Latency`]: how long something took, as a distribution.

use std::fmt;
use std::time::Duration;

use super::recording::Snapshot;

/// How long something took in a [`Report`](crate::Report): the time of an item in a stage, or the age of the items that leave
/// it.
///
/// It exists only where it was asked for, with [`PipelineBuilder::latencies`](crate::PipelineBuilder), which needs the
/// feature `latency`.
///
/// Percentiles are exact to 1 %. Durations of more than a year count as a year in them; the mean and the maximum are exact.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Latency {
    /// How many durations it stands for. Not all of them need to have been measured.
    pub count: u64,
    /// The mean.
    #[cfg_attr(feature = "serde", serde(rename = "mean_seconds", serialize_with = "crate::data::seconds::serialize"))]
    pub mean: Duration,
    /// The median: half of the durations are no longer than this.
    #[cfg_attr(feature = "serde", serde(rename = "p50_seconds", serialize_with = "crate::data::seconds::serialize"))]
    pub p50: Duration,
    /// Nine out of ten are no longer than this.
    #[cfg_attr(feature = "serde", serde(rename = "p90_seconds", serialize_with = "crate::data::seconds::serialize"))]
    pub p90: Duration,
    /// 99 out of 100 are no longer than this.
    #[cfg_attr(feature = "serde", serde(rename = "p99_seconds", serialize_with = "crate::data::seconds::serialize"))]
    pub p99: Duration,
    /// The longest that was measured.
    #[cfg_attr(feature = "serde", serde(rename = "max_seconds", serialize_with = "crate::data::seconds::serialize"))]
    pub max: Duration,
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(super) snapshot: Snapshot,
}

impl Latency {
    /// The duration that the given share of all durations does not exceed: `quantile(0.5)` is the median. A share below 0.0
    /// counts as 0.0, and one above 1.0 as 1.0.
    pub fn quantile(&self, share: f64) -> Duration {
        self.snapshot.quantile(share)
    }

    /// What was added since `earlier`, which must be of the same stage and of an earlier report.
    ///
    /// The maximum is exact if it is a new one, else it has the precision of the percentiles. `None` if nothing was added, or
    /// `earlier` is not an earlier state of this.
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        self.snapshot.since(&earlier.snapshot)
    }

    /// Both together.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        self.snapshot.plus(&other.snapshot)
    }
}

impl fmt::Display for Latency {
    /// The percentiles and the maximum: `p50 10.0ms, p90 12.1ms, p99 30.5ms, max 31.0ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {:.1?}, p90 {:.1?}, p99 {:.1?}, max {:.1?}", self.p50, self.p90, self.p99, self.max)
    }
}
