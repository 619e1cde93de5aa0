//! Recording of latencies: what the threads of a stage measure, and where they leave it until a report collects it.
//!
//! # What must hold
//!
//! - *Each thread has a histogram of its own* for times, behind a lock that only a report contends for. It is made with the
//!   first measurement.
//! - *Sampling does not distort.* Quick items are not all measured. Whether an item is measured is decided before it is
//!   begun, so the duration cannot depend on it, and it counts for those that were skipped before it.
//! - *Under virtual time every item is measured*, so a test sees exact values.
//!
//! Ages are found with marks (see `mark.rs`): a source sends a *stamp* behind an item now and then. A stage passes it on when
//! everything that came before it has been settled, and that moment less the stamp's is the age.
//!
//! `no_recording.rs` has the same names and does nothing; it takes the place of this folder without the feature `latency`.

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
