//! The works, a family in each file.

mod chain;
mod fused;
mod idle;
mod memory;
mod pool;
mod runtime;

use crate::work::Work;

/// In the order of the report.
pub(crate) const ALL: &[&Work] = &[
    &chain::HOP,
    &chain::CHAIN5,
    &fused::CHAIN5_FUSED,
    &pool::compute::TINY_ORDERED,
    &pool::compute::TINY_UNORDERED_2,
    &pool::compute::TINY_UNORDERED_8,
    &pool::compute::LONG_ORDERED,
    &pool::waiting::SLEEP,
    &pool::waiting::SKEW,
    &idle::IDLE_LATENCY,
    &memory::MEMORY,
];

pub(crate) fn find(name: &str) -> Result<&'static Work, String> {
    ALL.iter().copied().find(|work| work.name == name).ok_or_else(|| {
        let known: Vec<_> = ALL.iter().map(|work| work.name).collect();
        format!("no work `{name}`; there are {}", known.join(", "))
    })
}
