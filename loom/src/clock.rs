//! The part of the clock that the edge needs: waking a thread.

pub(crate) mod wait {
    use loom::sync::Notify;

    /// A sticky token, as the real one: makes the thread's current or next park return.
    pub(crate) struct Wake(Notify);

    impl Wake {
        pub(crate) fn new() -> Self {
            Self(Notify::new())
        }

        pub(crate) fn post(&self) {
            self.0.notify();
        }

        /// Only the thread that the wake belongs to calls this.
        pub(crate) fn park(&self) {
            self.0.wait();
        }
    }
}
