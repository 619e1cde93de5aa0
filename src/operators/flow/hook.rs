//! [`DropHook`]: receives the items that are dropped.

use std::sync::Arc;

use crate::panic;
use crate::trace::event;

/// The closure that a user has passed to `on_drop`.
pub(super) type OnDrop<T> = Arc<dyn Fn(T) + Send + Sync>;

/// The hook of one run. A panic in it is logged, once, and has no other effect.
pub(super) struct DropHook<T> {
    on_drop: Option<OnDrop<T>>,
    warned: bool,
}

impl<T> DropHook<T> {
    pub(super) fn new(on_drop: Option<&OnDrop<T>>) -> Self {
        Self { on_drop: on_drop.cloned(), warned: false }
    }

    /// Passes the item to the hook, or drops it if there is none.
    pub(super) fn call(&mut self, item: T, stage: &str) {
        let given = panic::catch(|| match &self.on_drop {
            Some(on_drop) => on_drop(item),
            None => drop(item),
        });
        if let Err(payload) = given
            && !std::mem::replace(&mut self.warned, true)
        {
            event!(
                warn,
                { stage = %stage, panic = %payload.message() },
                "streamz: dropping an item in stage `{stage}` panicked: {}; further panics of this run are not logged",
                payload.message()
            );
        }
    }
}
