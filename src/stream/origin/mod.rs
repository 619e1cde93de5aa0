//! Sources: where the items of a pipeline come from.
//!
//! A source is a [`Feed`] whose `poll` makes the next item. It is the input of the stage that reads it, on the same
//! thread: of one that only forwards the items, or of one that runs the first steps.
//!
//! # How a source ends
//!
//! By itself, or by a drain: [`End::Finished`]. If the thing it reads from fails permanently, by an error or by a
//! panic, the source has died, and [`Site::died`] reports it: half the input must not pass for all of it, whatever is
//! behind the source. An item that is broken while the source lives is an error item, made by [`Site::error`].

mod iter;

mod directory;
mod file_line;
mod files;
mod follow;
mod foreign;
mod from_fn;
mod interval;
mod line_reader;
mod lines;
mod restart;

use std::sync::Arc;

pub use directory::Directory;
pub use file_line::{FileError, FileLine};
pub use files::Files;
pub use follow::{Follow, FollowEvent, FollowStart, FollowStats};
pub use interval::Interval;
pub(super) use iter::Iter;
pub use line_reader::{Line, LineError, LineReader, ReadErrors};
pub(super) use lines::Lines;
pub use lines::{FromLine, IntoLineReader};
pub use restart::{Restart, RestartAttempt, RestartStats};

use super::start::{Registered, spawn_driver};
use super::{Sender, Stream};
use crate::edge::End;
use crate::error::{BoxError, ErrorKind, StreamError};
use crate::pipeline::{CancelToken, Cause};
use crate::stage::Pass;
use crate::stage::input::Feed;
use crate::stage::operator::sealed::Context;
use crate::stage::thread::noted_cut;

/// What a source knows about itself.
pub(crate) struct Site {
    token: CancelToken,
    context: Context,
    /// Whether it keeps the statistics of its stage; if its reader is another stage, it does.
    keeps_books: bool,
}

impl Site {
    pub(crate) fn new(registered: &Registered, keeps_books: bool) -> Self {
        Self { token: registered.token.clone(), context: registered.context(), keeps_books }
    }

    /// The name of the stage.
    pub(crate) fn name(&self) -> &str {
        &self.context.stats.name
    }

    /// Creates an error item, after which the source continues.
    #[cold]
    pub(crate) fn error(&self, complete: impl FnOnce(StreamError) -> StreamError, kind: ErrorKind) -> StreamError {
        if self.keeps_books {
            self.context.stats.steps[0].errors_out.add(1);
        }
        complete(self.context.error(kind, 0))
    }

    /// The end of a source that died of `reason`: a cut, which is also reported.
    #[cold]
    pub(crate) fn died(&self, reason: impl Into<BoxError>) -> End {
        End::Cut(noted_cut(&self.token, &self.context.stats, reason))
    }

    /// How a source ends whose token for calls has been cancelled: `None` if it is stopped from outside, which its stage
    /// notices. If its own closure has cancelled the token, the source has died of that.
    #[cold]
    fn stopped(&self, calls: &CancelToken) -> Option<End> {
        calls.cancelled_by_a_call(&self.token).map(|cause| self.died(cause))
    }

    pub(crate) fn publish(&self, made: u64) {
        if self.keeps_books {
            self.context.stats.steps[0].emitted.add(made);
        }
    }
}

impl<T: Send + 'static> Stream<T> {
    /// A source with its own thread.
    #[track_caller]
    pub(crate) fn source<F>(cancel: &CancelToken, name: &str, feed: impl FnOnce(Site) -> F) -> Self
    where
        F: Feed<Item = T> + Send + 'static,
    {
        let registered = Registered::source(cancel, name, 1);
        let feed = feed(Site::new(&registered, false));
        spawn_driver(registered, None, Pass::new(), feed)
    }

    /// A source with its own thread that calls a closure of the user, and passes it a token. That token is also
    /// cancelled when the consumer leaves: a closure that waits must not hold up the end. See [`Site::stopped`].
    #[track_caller]
    fn calling_source<F>(cancel: &CancelToken, name: &str, feed: impl FnOnce(Site, CancelToken) -> F) -> Self
    where
        F: Feed<Item = T> + Send + 'static,
    {
        let registered = Registered::source(cancel, name, 1);
        let calls = registered.token.child();
        let feed = feed(Site::new(&registered, false), calls.clone());
        let stream = spawn_driver(registered, None, Pass::new(), feed);
        stream.when_gone(move || calls.cancel_with(Cause::ConsumerGone));
        stream
    }

    /// Creates a stream and the [`Sender`] that feeds it. At most `capacity` items wait in it; with 0, each is handed
    /// over directly to a consumer that waits for it, or has just looked for one.
    ///
    /// # Panics
    /// If `cancel` belongs to no pipeline, or to one that has finished.
    #[track_caller]
    pub fn channel(cancel: &CancelToken, capacity: usize) -> (Sender<T>, Self) {
        let registered = Registered::source(cancel, "channel", 0);
        let (mut sender, stream) = registered.output("", Some(capacity));
        let edge = Arc::clone(sender.shared());
        sender.release();
        (Sender::new(edge, registered.token, registered.stats), stream)
    }
}
