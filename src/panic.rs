//! Catching panics of user code.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::PanicMessage;

/// What a panic left behind.
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

/// Calls `f`; if it panics, says what the panic said.
///
/// Unwind safety is asserted: what `f` may have left half done is either dropped by the caller or is user state that
/// is documented to be seen again after a panic, as with `Mutex::clear_poison`.
#[inline]
pub(crate) fn catch<R>(f: impl FnOnce() -> R) -> Result<R, PanicPayload> {
    catch_unwind(AssertUnwindSafe(f)).map_err(describe)
}

#[cold]
pub(crate) fn describe(payload: Box<dyn Any + Send>) -> PanicPayload {
    let message = if let Some(text) = payload.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "panicked with a payload that is not text".to_owned()
    };
    // The payload is a user value, and its drop may panic in turn: one level of that is caught, more is their affair.
    let _ = catch_unwind(AssertUnwindSafe(move || drop(payload)));
    PanicPayload { message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_message_of_every_sort_of_payload() {
        let said = |f: fn()| catch(f).err().unwrap().message().to_owned();
        assert_eq!(said(|| panic!("plain")), "plain");
        assert_eq!(said(|| panic!("{} formatted", 1)), "1 formatted");
        assert!(said(|| std::panic::panic_any(7)).contains("not text"));
    }

    #[test]
    fn a_payload_that_panics_when_dropped_does_no_harm() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("boom");
            }
        }
        assert!(catch(|| std::panic::panic_any(Bomb)).is_err());
    }
}
