//! [`Outbox`]: a store that confirms what it was given.

use super::inbox::{StoreError, guarded};
use super::pauses::Pauses;
use crate::error::{BoxError, Result};
use crate::operators::BatchConfig;
use crate::pipeline::CancelToken;
use crate::stream::Stream;

/// Where records go that must not be lost: a store that has kept what it was given when `write` returns.
///
/// [`Stream::deliver_to`](crate::Stream::deliver_to) writes batches to it. What came from an [`Inbox`](super::Inbox) is
/// acknowledged there only after what was made of it has been written here.
pub trait Outbox {
    /// What it takes.
    type Record;

    /// Writes a batch, in order. When it returns `Ok`, all of it will survive a crash of this process.
    ///
    /// Takes out of `batch` what has been written for good; what is left when it fails is tried again. One that writes all
    /// or nothing clears the batch at the end.
    ///
    /// # Errors
    /// A [transient](StoreError::transient) error is logged, and the call made again after a pause, for as long as the
    /// pipeline runs. A [permanent](StoreError::permanent) one ends the sink with that error.
    fn write(&mut self, batch: &mut Vec<Self::Record>) -> Result<(), StoreError>;
}

impl<O: Outbox + ?Sized> Outbox for &mut O {
    type Record = O::Record;

    fn write(&mut self, batch: &mut Vec<Self::Record>) -> Result<(), StoreError> {
        (**self).write(batch)
    }
}

impl<T: Send + 'static> Stream<T> {
    /// Writes the items to a store, in batches, on the calling thread; returns how many there were. Stops the pipeline at
    /// the first error item, as [`try_for_each`](Self::try_for_each) does.
    ///
    /// Together with [`deliver`](Self::deliver): a record is acknowledged at its source when what was made of it has been
    /// written here. What stands between the write and the acknowledgement, a crash for one, writes it twice: give the store
    /// a key by which it can tell.
    ///
    /// A batch is written when it has `max_size` items, or `max_latency` after its first one. Nothing is taken while one
    /// is being written, so a slow store slows the pipeline down. Memory: one batch.
    ///
    /// When the store fails for a time, the log says so once, and the batch is tried again after growing pauses of 0.1 s to
    /// 5 s, until it is written or the pipeline is cancelled. To go on after records that the store refuses for good, and
    /// after error items, split them off before: with [`try_map`](Self::try_map) and [`dead_letters`](Self::dead_letters).
    ///
    /// # Errors
    /// The first error item, the permanent error of the store, or if the stream was cut, the error that says why.
    ///
    /// # Panics
    /// If `max_size` is 0.
    #[track_caller]
    pub fn deliver_to<O: Outbox<Record = T>>(self, mut outbox: O, batches: BatchConfig) -> Result<u64> {
        let (token, feeder) = (self.token().clone(), self.feeder().clone());
        let mut written = 0;
        self.inline().batch(batches).try_for_each(|batch: Vec<T>| {
            written += batch.len() as u64;
            write(&mut outbox, batch, &token, &feeder)
        })?;
        Ok(written)
    }
}

/// Writes a batch, however long that takes.
fn write<O: Outbox>(
    outbox: &mut O,
    mut batch: Vec<O::Record>,
    token: &CancelToken,
    feeder: &str,
) -> Result<(), BoxError> {
    let mut pauses = Pauses::new();
    loop {
        let before = batch.len();
        let outcome = guarded(|| outbox.write(&mut batch));
        if batch.len() < before {
            pauses.over();
        }
        match outcome {
            Ok(()) if batch.is_empty() => return Ok(()),
            // What it has left out is tried again, but not at once.
            Ok(()) => {}
            Err(error) if error.is_transient() => pauses.warn(feeder, "write what it makes", &error),
            Err(error) => return Err(error.into_reason()),
        }
        let now = token.now();
        token.sleep(pauses.next(now).saturating_duration_since(now))?;
    }
}
