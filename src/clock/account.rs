//! Accounts: where the waits of the calling thread are recorded.
//!
//! The time of a stage is its work, unless its thread waits. It waits on its own behalf, which the stage records
//! itself, or because a user's closure sends, receives or sleeps through this library. The second kind is recorded
//! here: code that calls closures opens an account on its thread, and every park pauses all accounts of the thread.
//! There are several if a closure reads a stream itself.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// What a thread waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitFor {
    /// An item, or anything else that other threads do.
    Others,
    /// Room in a stream.
    Room,
    /// A time.
    Time,
    /// Work that another thread does in its place: it is as busy as that one.
    Work,
}

pub(crate) trait Account: Send + Sync {
    /// The thread is about to wait.
    fn pause(&self, what: WaitFor);

    /// The wait has ended.
    fn resume(&self);
}

thread_local! {
    static OPEN: RefCell<Vec<Arc<dyn Account>>> = const { RefCell::new(Vec::new()) };
    static WAITS: Cell<u64> = const { Cell::new(0) };
}

/// An account of the thread on which it was opened, until it is dropped there.
#[must_use = "an account is closed when this is dropped"]
pub(crate) struct Open(Arc<dyn Account>);

impl Open {
    pub(crate) fn new(account: Arc<dyn Account>) -> Self {
        OPEN.with_borrow_mut(|accounts| accounts.push(Arc::clone(&account)));
        Self(account)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        OPEN.with_borrow_mut(|accounts| {
            if let Some(index) = accounts.iter().rposition(|other| Arc::ptr_eq(other, &self.0)) {
                accounts.remove(index);
            }
        });
    }
}

/// Waits, and records the time.
pub(super) fn paused<R>(what: WaitFor, wait: impl FnOnce() -> R) -> R {
    WAITS.set(WAITS.get() + 1);
    OPEN.with_borrow(|accounts| accounts.iter().for_each(|account| account.pause(what)));
    let result = wait();
    OPEN.with_borrow(|accounts| accounts.iter().for_each(|account| account.resume()));
    result
}

/// The number of times that the calling thread has waited: a cheap way to see that it has not.
#[inline]
pub(crate) fn waits() -> u64 {
    WAITS.get()
}
