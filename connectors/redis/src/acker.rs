//! [`RedisAcker`]: acknowledges records, extends leases, gives records back.

use std::sync::Arc;
use std::time::Duration;

use redis::cmd;
use streamz::delivery::{Acker, StoreError};

use crate::error::Error;
use crate::group::{Group, Range};
use crate::id::EntryId;
use crate::record::Receipt;
use crate::shared::Shared;

/// The maximum number of entries in one command.
const CHUNK: usize = 1000;

/// Reports the outcome of records to Redis, for a [`RedisInbox`](crate::RedisInbox), on a connection of its own.
///
/// - [`acknowledge`](Acker::acknowledge) sends XACK, in one exchange for all records. A record that has already been
///   acknowledged, or that another consumer has taken over, is acknowledged all the same.
/// - [`keep_alive`](Acker::keep_alive) renews the leases of records in flight that are older than an eighth of a lease.
///   Leases that another consumer has taken over stay there.
/// - [`give_back`](Acker::give_back) lets the leases of records expire at once. The next fetch of this inbox finds
///   them; that of another inbox does so after its [`claim_interval`](crate::RedisInboxBuilder::claim_interval) at the
///   latest.
#[derive(Debug)]
pub struct RedisAcker {
    group: Group,
    shared: Arc<Shared>,
    lease: Duration,
    delete: bool,
}

impl RedisAcker {
    pub(crate) fn new(group: Group, shared: Arc<Shared>, lease: Duration, delete: bool) -> Result<Self, Error> {
        let mut acker = Self { group, shared, lease, delete };
        let connected = acker.group.link.connect();
        connected.map_err(|failure| acker.group.error_of_all("connect", failure))?;
        Ok(acker)
    }

    /// Returns the entries among `ids`, which are in order, that this consumer still holds.
    fn still_own(&mut self, stream: usize, ids: &[EntryId]) -> Result<Vec<EntryId>, Error> {
        let mut own = Vec::new();
        let mut after = ids.first().map(|first| first.before());
        let last = ids.last().copied().unwrap_or_default();
        loop {
            let rows = self.group.pending(stream, Range { idle: None, after, own: true }, CHUNK)?;
            own.extend(rows.iter().map(|row| row.id).filter(|id| ids.binary_search(id).is_ok()));
            match rows.last() {
                Some(row) if rows.len() == CHUNK && row.id < last => after = Some(row.id),
                _ => return Ok(own),
            }
        }
    }

    /// Lets the leases of records of one stream expire.
    fn expire(&mut self, receipts: &[Receipt]) -> Result<(), Error> {
        let ids: Vec<EntryId> = receipts.iter().map(|receipt| receipt.id).collect();
        let stream = receipts[0].stream;
        let own = self.still_own(stream, &ids)?;
        own.chunks(CHUNK).try_for_each(|ids| self.group.touch(stream, Duration::ZERO, ids, self.lease))
    }

    fn renew(&mut self, stream: usize) -> Result<(), Error> {
        // Younger ones can wait for the next time, and most records never get this old.
        let idle = self.lease / 8;
        let mut after = None;
        loop {
            let rows = self.group.pending(stream, Range { idle: Some(idle), after, own: true }, CHUNK)?;
            after = rows.last().map(|row| row.id);
            let ids: Vec<EntryId> = {
                let in_flight = self.shared.in_flight();
                rows.iter().map(|row| row.id).filter(|id| in_flight[stream].contains(id)).collect()
            };
            if !ids.is_empty() {
                self.group.touch(stream, idle, &ids, Duration::ZERO)?;
            }
            if rows.len() < CHUNK {
                return Ok(());
            }
        }
    }
}

impl Acker for RedisAcker {
    type Receipt = Receipt;

    fn acknowledge(&mut self, receipts: &mut Vec<Receipt>) -> Result<(), StoreError> {
        if receipts.is_empty() {
            return Ok(());
        }
        // One stream after the other: an inbox usually has only one.
        if receipts.iter().any(|receipt| receipt.stream != receipts[0].stream) {
            receipts.sort_by_key(|receipt| receipt.stream);
        }
        let mut packed = Vec::new();
        let mut calls = 0;
        for chunk in receipts.chunk_by(|a, b| a.stream == b.stream).flat_map(|of_stream| of_stream.chunks(CHUNK)) {
            let key = &**self.group.key(chunk[0].stream);
            let ids = || chunk.iter().map(|receipt| receipt.id);
            let mut acknowledge = cmd("XACK");
            acknowledge.arg(key).arg(&*self.group.names.group);
            ids().for_each(|id| _ = acknowledge.arg(id));
            acknowledge.write_packed_command(&mut packed);
            calls += 1;
            if self.delete {
                // After the acknowledgement: an entry that is deleted while it is pending counts as lost.
                let mut delete = cmd("XDEL");
                delete.arg(key);
                ids().for_each(|id| _ = delete.arg(id));
                delete.write_packed_command(&mut packed);
                calls += 1;
            }
        }
        // Records acknowledged by a failed exchange are acknowledged again, which does no harm.
        let outcome = self.group.link.exchange(&packed, calls, Duration::ZERO, |_, _| {});
        outcome.map_err(|failure| self.group.error_of_all("acknowledge records", failure).at(receipts[0].id))?;
        self.shared.settle(receipts);
        receipts.clear();
        Ok(())
    }

    fn give_back(&mut self, mut receipts: Vec<Receipt>) -> Result<(), StoreError> {
        receipts.sort_unstable_by_key(|receipt| (receipt.stream, receipt.id));
        let outcome = receipts.chunk_by(|a, b| a.stream == b.stream).try_for_each(|of_stream| self.expire(of_stream));
        // Only then: the inbox passes over records in flight here, and so does not take them over too early.
        self.shared.settle(&receipts);
        self.shared.give_back();
        Ok(outcome?)
    }

    fn keep_alive(&mut self) -> Result<(), StoreError> {
        for stream in 0..self.group.names.streams.len() {
            match self.renew(stream) {
                // The inbox creates the group again; until then, there are no leases.
                Err(error) if error.is_code("NOGROUP") => {}
                outcome => outcome?,
            }
        }
        Ok(())
    }
}
