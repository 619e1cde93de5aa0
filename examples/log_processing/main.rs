//! A log processor: counts the requests of an access log, and finds bursts and suspicious clients in it.
//!
//! ```text
//!  read ─▶ parse ───▶ examine ─▶ once ─▶ not too often ─▶ say ──▶ report
//! (files, gzip,  │    counts     repeats  a number in      │
//!  pipe, or what │    every      are left  a minute        └──▶ malformed lines, put aside
//!  grows)        │    request      out
//!    one thread ─┴─ another
//! ```
//!
//! What the example is about:
//!
//! - *Nothing vanishes.* Every line that was read is counted once: `read = parsed + malformed`, even when the job was
//!   interrupted. A malformed line travels to the sink as an error that carries it, and is written to the rejects with
//!   `file:line` and the reason.
//! - *Memory does not depend on the input.* Tables are bounded; evictions are counted and reported.
//! - *The time of the log.* Windows, repeats and rates use the time in the lines, so that a log of last week gives the
//!   alerts that it would have given last week, and the same ones each time.
//! - *Following.* With `--follow` the source is [`Stream::follow_lines`](streamz::Stream::follow_lines). Files may be
//!   renamed and created again, or truncated. Ctrl-C drains the pipeline: everything read is in the report.
//! - *Steps that are too cheap for a thread* share one: reading and parsing here, everything else there.
//!
//! `cargo run --release --example log_processing` generates a log with attacks in it, processes it, and checks the
//! findings; `-- --help` shows the options.
#![forbid(unsafe_code)]

mod alerts;
#[path = "../common/archive.rs"]
mod archive;
mod args;
mod clf;
mod client;
#[path = "../common/command_line.rs"]
mod command_line;
#[path = "../common/mod.rs"]
mod common;
mod demo;
mod examine;
mod follow;
#[path = "../common/gunzip.rs"]
mod gunzip;
mod input;
mod interrupt;
#[path = "../common/interruptible.rs"]
mod interruptible;
mod json;
mod lines;
mod output;
mod pipeline;
mod plain;
#[path = "../common/progress.rs"]
mod progress;
mod record;
mod rejects;
mod report;
#[path = "../common/same_file.rs"]
mod same_file;
mod sequential;
mod tables;
mod threat;
mod watch;

use std::process::ExitCode;
use std::sync::Arc;

use alerts::Said;
use args::Args;
use follow::{Growing, Notes};
use input::{Lines, Reading};
use interrupt::Interrupt;
use interruptible::Stop;
use output::{Output, complain, note};
use progress::Progress;
use rejects::Rejects;
use report::Summary;
use streamz::{BoxError, Clock, Report, Result};
use tables::Tables;
use watch::Backwards;

/// The exit status that a shell shows for a program that was ended by Ctrl-C.
const INTERRUPTED: u8 = 130;

/// The work, ready to start: the inputs can be read, the outputs exist.
struct Job {
    args: Args,
    source: Source,
    stop: Stop,
    interrupt: Interrupt,
    reading: Arc<Reading>,
    rejects: Rejects,
    names: Vec<String>,
    output: Output,
    progress: Progress,
}

/// The source of the lines.
enum Source {
    Files(Lines),
    Growing(Growing),
}

/// How the work ended.
struct Ended {
    tables: Tables,
    backwards: Backwards,
    rejects: Rejects,
    said: Said,
    /// Alerts that were repetitions.
    repeated: u64,
    /// Alerts beyond the limit of their minute.
    held_back: u64,
    /// Alerts that were forgotten for lack of room, and may have been repeated.
    forgotten: u64,
    /// Incomplete lines, which do not count as lines yet.
    unfinished: u64,
    /// The statistics of each stage; a plain loop has no stages.
    report: Option<Report>,
    /// Whether the user has ended it.
    interrupted: bool,
    /// Whether lines that had been read may have been discarded.
    is_cut: bool,
    /// The reason why it stopped early, other than the user.
    fault: Option<BoxError>,
}

fn main() -> ExitCode {
    streamz::locate_panics();
    let args = command_line::parse();
    args.and_then(|args| args.as_ref().map_or(Ok(ExitCode::SUCCESS), start)).unwrap_or_else(
        |error| {
            complain(&error.to_string());
            ExitCode::FAILURE
        },
    )
}

fn start(args: &Args) -> Result<ExitCode, BoxError> {
    // Before anything is created, so that an interrupt leaves nothing behind.
    let interrupt = Interrupt::listen(args)?;
    if args.files.is_empty() {
        demo::run(args, interrupt)
    } else {
        run(args, interrupt).map(|summary| summary.exit_code())
    }
}

/// Does the job, and prints the results.
fn run(args: &Args, interrupt: Interrupt) -> Result<Summary, BoxError> {
    args.check()?;
    let (stop, reading, names) =
        (Stop::default(), Arc::new(Reading::default()), input::names(args));
    let size = if args.follow { None } else { input::check(&args.files)? };
    let mut outputs = args.open_outputs(&names)?;
    let output = Output::default();
    let progress = Progress::new(!args.quiet && !args.follow && !args.live, size);
    let source = if args.follow {
        let notes: Notes = if args.quiet { |_| {} } else { note };
        Source::Growing(Growing::new(args, &reading, notes)?)
    } else {
        Source::Files(Lines::new(args, &reading, &stop))
    };
    let json = outputs.take(args::JSON)?;
    let rejects = Rejects::new(outputs.take(args::REJECTS)?, names.clone());
    let clock = Clock::default();
    let started = clock.now();
    let reading_here = Arc::clone(&reading);
    let job = Job {
        args: args.clone(),
        source,
        stop,
        interrupt,
        reading,
        rejects,
        names,
        output: output.clone(),
        progress,
    };
    let ended = if args.sequential { sequential::run(job) } else { pipeline::run(job) }?;

    let elapsed = clock.now() - started;
    let mut summary = Summary::new(args, ended, &reading_here, elapsed);
    summary.write(&output, json);
    Ok(summary)
}
