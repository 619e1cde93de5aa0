//! Against librdkafka's mock cluster, in this process.

mod common;
mod delivery;
mod suite;
