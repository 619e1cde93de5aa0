//! Operators that group items.
//!
//! They share the limits of a batch and its collection ([`open`]), and the handling of an error item: it ends the open
//! batches and follows them, so that it stays behind the items before it.

pub(super) mod batcher;
mod chunk;
pub(super) mod keyed_batcher;
mod open;

pub use batcher::{BatchConfig, Batcher};
pub use chunk::Chunk;
pub use keyed_batcher::KeyedBatcher;

/// The number of batches that the output holds by default. The pipeline's capacity is meant for single items; that
/// number of batches would take far too much memory.
const CAPACITY: usize = 16;
