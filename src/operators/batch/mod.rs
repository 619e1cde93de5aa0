//! Operators that put items together.
//!
//! They share how a batch is limited and gathered ([`open`]), and what to do with an error item: it ends the batches
//! that are open, so that it stays behind the items that came before it, and follows them.

mod batcher;
mod chunk;
mod keyed_batcher;
mod open;

pub use batcher::{BatchConfig, Batcher};
pub use chunk::Chunk;
pub use keyed_batcher::KeyedBatcher;

/// How many batches may wait in an output. The pipeline's default is made for single items: as many batches would be
/// far more than anybody wants to hold.
const CAPACITY: usize = 16;
