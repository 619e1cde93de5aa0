//! The job as a pipeline.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use streamz::{AsyncMapper, BatchConfig, BoxError, CancelToken, Cause, Inline, Mapper, Outcome, Pipeline, Result};

use crate::counts::Counts;
use crate::dead_letters::describe;
use crate::flight::{Row, parse_stage};
use crate::tables::Enriched;
use crate::{Ended, Job, listen_to_ctrl_c};

const BATCH: BatchConfig = BatchConfig { max_size: 1000, max_latency: Duration::from_secs(1) };

pub(crate) fn run(job: Job) -> Result<Ended, BoxError> {
    let Job { lines, layout, stop, tables, dead_letters, database, counts, progress, workers } = job;
    let reader_fault = lines.fault();
    let dead_letters = Arc::new(Mutex::new(dead_letters));
    let database = Arc::new(Mutex::new(database));

    // Room for the next batch while one is being loaded.
    let pipeline = Pipeline::builder("etl").capacity(2 * BATCH.max_size).build();
    listen_to_ctrl_c(stop.clone(), pipeline.token(), progress.clone())?;
    if let Some(update) = progress.updater(&counts, Counts::progress) {
        pipeline.every(Duration::from_millis(100), update);
    }

    // [pattern]
    let enrich = AsyncMapper::new(move |_: &CancelToken, row: &Row| tables.enrich(row));
    let load = Mapper::fallible({
        let (database, counts) = (Arc::clone(&database), Arc::clone(&counts));
        // The lock is never waited for: only this stage loads. It is there because a closure of a stage may be shared.
        move |batch: &Vec<Enriched>| database.lock().load(batch, &counts)
    });

    // Reading and parsing share a thread: a row takes less time than it would to hand it over.
    let (rows, failed) = Inline::from_iter(&pipeline, lines)
        .with(parse_stage(layout, Arc::clone(&counts)))
        .spawn("parse")
        .through(&enrich.with_workers(workers).with_name("enrich"))
        .dead_letters();

    // Two streams come out, and are read together: this one on a thread of the pipeline, the other one here.
    failed.named("write letters").spawn_for_each({
        let (dead_letters, token) = (Arc::clone(&dead_letters), pipeline.token());
        move |letter| {
            let written = letter
                .map_err(|error| describe(&error).into())
                .and_then(|letter| dead_letters.lock().add_letter(&letter));
            if let Err(fault) = written {
                token.cancel_because(fault);
            }
        }
    });
    // Batches are made and loaded right here. The first one that cannot be loaded stops the pipeline; why it stopped is
    // asked below.
    let _ = rows.named("load").inline().batch(BATCH).with(load.with_name("insert")).count();
    // [/pattern]

    // Should it have stopped early, the reader may still be waiting for input.
    stop.set();
    let report = pipeline.join();
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
    let dead_letters = Arc::into_inner(dead_letters).ok_or("the dead-letter file is still in use")?.into_inner();
    if let Err(error) = database.close() {
        fault.get_or_insert(error);
    }
    Ok(Ended { report: Some(report), reasons: dead_letters.into_reasons(), aborted, fault })
}

/// What a stage that is meant to stop the job says of itself is enough; where it happened, its message tells.
fn root(error: &streamz::StreamError) -> BoxError {
    match std::error::Error::source(error) {
        Some(source) if error.stage() == "load" => source.to_string().into(),
        _ => describe(error).into(),
    }
}
