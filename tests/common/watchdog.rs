//! A time limit for what may hang.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// Why a case did not pass.
#[derive(Debug)]
pub enum Trouble {
    /// It did not end in time; its threads are still there.
    Hung,
    /// It panicked, saying this.
    Panicked(String),
}

/// Runs `work` on a thread of its own, for at most `limit` of real time.
pub fn run<R: Send + 'static>(
    limit: Duration,
    name: &str,
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, Trouble> {
    let (done, outcome) = channel();
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || {
        let result = catch_unwind(AssertUnwindSafe(work));
        let _ = done.send(result);
    });
    let handle = spawned.expect("a thread for the test");
    let result = match outcome.recv_timeout(limit) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => return Err(Trouble::Hung),
        Err(RecvTimeoutError::Disconnected) => unreachable!("the thread sends its outcome, also when it panics"),
    };
    let _ = handle.join();
    result.map_err(|payload| Trouble::Panicked(message(&*payload)))
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&'static str>().copied());
    text.unwrap_or("a panic without text").to_owned()
}
