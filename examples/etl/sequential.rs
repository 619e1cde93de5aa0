//! The same job as a plain loop in one thread.

use streamz::{BoxError, CancelToken, Result};

use crate::counts::Counts;
use crate::flight::{FlightParser, Row};
use crate::tables::Enriched;
use crate::{Ended, Job, listen_to_ctrl_c};

const BATCH: usize = 1000;

pub(crate) fn run(job: Job) -> Result<Ended, BoxError> {
    let Job { lines, layout, stop, tables, mut dead_letters, mut database, counts, progress, workers: _ } = job;
    let reader_fault = lines.fault();
    let token = CancelToken::new();
    listen_to_ctrl_c(stop, token.clone(), progress.clone())?;

    let mut parser = FlightParser::new(layout);
    let mut batch: Vec<Enriched> = Vec::with_capacity(BATCH);
    let mut update = progress.updater(&counts, Counts::progress);
    let work = || -> Result<(), BoxError> {
        for line in lines {
            if token.is_cancelled() {
                return Ok(());
            }
            let flight = match parser.parse(&line) {
                Ok(flight) => flight,
                Err(reason) => {
                    dead_letters.add(&line, "parse", &reason.to_string(), reason.category())?;
                    continue;
                }
            };
            if flight.is_cancelled() {
                counts.cancelled_flights.add(1);
                continue;
            }
            let row = Row { line, flight };
            match tables.enrich(&row) {
                Ok(enriched) => batch.push(enriched),
                Err(reason) => dead_letters.add(&row.line, "enrich", &reason.to_string(), reason.category())?,
            }
            if batch.len() == BATCH {
                database.load(&batch, &counts)?;
                batch.clear();
                if let Some(update) = &mut update {
                    update();
                }
            }
        }
        if !batch.is_empty() && !token.is_cancelled() {
            database.load(&batch, &counts)?;
        }
        Ok(())
    };
    let mut fault = work().err().or_else(|| reader_fault.lock().take());
    progress.finish();
    if let Err(error) = database.close() {
        fault.get_or_insert(error);
    }
    let aborted = fault.is_none() && token.is_cancelled();
    Ok(Ended { report: None, reasons: dead_letters.into_reasons(), aborted, fault })
}
