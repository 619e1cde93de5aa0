//! [`Identity`]: which stages a row of a report stands for, so that rows of two reports of a pipeline can be compared.
//!
//! A name does not identify a row: a row may change its name, and its old name may be given to a later stage, see
//! `summary.rs`.
//!
//! # Invariants
//!
//! - *Each stage has a number that no other stage of the pipeline has or had.* A row has the number of one of its stages.
//! - *What makes a stage like others is fixed when it is first seen after it has begun*, by a report or a summing up. While it is
//!   being built, it gets inputs and outputs; those that come while it runs do not matter.
//! - *A row that stands for several stages is found by what they have in common*, see [`find`]. A stage that has ended is added to
//!   the row that is found; if there is none, it becomes a row itself. So at any time, the row that is found for a stage without a
//!   row of its own is the one that includes it, and an earlier row is part of exactly one later row.
//! - *The identity is part of the report*, also when that is serialized: nothing but the two reports is needed to subtract them.
//! - *Its size is bounded*, however many stages a row stands for.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::common::Common;
use super::report::{Report, StageReport};
use super::stats::StageStats;

/// What the stages of a row have in common. All have the same kind, steps and outputs, and inputs that are alike in the same
/// way.
///
/// In the order in which a row is looked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub(super) enum Likeness {
    /// They were given the same name.
    #[default]
    Name,
    /// They were given any names.
    Form,
    /// Their names differ in nothing but numbers.
    Pattern,
}

/// For each [`Likeness`], a number that is the same for stages that are alike.
pub(super) type Alike = [u64; 3];

/// Unknown, and therefore zero, in a report that was written by version 0.1.
#[derive(Debug, Clone, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Identity {
    /// The number of the stage that gives the row its name.
    pub(super) stage: u64,
    /// The name that the stages were given, or its common part.
    pub(super) names: Common,
    pub(super) likeness: Likeness,
    pub(super) alike: Alike,
}

impl Identity {
    /// That of a stage. `alike` returns that of an input.
    pub(super) fn new(stage: u64, stats: &StageStats, alike: impl Fn(&str) -> Option<Alike>) -> Self {
        let name = &stats.given_name;
        let pattern = without_numbers(name);
        // The only step of a stage has its name.
        let steps: Vec<_> = stats.steps.iter().map(|step| &step.name).filter(|_| stats.steps.len() > 1).collect();
        let mut outputs: Vec<_> = stats.outputs.lock().iter().map(|output| Arc::clone(&output.name)).collect();
        // Groups and subscribers come and go.
        outputs.dedup();
        let inputs = stats.inputs.lock();
        let number = |likeness, name: Option<&str>| {
            let input = |stage: &str| alike(stage).map(|alike| alike[likeness as usize]);
            let mut inputs: Vec<_> = inputs.iter().map(|one| (input(&one.stage), &one.output)).collect();
            inputs.dedup();
            let mut hasher = DefaultHasher::new();
            (name, stats.kind, &steps, &outputs, inputs).hash(&mut hasher);
            // Readers of JSON may not know larger integers.
            hasher.finish() >> 11
        };
        let of_form = number(Likeness::Form, None);
        let alike = [number(Likeness::Name, Some(name)), of_form, number(Likeness::Pattern, Some(&pattern))];
        Self { stage, names: Common::Name(Arc::clone(name)), likeness: Likeness::Name, alike }
    }

    /// The number that stages have that are alike in this way.
    pub(super) fn number(&self, likeness: Likeness) -> u64 {
        self.alike[likeness as usize]
    }

    /// Whether a row takes in a stage, or another row.
    fn takes_in(&self, other: &Self) -> bool {
        self.number(self.likeness) == other.number(self.likeness) && self.names.fit(&other.names)
    }
}

/// Finds the row that takes in a stage or a row: one of its name; or one of all names; or one of names like its own.
///
/// The order matters. Rows of one name are folded last, so one that exists has all stages that it takes in. When rows become one
/// of all names, no other is left that stands for different names. Those that come later consist of names that do not fit it, and
/// it gets further names only from rows that it takes in as a whole.
pub(super) fn find<'a>(rows: impl Iterator<Item = &'a StageReport>, wanted: &Identity) -> Option<usize> {
    let rows = rows.map(|row| &row.identity).enumerate().filter(|(_, row)| row.takes_in(wanted));
    rows.min_by_key(|(_, row)| row.likeness).map(|(index, _)| index)
}

/// The name without words that contain a digit.
fn without_numbers(name: &str) -> String {
    let words = name.split_inclusive(|letter: char| !letter.is_alphanumeric());
    let plain = words.map(|word| match word.contains(|letter: char| letter.is_ascii_digit()) {
        true => word.trim_start_matches(char::is_alphanumeric),
        false => word,
    });
    plain.collect()
}

impl StageReport {
    /// The number of the stage that gives the row its name. No row of another stage of the pipeline ever has it. Zero if the
    /// report was written by a version without numbers.
    pub(crate) fn number(&self) -> u64 {
        self.identity.stage
    }
}

impl Report {
    /// For each row, what an earlier report has of it: the sum of all earlier rows that are part of it. `None` if all of its
    /// stages were built later.
    pub(crate) fn rows_before<'a>(&self, earlier: &'a Self) -> Vec<Option<Cow<'a, StageReport>>> {
        let index_of: HashMap<_, _> = self.stages.iter().zip(0..).map(|(row, index)| (row.number(), index)).collect();
        let (indices, merged): (Vec<usize>, Vec<_>) =
            self.stages.iter().enumerate().filter(|(_, row)| row.merged > 0).unzip();
        let mut before: Vec<Option<Cow<'a, StageReport>>> = vec![None; self.stages.len()];
        for row in &earlier.stages {
            let found = || find(merged.iter().copied(), &row.identity).map(|index| indices[index]);
            let index = match row.number() {
                0 => self.stages.iter().position(|later| later.name == row.name),
                number => index_of.get(&number).copied().or_else(found),
            };
            match index.map(|index| &mut before[index]) {
                Some(Some(sum)) => sum.to_mut().add(row),
                Some(none) => *none = Some(Cow::Borrowed(row)),
                None => {}
            }
        }
        before
    }
}

/// Fabricated rows.
#[cfg(all(test, feature = "live"))]
impl Report {
    /// Gives each row the number of its position.
    pub(crate) fn numbered(mut self) -> Self {
        self.stages.iter_mut().zip(1..).for_each(|(row, number)| row.identity.stage = number);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_only_in_numbers_are_recognized() {
        for (one, other, same) in [
            ("import-17", "import-18", true),
            ("job 3f2a-11 parse", "job 9c1-77 parse", true),
            ("import-17", "export-17", false),
            ("parse", "filter", false),
        ] {
            assert_eq!(without_numbers(one) == without_numbers(other), same, "{one} and {other}");
        }
    }
}
