//! The tokio runtime that the works share, and the parameters of `par-stream` on it.

use par_stream::{BufSize, NumWorkers, ParParamsConfig};
use tokio::runtime::{Builder, Runtime};

/// A runtime with `workers` worker threads; the thread that calls `block_on` is additional.
pub(super) fn tokio(workers: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(workers).enable_time().build().expect("tokio starts its threads")
}

/// `workers` workers of `par-stream`, with room for `capacity` items between them and their consumer.
pub(super) fn par_params(workers: usize, capacity: usize) -> ParParamsConfig {
    ParParamsConfig::Manual { num_workers: NumWorkers::Fixed(workers), buf_size: BufSize::Fixed(capacity) }
}
