//! Ctrl-C, and the signals that act as it does.

use std::sync::Arc;

use parking_lot::Mutex;
use streamz::{BoxError, CancelToken, Result};

use crate::INTERRUPTED;
use crate::args::Args;
use crate::interruptible::Stop;
use crate::output::note;
use crate::progress::Progress;

/// Whether the user has interrupted the program. Clones share it.
///
/// The first Ctrl-C ends the reading, so that everything read is reported; if even that hangs (in a write to a pipe that is
/// not read, for example) the second ends the program at once.
#[derive(Clone, Default)]
pub(crate) struct Interrupt {
    pressed: Stop,
    /// What the first one ends, once it has begun.
    work: Arc<Mutex<Option<Work>>>,
}

struct Work {
    stop: Stop,
    token: CancelToken,
    progress: Progress,
}

impl Interrupt {
    /// From now on an interrupt does not kill the program.
    pub(crate) fn listen(args: &Args) -> Result<Self, BoxError> {
        let interrupt = Self::default();
        let (says_so, pressed) = (!args.follow && !args.quiet, interrupt.clone());
        ctrlc::set_handler(move || pressed.press(says_so))
            .map_err(|error| format!("cannot listen to Ctrl-C: {error}"))?;
        Ok(interrupt)
    }

    pub(crate) fn is_set(&self) -> bool {
        self.pressed.is_set()
    }

    /// Begins the work that an interrupt ends. If there has been one already, it ends at once.
    pub(crate) fn begin(&self, stop: &Stop, token: CancelToken, progress: &Progress) {
        let work = Work { stop: stop.clone(), token, progress: progress.clone() };
        *self.work.lock() = Some(work);
        // After it was put there: either this or the handler finds it.
        if self.is_set() {
            self.end();
        }
    }

    fn press(&self, says_so: bool) {
        if self.is_set() {
            std::process::exit(i32::from(INTERRUPTED));
        }
        self.pressed.set();
        if says_so {
            let say = || note("interrupted: this is what was read; Ctrl-C again ends at once");
            let progress = self.work.lock().as_ref().map(|work| work.progress.clone());
            progress.map_or_else(say, |progress| progress.suspend(say));
        }
        self.end();
    }

    fn end(&self) {
        if let Some(Work { stop, token, .. }) = &*self.work.lock() {
            stop.set();
            token.drain();
        }
    }
}
