//! Report rows that represent several stages: a stage that has ended is added to the row of an earlier one like it.
//!
//! # Invariants
//!
//! - *Nothing is counted twice or left out.* A row that is added to another is no longer listed itself.
//! - *The graph stays whole.* Whatever names a row that was added, as its input or as the reader of its output, names the row
//!   that it was added to.
//! - *Rows that are added are alike*: the same given name, kind, steps and outputs, and inputs that are alike. So two places of a
//!   job stay apart, even if their stages were given the same name.
//! - *The number of rows is bounded*, also if every job names its stages in its own way: when there are too many, rows that differ in
//!   nothing but the name are [folded](fold). Such a row has what the names have in [common](Common) in place of a name, and takes
//!   what fits. Rows that stand for several stages of one name are the last to be folded.
//! - *Nothing is kept of a name that is gone*, so a later stage may have it again. It then has a row of its own, and an earlier
//!   report that still has the row of the first one is compared with that.

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

    /// The row that includes the row with this name, unless that is itself.
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<str>> {
        self.0.get(name)
    }

    pub(super) fn apply(&self, name: &mut Arc<str>) {
        if let Some(now) = self.get(name) {
            *name = Arc::clone(now);
        }
    }

    fn apply_to(&self, rows: &mut [StageReport]) {
        for row in rows {
            row.inputs.iter_mut().for_each(|input| self.apply(&mut input.stage));
            row.outputs.iter_mut().flat_map(|output| &mut output.reader).for_each(|reader| self.apply(reader));
        }
    }

    /// The names of the removed rows.
    pub(super) fn gone(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.keys()
    }
}

/// The common part of the names of several stages: their beginning, and their end.
#[derive(Debug, Clone)]
pub(super) struct Common {
    begin: Arc<str>,
    end: Arc<str>,
    /// The length of the shortest name, in bytes.
    shortest: usize,
}

impl Common {
    /// A single name is its own common part.
    fn of(row: &StageReport) -> Self {
        let name = || Arc::clone(&row.given_name);
        let alone = || Self { begin: name(), end: name(), shortest: row.given_name.len() };
        row.common.clone().unwrap_or_else(alone)
    }

    fn with(&self, other: &Self) -> Self {
        let shortest = self.shortest.min(other.shortest);
        let equal = |(one, other): &(char, char)| one == other;
        let bytes = |pairs: &mut dyn Iterator<Item = (char, char)>| pairs.map(|(one, _)| one.len_utf8()).sum::<usize>();
        let begin = bytes(&mut self.begin.chars().zip(other.begin.chars()).take_while(equal));
        let begin = whole_words(&self.begin[..begin], str::trim_end_matches, str::trim_end_matches);
        let end = bytes(&mut self.end.chars().rev().zip(other.end.chars().rev()).take_while(equal));
        let end = whole_words(&self.end[self.end.len() - end..], str::trim_start_matches, str::trim_start_matches);
        // In the shortest, they must not overlap.
        let fits = |cut: &usize| end.is_char_boundary(*cut) && end.len() - cut + begin.len() <= shortest;
        let cut = (0..=end.len()).find(fits).unwrap_or(end.len());
        Self { begin: begin.into(), end: end[cut..].into(), shortest }
    }

    fn fits(&self, name: &str) -> bool {
        name.len() >= self.begin.len() + self.end.len() && name.starts_with(&*self.begin) && name.ends_with(&*self.end)
    }

    fn fits_all_of(&self, other: &Self) -> bool {
        other.shortest >= self.begin.len() + self.end.len()
            && other.begin.starts_with(&*self.begin)
            && other.end.ends_with(&*self.end)
    }

    fn reads_as(&self, other: &Self) -> bool {
        (&self.begin, &self.end) == (&other.begin, &other.end)
    }

    fn name(&self) -> String {
        format!("{}*{}", self.begin, self.end)
    }
}

/// A common part of two names without the word or number that is cut at its end. From a part that is one word, only a
/// number is removed.
fn whole_words<'a>(
    part: &'a str,
    trim_word: impl Fn(&'a str, fn(char) -> bool) -> &'a str,
    trim_number: impl Fn(&'a str, fn(char) -> bool) -> &'a str,
) -> &'a str {
    match trim_word(part, char::is_alphanumeric) {
        "" => trim_number(part, |letter| letter.is_ascii_digit()),
        words => words,
    }
}

/// The name without words that contain a digit, and without the placeholder for such words.
fn without_numbers(name: &str) -> String {
    let words = name.split_inclusive(|letter: char| !letter.is_alphanumeric());
    let plain = words.map(|word| match word.contains(|letter: char| letter.is_ascii_digit()) {
        true => word.trim_start_matches(char::is_alphanumeric),
        false => word,
    });
    plain.collect::<String>().replace('*', "")
}

/// Takes the next row out of the list, upstream first: what a row resembles depends on its inputs.
fn next_upstream(rows: &mut Vec<StageReport>) -> StageReport {
    let is_pending = |name: &Arc<str>| rows.iter().any(|other| other.name == *name);
    let is_next = |row: &StageReport| !row.inputs.iter().any(|input| is_pending(&input.stage));
    rows.remove(rows.iter().position(is_next).unwrap_or(0))
}

/// Adds each row of `ended` to the row that it resembles. If there is none, it becomes a row itself; if one of `folded`
/// would have taken it in, under the name of that one.
pub(super) fn add(rows: &mut Vec<StageReport>, mut ended: Vec<StageReport>, folded: &[&StageReport]) -> Renamed {
    let mut renamed = Renamed::default();
    while !ended.is_empty() {
        let mut row = next_upstream(&mut ended);
        row.inputs.iter_mut().for_each(|input| renamed.apply(&mut input.stage));
        let like = rows.iter().position(|other| other.is_like(&row));
        match like.or_else(|| rows.iter().position(|other| other.takes_in(&row))) {
            Some(index) => {
                rows[index].add(&row);
                renamed.0.insert(row.name, Arc::clone(&rows[index].name));
            }
            None => {
                if let Some(other) = folded.iter().find(|other| other.takes_in(&row)) {
                    row.rename(other.common.clone());
                    renamed.0.insert(row.set_name(Arc::clone(&other.name)), Arc::clone(&other.name));
                }
                rows.push(row);
            }
        }
    }
    renamed.apply_to(rows);
    renamed
}

/// Which rows are added up although their names differ.
#[derive(Debug, Clone, Copy)]
pub(super) enum Similar {
    /// Rows of stages that were given their names once, if these differ in nothing but numbers.
    Numbered,
    /// Whatever their names are.
    Single,
    /// Also rows that stand for several stages of one name.
    All,
}

impl Similar {
    fn are(self, one: &StageReport, other: &StageReport) -> bool {
        let are_single = one.is_single() && other.is_single();
        match self {
            Similar::Numbered => are_single && differ_in_numbers(&one.given_name, &other.given_name),
            Similar::Single => are_single,
            Similar::All => true,
        }
    }
}

/// Adds up rows whose names are similar, and that differ in nothing else. `unique` makes a name of its own of a name.
pub(super) fn fold(rows: &mut Vec<StageReport>, similar: Similar, mut unique: impl FnMut(&str) -> Arc<str>) -> Renamed {
    let mut renamed = Renamed::default();
    let mut pending = std::mem::take(rows);
    let mut widened = Vec::new();
    while !pending.is_empty() {
        let mut row = next_upstream(&mut pending);
        row.inputs.iter_mut().for_each(|input| renamed.apply(&mut input.stage));
        let takes = |other: &StageReport| other.is_placed_as(&row) && similar.are(other, &row);
        match rows.iter().position(takes) {
            Some(index) => {
                let other = &mut rows[index];
                let common = Common::of(other).with(&Common::of(&row));
                if other.common.as_ref().is_none_or(|before| !before.reads_as(&common)) {
                    widened.push(index);
                }
                other.rename(Some(common));
                other.add(&row);
                renamed.0.insert(row.name, Arc::clone(&other.name));
            }
            None => rows.push(row),
        }
    }
    widened.sort_unstable();
    widened.dedup();
    // Not earlier: they are identified by their old names, and each of them may have been widened several times.
    for index in widened {
        let row = &mut rows[index];
        let name = unique(&row.given_name);
        let before = row.set_name(name);
        renamed.0.values_mut().filter(|name| **name == before).for_each(|name| *name = Arc::clone(&row.name));
        renamed.0.insert(before, Arc::clone(&row.name));
    }
    renamed.apply_to(rows);
    renamed
}

/// Whether two names differ in nothing but numbers.
fn differ_in_numbers(one: &str, other: &str) -> bool {
    without_numbers(one) == without_numbers(other)
}

impl Report {
    /// An earlier report with the rows that it would have now: those that were added to others since are added here,
    /// too.
    pub(crate) fn catch_up(&self, earlier: &Self) -> (Self, Renamed) {
        let mut earlier = earlier.clone();
        let is_gone = |row: &mut StageReport| self.stage(&row.name).is_none();
        let gone: Vec<_> = earlier.stages.extract_if(.., is_gone).collect();
        let takes = |row: &mut StageReport| self.stage(&row.name).is_some_and(|now| now.merged > 0);
        let mut rows: Vec<_> = earlier.stages.extract_if(.., takes).collect();
        let folded: Vec<_> = self.stages.iter().filter(|row| row.common.is_some()).collect();
        let renamed = add(&mut rows, gone, &folded);
        earlier.stages.append(&mut rows);
        (earlier, renamed)
    }
}

impl StageReport {
    /// Whether both are the same place of two jobs.
    fn is_like(&self, other: &Self) -> bool {
        self.given_name == other.given_name && self.is_placed_as(other)
    }

    /// The same, whatever their names are.
    fn is_placed_as(&self, other: &Self) -> bool {
        let shape = |row: &Self| (row.kind, row.steps.len(), row.outputs.len());
        let has_one_step = self.steps.len() == 1;
        shape(self) == shape(other)
            && self.inputs == other.inputs
            && (has_one_step || self.steps.iter().zip(&other.steps).all(|(one, other)| one.name == other.name))
            && self.outputs.iter().zip(&other.outputs).all(|(one, other)| one.name == other.name)
    }

    /// Whether it stands for different names, and takes that one in as well.
    fn takes_in(&self, other: &Self) -> bool {
        let fits = |common: &Common| match &other.common {
            Some(others) => common.fits_all_of(others),
            None => common.fits(&other.given_name),
        };
        self.common.as_ref().is_some_and(fits) && self.is_placed_as(other)
    }

    /// Whether it does not stand for several stages with one name.
    fn is_single(&self) -> bool {
        self.merged == 0 || self.common.is_some()
    }

    fn rename(&mut self, common: Option<Common>) {
        if let Some(common) = &common {
            self.given_name = common.name().into();
        }
        self.common = common;
    }

    /// The only step of a stage has its name.
    fn set_name(&mut self, name: Arc<str>) -> Arc<str> {
        if let [step] = self.steps.as_mut_slice() {
            step.name = Arc::clone(&name);
        }
        std::mem::replace(&mut self.name, name)
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

    fn common(names: &[&str]) -> String {
        let alone = |name: &&str| Common { begin: (*name).into(), end: (*name).into(), shortest: name.len() };
        let all = names.iter().map(alone).reduce(|one, other| one.with(&other)).unwrap();
        assert!(names.iter().all(|name| all.fits(name)), "{names:?}: {all:?}");
        all.name()
    }

    #[test]
    fn names_have_whole_words_in_common() {
        assert_eq!(common(&["import-17", "import-18", "import-9"]), "import-*");
        assert_eq!(common(&["read a1.csv", "read b1.csv"]), "read *.csv");
        assert_eq!(common(&["job-1-parse", "job-12-parse"]), "job-*-parse");
        assert_eq!(common(&["tenant7", "tenant71"]), "tenant*");
        assert_eq!(common(&["ann", "bob"]), "*");
        // They overlap in the shortest.
        assert_eq!(common(&["aa", "aaa"]), "aa*");
        assert_eq!(common(&["größe-ä", "größe-ö", "größe-"]), "größe-*");
        assert_eq!(common(&["", "x"]), "*");
    }

    #[test]
    fn names_that_differ_only_in_numbers_are_recognized() {
        for (one, other, same) in [
            ("import-17", "import-18", true),
            ("import-*.csv", "import-18.csv", true),
            ("job 3f2a-11 parse", "job 9c1-77 parse", true),
            ("import-17", "export-17", false),
            ("parse", "filter", false),
        ] {
            assert_eq!(differ_in_numbers(one, other), same, "{one} and {other}");
        }
    }

    #[test]
    fn every_count_of_a_step_is_added() {
        let mut sum = step(3);
        sum.add(&step(5));
        assert_eq!(format!("{sum:?}"), format!("{:?}", step(8)));
    }
}
