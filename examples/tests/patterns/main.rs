//! Each pattern keeps what its page promises: the pipelines of the examples, run on virtual time.
//!
//! A module here includes the example and runs the very functions that the example runs. What is real there, a service or a
//! database, is a closure here.
#![allow(clippy::duplicate_mod, reason = "each example has its own copy of what they share")]

mod go;
mod page;

mod ab_test;
mod analytics;
mod api_gateway;
mod backpressure;
mod content_routing;
mod dead_letters;
mod geo_partitions;
mod group_batches;
mod hash_distribution;
mod load_balancing;
mod microservices;
mod monitoring;
mod multi_stage_routing;
mod parallel_aggregation;
mod payments;
mod quality_control;
mod retry;
mod retry_by_class;
mod sessions;
mod split;
mod switch;
mod tiers;
mod user_events;
