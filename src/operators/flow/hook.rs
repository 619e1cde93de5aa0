//! [`DropHook`]: who is told of an item that is dropped.

use std::sync::Arc;

use crate::panic;
use crate::trace::event;

/// What a user has given to `on_drop`.
pub(super) type OnDrop<T> = Arc<dyn Fn(T) + Send + Sync>;

/// The hook of one run. What panics in it is logged, once, and does no harm.
pub(super) struct DropHook<T> {
    on_drop: Option<OnDrop<T>>,
    warned: bool,
}

impl<T> DropHook<T> {
    pub(super) fn new(on_drop: Option<&OnDrop<T>>) -> Self {
        Self { on_drop: on_drop.cloned(), warned: false }
    }

    /// Gives the item away, or drops it if nobody wants it.
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
