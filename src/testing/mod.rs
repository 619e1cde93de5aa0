//! For testing pipelines and operators.

mod harness;

pub use harness::Harness;
