//! Report rows that represent several stages: a stage that has ended is added to the row of an earlier one like it.
//!
//! # Invariants
//!
//! - *Nothing is counted twice or left out.* A row that is added to another is no longer listed itself.
//! - *The graph stays whole.* Whatever names a row that was added, as its input or as the reader of its output, names the row
//!   that it was added to.
//! - *A stage that has ended is added to the row that takes it in*: stages of the same given name, kind, steps and outputs, and inputs
//!   that are alike, have one row. So two places of a job stay apart, even if their stages were given the same name.
//! - *The number of rows is bounded*, also if every job names its stages in its own way: when there are too many, rows that differ in
//!   nothing but the name are [folded](fold). Such a row has what the names have in [common](super::common) in place of a name, and
//!   takes in what fits. Rows that stand for several stages of one name are the last to be folded.
//! - *Nothing is kept of a name that is gone*, so a later stage may have it again. That is why rows of two reports are not compared
//!   by name, see `identity.rs`.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::identity::{Likeness, find};
use super::latency::Latency;
use super::report::{OutputReport, StageReport, StepReport};

/// Which rows were added to which.
#[derive(Default)]
pub(super) struct Renamed(HashMap<Arc<str>, Arc<str>>);

impl Renamed {
    pub(super) fn apply(&self, name: &mut Arc<str>) {
        if let Some(now) = self.0.get(name) {
            *name = Arc::clone(now);
        }
    }

    /// Inputs of rows that were added up may have become the same.
    fn apply_to(&self, rows: &mut [StageReport]) {
        for row in rows {
            row.inputs.iter_mut().for_each(|input| self.apply(&mut input.stage));
            let mut seen = HashSet::new();
            row.inputs.retain(|input| seen.insert((Arc::clone(&input.stage), Arc::clone(&input.output))));
            row.outputs.iter_mut().flat_map(|output| &mut output.reader).for_each(|reader| self.apply(reader));
        }
    }

    /// The names of the removed rows.
    pub(super) fn gone(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.keys()
    }
}

/// What [`fold`] adds up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fold {
    pub(super) likeness: Likeness,
    /// Also rows that stand for several stages of one name.
    pub(super) all: bool,
}

impl Fold {
    fn applies_to(self, row: &StageReport) -> bool {
        match row.identity.likeness {
            Likeness::Name => self.all || row.merged == 0,
            Likeness::Pattern => true,
            Likeness::Form => self.likeness == Likeness::Form,
        }
    }
}

/// Adds each row of `ended` to the row that takes it in. If there is none, it becomes a row itself.
pub(super) fn add(rows: &mut Vec<StageReport>, ended: Vec<StageReport>) -> Renamed {
    let mut renamed = Renamed::default();
    for row in ended {
        match find(rows.iter(), &row.identity) {
            Some(index) => {
                rows[index].add(&row);
                renamed.0.insert(row.name, Arc::clone(&rows[index].name));
            }
            None => rows.push(row),
        }
    }
    renamed.apply_to(rows);
    renamed
}

/// Adds up rows that are alike. `unique` makes a name of its own of a name.
pub(super) fn fold(rows: &mut Vec<StageReport>, fold: Fold, mut unique: impl FnMut(&str) -> Arc<str>) -> Renamed {
    let mut renamed = Renamed::default();
    let mut index_of = HashMap::new();
    let mut widened = BTreeSet::new();
    let mut kept: Vec<StageReport> = Vec::new();
    for row in rows.drain(..) {
        if !fold.applies_to(&row) {
            kept.push(row);
            continue;
        }
        let index = *index_of.entry(row.identity.number(fold.likeness)).or_insert(kept.len());
        let Some(other) = kept.get_mut(index) else {
            kept.push(row);
            continue;
        };
        let names = other.identity.names.with(&row.identity.names);
        if names.name() != other.identity.names.name() {
            widened.insert(index);
        }
        other.identity.names = names;
        other.identity.likeness = fold.likeness;
        other.add(&row);
        renamed.0.insert(row.name, Arc::clone(&other.name));
    }
    let mut widened_to = Renamed::default();
    for index in widened {
        let row = &mut kept[index];
        let name = unique(&row.identity.names.name());
        widened_to.0.insert(row.set_name(Arc::clone(&name)), name);
    }
    renamed.0.values_mut().for_each(|name| widened_to.apply(name));
    renamed.0.extend(widened_to.0);
    renamed.apply_to(&mut kept);
    *rows = kept;
    renamed
}

impl StageReport {
    /// The only step of a stage has its name.
    fn set_name(&mut self, name: Arc<str>) -> Arc<str> {
        if let [step] = self.steps.as_mut_slice() {
            step.name = Arc::clone(&name);
        }
        std::mem::replace(&mut self.name, name)
    }

    /// Adds the counts of another row.
    pub(super) fn add(&mut self, other: &Self) {
        self.merged += other.merged + 1;
        self.threads = self.threads.max(other.threads);
        self.idle += other.idle;
        self.asleep += other.asleep;
        self.busy += other.busy;
        self.blocked += other.blocked;
        self.latency = latency_of_both(self.latency.take(), other.latency.as_ref());
        self.age = latency_of_both(self.age.take(), other.age.as_ref());
        self.steps.iter_mut().zip(&other.steps).for_each(|(step, other)| step.add(other));
        self.inputs.extend(other.inputs.iter().cloned());
        for output in &other.outputs {
            match self.outputs.iter_mut().find(|own| own.name == output.name) {
                Some(own) => own.add(output),
                None => self.outputs.push(output.clone()),
            }
        }
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

    /// Each count is a different multiple of `n`.
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
