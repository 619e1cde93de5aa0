//! [`IntoIter`]: a stream as an iterator.

use std::fmt;

use super::Stream;
use super::start::Registered;
use crate::edge::End;
use crate::error::Result;
use crate::pipeline::stats::StageKind;
use crate::stage::Pass;
use crate::stage::input::Input;
use crate::stage::reader::Reader;
use crate::stage::thread::StageThread;

/// Iterates over a stream on the calling thread: yields items and error items, and one last error if the stream was
/// cut. Dropping it drops the stream.
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct IntoIter<T: Send + 'static> {
    /// `None` once the stream has ended.
    reader: Option<Reader<Pass<T>, Input<T>>>,
}

impl<T: Send + 'static> IntoIterator for Stream<T> {
    type Item = Result<T>;
    type IntoIter = IntoIter<T>;

    #[track_caller]
    fn into_iter(self) -> IntoIter<T> {
        let registered = Registered::reader(&self, "iter", StageKind::Consumer, &[]);
        let context = registered.context();
        // Without the hook of `Running`: an iterator may be moved to another thread between two items.
        let thread = StageThread::visiting(registered.token, registered.stats, 0);
        IntoIter { reader: Some(Reader::new(Pass::new(), self.into_input(), context, thread)) }
    }
}

impl<T: Send + 'static> Iterator for IntoIter<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        let reader = self.reader.as_mut()?;
        match reader.next() {
            Ok(item) => {
                // The caller may take any time before its next call: count and announce the room now.
                reader.settle();
                Some(item)
            }
            Err(end) => {
                self.reader = None;
                match end {
                    End::Finished => None,
                    End::Cut(error) => Some(Err(error)),
                }
            }
        }
    }
}

impl<T: Send + 'static> fmt::Debug for IntoIter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntoIter").field("ended", &self.reader.is_none()).finish_non_exhaustive()
    }
}
