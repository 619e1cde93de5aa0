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

/// The setters for the options, for an output of batches.
macro_rules! batch_options {
    () => {
        /// Sets the name that the stage has in reports and errors, and that its threads carry.
        ///
        /// # Panics
        /// If `name` contains a NUL byte.
        #[track_caller]
        pub fn with_name(mut self, name: impl Into<std::borrow::Cow<'static, str>>) -> Self {
            self.options.name = $crate::pipeline::name::checked(name);
            self
        }

        /// Sets how many batches may wait in the output for a slow consumer. Defaults to 16, whatever the pipeline's
        /// [capacity](crate::PipelineBuilder::capacity): batches are big. With 0 every batch is handed over directly.
        pub fn with_capacity(mut self, batches: usize) -> Self {
            self.options.capacity = Some(batches);
            self
        }
    };
}

use batch_options;
