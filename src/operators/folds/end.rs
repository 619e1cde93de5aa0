//! [`Stream::fold_by`]: a fold as the sink of a stream.

use super::fold::Fold;
use crate::error::Result;
use crate::stream::Stream;

impl<T: Send + 'static> Stream<T> {
    /// Folds all items into one value with one of the [`folds`](crate::folds), on the calling thread. Stops the
    /// pipeline at the first error item.
    ///
    /// To get a value from time to time, or one for each period, use an [`Aggregate`](crate::Aggregate) or a window.
    ///
    /// # Errors
    /// The first error item, or if the stream was cut, the error that says why.
    ///
    /// # Panics
    /// If the fold panics, with the same message.
    ///
    /// ```
    /// use streamz::{Pipeline, Stream, folds};
    ///
    /// let pipeline = Pipeline::new("numbers");
    /// let stream = Stream::from_iter(&pipeline, [4, 8, 6, 8]);
    /// let (count, top) = stream.fold_by((folds::count(), folds::top(2, |n: &i32| *n)))?;
    /// assert_eq!((count, top), (4, vec![8, 8]));
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    #[track_caller]
    pub fn fold_by<F: Fold<T>>(self, fold: F) -> Result<F::Result> {
        let state = self.fold(fold.init(), |mut state, item| {
            fold.fold(&mut state, &item);
            state
        })?;
        Ok(fold.finish(state))
    }
}
