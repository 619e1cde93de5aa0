//! The tokio runtime that the works share.

use tokio::runtime::{Builder, Runtime};

/// A runtime with that many worker threads; the thread that calls `block_on` comes on top.
pub(super) fn tokio(workers: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(workers).enable_time().build().expect("tokio starts its threads")
}
