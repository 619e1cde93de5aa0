//! The command line, and the files it stands for.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Parser;
use streamz::{BoxError, Result};

use crate::same_file::{Identity, Outputs, Refusal};

/// The options that name outputs.
const DATABASE: &str = "--database";
const DEAD_LETTERS: &str = "--dead-letters";

/// What SQLite adds to the name of a database for the files that it keeps beside it.
pub(crate) const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

const MORE_HELP: &str = "\
Without --input it loads the flights that left New York in January 2013, which are included.

Input:
  CSV in UTF-8, plain or gzip. The first line names the columns, in any order and in upper or
  lower case; other columns are ignored. Required are year, month, day, dep_time, sched_dep_time,
  dep_delay, arr_time, sched_arr_time, arr_delay, carrier, flight, tailnum, origin, dest,
  air_time, distance, hour, minute, time_hour. An empty field is a missing value, and so is NA. A
  flight without dep_time was cancelled: it is counted and not loaded. Fields may be quoted. Each
  line is one row: a quoted field cannot contain a line break. Blank lines are skipped. A line
  may have 8 kB. Of compressed files only gzip is read; unpack others first:

      xz -dc flights.csv.xz | etl --input - --database flights.db

Values:
  Times of day are numbers from 0 to 2359, such as 517 for 5:17; 2400 is midnight at the end of
  a day. hour and minute must be those of sched_dep_time. A date must exist, and air_time and
  distance must not be negative. time_hour must have a Z or an offset from UTC, and is loaded in
  UTC: 2013-01-01T05:00:00-05:00 as 2013-01-01T10:00:00Z.

Rows that cannot be loaded:
  They go to the dead-letter file, one JSON object per line: {\"line\", \"stage\", \"reason\", \"raw\"},
  and to the table dead_letters of the database. The job still succeeds, unless no row at all
  could be loaded.

Resume:
  Each transaction stores the position in the input together with the rows. So a run that was
  killed at any moment, interrupted, or stopped by an error can be continued: the same command
  with --resume ends with the same database and the same dead-letter file as an undisturbed run.
  Without a database it starts from the beginning, so --resume can be used for the first run,
  too. If everything was loaded already, it says so. The totals are those of all runs together.
  The input must be the same: its size, unless it is a pipe, and its first 64 KiB are compared.
  It may have another name, or come from standard input; loaded rows are skipped. Give the same
  --airports and --airlines. A run that is still in progress stops when another one resumes its
  database.

Outputs:
  No output may be an input or another output, under any name.

Exit status:
  0    everything was processed; also if standard output was closed
  1    any other failure; also if rows failed and none was loaded
  2    invalid arguments
  130  interrupted with Ctrl-C, SIGTERM or SIGHUP; committed rows stay
";

/// Loads flights from a CSV file into an SQLite database.
#[derive(Debug, Parser)]
#[command(
    name = "etl",
    after_help = MORE_HELP
)]
pub(crate) struct Args {
    /// Flights to load: CSV, plain or gzip; `-` is standard input
    #[arg(long, value_name = "FILE", requires = "database")]
    input: Option<PathBuf>,

    /// Names and coordinates of airports (columns faa, name, lat, lon) [default: included]
    #[arg(long, value_name = "FILE")]
    airports: Option<PathBuf>,

    /// Names of airlines (columns carrier, name) [default: included]
    #[arg(long, value_name = "FILE")]
    airlines: Option<PathBuf>,

    /// SQLite database to create [default without --input: target/etl/flights.db, which is replaced]
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,

    /// File for the rows that failed, which is replaced [default: beside the database, OUT.db -> OUT.failed.jsonl, OUT -> OUT.failed.jsonl]
    #[arg(long, value_name = "FILE")]
    dead_letters: Option<PathBuf>,

    /// Number of threads that enrich rows [default: one per CPU core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,

    /// Replace the database if it exists
    #[arg(long)]
    force: bool,

    /// Continue a run that was killed or interrupted, or start from the beginning
    #[arg(long, conflicts_with = "force")]
    resume: bool,

    /// Print one line of JSON instead of the summary
    #[arg(long)]
    pub(crate) json: bool,

    /// Print a diagram of the pipeline, in Mermaid, instead of the summary
    #[arg(long, conflicts_with_all = ["json", "sequential"])]
    pub(crate) picture: bool,

    /// Print no progress and no summary
    #[arg(long)]
    pub(crate) quiet: bool,

    /// Show a live table of the stages instead of a progress bar, if standard error is a terminal
    #[arg(long)]
    pub(crate) live: bool,

    /// Do the same work as a plain loop in one thread, for comparison
    #[arg(long, conflicts_with_all = ["workers", "live"])]
    pub(crate) sequential: bool,

    /// With --sequential: measure only the loading of rows that are in memory, on one thread
    #[arg(long, requires = "sequential")]
    pub(crate) preload: bool,
}

impl Args {
    pub(crate) fn workers(&self) -> usize {
        match self.workers {
            Some(workers) => workers.into(),
            None => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
        }
    }
}

/// What to do with a database that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    Refuse,
    Replace,
    Resume,
}

/// The files of a run.
pub(crate) struct Places {
    pub(crate) input: PathBuf,
    pub(crate) airports: PathBuf,
    pub(crate) airlines: PathBuf,
    pub(crate) database: PathBuf,
    pub(crate) dead_letters: PathBuf,
    pub(crate) existing: Existing,
}

impl Places {
    pub(crate) fn of(args: &Args) -> Result<Self, BoxError> {
        // Beside the folder of this program.
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("data");
        let shipped = |given: &Option<PathBuf>, name: &str| {
            given.clone().unwrap_or_else(|| data.join(name))
        };
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
            None if database.extension().is_some_and(|extension| extension == "db") => {
                database.with_extension("failed.jsonl")
            }
            // Those of `2013.01` and `2013.02` differ in what only looks like an extension.
            None => beside(&database, ".failed.jsonl"),
        };
        // SQLite keeps its files beside the file itself, not beside a link to it.
        let database = followed(database);
        let places = Self {
            input: shipped(&args.input, "flights-2013-01.csv.gz"),
            airports: shipped(&args.airports, "airports.csv"),
            airlines: shipped(&args.airlines, "airlines.csv"),
            existing: match args.database {
                _ if args.resume => Existing::Resume,
                Some(_) if !args.force => Existing::Refuse,
                _ => Existing::Replace,
            },
            database,
            dead_letters,
        };
        places.check()?;
        Ok(places)
    }

    /// Files that are read, and what to call them.
    fn inputs(&self) -> Vec<(String, Identity)> {
        let input = if is_std(&self.input) {
            Identity::of_stdin()
        } else {
            Identity::of_path(&self.input)
        };
        let name = if is_std(&self.input) {
            "standard input".to_owned()
        } else {
            self.input.display().to_string()
        };
        let tables = [&self.airports, &self.airlines]
            .map(|path| (path.display().to_string(), Identity::of_path(path)));
        let all = std::iter::once((name, input)).chain(tables);
        all.filter_map(|(name, identity)| Some((format!("an input: {name}"), identity?)))
            .collect()
    }

    /// The files that SQLite writes, as far as they are there.
    fn database_files(&self) -> Vec<Identity> {
        let beside = BESIDE.map(|suffix| beside(&self.database, suffix));
        std::iter::once(&self.database)
            .chain(&beside)
            .filter_map(|path| Identity::of_path(path))
            .collect()
    }

    /// Outputs are emptied or replaced: a slip on the command line must not cost the user an input.
    fn check(&self) -> Result<(), BoxError> {
        let inputs = self.inputs();
        let find = |output: &Identity| {
            inputs.iter().find(|(_, input)| input == output).map(|(name, _)| name)
        };
        for file in self.database_files() {
            if let Some(input) = find(&file) {
                return Err(format!(
                    "{DATABASE} {} or a file beside it is {input}",
                    self.database.display()
                )
                .into());
            }
        }
        // Looked at again when it is open; but opening what another program has to read, a pipe, may wait.
        if let Some(input) = Identity::of_path(&self.dead_letters).as_ref().and_then(find) {
            return Err(
                format!("{DEAD_LETTERS} {} is {input}", self.dead_letters.display()).into()
            );
        }
        for (name, output) in Identity::of_std_outputs() {
            if let Some(input) = find(&output) {
                return Err(format!("{name} is {input}").into());
            }
            if self.database_files().contains(&output) {
                return Err(format!(
                    "{DATABASE} and {name} are the same file: {}",
                    self.database.display()
                )
                .into());
            }
        }
        Ok(())
    }

    /// Opens the dead-letter file, which keeps what it holds until [`Outputs::take`].
    pub(crate) fn open_outputs(&self) -> Result<Outputs, BoxError> {
        let output = (DEAD_LETTERS, "dead-letter file", self.dead_letters.as_path());
        let used = || {
            let database =
                self.database_files().into_iter().map(|file| (DATABASE.to_owned(), file));
            let std_outputs = Identity::of_std_outputs()
                .into_iter()
                .map(|(name, file)| (name.to_owned(), file));
            self.inputs().into_iter().chain(database).chain(std_outputs).collect()
        };
        Outputs::open([output], used).map_err(|refusal| match refusal {
            Refusal::Used { path, other, .. } if !other.starts_with("an input") => {
                format!("{other} and {DEAD_LETTERS} are the same file: {}", path.display())
                    .into()
            }
            refusal => refusal.into(),
        })
    }

    /// The dead-letter file of [`open_outputs`](Self::open_outputs), emptied.
    pub(crate) fn take_dead_letters(
        &self,
        mut outputs: Outputs,
    ) -> Result<std::fs::File, BoxError> {
        let taken = outputs
            .take(DEAD_LETTERS)
            .map_err(failure("cannot write to dead-letter file", &self.dead_letters))?;
        taken.map(|(file, _)| file).ok_or_else(|| "the dead-letter file was not opened".into())
    }
}

/// A file beside a database, whose name is that of the database and a suffix.
pub(crate) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut file = database.as_os_str().to_owned();
    file.push(suffix);
    file.into()
}

/// `etl` in cargo's target folder, if this program is there, which is `target/release/examples/etl`.
fn default_folder() -> Result<PathBuf, BoxError> {
    let program = std::env::current_exe()
        .map_err(|error| format!("cannot find this program: {error}"))?;
    match program
        .parent()
        .filter(|folder| folder.ends_with("examples"))
        .and_then(|folder| folder.ancestors().nth(2))
    {
        Some(target) => Ok(target.join("etl")),
        None => Err("this program is not where cargo puts it: give a --database".into()),
    }
}

pub(crate) fn is_std(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// For `map_err`: what could not be done to which file, and why.
pub(crate) fn failure<E: std::error::Error>(
    what: &str,
    path: &Path,
) -> impl FnOnce(E) -> BoxError {
    move |error| format!("{what} {}: {error}", path.display()).into()
}

/// The file that a link names, if it is one; it need not exist.
fn followed(mut path: PathBuf) -> PathBuf {
    // As many as Linux follows.
    for _ in 0..40 {
        match (path.parent(), path.read_link()) {
            (Some(folder), Ok(target)) => path = folder.join(target),
            _ => break,
        }
    }
    path
}
