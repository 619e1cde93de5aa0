//! What should come out of a stream, as far as it can be foretold.

use crate::common::seen::Seen;

#[derive(Debug, Clone)]
pub(crate) struct Expected {
    /// The whole output, if the whole input goes through.
    pub(crate) all: Vec<Seen>,
    /// It comes in that order.
    pub(crate) ordered: bool,
    /// Chance has no part in it.
    pub(crate) known: bool,
    /// Some of it may be left out anywhere.
    pub(crate) drops: bool,
}

/// A plain sequential model of an operator: from the whole input to the whole output.
pub(crate) type Model = Box<dyn Fn(&[Seen]) -> Vec<Seen>>;

impl Expected {
    pub(crate) fn check_whole(&self, seen: &[Seen]) -> Result<(), String> {
        if !self.known {
            return Ok(());
        }
        if self.drops {
            return self.check_part(seen);
        }
        let equal = if self.ordered { seen == self.all } else { sorted(seen) == sorted(&self.all) };
        if equal { Ok(()) } else { Err(format!("came out: {seen:?}\nshould have: {:?}", self.all)) }
    }

    /// For a stream that was cut or dropped: nothing but what belongs there, in its place.
    pub(crate) fn check_part(&self, seen: &[Seen]) -> Result<(), String> {
        if !self.known {
            return Ok(());
        }
        let seen: Vec<Seen> = seen.iter().filter(|seen| !seen.is_cut()).cloned().collect();
        let fits = match (self.ordered, self.drops) {
            (true, false) => self.all.starts_with(&seen),
            (true, true) => is_part(&seen, &self.all),
            (false, _) => is_part(&sorted(&seen), &sorted(&self.all)),
        };
        if fits { Ok(()) } else { Err(format!("came out: {seen:?}\nis no part of: {:?}", self.all)) }
    }
}

fn sorted(seen: &[Seen]) -> Vec<Seen> {
    let mut seen = seen.to_vec();
    seen.sort();
    seen
}

/// Whether each of `part` is in `whole`, as often and in that order.
fn is_part(part: &[Seen], whole: &[Seen]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|one| whole.any(|other| other == one))
}
