//! The progress bar.

use std::io::{IsTerminal, stderr};
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};

use crate::counts::Counts;
use crate::summary;

/// A bar on standard error, if that is a terminal. Clones are the same bar.
#[derive(Clone)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Of an input whose size is not known it shows only how much was read.
    pub(crate) fn new(wanted: bool, size: Option<u64>) -> Self {
        let template = match size {
            Some(_) => "{bar:30} {percent:>3} %  {msg}  {bytes_per_sec}  {elapsed}, {eta} left",
            None => "{spinner} {bytes}  {msg}  {bytes_per_sec}  {elapsed}",
        };
        let bar = (wanted && stderr().is_terminal()).then(|| {
            let bar = size.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar }
    }

    /// What brings the bar up to date, if there is one.
    pub(crate) fn updater(&self, counts: &Arc<Counts>) -> Option<impl FnMut() + Send + use<>> {
        let (bar, counts) = (self.bar.clone()?, Arc::clone(counts));
        Some(move || {
            let (loaded, failed) = (counts.loaded.get(), counts.failed.get());
            bar.set_position(counts.bytes.get());
            bar.set_message(format!("{loaded} rows loaded, {failed} failed"));
        })
    }

    /// Says something on standard error without spoiling the bar.
    pub(crate) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| summary::note(text)),
            None => summary::note(text),
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
