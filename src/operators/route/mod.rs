//! Operators with several streams: one into many, many into one.
//!
//! A stage with several outputs is a *distributor* (`distribute.rs`) and a rule; one with several inputs is the usual
//! driver on a *merge* (`merge.rs`).

mod broadcast;
mod chain;
mod counts;
mod distribute;
mod fan_in;
mod fan_out;
mod group_by;
mod hash;
mod herald;
mod interleave;
mod merge;
mod merge_sorted;
mod partition;
mod router;
mod split;
mod stats;
mod switch;
mod zip;

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
