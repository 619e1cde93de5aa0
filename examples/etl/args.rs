//! The command line, and the files it stands for.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Parser;
use streamz::{BoxError, Result};

/// Loads flights from a CSV file into an SQLite database.
#[derive(Debug, Parser)]
#[command(
    name = "etl",
    after_help = "Without --input it loads the flights that left New York in January 2013, which are shipped with it.\n\n\
        Rows that cannot be loaded go to the dead-letter file, one JSON object per line: {\"line\", \"stage\", \
        \"reason\", \"raw\"}. One line of the input is one row. Blank lines are skipped.\n\n\
        Exit status: 0 if everything was read and dealt with, 130 if it was interrupted with Ctrl-C, 2 if the \
        arguments are wrong, 1 for any other failure. Rows that could not be loaded are no failure of the job."
)]
pub(crate) struct Args {
    /// Flights to load: CSV, plain or gzip; `-` is standard input
    #[arg(long, value_name = "FILE", requires = "database")]
    input: Option<PathBuf>,

    /// Names and coordinates of airports (columns faa, name, lat, lon) [default: the shipped ones]
    #[arg(long, value_name = "FILE")]
    airports: Option<PathBuf>,

    /// Names of airlines (columns carrier, name) [default: the shipped ones]
    #[arg(long, value_name = "FILE")]
    airlines: Option<PathBuf>,

    /// SQLite database to create [default without --input: target/etl/flights.db, made anew each time]
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,

    /// File for the rows that failed; what it held is replaced [default: beside the database, OUT.db -> OUT.failed.jsonl]
    #[arg(long, value_name = "FILE")]
    dead_letters: Option<PathBuf>,

    /// Threads that enrich [default: one per processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,

    /// Replace the database if it exists
    #[arg(long)]
    force: bool,

    /// Print one line of JSON instead of the summary
    #[arg(long)]
    pub(crate) json: bool,

    /// Print no progress and no summary
    #[arg(long)]
    pub(crate) quiet: bool,

    /// Do the same work as a plain loop in one thread, for comparison
    #[arg(long, conflicts_with = "workers")]
    pub(crate) sequential: bool,
}

impl Args {
    pub(crate) fn workers(&self) -> usize {
        match self.workers {
            Some(workers) => workers.into(),
            None => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
        }
    }
}

/// The files of a run.
pub(crate) struct Places {
    pub(crate) input: PathBuf,
    pub(crate) airports: PathBuf,
    pub(crate) airlines: PathBuf,
    pub(crate) database: PathBuf,
    pub(crate) dead_letters: PathBuf,
    /// Whether a database that exists is replaced.
    pub(crate) replace: bool,
}

impl Places {
    pub(crate) fn of(args: &Args) -> Result<Self, BoxError> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let data = root.join("examples/data");
        let shipped = |given: &Option<PathBuf>, name: &str| given.clone().unwrap_or_else(|| data.join(name));
        let database = match &args.database {
            // An absolute path is never mistaken for one of SQLite's special names, such as `:memory:`.
            Some(path) => std::path::absolute(path).map_err(failure("cannot find", path))?,
            None => {
                let folder = default_folder()?;
                std::fs::create_dir_all(&folder).map_err(failure("cannot create", &folder))?;
                folder.join("flights.db")
            }
        };
        let dead_letters = match &args.dead_letters {
            Some(path) => std::path::absolute(path).map_err(failure("cannot find", path))?,
            None => database.with_extension("failed.jsonl"),
        };
        let places = Self {
            input: shipped(&args.input, "flights-2013-01.csv.gz"),
            airports: shipped(&args.airports, "airports.csv"),
            airlines: shipped(&args.airlines, "airlines.csv"),
            replace: args.force || args.database.is_none(),
            database,
            dead_letters,
        };
        places.check_inputs()?;
        places.check_outputs()?;
        Ok(places)
    }

    /// Outputs are emptied at the start: a slip on the command line must not cost the user an input.
    fn check_inputs(&self) -> Result<(), BoxError> {
        let inputs = [&self.input, &self.airports, &self.airlines];
        for (option, output) in [("--database", &self.database), ("--dead-letters", &self.dead_letters)] {
            if let Some(input) = inputs.into_iter().find(|input| same_file(input, output)) {
                return Err(format!("{option} {} is an input: {}", output.display(), input.display()).into());
            }
        }
        Ok(())
    }

    /// The outputs must be two. Two names for one file are noticed only when it is there, so this is asked again then.
    pub(crate) fn check_outputs(&self) -> Result<(), BoxError> {
        if self.database == self.dead_letters || same_file(&self.database, &self.dead_letters) {
            return Err(format!("--database and --dead-letters are the same file: {}", self.database.display()).into());
        }
        Ok(())
    }
}

/// `etl` in cargo's target folder, if this program is there, which is `target/release/examples/etl`.
fn default_folder() -> Result<PathBuf, BoxError> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    match program.parent().filter(|folder| folder.ends_with("examples")).and_then(|folder| folder.ancestors().nth(2)) {
        Some(target) => Ok(target.join("etl")),
        None => Err("this program is not where cargo puts it: give a --database".into()),
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b && a.is_file())
}

/// For `map_err`: what could not be done to which file, and why.
pub(crate) fn failure<E: std::error::Error>(what: &str, path: &Path) -> impl FnOnce(E) -> BoxError {
    move |error| format!("{what} {}: {error}", path.display()).into()
}
