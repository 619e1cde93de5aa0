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

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::instructions::Then;
use crate::work::{Job, Work};

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
        items: u64,
        /// The rounds that the work on one item spins, if it spins; measured unless given.
        #[arg(long)]
        spin_rounds: Option<u32>,
        /// The number of workers, instead of that in the table.
        #[arg(long)]
        workers: Option<usize>,
    },
    /// Counts the instructions per item with valgrind, and compares them with `instructions.md`.
    Instructions {
        /// The number of times each row is counted; the median is used.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
        /// Fails if an item takes over 5 % more instructions than in the file, and more than the spread of its row.
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
    /// The requested works.
    fn chosen(&self) -> Result<Vec<&'static Work>, String> {
        if self.works.is_empty() {
            return Ok(works::ALL.to_vec());
        }
        self.works.iter().map(|name| works::find(name)).collect()
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

fn one_run(
    work: &str,
    system: &str,
    items: u64,
    spin_rounds: Option<u32>,
    workers: Option<usize>,
) -> Result<(), String> {
    let work = works::find(work)?;
    let entry = work.entry(system)?;
    let spin_rounds = spin_rounds.unwrap_or_else(|| work.spin_rounds(steps::rounds_per_microsecond));
    let job = Job { workers: workers.unwrap_or(entry.workers), ..entry.job(items, spin_rounds) };
    println!("{}", run::here(entry, &job));
    Ok(())
}

fn compare(comparison: &Comparison) -> Result<(), String> {
    let chosen = comparison.chosen()?;
    let facts = machine::facts(if comparison.quick { 1 } else { comparison.rounds });
    let per_microsecond = steps::rounds_per_microsecond();
    let mut sections = String::new();
    for work in chosen {
        let plan = run::Plan {
            rounds: comparison.rounds,
            quick: comparison.quick,
            long: comparison.long,
            systems: &comparison.systems,
            spin_rounds: work.spin_rounds(|| per_microsecond),
            before: comparison.before.as_deref(),
        };
        let mut measured = plan.carry_out(work)?;
        if measured.samples.is_empty() {
            continue;
        }
        println!("{}", report::section(work, &measured, !comparison.quick));
        measured.samples.retain(|line| !line.is_before);
        sections.push_str(&report::section(work, &measured, !comparison.quick));
        sections.push('\n');
    }
    if sections.is_empty() {
        return Err(format!("none of the works has a system `{}`", comparison.systems.join("` or `")));
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
