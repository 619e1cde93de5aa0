//! A closure panics or fails on an item: that item becomes an error item, in its place, and nothing else is touched.

use std::sync::Arc;

use streamz::{ErrorKind, PanicMessage};

use super::List;
use super::ending::as_input;
use crate::common::faults::{Fault, Faults};
use crate::rig::{Time, items, put_through};
use crate::subject::{Closure, Subject};

const COUNT: u64 = 31;

pub fn add<In: Send + 'static, Out: Send + 'static>(list: &mut List<In, Out>) {
    let closure = list.subject.closure;
    for (place, value) in [("first", 0), ("middle", COUNT / 2), ("last", COUNT - 1)] {
        if closure != Closure::None {
            add_fault(list, &format!("panic on the {place} item"), Faults::At { value, fault: Fault::Panic });
        }
        if closure == Closure::Fails {
            add_fault(list, &format!("failure on the {place} item"), Faults::At { value, fault: Fault::Fail });
        }
    }
    if closure != Closure::None {
        let often = Faults::Random { salt: 1, fail_percent: 30, panic_percent: 30 };
        add_fault(list, "panics and failures everywhere", often);
    }
}

fn add_fault<In: Send + 'static, Out: Send + 'static>(list: &mut List<In, Out>, promise: &str, faults: Faults) {
    for (clock, time) in [("system clock", Time::System), ("manual clock", Time::Manual)] {
        list.add(&format!("{promise} ({clock})"), move |subject| one_item_is_hit(subject, time, faults));
    }
}

fn one_item_is_hit<In, Out>(subject: &Arc<Subject<In, Out>>, time: Time, faults: Faults)
where
    In: Send + 'static,
    Out: Send + 'static,
{
    // A closure that cannot fail takes a failure for none.
    let faults = match (faults, subject.closure) {
        (Faults::Random { salt, panic_percent, .. }, Closure::Panics) => {
            Faults::Random { salt, fail_percent: 0, panic_percent }
        }
        (faults, _) => faults,
    };
    let (seen, _, errors) = put_through(subject, time, 16, faults, &items(COUNT));
    subject.compare(&as_input(&items(COUNT)), faults, seen);
    for error in errors {
        assert_ne!(error.stage(), "origin");
        let said = error.downcast_ref::<PanicMessage>().is_some();
        assert_eq!(said, error.kind() == ErrorKind::Panicked, "the reason of a panic is its message: {error:?}");
    }
}
