//! Extract, transform, load: a month of real flights from a CSV file into SQLite, in stages that run in parallel.
//!
//! ```text
//!  read ──▶ parse and enrich (worker pool) ──▶ put aside ──▶ batch ──▶ load (one transaction per batch:
//! (gzip)    drops cancelled flights             │                            rows, failed rows, position)
//!                                               └──▶ failed rows, as JSON lines
//! ```
//!
//! What the example is about:
//!
//! - *Nothing vanishes.* Each row that was read is loaded, counted as a cancelled flight, or written to the dead-letter
//!   file with its line number and the reason. At the end `read = loaded + cancelled flights + failed`, also when the job
//!   was interrupted.
//! - *Rows travel in chunks.* A row takes about a microsecond to parse and enrich, so passing each from thread to thread by
//!   itself would cost a good part of that. What is there is passed on at once; a chunk does not wait until it is full.
//! - *Failures stay in place.* A malformed row never stops the job. It travels with the rows around it, and carries the line.
//!   What does stop the job is a fault of its own: the disk is full, say.
//! - *The disk works at the same time.* Commits go to the write-ahead log of SQLite. A periodic job of the pipeline copies
//!   them into the database, so the thread that loads rows rarely waits for the disk.
//! - *Ending well.* The first Ctrl-C drains: no more is read, what was read is loaded. The second aborts.
//! - *Exactly once.* The position in the input is stored in the transaction that stores the rows. A run that was killed, at
//!   whatever moment, is continued by `--resume`, and leaves the same database and the same dead-letter file as one that
//!   nothing has disturbed.
//! - *Where the time goes.* The table at the end shows for each stage how long it was idle, busy and blocked, and which
//!   of them is the bottleneck.
//!
//! `cargo run --release --example etl` loads the data that is shipped with it; `-- --help` shows the options.
#![forbid(unsafe_code)]

#[path = "../common/archive.rs"]
mod archive;
mod args;
mod columns;
#[path = "../common/command_line.rs"]
mod command_line;
mod counts;
mod database;
mod dead_letters;
mod fingerprint;
mod flight;
#[path = "../common/gunzip.rs"]
mod gunzip;
mod input;
#[path = "../common/interruptible.rs"]
mod interruptible;
mod lines;
mod pipeline;
mod position;
#[path = "../common/progress.rs"]
mod progress;
#[path = "../common/same_file.rs"]
mod same_file;
mod sequential;
mod settled;
mod summary;
mod tables;
mod transform;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use args::{Args, Places};
use counts::Counts;
use database::Database;
use dead_letters::{DeadLetters, Reasons};
use flight::Layout;
use interruptible::Stop;
use lines::Lines;
use position::Earlier;
use progress::Progress;
use same_file::Identity;
use streamz::{BoxError, CancelToken, Clock, Report, Result};
use summary::{Resumed, Summary, note};
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
    live: bool,
    preload: bool,
}

/// How the work ended.
#[derive(Default)]
struct Ended {
    /// What each stage did; a plain loop has no stages.
    report: Option<Report>,
    /// Whether a second Ctrl-C made it give up rows that it had read.
    aborted: bool,
    /// What stopped it before its time, other than the user.
    fault: Option<BoxError>,
    /// When the work that is timed began, if it did not begin at once.
    began: Option<Instant>,
}

impl Ended {
    /// Whether rows that had been read may have been given up.
    fn was_cut(&self) -> bool {
        self.aborted || self.fault.is_some()
    }
}

fn main() -> ExitCode {
    streamz::locate_panics();
    let args = command_line::parse();
    match args.and_then(|args| args.as_ref().map_or(Ok(ExitCode::SUCCESS), run)) {
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
    let earlier = database::check(&places.database, places.existing)?;
    let head = earlier.as_ref().map_or(0, Earlier::head);
    let input = input::open(&places.input, head, &counts)?;
    let (stop, size, source) = (input.stop.clone(), input.source.size(), input.source.clone());
    if let Some(earlier) = &earlier {
        earlier.check_input(&source, &places.database)?;
    }
    let (mut lines, layout) = Lines::open(input, &counts)?;
    let resumed =
        earlier.as_ref().map(|earlier| resume(earlier, &mut lines, &counts)).transpose()?;
    let tables = Arc::new(Tables::read(&places.airlines, &places.airports)?);
    // The file of an earlier run is emptied only when nothing can go wrong any more.
    let outputs = places.open_outputs()?;
    let database = Database::open(&places.database, places.existing, earlier.as_ref(), source)?;
    let mut dead_letters =
        DeadLetters::new(places.take_dead_letters(outputs)?, &places.dead_letters);
    dead_letters.restore(&database)?;
    let letters = Identity::of_path(&places.dead_letters);

    let progress = Progress::new(!args.quiet && !args.json && !args.live, size);
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
        live: args.live,
        preload: args.preload,
    };
    let clock = Clock::default();
    let started = clock.now();
    let (mut ended, database) = match resumed {
        Some(Resumed { was_complete: true, .. }) => (Ended::default(), job.database),
        _ if args.sequential => sequential::run(job)?,
        _ => pipeline::run(job)?,
    };
    let totals = counts.totals();
    let is_complete = totals.at_end && !ended.was_cut();
    let reasons = database.finish(is_complete.then_some(totals.read)).unwrap_or_else(|error| {
        ended.fault.get_or_insert(error);
        Reasons::new()
    });
    if Identity::of_path(&places.dead_letters) != letters {
        let shown = places.dead_letters.display();
        note(&format!(
            "dead-letter file {shown} has been removed or replaced; all of its rows are in the table dead_letters"
        ));
    }
    let elapsed = clock.now() - ended.began.unwrap_or(started);

    let summary =
        Summary { totals, ended: &ended, places: &places, resumed, reasons: &reasons, elapsed };
    if args.json {
        summary.print_json()?;
    } else if args.picture {
        summary.print_picture()?;
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

/// Takes over what an earlier run has done: skips it in the input, and counts it.
fn resume(earlier: &Earlier, lines: &mut Lines, counts: &Counts) -> Result<Resumed, BoxError> {
    let Earlier { position, loaded, failed } = earlier;
    match position.rows {
        Some(rows) => {
            counts.read.add(rows);
            counts.at_end.store(true, Ordering::Relaxed);
        }
        None => lines.skip_through(position.line)?,
    }
    let rows = counts.read.get();
    counts.loaded.add(*loaded);
    counts.failed.add(*failed);
    counts.cancelled_flights.add(rows.saturating_sub(loaded + failed));
    Ok(Resumed { line: position.line, rows, was_complete: position.rows.is_some() })
}

/// From now on the first Ctrl-C drains, the second aborts, and should even that hang (in a write to a pipe from which
/// no program reads, say) the third ends the program on the spot.
fn listen_to_ctrl_c(
    stop: Stop,
    token: CancelToken,
    progress: Progress,
) -> Result<(), BoxError> {
    let mut pressed = 0;
    ctrlc::set_handler(move || {
        pressed += 1;
        match pressed {
            1 => {
                stop.set();
                token.drain();
                progress.suspend(|| {
                    note("interrupted: loading what was read; Ctrl-C again aborts")
                });
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
