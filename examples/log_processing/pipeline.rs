//! The job as a pipeline.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use streamz::{
    BoxError, Custom, Dedupe, FileLine, Inline, Mapper, Outcome, Pipeline, Report, Result,
    Stream, StreamError,
};

use crate::alerts::{PerMinute, Said};
use crate::args::Format;
use crate::examine::{Examine, Examiner};
use crate::input::Reading;
use crate::lines::Line;
use crate::record::{Record, parse};
use crate::watch::Alert;
use crate::{Ended, Job, Source};

/// The number of records that may wait between the two threads: if other programs want the cores too, each has enough
/// to do until it is its turn again. A record takes about a hundred bytes.
const ROOM: usize = 4096;

/// The number of remembered alerts; the oldest is forgotten first, and may then be repeated.
const MAX_ALERTS: usize = 10_000;

pub(crate) fn run(job: Job) -> Result<Ended, BoxError> {
    let Job { args, source, stop, interrupt, reading, mut rejects, names, output, progress } =
        job;
    let pipeline = Pipeline::builder("log").capacity(ROOM).build();
    interrupt.begin(&stop, pipeline.token(), &progress);
    if let Some(update) = progress.updater(&reading, Reading::progress) {
        pipeline.every(Duration::from_millis(100), update);
    }
    let live = args.live.then(|| pipeline.live());

    let following = match &source {
        Source::Files(_) => None,
        Source::Growing(growing) => Some((growing.files(), growing.stats())),
    };
    let examiner = Arc::new(Mutex::new(Examiner::new(&args)));
    let examine = Custom::new("examine", {
        let examiner = Arc::clone(&examiner);
        move || Examine(Arc::clone(&examiner))
    });
    let (repeat, per_minute) = (args.repeat, args.alerts_per_minute);
    let once = Dedupe::new(move |alert: &Alert| alert.key(repeat))
        .with_max_keys(MAX_ALERTS)
        .with_name("once");
    let known = once.stats();
    let not_too_often = Custom::new("not too often", move || PerMinute::new(per_minute));

    let mut said = Said::new(&args, names, output.clone(), progress.clone());
    let (token, mut fault) = (pipeline.token(), None);
    // All of this is fast, and runs right here. A malformed line passes the steps as an error that carries the line.
    let alerts = records(&pipeline, source, args.format).named("say").inline();
    let told = alerts.with(examine).with(once).with(not_too_often).for_each(|item| {
        let done = match item {
            Ok(alert) => said.say(alert),
            Err(error)
                if following
                    .as_ref()
                    .is_some_and(|(files, _)| files.add_fault(&error, &reading)) =>
            {
                Ok(())
            }
            Err(error) => rejects.add_error(&error),
        };
        if let Err(error) = done {
            token.cancel_because("an output cannot be written");
            fault.get_or_insert(error);
        }
        if output.is_closed() && args.ends_unheard() {
            // The receiver has been dropped.
            stop.set();
            token.drain();
        }
    });

    // If it has stopped early, the reader may still be waiting for input.
    stop.set();
    let report = pipeline.join();
    drop(live);
    progress.finish();
    if let (None, Err(error)) = (&fault, told) {
        fault = Some(error.to_string().into());
    }
    let examiner = Arc::into_inner(examiner).ok_or("the tables are still in use")?.into_inner();
    let (repeated, held_back) = (removed(&report, "once"), removed(&report, "not too often"));
    let is_cut = !matches!(report.outcome, Outcome::Completed | Outcome::Drained);
    Ok(Ended {
        tables: examiner.tables,
        backwards: examiner.watch.backwards,
        rejects,
        said,
        repeated,
        held_back,
        forgotten: known.evicted(),
        unfinished: following.map_or(0, |(_, stats)| stats.unfinished()),
        report: Some(report),
        interrupted: interrupt.is_set(),
        is_cut,
        fault,
    })
}

/// Reading and parsing share a thread: parsing a line takes less time than handing it over.
fn records(pipeline: &Pipeline, source: Source, format: Format) -> Stream<Record> {
    let parse =
        Mapper::fallible(move |line: &Line| parse(line, format)).with_name("parse line");
    match source {
        Source::Files(lines) => Inline::from_iter(pipeline, lines).with(parse).spawn("parse"),
        Source::Growing(growing) => {
            let translate = growing.translation();
            // The beginning of a line that is too long is parsed, too.
            let whole_or_not = |error: &StreamError| error.take_item::<FileLine>();
            growing
                .lines(pipeline)
                .inline()
                .on_errors(whole_or_not)
                .map(translate)
                .with(parse)
                .spawn("parse")
        }
    }
}

/// The number of items that a step has left out.
fn removed(report: &Report, name: &str) -> u64 {
    let steps = report.stages.iter().flat_map(|stage| &stage.steps);
    steps
        .filter(|step| &*step.name == name)
        .map(|step| step.filtered + step.total_dropped())
        .sum()
}
