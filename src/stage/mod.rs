//! Stages: an [`Operator`], and the driver that runs it between an input and an edge.
//!
//! Knows edges, pipelines and the clock, but neither streams nor any particular operator.

pub(crate) mod branch;
mod burst;
pub(crate) mod driver;
pub(crate) mod erased;
pub(crate) mod fuse;
pub(crate) mod input;
pub(crate) mod marks;
pub(crate) mod operator;
pub(crate) mod origins;
pub(crate) mod own_loop;
mod pass;
pub(crate) mod reader;
#[cfg(test)]
mod tests;
pub(crate) mod thread;
pub(crate) mod turn;

pub use operator::{Emit, Operator};
pub(crate) use pass::Pass;
pub use reader::Tally;
