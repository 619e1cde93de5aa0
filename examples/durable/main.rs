//! Payments that survive crashes: a producer and three workers share a journal, each a process of its own, and are killed
//! again and again. At the end every payment is counted.
//!
//! `cargo run --release --example durable` runs all of it; `-- --help` tells more.

#![allow(clippy::disallowed_methods, reason = "it watches processes, in real time")]

mod check;
mod table;
mod work;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use streamz_journal::Journal;

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Kills the processes of a pipeline while it works, and shows that nothing was lost.
///
/// A producer appends payments to a journal, a SQLite file. Three worker processes take them, check them in a pool, write the
/// good ones to a topic `done` and the bad ones to a topic `dead`. A record is acknowledged after it has been written there.
/// Meanwhile a process is killed (SIGKILL) at random moments, and started again. At the end each payment must be in one of the
/// two topics.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// How many payments are made.
    #[arg(long, default_value_t = 30_000)]
    payments: u64,
    /// How many times a process is killed.
    #[arg(long, default_value_t = 12)]
    kills: u32,
    /// How many worker processes there are.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// Where the journal is kept; it must not be there yet. Without this it is removed at the end.
    #[arg(long)]
    journal: Option<PathBuf>,
    /// For repeatable kills.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What this process is: set by the program itself.
    #[arg(long, hide = true)]
    role: Option<Role>,
    /// The name of this process.
    #[arg(long, hide = true, default_value = "")]
    name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    Producer,
    Worker,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match args.role {
        None => supervise(&args),
        Some(role) => {
            let path = args.journal.as_deref().unwrap_or(Path::new(""));
            match role {
                Role::Producer => work::produce(path, args.payments),
                Role::Worker => work::work(path, &args.name),
            }
            .map(|()| true)
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Whoever read the output has seen enough.
        Err(error) if is_closed_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("durable: {error}");
            ExitCode::FAILURE
        }
    }
}

fn is_closed_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// A process that is started again when it has been killed.
struct Process {
    role: Role,
    name: String,
    child: Child,
}

impl Process {
    fn start(args: &Args, path: &Path, role: Role, name: String) -> Fallible<Self> {
        let role_name = if role == Role::Producer { "producer" } else { "worker" };
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--role", role_name, "--name", &name, "--payments", &args.payments.to_string(), "--journal"]);
        let child = command.arg(path).stdin(Stdio::null()).spawn()?;
        Ok(Self { role, name, child })
    }

    /// Kills it without a warning, and starts it again.
    fn kill_and_restart(&mut self, args: &Args, path: &Path) -> Fallible<()> {
        self.child.kill()?;
        self.child.wait()?;
        *self = Self::start(args, path, self.role, self.name.clone())?;
        Ok(())
    }
}

/// However this process ends, the others end as well.
impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the others, kills them, shows how it goes, and counts at the end. False if something is missing.
fn supervise(args: &Args) -> Fallible<bool> {
    let directory = tempfile::tempdir()?;
    let path = args.journal.clone().unwrap_or_else(|| directory.path().join("payments.journal"));
    if path.exists() {
        return Err(format!("{} is there already", path.display()).into());
    }
    let journal = Journal::open(&path).map_err(|error| format!("cannot make the journal: {error}"))?;
    let mut out = io::stdout().lock();
    writeln!(out, "{} payments, 1 producer, {} workers, {} kills\n", args.payments, args.workers, args.kills)?;

    let mut processes = vec![Process::start(args, &path, Role::Producer, "producer".to_owned())?];
    for number in 1..=args.workers {
        processes.push(Process::start(args, &path, Role::Worker, format!("worker-{number}"))?);
    }
    let mut rng = fastrand::Rng::with_seed(args.seed);
    let mut table = table::Table::new();
    let mut next_kill = Instant::now() + Duration::from_millis(200);
    let mut kills = 0;
    loop {
        let progress = work::progress(&journal)?;
        let is_over = progress.appended == args.payments && progress.unacknowledged == 0;
        if is_over || table.is_due() {
            table.show(&mut out, &progress, kills)?;
        }
        if is_over {
            break;
        }
        if kills < args.kills && Instant::now() >= next_kill {
            let victim = rng.usize(..processes.len());
            // The producer may have done its work.
            if processes[victim].child.try_wait()?.is_none() {
                processes[victim].kill_and_restart(args, &path)?;
                kills += 1;
            }
            next_kill = Instant::now() + Duration::from_millis(rng.u64(50..400));
        }
        for process in &mut processes {
            if let Some(status) = process.child.try_wait()?
                && !status.success()
            {
                return Err(format!("{} ended by itself: {status}", process.name).into());
            }
        }
        // This is a program that watches others: it has nothing to wait for but the time.
        work::pause(Duration::from_millis(20));
    }
    drop(processes);
    let found = check::count(&journal, args.payments)?;
    if args.journal.is_some() {
        writeln!(out, "\nthe journal is kept in {}", path.display())?;
    }
    writeln!(out, "\n{found}")?;
    Ok(found.is_complete())
}
