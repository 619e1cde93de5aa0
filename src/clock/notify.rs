//! [`Notify`]: unblocks a thread, wherever it is blocked.

use std::sync::OnceLock;

use crossbeam_channel::Sender;
use crossbeam_utils::sync::Unparker;

/// Unblocks a thread, wherever it is blocked.
pub(crate) struct Notify {
    pub(super) unparker: Unparker,
    /// Created when the thread first waits for a foreign channel: that wait is a `Select`, which no unpark ends.
    pub(super) signal: OnceLock<Sender<()>>,
}

impl Notify {
    pub(crate) fn notify(&self) {
        self.unparker.unpark();
        if let Some(signal) = self.signal.get() {
            let _ = signal.try_send(()); // full: a signal is pending already
        }
    }
}
