//! The same job as a plain loop in one thread.

use streamz::{BoxError, CancelToken, Result};

use crate::counts::Counts;
use crate::database::Database;
use crate::flight::{FlightParser, Row};
use crate::settled::{BATCH, Settled};
use crate::{Ended, Job, listen_to_ctrl_c};

pub(crate) fn run(job: Job) -> Result<(Ended, Database), BoxError> {
    let Job { lines, layout, stop, tables, mut dead_letters, mut database, counts, progress, workers: _, live: _ } =
        job;
    let reader_fault = lines.fault();
    let token = CancelToken::new();
    listen_to_ctrl_c(stop, token.clone(), progress.clone())?;

    let mut parser = FlightParser::new(layout);
    let mut batch: Vec<Settled> = Vec::with_capacity(BATCH);
    let mut update = progress.updater(&counts, Counts::progress);
    let work = || -> Result<(), BoxError> {
        for line in lines {
            if token.is_cancelled() {
                return Ok(());
            }
            let settled = match parser.parse(&line) {
                Err(reason) => Settled::Letter(dead_letters.write(&line, "parse", &reason)?),
                Ok(flight) if flight.is_cancelled() => {
                    counts.cancelled_flights.add(1);
                    continue;
                }
                Ok(flight) => {
                    let row = Row { line, flight };
                    match tables.enrich(&row) {
                        Ok(enriched) => Settled::Row(enriched),
                        Err(reason) => Settled::Letter(dead_letters.write(&row.line, "enrich", &reason)?),
                    }
                }
            };
            batch.push(settled);
            if batch.len() == BATCH {
                database.store(&batch, &counts)?;
                batch.clear();
                if let Some(update) = &mut update {
                    update();
                }
            }
        }
        if !batch.is_empty() && !token.is_cancelled() {
            database.store(&batch, &counts)?;
        }
        Ok(())
    };
    let fault = work().err().or_else(|| reader_fault.lock().take());
    progress.finish();
    let aborted = fault.is_none() && token.is_cancelled();
    Ok((Ended { report: None, aborted, fault }, database))
}
