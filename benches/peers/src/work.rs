//! A work: the systems that do it, and the goal.

use std::time::Duration;

/// The input of one run.
#[derive(Clone, Copy)]
pub(crate) struct Job {
    pub(crate) items: u64,
    pub(crate) workers: usize,
    /// The rounds that the work on one item spins, if it spins.
    pub(crate) spin_rounds: u32,
}

/// The result of one run.
pub(crate) struct Outcome {
    pub(crate) checksum: u64,
    /// Nanoseconds per item; `None` if they are the time of the whole run divided by the number of items.
    pub(crate) nanos: Option<f64>,
}

impl From<u64> for Outcome {
    fn from(checksum: u64) -> Self {
        Self { checksum, nanos: None }
    }
}

/// The same work for several systems.
pub(crate) struct Work {
    pub(crate) name: &'static str,
    /// The work, in one or two sentences.
    pub(crate) about: &'static str,
    /// The unit of the figures.
    pub(crate) unit: &'static str,
    /// How long the work on one item spins; zero if it does not.
    pub(crate) spin: Duration,
    /// The checksum that every run must return: that of the plain loop.
    pub(crate) expected: fn(&Job) -> u64,
    /// The system that the others are compared with.
    pub(crate) reference: &'static str,
    pub(crate) entries: &'static [Entry],
    pub(crate) goals: &'static [Goal],
    /// Notes for readers of the table.
    pub(crate) notes: &'static [&'static str],
    pub(crate) max_rounds: u32,
}

impl Work {
    /// Common values of most works.
    pub(crate) const BASE: Self = Self {
        name: "",
        about: "",
        unit: "ns per item",
        spin: Duration::ZERO,
        expected: |_| 0,
        reference: "",
        entries: &[],
        goals: &[],
        notes: &[],
        max_rounds: u32::MAX,
    };

    /// The rounds that one item spins; does not ask for the speed of the machine if it is not needed.
    pub(crate) fn spin_rounds(&self, per_microsecond: impl FnOnce() -> f64) -> u32 {
        if self.spin.is_zero() { 0 } else { (self.spin.as_secs_f64() * 1e6 * per_microsecond()).round() as u32 }
    }

    pub(crate) fn entry(&self, system: &str) -> Result<&Entry, String> {
        self.entries.iter().find(|entry| entry.system == system).ok_or_else(|| {
            let known: Vec<_> = self.entries.iter().map(|entry| entry.system).collect();
            format!("no system `{system}` in `{}`; there are {}", self.name, known.join(", "))
        })
    }
}

/// One system at one work: a line of the table.
pub(crate) struct Entry {
    /// The system; after a colon, the difference to the same system in another line.
    pub(crate) system: &'static str,
    /// Enough for a run of about half a second.
    pub(crate) items: u64,
    pub(crate) workers: usize,
    pub(crate) run: fn(&Job) -> Outcome,
    /// Runs only on request.
    pub(crate) long: bool,
}

impl Entry {
    pub(crate) const fn new(system: &'static str, items: u64, workers: usize, run: fn(&Job) -> Outcome) -> Self {
        Self { system, items, workers, run, long: false }
    }

    /// The entry, to be run only on request.
    pub(crate) const fn long(mut self) -> Self {
        self.long = true;
        self
    }

    pub(crate) fn is_one_of(&self, systems: &[String]) -> bool {
        let family = self.system.split(':').next();
        systems.is_empty() || systems.iter().any(|system| system == self.system || Some(system.as_str()) == family)
    }

    pub(crate) fn job(&self, items: u64, spin_rounds: u32) -> Job {
        Job { items, workers: self.workers, spin_rounds }
    }
}

/// A goal of ours.
pub(crate) struct Goal {
    pub(crate) text: &'static str,
    pub(crate) figure: Figure,
    pub(crate) bound: Bound,
}

/// A value computed from the runs.
pub(crate) enum Figure {
    /// The median of the first system's time divided by the second's in the same round.
    Ratio(&'static str, &'static str),
    /// The largest of these ratios.
    WorstRatio(&'static str, &'static str),
    /// The time of the slowest round divided by that of the fastest.
    Spread(&'static str),
    /// The median time for an item, in ns.
    Nanos(&'static str),
    /// The median peak memory of the first system divided by that of the second.
    PeakRatio(&'static str, &'static str),
}

/// The range in which a figure has to be.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    AtMost(f64),
    Below(f64),
    AtLeast(f64),
}

impl Bound {
    pub(crate) fn holds(self, figure: f64) -> bool {
        match self {
            Self::AtMost(limit) => figure <= limit,
            Self::Below(limit) => figure < limit,
            Self::AtLeast(limit) => figure >= limit,
        }
    }
}
