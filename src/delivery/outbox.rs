//! [`Outbox`]: a store that confirms what it was given.

use std::sync::Arc;
use std::time::Duration;

use super::inbox::{StoreError, guarded};
use super::pauses::Pauses;
use crate::error::{BoxError, ErrorKind, Result};
use crate::operators::{BatchConfig, Batcher};
use crate::pipeline::CancelToken;
use crate::pipeline::stats::StageKind;
use crate::stage::fuse::FusedOperator;
use crate::stage::{Emit, Operator};
use crate::stream::start::{Registered, spawn_driver};
use crate::stream::{Stage, Stream};

/// Writes records that must not be lost to a store, which has saved them when `write` returns.
///
/// [`Stream::deliver_to`](crate::Stream::deliver_to) and [`Stream::deliver_through`](crate::Stream::deliver_through)
/// write batches to it. A record of an [`Inbox`](super::Inbox) is acknowledged there only after everything made from it
/// has been written here.
pub trait Outbox {
    /// What it takes.
    type Record;

    /// Writes a batch, in order. When it returns `Ok`, all of it will survive a crash of this process.
    ///
    /// Removes records from `batch` once they are durable; the records left when it fails are tried again. An
    /// implementation that writes all or nothing clears the batch at the end.
    ///
    /// # Errors
    /// A [transient](StoreError::transient) error is logged, and the call made again after a pause, for as long as the
    /// pipeline runs. A [permanent](StoreError::permanent) one ends the sink with that error, or cancels the pipeline of the
    /// stage.
    ///
    /// A record that the store will never take is reported as [refused](StoreError::refused), one in each call: it is taken
    /// out of the batch, and the call made again at once for the others.
    fn write(&mut self, batch: &mut Vec<Self::Record>) -> Result<(), StoreError>;
}

impl<O: Outbox + ?Sized> Outbox for &mut O {
    type Record = O::Record;

    fn write(&mut self, batch: &mut Vec<Self::Record>) -> Result<(), StoreError> {
        (**self).write(batch)
    }
}

impl<T: Send + 'static> Stream<T> {
    /// Writes the items to a store, in batches, on the calling thread, and returns their number. Stops the pipeline at
    /// the first error item, as [`try_for_each`](Self::try_for_each) does.
    ///
    /// Together with [`deliver`](Self::deliver): a record is acknowledged at its source when everything made from it
    /// has been written here. Anything that interrupts between the write and the acknowledgement, such as a crash,
    /// causes a second write: give the store a key by which it can recognize duplicates.
    ///
    /// A batch is written when it has `max_size` items, or `max_latency` after its first one. Nothing is taken while one
    /// is being written, so a slow store slows the pipeline down. Memory: one batch.
    ///
    /// When the store fails temporarily, this is logged once, and the batch is tried again after growing pauses of 0.1 s to
    /// 5 s, until it is written or the pipeline is cancelled. To continue after error items and after records that the store
    /// refuses, use [`deliver_through`](Self::deliver_through).
    ///
    /// # Errors
    /// The first error item, the permanent error of the store, the reason why it refuses a record, or if the stream was cut,
    /// the error that says why.
    ///
    /// # Panics
    /// If `max_size` is 0.
    #[track_caller]
    pub fn deliver_to<O: Outbox<Record = T>>(self, mut outbox: O, batches: BatchConfig) -> Result<u64> {
        let (token, feeder) = (self.token().clone(), self.feeder().clone());
        let mut written = 0;
        self.inline().batch(batches).try_for_each(|batch: Vec<T>| {
            written += batch.len() as u64;
            write(&mut outbox, batch, &token, &feeder, |_, reason| Err(reason))
        })?;
        Ok(written)
    }

    /// Writes the items to a store, in batches, on a thread of its own, and emits the number of records written in each
    /// batch. Stage name: `write`.
    ///
    /// As [`deliver_to`](Self::deliver_to), but a record that the store [refuses](StoreError::refused) becomes an error
    /// item of kind [`Failed`](ErrorKind::Failed) that carries the record, and error items of the input are forwarded.
    /// So [`dead_letters`](Self::dead_letters) behind it splits off all failures, wherever they happened:
    ///
    /// ```
    /// use streamz::delivery::{Outbox, StoreError};
    /// use streamz::{BatchConfig, Pipeline, Stream};
    ///
    /// /// Takes even numbers only.
    /// struct Even;
    ///
    /// impl Outbox for Even {
    ///     type Record = u32;
    ///
    ///     fn write(&mut self, batch: &mut Vec<u32>) -> Result<(), StoreError> {
    ///         if let Some(index) = batch.iter().position(|n| n % 2 == 1) {
    ///             return Err(StoreError::refused(index, "it is odd"));
    ///         }
    ///         batch.clear();
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let pipeline = Pipeline::new("numbers");
    /// let (written, refused) = Stream::from_iter(&pipeline, 0..10)
    ///     .deliver_through(Even, BatchConfig::default())
    ///     .dead_letters();
    /// refused.spawn_for_each(|letter| eprintln!("refused: {letter:?}"));
    /// assert_eq!(written.fold(0, |sum, count| sum + count)?, 5);
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    ///
    /// # Ordering
    /// An error item of the input follows the batch of the items before it, which is written early for that. The refused
    /// records of a batch come before its count, which is 0 if all were refused.
    ///
    /// # Errors
    /// A permanent error of the store cancels the pipeline, with the error as the reason. The records of that batch are not
    /// acknowledged.
    ///
    /// # Cancellation
    /// Seen between two calls of the store, and in a pause. Records that were not written by then are abandoned.
    ///
    /// # Panics
    /// If `max_size` is 0.
    #[track_caller]
    pub fn deliver_through<O>(self, outbox: O, batches: BatchConfig) -> Stream<u64>
    where
        O: Outbox<Record = T> + Send + 'static,
    {
        let (token, feeder) = (self.token().clone(), self.feeder().clone());
        let writer = Writer { outbox, token: token.clone(), feeder, failed: 0 };
        let both = FusedOperator::new(Batcher::new(batches).start(), writer);
        let steps = ["batch".into(), "write".into()];
        let registered = Registered::with_input(&token, &self, "write", StageKind::Processor, &steps, 1);
        spawn_driver(registered, None, both, self.into_input())
    }
}

/// Writes each batch, and forwards the number of records written.
struct Writer<O> {
    outbox: O,
    token: CancelToken,
    feeder: Arc<str>,
    /// Batches that could not be written. The pipeline has been cancelled.
    failed: u64,
}

impl<O: Outbox<Record: Send + 'static> + Send + 'static> Operator for Writer<O> {
    type In = Vec<O::Record>;
    type Out = u64;

    fn item(&mut self, batch: Vec<O::Record>, out: &mut impl Emit<u64>) {
        let mut written = batch.len() as u64;
        let outcome = write(&mut self.outbox, batch, &self.token, &self.feeder, |record, reason| {
            written -= 1;
            let error = out.error_of(ErrorKind::Failed).with_source(reason).with_item(record);
            out.error(error);
            Ok(())
        });
        match outcome {
            Ok(()) => out.emit(written),
            Err(reason) => {
                self.failed += 1;
                self.token.cancel_because(reason);
            }
        }
    }

    fn held(&self) -> u64 {
        self.failed
    }
}

/// Writes a batch, however long that takes. Records that the store refuses are passed to `refused`, which may end it.
fn write<O: Outbox>(
    outbox: &mut O,
    mut batch: Vec<O::Record>,
    token: &CancelToken,
    feeder: &str,
    mut refused: impl FnMut(O::Record, BoxError) -> Result<(), BoxError>,
) -> Result<(), BoxError> {
    let mut pauses = Pauses::default();
    loop {
        let before = batch.len();
        let outcome = guarded(|| outbox.write(&mut batch));
        if batch.len() < before {
            pauses.over();
        }
        match outcome {
            Ok(()) if batch.is_empty() => return Ok(()),
            // Records left out are retried, but not at once.
            Ok(()) => {}
            Err(error) if error.is_transient() => pauses.warn(feeder, "write what it makes", &error),
            Err(error) => match error.refused_index().filter(|index| *index < batch.len()) {
                Some(index) => {
                    refused(batch.remove(index), error.into_reason())?;
                    pauses.over();
                    if batch.is_empty() {
                        return Ok(());
                    }
                    // A pause of zero length, which notices a cancellation.
                    token.sleep(Duration::ZERO)?;
                    continue;
                }
                None => return Err(error.into_reason()),
            },
        }
        let now = token.now();
        token.sleep(pauses.next(now).saturating_duration_since(now))?;
    }
}
