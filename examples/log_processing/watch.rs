//! Detection of bursts, and of clients that behave unlike any visitor.
//!
//! Everything uses the time of the log. Each request is judged at once, against the window before it: a
//! [`TumblingWindow`](streamz::TumblingWindow) would report at its end, and would see half of an event that crosses its
//! boundary.
//!
//! Times come from unknown clocks. Lines may be slightly out of order, two machines may not agree, and one line may be
//! off by years. So nothing here moves on to the latest time, or restarts when time goes back: a minute is compared
//! with the minutes before it, and a client is watched by two clocks at a time.

use std::collections::VecDeque;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use compact_str::CompactString;
use serde::Serialize;

use crate::args::Args;
use crate::lines::At;
use crate::record::Record;
use crate::tables::{Client, Minutes};
use crate::threat::Threat;

/// The number of minutes that define the usual number of requests, and how many of them must have been seen.
const USUAL: (usize, usize) = (10, 5);

/// A minute needs more requests than this to be a burst, whatever is usual.
const MIN_BURST: u64 = 30;

/// The number of ordered requests before a silence that makes the silence credible. Otherwise a clock may be wrong, or
/// two may take turns.
const BELIEVED: u64 = 30;

/// The number of seconds by which time may go back without being noticed: many servers write a line at the end of a
/// request, with the time of its beginning.
pub(crate) const BACK: i64 = 60;

/// An alert.
#[derive(Debug, Clone)]
pub(crate) struct Alert {
    pub(crate) what: What,
    /// Empty for a burst.
    pub(crate) client: Option<CompactString>,
    pub(crate) time: i64,
    /// The line that showed it.
    pub(crate) at: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub(crate) enum What {
    /// More requests in a minute than usual.
    Burst { usual: u64, limit: u64 },
    /// Many errors of one client.
    Errors { count: u16, window: u32 },
    /// Many different paths of one client.
    Scan { paths: u16, window: u32 },
    /// A request that attacks or probes the server.
    Probe { threat: Threat },
}

impl What {
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Burst { .. } => "burst",
            Self::Errors { .. } => "errors",
            Self::Scan { .. } => "scan",
            Self::Probe { .. } => "probe",
        }
    }

    pub(crate) fn describe(self) -> String {
        match self {
            Self::Burst { usual, limit } => {
                format!("more than {limit} requests in this minute, usual are {usual}")
            }
            Self::Errors { count, window } => format!("{count} errors within {window} s"),
            Self::Scan { paths, window } => {
                format!("{paths} different paths within {window} s")
            }
            Self::Probe { threat } => threat.describe().to_owned(),
        }
    }
}

/// Examines each request, and reports findings.
pub(crate) struct Watch {
    window: i64,
    max_errors: usize,
    max_paths: usize,
    pace: Pace,
    /// The previous request.
    previous: Option<Moment>,
    pub(crate) backwards: Backwards,
}

/// A time of the log, and its line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) time: i64,
    pub(crate) at: At,
}

/// How often time went back.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Backwards {
    pub(crate) count: u64,
    /// From where to where it first went back.
    pub(crate) first: Option<(Moment, Moment)>,
    /// The number of requests since it last went back.
    since: Option<u64>,
}

/// The state of a client: no more than is needed to detect that a limit is reached, even when the clocks of two
/// machines take turns.
#[derive(Debug, Default)]
pub(crate) struct ClientWatch {
    /// The times of its latest errors.
    errors: VecDeque<i64>,
    /// The requested paths, as hashes, with the time of the last request.
    paths: Vec<(u64, i64)>,
    /// The latest time of each of the two most recent clocks: times that are a window apart belong to two clocks.
    clocks: [i64; 2],
}

impl Watch {
    pub(crate) fn new(args: &Args) -> Self {
        Self {
            window: args.window.into(),
            max_errors: args.max_errors.into(),
            max_paths: args.max_paths.into(),
            pace: Pace { factor: args.burst, minute: i64::MIN, limit: None },
            previous: None,
            backwards: Backwards::default(),
        }
    }

    /// Examines a request with the state of its client; calls `found` for each current finding. The request has been
    /// counted in `minutes`.
    pub(crate) fn see(
        &mut self,
        record: &Record,
        client: &mut Client,
        minutes: &Minutes,
        mut found: impl FnMut(Alert),
    ) {
        let Record { time, at, .. } = *record;
        self.look_back(Moment { time, at });
        let in_order = self.backwards.since.is_none_or(|since| since >= BELIEVED);
        if let Some((usual, limit)) = self.pace.exceeded(minutes, in_order) {
            found(Alert { what: What::Burst { usual, limit }, client: None, time, at });
        }
        let mut suspicious =
            |what| found(Alert { what, client: Some(record.client.clone()), time, at });
        let watch = &mut client.watch;
        let window = self.window as u32;
        if record.status >= 400 && watch.too_many_errors(time, self.window, self.max_errors) {
            suspicious(What::Errors { count: self.max_errors as u16, window });
        }
        if watch.too_many_paths(&record.path, time, self.window, self.max_paths) {
            suspicious(What::Scan { paths: self.max_paths as u16, window });
        }
        if let Some(threat) = record.threat {
            suspicious(What::Probe { threat });
        }
    }

    fn look_back(&mut self, now: Moment) {
        self.backwards.since = self.backwards.since.map(|since| since + 1);
        if let Some(before) = self.previous.replace(now)
            && now.time < before.time - BACK
        {
            self.backwards.count += 1;
            self.backwards.first.get_or_insert((before, now));
            self.backwards.since = Some(0);
        }
    }
}

impl ClientWatch {
    /// Notes an error. Returns true if it and at least `max - 1` others are within the window.
    fn too_many_errors(&mut self, time: i64, window: i64, max: usize) -> bool {
        // Of two clocks that take turns, one has at least half of the errors.
        if self.errors.len() == 2 * max {
            self.errors.pop_front();
        }
        self.errors.push_back(time);
        self.errors.len() >= max && within(self.errors.iter().copied(), time, window) >= max
    }

    /// Notes a path. Returns true if it is a new one, and at least the `max`-th within the window.
    fn too_many_paths(&mut self, path: &str, time: i64, window: i64, max: usize) -> bool {
        self.hear(time, window);
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(path);
        if let Some((_, last)) = self.paths.iter_mut().find(|(known, _)| *known == hash) {
            *last = time;
            return false;
        }
        if self.paths.len() >= max - 1 {
            self.paths.retain(|(_, last)| {
                self.clocks.iter().any(|clock| (clock - last).abs() < window)
            });
        }
        if self.paths.len() == 2 * max {
            // For each clock, no more than necessary.
            self.paths.remove(0);
        }
        self.paths.push((hash, time));
        self.paths.len() >= max
            && within(self.paths.iter().map(|(_, last)| *last), time, window) >= max
    }

    /// Moves the clock of this time, or replaces the least recent clock.
    fn hear(&mut self, time: i64, window: i64) {
        if (time - self.clocks[0]).abs() >= window {
            self.clocks.swap(0, 1);
        }
        self.clocks[0] = time;
    }
}

/// The number of these times in the window that ends with the latest of them that is less than a window ahead of
/// `time`. Both the window and the part ahead are half open: of two times a window apart, one is within.
fn within(times: impl Iterator<Item = i64> + Clone, time: i64, window: i64) -> usize {
    let end = times.clone().filter(|it| *it < time + window).fold(time, i64::max);
    times.filter(|it| *it <= end && end - *it < window).count()
}

/// The maximum number of requests in a minute, given the usual number.
struct Pace {
    factor: f64,
    /// The last judged minute, with its usual number and its limit.
    minute: i64,
    limit: Option<(u64, u64)>,
}

impl Pace {
    /// If the minute that was added to last has more requests than usual, returns the usual number and the limit.
    fn exceeded(&mut self, minutes: &Minutes, in_order: bool) -> Option<(u64, u64)> {
        let (minute, count) = minutes.last();
        if minute != self.minute {
            self.minute = minute;
            self.limit = Self::usual(minutes, minute, in_order).map(|usual| {
                let limit = ((usual * self.factor) as u64).max(MIN_BURST);
                (usual.round() as u64, limit)
            });
        }
        self.limit.filter(|&(_, limit)| count > limit)
    }

    /// The mean of the previous minutes, if enough of them are known. Minutes without requests are known, too, if the
    /// lines are in order.
    fn usual(minutes: &Minutes, minute: i64, in_order: bool) -> Option<f64> {
        let (mut sum, mut known, mut earlier) = (0, 0, 0);
        for (before, count) in minutes.before(minute) {
            let distance = minute.saturating_sub(before) as usize;
            if distance <= USUAL.0 {
                sum += count;
                known = if in_order { distance } else { known + 1 };
            } else if in_order && earlier < BELIEVED {
                earlier += count;
            } else {
                break;
            }
        }
        if earlier >= BELIEVED {
            known = USUAL.0;
        }
        (known >= USUAL.1).then(|| sum as f64 / known as f64)
    }
}
