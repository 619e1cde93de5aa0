//! Failures and panics on purpose, in the closures that operators are given.

use std::panic::panic_any;
use std::sync::Once;

/// What a closure does to an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    Fail,
    Panic,
}

/// Which items a closure fails or panics on. Depends on the item's value alone, so that a model can foretell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Faults {
    None,
    At { value: u64, fault: Fault },
    Random { salt: u64, fail_percent: u64, panic_percent: u64 },
}

/// The error that a closure returns on purpose.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("item {0} refused on purpose")]
pub struct Refused(pub u64);

/// The payload of a panic on purpose; [`silence`] keeps it off the screen.
struct OnPurpose;

impl Faults {
    pub fn of(self, value: u64) -> Fault {
        match self {
            Faults::None => Fault::None,
            Faults::At { value: at, fault } => {
                if value == at {
                    fault
                } else {
                    Fault::None
                }
            }
            Faults::Random { salt, fail_percent, panic_percent } => {
                let lot = fastrand::Rng::with_seed(salt ^ value.wrapping_mul(0x9E37_79B9_7F4A_7C15)).u64(0..100);
                if lot < fail_percent {
                    Fault::Fail
                } else if lot < fail_percent + panic_percent {
                    Fault::Panic
                } else {
                    Fault::None
                }
            }
        }
    }

    /// For a closure that can fail.
    pub fn check(self, value: u64) -> Result<(), Refused> {
        match self.of(value) {
            Fault::None => Ok(()),
            Fault::Fail => Err(Refused(value)),
            Fault::Panic => panic_on_purpose(),
        }
    }

    /// For a closure that cannot fail: a failure is none.
    pub fn panic_only(self, value: u64) {
        if self.of(value) == Fault::Panic {
            panic_on_purpose();
        }
    }
}

/// A panic that [`silence`] keeps off the screen.
pub fn panic_on_purpose() -> ! {
    panic_any(OnPurpose)
}

/// Keeps panics on purpose off the screen; others are shown as usual.
pub fn silence() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let show = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.payload().is::<OnPurpose>() {
                show(info);
            }
        }));
    });
}
