//! The same job as a plain loop in one thread.

use std::{mem, slice};

use streamz::{BoxError, CancelToken, Clock, Result};

use crate::counts::Counts;
use crate::database::Database;
use crate::settled::{BATCH, Settled};
use crate::transform::Transform;
use crate::{Ended, Job, listen_to_ctrl_c};

pub(crate) fn run(job: Job) -> Result<(Ended, Database), BoxError> {
    let Job {
        mut lines,
        layout,
        stop,
        tables,
        mut dead_letters,
        mut database,
        counts,
        progress,
        workers: _,
        live: _,
        preload,
    } = job;
    let token = CancelToken::new();
    listen_to_ctrl_c(stop, token.clone(), progress.clone())?;

    let mut transform = Transform::new(layout, &tables, &counts);
    let mut batch = Settled::default();
    let mut preloaded = Vec::new();
    let mut began = None;
    let mut update = progress.updater(&counts, Counts::progress);
    let mut work = || -> Result<(), BoxError> {
        for line in &mut lines {
            if token.is_cancelled() {
                return Ok(());
            }
            match transform.row(&line) {
                Ok(None) => continue,
                Ok(Some(row)) => batch.rows.push(row),
                Err(failed) => batch.letters.push(dead_letters.write(&failed)?),
            }
            batch.line = line.number;
            if batch.len() == BATCH && preload {
                preloaded.push(mem::take(&mut batch));
            } else if batch.len() == BATCH {
                database.store(slice::from_ref(&batch), &counts)?;
                batch.rows.clear();
                batch.letters.clear();
                if let Some(update) = &mut update {
                    update();
                }
            }
        }
        if preload {
            began = Some(Clock::default().now());
            preloaded
                .iter()
                .try_for_each(|batch| database.store(slice::from_ref(batch), &counts))?;
        }
        if batch.len() > 0 && !token.is_cancelled() {
            database.store(slice::from_ref(&batch), &counts)?;
        }
        Ok(())
    };
    let fault = work().and_then(|()| lines.check_end()).err();
    progress.finish();
    let aborted = fault.is_none() && token.is_cancelled();
    Ok((Ended { report: None, aborted, fault, began }, database))
}
