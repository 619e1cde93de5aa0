//! [`with_init`]: a state for each worker.

use std::thread;

use parking_lot::Mutex;

use crate::error::Result;
use crate::panic::{discard, guard_drop};
use crate::pipeline::CancelToken;

/// Gives each worker of a pool its own state, such as a connection, a buffer or a random number generator.
///
/// It makes a closure for [`AsyncMapper`](crate::AsyncMapper), [`async_map`](crate::Stream::async_map) and everything
/// else that takes such a closure of a token and an item. Each call has a state to itself while it runs. Before a call
/// for which none is free, `init` creates one. So there are never more states than calls in progress at a time.
///
/// ```
/// use streamz::{CancelToken, Pipeline, Stream, with_init};
///
/// # struct Connection;
/// # impl Connection {
/// #     fn open() -> std::io::Result<Self> { Ok(Self) }
/// #     fn fetch(&mut self, id: u32) -> std::io::Result<u32> { Ok(id * 2) }
/// # }
/// let fetch = with_init(
///     || None,
///     |connection: &mut Option<Connection>, _: &CancelToken, id: &u32| {
///         // Opened by the first call, and after a failure by the next one.
///         let mut open = connection.take().map_or_else(Connection::open, Ok)?;
///         let fetched = open.fetch(*id)?;
///         *connection = Some(open);
///         std::io::Result::Ok(fetched)
///     },
/// );
/// let pipeline = Pipeline::new("fetch");
/// let fetched = Stream::from_iter(&pipeline, 1..=3).async_map(2, fetch).collect::<Vec<_>>()?;
/// assert_eq!(fetched, [2, 4, 6]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
///
/// Calls take the most recently used state, so under a light load only a few are used.
///
/// # Panics
/// A panic in `init` or `f` fails the item, as it does in any call. The state of a call that panicked is dropped.
///
/// # Memory
/// The states are kept between calls, and between runs of the same mapper. They are dropped with the closure: when the
/// mapper and all its runs are.
pub fn with_init<S, In, Out, E>(
    init: impl Fn() -> S + Send + Sync + 'static,
    f: impl Fn(&mut S, &CancelToken, &In) -> Result<Out, E> + Send + Sync + 'static,
) -> impl Fn(&CancelToken, &In) -> Result<Out, E> + Send + Sync + 'static
where
    S: Send + 'static,
{
    let states = States(Mutex::default());
    move |cancel, item| {
        // The lock is not held while `init` runs.
        let free = states.0.lock().pop();
        let mut lent = Lent { states: &states, state: Some(free.unwrap_or_else(&init)) };
        match &mut lent.state {
            Some(state) => f(state, cancel, item),
            None => unreachable!("it is taken out when `lent` is dropped"),
        }
    }
}

/// The states that no call uses.
struct States<S>(Mutex<Vec<S>>);

impl<S> Drop for States<S> {
    fn drop(&mut self) {
        discard(self.0.get_mut().drain(..));
    }
}

/// The state of one call.
struct Lent<'a, S> {
    states: &'a States<S>,
    state: Option<S>,
}

impl<S> Drop for Lent<'_, S> {
    fn drop(&mut self) {
        let Some(state) = self.state.take() else { return };
        if thread::panicking() {
            guard_drop(state);
        } else {
            self.states.0.lock().push(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::testing::Recorder;
    use crate::{AsyncMapper, ErrorKind, ManualClock, Pipeline, Stream};

    #[test]
    fn there_are_as_many_states_as_calls_at_a_time() {
        let (made, clock) = (Arc::new(AtomicU32::new(0)), ManualClock::new());
        let pipeline = Pipeline::builder("init").clock(&clock).build();
        let count = Arc::clone(&made);
        let work = with_init(
            move || count.fetch_add(1, Ordering::Relaxed),
            |used: &mut u32, cancel: &CancelToken, item: &u32| {
                cancel.sleep(Duration::from_secs(1))?;
                *used += 1;
                crate::ok(*item)
            },
        );
        let results =
            Recorder::new(Stream::from_iter(&pipeline, 0..30).through(&AsyncMapper::new(work).with_workers(3)));
        clock.advance(Duration::from_secs(10));
        assert_eq!(results.timed_items().len(), 30);
        assert_eq!(made.load(Ordering::Relaxed), 3);
    }

    /// Its drop panics, too.
    struct Fragile(Arc<AtomicU32>);

    impl Drop for Fragile {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
            panic!("drop");
        }
    }

    #[test]
    fn a_panic_drops_the_state_of_its_call() {
        let (made, dropped) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let pipeline = Pipeline::new("fragile");
        let (count, drops) = (Arc::clone(&made), Arc::clone(&dropped));
        let work = with_init(
            move || {
                count.fetch_add(1, Ordering::Relaxed);
                Fragile(Arc::clone(&drops))
            },
            |_: &mut Fragile, _: &CancelToken, item: &u32| {
                assert_ne!(*item, 1, "one");
                crate::ok(*item)
            },
        );
        let results = Stream::from_iter(&pipeline, 0..4).through(&AsyncMapper::new(work).with_workers(1));
        let results: Vec<_> = results.into_iter().map(|result| result.map_err(|error| error.kind())).collect();
        assert_eq!(results, [Ok(0), Err(ErrorKind::Panicked), Ok(2), Ok(3)]);
        assert!(pipeline.join().is_complete());
        assert_eq!((made.load(Ordering::Relaxed), dropped.load(Ordering::Relaxed)), (2, 2));
    }
}
