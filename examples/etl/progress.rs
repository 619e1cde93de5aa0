//! The progress bar.

use std::io::{IsTerminal, stderr};
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};

use crate::counts::Counts;

/// A bar on standard error, if that is a terminal.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Of an input whose size is not known it shows only how much was read.
    pub(crate) fn new(wanted: bool, size: Option<u64>) -> Self {
        let template = match size {
            Some(_) => "{bar:30} {percent:>3} %  {msg}  {elapsed}",
            None => "{spinner} {bytes}  {msg}  {elapsed}",
        };
        let bar = (wanted && stderr().is_terminal()).then(|| {
            let bar = size.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar }
    }

    /// What brings the bar up to date.
    pub(crate) fn updater(&self, counts: &Arc<Counts>) -> impl FnMut() + Send + use<> {
        let (bar, counts) = (self.bar.clone(), Arc::clone(counts));
        move || {
            if let Some(bar) = &bar {
                let (loaded, failed) = (counts.loaded.get(), counts.failed.get());
                bar.set_position(counts.bytes.get());
                bar.set_message(format!("{loaded} rows loaded, {failed} failed"));
            }
        }
    }

    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
