//! The same work on streamz and on its peers, checksummed, each run in a process of its own.
//!
//! Without arguments it runs everything and prints the tables; `--write` also puts them into `docs/performance.md`.

mod figures;
mod instructions;
mod machine;
mod page;
mod report;
mod run;
mod steps;
mod usage;
mod work;
mod works;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::instructions::Then;
use crate::work::{Entry, Job, Work};

/// Compares streamz with its peers.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    comparison: Comparison,
}

#[derive(Subcommand)]
enum Command {
    /// One run of one system, in this process.
    Run {
        work: String,
        system: String,
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        items: u64,
        /// The rounds that the work on one item spins, if it spins; measured unless given.
        #[arg(long)]
        spin_rounds: Option<u32>,
        /// The number of workers, instead of that in the table.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
        workers: Option<u16>,
    },
    /// Counts the instructions per item with valgrind, and compares them with `instructions.md`.
    Instructions {
        /// The number of times each row is counted; the median is used.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
        /// Fails if an item takes over 5 % more instructions than in the file, and more than the spread of its row. Rows
        /// whose spread is over 20 % are not checked.
        #[arg(long)]
        check: bool,
        /// Replaces the file.
        #[arg(long, conflicts_with = "check")]
        write: bool,
    },
}

#[derive(Args)]
struct Comparison {
    /// How often each system runs, in turn.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Runs one round of few items: checks the checksums; the figures are meaningless.
    #[arg(long, conflicts_with_all = ["rounds", "long", "write"])]
    quick: bool,
    /// Includes runs that take half a minute each.
    #[arg(long)]
    long: bool,
    /// Runs only these works.
    #[arg(long, value_delimiter = ',', value_name = "WORK")]
    works: Vec<String>,
    /// Runs only these systems; `streamz` includes `streamz:1` and `streamz:2`.
    #[arg(long, value_delimiter = ',', value_name = "SYSTEM")]
    systems: Vec<String>,
    /// Also runs the streamz of another build of this program, such as one of an earlier commit. Its figures are printed,
    /// not written.
    #[arg(long, value_name = "PROGRAM")]
    before: Option<PathBuf>,
    /// Replaces the figures in `docs/performance.md`.
    #[arg(long, conflicts_with_all = ["works", "systems"])]
    write: bool,
}

impl Comparison {
    /// The requested works, which have the requested systems.
    fn chosen(&self) -> Result<Vec<&'static Work>, String> {
        let chosen: Vec<_> = match &self.works[..] {
            [] => works::ALL.to_vec(),
            names => names.iter().map(|name| works::find(name)).collect::<Result<_, _>>()?,
        };
        let entries = || chosen.iter().flat_map(|work| work.entries);
        let of_system = |entry: &Entry, system: &String| entry.is_one_of(std::slice::from_ref(system));
        let is_known = |system: &String| entries().any(|entry| of_system(entry, system));
        if let Some(unknown) = self.systems.iter().find(|system| !is_known(system)) {
            let known: BTreeSet<_> = entries().map(|entry| entry.system).collect();
            let known: Vec<_> = known.into_iter().collect();
            return Err(format!("no system `{unknown}` in these works; there are {}", known.join(", ")));
        }
        let runs = |system: &String| entries().any(|entry| of_system(entry, system) && (self.long || !entry.long));
        if let Some(long) = self.systems.iter().find(|system| !runs(system)) {
            return Err(format!("`{long}` runs only with --long"));
        }
        Ok(chosen)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        Some(Command::Run { work, system, items, spin_rounds, workers }) => {
            one_run(&work, &system, items, spin_rounds, workers)
        }
        Some(Command::Instructions { rounds, check, write }) => instructions::run(
            rounds,
            &if write {
                Then::Write
            } else if check {
                Then::Check
            } else {
                Then::Print
            },
        ),
        None => compare(&arguments.comparison),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn one_run(work: &str, system: &str, items: u64, spin_rounds: Option<u32>, workers: Option<u16>) -> Result<(), String> {
    let work = works::find(work)?;
    let entry = work.entry(system)?;
    let spin_rounds = spin_rounds.unwrap_or_else(|| work.spin_rounds(steps::rounds_per_microsecond));
    let job = Job { workers: workers.map_or(entry.workers, usize::from), ..entry.job(items, spin_rounds) };
    println!("{}", run::here(entry, &job));
    Ok(())
}

fn compare(comparison: &Comparison) -> Result<(), String> {
    let chosen = comparison.chosen()?;
    let facts = machine::facts(if comparison.quick { 1 } else { comparison.rounds });
    let per_microsecond = steps::rounds_per_microsecond();
    let plan = |work: &Work| run::Plan {
        rounds: comparison.rounds,
        quick: comparison.quick,
        long: comparison.long,
        systems: &comparison.systems,
        spin_rounds: work.spin_rounds(|| per_microsecond),
        before: comparison.before.as_deref(),
    };
    // The other build is tried first: it may lack a work.
    if let Some(before) = &comparison.before {
        let mut used = false;
        for work in &chosen {
            used |= plan(work).try_before(work)?;
        }
        if !used {
            return Err(format!("no run for `--before {}`: none of the systems is streamz", before.display()));
        }
    }
    let mut sections = String::new();
    for work in chosen {
        let plan = plan(work);
        let mut measured = plan.carry_out(work)?;
        if measured.samples.is_empty() {
            continue;
        }
        println!("{}", report::section(work, &measured, !comparison.quick));
        print!("{}", report::before(&measured.samples));
        measured.samples.retain(|line| !line.is_before);
        sections.push_str(&report::section(work, &measured, !comparison.quick));
        sections.push('\n');
    }
    println!("{facts}");
    if comparison.quick {
        println!("All checksums are right. The figures of a quick run mean nothing.");
    }
    if comparison.write {
        page::write(&format!("{facts}\n{sections}"))?;
    }
    Ok(())
}
