//! Operators with several streams: one into many, many into one.
//!
//! A stage with several outputs is a *distributor* (`distribute.rs`) and a rule; one with several inputs is the usual
//! driver on a *merge* (`merge.rs`).

mod broadcast;
mod fan_out;
mod group_by;
mod partition;
mod router;
mod split;
mod switch;

mod chain;
mod fan_in;
mod interleave;
mod merge_sorted;
mod zip;

mod counts;
mod distribute;
mod hash;
mod herald;
mod merge;
mod stats;

pub use broadcast::{Broadcast, Hub, Lagged, NoSubscriber, SlowSubscriber, TooSlow};
pub use fan_in::FanIn;
pub use fan_out::FanOut;
pub use group_by::{GroupBy, GroupByStats, GroupOverflow, TooManyGroups};
pub use interleave::Interleave;
pub use merge_sorted::{MergeSorted, NotSorted};
pub use partition::{
    ByHash, ByRef, ByRule, ByValue, KeyOf, Partition, PartitionEach, PartitionOutput, PartitionStats, Partitioner,
};
pub use router::{Router, RouterOutput};
pub use split::{Split, SplitOutput, SplitStats};
pub use stats::RouteStats;
pub use switch::Switch;
