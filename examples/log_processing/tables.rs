//! The counts, in tables that do not grow with the log.

use std::collections::BTreeMap;

use compact_str::CompactString;
use hashlink::LruCache;

use crate::record::Record;
use crate::threat::Threat;
use crate::watch::ClientWatch;

/// The number of minutes stored: a week.
const MAX_MINUTES: usize = 7 * 24 * 60;

/// The total counts, and the counts of each client, path and minute.
pub(crate) struct Tables {
    pub(crate) requests: u64,
    /// [`u64::MAX`] means that or more, here and for each client: sizes come from outside, and may be any number.
    pub(crate) bytes: u64,
    /// Of the earliest and the latest request.
    pub(crate) span: Option<(i64, i64)>,
    statuses: Box<[u64; 1000]>,
    threats: BTreeMap<Threat, u64>,
    pub(crate) minutes: Minutes,
    pub(crate) clients: Bounded<Client>,
    pub(crate) paths: Bounded<Path>,
}

#[derive(Debug, Default)]
pub(crate) struct Client {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) bytes: u64,
    pub(crate) watch: ClientWatch,
}

#[derive(Debug, Default)]
pub(crate) struct Path {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
}

impl Tables {
    pub(crate) fn new(max_keys: usize) -> Self {
        Self {
            requests: 0,
            bytes: 0,
            span: None,
            statuses: Box::new([0; 1000]),
            threats: BTreeMap::new(),
            minutes: Minutes::default(),
            clients: Bounded::new(max_keys),
            paths: Bounded::new(max_keys),
        }
    }

    /// Counts a request; returns the counts of its client, and of the minutes.
    pub(crate) fn add(&mut self, record: &Record) -> (&mut Client, &Minutes) {
        let is_error = u64::from(record.status >= 400);
        self.requests += 1;
        self.bytes = self.bytes.saturating_add(record.bytes);
        let (first, last) = self.span.unwrap_or((record.time, record.time));
        self.span = Some((first.min(record.time), last.max(record.time)));
        self.statuses[usize::from(record.status)] += 1;
        self.minutes.add(record.time.div_euclid(60), class(record.status));
        if let Some(threat) = record.threat {
            *self.threats.entry(threat).or_default() += 1;
        }
        let evicted = |path: &Path| path.requests;
        let path = self.paths.get(&record.path, evicted);
        path.requests += 1;
        path.errors += is_error;
        let evicted = |client: &Client| client.requests;
        let client = self.clients.get(&record.client, evicted);
        client.requests += 1;
        client.errors += is_error;
        client.bytes = client.bytes.saturating_add(record.bytes);
        (client, &self.minutes)
    }

    /// How often each status occurred.
    pub(crate) fn statuses(&self) -> impl Iterator<Item = (u16, u64)> {
        (0..).zip(self.statuses.iter().copied()).filter(|&(_, count)| count > 0)
    }

    pub(crate) fn threats(&self) -> impl Iterator<Item = (Threat, u64)> {
        self.threats.iter().map(|(threat, count)| (*threat, *count))
    }

    /// Contradictions between the tables. There are none.
    pub(crate) fn contradiction(&self) -> Option<String> {
        let statuses: u64 = self.statuses.iter().sum();
        let minutes =
            self.minutes.iter().map(|(_, minute)| minute.iter().sum::<u64>()).sum::<u64>();
        let clients: u64 = self.clients.iter().map(|(_, client)| client.requests).sum();
        let paths: u64 = self.paths.iter().map(|(_, path)| path.requests).sum();
        let sums = [
            ("statuses", statuses),
            ("minutes", minutes + self.minutes.evicted.requests),
            ("clients", clients + self.clients.evicted.requests),
            ("paths", paths + self.paths.evicted.requests),
        ];
        let (table, sum) = sums.into_iter().find(|&(_, sum)| sum != self.requests)?;
        Some(format!(
            "{} requests were counted, {sum} are in the table of {table}",
            self.requests
        ))
    }
}

/// The entries that were evicted to make room.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub(crate) struct Evicted {
    pub(crate) keys: u64,
    /// The requests that were counted under those keys.
    pub(crate) requests: u64,
}

impl Evicted {
    fn add(&mut self, requests: u64) {
        self.keys += 1;
        self.requests += requests;
    }
}

/// A table with room for a fixed number of keys: a new one evicts the least recently seen.
pub(crate) struct Bounded<V> {
    entries: LruCache<CompactString, V>,
    max_keys: usize,
    pub(crate) evicted: Evicted,
}

impl<V: Default> Bounded<V> {
    fn new(max_keys: usize) -> Self {
        // The bound is enforced here, so that evictions can be counted.
        Self { entries: LruCache::new_unbounded(), max_keys, evicted: Evicted::default() }
    }

    fn get(&mut self, key: &CompactString, requests: impl Fn(&V) -> u64) -> &mut V {
        if self.entries.get(key).is_none() {
            if self.entries.len() == self.max_keys
                && let Some((_, value)) = self.entries.remove_lru()
            {
                self.evicted.add(requests(&value));
            }
            self.entries.insert(key.clone(), V::default());
        }
        self.entries.peek_mut(key).expect("it was there or has been put there")
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&CompactString, &V)> {
        self.entries.iter()
    }

    /// The first `n` in descending order of a number; equal ones in the order of their keys.
    pub(crate) fn top(
        &self,
        n: usize,
        number: impl Fn(&V) -> u64,
    ) -> Vec<(&CompactString, &V)> {
        let mut entries: Vec<_> = self.iter().filter(|(_, value)| number(value) > 0).collect();
        let order = |(a_key, a): &(&CompactString, &V), (b_key, b): &(&CompactString, &V)| {
            number(b).cmp(&number(a)).then_with(|| a_key.cmp(b_key))
        };
        if n < entries.len() {
            entries.select_nth_unstable_by(n, order);
            entries.truncate(n);
        }
        entries.sort_unstable_by(order);
        entries
    }
}

/// The number of requests of each class: 1xx, 2xx, 3xx, 4xx, 5xx, and beyond.
pub(crate) type Classes = [u64; 6];

pub(crate) const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];

pub(crate) fn class(status: u16) -> usize {
    match status {
        100..600 => usize::from(status / 100) - 1,
        _ => 5,
    }
}

/// The classes of requests in each minute, the latest ones.
#[derive(Debug, Default)]
pub(crate) struct Minutes {
    minutes: BTreeMap<i64, Classes>,
    /// The minute that was added to last, and how many requests it has.
    last: (i64, u64),
    pub(crate) evicted: Evicted,
}

impl Minutes {
    fn add(&mut self, minute: i64, class: usize) {
        let classes = self.minutes.entry(minute).or_default();
        classes[class] += 1;
        self.last = (minute, classes.iter().sum());
        if self.minutes.len() > MAX_MINUTES
            && let Some((_, oldest)) = self.minutes.pop_first()
        {
            self.evicted.add(oldest.iter().sum());
        }
    }

    /// The minute that was added to last, and how many requests it has.
    pub(crate) fn last(&self) -> (i64, u64) {
        self.last
    }

    /// In the order of time; minutes without requests are left out.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, &Classes)> {
        self.minutes.iter().map(|(minute, classes)| (*minute, classes))
    }

    /// The minutes before one, the latest first, and how many requests they have; minutes without requests are left out.
    pub(crate) fn before(&self, minute: i64) -> impl Iterator<Item = (i64, u64)> {
        self.minutes
            .range(..minute)
            .rev()
            .map(|(minute, classes)| (*minute, classes.iter().sum()))
    }
}
