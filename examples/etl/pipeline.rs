//! The job as a pipeline.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use streamz::{
    AsyncMapper, BatchConfig, Batcher, BoxError, CancelToken, Cause, Mapper, Outcome, Pipeline,
    Result, Stream, StreamError, with_init,
};

use crate::counts::Counts;
use crate::database::Database;
use crate::dead_letters::describe;
use crate::lines::Chunk;
use crate::settled::{self, Settled};
use crate::transform::{Transform, Transformed};
use crate::{Ended, Job, listen_to_ctrl_c};

/// A batch has fewer chunks than rows, unless they come one by one.
const BATCH: BatchConfig =
    BatchConfig { max_size: settled::BATCH, max_latency: Duration::from_secs(1) };

/// How many chunks of rows wait on each edge, at most: where other programs want the processors too, each thread has enough
/// to do until the others have their turn again. A chunk takes up to 60 kB.
const CAPACITY: usize = 32;

/// How often the log of the database is copied into it.
const CHECKPOINTS: Duration = Duration::from_millis(50);

pub(crate) fn run(job: Job) -> Result<(Ended, Database), BoxError> {
    let Job {
        lines,
        layout,
        stop,
        tables,
        dead_letters,
        database,
        counts,
        progress,
        workers,
        live,
        preload: _,
    } = job;
    let dead_letters = Mutex::new(dead_letters);
    let database = Arc::new(Mutex::new(database));

    let pipeline = Pipeline::builder("etl").capacity(CAPACITY).build();
    listen_to_ctrl_c(stop.clone(), pipeline.token(), progress.clone())?;
    if let Some(update) = progress.updater(&counts, Counts::progress) {
        pipeline.every(Duration::from_millis(100), update);
    }
    if let Some(checkpointer) = database.lock().checkpointer() {
        pipeline.token().named("checkpoint").every(CHECKPOINTS, move || checkpointer.run());
    }
    let live = live.then(|| pipeline.live());

    // [pattern]
    // Rows cross an edge in chunks, so a hop, a place in the window of the pool and a call cost
    // once per chunk. An input that cannot be read further ends with an error in place of a
    // chunk. It stays behind the rows before it, so these are loaded.
    let transform = {
        let counts = Arc::clone(&counts);
        with_init(
            move || Transform::new(layout, &tables, &counts),
            |transform: &mut Transform, _: &CancelToken, lines: &Chunk| match lines {
                Ok(lines) => Ok(transform.rows(lines)),
                Err(fault) => Err(fault.to_string()),
            },
        )
    };
    // Failed rows leave here, and stay with those around them, so that they are stored in the
    // same transaction.
    let put_aside = {
        let token = pipeline.token();
        move |Transformed { rows, failed, line }| {
            let mut dead_letters = dead_letters.lock();
            let letters = failed
                .iter()
                .map(|failed| dead_letters.write(failed))
                .collect::<Result<_, _>>();
            let letters = letters.map_err(|fault| token.cancel_because(fault)).ok()?;
            Some(Settled { rows, letters, line })
        }
    };
    let batch = Batcher::new(BATCH).with_weight(Settled::len, settled::BATCH);
    let load = Mapper::fallible({
        let (database, counts) = (Arc::clone(&database), Arc::clone(&counts));
        // No thread ever waits for the lock: only this stage loads. A closure of a stage may be
        // shared, so it needs one.
        move |batch: &Vec<Settled>| database.lock().store(batch, &counts)
    });

    let settled = Stream::from_iter(&pipeline, lines.chunks())
        .through(
            &AsyncMapper::new(transform)
                .with_workers(workers)
                .with_window(CAPACITY.max(workers))
                .with_name("transform"),
        )
        .inline()
        // A panic fails all rows of a chunk.
        .on_errors(Transformed::recover)
        .named("write")
        .filter_map(put_aside)
        .spawn("put aside");
    // Batches are made and loaded right here. The first error stops the pipeline: that of a batch
    // that cannot be loaded, or that of the input. The reason is read below.
    let _ = settled.named("load").inline().with(batch).with(load.with_name("insert")).count();
    // [/pattern]

    // Should it have stopped early, the reader may still be waiting for input.
    stop.set();
    let report = pipeline.join();
    drop(live);
    progress.finish();
    let (mut fault, mut aborted): (Option<BoxError>, bool) = (None, false);
    match &report.outcome {
        Outcome::Cancelled(Cause::Requested) => aborted = true,
        Outcome::Cancelled(Cause::Because(reason)) => fault = Some(reason.to_string().into()),
        Outcome::Cut(error) | Outcome::Cancelled(Cause::Failed(error)) => {
            fault = Some(root(error))
        }
        Outcome::Cancelled(cause) => fault = Some(cause.to_string().into()),
        _ => {}
    }
    // All threads are gone, and with them the other owners.
    let database =
        Arc::into_inner(database).ok_or("the database is still in use")?.into_inner();
    Ok((Ended { report: Some(report), aborted, fault, began: None }, database))
}

/// What a stage that is meant to stop the job says of itself is enough; where it happened, its message tells.
fn root(error: &StreamError) -> BoxError {
    match std::error::Error::source(error) {
        Some(source) if matches!(error.stage(), "transform" | "load") => {
            source.to_string().into()
        }
        _ => describe(error).into(),
    }
}
