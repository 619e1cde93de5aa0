//! Rows of a report that stand for several stages: a stage that has ended is added to the row of an earlier one like it.
//!
//! # What must hold
//!
//! - *Nothing is counted twice or left out.* A row that is added to another is no longer listed itself.
//! - *The graph stays whole.* Whatever names a row that was added, as its input or as the reader of its output, names the row
//!   that it was added to.
//! - *Rows that are added are alike*: the same given name, kind, steps and outputs, and inputs that are alike. So two places of a
//!   job stay apart, even if their stages were given the same name.

use std::collections::HashMap;
use std::sync::Arc;

use super::latency::Latency;
use super::report::{OutputReport, Report, StageReport, StepReport};

/// Which rows were added to which.
#[derive(Default)]
pub(crate) struct Renamed(HashMap<Arc<str>, Arc<str>>);

impl Renamed {
    #[cfg(feature = "metrics")]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The row that counts for the one of that name, unless that is itself.
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<str>> {
        self.0.get(name)
    }

    pub(super) fn apply(&self, name: &mut Arc<str>) {
        if let Some(now) = self.get(name) {
            *name = Arc::clone(now);
        }
    }
}

/// Adds each row of `ended` to the row that it is like. One without such a row becomes a row itself.
pub(super) fn add(rows: &mut Vec<StageReport>, mut ended: Vec<StageReport>) -> Renamed {
    let mut renamed = Renamed::default();
    while !ended.is_empty() {
        // Upstream first: what a row is like depends on what its inputs are like.
        let is_pending = |name: &Arc<str>| ended.iter().any(|other| other.name == *name);
        let is_next = |row: &StageReport| !row.inputs.iter().any(|input| is_pending(&input.stage));
        let mut row = ended.remove(ended.iter().position(is_next).unwrap_or(0));
        row.inputs.iter_mut().for_each(|input| renamed.apply(&mut input.stage));
        match rows.iter_mut().find(|other| other.is_like(&row)) {
            Some(other) => {
                other.add(&row);
                renamed.0.insert(row.name, Arc::clone(&other.name));
            }
            None => rows.push(row),
        }
    }
    for row in rows {
        row.inputs.iter_mut().for_each(|input| renamed.apply(&mut input.stage));
        row.outputs.iter_mut().flat_map(|output| &mut output.reader).for_each(|reader| renamed.apply(reader));
    }
    renamed
}

impl Report {
    /// An earlier report with the rows that it would have by now: those that were added to others since are added here, too.
    pub(crate) fn catch_up(&self, earlier: &Self) -> (Self, Renamed) {
        let mut earlier = earlier.clone();
        let is_gone = |row: &mut StageReport| self.stage(&row.name).is_none();
        let gone: Vec<_> = earlier.stages.extract_if(.., is_gone).collect();
        let takes = |row: &mut StageReport| self.stage(&row.name).is_some_and(|now| now.merged > 0);
        let mut rows: Vec<_> = earlier.stages.extract_if(.., takes).collect();
        let renamed = add(&mut rows, gone);
        earlier.stages.append(&mut rows);
        (earlier, renamed)
    }
}

impl StageReport {
    /// Whether both are the same place of two jobs.
    fn is_like(&self, other: &Self) -> bool {
        let shape = |row: &Self| (row.kind, row.steps.len(), row.outputs.len());
        let has_one_step = self.steps.len() == 1;
        self.given_name == other.given_name
            && shape(self) == shape(other)
            && self.inputs == other.inputs
            && (has_one_step || self.steps.iter().zip(&other.steps).all(|(one, other)| one.name == other.name))
            && self.outputs.iter().zip(&other.outputs).all(|(one, other)| one.name == other.name)
    }

    fn add(&mut self, other: &Self) {
        self.merged += other.merged + 1;
        self.threads = self.threads.max(other.threads);
        self.idle += other.idle;
        self.asleep += other.asleep;
        self.busy += other.busy;
        self.blocked += other.blocked;
        self.latency = latency_of_both(self.latency.take(), other.latency.as_ref());
        self.age = latency_of_both(self.age.take(), other.age.as_ref());
        self.steps.iter_mut().zip(&other.steps).for_each(|(step, other)| step.add(other));
        self.outputs.iter_mut().zip(&other.outputs).for_each(|(output, other)| output.add(other));
    }
}

impl StepReport {
    fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.emitted += other.emitted;
        self.delivered += other.delivered;
        self.filtered += other.filtered;
        self.failed += other.failed;
        self.abandoned += other.abandoned;
        self.errors_in += other.errors_in;
        self.errors_out += other.errors_out;
        self.errors_absorbed += other.errors_absorbed;
        self.failed_calls += other.failed_calls;
        self.evicted_keys += other.evicted_keys;
        self.expired_keys += other.expired_keys;
        for &(reason, count) in &other.dropped {
            match self.dropped.iter_mut().find(|(before, _)| *before == reason) {
                Some((_, before)) => *before += count,
                None => self.dropped.push((reason, count)),
            }
        }
    }
}

impl OutputReport {
    fn add(&mut self, other: &Self) {
        self.queued += other.queued;
        self.undelivered += other.undelivered;
        self.blocked += other.blocked;
        if self.reader.is_none() {
            self.reader.clone_from(&other.reader);
        }
    }
}

fn latency_of_both(one: Option<Latency>, other: Option<&Latency>) -> Option<Latency> {
    let both = one.as_ref().zip(other).map(|(one, other)| one.plus(other));
    both.or(one).or_else(|| other.cloned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::stats::DropReason;

    /// Each count is another multiple of `n`.
    fn step(n: u64) -> StepReport {
        StepReport {
            name: "step".into(),
            received: n,
            emitted: 2 * n,
            delivered: 3 * n,
            filtered: 4 * n,
            failed: 5 * n,
            dropped: vec![(DropReason::Overflow, 6 * n)],
            abandoned: 7 * n,
            errors_in: 8 * n,
            errors_out: 9 * n,
            errors_absorbed: 10 * n,
            failed_calls: 11 * n,
            evicted_keys: 12 * n,
            expired_keys: 13 * n,
        }
    }

    #[test]
    fn every_count_of_a_step_is_added() {
        let mut sum = step(3);
        sum.add(&step(5));
        assert_eq!(format!("{sum:?}"), format!("{:?}", step(8)));
    }
}
