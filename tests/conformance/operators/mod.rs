//! The operators under test: a file for each kind.

mod batch;
mod custom;
mod delivery;
mod flow;
mod item;
mod pool;
mod resilience;
mod route;
mod window;

use std::sync::Arc;

use crate::Case;
use crate::common::item::Item;
use crate::common::seen::Seen;
use crate::promises;
use crate::subject::{Ends, Subject};

/// Collects what is registered.
#[derive(Default)]
pub struct Registry {
    cases: Vec<Case>,
    covered: Vec<&'static str>,
}

impl Registry {
    /// Puts the operator through the whole list.
    pub fn add<In: Send + 'static, Out: Send + 'static>(&mut self, subject: Subject<In, Out>) {
        self.covered.extend(subject.covers);
        self.cases.extend(promises::all(Arc::new(subject)));
    }
}

fn registry() -> Registry {
    let mut registry = Registry::default();
    batch::register(&mut registry);
    custom::register(&mut registry);
    delivery::register(&mut registry);
    flow::register(&mut registry);
    item::register(&mut registry);
    pool::register(&mut registry);
    resilience::register(&mut registry);
    route::register(&mut registry);
    window::register(&mut registry);
    registry
}

pub fn cases() -> Vec<Case> {
    registry().cases
}

/// The public names that are registered.
pub fn covered() -> Vec<&'static str> {
    registry().covered
}

/// The ends of an operator that takes items and makes items.
pub const ITEMS: Ends<Item, Item> = (|item| item, Seen::of::<Item>);
