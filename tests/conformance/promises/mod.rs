//! The promises: a file for each family.

mod cancel;
mod capacity;
mod consumer;
mod delivery;
mod drain;
mod drops;
mod ending;
mod errors;
mod faults;
mod names;
mod runs;

use std::sync::Arc;

use crate::Case;
use crate::rig::Time;
use crate::subject::Subject;

/// Every promise, for one operator.
pub fn all<In: Send + 'static, Out: Send + 'static>(subject: Arc<Subject<In, Out>>) -> Vec<Case> {
    let mut list = List { subject, cases: Vec::new() };
    ending::add(&mut list);
    errors::add(&mut list);
    faults::add(&mut list);
    consumer::add(&mut list);
    cancel::add(&mut list);
    drain::add(&mut list);
    drops::add(&mut list);
    capacity::add(&mut list);
    names::add(&mut list);
    runs::add(&mut list);
    delivery::add(&mut list);
    list.cases
}

struct List<In: Send + 'static, Out: Send + 'static> {
    subject: Arc<Subject<In, Out>>,
    cases: Vec<Case>,
}

impl<In: Send + 'static, Out: Send + 'static> List<In, Out> {
    fn add(&mut self, promise: &str, check: impl FnOnce(&Arc<Subject<In, Out>>) + Send + 'static) {
        let subject = Arc::clone(&self.subject);
        self.cases.push(Case::new(format!("{}: {promise}", subject.name), move || check(&subject)));
    }

    /// A promise that is kept on either clock: two cases.
    fn add_timed(&mut self, promise: &str, check: fn(&Arc<Subject<In, Out>>, Time)) {
        self.add(&format!("{promise} (system clock)"), move |subject| check(subject, Time::System));
        self.add(&format!("{promise} (manual clock)"), move |subject| check(subject, Time::Manual));
    }
}
