//! Catching panics of user code, in closures and in `Drop`.
//!
//! # Values whose drop panics
//!
//! A panic in the `Drop` of a user's value is reported by the panic hook and goes no further: it is not a bug of the
//! library and stops no stage. A second panic while the first unwinds aborts the process, and dropping a collection, or
//! a struct with two such fields, may cause exactly that. Hence the rules:
//!
//! - Several values are never dropped together: use [`discard`], or keep them in a [`Held`].
//! - A single one is dropped under [`guard_drop`], or kept in a [`Guarded`], unless a guard around the call turns its panic
//!   into an error item.

use std::any::Any;
use std::cell::RefCell;
use std::collections::vec_deque;
use std::ops::{Deref, DerefMut};
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::vec;

use crate::error::PanicMessage;

/// Adds the file and line of a panic to the message of its error item and of the log.
///
/// Rust tells the location of a panic only to the panic hook, which belongs to the application, so a library must not
/// replace it without being asked. This function installs a hook that notes the location and then calls the previous
/// hook. Call it once at the start of `main`, after installing a hook of your own; further calls do nothing. Without it
/// a message is only the text of the panic, and the location is only in the output of the hook.
///
/// The hook costs nothing until a thread panics. A panic that continues on another thread, as rayon's do, has no location.
///
/// # Panics
/// If the calling thread is panicking.
///
/// # Examples
/// ```
/// use streamz::{Pipeline, Stream};
///
/// streamz::locate_panics();
///
/// let pipeline = Pipeline::new("careful");
/// let quotients = Stream::from_iter(&pipeline, [4_u32, 0, 5]).map(|n| 20 / n);
/// let error = quotients.collect::<Vec<_>>().unwrap_err();
/// // Such as: stage `map` panicked: attempt to divide by zero (src/main.rs:7:71)
/// let text = format!("{error:#}");
/// assert!(text.contains("panicked: attempt to divide by zero ("), "{text}");
/// ```
pub fn locate_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if let (Some(text), Some(location)) = (text_of(info.payload()), info.location()) {
                let noted = Noted { text: text.to_owned(), location: location.to_string() };
                // The slot no longer exists while the thread-locals are dropped.
                _ = LAST.try_with(|last| last.replace(Some(noted)));
            }
            before(info);
        }));
    });
}

/// The last panic of a thread, if it has not been described yet.
struct Noted {
    /// Distinguishes it from another panic that reached the thread without its hook, by `resume_unwind`.
    text: String,
    location: String,
}

thread_local! {
    static LAST: RefCell<Option<Noted>> = const { RefCell::new(None) };
}

/// The payload of a caught panic.
pub(crate) struct PanicPayload {
    message: String,
}

impl PanicPayload {
    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

impl From<PanicPayload> for PanicMessage {
    fn from(payload: PanicPayload) -> Self {
        PanicMessage::new(payload.message)
    }
}

/// Calls `f`; if it panics, returns the payload.
///
/// Unwind safety is asserted: state that `f` may have left half done is either dropped by the caller or is user state
/// that is documented to be used again after a panic, as with `Mutex::clear_poison`.
#[inline]
pub(crate) fn catch<R>(f: impl FnOnce() -> R) -> Result<R, PanicPayload> {
    catch_unwind(AssertUnwindSafe(f)).map_err(describe)
}

/// Drops a user's value; catches a panic in its `Drop`.
#[inline]
pub(crate) fn guard_drop<T>(value: T) {
    let _ = try_drop(value);
}

/// As [`guard_drop`], for callers to whom a panic matters.
#[inline]
pub(crate) fn try_drop<T>(value: T) -> Result<(), PanicPayload> {
    // Most items have nothing to drop. For those, the branch is not even compiled.
    if const { std::mem::needs_drop::<T>() } {
        let mut value = Some(value);
        catch_any(&mut || drop(value.take()))
    } else {
        Ok(())
    }
}

/// As [`catch`], compiled once.
fn catch_any(f: &mut dyn FnMut()) -> Result<(), PanicPayload> {
    catch(f)
}

/// Drops `items` one by one: one whose `Drop` panics does not affect the others.
pub(crate) fn discard<C: IntoIterator>(items: C) {
    for item in items {
        guard_drop(item);
    }
}

/// Drops an iterator. The rest of an iterator over a vector or a deque is dropped item by item; of others only the
/// first panic is caught, because a second one in the same drop aborts the process.
pub(crate) fn discard_iterator<I: Iterator<Item: 'static> + 'static>(items: I) {
    let mut items = Some(items);
    let any: &mut dyn Any = &mut items;
    if let Some(Some(items)) = any.downcast_mut::<Option<vec::IntoIter<I::Item>>>().map(Option::take) {
        discard(items);
    } else if let Some(Some(items)) = any.downcast_mut::<Option<vec_deque::IntoIter<I::Item>>>().map(Option::take) {
        discard(items);
    }
    guard_drop(items);
}

/// A collection that drops its items one by one. An operator that holds items keeps them in this.
///
/// `Held<Option<T>>` guards a single value. The items of a map are pairs: if both halves are user values, drop them
/// separately.
#[derive(Debug, Default)]
pub(crate) struct Held<C: Default + IntoIterator>(C);

impl<C: Default + IntoIterator> Held<C> {
    /// Takes the collection itself, for a caller that drops its items one by one.
    pub(crate) fn take(&mut self) -> C {
        std::mem::take(&mut self.0)
    }
}

impl<T> Held<Vec<T>> {
    /// Keeps the first `len` items.
    pub(crate) fn truncate(&mut self, len: usize) {
        if self.0.len() > len {
            discard(self.0.drain(len..));
        }
    }
}

impl<C: Default + IntoIterator> From<C> for Held<C> {
    fn from(items: C) -> Self {
        Self(items)
    }
}

impl<C: Default + IntoIterator> Deref for Held<C> {
    type Target = C;

    #[inline]
    fn deref(&self) -> &C {
        &self.0
    }
}

impl<C: Default + IntoIterator> DerefMut for Held<C> {
    #[inline]
    fn deref_mut(&mut self) -> &mut C {
        &mut self.0
    }
}

impl<C: Default + IntoIterator> Drop for Held<C> {
    fn drop(&mut self) {
        discard(self.take());
    }
}

/// A value that is dropped under a guard, even while a panic unwinds.
pub(crate) struct Guarded<T> {
    /// `None` only while it is dropped.
    value: Option<T>,
    discard: fn(T),
}

impl<T> Guarded<T> {
    /// `discard` drops it: use [`guard_drop`], unless it has several parts whose drops may panic.
    pub(crate) fn new(value: T, discard: fn(T)) -> Self {
        Self { value: Some(value), discard }
    }
}

impl<T> Deref for Guarded<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match &self.value {
            Some(value) => value,
            None => unreachable!("it is there until it is dropped"),
        }
    }
}

impl<T> DerefMut for Guarded<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.value {
            Some(value) => value,
            None => unreachable!("it is there until it is dropped"),
        }
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            (self.discard)(value);
        }
    }
}

#[cold]
pub(crate) fn describe(payload: Box<dyn Any + Send>) -> PanicPayload {
    let noted = LAST.try_with(RefCell::take).ok().flatten();
    let message = match (text_of(&*payload), noted) {
        (Some(text), Some(noted)) if text == noted.text => format!("{text} ({})", noted.location),
        (Some(text), _) => text.to_owned(),
        (None, _) => "panicked with a payload that is not text".to_owned(),
    };
    // The payload is a user value, and its drop may panic in turn, with a payload whose drop may panic. There may be no end
    // to that, so the second one is never dropped.
    if let Err(second) = catch_unwind(AssertUnwindSafe(move || drop(payload))) {
        std::mem::forget(second);
    }
    PanicPayload { message }
}

/// The message of a payload, if it is text.
pub(crate) fn text_of(payload: &(dyn Any + Send)) -> Option<&str> {
    let text = payload.downcast_ref::<&'static str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn a_payload_may_panic_again_and_again_when_it_is_dropped() {
        struct Nested(u32);

        impl Drop for Nested {
            fn drop(&mut self) {
                panic::panic_any(Self(self.0 + 1));
            }
        }

        let caught = catch(|| panic::panic_any(Nested(0)));
        assert_eq!(caught.err().unwrap().message(), "panicked with a payload that is not text");
    }

    #[test]
    fn keeps_the_message_of_every_sort_of_payload() {
        let said = |f: fn()| catch(f).err().unwrap().message().to_owned();
        assert_eq!(said(|| panic!("plain")), "plain");
        assert_eq!(said(|| panic!("{} formatted", 1)), "1 formatted");
        assert!(said(|| std::panic::panic_any(7)).contains("not text"));
    }

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("boom");
        }
    }

    #[test]
    fn a_payload_may_panic_when_dropped() {
        assert!(catch(|| std::panic::panic_any(Bomb)).is_err());
    }

    #[test]
    fn values_whose_drops_panic_are_dropped_one_by_one() {
        guard_drop(Bomb);
        discard([Bomb, Bomb, Bomb]);
        drop(Held::from(vec![Bomb, Bomb]));
        drop(Held::from(Some(Bomb)));
        drop(Guarded::new(Bomb, guard_drop));
        discard_iterator(vec![Bomb, Bomb].into_iter());
        discard_iterator(VecDeque::from([Bomb, Bomb]).into_iter());
        discard_iterator(std::iter::repeat_with(|| Bomb));
        discard_iterator(std::iter::once(Bomb));
    }

    #[test]
    fn panicking_drops_during_another_panic_do_not_abort() {
        let said = catch(|| {
            let _held = Held::from(vec![Bomb, Bomb]);
            panic!("first");
        });
        assert_eq!(said.err().unwrap().message(), "first");
    }
}
