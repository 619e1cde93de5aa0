//! Operators with several streams: one into many, many into one.
//!
//! A stage with several ways out is a *distributor* (`distribute.rs`) and a rule; one with several ways in is the usual
//! driver on a *merge* (`merge.rs`).

mod counts;
mod distribute;
mod fan_in;
mod fan_out;
mod hash;
mod merge;
mod partition;
mod router;
mod split;
mod stats;
mod switch;

pub use fan_in::FanIn;
pub use fan_out::FanOut;
pub use partition::{
    ByHash, ByRef, ByRule, ByValue, KeyOf, Partition, PartitionEach, PartitionOutput, PartitionStats, Partitioner,
};
pub use router::{Router, RouterOutput};
pub use split::{Split, SplitOutput, SplitStats};
pub use stats::RouteStats;
pub use switch::Switch;

/// The setters of a stage with several ways out, in an `impl` block of a type with fields `options` and `buffer`.
macro_rules! route_options {
    () => {
        /// Sets the name that the stage has in reports and errors, and that its threads carry.
        ///
        /// # Panics
        /// If `name` contains a NUL byte.
        #[track_caller]
        pub fn with_name(mut self, name: impl Into<std::borrow::Cow<'static, str>>) -> Self {
            self.options.name = $crate::pipeline::name::checked(name);
            self
        }

        /// Sets how many items may wait in each branch for a slow reader. Defaults to the pipeline's
        /// [capacity](crate::PipelineBuilder::capacity); with 0 every item is handed over directly.
        pub fn with_buffer_size(mut self, items: usize) -> Self {
            self.buffer = Some(items);
            self
        }
    };
}

pub(crate) use route_options;
