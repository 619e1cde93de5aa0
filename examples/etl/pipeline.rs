//! The job as a pipeline.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use streamz::{
    AsyncMapper, BatchConfig, BoxError, CancelToken, Cause, Inline, Mapper, Outcome, Pipeline, Recover, Result,
    StreamError,
};

use crate::counts::Counts;
use crate::database::Database;
use crate::dead_letters::describe;
use crate::flight::{Row, parse_stage};
use crate::settled::{self, Settled};
use crate::{Ended, Job, listen_to_ctrl_c};

const BATCH: BatchConfig = BatchConfig { max_size: settled::BATCH, max_latency: Duration::from_secs(1) };

pub(crate) fn run(job: Job) -> Result<(Ended, Database), BoxError> {
    let Job { lines, layout, stop, tables, dead_letters, database, counts, progress, workers, live } = job;
    let reader_fault = lines.fault();
    let dead_letters = Mutex::new(dead_letters);
    let database = Arc::new(Mutex::new(database));

    // Room for the next batch while one is being loaded.
    let pipeline = Pipeline::builder("etl").capacity(2 * BATCH.max_size).build();
    listen_to_ctrl_c(stop.clone(), pipeline.token(), progress.clone())?;
    if let Some(update) = progress.updater(&counts, Counts::progress) {
        pipeline.every(Duration::from_millis(100), update);
    }
    let live = live.then(|| pipeline.live());

    // [pattern]
    let enrich = AsyncMapper::new(move |_: &CancelToken, row: &Row| tables.enrich(row).map(Settled::Row));
    // A row that failed becomes an item again, in the place that it has in the input.
    let put_aside = Recover::new({
        let token = pipeline.token();
        move |error: &StreamError| match dead_letters.lock().write_failure(error) {
            Ok(letter) => Some(Settled::Letter(letter)),
            Err(fault) => {
                token.cancel_because(fault);
                None
            }
        }
    });
    let load = Mapper::fallible({
        let (database, counts) = (Arc::clone(&database), Arc::clone(&counts));
        // The lock is never waited for: only this stage loads. It is there because a closure of a stage may be shared.
        move |batch: &Vec<Settled>| database.lock().store(batch, &counts)
    });

    // Reading and parsing share a thread: a row takes less time than it would to hand it over.
    let settled = Inline::from_iter(&pipeline, lines)
        .with(parse_stage(layout, Arc::clone(&counts)))
        .spawn("parse")
        .through(&enrich.with_workers(workers).with_name("enrich"))
        .through(&put_aside.with_name("put aside"));
    // Batches are made and loaded right here. The first one that cannot be loaded stops the pipeline; why it stopped is
    // asked below.
    let _ = settled.named("load").inline().batch(BATCH).with(load.with_name("insert")).count();
    // [/pattern]

    // Should it have stopped early, the reader may still be waiting for input.
    stop.set();
    let report = pipeline.join();
    drop(live);
    progress.finish();
    let mut fault = reader_fault.lock().take();
    let mut aborted = false;
    match &report.outcome {
        Outcome::Cancelled(Cause::Requested) => aborted = true,
        Outcome::Cancelled(Cause::Because(reason)) => fault = Some(reason.to_string().into()),
        Outcome::Cancelled(Cause::Failed(error)) => fault = Some(root(error)),
        Outcome::Cancelled(cause) => fault = Some(cause.to_string().into()),
        _ => {}
    }
    // All threads are gone, and with them the other owners.
    let database = Arc::into_inner(database).ok_or("the database is still in use")?.into_inner();
    Ok((Ended { report: Some(report), aborted, fault }, database))
}

/// What a stage that is meant to stop the job says of itself is enough; where it happened, its message tells.
fn root(error: &StreamError) -> BoxError {
    match std::error::Error::source(error) {
        Some(source) if error.stage() == "load" => source.to_string().into(),
        _ => describe(error).into(),
    }
}
