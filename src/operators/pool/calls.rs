//! A pool that makes a [`Call`] for each item: the basis of `AsyncMapper`, and of everything that wraps a call.

use super::workers::{self, Outcome, Settings, Site};
use crate::error::{ErrorKind, PanicMessage, Result};
use crate::operators::call::PoolOptions;
use crate::operators::{Call, CallError};
use crate::panic::{self, Held, guard_drop};
use crate::pipeline::CancelToken;
use crate::pipeline::stats::StageKind;
use crate::stream::Stream;
use crate::stream::start::Registered;

/// The number of items that may be in progress or waiting for their turn, unless another is set.
const DEFAULT_WINDOW: usize = 1024;

/// The result of a call, or the item on which it failed and the reason.
pub(super) type Finished<Out, C> = Result<Out, (<C as Call>::In, CallError<<C as Call>::Error>)>;

/// Starts a run that emits the results of the call.
#[track_caller]
pub(in crate::operators) fn process<C: Call>(
    call: C,
    pool: &PoolOptions<C::In>,
    cancel: &CancelToken,
    input: Stream<C::In>,
) -> Stream<C::Out> {
    finish(call, pool, cancel, input, |item, result| match result {
        Ok(out) => {
            // The drop of the item may panic, and then that of the result, too.
            let mut out = Held::from(Some(out));
            drop(item);
            out.take().ok_or_else(|| unreachable!("it was put there"))
        }
        Err(error) => Err((item, error)),
    })
}

/// Starts a run in which `last` makes the results, from the items and the results of the call.
#[track_caller]
pub(super) fn finish<C, Out, F>(
    call: C,
    pool: &PoolOptions<C::In>,
    cancel: &CancelToken,
    input: Stream<C::In>,
    last: F,
) -> Stream<Out>
where
    C: Call,
    Out: Send + 'static,
    F: Fn(C::In, Result<C::Out, CallError<C::Error>>) -> Finished<Out, C> + Send + Sync + 'static,
{
    let workers = pool.workers;
    let window = pool.window.unwrap_or(DEFAULT_WINDOW.max(workers));
    assert!(window >= workers, "`window` ({window}) must not be less than `workers` ({workers})");
    let settings = Settings { workers, ordered: pool.ordered, window, lane_of: pool.lane_of.clone() };
    if let Some(queue_size) = pool.queue_size {
        input.set_capacity(queue_size);
    }
    let name = &pool.options.name;
    let registered = Registered::with_input(cancel, &input, name, StageKind::Processor, &[], workers);
    let work = move |site: &Site<'_>, item: C::In| {
        let (recordings, clock) = (&site.context.stats.recordings, &site.context.clock);
        let begun = recordings.begin(clock);
        // Around everything, so that no drop or conversion of a user's value can end the worker.
        let outcome = panic::catch(|| one(site, &call, &last, item));
        recordings.finish(begun, site.worker, clock);
        outcome.unwrap_or_else(|payload| match site.token.is_cancelled() {
            true => Outcome::Abandoned,
            false => {
                let error = site.context.error(ErrorKind::Panicked, 0);
                Outcome::Failed(error.with_source(PanicMessage::from(payload)))
            }
        })
    };
    workers::start(registered, input, pool.options.capacity, settings, work)
}

/// Makes one call, and interprets its result.
fn one<C, Out, F>(site: &Site<'_>, call: &C, last: &F, item: C::In) -> Outcome<Out>
where
    C: Call,
    F: Fn(C::In, Result<C::Out, CallError<C::Error>>) -> Finished<Out, C>,
{
    let result = call.call(site.token, &item);
    // Cancellation of the stage is not a failure of the item, whatever the result of the call.
    if site.token.is_cancelled() {
        guard_drop(result);
        guard_drop(item);
        return Outcome::Abandoned;
    }
    match last(item, result) {
        Err((item, error)) if C::IS_BREAKER && error.is_circuit_open() && error.attempts == 0 => {
            Outcome::Failed(error.into_stream_error(|kind| site.refusals.details(site.context, kind), item))
        }
        result => {
            if C::IS_BREAKER {
                site.refusals.end_row();
            }
            match result {
                Ok(out) => Outcome::Done(out),
                Err((item, error)) => {
                    Outcome::Failed(error.into_stream_error(|kind| site.context.details(kind, 0), item))
                }
            }
        }
    }
}
