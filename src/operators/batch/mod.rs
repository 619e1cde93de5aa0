//! Operators that group items.
//!
//! They share how a batch is limited and gathered ([`open`]), and what to do with an error item: it ends the batches
//! that are open, so that it stays behind the items that came before it, and follows them.

pub(super) mod batcher;
mod chunk;
pub(super) mod keyed_batcher;
mod open;

pub use batcher::{BatchConfig, Batcher};
pub use chunk::Chunk;
pub use keyed_batcher::KeyedBatcher;

/// How many batches the output holds by default. The pipeline's capacity is meant for single items; that many batches
/// would take far too much memory.
const CAPACITY: usize = 16;
