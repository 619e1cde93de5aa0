//! What was logged.

use std::sync::{Condvar, Mutex};

use log::{LevelFilter, Metadata, Record};

/// Keeps what is logged, with the thread that logs it.
struct Log;

static LINES: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());
static CHANGED: Condvar = Condvar::new();

impl log::Log for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        LINES.lock().unwrap().push((thread, record.args().to_string()));
        CHANGED.notify_all();
    }

    fn flush(&self) {}
}

/// To be called before what is to be logged.
pub(crate) fn keep() {
    // Another test may have done so.
    let _ = log::set_logger(&Log);
    log::set_max_level(LevelFilter::Warn);
}

/// What the threads of a pipeline have logged. Their names end with its name.
pub(crate) fn of_threads(pipeline: &str) -> Vec<String> {
    let lines = LINES.lock().unwrap();
    lines.iter().filter(|(thread, _)| thread.ends_with(pipeline)).map(|(_, line)| line.clone()).collect()
}

/// What has been logged with this text in it.
pub(crate) fn with(text: &str) -> Vec<String> {
    let lines = LINES.lock().unwrap();
    lines.iter().filter(|(_, line)| line.contains(text)).map(|(_, line)| line.clone()).collect()
}

/// Waits for a line with this text.
pub(crate) fn wait_for(text: &str) -> String {
    let mut lines = LINES.lock().unwrap();
    loop {
        if let Some((_, line)) = lines.iter().find(|(_, line)| line.contains(text)) {
            return line.clone();
        }
        lines = CHANGED.wait(lines).unwrap();
    }
}
