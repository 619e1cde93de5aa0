//! [`Progress`]: how far the records of a partition have been processed.

use std::collections::BTreeMap;

/// The delivered records of one partition, and which of them have been settled.
///
/// Kafka stores one number per partition: everything before it has been processed. Records are settled in any order, so
/// this type stores the records settled after the first gap as ranges. If they are settled in order, it is two numbers.
/// Offsets that do not exist (of a compacted topic, or the markers of transactions) count as settled.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Everything before it has been settled.
    prefix: i64,
    /// The offset after the last delivered one.
    end: i64,
    /// The ranges settled after the prefix: the first offset, and the one after the last. They are not adjacent.
    ahead: BTreeMap<i64, i64>,
    /// The number of offsets in them.
    ahead_len: i64,
    /// Records given back: the offset, and the number of deliveries.
    returned: BTreeMap<i64, u32>,
    /// The partition is read again from an earlier offset. Until `end`, only returned records are delivered.
    replaying: bool,
}

/// How to handle a record that was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// Deliver it, with this number of deliveries.
    GiveOut(u32),
    /// It was delivered before, and is being processed or has been.
    Skip,
    /// An unexpected offset: the topic was created again, or its offsets were reset.
    Reset,
}

impl Progress {
    pub(crate) fn starting_at(offset: i64) -> Self {
        let (ahead, returned) = (BTreeMap::new(), BTreeMap::new());
        Self { prefix: offset, end: offset, ahead, ahead_len: 0, returned, replaying: false }
    }

    /// Everything before it may be committed.
    pub(crate) fn prefix(&self) -> i64 {
        self.prefix
    }

    /// The number of records that have been delivered, and neither settled nor given back.
    pub(crate) fn in_flight(&self) -> u64 {
        let open = self.end - self.prefix - self.ahead_len;
        u64::try_from(open).unwrap_or(0).saturating_sub(self.returned.len() as u64)
    }

    /// Called for a record that was read from the partition.
    pub(crate) fn read(&mut self, offset: i64) -> Read {
        if offset >= self.end {
            let end = self.end;
            self.end = offset + 1;
            self.replaying = false;
            if offset > end {
                self.settle_range(end, offset);
            }
            return Read::GiveOut(1);
        }
        match self.returned.remove(&offset) {
            Some(attempts) => Read::GiveOut(attempts + 1),
            None if self.replaying => Read::Skip,
            None => Read::Reset,
        }
    }

    /// Settles a processed record. Settling it again has no effect.
    pub(crate) fn settle(&mut self, offset: i64) {
        if self.is_open(offset) {
            self.returned.remove(&offset);
            self.settle_range(offset, offset + 1);
        }
    }

    /// Returns a record that was not processed, to be redelivered.
    pub(crate) fn give_back(&mut self, offset: i64, attempts: u32) {
        if self.is_open(offset) {
            self.returned.insert(offset, attempts);
        }
    }

    /// The offset from which the partition must be read again, if records were given back.
    pub(crate) fn replay(&mut self) -> Option<i64> {
        let first = self.returned.first_key_value().map(|(offset, _)| *offset)?;
        self.replaying = true;
        Some(first)
    }

    /// Whether records were given back that have not been redelivered yet.
    pub(crate) fn is_replaying(&self) -> bool {
        !self.returned.is_empty()
    }

    fn is_open(&self, offset: i64) -> bool {
        let settled = |(_, end): (&i64, &i64)| offset < *end;
        (self.prefix..self.end).contains(&offset) && !self.ahead.range(..=offset).next_back().is_some_and(settled)
    }

    fn settle_range(&mut self, start: i64, end: i64) {
        if start == self.prefix {
            self.prefix = end;
        } else {
            self.ahead_len += end - start;
            match self.ahead.range_mut(..start).next_back() {
                Some((_, before)) if *before == start => *before = end,
                _ => drop(self.ahead.insert(start, end)),
            }
            if let Some(behind) = self.ahead.remove(&end) {
                let range = self.ahead.range_mut(..=start).next_back();
                *range.expect("the range that was just added").1 = behind;
            }
        }
        if let Some(first) = self.ahead.first_entry()
            && *first.key() == self.prefix
        {
            self.ahead_len -= first.get() - self.prefix;
            self.prefix = first.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn given_out(from: i64, to: i64) -> Progress {
        let mut progress = Progress::starting_at(from);
        for offset in from..to {
            assert_eq!(progress.read(offset), Read::GiveOut(1));
        }
        progress
    }

    #[test]
    fn the_prefix_stops_at_the_first_open_record() {
        let mut progress = given_out(10, 20);
        for offset in [11, 13, 12, 19] {
            progress.settle(offset);
        }
        assert_eq!((progress.prefix(), progress.in_flight(), progress.ahead.len()), (10, 6, 2));
        progress.settle(10);
        assert_eq!((progress.prefix(), progress.in_flight(), progress.ahead.len()), (14, 5, 1));
    }

    #[test]
    fn offsets_that_do_not_exist_count_as_settled() {
        let mut progress = given_out(0, 2);
        assert_eq!(progress.read(7), Read::GiveOut(1));
        assert_eq!(progress.in_flight(), 3);
        progress.settle(0);
        assert_eq!(progress.prefix(), 1);
        progress.settle(1);
        assert_eq!(progress.prefix(), 7);
        progress.settle(7);
        assert_eq!((progress.prefix(), progress.in_flight()), (8, 0));
    }

    #[test]
    fn only_returned_records_are_redelivered() {
        let mut progress = given_out(0, 10);
        (0..5).for_each(|offset| progress.settle(offset));
        progress.settle(8);
        progress.give_back(6, 1);
        progress.give_back(8, 1);
        assert_eq!(progress.in_flight(), 3);
        assert_eq!(progress.replay(), Some(6));
        let read: Vec<_> = (6..11).map(|offset| progress.read(offset)).collect();
        let expected = [Read::GiveOut(2), Read::Skip, Read::Skip, Read::Skip, Read::GiveOut(1)];
        assert_eq!(read, expected);
        assert_eq!((progress.prefix(), progress.in_flight()), (5, 5));
    }

    #[test]
    fn an_earlier_offset_out_of_turn_is_a_reset() {
        let mut progress = given_out(0, 10);
        assert_eq!(progress.read(0), Read::Reset);
    }

    /// Compared with a set of offsets.
    #[test]
    fn any_order_gives_the_prefix_of_a_plain_set() {
        let mut seed = 7_u64;
        for _ in 0..200 {
            let mut progress = given_out(0, 60);
            let mut settled = BTreeSet::new();
            for _ in 0..120 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let offset = i64::try_from(seed >> 33).unwrap() % 62;
                progress.settle(offset);
                if offset < 60 {
                    settled.insert(offset);
                }
                let prefix = (0..).find(|offset| !settled.contains(offset)).unwrap();
                assert_eq!(progress.prefix(), prefix);
                assert_eq!(progress.in_flight(), 60 - settled.len() as u64);
            }
        }
    }
}
