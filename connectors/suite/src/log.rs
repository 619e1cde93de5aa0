//! Captures log lines.

use std::sync::{Mutex, Once};

use log::{LevelFilter, Log, Metadata, Record};

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Lines;

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        LINES.lock().expect("the lines").push(format!("{} {}", record.level(), record.args()));
    }

    fn flush(&self) {}
}

/// Returns the lines that mention `word`, an address for example, each behind its level: from `info` on. Call it once
/// before the lines are logged.
pub fn logged(word: &str) -> Vec<String> {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        log::set_logger(&Lines).expect("the only logger");
        log::set_max_level(LevelFilter::Info);
    });
    LINES.lock().expect("the lines").iter().filter(|line| line.contains(word)).cloned().collect()
}
