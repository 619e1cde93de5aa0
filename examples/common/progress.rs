//! The progress bar.

use std::io::{IsTerminal, stderr};
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on standard error, if that is a terminal. Clones share the bar.
#[derive(Clone)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// A bar for an input of `size` bytes. Without a size it shows only the number of bytes read.
    pub(crate) fn new(wanted: bool, size: Option<u64>) -> Self {
        let template = match size {
            Some(_) => "{bar:30} {percent:>3} %  {msg}  {bytes_per_sec}  {elapsed}, {eta} left",
            None => "{spinner} {bytes}  {msg}  {bytes_per_sec}  {elapsed}",
        };
        let bar = (wanted && stderr().is_terminal()).then(|| {
            let bar = size.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            bar.with_style(
                ProgressStyle::with_template(template)
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            )
        });
        Self { bar }
    }

    /// A closure that updates the bar, if there is one. `look` returns the number of bytes read, and a message.
    pub(crate) fn updater<T: Send + Sync + 'static>(
        &self,
        counts: &Arc<T>,
        look: impl Fn(&T) -> (u64, String) + Send + 'static,
    ) -> Option<impl FnMut() + Send + 'static> {
        let (bar, counts) = (self.bar.clone()?, Arc::clone(counts));
        Some(move || {
            let (bytes, message) = look(&counts);
            bar.set_position(bytes);
            bar.set_message(message);
        })
    }

    /// Runs `write`, which writes to the terminal, without disturbing the bar.
    pub(crate) fn suspend<R>(&self, write: impl FnOnce() -> R) -> R {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
