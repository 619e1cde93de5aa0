//! Runs: one in this process, or all of a work in child processes, in turn.

use std::collections::HashMap;
use std::fmt;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::time::Instant;

use crate::usage::{Others, Usage, peak_kib};
use crate::work::{Entry, Job, Work};

/// The measurements of one run. Counts of the system are `None` if it does not report them.
pub(crate) struct Run {
    pub(crate) checksum: u64,
    pub(crate) nanos: f64,
    pub(crate) wall: f64,
    pub(crate) cpu: Option<f64>,
    pub(crate) peak_kib: Option<u64>,
    pub(crate) waits: Option<u64>,
    pub(crate) preempted: Option<u64>,
}

/// Runs an entry in this process: from building the pipeline until all its threads have ended.
pub(crate) fn here(entry: &Entry, job: &Job) -> Run {
    let (usage, started) = (Usage::now(), Instant::now());
    let outcome = (entry.run)(job);
    let wall = started.elapsed();
    let used = usage.zip(Usage::now()).map(|(before, after)| after.since(before));
    Run {
        checksum: outcome.checksum,
        nanos: outcome.nanos.unwrap_or(wall.as_secs_f64() * 1e9 / job.items as f64),
        wall: wall.as_secs_f64(),
        cpu: used.map(|used| used.cpu.as_secs_f64()),
        peak_kib: peak_kib(),
        waits: used.map(|used| used.waits),
        preempted: used.map(|used| used.preempted),
    }
}

const UNKNOWN: &str = "n/a";

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn or_unknown<T: ToString>(value: Option<T>) -> String {
            value.map_or_else(|| UNKNOWN.to_owned(), |value| value.to_string())
        }
        write!(f, "checksum={} ns_per_item={} seconds={} ", self.checksum, self.nanos, self.wall)?;
        write!(f, "cpu_seconds={} peak_kib={} ", or_unknown(self.cpu), or_unknown(self.peak_kib))?;
        write!(f, "waits={} preempted={}", or_unknown(self.waits), or_unknown(self.preempted))
    }
}

impl FromStr for Run {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let values: HashMap<_, _> = line.split_whitespace().filter_map(|pair| pair.split_once('=')).collect();
        let value = |key: &str| values.get(key).copied().ok_or_else(|| format!("no `{key}` in `{line}`"));
        Ok(Self {
            checksum: number(value("checksum")?)?,
            nanos: number(value("ns_per_item")?)?,
            wall: number(value("seconds")?)?,
            cpu: if_known(value("cpu_seconds")?)?,
            peak_kib: if_known(value("peak_kib")?)?,
            waits: if_known(value("waits")?)?,
            preempted: if_known(value("preempted")?)?,
        })
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number"))
}

fn if_known<T: FromStr>(text: &str) -> Result<Option<T>, String> {
    if text == UNKNOWN { Ok(None) } else { number(text).map(Some) }
}

/// All runs of one entry, one per round.
pub(crate) struct Samples {
    pub(crate) entry: &'static Entry,
    /// Whether another build of this program ran it.
    pub(crate) is_before: bool,
    pub(crate) items: u64,
    pub(crate) runs: Vec<Run>,
}

impl Samples {
    /// The system, as the table names it.
    pub(crate) fn name(&self) -> String {
        let Self { entry: Entry { system, .. }, is_before, .. } = self;
        if *is_before { format!("{system} (before)") } else { (*system).to_owned() }
    }
}

/// All runs of a work.
pub(crate) struct Measured {
    pub(crate) samples: Vec<Samples>,
    /// How many CPU cores were busy with other work, on average.
    pub(crate) others: Option<f64>,
}

/// The items of the shortest run.
const FEWEST: u64 = 50;

/// What to run, and how often.
pub(crate) struct Plan<'a> {
    pub(crate) rounds: u32,
    pub(crate) quick: bool,
    pub(crate) long: bool,
    /// Empty for all of them.
    pub(crate) systems: &'a [String],
    pub(crate) spin_rounds: u32,
    /// Another build of this program, whose streamz also takes part.
    pub(crate) before: Option<&'a Path>,
}

impl Plan<'_> {
    /// Runs the systems of a work in turn, each run in its own process, and compares every checksum.
    pub(crate) fn carry_out(&self, work: &'static Work) -> Result<Measured, String> {
        let mut samples = self.lines(work);
        let mut expected = HashMap::new();
        let others = Others::watch();
        let rounds = if self.quick { 1 } else { self.rounds.min(work.max_rounds) };
        for round in 1..=rounds {
            for line in &mut samples {
                let name = line.name();
                progress(&format!("{} {round}/{rounds} {name}", work.name));
                let run = self.in_child(work, line)?;
                let Samples { entry, items, runs, .. } = line;
                let expected =
                    *expected.entry(*items).or_insert_with(|| (work.expected)(&entry.job(*items, self.spin_rounds)));
                if run.checksum != expected {
                    return Err(format!(
                        "`{name}` of `{}` with {items} items: checksum {} instead of {expected}",
                        work.name, run.checksum
                    ));
                }
                runs.push(run);
            }
        }
        progress("");
        Ok(Measured { samples, others: others.and_then(|others| others.cores()) })
    }

    /// The lines of the table, without figures.
    fn lines(&self, work: &'static Work) -> Vec<Samples> {
        let wanted = |entry: &&Entry| entry.is_one_of(self.systems) && (self.long || !entry.long);
        let builds = |entry: &'static Entry| {
            let has_before = self.before.is_some() && entry.system.starts_with("streamz");
            let builds: &[bool] = if has_before { &[false, true] } else { &[false] };
            builds.iter().map(move |&is_before| (entry, is_before))
        };
        let line = |(entry, is_before)| Samples { entry, is_before, items: self.items(entry), runs: Vec::new() };
        work.entries.iter().filter(wanted).flat_map(builds).map(line).collect()
    }

    /// Runs few items on the other build, and returns whether it takes part.
    pub(crate) fn try_before(&self, work: &'static Work) -> Result<bool, String> {
        let lines: Vec<_> = self.lines(work).into_iter().filter(|line| line.is_before).collect();
        for line in &lines {
            self.in_child(work, &Samples { items: FEWEST, runs: Vec::new(), ..*line })?;
        }
        Ok(!lines.is_empty())
    }

    fn items(&self, entry: &Entry) -> u64 {
        if self.quick { (entry.items / 20).max(FEWEST) } else { entry.items }
    }

    fn in_child(&self, work: &Work, line: &Samples) -> Result<Run, String> {
        let program = match self.before.filter(|_| line.is_before) {
            Some(other) => other.to_owned(),
            None => this_program()?,
        };
        let output = Command::new(&program)
            .args(["run", work.name, line.entry.system, &line.items.to_string()])
            .args(["--spin-rounds", &self.spin_rounds.to_string()])
            .output()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr);
            return Err(format!("`{}` of `{}` failed ({}): {message}", line.name(), work.name, output.status));
        }
        let printed = String::from_utf8_lossy(&output.stdout);
        printed.parse().map_err(|fault| {
            format!("what {} prints of `{}` of `{}`: {fault}", program.display(), line.name(), work.name)
        })
    }
}

pub(crate) fn this_program() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))
}

/// Replaces the line at the bottom of the terminal, if there is one.
fn progress(text: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_reads_what_its_child_prints() {
        let line = "checksum=7 ns_per_item=1.5 seconds=0.25 cpu_seconds=n/a peak_kib=3000 waits=n/a preempted=2";
        assert_eq!(line.parse::<Run>().unwrap().to_string(), line);
    }
}
