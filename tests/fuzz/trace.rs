//! Where the contents of a stream come from: the sources, and all that they went through.

use std::rc::Rc;

use streamz::Report;

use crate::common::seen::Seen;
use crate::expected::Model;
use crate::sources::Given;

/// The way of a stream from its sources.
pub(crate) enum Trace {
    Source(Given),
    /// Behind an operator, or behind one branch of it.
    Behind(Rc<Trace>, Model),
    /// All of these, in any order.
    Merged(Vec<Rc<Trace>>),
}

/// The results in the end.
pub(crate) struct Facts<'a> {
    pub(crate) report: &'a Report,
    /// The report cannot change any more.
    pub(crate) is_final: bool,
    /// The stream came to its end and was not cut.
    pub(crate) complete: bool,
    pub(crate) drained: bool,
}

impl Trace {
    /// What should come out, and whether that is all of it or something that it is a part of; nothing if it cannot be
    /// told.
    pub(crate) fn foretell(&self, facts: &Facts<'_>) -> Option<(Vec<Seen>, bool)> {
        match self {
            Trace::Source(Given::Unknown) => None,
            Trace::Source(Given::Listed(all)) => Some((all.clone(), facts.complete && !facts.drained)),
            Trace::Source(Given::Counted { stage }) => {
                let given = facts.report.stage(stage).map_or(0, |stage| stage.emitted());
                // A reader that is no thread of the pipeline may have taken one more since the report was made.
                let later = u64::from(!facts.is_final && !facts.complete);
                Some(((0..given + later).map(Seen::Value).collect(), facts.complete))
            }
            Trace::Behind(before, model) => {
                let (input, whole) = before.foretell(facts)?;
                Some((model(&input), whole))
            }
            Trace::Merged(parts) => parts.iter().try_fold((Vec::new(), true), |(mut all, all_whole), part| {
                let (mut input, whole) = part.foretell(facts)?;
                all.append(&mut input);
                Some((all, all_whole && whole))
            }),
        }
    }
}
