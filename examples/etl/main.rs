//! Extract, transform, load: a month of real flights from a CSV file into SQLite, in stages that work side by side.
//!
//! ```text
//!  read ──▶ parse ──▶ enrich (worker pool) ──▶ dead letters ──▶ batch ──▶ load (one transaction per batch)
//! (gzip)   drops cancelled flights              │
//!                                               └──▶ failed rows, as JSON lines
//! ```
//!
//! What the example is about:
//!
//! - *Nothing vanishes.* Each row that was read is loaded, counted as a cancelled flight, or written to the dead-letter
//!   file with its line number and the reason. At the end `read = loaded + cancelled flights + failed`, also when the job
//!   was interrupted.
//! - *Failures are items.* A malformed row travels on as an error that carries the row, whichever stage it failed in, and
//!   never stops the job. What does stop it is a fault of the job itself: the disk is full, say.
//! - *Ending well.* The first Ctrl-C drains: no more is read, what was read is loaded. The second aborts.
//! - *Where the time goes.* The table at the end shows for each stage how long it was idle, busy and blocked, and which
//!   of them is the bottleneck.
//!
//! `cargo run --release --example etl` loads the data that is shipped with it; `-- --help` shows the options.
#![forbid(unsafe_code)]

mod args;
mod columns;
mod counts;
mod database;
mod dead_letters;
mod flight;
#[path = "../common/gunzip.rs"]
mod gunzip;
mod input;
#[path = "../common/interruptible.rs"]
mod interruptible;
mod lines;
mod pipeline;
#[path = "../common/progress.rs"]
mod progress;
#[path = "../common/same_file.rs"]
mod same_file;
mod sequential;
mod summary;
mod tables;

use std::process::ExitCode;
use std::sync::Arc;

use args::{Args, Places};
use clap::Parser;
use counts::Counts;
use database::Database;
use dead_letters::DeadLetters;
use flight::Layout;
use interruptible::Stop;
use lines::Lines;
use progress::Progress;
use streamz::{BoxError, CancelToken, Clock, Report, Result};
use summary::{Summary, note};
use tables::Tables;

/// What the shell shows for a program that was ended by Ctrl-C.
const INTERRUPTED: u8 = 130;

/// The work, ready to start: the inputs are open and were found to be what they should be, the outputs exist.
struct Job {
    lines: Lines,
    layout: Layout,
    stop: Stop,
    tables: Arc<Tables>,
    dead_letters: DeadLetters,
    database: Database,
    counts: Arc<Counts>,
    progress: Progress,
    workers: usize,
}

/// How the work ended.
struct Ended {
    /// What each stage did; a plain loop has no stages.
    report: Option<Report>,
    /// What the dead letters died of.
    reasons: dead_letters::Reasons,
    /// Whether a second Ctrl-C made it give up rows that it had read.
    aborted: bool,
    /// What stopped it before its time, other than the user.
    fault: Option<BoxError>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            summary::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<ExitCode, BoxError> {
    let places = Places::of(args)?;
    let counts = Arc::new(Counts::default());

    // Everything that can be wrong with the inputs is found out before anything is created.
    let input = input::open(&places.input, &counts)?;
    let (stop, size) = (input.stop.clone(), input.size);
    let (lines, layout) = Lines::open(input, &counts)?;
    let tables = Arc::new(Tables::read(&places.airlines, &places.airports)?);
    database::check(&places.database, places.replace)?;
    // The file of an earlier run is emptied only when nothing can go wrong any more.
    let outputs = places.open_outputs()?;
    let database = Database::create(&places.database, places.replace)?;
    let dead_letters = DeadLetters::new(places.take_dead_letters(outputs)?, &places.dead_letters, &counts);

    let progress = Progress::new(!args.quiet && !args.json, size);
    let job = Job {
        lines,
        layout,
        stop,
        tables,
        dead_letters,
        database,
        counts: Arc::clone(&counts),
        progress,
        workers: args.workers(),
    };
    let clock = Clock::default();
    let started = clock.now();
    let ended = if args.sequential { sequential::run(job) } else { pipeline::run(job) }?;
    let elapsed = clock.now() - started;

    let summary = Summary { totals: counts.totals(), ended: &ended, places: &places, elapsed };
    if args.json {
        summary.print_json()?;
    } else if !args.quiet {
        summary.print()?;
    }
    if let Some(fault) = &ended.fault {
        summary::complain(fault);
        return Ok(ExitCode::FAILURE);
    }
    if let Some(bug) = summary.imbalance() {
        return Err(bug.into());
    }
    if let Some(failure) = summary.all_failed() {
        return Err(failure.into());
    }
    Ok(if summary.is_complete() { ExitCode::SUCCESS } else { ExitCode::from(INTERRUPTED) })
}

/// From now on the first Ctrl-C drains, the second aborts, and should even that hang (in a write to a pipe that nobody
/// reads, say) the third ends the program on the spot.
fn listen_to_ctrl_c(stop: Stop, token: CancelToken, progress: Progress) -> Result<(), BoxError> {
    let mut pressed = 0;
    ctrlc::set_handler(move || {
        pressed += 1;
        match pressed {
            1 => {
                stop.set();
                token.drain();
                progress.suspend(|| note("interrupted: loading what was read; Ctrl-C again aborts"));
            }
            2 => {
                token.cancel();
                progress.suspend(|| note("aborted"));
            }
            _ => std::process::exit(i32::from(INTERRUPTED)),
        }
    })
    .map_err(|error| format!("cannot listen to Ctrl-C: {error}").into())
}
