//! The works, a family in each file.

mod chain;
mod channels;
mod fused;
mod idle;
mod keyed_state;
mod keyed_window;
mod memory;
mod pool;
mod routes;
mod runtime;
mod small;

use crate::work::Work;

/// In the order of the report.
pub(crate) const ALL: &[&Work] = &[
    &chain::HOP,
    &chain::CHAIN5,
    &fused::CHAIN5_FUSED,
    &routes::MERGE,
    &routes::ROUTER,
    &routes::FAN_OUT,
    &pool::compute::TINY_ORDERED,
    &pool::compute::TINY_UNORDERED_2,
    &pool::compute::TINY_UNORDERED_8,
    &pool::compute::LONG_ORDERED,
    &pool::keyed::KEYED,
    &pool::breaker::OPEN,
    &pool::breaker::CALL,
    &pool::waiting::SLEEP,
    &pool::waiting::SKEW,
    &keyed_window::FEW_KEYS,
    &keyed_window::MANY_KEYS,
    &keyed_state::SLIDING,
    &keyed_state::SESSIONS,
    &keyed_state::BATCHES,
    &keyed_state::DEDUPE,
    &small::PIPELINE_100,
    &idle::IDLE_LATENCY,
    &memory::MEMORY,
];

pub(crate) fn find(name: &str) -> Result<&'static Work, String> {
    ALL.iter().copied().find(|work| work.name == name).ok_or_else(|| {
        let known: Vec<_> = ALL.iter().map(|work| work.name).collect();
        format!("no work `{name}`; there are {}", known.join(", "))
    })
}
