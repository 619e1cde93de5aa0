//! Against librdkafka's mock cluster, in this process.

mod common;
mod crash;
mod delivery;
mod examples;
mod faults;
mod outbox;
mod own_process;
mod rebalance;
mod suite;
