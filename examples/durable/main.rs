//! Payments that survive crashes: a producer and three workers, each a separate process, share a journal and are
//! repeatedly killed. At the end every payment is counted.
//!
//! `cargo run --release --example durable` runs all of it, and needs no server. With `-- --redis redis://localhost` the same
//! runs on Redis. Kafka's client takes minutes to compile, so it is a feature:
//! `cargo run --release -p streamz-durable --features kafka --example durable -- --kafka localhost:9092`.

#![allow(clippy::disallowed_methods, reason = "it watches processes, in real time")]

mod check;
#[path = "../common/command_line.rs"]
mod command_line;
mod journal;
#[cfg(feature = "kafka")]
mod kafka;
mod redis;
mod store;
mod table;
mod work;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};

use crate::store::Store;
use crate::work::Topics;

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Kills the processes of a pipeline while it works, and shows that nothing was lost.
///
/// A producer appends payments to a journal, an SQLite file, or to a server. Three worker processes take them, check them in a pool, write the
/// good ones to a topic `done` and the bad ones to a topic `dead`. A record is acknowledged after it has been written there.
/// During the run a process is killed (SIGKILL) at random moments, and started again. At the end each payment must be in one of the
/// two topics.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// How many payments are made.
    #[arg(long, default_value_t = 30_000)]
    payments: u64,
    /// How many times a process is killed, if the work takes that long.
    #[arg(long, default_value_t = 12)]
    kills: u32,
    /// How many worker processes there are.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// Where the journal is kept; it must not be there yet. Without this it is removed at the end.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["redis", "kafka"])]
    journal: Option<PathBuf>,
    /// Uses a Redis server, 7 or newer, such as `redis://localhost`. The streams are removed at the end.
    #[arg(long, value_name = "URL", conflicts_with = "kafka")]
    redis: Option<String>,
    /// Uses Kafka brokers, such as `localhost:9092`. The topics are removed at the end.
    #[arg(long, value_name = "BROKERS")]
    kafka: Option<String>,
    /// For repeatable kills.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What the names of the topics begin with: set by the program itself.
    #[arg(long, hide = true, default_value = "")]
    run: String,
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
    streamz::locate_panics();
    let args = command_line::parse();
    match args.and_then(|args| args.map_or(Ok(true), run)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // The reader of the output has closed it.
        Err(error) if is_closed_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("durable: {error}");
            ExitCode::FAILURE
        }
    }
}

fn is_closed_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn run(mut args: Args) -> Fallible<bool> {
    // It is removed when this process ends.
    let mut directory = None;
    let is_first = args.role.is_none();
    if args.redis.is_some() || args.kafka.is_some() {
        if is_first {
            args.run = format!("{:08x}", fastrand::u32(..));
        }
    } else if args.journal.is_none() {
        let path = directory.insert(tempfile::tempdir()?).path().join("payments.journal");
        args.journal = Some(path);
    } else if is_first && let Some(path) = args.journal.as_ref().filter(|path| path.exists()) {
        return Err(format!("{} is there already", path.display()).into());
    }
    if let Some(url) = &args.redis {
        play(&redis::InRedis::connect(url)?, &args)
    } else if let Some(brokers) = &args.kafka {
        on_kafka(brokers, &args)
    } else {
        let path = args.journal.as_ref().expect("chosen above");
        let found = play(&journal::InJournal::open(path)?, &args)?;
        if is_first && directory.is_none() {
            writeln!(io::stdout(), "the journal is kept in {}", path.display())?;
        }
        Ok(found)
    }
}

#[cfg(feature = "kafka")]
fn on_kafka(brokers: &str, args: &Args) -> Fallible<bool> {
    let store = kafka::InKafka::connect(brokers, work::GROUP)?;
    if args.role.is_none() {
        store.prepare(&Topics::of_run(&args.run).all())?;
    }
    play(&store, args)
}

#[cfg(not(feature = "kafka"))]
fn on_kafka(_: &str, _: &Args) -> Fallible<bool> {
    Err("this program was built without Kafka's client, which takes minutes to compile:\n  \
         cargo run --release -p streamz-durable --features kafka --example durable -- --kafka BROKERS"
        .into())
}

/// The work of this process. Returns false if something is missing.
fn play<S: Store>(store: &S, args: &Args) -> Fallible<bool> {
    let topics = Topics::of_run(&args.run);
    match args.role {
        None => supervise(store, &topics, args),
        Some(Role::Producer) => work::produce(store, &topics, args.payments).map(|()| true),
        Some(Role::Worker) => work::work(store, &topics, &args.name).map(|()| true),
    }
}

/// A process that is restarted when it has been killed.
struct Process {
    role: Role,
    name: String,
    child: Child,
}

impl Process {
    fn start(args: &Args, role: Role, name: String) -> Fallible<Self> {
        let role_name = if role == Role::Producer { "producer" } else { "worker" };
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--role", role_name, "--name", &name, "--run", &args.run]);
        command.args(["--payments", &args.payments.to_string()]);
        let place: [(&str, Option<OsString>); 3] = [
            ("--journal", args.journal.clone().map(Into::into)),
            ("--redis", args.redis.clone().map(Into::into)),
            ("--kafka", args.kafka.clone().map(Into::into)),
        ];
        for (option, value) in place {
            if let Some(value) = value {
                command.arg(option).arg(value);
            }
        }
        Ok(Self { role, name, child: command.stdin(Stdio::null()).spawn()? })
    }

    /// Kills it without a warning, and restarts it.
    fn kill_and_restart(&mut self, args: &Args) -> Fallible<()> {
        self.child.kill()?;
        self.child.wait()?;
        *self = Self::start(args, self.role, self.name.clone())?;
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

/// Starts the others, kills them, shows the progress, and counts at the end. Returns false if something is missing.
fn supervise<S: Store>(store: &S, topics: &Topics, args: &Args) -> Fallible<bool> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{} payments, 1 producer, {} workers, at most {} kills\n",
        args.payments, args.workers, args.kills
    )?;

    let mut processes = vec![Process::start(args, Role::Producer, "producer".to_owned())?];
    for number in 1..=args.workers {
        processes.push(Process::start(args, Role::Worker, format!("worker-{number}"))?);
    }
    let mut rng = fastrand::Rng::with_seed(args.seed);
    let mut table = table::Table::new();
    let mut next_kill = Instant::now() + Duration::from_millis(200);
    let (mut kills, mut last) = (0, 0);
    loop {
        let mut is_made = false;
        for process in &mut processes {
            match process.child.try_wait()? {
                None => {}
                Some(status) if status.success() => is_made |= process.role == Role::Producer,
                Some(status) => {
                    return Err(format!("{} ended by itself: {status}", process.name).into());
                }
            }
        }
        let progress = work::progress(store, topics)?;
        let is_over = is_made && progress.group.unacknowledged == 0;
        if is_over || table.is_due() {
            table.show(&mut out, &progress, kills)?;
        }
        if is_over {
            break;
        }
        // A process that is killed before it has started shows nothing, so there is some progress between two kills.
        if kills < args.kills
            && Instant::now() >= next_kill
            && (kills == 0 || progress.acknowledged() > last)
        {
            let victim = rng.usize(..processes.len());
            // The producer may have finished.
            if processes[victim].child.try_wait()?.is_none() {
                processes[victim].kill_and_restart(args)?;
                kills += 1;
                last = progress.acknowledged();
            }
            next_kill = Instant::now() + Duration::from_millis(rng.u64(50..400));
        }
        // This program watches others: it can only wait for time to pass.
        work::pause(Duration::from_millis(20));
    }
    drop(processes);
    let found = check::count(store, topics, args.payments)?;
    store.remove(&topics.all())?;
    writeln!(out, "\n{found}")?;
    Ok(found.is_complete())
}
