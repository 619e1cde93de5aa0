//! Random pipelines, ended in every way there is at a random moment.
//!
//! Each case is made from a seed: sources, operators (fused and not), capacities, failures and panics in closures, who
//! reads what and how, and how it all ends. Whatever happens, it must end; no thread may be left; every item must be
//! dropped exactly once; every item must be accounted for. What came out must be a prefix of what a plain sequential model of the
//! same operators makes of the input, and all of it if the pipeline came to its end or was drained.
//!
//! Some sources are inboxes, and some branches end in an outbox that may refuse records, confirm late, fail or panic. A record
//! must not be acknowledged while anything that was made of it is in flight, nor if an outbox failed to write it; after a clean
//! end or a drain all must be acknowledged.
//!
//! ```text
//! STREAMZ_FUZZ_CASES=100000 cargo test --release --test fuzz      # many
//! STREAMZ_FUZZ_SEED=123 cargo test --test fuzz                    # one case, again and again: threads differ
//! ```
//!
//! A new operator joins in with one function and one line in `operators`, or in `forks` if it has several outputs.

mod case;
#[path = "../common/mod.rs"]
mod common;
mod endings;
mod expected;
mod forks;
mod operators;
mod outbox;
mod sources;
mod trace;

use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::faults;
use common::watchdog::{self, Trouble};

/// How long a case may take, in real time, and how long a pipeline may take to come to rest. They take a millisecond; but
/// on a machine with far more to do than it can, a process may wait for its turn for as long as a minute.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

const DEFAULT_CASES: u64 = 2_000;

/// How many cases run side by side: more than there are processors, so that threads are interrupted anywhere. Another
/// number by STREAMZ_FUZZ_LANES.
const LANES: u64 = 4;

/// The parts of the current case, for the report of its failure.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn note(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().join("\n  ")
    }
}

fn setting<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

#[test]
fn random_pipelines_keep_every_promise() {
    faults::silence();
    common::threads::start_shared_pool();
    let one: Option<u64> = setting("STREAMZ_FUZZ_SEED");
    let cases = setting("STREAMZ_FUZZ_CASES").unwrap_or(DEFAULT_CASES);
    let lanes = setting("STREAMZ_FUZZ_LANES").unwrap_or(LANES);
    let base = fastrand::u64(..);
    let next = AtomicU64::new(0);
    let failed = AtomicU64::new(0);
    let before = common::threads::count_of_ours();
    std::thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= cases || failed.load(Ordering::Relaxed) > 0 {
                        return;
                    }
                    // Seeds far apart, so that no two runs of the suite try the same cases.
                    let seed = one.unwrap_or_else(|| fastrand::Rng::with_seed(base.wrapping_add(number)).u64(..));
                    if let Err(report) = run(seed) {
                        failed.fetch_add(1, Ordering::Relaxed);
                        eprintln!("{report}");
                    }
                }
            });
        }
    });
    assert_eq!(failed.into_inner(), 0, "see above; this was after {} cases", next.into_inner());
    let gone = watchdog::run(LIMIT, "threads", move || {
        while common::threads::count_of_ours() > before {
            std::thread::yield_now();
        }
    });
    assert!(gone.is_ok(), "threads left behind: {:?}", common::threads::all());
}

fn run(seed: u64) -> Result<(), String> {
    let log = Log::default();
    let trouble = match watchdog::run(LIMIT, "fuzz", {
        let log = log.clone();
        move || case::run(seed, &log)
    }) {
        Ok(()) => return Ok(()),
        Err(Trouble::Hung) => format!("it did not end within {LIMIT:?}; threads: {:?}", common::threads::all()),
        Err(Trouble::Panicked(message)) => message,
    };
    let report = format!("case failed: {trouble}\nrun it again with STREAMZ_FUZZ_SEED={seed}\n  {}", log.text());
    if std::env::var_os("STREAMZ_FUZZ_HOLD").is_some() {
        eprintln!("{report}\nprocess {} is held for a debugger", std::process::id());
        std::thread::park();
    }
    Err(report)
}
