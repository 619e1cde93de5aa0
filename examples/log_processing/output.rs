//! Standard output and standard error.

use std::io::{self, ErrorKind, IsTerminal, Write, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use streamz::{BoxError, Result};

use crate::input::Reading;

/// Where results are written. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Output {
    closed: Arc<AtomicBool>,
}

impl Output {
    /// Writes a line, or several. That nobody reads them is no failure, and is remembered.
    pub(crate) fn say(&self, text: &str) -> Result<(), BoxError> {
        if self.is_closed() {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed.store(true, Ordering::Relaxed);
                Ok(())
            }
            written => written.map_err(|error| format!("cannot write to standard output: {error}").into()),
        }
    }

    /// Whether nobody reads any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

/// Says something on standard error. If that fails there is nobody left to tell.
pub(crate) fn note(text: &str) {
    let _ = writeln!(stderr().lock(), "log_processing: {text}");
}

pub(crate) fn complain(error: &str) {
    note(&format!("error: {error}"));
}

/// A bar on standard error, if that is a terminal. Clones are the same bar.
#[derive(Clone)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Of an input whose size is not known it shows only how much was read.
    pub(crate) fn new(wanted: bool, size: Option<u64>) -> Self {
        let template = match size {
            Some(_) => "{bar:30} {percent:>3} %  {msg}  {bytes_per_sec}  {elapsed}",
            None => "{spinner} {bytes}  {msg}  {elapsed}",
        };
        let bar = (wanted && stderr().is_terminal()).then(|| {
            let bar = size.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar }
    }

    /// What brings the bar up to date, if there is one.
    pub(crate) fn updater(&self, reading: &Arc<Reading>) -> Option<impl FnMut() + Send + use<>> {
        let (bar, reading) = (self.bar.clone()?, Arc::clone(reading));
        Some(move || {
            bar.set_position(reading.bytes());
            bar.set_message(format!("{} lines", reading.lines()));
        })
    }

    /// Does something that writes to the terminal without spoiling the bar.
    pub(crate) fn suspend<R>(&self, work: impl FnOnce() -> R) -> R {
        match &self.bar {
            Some(bar) => bar.suspend(work),
            None => work(),
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
