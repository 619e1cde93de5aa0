//! [`Stream::spawn_for_each`]: a sink on a thread of the pipeline.

use std::sync::Arc;

use super::Stream;
use super::start::Registered;
use crate::edge::End;
use crate::error::Result;
use crate::panic::{self, Guarded, guard_drop};
use crate::pipeline::CancelToken;
use crate::pipeline::stats::{StageKind, StageStats};
use crate::stage::Pass;
use crate::stage::input::{Feed, Input};
use crate::stage::operator::sealed::Context;
use crate::stage::reader::{Reader, Running};
use crate::stage::thread::StageThread;

impl<T: Send + 'static> Stream<T> {
    /// Like [`for_each`](Self::for_each), on a thread that the pipeline owns, for streams that must be read at the same
    /// time as others.
    ///
    /// If the stream was cut, the last call of `f` receives the error that says why. A panic in `f` cancels the
    /// pipeline. If the thread cannot be started, the pipeline is cancelled, too, and `f` is not called.
    ///
    /// # Panics
    /// If the pipeline has finished.
    #[track_caller]
    pub fn spawn_for_each(self, f: impl FnMut(Result<T>) + Send + 'static) {
        let mut f = Guarded::new(f, guard_drop);
        let (input, Registered { token, stats, reservation }) = self.sink("for_each");
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
                    log::error!("streamz: end `{}` panicked: {}", stats.name, payload.message());
                    token.cancel_because(format!("end `{}` panicked: {}", stats.name, payload.message()));
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
        let name = self.end_name.as_deref().unwrap_or(name);
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
    let context = Context { stats: Arc::clone(stats), clock: token.clock().clone() };
    Running::new(Reader::new(Pass::new(), feed, context, StageThread::new(token.clone(), Arc::clone(stats), 0)))
}
