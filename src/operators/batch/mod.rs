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

/// The number of batches of up to `max_size` items that the output holds by default: 16, or as many as have 1,024 items. The
/// pipeline's capacity is meant for single items; that number of large batches would take far too much memory. And with room for
/// only 16 small ones, the stage and its consumer would wait for each other all the time.
fn capacity(max_size: usize) -> usize {
    const BATCHES: usize = 16;
    const ITEMS: usize = 1_024;
    BATCHES.max(ITEMS / max_size)
}
