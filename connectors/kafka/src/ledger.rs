//! [`Ledger`]: the partitions of this consumer, and the records delivered from them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use rdkafka::{Offset, TopicPartitionList};
use streamz::delivery::Delivery;

use crate::bound::End;
use crate::clock;
use crate::error::Error;
use crate::progress::{Progress, Read};
use crate::record::Receipt;

/// Shared by the thread that fetches, the one that acknowledges, and the callbacks of the client.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    slots: Mutex<Slots>,
    /// A record was settled or given back, or the consumer is closing.
    changed: Condvar,
    /// The consumer is closing. Separate from `changed`, so that the threads that wait for it are not woken by settled
    /// records.
    closed: Condvar,
    /// Changes with `Slots::generation`, for readers without the lock.
    generation: AtomicU32,
    /// Waits end at once.
    closing: AtomicBool,
}

#[derive(Debug, Default)]
struct Slots {
    all: Vec<Slot>,
    generation: u32,
    /// The ends of a bounded inbox.
    ends: Option<Vec<End>>,
    /// A commit on a thread of this crate has failed permanently.
    failed: Option<Error>,
}

/// A partition. It stays in the list when it is revoked, so that receipts can refer to its place there.
#[derive(Debug)]
struct Slot {
    topic: Arc<str>,
    partition: i32,
    is_assigned: bool,
    /// Nothing is delivered from here on.
    end: i64,
    /// Changes when it is revoked.
    generation: u32,
    /// The progress in this generation; `None` before the first record.
    progress: Option<Progress>,
    /// The committed offset, or the one where it began.
    committed: Option<i64>,
    /// Records were given back, and must be read again.
    wants_replay: bool,
}

/// The identity of a record's partition in receipts.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) topic: Arc<str>,
    /// The client's handle of the topic.
    pub(crate) address: usize,
    pub(crate) partition: i32,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// A partition that may still bring records before its end.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) end: End,
    /// Records were given back and have not been redelivered yet.
    pub(crate) is_replaying: bool,
}

/// The state of a partition.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) in_flight: u64,
}

impl Slots {
    fn position(&self, topic: &str, partition: i32) -> Option<usize> {
        self.all.iter().position(|slot| slot.partition == partition && *slot.topic == *topic)
    }

    fn find(&mut self, topic: &str, partition: i32) -> usize {
        self.position(topic, partition).unwrap_or_else(|| {
            let (end, generation) = (self.end(topic, partition), self.generation);
            let (topic, progress, committed) = (topic.into(), None, None);
            let (is_assigned, wants_replay) = (false, false);
            self.all.push(Slot { topic, partition, is_assigned, end, generation, progress, committed, wants_replay });
            self.all.len() - 1
        })
    }

    /// A bounded inbox does not read a partition that was added later.
    fn end(&self, topic: &str, partition: i32) -> i64 {
        let Some(ends) = &self.ends else { return i64::MAX };
        ends.iter().find(|end| end.partition == partition && *end.topic == *topic).map_or(0, |end| end.offset)
    }

    fn of_list(&mut self, partitions: &TopicPartitionList) -> Vec<usize> {
        partitions.elements().iter().map(|it| self.find(it.topic(), it.partition())).collect()
    }

    fn of_receipt(&mut self, receipt: &Receipt) -> Option<&mut Progress> {
        let slot = &mut self.all[receipt.slot as usize];
        if slot.generation == receipt.generation { slot.progress.as_mut() } else { None }
    }
}

impl Slot {
    fn in_flight(&self) -> u64 {
        self.progress.as_ref().map_or(0, Progress::in_flight)
    }

    /// The offset to be committed, if it is not yet.
    fn due(&self) -> Option<i64> {
        let prefix = self.progress.as_ref()?.prefix();
        (self.committed != Some(prefix)).then_some(prefix)
    }

    fn restart(&mut self, generation: u32) {
        self.generation = generation;
        (self.progress, self.committed, self.wants_replay) = (None, None, false);
    }
}

impl Ledger {
    /// Changes with every rebalance.
    pub(crate) fn generation(&self) -> u32 {
        // Acquire: a thread that sees a generation also sees the change it stands for; pairs with the store in `assign`
        // and `retire`.
        self.generation.load(Ordering::Acquire)
    }

    /// Delivers nothing beyond these ends. Called before the first assignment.
    pub(crate) fn bound(&self, ends: Vec<End>) {
        self.slots.lock().ends = Some(ends);
    }

    /// The partitions of which a bounded inbox may still deliver records: those of this consumer. While it has none,
    /// because it has just joined, is in a rebalance, or there are more consumers than partitions, these are all
    /// partitions, so that it can take over from others. `None` if it is not bounded.
    pub(crate) fn open(&self) -> Option<Vec<Open>> {
        let slots = self.slots.lock();
        let ends = slots.ends.as_ref()?;
        let mut assigned = slots.all.iter().filter(|slot| slot.is_assigned).peekable();
        if assigned.peek().is_none() {
            let open = ends.iter().filter(|end| end.offset > 0);
            return Some(open.map(|end| Open { end: end.clone(), is_replaying: false }).collect());
        }
        let open = assigned.filter(|slot| slot.end > 0).map(|slot| {
            let end = End { topic: Arc::clone(&slot.topic), partition: slot.partition, offset: slot.end };
            let is_replaying = slot.wants_replay || slot.progress.as_ref().is_some_and(Progress::is_replaying);
            Open { end, is_replaying }
        });
        Some(open.collect())
    }

    /// The identity of a partition in receipts.
    pub(crate) fn known(&self, topic: &str, address: usize, partition: i32) -> Known {
        let mut slots = self.slots.lock();
        let index = slots.find(topic, partition);
        let slot = &slots.all[index];
        let (topic, generation) = (Arc::clone(&slot.topic), slot.generation);
        Known { topic, address, partition, slot: u32::try_from(index).expect("few partitions"), generation }
    }

    /// Called with the records read, those from `start` on: keeps those to be delivered, and counts them.
    pub(crate) fn give_out<T>(&self, read: &mut Vec<Delivery<T, Receipt>>, start: usize) {
        let slots = &mut *self.slots.lock();
        let mut resets: Vec<(u32, u32, u32)> = Vec::new();
        let mut kept = start;
        for index in start..read.len() {
            let Delivery { receipt, attempt, .. } = &mut read[index];
            if let Some((_, _, new)) = resets.iter().find(|it| (it.0, it.1) == (receipt.slot, receipt.generation)) {
                receipt.generation = *new;
            }
            let slot = &mut slots.all[receipt.slot as usize];
            if slot.generation != receipt.generation {
                continue;
            }
            let offset = receipt.offset;
            if offset >= slot.end {
                continue;
            }
            let progress = slot.progress.get_or_insert_with(|| {
                // The offset where it begins need not be committed.
                slot.committed = Some(offset);
                Progress::starting_at(offset)
            });
            match progress.read(offset) {
                Read::Skip => continue,
                Read::GiveOut(times) => receipt.attempt = times,
                Read::Reset => {
                    log::warn!("`{}` partition {} continues at offset {offset}, before", slot.topic, slot.partition);
                    slots.generation += 1;
                    slot.restart(slots.generation);
                    self.generation.store(slots.generation, Ordering::Release);
                    // Records read after it belong to the new generation.
                    resets.push((receipt.slot, receipt.generation, slot.generation));
                    let mut progress = Progress::starting_at(offset);
                    progress.read(offset);
                    slot.progress = Some(progress);
                    receipt.generation = slot.generation;
                    receipt.attempt = 1;
                }
            }
            // A record that was put back has a count of its own.
            *attempt = receipt.attempt.max(*attempt);
            if kept < index {
                read.swap(kept, index);
            }
            kept += 1;
        }
        read.truncate(kept);
    }

    /// Records have been processed. Those of an older generation are ignored: their partition belongs to another
    /// consumer.
    pub(crate) fn settle(&self, receipts: &mut Vec<Receipt>) {
        let mut slots = self.slots.lock();
        for receipt in receipts.drain(..) {
            if let Some(progress) = slots.of_receipt(&receipt) {
                progress.settle(receipt.offset);
            }
        }
        drop(slots);
        self.changed.notify_all();
    }

    /// Records have not been processed.
    pub(crate) fn give_back(&self, receipts: Vec<Receipt>) {
        let mut slots = self.slots.lock();
        for receipt in receipts {
            if let Some(progress) = slots.of_receipt(&receipt) {
                progress.give_back(receipt.offset, receipt.attempt);
                slots.all[receipt.slot as usize].wants_replay = true;
            }
        }
        drop(slots);
        self.changed.notify_all();
    }

    /// The partitions to be read again, each with its first offset.
    pub(crate) fn replays(&self) -> Vec<(Arc<str>, i32, i64)> {
        let mut slots = self.slots.lock();
        let wanting = slots.all.iter_mut().filter(|slot| slot.wants_replay && slot.is_assigned);
        wanting
            .filter_map(|slot| {
                slot.wants_replay = false;
                Some((Arc::clone(&slot.topic), slot.partition, slot.progress.as_mut()?.replay()?))
            })
            .collect()
    }

    /// Seeking back has failed, and is retried.
    pub(crate) fn want_replay(&self, topic: &str, partition: i32) {
        let mut slots = self.slots.lock();
        if let Some(index) = slots.position(topic, partition) {
            slots.all[index].wants_replay = true;
        }
    }

    /// Adds partitions that were assigned to this consumer.
    pub(crate) fn assign(&self, partitions: &TopicPartitionList) {
        let slots = &mut *self.slots.lock();
        for index in slots.of_list(partitions) {
            slots.generation += 1;
            slots.all[index].is_assigned = true;
            slots.all[index].restart(slots.generation);
        }
        self.generation.store(slots.generation, Ordering::Release);
    }

    /// Retires partitions that were revoked.
    pub(crate) fn retire(&self, partitions: &TopicPartitionList) {
        let slots = &mut *self.slots.lock();
        for index in slots.of_list(partitions) {
            slots.generation += 1;
            slots.all[index].is_assigned = false;
            slots.all[index].restart(slots.generation);
        }
        self.generation.store(slots.generation, Ordering::Release);
    }

    /// Waits until none of the partitions has records in flight, and returns how many there still are.
    pub(crate) fn wait_until_settled(&self, partitions: &TopicPartitionList, deadline: Instant) -> u64 {
        let mut slots = self.slots.lock();
        let indices = slots.of_list(partitions);
        loop {
            let open = indices.iter().map(|index| slots.all[*index].in_flight()).sum();
            // Acquire pairs with the store in `close`.
            if open == 0 || self.closing.load(Ordering::Acquire) || deadline <= clock::now() {
                return open;
            }
            self.changed.wait_until(&mut slots, deadline);
        }
    }

    /// Waits until the consumer is closed, and returns whether it is.
    pub(crate) fn wait_until_closing(&self, deadline: Instant) -> bool {
        let mut slots = self.slots.lock();
        while !self.is_closing() && clock::now() < deadline {
            self.closed.wait_until(&mut slots, deadline);
        }
        self.is_closing()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Ends all waits.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        // A waiting thread has either seen the flag or is parked, so no wake-up is lost.
        drop(self.slots.lock());
        self.changed.notify_all();
        self.closed.notify_all();
    }

    /// The offsets to be committed, of the given partitions or of all.
    pub(crate) fn due(&self, of: Option<&TopicPartitionList>) -> TopicPartitionList {
        let mut slots = self.slots.lock();
        let indices = match of {
            Some(list) => slots.of_list(list),
            None => (0..slots.all.len()).collect(),
        };
        let mut list = TopicPartitionList::new();
        for index in indices {
            let slot = &slots.all[index];
            if let (true, Some(prefix)) = (slot.is_assigned, slot.due()) {
                let added = list.add_partition_offset(&slot.topic, slot.partition, Offset::Offset(prefix));
                added.expect("an offset of the broker");
            }
        }
        list
    }

    /// A commit has succeeded.
    pub(crate) fn committed(&self, list: &TopicPartitionList) {
        let mut slots = self.slots.lock();
        for element in list.elements() {
            if let (Some(index), Offset::Offset(offset)) =
                (slots.position(element.topic(), element.partition()), element.offset())
            {
                slots.all[index].committed = Some(offset);
            }
        }
    }

    /// A commit on a thread of this crate has failed permanently: the acker must learn of it.
    pub(crate) fn fail(&self, error: Error) {
        self.slots.lock().failed = Some(error);
    }

    /// The error of such a commit.
    pub(crate) fn take_failure(&self) -> Option<Error> {
        self.slots.lock().failed.take()
    }

    /// The partitions that this consumer has.
    pub(crate) fn standings(&self) -> Vec<Standing> {
        let slots = self.slots.lock();
        let assigned = slots.all.iter().filter(|slot| slot.is_assigned);
        assigned
            .map(|slot| Standing {
                topic: Arc::clone(&slot.topic),
                partition: slot.partition,
                in_flight: slot.in_flight(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(partitions: i32) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition("orders", partition);
        }
        list
    }

    fn assigned(partitions: i32) -> Ledger {
        let ledger = Ledger::default();
        ledger.assign(&list(partitions));
        ledger
    }

    /// Reads and delivers records of a partition.
    fn read(ledger: &Ledger, partition: i32, offsets: impl IntoIterator<Item = i64>) -> Vec<Receipt> {
        let Known { slot, generation, .. } = ledger.known("orders", 0, partition);
        let receipts = offsets.into_iter().map(|offset| Receipt { slot, generation, offset, attempt: 1 });
        let mut read = receipts.map(|receipt| Delivery::new((), receipt)).collect();
        ledger.give_out(&mut read, 0);
        read.into_iter().map(|delivery| delivery.receipt).collect()
    }

    fn due(ledger: &Ledger) -> Vec<(i32, i64)> {
        let due = ledger.due(None);
        due.elements().iter().map(|it| (it.partition(), it.offset().to_raw().unwrap())).collect()
    }

    #[test]
    fn an_offset_is_due_until_it_is_committed() {
        let ledger = assigned(2);
        let mut receipts = read(&ledger, 0, 5..10);
        read(&ledger, 1, 0..10);
        assert_eq!(due(&ledger), []);
        receipts.truncate(3);
        ledger.settle(&mut receipts);
        assert_eq!((due(&ledger), due(&ledger)), (vec![(0, 8)], vec![(0, 8)]));
        ledger.committed(&ledger.due(None));
        assert_eq!(due(&ledger), []);
    }

    #[test]
    fn receipts_of_a_revoked_partition_are_ignored() {
        let ledger = assigned(2);
        let mut old = read(&ledger, 0, 0..10);
        let stays = read(&ledger, 1, 0..10);
        let mut gone = TopicPartitionList::new();
        gone.add_partition("orders", 0);
        ledger.retire(&gone);
        assert_eq!(ledger.standings().len(), 1);
        ledger.assign(&gone);
        let again = read(&ledger, 0, 0..5);
        assert_eq!(again.len(), 5);
        old.extend(&stays[..2]);
        ledger.settle(&mut old);
        ledger.give_back(again.clone());
        ledger.give_back(stays[2..].to_vec());
        assert_eq!(due(&ledger), [(1, 2)]);
    }

    #[test]
    fn records_read_before_a_rebalance_are_not_delivered_after_it() {
        let ledger = assigned(1);
        let Known { slot, generation, .. } = ledger.known("orders", 0, 0);
        ledger.retire(&list(1));
        ledger.assign(&list(1));
        let stale = (0..5).map(|offset| Delivery::new((), Receipt { slot, generation, offset, attempt: 1 }));
        // The previous content of the buffer stays.
        let mut read = vec![Delivery::new((), Receipt { slot, generation: generation + 2, offset: 9, attempt: 1 })];
        read.extend(stale);
        ledger.give_out(&mut read, 1);
        assert_eq!(read.iter().map(|it| it.receipt.offset).collect::<Vec<_>>(), [9]);
    }

    #[test]
    fn a_reset_in_the_middle_of_a_fetch_loses_nothing() {
        let ledger = assigned(1);
        let mut all = read(&ledger, 0, [100, 101, 0, 1, 2]);
        assert_eq!(all.iter().map(Receipt::offset).collect::<Vec<_>>(), [100, 101, 0, 1, 2]);
        // The earlier offsets belong to records that no longer exist.
        ledger.settle(&mut all.drain(..3).collect());
        assert_eq!(due(&ledger), [(0, 1)]);
        ledger.settle(&mut all);
        assert_eq!(due(&ledger), [(0, 3)]);
    }

    #[test]
    fn a_bounded_ledger_delivers_nothing_beyond_its_ends() {
        let ledger = Ledger::default();
        let end = |partition, offset| End { topic: "orders".into(), partition, offset };
        let open = |ledger: &Ledger| {
            let open = ledger.open()?;
            Some(open.iter().map(|it| (it.end.partition, it.end.offset, it.is_replaying)).collect::<Vec<_>>())
        };
        assert_eq!(open(&ledger), None);
        ledger.bound(vec![end(0, 3), end(1, 0), end(3, 7)]);
        assert_eq!(open(&ledger), Some(vec![(0, 3, false), (3, 7, false)]));
        ledger.assign(&list(3));
        assert_eq!(open(&ledger), Some(vec![(0, 3, false)]));
        let receipts = read(&ledger, 0, 0..5);
        assert_eq!(receipts.iter().map(Receipt::offset).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!((read(&ledger, 1, 0..5), read(&ledger, 2, 0..5)), (Vec::new(), Vec::new()));
        ledger.give_back(receipts);
        assert_eq!(open(&ledger), Some(vec![(0, 3, true)]));
        ledger.retire(&list(3));
        assert_eq!(open(&ledger), Some(vec![(0, 3, false), (3, 7, false)]));
    }

    #[test]
    fn a_wait_ends_when_all_is_settled_returned_or_closed() {
        let ledger = assigned(1);
        let mut receipts = read(&ledger, 0, 0..10);
        assert_eq!(ledger.wait_until_settled(&list(1), clock::now()), 10);
        ledger.give_back(receipts.split_off(7));
        ledger.settle(&mut receipts);
        let later = clock::now() + std::time::Duration::from_secs(60);
        assert_eq!(ledger.wait_until_settled(&list(1), later), 0);
        read(&ledger, 0, 10..12);
        ledger.close();
        assert_eq!(ledger.wait_until_settled(&list(1), later), 2);
    }
}
