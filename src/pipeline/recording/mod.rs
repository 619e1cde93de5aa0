//! Recording of latencies: what the threads of a stage measure, and where it is stored until a report collects it.
//!
//! # Invariants
//!
//! - *Each thread has its own histogram* of times, behind a lock that only a report contends for. It is created with
//!   the first measurement.
//! - *Sampling introduces no bias.* Not all quick items are measured. Whether an item is measured is decided before it
//!   starts, so the decision cannot depend on its duration, and it also counts for those that were skipped before it.
//! - *Under virtual time every item is measured*, so a test sees exact values.
//!
//! Ages are measured with marks (see `mark/mod.rs`): a source occasionally sends a *stamp* behind an item. A stage forwards
//! it when all earlier items have been settled; the time since it was stamped is then the age.
//!
//! `no_recording.rs` has the same names and does nothing; it replaces this folder without the feature `latency`.

mod histograms;
mod latencies;
mod recordings;
mod stamps;
mod stopwatch;

pub(super) use histograms::Snapshot;
pub use latencies::Latencies;
pub(crate) use recordings::Recordings;
pub(crate) use stamps::Stamper;
pub(crate) use stopwatch::Stopwatch;
