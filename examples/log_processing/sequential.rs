//! The same job as a plain loop in one thread.

use std::collections::HashSet;

use streamz::{BoxError, CancelToken, Result};

use crate::alerts::{PerMinute, Said};
use crate::examine::Examiner;
use crate::input::Reading;
use crate::record::parse;
use crate::{Ended, Job, Source};

pub(crate) fn run(job: Job) -> Result<Ended, BoxError> {
    let Job { args, source, stop, interrupt, reading, mut rejects, names, output, progress } =
        job;
    let Source::Files(lines) = source else {
        return Err("files that grow cannot be followed in one thread".into());
    };
    interrupt.begin(&stop, CancelToken::new(), &progress);
    let mut update = progress.updater(&reading, Reading::progress);

    let mut examiner = Examiner::new(&args);
    // Without a bound: with little memory and many attackers, use the pipeline.
    let mut known = HashSet::new();
    let mut per_minute = PerMinute::new(args.alerts_per_minute);
    let mut said = Said::new(&args, names, output.clone(), progress.clone());
    let (mut repeated, mut held_back) = (0, 0);
    let work = || -> Result<(), BoxError> {
        let mut found = Vec::new();
        for (number, line) in lines.enumerate() {
            match parse(&line, args.format) {
                Ok(record) => examiner.examine(&record, |alert| found.push(alert)),
                Err(reason) => rejects.add(&line, &reason)?,
            }
            for alert in found.drain(..) {
                if !known.insert(alert.key(args.repeat)) {
                    repeated += 1;
                } else if !per_minute.passes(alert.time) {
                    held_back += 1;
                } else {
                    said.say(alert)?;
                }
            }
            if output.is_closed() && args.ends_unheard() {
                // The receiver has been dropped.
                stop.set();
            }
            if number % 10_000 == 0
                && let Some(update) = &mut update
            {
                update();
            }
        }
        Ok(())
    };
    let fault = work().err();
    progress.finish();
    Ok(Ended {
        tables: examiner.tables,
        backwards: examiner.watch.backwards,
        rejects,
        said,
        repeated,
        held_back,
        forgotten: 0,
        unfinished: 0,
        report: None,
        interrupted: interrupt.is_set(),
        is_cut: fault.is_some(),
        fault,
    })
}
