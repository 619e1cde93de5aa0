//! Sinks on a thread of the pipeline: [`Stream::spawn`] and [`Stream::spawn_for_each`].

use std::sync::Arc;

use super::Stream;
use super::start::Registered;
use crate::edge::End;
use crate::error::{BoxError, Result};
use crate::panic::{self, Guarded, guard_drop};
use crate::pipeline::stats::{StageKind, StageStats};
use crate::pipeline::{CancelToken, Completion, Task};
use crate::stage::Pass;
use crate::stage::input::{Feed, Input};
use crate::stage::operator::sealed::Context;
use crate::stage::reader::{Reader, Running};
use crate::stage::thread::StageThread;
use crate::trace::event;

impl<T: Send + 'static> Stream<T> {
    /// Runs `end` with the stream on a thread that the pipeline owns, and returns a [`Task`] to wait for the result:
    /// for streams that must be read at the same time.
    ///
    /// `end` may be any sink, with any steps before it, or a closure that reads the stream itself. It returns `()` or a
    /// [`Result`](std::result::Result). An error has the same effect as it would here: a sink cancels the stream's
    /// [token](Self::token) at the first error item, and any other error that `end` returns does the same, as does a
    /// panic. If the thread cannot be started, the token is cancelled, too, and `end` is not called.
    ///
    /// The sink and its thread have the [name](Self::named) of the stream.
    ///
    /// ```
    /// use streamz::{Pipeline, Stream};
    ///
    /// let (result, _report) = Pipeline::run("numbers", |pipeline| {
    ///     let (odd, even) = Stream::from_iter(pipeline, 1..=10).split(|n| n % 2 == 1);
    ///     let odd = odd.spawn(|odd| odd.collect::<Vec<u32>>());
    ///     let even = even.collect::<Vec<_>>()?;
    ///     Ok::<_, streamz::StreamError>((odd.join()?, even))
    /// });
    /// assert_eq!(result?, (vec![1, 3, 5, 7, 9], vec![2, 4, 6, 8, 10]));
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    ///
    /// # Panics
    /// If the pipeline has finished.
    #[doc(alias = "thread")]
    #[track_caller]
    pub fn spawn<R>(self, end: impl FnOnce(Self) -> R + Send + 'static) -> Task<R::Value>
    where
        R: Completion<Value: Send + 'static, Error: Into<BoxError>>,
    {
        let name: Arc<str> = self.next_name().unwrap_or("sink").into();
        let token = self.token.clone();
        let reservation = token.scope().reserve(&name);
        let thread = format!("{name}-0");
        let task = token.start("sink", name, &thread, move || end(self));
        drop(reservation);
        task
    }

    /// Does what [`for_each`](Self::for_each) does, on a thread that the pipeline owns: for a stream that must be read
    /// at the same time as others. For a result, use [`spawn`](Self::spawn).
    ///
    /// If the stream was cut, the last call of `f` receives the error that says why. A panic in `f` cancels the
    /// pipeline. If the thread cannot be started, the pipeline is cancelled, too, and `f` is not called.
    ///
    /// # Panics
    /// If the pipeline has finished.
    #[track_caller]
    pub fn spawn_for_each(self, f: impl FnMut(Result<T>) + Send + 'static) {
        let mut f = Guarded::new(f, guard_drop);
        let (input, Registered { token, stats, reservation, .. }) = self.sink("for_each");
        let scope = Arc::clone(token.scope());
        scope.spawn(&format!("{}-0", stats.name), true, move |started| {
            if let Err(error) = started {
                return token.cancel_because(error);
            }
            let mut reader = on_own_thread(input, &token, &stats);
            loop {
                let (item, over) = match reader.next() {
                    Ok(item) => (item, false),
                    Err(End::Finished) => return,
                    Err(End::Cut(error)) => (Err(error), true),
                };
                if let Err(payload) = reader.timed(item.is_ok(), || panic::catch(|| f(item))) {
                    event!(
                        error,
                        { stage = %stats.name, panic = %payload.message() },
                        "streamz: sink `{}` panicked: {}",
                        stats.name,
                        payload.message()
                    );
                    token.cancel_because(format!("sink `{}` panicked: {}", stats.name, payload.message()));
                }
                if over {
                    return;
                }
            }
        });
        drop(reservation);
    }

    /// Registers a sink that runs on a thread of the pipeline.
    #[track_caller]
    pub(super) fn sink(self, name: &str) -> (Input<T>, Registered) {
        let registered = Registered::with_input(&self.token, &self, name, StageKind::Sink, &[], 1);
        (self.into_input(), registered)
    }
}

/// Reads a stream on a thread of the pipeline.
pub(super) fn on_own_thread<F: Feed>(
    feed: F,
    token: &CancelToken,
    stats: &Arc<StageStats>,
) -> Running<Pass<F::Item>, F> {
    let context = Context::new(stats, token.clock().clone());
    Running::new(Reader::new(Pass::new(), feed, context, StageThread::new(token.clone(), Arc::clone(stats), 0)))
}
