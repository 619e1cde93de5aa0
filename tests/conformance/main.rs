//! One list of promises, run over every operator.
//!
//! An operator is registered once, in `operators/`; from that it is put through every promise in `promises/`. A public
//! operator that is not registered fails the suite. Each pair of promise and operator is a test of its own:
//!
//! ```text
//! cargo test --test conformance                     # all
//! cargo test --test conformance -- cancel Batcher   # those whose names contain both words
//! ```
//!
//! The suite has a runner of its own, because it looks at the threads of its process: each case is known by its
//! pipeline's name, and at the end the process must have the threads it began with.

#![allow(unreachable_pub, reason = "a test has no public interface")]

#[path = "../common/mod.rs"]
mod common;
mod coverage;
mod operators;
mod promises;
mod rig;
mod subject;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::watchdog::{self, Trouble};
use common::{faults, threads};

/// How long a case may take, in real time, before it counts as hung. It takes milliseconds.
const LIMIT: Duration = Duration::from_secs(60);

/// How many cases run side by side.
const LANES: usize = 3;

/// A promise and an operator.
struct Case {
    name: String,
    run: Box<dyn FnOnce() + Send>,
}

impl Case {
    fn new(name: impl Into<String>, run: impl FnOnce() + Send + 'static) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

fn main() -> ExitCode {
    faults::silence();
    threads::start_shared_pool();
    let (options, words): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|arg| arg.starts_with('-'));
    let mut cases = operators::cases();
    cases.push(Case::new("registry: every public operator is registered", coverage::every_operator_is_registered));
    let all = cases.len();
    cases.retain(|case| words.iter().all(|word| case.name.contains(word.as_str())));
    if options.iter().any(|option| option == "--list") {
        cases.iter().for_each(|case| println!("{}: test", case.name));
        return ExitCode::SUCCESS;
    }
    run(cases, all)
}

fn run(cases: Vec<Case>, all: usize) -> ExitCode {
    let count = cases.len();
    println!("running {count} of {all} cases");
    let failures = Mutex::new(Vec::new());
    let hung = AtomicUsize::new(0);
    let before = threads::count_of_ours();
    let queue = Mutex::new(cases.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..LANES.min(count) {
            scope.spawn(|| {
                loop {
                    let Some(Case { name, run }) = queue.lock().unwrap().next() else { break };
                    let Err(trouble) = watchdog::run(LIMIT, &name, run) else { continue };
                    hung.fetch_add(usize::from(matches!(trouble, Trouble::Hung)), Ordering::Relaxed);
                    failures.lock().unwrap().push((name, trouble));
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    // A hung case keeps its threads, and says so itself.
    if hung.into_inner() == 0
        && let Err(trouble) = watchdog::run(LIMIT, "threads", move || {
            while threads::count_of_ours() > before {
                std::thread::yield_now();
            }
        })
    {
        println!("threads left behind: {:?}", threads::all());
        failures.push(("the whole suite: all threads gone".to_owned(), trouble));
    }
    failures.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (name, trouble) in &failures {
        println!("\nFAILED {name}");
        match trouble {
            Trouble::Hung => println!("  did not end within {LIMIT:?}"),
            Trouble::Panicked(message) => println!("  {}", message.replace('\n', "\n  ")),
        }
    }
    println!("\nconformance: {} passed, {} failed", count.saturating_sub(failures.len()), failures.len());
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
