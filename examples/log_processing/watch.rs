//! What is looked for: bursts, and clients that behave as no visitor does.
//!
//! Everything goes by the time of the log. Lines a little out of order are judged as they come. Each request is judged at
//! once, against what lies within the window before it: a [`TumblingWindow`](streamz::TumblingWindow) would tell at its end,
//! and would see half of what lies across its border.

use std::collections::VecDeque;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use compact_str::CompactString;
use serde::Serialize;

use crate::args::Args;
use crate::lines::At;
use crate::record::Record;
use crate::tables::Client;
use crate::threat::Threat;

/// How many minutes make the usual number of requests, and how many of them must have been seen.
const USUAL: (usize, usize) = (10, 5);

/// A minute with so few requests is no burst, whatever is usual.
const MIN_BURST: u64 = 30;

/// Something that somebody should know.
#[derive(Debug, Clone)]
pub(crate) struct Alert {
    pub(crate) what: What,
    /// Nobody for a burst.
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
    /// A request that nobody makes by mistake.
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
            Self::Burst { usual, limit } => format!("more than {limit} requests in this minute, usual are {usual}"),
            Self::Errors { count, window } => format!("{count} errors within {window} s"),
            Self::Scan { paths, window } => format!("{paths} different paths within {window} s"),
            Self::Probe { threat } => threat.describe().to_owned(),
        }
    }
}

/// Looks at each request, and finds what there is to find.
pub(crate) struct Watch {
    window: i64,
    max_errors: usize,
    max_paths: usize,
    pace: Pace,
}

/// What is remembered of a client: no more than it takes to see that a limit is reached.
#[derive(Debug, Default)]
pub(crate) struct ClientWatch {
    last: i64,
    /// The times of its latest errors.
    errors: VecDeque<i64>,
    /// The paths it has asked for, as hashes, and when it last did.
    paths: Vec<(u64, i64)>,
}

impl Watch {
    pub(crate) fn new(args: &Args) -> Self {
        Self {
            window: args.window.into(),
            max_errors: args.max_errors.into(),
            max_paths: args.max_paths.into(),
            pace: Pace::new(args.burst),
        }
    }

    /// Looks at a request and what is known of its client; calls `found` for each thing that is wrong now, as long as it
    /// is wrong.
    pub(crate) fn see(&mut self, record: &Record, client: &mut Client, mut found: impl FnMut(Alert)) {
        let Record { time, at, .. } = *record;
        if let Some((usual, limit)) = self.pace.exceeded(time, self.window) {
            found(Alert { what: What::Burst { usual, limit }, client: None, time, at });
        }
        let mut suspicious = |what| found(Alert { what, client: Some(record.client.clone()), time, at });
        let watch = &mut client.watch;
        if time < watch.last - self.window {
            // Another file, older than the one before: what was remembered says nothing about it.
            *watch = ClientWatch::default();
        }
        watch.last = watch.last.max(time);
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
}

impl ClientWatch {
    /// Notes an error; true if it and the `max - 1` before it lie within the window, its beginning included.
    fn too_many_errors(&mut self, time: i64, window: i64, max: usize) -> bool {
        if self.errors.len() == max {
            self.errors.pop_front();
        }
        self.errors.push_back(time);
        self.errors.len() == max && self.errors.front().is_some_and(|first| time - first < window)
    }

    /// Notes a path; true if it is a new one, and the `max`-th within the window.
    fn too_many_paths(&mut self, path: &str, time: i64, window: i64, max: usize) -> bool {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(path);
        if let Some((_, last)) = self.paths.iter_mut().find(|(known, _)| *known == hash) {
            *last = time.max(*last);
            return false;
        }
        if self.paths.len() >= max - 1 {
            self.paths.retain(|(_, last)| time - last < window);
        }
        if self.paths.len() == max {
            // As many as it takes are enough.
            let oldest = (0..max).min_by_key(|index| self.paths[*index].1);
            oldest.map(|oldest| self.paths.swap_remove(oldest));
        }
        self.paths.push((hash, time));
        self.paths.len() == max
    }
}

/// How many requests there are in a minute, and how many there usually are.
struct Pace {
    factor: f64,
    minute: i64,
    count: u64,
    /// The minutes before.
    recent: VecDeque<u64>,
    limit: Option<(u64, u64)>,
}

impl Pace {
    fn new(factor: f64) -> Self {
        Self { factor, minute: i64::MIN, count: 0, recent: VecDeque::new(), limit: None }
    }

    /// Counts a request; if there are more in this minute than is usual, returns what is usual, and the limit.
    fn exceeded(&mut self, time: i64, window: i64) -> Option<(u64, u64)> {
        let minute = time.div_euclid(60);
        if minute > self.minute {
            self.turn_to(minute);
        } else if minute < self.minute {
            if time >= self.minute * 60 - window {
                // A straggler: its minute is over, and was judged.
                return None;
            }
            *self = Self::new(self.factor);
            self.minute = minute;
        }
        self.count += 1;
        self.limit.filter(|&(_, limit)| self.count > limit)
    }

    fn turn_to(&mut self, minute: i64) {
        let silent = minute.saturating_sub(self.minute) - 1;
        if self.minute != i64::MIN {
            let silent = usize::try_from(silent).unwrap_or(usize::MAX).min(USUAL.0);
            self.recent.extend(std::iter::once(self.count).chain(std::iter::repeat_n(0, silent)));
            let surplus = self.recent.len().saturating_sub(USUAL.0);
            self.recent.drain(..surplus);
        }
        (self.minute, self.count) = (minute, 0);
        self.limit = (self.recent.len() >= USUAL.1).then(|| {
            let mean = self.recent.iter().sum::<u64>() as f64 / self.recent.len() as f64;
            (mean.round() as u64, ((mean * self.factor) as u64).max(MIN_BURST))
        });
    }
}
