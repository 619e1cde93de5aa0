//! [`Search`]: takes over pending records that no consumer is processing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use streamz::delivery::Delivery;

use crate::clock::now;
use crate::error::Error;
use crate::group::{Group, Range};
use crate::id::EntryId;
use crate::record::{Receipt, Record};
use crate::reply;
use crate::shared::Shared;

/// Searches the pending entries of the group periodically.
///
/// - Entries in flight in this process are passed over, even if another consumer has taken them over since: they are
///   being processed here.
/// - XAUTOCLAIM would not do: it also takes over entries that this consumer is processing, and its reply has no
///   delivery counts.
#[derive(Debug)]
pub(crate) struct Search {
    lease: Duration,
    interval: Duration,
    /// Whether entries are deleted after they have been acknowledged: then a missing one is not a loss.
    delete: bool,
    /// The search in progress.
    cursor: Option<Cursor>,
    /// When the next one starts.
    due: Instant,
    /// When the last one for expired leases started.
    begun: Instant,
}

/// A place among the pending entries.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    stream: usize,
    after: Option<EntryId>,
    /// Looks for entries that this consumer held before. Expired ones come after that.
    own: bool,
}

impl Search {
    /// Starts with the entries that this consumer held before.
    pub(crate) fn new(lease: Duration, interval: Duration, delete: bool) -> Self {
        let now = now();
        let mut search = Self { lease, interval, delete, cursor: None, due: now, begun: now };
        search.restart();
        search
    }

    /// Looks for entries that this consumer holds without this process knowing of them, and then for expired leases.
    pub(crate) fn restart(&mut self) {
        self.cursor = Some(Cursor { stream: 0, after: None, own: true });
    }

    /// When [`advance`](Self::advance) has something to do.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// Lets the next search start at this time at the latest.
    pub(crate) fn begin_by(&mut self, due: Instant) {
        self.due = self.due.min(due);
    }

    /// When the last search for expired leases started.
    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    /// Starts a search if one is due, and continues it until it has found something or has ended.
    pub(crate) fn advance(
        &mut self,
        group: &mut Group,
        shared: &Shared,
        most: usize,
        records: &mut Vec<Delivery<Record, Receipt>>,
    ) -> Result<(), Error> {
        if self.cursor.is_none() && (shared.take_given_back() || self.due <= now()) {
            self.cursor = Some(self.expired());
        }
        while let Some(Cursor { stream, after, own }) = self.cursor {
            let idle = if own { Duration::ZERO } else { self.lease };
            let page = group.pending(stream, Range { idle: (!own).then_some(idle), after, own }, most)?;
            let free: Vec<(EntryId, u64)> = {
                let in_flight = shared.in_flight();
                let is_free = |row: &&reply::Pending| !in_flight[stream].contains(&row.id);
                page.iter().filter(is_free).map(|row| (row.id, row.deliveries)).collect()
            };
            if !free.is_empty() {
                self.take_over(group, shared, stream, idle, &free, records)?;
            }
            // Not before that has succeeded.
            self.cursor = match page.last() {
                Some(last) if page.len() == most => Some(Cursor { stream, after: Some(last.id), own }),
                _ if stream + 1 < group.names.streams.len() => Some(Cursor { stream: stream + 1, after: None, own }),
                _ if own => Some(self.expired()),
                _ => {
                    self.due = now() + self.interval;
                    None
                }
            };
            if !records.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// The start of a search for expired leases.
    fn expired(&mut self) -> Cursor {
        self.begun = now();
        Cursor { stream: 0, after: None, own: false }
    }

    /// Takes over entries, which are in order and come with their delivery counts.
    fn take_over(
        &self,
        group: &mut Group,
        shared: &Shared,
        stream: usize,
        idle: Duration,
        entries: &[(EntryId, u64)],
        records: &mut Vec<Delivery<Record, Receipt>>,
    ) -> Result<(), Error> {
        let ids: Vec<EntryId> = entries.iter().map(|(id, _)| *id).collect();
        let mut missing = Vec::new();
        let mut entries = entries.iter();
        for value in group.claim(stream, idle, &ids)? {
            let entry = reply::entry(value).ok_or_else(|| group.unreadable(stream))?;
            // A server before 7.0 writes nil for an entry that is no longer in the stream.
            let Some((id, Some(fields))) = entry else { continue };
            let mut deliveries = 0;
            for (skipped, count) in entries.by_ref() {
                if *skipped == id {
                    deliveries = *count;
                    break;
                }
                missing.push(*skipped);
            }
            shared.in_flight()[stream].insert(id);
            let record = Record { stream: Arc::clone(group.key(stream)), id, fields };
            let attempt = u32::try_from(deliveries).unwrap_or(u32::MAX).saturating_add(1);
            records.push(Delivery::new(record, Receipt { stream, id }).with_attempt(attempt));
        }
        missing.extend(entries.map(|(id, _)| *id));
        // Another consumer has taken them over or acknowledged them, or they no longer exist.
        if missing.is_empty() { Ok(()) } else { self.forget(group, shared, stream, &missing) }
    }

    /// Acknowledges those that are no longer in the stream, and logs it.
    fn forget(&self, group: &mut Group, shared: &Shared, stream: usize, ids: &[EntryId]) -> Result<(), Error> {
        let gone = group.missing(stream, ids)?;
        let Some(first) = gone.first() else { return Ok(()) };
        // A server before 7.0 would offer them again and again.
        group.acknowledge(stream, &gone)?;
        if !self.delete {
            shared.count_lost(gone.len());
            let (place, count) = (group.place(stream), gone.len());
            log::error!(
                "streamz-redis: {place}: {count} records were deleted before they had been acknowledged, first {first}"
            );
        }
        Ok(())
    }
}
