//! Instructions per item: figures that depend neither on the speed of the machine nor on its load.
//!
//! [Valgrind](https://valgrind.org)'s cachegrind counts those of a run with few items and of one with more; the
//! difference, divided by the additional items, is the count for one item. It runs one thread at a time, so the counts
//! say nothing about contention. The median of several runs is compared with a file. The counts of a single thread are
//! nearly the same in each run. Those of several threads depend on how often the threads wait for one another, so a row
//! may exceed the file by its own spread, and is not checked at all if that is large.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::figures::median;
use crate::machine;
use crate::report::aligned;
use crate::run::{Run, this_program};
use crate::works;

/// The excess over the file that is allowed in every row, in percent.
const TOLERANCE: f64 = 5.0;

/// The highest spread of a row that is checked, in percent.
const MAX_SPREAD: f64 = 20.0;

/// The ratio of the items of the longer run to those of the shorter one.
const LONGER: u64 = 5;

/// The rows: work, system, and the items of the shorter run, enough for a thread to switch many times.
const ROWS: [(&str, &str, u64); 14] = [
    ("hop", "streamz", 50_000),
    ("chain5", "streamz", 50_000),
    ("chain5-fused", "streamz-stage", 50_000),
    ("chain5-fused", "streamz-fused", 100_000),
    ("merge", "streamz", 50_000),
    ("router", "streamz", 50_000),
    ("fan-out", "streamz", 20_000),
    ("pool-0.3us-ordered", "streamz", 50_000),
    ("pool-0.3us-unordered-2", "streamz", 50_000),
    ("pool-keyed", "streamz", 50_000),
    ("breaker-call", "streamz", 50_000),
    ("breaker-open", "streamz", 50_000),
    ("keyed-window", "streamz-fused", 200_000),
    ("pipeline-100", "streamz", 100),
];

/// How to use the counts.
pub(crate) enum Then {
    Print,
    /// Fails if one is too high.
    Check,
    /// Replaces those in the file.
    Write,
}

/// One row, counted.
struct Counted {
    work: &'static str,
    system: &'static str,
    /// The median of the rounds.
    per_item: f64,
    /// The difference between the highest and the lowest, in percent of the median.
    spread: f64,
}

pub(crate) fn run(rounds: u32, then: &Then) -> Result<(), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.md");
    let reference = match (std::fs::read_to_string(&path), then) {
        (Ok(reference), _) => reference,
        (Err(error), Then::Check) => return Err(format!("cannot read {}: {error}", path.display())),
        (Err(_), _) => String::new(),
    };
    let counted = ROWS.iter().map(|row| count(*row, rounds)).collect::<Result<Vec<_>, _>>()?;
    println!("{}", comparison(&counted, &reference));
    match then {
        Then::Print => Ok(()),
        Then::Write => write(&path, &page(&counted, rounds)),
        Then::Check => check(&counted, &reference),
    }
}

fn count((work, system, few): (&'static str, &'static str, u64), rounds: u32) -> Result<Counted, String> {
    let many = few * LONGER;
    let mut per_item = Vec::new();
    for _ in 0..rounds {
        let more = of_run(work, system, many)?.saturating_sub(of_run(work, system, few)?);
        per_item.push(more as f64 / (many - few) as f64);
    }
    per_item.sort_by(f64::total_cmp);
    let middle = median(per_item.iter().copied().map(Some)).ok_or("no rounds")?;
    let (Some(lowest), Some(highest)) = (per_item.first(), per_item.last()) else { return Err("no rounds".to_owned()) };
    Ok(Counted { work, system, per_item: middle, spread: (highest - lowest) / middle * 100.0 })
}

/// All instructions of a run in its own process.
fn of_run(work: &str, system: &str, items: u64) -> Result<u64, String> {
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(this_program()?)
        // Work on an item is not counted.
        .args(["run", work, system, &items.to_string(), "--spin-rounds", "0"])
        .output()
        .map_err(|error| format!("cannot start valgrind, which has to be installed: {error}"))?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        return Err(format!("`{system}` of `{work}` failed in valgrind ({}): {stderr}", output.status));
    }
    let work = works::find(work)?;
    let (run, entry) = (stdout.parse::<Run>()?, work.entry(system)?);
    if run.checksum != (work.expected)(&entry.job(items, 0)) {
        return Err(format!("`{system}` of `{}` with {items} items: wrong checksum", work.name));
    }
    total(&stderr).ok_or_else(|| format!("no count of instructions in what valgrind says: {stderr}"))
}

/// The count in cachegrind's output: `==7== I refs:        1,234`, or `I   refs:`.
fn total(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains(" I ") && line.contains("refs:"))?;
    line.split_once("refs:")?.1.trim().replace(',', "").parse().ok()
}

/// Every row compared with that of the file.
fn comparison(counted: &[Counted], reference: &str) -> String {
    let header = ["work", "system", "in the file", "now", "change, %", "spread, %"];
    let mut rows = vec![header.map(str::to_owned)];
    rows.extend(counted.iter().map(|row| {
        let old = in_file(reference, row.work, row.system).map(|(count, _)| count);
        let unknown = || "n/a".to_owned();
        [
            row.work.to_owned(),
            row.system.to_owned(),
            old.map_or_else(unknown, |old| format!("{old:.1}")),
            format!("{:.1}", row.per_item),
            old.map_or_else(unknown, |old| format!("{:+.1}", change(old, row.per_item))),
            format!("{:.1}", row.spread),
        ]
    }));
    aligned(&rows)
}

/// In percent.
fn change(old: f64, new: f64) -> f64 {
    (new / old - 1.0) * 100.0
}

fn check(counted: &[Counted], reference: &str) -> Result<(), String> {
    let mut faults = String::new();
    for row in counted {
        match in_file(reference, row.work, row.system) {
            None => _ = write!(faults, "\n  {} {}: not in the file", row.work, row.system),
            Some((_, spread)) if spread > MAX_SPREAD => {
                println!("{} {}: not checked, for its spread in the file is {spread:.1} %", row.work, row.system);
            }
            Some((old, spread)) if change(old, row.per_item) > spread.max(TOLERANCE) => {
                _ = write!(faults, "\n  {} {}: {:.1} instead of {old:.1}", row.work, row.system, row.per_item);
            }
            Some(_) => {}
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(format!("too many instructions:{faults}")) }
}

/// The count of a row in the file, and its spread in percent.
fn in_file(reference: &str, work: &str, system: &str) -> Option<(f64, f64)> {
    reference.lines().find_map(|line| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let is_it = cells.next()? == work && cells.next()? == system;
        let mut number = || cells.next()?.parse().ok();
        is_it.then(|| Some((number()?, number()?)))?
    })
}

fn page(counted: &[Counted], rounds: u32) -> String {
    let mut rows = vec![["work", "system", "instructions per item", "spread, %"].map(str::to_owned)];
    rows.extend(counted.iter().map(|row| {
        [row.work.to_owned(), row.system.to_owned(), format!("{:.1}", row.per_item), format!("{:.1}", row.spread)]
    }));
    format!(
        "# Instructions per item\n\nWritten by `cargo run --release --manifest-path benches/peers/Cargo.toml -- instructions \
         --write`; with `--check` it\nis compared. [Performance](../../docs/performance.md) says what the figures mean. The median \
         of {rounds} rounds, and the\ndifference between the highest and the lowest. The work on an item of a pool is left \
         out.\n\n{}\n{}",
        aligned(&rows),
        machine::versions(),
    )
}

fn write(path: &PathBuf, page: &str) -> Result<(), String> {
    std::fs::write(path, page).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(per_item: f64) -> Vec<Counted> {
        vec![Counted { work: "hop", system: "streamz", per_item, spread: 0.5 }]
    }

    #[test]
    fn the_total_is_found_in_cachegrinds_output() {
        assert_eq!(total("==7== Cachegrind\n==7== I refs:        1,234,567\n"), Some(1_234_567));
        assert_eq!(total("==7== I   refs:      12\n"), Some(12));
        assert_eq!(total("nothing"), None);
    }

    #[test]
    fn the_written_page_is_the_reference_of_the_next_run() {
        let page = page(&counted(200.0), 3);
        assert_eq!(in_file(&page, "hop", "streamz"), Some((200.0, 0.5)));
        assert_eq!(in_file(&page, "hop", "tokio"), None);
    }

    #[test]
    fn more_than_five_percent_fails() {
        let page = page(&counted(200.0), 3);
        assert!(check(&counted(209.0), &page).is_ok());
        assert!(check(&counted(100.0), &page).is_ok());
        assert!(check(&counted(211.0), &page).unwrap_err().contains("hop streamz: 211.0 instead of 200.0"));
        assert!(check(&counted(200.0), "").unwrap_err().contains("not in the file"));
    }

    #[test]
    fn a_row_may_exceed_the_file_by_its_spread() {
        let row = |spread| Counted { spread, ..counted(200.0).remove(0) };
        let steady = page(&[row(20.0)], 3);
        assert!(check(&counted(239.0), &steady).is_ok());
        assert!(check(&counted(241.0), &steady).is_err());
        let unsteady = page(&[row(20.1)], 3);
        assert!(check(&counted(1_000.0), &unsteady).is_ok(), "not checked");
    }
}
